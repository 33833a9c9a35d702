//! The net helper: one small process per instance that holds what must outlive the daemon.
//!
//! It makes network namespaces, answers names inside them, holds published ports, carries what the kernel
//! cannot translate, and keeps the socket that owns the firewall's table. The daemon starts it and talks to
//! it through [`Helper`]; killed, it is started again and gets everything back.
//!
//! ```text
//! EXEC_ROOT/net/lock    held by the one helper of the instance
//!              /socket  where it listens
//!              /names/  the name table, see `names::record`
//! ```

use std::path::{Path, PathBuf};

mod client;
mod control;
mod error;
mod holder;
mod kept;
mod orphans;
mod ports;
mod process;
pub mod protocol;
mod redirect;
mod relay;
pub(crate) mod slots;
pub(crate) mod source;
pub(crate) mod space;

pub use client::{Helper, Namespace, Resolver};
pub use error::HelperError;
pub use process::{Options, main, run};
pub use protocol::{Holder, PortChoice, PortRequest, Protocol, Relay, Reservation, Stats, Taken};

/// Where the helper of the instance with this exec root listens.
fn socket_path(exec_root: &Path) -> PathBuf {
    exec_root.join("net").join("socket")
}
