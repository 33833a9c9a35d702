//! The host's own firewall: whether it closes the host to the outside, and what its configuration opens.

mod firewalld;
mod ufw;

use std::path::Path;

use super::ruleset::{Chain, INPUT, closes, rules};
use crate::error::Result;
use crate::netlink::Channel;
use crate::types::Opening;

/// What the host's firewall lets in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct HostPolicy {
    /// The chain that closes IPv4, as users know it.
    pub(super) closed4: Option<String>,
    /// The chain that closes IPv6.
    pub(super) closed6: Option<String>,
    /// What ufw's or firewalld's configuration opens.
    pub(super) openings: Vec<Opening>,
}

/// Looks at all base chains at `input` but our own.
///
/// # Errors
/// What the kernel refused.
pub(super) fn look(channel: &mut Channel, chains: &[Chain], root: &Path) -> Result<HostPolicy> {
    let mut policy = HostPolicy::default();
    for chain in chains.iter().filter(|chain| chain.hook == Some(INPUT)) {
        if !closes(chain, &rules(channel, chain)?) {
            continue;
        }
        for (v6, closed) in [(false, &mut policy.closed4), (true, &mut policy.closed6)] {
            if chain.sees(v6) {
                closed.get_or_insert_with(|| chain.title());
            }
        }
    }
    if policy.closed4.is_some() || policy.closed6.is_some() {
        let closers = [&policy.closed4, &policy.closed6];
        let by_firewalld = closers.iter().any(|by| by.as_deref() == Some("inet firewalld filter_INPUT"));
        if chains.iter().any(|chain| chain.name == "ufw-before-input") {
            policy.openings.extend(ufw::openings(root));
        }
        if by_firewalld {
            policy.openings.extend(firewalld::openings(root));
        }
    }
    Ok(policy)
}
