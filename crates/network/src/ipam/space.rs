//! All subnets of one instance.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;

use super::defaults::{DefaultPool, address, number};
use super::pool::{Pool, Request};
use crate::error::{Error, Result};

/// All subnets of one instance and the addresses in them. Networks are known by opaque ids.
#[derive(Debug)]
pub struct Ipam {
    defaults: Vec<DefaultPool>,
    networks: HashMap<String, Vec<Pool>>,
}

/// What a subnet was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allocated {
    /// The subnet.
    pub subnet: IpNet,
    /// The router's address in it.
    pub gateway: Option<IpAddr>,
}

/// How full a subnet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// The subnet.
    pub subnet: IpNet,
    /// Addresses that are taken, the router's and auxiliary ones among them.
    pub in_use: u128,
    /// Addresses left to be given unasked.
    pub available: u128,
}

impl Ipam {
    /// Nothing is taken yet.
    #[must_use]
    pub fn new(defaults: Vec<DefaultPool>) -> Self {
        Self { defaults, networks: HashMap::new() }
    }

    /// Gives a network a subnet more. `host` are the subnets that the host has routes to; default pools keep
    /// clear of them, a subnet asked for by name need not (a route to a whole /8 is no reason to refuse a /24).
    ///
    /// # Errors
    /// [`Error::PoolOverlaps`], [`Error::PoolsExhausted`]; [`Error::Invalid`] for a range, gateway or
    /// auxiliary address outside; [`Error::AddressTaken`] for one that is not free.
    pub fn allocate(&mut self, network: &str, request: &Request, host: &[IpNet]) -> Result<Allocated> {
        let subnet = match request.subnet {
            Some(subnet) => self.wanted(subnet)?,
            None => self.cut(request.v6, host)?,
        };
        let mut pool = Pool::new(subnet, request.range)?;
        let outside =
            |what: &str, address| Error::Invalid(format!("no matching subnet for {what} {address}"));
        let gateway = match request.gateway {
            _ if request.no_gateway => None,
            Some(gateway) if !subnet.contains(&gateway) => return Err(outside("gateway", gateway)),
            wanted => pool.take(wanted).map_err(|error| taken("allocate gateway", wanted, error))?,
        };
        for (name, address) in &request.aux {
            if !subnet.contains(address) {
                return Err(outside("aux-address", *address));
            }
            pool.take(Some(*address)).map_err(|error| match error {
                Error::AddressTaken(_) => Error::Invalid(format!(
                    "failed to allocate secondary ip address ({name}:{address}): Address already in use"
                )),
                other => other,
            })?;
        }
        self.networks.entry(network.to_owned()).or_default().push(pool);
        Ok(Allocated { subnet, gateway })
    }

    /// Takes all subnets of a network back.
    pub fn release_network(&mut self, network: &str) {
        self.networks.remove(network);
    }

    /// Takes an address of one family in a network: the wanted one, or the one that nobody had for the
    /// longest time. It comes with its subnet's prefix length.
    ///
    /// # Errors
    /// [`Error::AddressTaken`], [`Error::AddressOutside`], [`Error::AddressesExhausted`].
    pub fn take(&mut self, network: &str, v6: bool, wanted: Option<IpAddr>) -> Result<IpNet> {
        let pools = self.networks.get_mut(network).map(Vec::as_mut_slice).unwrap_or_default();
        let fitting = pools.iter_mut().filter(|pool| matches!(pool.subnet, IpNet::V6(_)) == v6);
        for pool in fitting {
            if wanted.is_some_and(|wanted| !pool.subnet.contains(&wanted)) {
                continue;
            }
            if let Some(address) = pool.take(wanted)? {
                // The prefix length is that of a subnet of the same family.
                return IpNet::new(address, pool.subnet.prefix_len())
                    .map_err(|_| Error::AddressOutside(address));
            }
        }
        match wanted {
            Some(wanted) => Err(Error::AddressOutside(wanted)),
            None => Err(Error::AddressesExhausted { network: network.to_owned(), v6 }),
        }
    }

    /// Gives an address back; one that is not taken is no error.
    pub fn give_back(&mut self, network: &str, address: IpAddr) {
        let pools = self.networks.get_mut(network).map(Vec::as_mut_slice).unwrap_or_default();
        for pool in pools.iter_mut().filter(|pool| pool.subnet.contains(&address)) {
            pool.give_back(address);
        }
    }

    /// How full a network's subnets are.
    #[must_use]
    pub fn usage(&self, network: &str) -> Vec<Usage> {
        let pools = self.networks.get(network).map(Vec::as_slice).unwrap_or_default();
        pools
            .iter()
            .map(|pool| {
                let (in_use, available) = pool.usage();
                Usage { subnet: pool.subnet, in_use, available }
            })
            .collect()
    }

    fn wanted(&self, subnet: IpNet) -> Result<IpNet> {
        if subnet != subnet.trunc() {
            let should = subnet.trunc();
            return Err(Error::Invalid(format!("invalid subnet {subnet}: it should be {should}")));
        }
        match self.subnets().find(|existing| overlap(existing, &subnet)) {
            Some(existing) => Err(Error::PoolOverlaps { wanted: subnet, existing }),
            None => Ok(subnet),
        }
    }

    fn subnets(&self) -> impl Iterator<Item = IpNet> {
        self.networks.values().flatten().map(|pool| pool.subnet)
    }

    /// The first piece of the default pools that overlaps nothing. Jumps over what is taken, so that a pool of
    /// a million pieces costs no more than one of ten.
    fn cut(&self, v6: bool, host: &[IpNet]) -> Result<IpNet> {
        let same = |net: &IpNet| matches!(net, IpNet::V6(_)) == v6;
        let all = self.subnets().chain(host.iter().copied()).filter(same);
        // First address to last address; of several with the same first one the longest.
        let mut taken = BTreeMap::new();
        for net in all {
            // Default routes lead everywhere and say nothing.
            if net.prefix_len() > 0 {
                let last = taken.entry(number(net.network())).or_insert(0);
                *last = number(net.broadcast()).max(*last);
            }
        }
        for pool in self.defaults.iter().filter(|pool| same(&pool.base)) {
            if let Some(free) = first_free(pool, &taken, v6) {
                return Ok(free);
            }
        }
        Err(Error::PoolsExhausted)
    }
}

fn first_free(pool: &DefaultPool, taken: &BTreeMap<u128, u128>, v6: bool) -> Option<IpNet> {
    let bits = u32::from(pool.base.max_prefix_len() - pool.size);
    let step = 1_u128.checked_shl(bits)?;
    let base = number(pool.base.network());
    let mut index = 0;
    // Nested subnets make the last address not grow with the first; the furthest one so far counts.
    let mut blocks = taken.iter().peekable();
    let mut furthest: Option<u128> = None;
    while index < pool.count() {
        let start = base + index * step;
        let end = start + (step - 1);
        while let Some((_, last)) = blocks.next_if(|(first, _)| **first <= end) {
            furthest = Some(furthest.map_or(*last, |other| other.max(*last)));
        }
        match furthest {
            Some(last) if last >= start => index = (last - base) / step + 1,
            _ => return IpNet::new(address(start, v6), pool.size).ok(),
        }
    }
    None
}

fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(&other.network()) || other.contains(&one.network())
}

fn taken(what: &str, wanted: Option<IpAddr>, error: Error) -> Error {
    match (error, wanted) {
        (Error::AddressTaken(_), Some(address)) => {
            Error::Invalid(format!("failed to {what} ({address}): Address already in use"))
        }
        (other, _) => other,
    }
}
