//! Names: the table that the daemon writes, and the resolver at 127.0.0.11 that reads it.

pub mod record;

pub use record::{Endpoint, Link, Names};
