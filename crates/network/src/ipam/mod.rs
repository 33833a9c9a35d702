//! Addresses: which subnet a network gets, and which address an endpoint.
//!
//! Nothing here touches the kernel or the disk. What the engine keeps on disk (networks with their subnets,
//! endpoints with their addresses) is claimed again after a restart with the same calls.

mod defaults;
mod pool;
mod space;

pub use defaults::DefaultPool;
pub use pool::Request;
pub use space::{Allocated, Ipam, Usage};

#[cfg(test)]
mod tests;
