//! Docker's keys about networks, and Wharf's own about who reaches published ports.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::Value;
use wharf_engine::network::{
    DefaultBridge, DefaultPool, IpNet, NetworkConfig, Opening, Protocol, PublishPolicy,
};

use super::{Reader, SettingsError};

/// Reads all of them.
pub(super) fn network(values: &Reader) -> Result<NetworkConfig, SettingsError> {
    let gateways = match values.0.get("host-gateway-ip") {
        Some(Value::String(one)) => one.split(',').map(str::to_owned).collect(),
        _ => values.list("host-gateway-ip"),
    };
    let gateways = gateways.iter().map(|text| address("host-gateway-ip", text)).collect::<Result<_, _>>()?;
    let policy = match values.text("publish-policy") {
        None | Some("" | "host-firewall") => PublishPolicy::HostFirewall,
        Some("open") => PublishPolicy::Open,
        Some(other) => {
            return Err(SettingsError(format!(
                "publish-policy: {other:?} is neither host-firewall nor open"
            )));
        }
    };
    Ok(NetworkConfig {
        bridge: bridge(values)?,
        pools: pools(values)?,
        default_options: options(values)?,
        host_gateways: gateways,
        iptables: truth(values, "iptables", true),
        ip6tables: truth(values, "ip6tables", true),
        ip_forward: truth(values, "ip-forward", true),
        forward_guard: !truth(values, "ip-forward-no-drop", false),
        publish_policy: policy,
        publish_allow: values
            .list("publish-allow")
            .iter()
            .map(|text| opening(text))
            .collect::<Result<_, _>>()?,
    })
}

fn truth(values: &Reader, name: &str, default: bool) -> bool {
    values.0.get(name).and_then(Value::as_bool).unwrap_or(default)
}

fn bridge(values: &Reader) -> Result<DefaultBridge, SettingsError> {
    let default = DefaultBridge::default();
    let net = |name: &str| {
        let text = values.text(name).filter(|text| !text.is_empty());
        text.map(|text| text.parse::<IpNet>().map_err(|_| wrong(name, text))).transpose()
    };
    let one = |name: &str| {
        let text = values.text(name).filter(|text| !text.is_empty());
        text.map(|text| address(name, text)).transpose()
    };
    let interface = values.text("bridge").unwrap_or_default().to_owned();
    if !interface.is_empty() && values.text("bip").is_some_and(|text| !text.is_empty()) {
        let why = "You specified -b & --bip, mutually exclusive options. Please specify only one";
        return Err(SettingsError(why.to_owned()));
    }
    let mtu = match values.number("mtu") {
        None | Some(0) => None,
        Some(mtu) => {
            Some(u32::try_from(mtu).map_err(|_| SettingsError(format!("invalid default MTU: {mtu}")))?)
        }
    };
    Ok(DefaultBridge {
        interface,
        address: net("bip")?,
        address6: net("bip6")?,
        range: net("fixed-cidr")?,
        range6: net("fixed-cidr-v6")?,
        gateway: one("default-gateway")?,
        gateway6: one("default-gateway-v6")?,
        ipv6: truth(values, "ipv6", false),
        icc: truth(values, "icc", true),
        masquerade: truth(values, "ip-masq", true),
        mtu,
        host_binding: one("ip")?.unwrap_or(default.host_binding),
    })
}

/// `base=172.30.0.0/16,size=24` from flags, `{"base": …, "size": …}` from the file.
fn pools(values: &Reader) -> Result<Vec<DefaultPool>, SettingsError> {
    let items = values.0.get("default-address-pool").and_then(Value::as_array);
    let pool = |item: &Value| {
        let refuse = || SettingsError(format!("invalid default address pool: {item}"));
        let (base, size) = match item {
            Value::String(text) => {
                let field = |key: &str| {
                    text.split(',').find_map(|pair| pair.split_once('=').filter(|(name, _)| *name == key))
                };
                let (base, size) = (field("base").ok_or_else(refuse)?.1, field("size").ok_or_else(refuse)?.1);
                (base.to_owned(), size.parse::<u8>().map_err(|_| refuse())?)
            }
            _ => {
                let base = item.get("base").and_then(Value::as_str).ok_or_else(refuse)?;
                let size = item.get("size").and_then(Value::as_u64).ok_or_else(refuse)?;
                (base.to_owned(), u8::try_from(size).map_err(|_| refuse())?)
            }
        };
        let base: IpNet = base.parse().map_err(|_| refuse())?;
        DefaultPool::new(base, size).map_err(|error| SettingsError(error.to_string()))
    };
    items.into_iter().flatten().map(pool).collect()
}

/// `bridge=key=value` from flags, `{"bridge": {"key": "value"}}` from the file.
fn options(values: &Reader) -> Result<BTreeMap<String, BTreeMap<String, String>>, SettingsError> {
    let mut all: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for (driver, value) in values.pairs("default-network-opt") {
        let options = all.entry(driver).or_default();
        match &value {
            Value::String(text) => {
                let (key, value) = text.split_once('=').ok_or_else(|| wrong("default-network-opt", text))?;
                options.insert(key.to_owned(), value.to_owned());
            }
            Value::Object(object) => {
                let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                options.extend(object.iter().map(|(key, value)| (key.clone(), text(value))));
            }
            other => return Err(wrong("default-network-opts", &other.to_string())),
        }
    }
    Ok(all)
}

/// `80`, `8000-8010/udp@192.168.1.0/24`, `*@eth1`: what the outside may reach though the host's firewall is closed.
fn opening(text: &str) -> Result<Opening, SettingsError> {
    let refuse =
        || SettingsError(format!("publish-allow: {text:?} is not PORT[-PORT][/PROTOCOL][@CIDR|@INTERFACE]"));
    let (port, from) = text.split_once('@').unwrap_or((text, ""));
    let (port, protocol) = port.split_once('/').unwrap_or((port, ""));
    let protocol = match protocol {
        "" => None,
        "tcp" => Some(Protocol::Tcp),
        "udp" => Some(Protocol::Udp),
        "sctp" => Some(Protocol::Sctp),
        _ => return Err(refuse()),
    };
    let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(refuse);
    let ports = match port.split_once('-') {
        _ if port == "*" => None,
        None => Some((number(port)?, number(port)?)),
        Some((first, last)) => Some((number(first)?, number(last)?)).filter(|(first, last)| first <= last),
    };
    if ports.is_none() && port != "*" {
        return Err(refuse());
    }
    let source = from.parse::<IpNet>().ok().or_else(|| from.parse::<IpAddr>().ok().map(IpNet::from));
    let interface = Some(from).filter(|from| source.is_none() && !from.is_empty()).map(str::to_owned);
    if interface.as_ref().is_some_and(|name| name.len() > 15 || name.contains('/')) {
        return Err(refuse());
    }
    Ok(Opening { protocol, ports, source, interface })
}

fn address(name: &str, text: &str) -> Result<IpAddr, SettingsError> {
    text.trim().parse().map_err(|_| wrong(name, text))
}

fn wrong(name: &str, text: &str) -> SettingsError {
    SettingsError(format!("{name}: invalid value {text:?}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(settings: &[(&'static str, Value)]) -> Result<NetworkConfig, SettingsError> {
        network(&Reader(settings.iter().cloned().collect()))
    }

    #[test]
    fn dockers_forms_are_read() {
        let pools = json!(["base=10.200.0.0/16,size=24", { "base": "10.201.0.0/16", "size": 26 }]);
        let config = read(&[
            ("bip", json!("10.9.0.1/24")),
            ("icc", json!(false)),
            ("default-address-pool", pools),
            ("default-network-opt", json!(["bridge=com.docker.network.driver.mtu=1400"])),
            ("publish-policy", json!("open")),
            ("ip", json!("127.0.0.1")),
        ]);
        let config = config.unwrap();
        assert_eq!(config.bridge.address.unwrap().to_string(), "10.9.0.1/24");
        assert!(!config.bridge.icc && config.iptables && config.bridge.host_binding.is_loopback());
        assert_eq!((config.pools.len(), config.pools[1].size), (2, 26));
        assert_eq!(config.default_options["bridge"]["com.docker.network.driver.mtu"], "1400");
        assert_eq!(config.publish_policy, PublishPolicy::Open);
        assert!(read(&[("bip", json!("x"))]).is_err() && read(&[("publish-policy", json!("x"))]).is_err());
    }

    #[test]
    fn openings_are_ports_and_where_from() {
        let one = opening("8000-8010/udp@192.168.1.0/24").unwrap();
        assert_eq!((one.protocol, one.ports), (Some(Protocol::Udp), Some((8000, 8010))));
        assert_eq!(one.source.unwrap().to_string(), "192.168.1.0/24");
        let all = opening("*@eth1").unwrap();
        assert_eq!((all.ports, all.interface.as_deref()), (None, Some("eth1")));
        assert_eq!(opening("80@10.0.0.7").unwrap().source.unwrap().to_string(), "10.0.0.7/32");
        for wrong in ["", "x", "0", "9-8", "80/foo", "80@averyverylongname"] {
            assert!(opening(wrong).is_err(), "{wrong}");
        }
    }
}
