//! What may be asked of an endpoint, in Docker's words.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use wharf_api::EndpointSettings;

use super::Known;
use super::plan::SYSCTLS;
use crate::error::{Error, Result};

/// What is wrong with an endpoint's settings. `network`: where it is to be, if that is known yet.
///
/// # Errors
/// `invalid endpoint settings:` and all of it.
pub(crate) fn settings(settings: &EndpointSettings, built_in: bool, network: Option<&Known>) -> Result<()> {
    let wrong = problems(settings, built_in, network);
    match wrong.as_slice() {
        [] => Ok(()),
        [one] => Err(Error::invalid(format!("invalid endpoint settings:\n{one}"))),
        many => Err(Error::invalid(format!("invalid endpoint settings:\n* {}", many.join("\n* ")))),
    }
}

/// Whether an address may be asked for in a network.
///
/// # Errors
/// As [`settings`].
pub(super) fn address(network: &Known, wanted: IpAddr) -> Result<()> {
    match outside(network, &wanted.to_string(), Some(wanted), wanted.is_ipv6()) {
        None => Ok(()),
        Some(why) => Err(Error::invalid(format!("invalid endpoint settings:\n{why}"))),
    }
}

/// Whether a setting is one of an interface, `net.ipv4.conf.IFNAME.log_martians=1`.
fn is_of_interface(pair: &str) -> bool {
    let Some((name, _)) = pair.split_once('=') else { return false };
    let parts: Vec<&str> = name.trim().split('.').collect();
    match parts.as_slice() {
        ["net", "ipv4" | "ipv6" | "mpls", _, place, _] => place.eq_ignore_ascii_case("IFNAME"),
        _ => false,
    }
}

fn problems(settings: &EndpointSettings, built_in: bool, network: Option<&Known>) -> Vec<String> {
    let mut problems = Vec::new();
    let ipam = settings.ipam_config.clone().unwrap_or_default();
    let (v4, v6) = (&ipam.ipv4_address, &ipam.ipv6_address);
    if built_in && !(v4.is_empty() && v6.is_empty()) {
        problems.push("user specified IP address is supported on user defined networks only".to_owned());
    }
    if built_in && settings.aliases.as_ref().is_some_and(|aliases| !aliases.is_empty()) {
        problems.push(
            "network-scoped alias is supported only for containers in user defined networks".to_owned(),
        );
    }
    if !v4.is_empty() && v4.parse::<Ipv4Addr>().is_err() {
        problems.push(format!("invalid IPv4 address: {v4}"));
    }
    if !v6.is_empty() && v6.parse::<Ipv6Addr>().is_err() {
        problems.push(format!("invalid IPv6 address: {v6}"));
    }
    for one in ipam.link_local_ips.iter().flatten() {
        if one.parse::<IpAddr>().is_err() {
            problems.push(format!("invalid link-local IP address: {one}"));
        }
    }
    let sysctls = settings.driver_opts.as_ref().and_then(|options| options.get(SYSCTLS));
    for one in sysctls.into_iter().flat_map(|text| text.split(',')).filter(|one| !one.trim().is_empty()) {
        if !is_of_interface(one.trim()) {
            problems.push(format!(
                "unrecognised network interface sysctl '{one}'; represent 'net.X.Y.ethN.Z=V' as \
                 'net.X.Y.IFNAME.Z=V', 'X' must be 'ipv4', 'ipv6' or 'mpls'"
            ));
        }
    }
    if let Some(network) = network.filter(|network| !built_in && network.has_links()) {
        for (text, is_v6) in [(v4, false), (v6, true)].into_iter().filter(|(text, _)| !text.is_empty()) {
            problems.extend(outside(network, text, text.parse().ok(), is_v6));
        }
    }
    problems
}

fn outside(network: &Known, text: &str, wanted: Option<IpAddr>, v6: bool) -> Option<String> {
    let off = network.subnets_turned_off(v6);
    if off.is_empty() && !network.has_own_subnet(v6) {
        let why = "user specified IP address is supported only when connecting to networks with user configured subnets";
        return Some(why.to_owned());
    }
    let within = |wanted| network.allows(wanted) || off.iter().any(|subnet| subnet.contains(&wanted));
    let fits = wanted.is_some_and(within);
    (!fits).then(|| format!("no configured subnet or ip-range contain the IP address {text}"))
}

/// Checks a MAC address.
///
/// # Errors
/// `invalid MAC address X`.
pub(crate) fn mac(text: &str) -> Result<()> {
    let parts: Vec<&str> = text.split([':', '-']).collect();
    let pair = |part: &&str| part.len() == 2 && part.bytes().all(|digit| digit.is_ascii_hexdigit());
    match text.is_empty() || (matches!(parts.len(), 6 | 8 | 20) && parts.iter().all(pair)) {
        true => Ok(()),
        false => Err(Error::invalid(format!("invalid MAC address {text}"))),
    }
}
