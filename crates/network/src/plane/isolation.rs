//! Endpoints of one bridge that may not talk to each other.
//!
//! Frames between ports of a bridge pass the IP firewall only with `br_netfilter`. With it the table decides,
//! and what is published passes; without it the ports are isolated from each other, and what is published
//! passes all the same, because it goes through the host. Isolated ports with `br_netfilter` would let nothing
//! pass: a translated frame stays within the bridge there.

use std::sync::atomic::Ordering;

use super::known::Known;
use super::network::has_family;
use super::{Plane, lock};
use crate::error::Result;
use crate::link::{self, PortOptions};
use crate::netlink::Batch;
use crate::sysctl;
use crate::types::Network;

/// Whether the ports of a network must be isolated, as the host is now.
fn wanted(network: &Network) -> bool {
    if network.bridge().is_none_or(|bridge| bridge.icc) {
        return false;
    }
    let passes = |v6, file| !has_family(network, v6) || sysctl::is_on(file);
    let table_decides =
        passes(false, "bridge/bridge-nf-call-iptables") && passes(true, "bridge/bridge-nf-call-ip6tables");
    !table_decides
}

impl Plane {
    /// How a port of the network is to be made. Where that changed since the last one, the others follow.
    pub(super) fn isolation(&self, known: &Known) -> Result<bool> {
        let isolated = wanted(&known.network);
        if known.isolated.load(Ordering::Relaxed) != isolated {
            self.isolate(known, isolated)?;
        }
        Ok(isolated)
    }

    fn isolate(&self, known: &Known, isolated: bool) -> Result<()> {
        let mut channel = lock(&self.route);
        let mut batch = Batch::new();
        for port in link::list(&mut channel)?.iter().filter(|link| link.master == Some(known.index)) {
            link::set_port(&mut batch, port.index, PortOptions { hairpin: None, isolated: Some(isolated) });
        }
        channel.run(batch)?;
        known.isolated.store(isolated, Ordering::Relaxed);
        Ok(())
    }
}
