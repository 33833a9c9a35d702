//! Networks as the kernel sees them: drivers, addresses, ports, nftables, names, the net helper.

mod address;
mod bandwidth;
mod conntrack;
pub mod error;
mod firewall;
pub mod helper;
pub mod ipam;
mod link;
pub mod names;
mod neighbour;
mod netlink;
pub mod plane;
mod route;
mod sysctl;
pub mod types;

pub use error::{Error, Result};
