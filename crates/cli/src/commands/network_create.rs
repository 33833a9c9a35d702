//! `wharf network create`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::Value;
use wharf_api::{ConfigReference, Ipam, IpamConfig, NetworkCreateRequest};

use super::Outcome;
use crate::connect::Target;
use crate::error::{CliError, print};

#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// Enable manual container attachment
    #[arg(long)]
    attachable: bool,
    /// Auxiliary IPv4 or IPv6 addresses used by Network driver
    #[arg(long, value_name = "MAP")]
    aux_address: Vec<String>,
    /// The network from which to copy the configuration
    #[arg(long, value_name = "STRING", default_value = "", hide_default_value = true)]
    config_from: String,
    /// Create a configuration only network
    #[arg(long)]
    config_only: bool,
    /// Driver to manage the Network
    #[arg(short, long, value_name = "STRING", default_value = "bridge")]
    driver: String,
    /// IPv4 or IPv6 Gateway for the master subnet
    #[arg(long, value_name = "STRINGS", value_delimiter = ',')]
    gateway: Vec<String>,
    /// Create swarm routing-mesh network
    #[arg(long)]
    ingress: bool,
    /// Restrict external access to the network
    #[arg(long)]
    internal: bool,
    /// Allocate container ip from a sub-range
    #[arg(long, value_name = "STRINGS", value_delimiter = ',')]
    ip_range: Vec<String>,
    /// IP Address Management Driver
    #[arg(long, value_name = "STRING", default_value = "default")]
    ipam_driver: String,
    /// Set IPAM driver specific options
    #[arg(long, value_name = "MAP")]
    ipam_opt: Vec<String>,
    /// Enable or disable IPv4 address assignment
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    ipv4: Option<bool>,
    /// Enable or disable IPv6 address assignment
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    ipv6: Option<bool>,
    /// Set metadata on a network
    #[arg(long, value_name = "LIST")]
    label: Vec<String>,
    /// Set driver specific options
    #[arg(short, long, value_name = "MAP")]
    opt: Vec<String>,
    /// Control the network's scope
    #[arg(long, value_name = "STRING", default_value = "", hide_default_value = true)]
    scope: String,
    /// Subnet in CIDR format that represents a network segment
    #[arg(long, value_name = "STRINGS", value_delimiter = ',')]
    subnet: Vec<String>,
    name: String,
}

impl Create {
    pub(crate) async fn run(self, target: &Target) -> Outcome {
        let config = self.addresses().map_err(CliError::new)?;
        let client = target.connect().await?;
        let from = ConfigReference { network: self.config_from.clone() };
        let request = NetworkCreateRequest {
            name: self.name,
            driver: self.driver,
            scope: self.scope,
            enable_ipv4: self.ipv4,
            enable_ipv6: self.ipv6,
            ipam: Some(Ipam {
                driver: self.ipam_driver,
                options: Some(pairs(&self.ipam_opt)),
                config: Some(config),
            }),
            internal: self.internal,
            attachable: self.attachable,
            ingress: self.ingress,
            config_only: self.config_only,
            config_from: (!self.config_from.is_empty()).then_some(from),
            options: Some(pairs(&self.opt)),
            labels: Some(pairs(&self.label)),
            ..NetworkCreateRequest::default()
        };
        let made: Value = client.post("/networks/create", &request).await?;
        print(made["Id"].as_str().unwrap_or_default())?;
        Ok(0)
    }

    /// Subnets, each with what lies in it.
    fn addresses(&self) -> Result<Vec<IpamConfig>, String> {
        if self.subnet.len() < self.ip_range.len() || self.subnet.len() < self.gateway.len() {
            return Err("every ip-range or gateway must have a corresponding subnet".to_owned());
        }
        let mut all: Vec<IpamConfig> = Vec::new();
        for subnet in &self.subnet {
            if all.iter().any(|one| contains(&one.subnet, subnet) || contains(subnet, &one.subnet)) {
                return Err("multiple overlapping subnet configuration is not supported".to_owned());
            }
            all.push(IpamConfig { subnet: subnet.clone(), ..IpamConfig::default() });
        }
        let mut within =
            |what: &str, text: &str, set: &mut dyn FnMut(&mut IpamConfig) -> Result<(), String>| match all
                .iter_mut()
                .find(|one| contains(&one.subnet, text))
            {
                Some(one) => set(one),
                None => Err(format!("no matching subnet for {what} {text}")),
            };
        for range in &self.ip_range {
            within("range", range, &mut |one| {
                if !one.ip_range.is_empty() {
                    let (first, subnet) = (&one.ip_range, &one.subnet);
                    return Err(format!(
                        "cannot configure multiple ranges ({range}, {first}) on the same subnet ({subnet})"
                    ));
                }
                one.ip_range.clone_from(range);
                Ok(())
            })?;
        }
        for gateway in &self.gateway {
            within("gateway", gateway, &mut |one| {
                if !one.gateway.is_empty() {
                    let (first, subnet) = (&one.gateway, &one.subnet);
                    return Err(format!(
                        "cannot configure multiple gateways ({gateway}, {first}) for the same subnet ({subnet})"
                    ));
                }
                one.gateway.clone_from(gateway);
                Ok(())
            })?;
        }
        for (name, address) in pairs(&self.aux_address) {
            within("aux-address", &address, &mut |one| {
                one.auxiliary_addresses.get_or_insert_default().insert(name.clone(), address.clone());
                Ok(())
            })?;
        }
        Ok(all)
    }
}

fn pairs(list: &[String]) -> BTreeMap<String, String> {
    list.iter()
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// Whether an address or a subnet lies in `subnet`; text that is neither lies nowhere.
fn contains(subnet: &str, inner: &str) -> bool {
    let bits = |text: &str| -> Option<(u128, u32, bool)> {
        let (address, length) = text.split_once('/').unwrap_or((text, ""));
        let (bits, most, v6) = match address.parse().ok()? {
            IpAddr::V4(address) => (u128::from(u32::from(address)) << 96, 32, false),
            IpAddr::V6(address) => (u128::from(address), 128, true),
        };
        let length = if length.is_empty() { most } else { length.parse().ok()? };
        Some((bits, length, v6))
    };
    let (Some((outer, length, v6)), Some((inner, inner_length, inner_v6))) = (bits(subnet), bits(inner))
    else {
        return false;
    };
    let mask = if length == 0 { 0 } else { u128::MAX.checked_shl(128 - length).unwrap_or(u128::MAX) };
    v6 == inner_v6 && inner_length >= length && outer & mask == inner & mask
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        create: Create,
    }

    fn read(words: &str) -> Result<Vec<IpamConfig>, String> {
        let line = Line::try_parse_from(["create"].into_iter().chain(words.split(' '))).unwrap();
        line.create.addresses()
    }

    #[test]
    fn addresses_go_to_their_subnets() {
        let all = read(
            "--subnet 10.0.0.0/16 --subnet fd00::/64 --gateway fd00::9 --ip-range 10.0.5.0/24 --aux-address a=10.0.0.7 n",
        );
        let all = all.unwrap();
        assert_eq!((all[0].ip_range.as_str(), all[1].gateway.as_str()), ("10.0.5.0/24", "fd00::9"));
        assert_eq!(all[0].auxiliary_addresses.as_ref().unwrap()["a"], "10.0.0.7");
        let no = |words| read(words).unwrap_err();
        assert_eq!(
            no("--subnet 10.0.0.0/24 --gateway 10.0.1.1 n"),
            "no matching subnet for gateway 10.0.1.1"
        );
        assert_eq!(no("--gateway 10.0.1.1 n"), "every ip-range or gateway must have a corresponding subnet");
        assert_eq!(
            no("--subnet 10.0.0.0/16 --subnet 10.0.1.0/24 n"),
            "multiple overlapping subnet configuration is not supported"
        );
    }
}
