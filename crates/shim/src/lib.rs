//! The wire protocol to a supervisor, and the daemon's handle on it.

pub mod handle;
pub mod log;
pub mod nursery;
pub mod protocol;
mod wire;

pub use handle::{Descriptors, Events, Handle, HandleError, Launched, Launching};
pub use wire::{WireError, receive, send};
