//! Making a network.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use wharf_api::{ConfigReference, Ipam, IpamConfig, Network, NetworkCreateRequest, NetworkCreateResponse};
use wharf_network::ipam;

use super::kernel::SubnetLock;
use super::known::{Definition, Subnet};
use super::options::{self, Options};
use super::{DOCUMENTS, IpNet, Known, Networks, State};
use crate::error::{Error, Result};
use crate::names::new_id;
use crate::pools::Class;

const NO_MANAGER: &str = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to \
                          connect this node to swarm and try again.";

impl Networks {
    /// Makes a network.
    ///
    /// # Errors
    /// Docker's, for requests that make no sense or do not fit what is there; what the kernel refused.
    pub async fn create(self: &Arc<Self>, ask: NetworkCreateRequest) -> Result<NetworkCreateResponse> {
        let networks = self.clone();
        self.pools.run(Class::Network, move || networks.make_network(ask)).await
    }

    fn make_network(&self, mut ask: NetworkCreateRequest) -> Result<NetworkCreateResponse> {
        check_name(&ask)?;
        if ask.driver.is_empty() {
            ask.driver = "bridge".to_owned();
        }
        check_driver(&ask)?;
        let name = Busy::take(self, &ask.name)?;
        let wish = self.wish(&ask)?;
        // Checked before anything is taken.
        let options = Options::parse(&wish.document.driver, wish.document.options.as_ref().unwrap_or(&NONE))?;
        check_modes(&wish.document, &options)?;
        let kernel = self.kernel()?;
        let _choosing = SubnetLock::take();
        let host = kernel.plane.host_subnets()?;
        let known = Arc::new(self.allocate(wish, &host)?);
        let made = self.settle_network(&known);
        if made.is_err() {
            self.state().ipam.release_network(known.id());
        }
        made?;
        self.state().known.insert(known.id().to_owned(), known.clone());
        drop(name);
        self.emit("create", known.document(), &[]);
        Ok(NetworkCreateResponse { id: known.id().to_owned(), warning: String::new() })
    }

    /// Brings a network to the kernel, then to the disk.
    fn settle_network(&self, known: &Known) -> Result<()> {
        let kernel = self.kernel()?;
        let wanted = known.kernel(&self.config.instance, self.settings());
        if let Some(wanted) = &wanted {
            self.check_bridge(known)?;
            kernel.plane.create_network(wanted)?;
        }
        let text = serde_json::to_vec(&known.definition);
        let kept = text
            .map_err(|error| Error::internal(error.to_string()))
            .and_then(|text| Ok(self.store.documents(DOCUMENTS).put(known.id(), &text)?));
        if let (Err(_), Some(_)) = (&kept, &wanted)
            && let Err(error) = kernel.plane.remove_network(known.id())
        {
            tracing::warn!("network {}: {error}", known.name());
        }
        kept
    }

    /// Refuses a bridge that another network has.
    fn check_bridge(&self, new: &Known) -> Result<()> {
        if new.driver() != "bridge" {
            return Ok(());
        }
        let (instance, settings) = (&self.config.instance, self.settings());
        let interface = new.interface(instance, settings);
        let state = self.state();
        let mut bridges =
            state.known.values().filter(|known| known.driver() == "bridge" && known.has_links());
        let same = bridges.find(|known| known.interface(instance, settings) == interface);
        match same {
            None => Ok(()),
            Some(other) => Err(Error::forbidden(format!(
                "cannot create network {} ({interface}): conflicts with network {} ({interface}): networks have \
                 same bridge name",
                new.id(),
                other.id()
            ))),
        }
    }

    /// What a request comes to, with that of a configuration-only network it depends on.
    fn wish(&self, ask: &NetworkCreateRequest) -> Result<Wish> {
        let from = ask.config_from.as_ref().map(|from| from.network.as_str()).filter(|name| !name.is_empty());
        let mut options = ask.options.clone().unwrap_or_default();
        if from.is_none()
            && let Some(defaults) = self.settings().default_options.get(&ask.driver)
        {
            for (key, value) in defaults {
                options.entry(key.clone()).or_insert_with(|| value.clone());
            }
        }
        let family = |asked: Option<bool>, key: &str, default: bool| match (asked, options.get(key)) {
            (Some(asked), _) => Ok(asked),
            (None, Some(text)) => options::truth(text)
                .ok_or_else(|| Error::invalid(format!("driver-opt {key:?} is not a valid bool"))),
            (None, None) => Ok(default),
        };
        let ipv4 = family(ask.enable_ipv4, options::ENABLE_IPV4, true)?;
        let ipv6 = family(ask.enable_ipv6, options::ENABLE_IPV6, false)?;
        let asked = ask.ipam.clone().unwrap_or_default();
        validate_ipam(&asked)?;
        let mut document = Network {
            name: ask.name.clone(),
            id: new_id(),
            created: jiff::Timestamp::now().to_string(),
            scope: "local".to_owned(),
            driver: if ask.config_only { "null".to_owned() } else { ask.driver.clone() },
            enable_ipv4: ipv4,
            enable_ipv6: ipv6,
            ipam: Ipam { driver: "default".to_owned(), options: asked.options.clone(), config: asked.config },
            internal: ask.internal,
            attachable: ask.attachable,
            config_from: ConfigReference { network: from.unwrap_or_default().to_owned() },
            config_only: ask.config_only,
            options: Some(options),
            labels: Some(ask.labels.clone().unwrap_or_default()),
            ..Network::default()
        };
        if let Some(from) = from {
            self.inherit(&mut document, ask, from)?;
        }
        if !document.enable_ipv4 && !document.enable_ipv6 && !document.config_only {
            return Err(Error::invalid("IPv4 or IPv6 must be enabled"));
        }
        if !asked.driver.is_empty() && asked.driver != "default" && asked.driver != "null" {
            return Err(Error::not_found(format!("plugin {:?} not found", asked.driver)));
        }
        Ok(Wish { document, no_addresses: asked.driver == "null" })
    }

    /// Takes over the configuration of another network.
    fn inherit(&self, document: &mut Network, ask: &NetworkCreateRequest, from: &str) -> Result<()> {
        if ask.config_only {
            return Err(Error::forbidden(
                "a configuration network cannot depend on another configuration network",
            ));
        }
        let has_ipam = document.ipam.config.as_ref().is_some_and(|list| !list.is_empty());
        let labelled = document.labels.as_ref().is_some_and(|labels| !labels.is_empty());
        if has_ipam || labelled || document.enable_ipv6 {
            return Err(Error::forbidden(
                "user specified configurations are not supported if the network depends on a configuration network",
            ));
        }
        if document.options.as_ref().is_some_and(|options| !options.is_empty()) {
            return Err(Error::forbidden(
                "network driver options are not supported if the network depends on a configuration network",
            ));
        }
        let found = self.find(from).ok().filter(|found| found.document().config_only);
        let found = found
            .ok_or_else(|| Error::not_found(format!("configuration network {from:?} does not exist")))?;
        let other = found.document();
        (document.enable_ipv4, document.enable_ipv6) = (other.enable_ipv4, other.enable_ipv6);
        document.ipam.clone_from(&other.ipam);
        document.options.clone_from(&other.options);
        document.labels.clone_from(&other.labels);
        Ok(())
    }

    /// Takes a new network's subnets.
    fn allocate(&self, wish: Wish, host: &[IpNet]) -> Result<Known> {
        let mut definition = Definition { document: wish.document, subnets: Vec::new() };
        let addresses = !wish.no_addresses && !definition.document.config_only;
        if addresses && matches!(definition.document.driver.as_str(), "bridge" | "macvlan" | "ipvlan") {
            let mut state = self.state();
            if let Err(error) = definition.take_subnets(&mut state, host) {
                state.ipam.release_network(&definition.document.id);
                return Err(error);
            }
        }
        definition.known()
    }
}

static NONE: BTreeMap<String, String> = BTreeMap::new();

/// A request, read.
struct Wish {
    document: Network,
    /// Addresses are somebody else's business (`--ipam-driver null`).
    no_addresses: bool,
}

impl Definition {
    /// Takes the subnets asked for, and one from the pools for each family that has none.
    fn take_subnets(&mut self, state: &mut State, host: &[IpNet]) -> Result<()> {
        let isolated = |v6: bool| {
            let key = format!("com.docker.network.bridge.gateway_mode_ipv{}", if v6 { 6 } else { 4 });
            self.document.options.iter().flatten().any(|(name, mode)| *name == key && mode == "isolated")
        };
        let without_router = [isolated(false), isolated(true)];
        let id = self.document.id.clone();
        let asked = self.document.ipam.config.clone().unwrap_or_default();
        for one in &asked {
            let net: IpNet = parse(&one.subnet)?;
            let v6 = net.addr().is_ipv6();
            if (v6 && !self.document.enable_ipv6) || (!v6 && !self.document.enable_ipv4) {
                continue;
            }
            let aux = one.auxiliary_addresses.clone().unwrap_or_default();
            let aux = aux.iter().map(|(name, address)| Ok((name.clone(), parse(address)?)));
            let aux: BTreeMap<String, IpAddr> = aux.collect::<Result<_>>()?;
            let optional = |text: &str| (!text.is_empty()).then_some(text.to_owned());
            let request = ipam::Request {
                v6,
                subnet: Some(net),
                range: optional(&one.ip_range).map(|text| parse(&text)).transpose()?,
                gateway: optional(&one.gateway).map(|text| parse(&text)).transpose()?,
                no_gateway: without_router[usize::from(v6)] && one.gateway.is_empty(),
                aux: aux.iter().map(|(name, address)| (name.clone(), *address)).collect(),
            };
            let given = state.ipam.allocate(&id, &request, host)?;
            let (net, gateway, range) = (given.subnet, given.gateway, request.range);
            self.subnets.push(Subnet { net, gateway, range, aux, by_user: true });
        }
        let mut shown = asked;
        for (v6, enabled) in [(false, self.document.enable_ipv4), (true, self.document.enable_ipv6)] {
            if !enabled || self.subnets.iter().any(|subnet| subnet.net.addr().is_ipv6() == v6) {
                continue;
            }
            let no_gateway = without_router[usize::from(v6)];
            let request = ipam::Request { v6, no_gateway, ..ipam::Request::default() };
            let given = state.ipam.allocate(&id, &request, host)?;
            shown.push(IpamConfig {
                subnet: given.subnet.to_string(),
                gateway: given.gateway.map(|gateway| gateway.to_string()).unwrap_or_default(),
                ..IpamConfig::default()
            });
            let (net, gateway) = (given.subnet, given.gateway);
            self.subnets.push(Subnet { net, gateway, range: None, aux: BTreeMap::new(), by_user: false });
        }
        self.document.ipam.config = Some(shown);
        Ok(())
    }
}

fn parse<T: std::str::FromStr>(text: &str) -> Result<T> {
    text.parse().map_err(|_| Error::invalid(format!("invalid address: {text}")))
}

fn check_name(ask: &NetworkCreateRequest) -> Result<()> {
    if ask.name.trim().is_empty() {
        return Err(Error::invalid("invalid name: name is empty"));
    }
    if super::BUILT_IN.contains(&ask.name.as_str()) || ask.name == "default" {
        let why = "operation is not permitted on predefined";
        return Err(Error::forbidden(format!("{why} {} network ", ask.name)));
    }
    Ok(())
}

fn check_driver(ask: &NetworkCreateRequest) -> Result<()> {
    if ask.config_only {
        return Ok(());
    }
    match ask.driver.as_str() {
        _ if ask.scope == "swarm" => {
            Err(Error::forbidden("cannot create a swarm scoped network when swarm is not active"))
        }
        _ if ask.ingress => Err(Error::forbidden("Ingress network can only be global scope network")),
        "bridge" | "macvlan" | "ipvlan" => Ok(()),
        "host" | "null" => {
            Err(Error::forbidden(format!("only one instance of {:?} network is allowed", ask.driver)))
        }
        "overlay" => Err(Error::forbidden(NO_MANAGER)),
        other => Err(Error::not_found(format!("plugin {other:?} not found"))),
    }
}

fn check_modes(network: &Network, options: &Options) -> Result<()> {
    use wharf_network::types::GatewayMode::Isolated;
    if options.parent.as_deref() == Some("lo") && matches!(network.driver.as_str(), "macvlan" | "ipvlan") {
        let why = "loopback interface is not a valid";
        return Err(Error::internal(format!("{why} {} parent link", network.driver)));
    }
    if !network.internal && (options.mode4 == Isolated || options.mode6 == Isolated) {
        return Err(Error::internal("gateway mode 'isolated' can only be used for an internal network"));
    }
    Ok(())
}

/// Checks subnets and addresses in themselves, all of them, in Docker's words.
fn validate_ipam(ipam: &Ipam) -> Result<()> {
    let mut problems = Vec::new();
    for config in ipam.config.iter().flatten() {
        problems_of(config, &mut problems);
    }
    let start = "invalid network config:\n";
    match problems.as_slice() {
        [] => Ok(()),
        [one] => Err(Error::invalid(format!("{start}{one}"))),
        many => Err(Error::invalid(format!("{start}* {}", many.join("\n* ")))),
    }
}

fn problems_of(config: &IpamConfig, problems: &mut Vec<String>) {
    let subnet = config.subnet.as_str();
    let Ok(net) = subnet.parse::<IpNet>() else {
        problems.push(format!("invalid subnet {subnet}: invalid CIDR block notation"));
        return;
    };
    if net != net.trunc() {
        problems.push(format!("invalid subnet {subnet}: it should be {}", net.trunc()));
    }
    let range = config.ip_range.as_str();
    match range.parse::<IpNet>() {
        _ if range.is_empty() => {}
        Err(_) => problems.push(format!("invalid ip-range {range}: invalid CIDR block notation")),
        Ok(inner) if inner.addr().is_ipv6() != net.addr().is_ipv6() => {
            problems.push(format!("invalid ip-range {range}: parent subnet {subnet} is of another family"));
        }
        Ok(inner) if !net.contains(&inner.network()) || inner.prefix_len() < net.prefix_len() => {
            problems
                .push(format!("invalid ip-range {range}: parent subnet {subnet} doesn't contain ip-range"));
        }
        Ok(inner) if inner != inner.trunc() => {
            problems.push(format!("invalid ip-range {range}: it should be {}", inner.trunc()));
        }
        Ok(_) => {}
    }
    let mut address = |what: &str, text: &str, name: &str| match text.parse::<IpAddr>() {
        Err(_) => problems.push(format!("invalid {what} {name}: invalid address")),
        Ok(address) if !net.contains(&address) => {
            let why = format!("parent subnet {subnet} doesn't contain this address");
            problems.push(format!("invalid {what} {name}: {why}"));
        }
        Ok(_) => {}
    };
    if !config.gateway.is_empty() {
        address("gateway", &config.gateway, &config.gateway);
    }
    for (name, text) in config.auxiliary_addresses.iter().flatten() {
        address("auxiliary address", text, name);
    }
}

/// A name that nobody else can make a network with meanwhile.
pub(super) struct Busy<'a> {
    networks: &'a Networks,
    name: String,
}

impl<'a> Busy<'a> {
    /// # Errors
    /// `network with name NAME already exists`.
    fn take(networks: &'a Networks, name: &str) -> Result<Self> {
        let mut state = networks.state();
        let exists = state.known.values().any(|known| known.name() == name);
        if exists || !state.busy.insert(name.to_owned()) {
            return Err(Error::conflict(format!("network with name {name} already exists")));
        }
        Ok(Self { networks, name: name.to_owned() })
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.networks.state().busy.remove(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(config: IpamConfig) -> String {
        let ipam = Ipam { config: Some(vec![config]), ..Ipam::default() };
        validate_ipam(&ipam).unwrap_err().message().trim_start_matches("invalid network config:\n").to_owned()
    }

    #[test]
    fn addresses_are_refused_as_recorded() {
        let of = |subnet: &str, range: &str, gateway: &str| IpamConfig {
            subnet: subnet.to_owned(),
            ip_range: range.to_owned(),
            gateway: gateway.to_owned(),
            auxiliary_addresses: None,
        };
        let net = "10.77.0.0/16";
        assert_eq!(refusal(of("x", "", "")), "invalid subnet x: invalid CIDR block notation");
        assert_eq!(
            refusal(of("10.77.0.5/16", "10.78.0.0/24", "x")),
            "* invalid subnet 10.77.0.5/16: it should be 10.77.0.0/16\n* invalid ip-range 10.78.0.0/24: parent \
             subnet 10.77.0.5/16 doesn't contain ip-range\n* invalid gateway x: invalid address"
        );
        assert_eq!(
            refusal(of(net, "10.77.0.1/24", "")),
            "invalid ip-range 10.77.0.1/24: it should be 10.77.0.0/24"
        );
        assert_eq!(
            refusal(of(net, "", "10.78.0.1")),
            "invalid gateway 10.78.0.1: parent subnet 10.77.0.0/16 doesn't contain this address"
        );
    }
}
