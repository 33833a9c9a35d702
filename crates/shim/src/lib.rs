//! The wire protocol to a supervisor, and the daemon's handle on it.

pub mod log;
pub mod protocol;
