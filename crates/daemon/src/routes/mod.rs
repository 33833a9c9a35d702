//! Handlers, one file a noun: they take a request apart, call the engine and put its answer together.

pub(crate) mod absent;
pub(crate) mod adjust;
pub(crate) mod build;
pub(crate) mod container;
pub(crate) mod exec;
pub(crate) mod files;
pub(crate) mod image;
pub(crate) mod io;
pub(crate) mod network;
pub(crate) mod system;
pub(crate) mod volume;
