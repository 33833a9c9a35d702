//! What the black-box suites stand on: throw-away daemons, images made on the spot, a plain HTTP client,
//! and a census of what the kernel holds for an instance.

pub mod census;
pub mod client;
pub mod daemon;
pub mod disk;
pub mod http;
pub mod image;
pub mod plugin;
pub mod ports;
pub mod powercut;
pub mod registry;

pub use client::Run;
pub use daemon::Daemon;
pub use disk::SmallDisk;
pub use http::Reply;
