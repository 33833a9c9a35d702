//! `wharf network …`.

use clap::Subcommand;
use hyper::Method;
use serde_json::{Value, json};
use wharf_api::client::escape;

use super::{Outcome, commands, each, inspect, prune};
use crate::connect::Target;
use crate::error::{CliError, print};
use crate::filters::{path, query};
use crate::{format, units};

commands! {
    /// The verbs of networks.
    NetworkCommand {
        /// Create a network
        Create(Create),
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
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// Driver to manage the Network
    #[arg(short, long, value_name = "STRING", default_value = "bridge")]
    driver: String,
    /// Set metadata on a network
    #[arg(long, value_name = "LIST")]
    label: Vec<String>,
    /// Restrict external access to the network
    #[arg(long)]
    internal: bool,
    /// Set driver specific options
    #[arg(short, long, value_name = "MAP")]
    opt: Vec<String>,
    name: String,
}

impl Create {
    async fn run(self, target: &Target) -> Outcome {
        let client = target.connect().await?;
        let pairs = |list: &[String]| -> serde_json::Map<String, Value> {
            list.iter().map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(name, value)| (name.to_owned(), json!(value))).collect()
        };
        let request = json!({ "Name": self.name, "Driver": self.driver, "Internal": self.internal, "Labels": pairs(&self.label), "Options": pairs(&self.opt) });
        let made: Value = client.post("/networks/create", &request).await?;
        print(made["Id"].as_str().unwrap_or_default())?;
        Ok(0)
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Inspect {
    /// Format output using a custom template: 'json' or 'TEMPLATE'
    #[arg(short, long, value_name = "STRING")]
    format: Option<String>,
    #[arg(value_name = "NETWORK", required = true)]
    names: Vec<String>,
}

impl Inspect {
    async fn run(self, target: &Target) -> Outcome {
        inspect::inspect(target, &self.names, self.format.as_deref(), &[("network", "/networks/{}")], false).await
    }
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
        let networks: Vec<wharf_api::Network> = client.get(&path("/networks", &[("filters", &query(&self.filter)?)])).await?;
        let id = |id: &str| if self.no_trunc { id.to_owned() } else { units::short_id(id) };
        if self.quiet {
            networks.iter().try_for_each(|network| print(&id(&network.id)))?;
            return Ok(0);
        }
        let row = |network: &wharf_api::Network| -> format::Row {
            vec![
                ("ID", "NETWORK ID", json!(id(&network.id))),
                ("Name", "NAME", json!(network.name)),
                ("Driver", "DRIVER", json!(network.driver)),
                ("Scope", "SCOPE", json!(network.scope)),
                ("Internal", "INTERNAL", json!(network.internal.to_string())),
            ]
        };
        let rows: Vec<format::Row> = networks.iter().map(row).collect();
        format::rows(self.format.as_deref(), &["ID", "Name", "Driver", "Scope"], &rows)?;
        Ok(0)
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Rm {
    #[arg(value_name = "NETWORK", required = true)]
    names: Vec<String>,
}

impl Rm {
    async fn run(self, target: &Target) -> Outcome {
        if self.names.iter().any(|name| escape(name).is_empty()) {
            return Err(CliError::new("a network has a name"));
        }
        let client = target.connect().await?;
        each(&client, Method::DELETE, &self.names, |name| format!("/networks/{name}")).await
    }
}
