//! Sessions: clients that may be called back.

mod about;
mod asked;
mod content;
mod files;
mod registry;
pub(super) mod send;
mod ssh;
mod upload;

pub(super) use about::About;
pub(super) use asked::{Asked, OF_SESSION, UPLOAD};
pub(super) use registry::{Session, Sessions};
pub(super) use upload::{Given, HOST as UPLOAD_HOST};
