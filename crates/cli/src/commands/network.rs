//! `wharf network …`.

use clap::Subcommand;
use hyper::Method;
use serde_json::{Value, json};
use wharf_api::client::escape;

use super::{Outcome, commands, each, inspect, network_create, prune, ps};
use crate::connect::Target;
use crate::error::print;
use crate::filters::{path, query};
use crate::{format, units};

commands! {
    /// The verbs of networks.
    NetworkCommand {
        /// Connect a container to a network
        Connect(Connect),
        /// Create a network
        Create(network_create::Create),
        /// Disconnect a container from a network
        Disconnect(Disconnect),
        /// Display detailed information on one or more networks
        Inspect(Inspect),
        /// List networks
        #[command(visible_alias = "list")]
        Ls(Ls),
        /// Remove all unused networks
        Prune(prune::Networks),
        /// Remove one or more networks
        #[command(visible_alias = "remove")]
        Rm(Rm),
        /// Change the limits of a container's endpoint while it runs
        Update(Update),
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Inspect {
    /// Format output using a custom template: 'json' or 'TEMPLATE'
    #[arg(short, long, value_name = "STRING")]
    format: Option<String>,
    /// Verbose output for diagnostics
    #[arg(short, long)]
    verbose: bool,
    #[arg(value_name = "NETWORK", required = true)]
    names: Vec<String>,
}

impl Inspect {
    async fn run(self, target: &Target) -> Outcome {
        inspect::inspect(
            target,
            &self.names,
            self.format.as_deref(),
            &[("network", if self.verbose { "/networks/{}?verbose=true" } else { "/networks/{}" })],
            false,
        )
        .await
    }
}

const COLUMNS: [format::Column; 10] = [
    ("ID", "NETWORK ID"),
    ("Name", "NAME"),
    ("Driver", "DRIVER"),
    ("Scope", "SCOPE"),
    ("IPv4", "IPV4"),
    ("IPv6", "IPV6"),
    ("Internal", "INTERNAL"),
    ("Labels", "LABELS"),
    ("Label", ""),
    ("CreatedAt", "CREATED AT"),
];

/// As Go prints a time, in UTC.
fn created(text: &str) -> String {
    text.trim_end_matches('Z').replacen('T', " ", 1) + " +0000 UTC"
}

#[derive(Debug, clap::Args)]
pub(crate) struct Ls {
    /// Provide filter values (e.g. "driver=bridge")
    #[arg(short, long, value_name = "FILTER")]
    filter: Vec<String>,
    /// Format output using a custom template: 'table', 'table TEMPLATE', 'json' or 'TEMPLATE'
    #[arg(long, value_name = "STRING")]
    format: Option<String>,
    /// Do not truncate the output
    #[arg(long)]
    no_trunc: bool,
    /// Only display network IDs
    #[arg(short, long)]
    quiet: bool,
}

impl Ls {
    async fn run(self, target: &Target) -> Outcome {
        let client = target.connect().await?;
        let mut networks: Vec<wharf_api::Network> =
            client.get(&path("/networks", &[("filters", &query(&self.filter)?)])).await?;
        networks.sort_by(|a, b| a.name.cmp(&b.name));
        let id = |id: &str| if self.no_trunc { id.to_owned() } else { units::short_id(id) };
        if self.quiet && self.format.is_none() {
            networks.iter().try_for_each(|network| print(&id(&network.id)))?;
            return Ok(0);
        }
        let row = |network: &wharf_api::Network| -> format::Row {
            vec![
                ("ID", json!(id(&network.id))),
                ("Name", json!(network.name)),
                ("Driver", json!(network.driver)),
                ("Scope", json!(network.scope)),
                ("IPv4", json!(network.enable_ipv4.to_string())),
                ("IPv6", json!(network.enable_ipv6.to_string())),
                ("Internal", json!(network.internal.to_string())),
                ("Labels", json!(ps::joined(&network.labels.clone().unwrap_or_default()))),
                ("Label", json!(network.labels)),
                ("CreatedAt", json!(created(&network.created))),
            ]
        };
        let rows: Vec<format::Row> = networks.iter().map(row).collect();
        format::rows(self.format.as_deref(), &COLUMNS, &["ID", "Name", "Driver", "Scope"], &rows)?;
        Ok(0)
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Rm {
    /// Do not error if the network does not exist
    #[arg(short, long)]
    force: bool,
    #[arg(value_name = "NETWORK", required = true)]
    names: Vec<String>,
}

impl Rm {
    async fn run(self, target: &Target) -> Outcome {
        let client = target.connect().await?;
        let mut names = self.names;
        if self.force {
            let known: Vec<wharf_api::Network> = client.get("/networks").await?;
            names.retain(|name| {
                known.iter().any(|one| one.name == *name || (!name.is_empty() && one.id.starts_with(name)))
            });
        }
        each(&client, Method::DELETE, &names, |name| format!("/networks/{}", escape(name))).await
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Connect {
    /// Add network-scoped alias for the container
    #[arg(long, value_name = "STRINGS", value_delimiter = ',')]
    alias: Vec<String>,
    /// Driver options for the network
    #[arg(long, value_name = "STRINGS")]
    driver_opt: Vec<String>,
    /// Highest gw-priority provides the default gateway. Accepts positive and negative values
    #[arg(long, value_name = "INT", default_value_t = 0, allow_negative_numbers = true)]
    gw_priority: i64,
    /// IPv4 address (e.g., "172.30.100.104")
    #[arg(long, value_name = "STRING", default_value = "", hide_default_value = true)]
    ip: String,
    /// IPv6 address (e.g., "2001:db8::33")
    #[arg(long, value_name = "STRING", default_value = "", hide_default_value = true)]
    ip6: String,
    /// Add link to another container
    #[arg(long, value_name = "LIST")]
    link: Vec<String>,
    /// Add a link-local address for the container
    #[arg(long, value_name = "STRINGS")]
    link_local_ip: Vec<String>,
    network: String,
    container: String,
}

impl Connect {
    async fn run(self, target: &Target) -> Outcome {
        let client = target.connect().await?;
        let options: serde_json::Map<String, Value> = self
            .driver_opt
            .iter()
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(name, value)| (name.to_owned(), json!(value)))
            .collect();
        let request = json!({ "Container": self.container, "EndpointConfig": {
            "IPAMConfig": { "IPv4Address": self.ip, "IPv6Address": self.ip6, "LinkLocalIPs": self.link_local_ip },
            "Aliases": self.alias, "Links": self.link, "DriverOpts": options, "GwPriority": self.gw_priority,
        } });
        let path = format!("/networks/{}/connect", escape(&self.network));
        client.bytes(Method::POST, &path, wharf_api::client::json(&request)?).await?;
        Ok(0)
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Disconnect {
    /// Force the container to disconnect from a network
    #[arg(short, long)]
    force: bool,
    network: String,
    container: String,
}

impl Disconnect {
    async fn run(self, target: &Target) -> Outcome {
        let client = target.connect().await?;
        let request = json!({ "Container": self.container, "Force": self.force });
        let path = format!("/networks/{}/disconnect", escape(&self.network));
        client.bytes(Method::POST, &path, wharf_api::client::json(&request)?).await?;
        Ok(0)
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Update {
    /// New limits: io.wharf.egress=RATE, io.wharf.ingress=RATE; without a rate, none
    #[arg(long, value_name = "STRINGS", required = true)]
    driver_opt: Vec<String>,
    network: String,
    container: String,
}

impl Update {
    async fn run(self, target: &Target) -> Outcome {
        let client = target.connect().await?;
        let options = self.driver_opt.iter().map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let driver_opts = options.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let request = wharf_api::NetworkUpdateRequest { container: self.container, driver_opts };
        let path = format!("/networks/{}/update", escape(&self.network));
        client.bytes(Method::POST, &path, wharf_api::client::json(&request)?).await?;
        Ok(0)
    }
}
