//! Where files come from: images, the client's directories, repositories, addresses.

pub(super) mod definition;
mod git;
mod git_address;
mod http;
mod image;
mod local;
