//! Networks as the kernel sees them: drivers, addresses, ports, nftables, names, the net helper.

pub mod error;
pub mod helper;
pub mod ipam;
pub mod names;
pub mod plane;
pub mod types;

pub use error::{Error, Result};
