//! The domain: containers, images, volumes, networks, exec, events, health.
//!
//! Separate managers behind one [`Engine`]; none of them knows of HTTP, argv or API versions.

pub mod body;
pub mod build;
pub mod config;
pub mod container;
pub mod error;
pub mod events;
pub mod exec;
pub mod health;
pub mod image;
pub mod names;
pub mod network;
mod open;
pub mod pools;
mod recover;
pub mod registry;
mod reserve;
mod state_log;
pub mod system;
pub mod userns;
pub mod volume;

pub use body::{BodyReader, BodyWriter, ByteSender, ByteStream, Progress};
pub use config::EngineConfig;
pub use error::{Error, ErrorKind, Result};
pub use open::Engine;
