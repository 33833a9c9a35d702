//! One subnet and who has which of its addresses.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::net::IpAddr;

use ipnet::IpNet;

use super::defaults::{address, number};
use crate::error::{Error, Result};

/// What a network wants of one subnet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Cut from the IPv6 pools instead of the IPv4 ones; a subnet says it by itself.
    pub v6: bool,
    /// `None`: the first free one of the default pools.
    pub subnet: Option<IpNet>,
    /// Addresses are given from here only, unless asked for by name.
    pub range: Option<IpNet>,
    /// The router's address; `None`: the first one that may be given.
    pub gateway: Option<IpAddr>,
    /// Whether there is a router at all.
    pub no_gateway: bool,
    /// Addresses of others: name and address.
    pub aux: Vec<(String, IpAddr)>,
}

/// One subnet and who has which of its addresses.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) subnet: IpNet,
    /// First and last address that may be given unasked.
    range: (u128, u128),
    used: HashSet<u128>,
    /// The lowest that was never given since the pool exists; beyond the range: all were.
    fresh: u128,
    /// Given back, the longest ago first. May hold some that were asked for by name since.
    returned: VecDeque<u128>,
    waiting: BTreeSet<u128>,
}

impl Pool {
    pub(super) fn new(subnet: IpNet, range: Option<IpNet>) -> Result<Self> {
        if let Some(range) = range
            && !subnet.contains(&range)
        {
            return Err(Error::Invalid(format!("no matching subnet for range {range}")));
        }
        let usable = usable(subnet);
        let wanted = range.map_or(usable, |range| (number(range.network()), number(range.broadcast())));
        let range = (wanted.0.max(usable.0), wanted.1.min(usable.1));
        Ok(Self {
            subnet,
            range,
            used: HashSet::new(),
            fresh: range.0,
            returned: VecDeque::new(),
            waiting: BTreeSet::new(),
        })
    }

    fn v6(&self) -> bool {
        matches!(self.subnet, IpNet::V6(_))
    }

    /// Takes an address: the wanted one, or the one that nobody had for the longest time.
    pub(super) fn take(&mut self, wanted: Option<IpAddr>) -> Result<Option<IpAddr>> {
        let Some(wanted) = wanted else { return Ok(self.next().map(|next| address(next, self.v6()))) };
        let (low, high) = usable(self.subnet);
        let value = number(wanted);
        if !self.subnet.contains(&wanted) {
            return Err(Error::AddressOutside(wanted));
        }
        if value < low || value > high || !self.used.insert(value) {
            return Err(Error::AddressTaken(wanted));
        }
        // It stays in the queue and is passed over there.
        self.waiting.remove(&value);
        Ok(Some(wanted))
    }

    fn next(&mut self) -> Option<u128> {
        while self.fresh >= self.range.0 && self.fresh <= self.range.1 {
            let candidate = self.fresh;
            self.fresh = self.fresh.checked_add(1)?;
            if !self.waiting.contains(&candidate) && self.used.insert(candidate) {
                return Some(candidate);
            }
        }
        while let Some(candidate) = self.returned.pop_front() {
            if self.waiting.remove(&candidate) && self.used.insert(candidate) {
                return Some(candidate);
            }
        }
        None
    }

    /// Gives an address back; one that nobody has is no error.
    pub(super) fn give_back(&mut self, address: IpAddr) {
        let value = number(address);
        let in_range = value >= self.range.0 && value <= self.range.1;
        if self.used.remove(&value) && in_range && self.waiting.insert(value) {
            self.returned.retain(|other| *other != value);
            self.returned.push_back(value);
        }
    }

    /// How many addresses are taken, and how many are left to be given unasked.
    pub(super) fn usage(&self) -> (u128, u128) {
        let size = self.range.1.saturating_sub(self.range.0).saturating_add(1);
        let inside = self.used.iter().filter(|value| (self.range.0..=self.range.1).contains(value)).count();
        let left = if self.range.0 > self.range.1 { 0 } else { size.saturating_sub(inside as u128) };
        (self.used.len() as u128, left)
    }
}

/// First and last address that an interface may have: without the network's own and, in IPv4, the broadcast
/// address; in IPv6 the first is every router's (RFC 4291, 2.6.1). Subnets of one or two addresses are used
/// in full (RFC 3021).
fn usable(subnet: IpNet) -> (u128, u128) {
    let (low, high) = (number(subnet.network()), number(subnet.broadcast()));
    match subnet {
        _ if high - low <= 1 => (low, high),
        IpNet::V4(_) => (low + 1, high - 1),
        IpNet::V6(_) => (low + 1, high),
    }
}
