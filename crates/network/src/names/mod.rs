//! Names: the table that the daemon writes, and the resolver at 127.0.0.11 that reads it.
//!
//! ```text
//! record ── directory ── table ─┐
//!                               ├─ answer ── resolver ── callers (TCP)
//! message ──────────────────────┘              └─ flight ── host (other name servers)
//! ```

mod answer;
mod callers;
mod directory;
mod flight;
mod host;
pub mod message;
pub mod record;
pub(crate) mod resolver;
mod table;

pub(crate) use flight::Ground;
pub use record::{Endpoint, Link, Names};
