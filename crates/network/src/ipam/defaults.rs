//! The pools that networks without a subnet of their own are cut from.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A large subnet and the prefix length of the networks cut from it (`default-address-pools`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DefaultPool {
    /// The whole.
    pub base: IpNet,
    /// Prefix length of a network in it.
    pub size: u8,
}

impl DefaultPool {
    /// A pool.
    ///
    /// # Errors
    /// [`Error::Invalid`] where networks would be larger than the whole, or have no room for addresses.
    pub fn new(base: IpNet, size: u8) -> Result<Self> {
        let base = base.trunc();
        if size < base.prefix_len() {
            return Err(Error::Invalid(format!(
                "invalid pool size {size} for {base}: it is smaller than the prefix length of the pool"
            )));
        }
        if size >= base.max_prefix_len() {
            return Err(Error::Invalid(format!(
                "invalid pool size {size} for {base}: no room for addresses"
            )));
        }
        Ok(Self { base, size })
    }

    /// Docker's pools of IPv4, and one of IPv6: a unique local /48 (RFC 4193) that derives from `seed`, which
    /// should differ from host to host and stay the same on one.
    #[must_use]
    pub fn defaults(seed: &str) -> Vec<Self> {
        let v4 = |a, b, prefix, size| {
            let address = Ipv4Addr::new(a, b, 0, 0);
            // A prefix of at most 32 makes no error.
            Ipv4Net::new(address, prefix).ok().map(|base| Self { base: IpNet::V4(base), size })
        };
        [
            v4(172, 17, 16, 16),
            v4(172, 18, 16, 16),
            v4(172, 19, 16, 16),
            v4(172, 20, 14, 16),
            v4(172, 24, 14, 16),
            v4(172, 28, 14, 16),
            v4(192, 168, 16, 20),
            Ipv6Net::new(unique_local(seed), 48).ok().map(|base| Self { base: IpNet::V6(base), size: 64 }),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// How many networks are cut from it.
    pub(super) fn count(&self) -> u128 {
        let bits = u32::from(self.size.saturating_sub(self.base.prefix_len()));
        1_u128.checked_shl(bits).unwrap_or(u128::MAX)
    }
}

/// `fd`, 40 bits of a hash, subnet 0.
fn unique_local(seed: &str) -> Ipv6Addr {
    let hash = seed
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    let hash = hash.to_be_bytes();
    let mut octets = [0; 16];
    octets[0] = 0xfd;
    octets[1..6].copy_from_slice(&hash[..5]);
    Ipv6Addr::from(octets)
}

/// An address as a number, and back.
pub(super) fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

/// The address of a number; numbers beyond 32 bits are cut for IPv4.
pub(super) fn address(number: u128, v6: bool) -> IpAddr {
    if v6 {
        IpAddr::V6(Ipv6Addr::from(number))
    } else {
        IpAddr::V4(Ipv4Addr::from(u32::try_from(number & u128::from(u32::MAX)).unwrap_or(0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_dockers() {
        let pools = DefaultPool::defaults("host");
        assert_eq!(pools[0].base.to_string(), "172.17.0.0/16");
        assert_eq!(pools[6].count(), 16);
        assert!(pools[7].base.to_string().starts_with("fd"));
        assert_ne!(pools[7], DefaultPool::defaults("other")[7]);
        assert_eq!(pools[7], DefaultPool::defaults("host")[7]);
    }

    #[test]
    fn pools_without_room_are_refused() {
        assert!(DefaultPool::new("10.0.0.0/8".parse().unwrap(), 7).is_err());
        assert!(DefaultPool::new("10.0.0.0/8".parse().unwrap(), 32).is_err());
        assert_eq!(DefaultPool::new("10.1.2.3/8".parse().unwrap(), 24).unwrap().count(), 65_536);
    }
}
