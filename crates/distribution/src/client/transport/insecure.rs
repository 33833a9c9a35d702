//! Which registries may do without TLS, or with certificates that nobody signed.

use std::net::IpAddr;

use super::url::split_authority;

/// A network in CIDR notation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Reads `address/prefix`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        let prefix: u8 = prefix.parse().ok()?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        (prefix <= longest).then_some(Self { address, prefix })
    }

    /// Whether `address` is in it.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let differing = u32::from(network) ^ u32::from(address);
                differing.leading_zeros() >= u32::from(self.prefix)
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let differing = u128::from(network) ^ u128::from(address);
                differing.leading_zeros() >= u32::from(self.prefix)
            }
            _ => false,
        }
    }
}

/// The insecure registries of a configuration.
#[derive(Debug, Clone, Default)]
pub(crate) struct Insecure {
    networks: Vec<Network>,
    names: Vec<String>,
}

impl Insecure {
    /// Reads CIDRs and `host[:port]` names, in dockerd's words when it cannot.
    ///
    /// # Errors
    /// What is wrong with an entry.
    pub(crate) fn parse(entries: &[String]) -> Result<Self, String> {
        let mut insecure = Self::default();
        for entry in entries {
            if entry.contains("://") {
                return Err(format!("insecure registry {entry} should not contain '://'"));
            }
            if let Some(network) = Network::parse(entry) {
                insecure.networks.push(network);
                continue;
            }
            split_authority(entry)
                .map_err(|error| format!("insecure registry {entry} is not valid: {error}"))?;
            insecure.names.push(entry.to_ascii_lowercase());
        }
        Ok(insecure)
    }

    /// Whether registry `domain` (`host[:port]`) is insecure, being at `addresses`.
    pub(crate) fn covers(&self, domain: &str, addresses: &[IpAddr]) -> bool {
        self.names.iter().any(|name| name.eq_ignore_ascii_case(domain))
            || addresses.iter().any(|address| {
                address.to_canonical().is_loopback()
                    || self.networks.iter().any(|network| network.contains(*address))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_need_their_port_and_networks_their_prefix() {
        let entries = ["10.0.0.0/8", "Reg.example:5000", "fd00::/8"].map(str::to_owned);
        let insecure = Insecure::parse(&entries).unwrap();
        let at = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(insecure.covers("reg.example:5000", &[]));
        assert!(!insecure.covers("reg.example", &[]));
        assert!(insecure.covers("x", &[at("10.255.0.1")]));
        assert!(insecure.covers("x", &[at("::ffff:10.0.0.1")]));
        assert!(insecure.covers("x", &[at("fdff::1")]));
        assert!(!insecure.covers("x", &[at("11.0.0.1"), at("fe00::1")]));
        assert!(Insecure::default().covers("x", &[at("127.9.9.9")]));
        assert!(Insecure::default().covers("x", &[at("::1")]));
        assert!(Insecure::parse(&["http://x".to_owned()]).unwrap_err().contains("should not contain '://'"));
        assert!(Insecure::parse(&["a b".to_owned()]).is_err());
    }
}
