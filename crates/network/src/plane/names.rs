//! Names of kernel objects.

use ipnet::IpNet;

use crate::types::MacAddress;

/// The bridge of a user-defined network: `wh-` and 12 hexadecimal digits of its id, as Docker's `br-…`.
#[must_use]
pub fn bridge_name(network: &str) -> String {
    format!("wh-{}", network.get(..12).unwrap_or(network))
}

/// The bridge of an instance's default network: `wharf0`, or for an instance of another name one that derives
/// from it and fits into 15 bytes.
#[must_use]
pub fn default_bridge_name(instance: &str) -> String {
    if instance == "wharf" { "wharf0".to_owned() } else { format!("wh0-{:08x}", digest(instance)) }
}

/// A MAC address from random bytes: unicast, locally administered.
#[must_use]
pub fn random_mac() -> MacAddress {
    let mut bytes = [0; 6];
    // The kernel's generator is seeded long before any container runs; short reads happen above 256 bytes.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    bytes[0] = bytes[0] & 0xfc | 0x02;
    MacAddress(bytes)
}

/// The MAC address of an endpoint that was not given one: it follows from its IPv4 address, as Docker had it
/// for long, so that neighbours who remember an address need not learn anew whom it belongs to now.
#[must_use]
pub fn mac_of(addresses: &[IpNet]) -> MacAddress {
    let v4 = addresses.iter().find_map(|net| match net {
        IpNet::V4(net) if !net.addr().is_link_local() => Some(net.addr().octets()),
        _ => None,
    });
    match v4 {
        Some([a, b, c, d]) => MacAddress([0x02, 0x42, a, b, c, d]),
        None => random_mac(),
    }
}

/// What an instance writes on the interfaces that it makes.
pub(super) fn alias(instance: &str) -> String {
    format!("wharf:{instance}")
}

/// The group of the bridges that an instance makes: no number that people give by hand.
#[must_use]
pub(crate) fn group(instance: &str) -> u32 {
    0x5700_0000 | digest(instance) & 0x00ff_ffff
}

/// The host's end of an endpoint's pair: 15 bytes at most.
pub(super) fn host_end(endpoint: &str) -> String {
    let id: String = endpoint.chars().filter(char::is_ascii_alphanumeric).take(11).collect();
    format!("veth{id}")
}

/// The parent of a macvlan or ipvlan network that has none, and its far end.
pub(super) fn nowhere(network: &str) -> (String, String) {
    let id = network.get(..12).unwrap_or(network);
    (format!("dm-{id}"), format!("df-{id}"))
}

/// FNV-1a: names of other instances, shortened.
fn digest(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit() {
        for name in [
            bridge_name(&"f".repeat(64)),
            default_bridge_name("an instance with a long name"),
            host_end(&"e".repeat(64)),
            nowhere(&"f".repeat(64)).1,
        ] {
            assert!(name.len() <= 15, "{name}");
        }
        assert_ne!(default_bridge_name("a"), default_bridge_name("b"));
        assert_eq!(random_mac().0[0] & 3, 2);
    }
}
