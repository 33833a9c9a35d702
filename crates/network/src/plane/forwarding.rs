//! The host as a router.
//!
//! Containers reach the world only where the host forwards packets. Where that was off and is turned on here,
//! the host shall not become a router for anyone else: the table then drops what comes from and goes to
//! interfaces of others. That it was turned on here is noted until the machine starts again.

use std::fs;
use std::io::ErrorKind;

use wharf_sys::error::Context;

use super::Plane;
use crate::error::Result;
use crate::sysctl;

impl Plane {
    /// Turns forwarding on where it is off and may be: of IPv4 at once, of IPv6 when a network needs it (a host
    /// that forwards IPv6 takes no router's advertisements unless told to).
    pub(super) fn forward(&self, v6: bool) -> Result<()> {
        let note = self.settings.run_dir.join("forwarding");
        let mut noted = match fs::read_to_string(&note) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            Err(error) => {
                return Err(error).context(|| format!("read {}", note.display())).map_err(Into::into);
            }
        };
        let before = noted.len();
        if self.settings.ip_forward {
            if sysctl::turn_on("ipv4/ip_forward")? {
                noted.push('4');
            }
            if v6 && self.v6 && !sysctl::is_on("ipv6/conf/all/forwarding") {
                keep_advertisements();
                sysctl::turn_on("ipv6/conf/all/forwarding")?;
                noted.push('6');
            }
        }
        if noted.len() > before {
            fs::create_dir_all(&self.settings.run_dir)
                .and_then(|()| fs::write(&note, &noted))
                .context(|| format!("write {}", note.display()))?;
        }
        let guard = self.settings.forward_guard;
        self.firewall.set_guard(guard && noted.contains('4'), guard && noted.contains('6'))
    }
}

/// Interfaces that take routers' advertisements go on doing so when the host forwards (`accept_ra` 2): else
/// the host would lose its own default route.
fn keep_advertisements() {
    let interfaces = fs::read_dir("/proc/sys/net/ipv6/conf").into_iter().flatten().flatten();
    for interface in interfaces {
        let name = interface.file_name();
        let Some(name) = name.to_str().filter(|name| !["all", "default", "lo"].contains(name)) else {
            continue;
        };
        let path = format!("ipv6/conf/{name}/accept_ra");
        if sysctl::is_on(&path) {
            // An interface that went away in between needs no routes.
            let _ = sysctl::write(&path, "2");
        }
    }
}
