//! Commands of Docker's that are known and not there: building, registries, swarm, plugins.

use serde_json::json;

use super::{Outcome, prune};
use crate::connect::Target;
use crate::error::{CliError, print};

/// A command of which nothing is there; its arguments are not looked at.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Absent<const WHAT: u8> {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    arguments: Vec<String>,
}

/// What is not there.
const NAMES: [&str; 9] =
    ["build", "swarm", "node", "service", "stack", "secret", "config", "checkpoint", "manifest"];

impl<const WHAT: u8> Absent<WHAT> {
    pub(crate) async fn run(self, _target: &Target) -> Outcome {
        let (name, given) = (NAMES[usize::from(WHAT)], self.arguments.join(" "));
        let given = if given.is_empty() { String::new() } else { format!(" {given}") };
        Err(CliError::new(format!("wharf {name}{given}: {name} is not available in this version of Wharf")))
    }
}

/// `wharf builder prune`: there is no build cache, so nothing is freed.
#[derive(Debug, clap::Args)]
pub(crate) struct BuilderPrune {
    /// Remove all unused build cache, not just dangling ones
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    common: prune::Common,
}

impl BuilderPrune {
    pub(crate) async fn run(self, target: &Target) -> Outcome {
        let what = if self.all {
            "This will remove all build cache."
        } else {
            "This will remove all dangling build cache."
        };
        self.common.build_cache(target, what, self.all).await
    }
}

/// `wharf plugin ls`: no plugin can be installed.
#[derive(Debug, clap::Args)]
pub(crate) struct Plugins {
    /// Provide filter values (e.g. "enabled=true")
    #[arg(short, long, value_name = "FILTER")]
    filter: Vec<String>,
    /// Format output using a custom template: 'table', 'table TEMPLATE', 'json' or 'TEMPLATE'
    #[arg(long, value_name = "STRING")]
    format: Option<String>,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only display plugin IDs
    #[arg(short, long)]
    quiet: bool,
}

const PLUGIN_COLUMNS: [crate::format::Column; 4] =
    [("ID", "ID"), ("Name", "NAME"), ("Description", "DESCRIPTION"), ("Enabled", "ENABLED")];

impl Plugins {
    pub(crate) async fn run(self, target: &Target) -> Outcome {
        let client = target.connect().await?;
        let path = crate::filters::path("/plugins", &[("filters", &crate::filters::query(&self.filter)?)]);
        let found: Vec<serde_json::Value> = client.get(&path).await?;
        let id = |plugin: &serde_json::Value| {
            let id = plugin["Id"].as_str().unwrap_or_default();
            if self.no_trunc { id.to_owned() } else { crate::units::short_id(id) }
        };
        if self.quiet {
            found.iter().try_for_each(|plugin| print(&id(plugin)))?;
            return Ok(0);
        }
        let row = |plugin: &serde_json::Value| -> crate::format::Row {
            vec![
                ("ID", json!(id(plugin))),
                ("Name", plugin["Name"].clone()),
                ("Description", plugin["Config"]["Description"].clone()),
                ("Enabled", plugin["Enabled"].clone()),
            ]
        };
        let rows: Vec<_> = found.iter().map(row).collect();
        crate::format::rows(
            self.format.as_deref(),
            &PLUGIN_COLUMNS,
            &["ID", "Name", "Description", "Enabled"],
            &rows,
        )?;
        Ok(0)
    }
}
