//! Documents of the Docker Engine API: names, presence rules and types as dockerd 28.5 writes them (API 1.51).
//!
//! One file per noun; every type is re-exported here. Documents are written with [`serde_json`] and read with
//! [`decode`], which follows the rules of Go's decoder: field names match in any case, `null` is the zero value,
//! unknown fields are ignored. Lists and maps that Docker may write as `null` are `Option`s; the others are never
//! `null` on the wire.
//!
//! invariant: this crate knows nothing of the engine.

mod auth;
pub mod client;
mod config;
mod container;
pub mod content;
mod decode;
mod events;
mod exec;
pub mod filters;
mod host;
mod image;
mod inspect;
mod message;
mod mount;
mod network;
pub mod rpc;
pub mod shape;
mod stats;
pub mod stdcopy;
mod system;
mod version;
mod volume;
mod wire;

pub use auth::*;
pub use config::*;
pub use container::*;
pub use decode::{DecodeError, from_slice, from_value};
pub use events::*;
pub use exec::*;
pub use filters::Filters;
pub use host::*;
pub use image::*;
pub use inspect::*;
pub use message::*;
pub use mount::*;
pub use network::*;
pub use stats::*;
pub use system::*;
pub use version::*;
pub use volume::*;
pub use wire::Empty;
