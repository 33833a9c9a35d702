//! A network's driver options, read once from the text that clients give.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::str::FromStr;

use wharf_network::types::{GatewayMode, IpvlanFlag, IpvlanMode, MacvlanMode};

use crate::error::{Error, Result};

pub(super) const BRIDGE_NAME: &str = "com.docker.network.bridge.name";
pub(super) const DEFAULT_BRIDGE: &str = "com.docker.network.bridge.default_bridge";
pub(super) const ICC: &str = "com.docker.network.bridge.enable_icc";
pub(super) const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
pub(super) const HOST_BINDING: &str = "com.docker.network.bridge.host_binding_ipv4";
const INHIBIT_IPV4: &str = "com.docker.network.bridge.inhibit_ipv4";
const MODE4: &str = "com.docker.network.bridge.gateway_mode_ipv4";
const MODE6: &str = "com.docker.network.bridge.gateway_mode_ipv6";
pub(super) const MTU: &str = "com.docker.network.driver.mtu";
const PREFIX: &str = "com.docker.network.container_iface_prefix";
const HOST_IPV4: &str = "com.docker.network.host_ipv4";
const HOST_IPV6: &str = "com.docker.network.host_ipv6";
pub(super) const ENABLE_IPV4: &str = "com.docker.network.enable_ipv4";
pub(super) const ENABLE_IPV6: &str = "com.docker.network.enable_ipv6";

/// What the options come to.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(super) bridge: Option<String>,
    pub(super) icc: bool,
    pub(super) masquerade: bool,
    /// `None`: that of the host's uplink.
    pub(super) mtu: Option<u32>,
    /// Where ports without a host address are published; `None`: everywhere.
    pub(super) host_binding: Option<IpAddr>,
    pub(super) mode4: GatewayMode,
    pub(super) mode6: GatewayMode,
    pub(super) inhibit_ipv4: bool,
    /// What interfaces in containers are called, before their number.
    pub(super) prefix: String,
    pub(super) source4: Option<IpAddr>,
    pub(super) source6: Option<IpAddr>,
    pub(super) parent: Option<String>,
    pub(super) macvlan: MacvlanMode,
    pub(super) ipvlan: IpvlanMode,
    pub(super) ipvlan_flag: IpvlanFlag,
}

impl Options {
    /// # Errors
    /// Docker's words for a value that cannot be read.
    pub(super) fn parse(driver: &str, options: &BTreeMap<String, String>) -> Result<Self> {
        let read = Reader(options);
        let mtu = read.mtu()?;
        let parent = options.get("parent").filter(|name| !name.is_empty()).cloned();
        let mut parsed = Self {
            bridge: options.get(BRIDGE_NAME).filter(|name| !name.is_empty()).cloned(),
            icc: read.truth(ICC, true)?,
            masquerade: read.truth(MASQUERADE, true)?,
            mtu,
            host_binding: read.address(HOST_BINDING)?,
            mode4: read.mode(MODE4)?,
            mode6: read.mode(MODE6)?,
            inhibit_ipv4: read.truth(INHIBIT_IPV4, false)?,
            prefix: options
                .get(PREFIX)
                .filter(|text| !text.is_empty())
                .map_or("eth", String::as_str)
                .to_owned(),
            source4: read.address(HOST_IPV4)?,
            source6: read.address(HOST_IPV6)?,
            parent,
            macvlan: MacvlanMode::default(),
            ipvlan: IpvlanMode::default(),
            ipvlan_flag: IpvlanFlag::default(),
        };
        match driver {
            "macvlan" => parsed.macvlan = macvlan(options.get("macvlan_mode"))?,
            "ipvlan" => {
                (parsed.ipvlan, parsed.ipvlan_flag) =
                    (ipvlan(options.get("ipvlan_mode"))?, ipvlan_flag(options.get("ipvlan_flag"))?);
            }
            _ => {}
        }
        Ok(parsed)
    }
}

struct Reader<'a>(&'a BTreeMap<String, String>);

impl Reader<'_> {
    fn truth(&self, key: &str, default: bool) -> Result<bool> {
        let Some(text) = self.0.get(key) else { return Ok(default) };
        truth(text).ok_or_else(|| {
            self.wrong(key, text, &format!("strconv.ParseBool: parsing {text:?}: invalid syntax"))
        })
    }

    fn mtu(&self) -> Result<Option<u32>> {
        let Some(text) = self.0.get(MTU) else { return Ok(None) };
        let number: i64 = text
            .parse()
            .map_err(|_| self.wrong(MTU, text, &format!("strconv.Atoi: parsing {text:?}: invalid syntax")))?;
        let mtu =
            u32::try_from(number).map_err(|_| Error::invalid(format!("invalid MTU number: {number}")))?;
        Ok(Some(mtu).filter(|mtu| *mtu != 0))
    }

    fn address(&self, key: &str) -> Result<Option<IpAddr>> {
        let Some(text) = self.0.get(key) else { return Ok(None) };
        let address = IpAddr::from_str(text).map_err(|_| self.wrong(key, text, "nil ip"))?;
        Ok(Some(address))
    }

    fn mode(&self, key: &str) -> Result<GatewayMode> {
        match self.0.get(key).map(String::as_str) {
            None | Some("" | "nat") => Ok(GatewayMode::Nat),
            Some("nat-unprotected") => Ok(GatewayMode::NatUnprotected),
            Some("routed") => Ok(GatewayMode::Routed),
            Some("isolated") => Ok(GatewayMode::Isolated),
            Some(other) => Err(self.wrong(key, other, &format!("unknown gateway mode {other}"))),
        }
    }

    fn wrong(&self, key: &str, text: &str, why: &str) -> Error {
        Error::invalid(format!("failed to parse {key} value: {text} ({why})"))
    }
}

/// A truth as Go reads it.
pub(super) fn truth(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

fn macvlan(mode: Option<&String>) -> Result<MacvlanMode> {
    match mode.map(String::as_str) {
        None | Some("" | "bridge") => Ok(MacvlanMode::Bridge),
        Some("private") => Ok(MacvlanMode::Private),
        Some("vepa") => Ok(MacvlanMode::Vepa),
        Some("passthru") => Ok(MacvlanMode::Passthru),
        Some(other) => Err(not_valid("macvlan mode", other, "'bridge' mode is the macvlan driver default")),
    }
}

fn ipvlan(mode: Option<&String>) -> Result<IpvlanMode> {
    match mode.map(String::as_str) {
        None | Some("" | "l2") => Ok(IpvlanMode::L2),
        Some("l3") => Ok(IpvlanMode::L3),
        Some("l3s") => Ok(IpvlanMode::L3s),
        Some(other) => Err(not_valid("ipvlan mode", other, "'l2' mode is the ipvlan driver default")),
    }
}

fn ipvlan_flag(flag: Option<&String>) -> Result<IpvlanFlag> {
    match flag.map(String::as_str) {
        None | Some("" | "bridge") => Ok(IpvlanFlag::Bridge),
        Some("private") => Ok(IpvlanFlag::Private),
        Some("vepa") => Ok(IpvlanFlag::Vepa),
        Some(other) => Err(not_valid("ipvlan flag", other, "'bridge' is the ipvlan driver default")),
    }
}

fn not_valid(what: &str, asked: &str, default: &str) -> Error {
    // Docker takes it for a fault of its own.
    Error::internal(format!("requested {what} '{asked}' is not valid, {default}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<Options> {
        let options = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Options::parse("bridge", &options)
    }

    #[test]
    fn values_that_cannot_be_read_are_refused_as_recorded() {
        let text = |key, value| parse(&[(key, value)]).unwrap_err().message().to_owned();
        assert_eq!(
            text(ICC, "x"),
            "failed to parse com.docker.network.bridge.enable_icc value: x (strconv.ParseBool: parsing \"x\": \
             invalid syntax)"
        );
        assert_eq!(text(MTU, "-1"), "invalid MTU number: -1");
        assert_eq!(
            text(HOST_BINDING, "x"),
            "failed to parse com.docker.network.bridge.host_binding_ipv4 value: x (nil ip)"
        );
        assert_eq!(
            text(MODE4, "x"),
            "failed to parse com.docker.network.bridge.gateway_mode_ipv4 value: x (unknown gateway mode x)"
        );
    }

    #[test]
    fn defaults_are_dockers() {
        let options = parse(&[("foo", "bar")]).unwrap();
        assert!(options.icc && options.masquerade && options.mtu.is_none());
        assert_eq!((options.prefix.as_str(), options.mode4), ("eth", GatewayMode::Nat));
        assert_eq!(parse(&[(MTU, "1400")]).unwrap().mtu, Some(1400));
    }
}
