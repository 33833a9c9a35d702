//! `wharf context …`: the contexts of Docker's client.

mod create;
mod transfer;

use clap::Subcommand;
use serde_json::{Value, json};

use self::create::{Create, Rm, Update};
use self::transfer::{Export, Import};
use super::{Outcome, commands};
use crate::connect::Target;
use crate::contexts::{self, Context};
use crate::error::{CliError, print, say};
use crate::format;

commands! {
    /// The verbs of contexts.
    ContextCommand {
        /// Create a context
        Create(Create),
        /// Export a context to a tar archive FILE or a tar stream on STDOUT
        Export(Export),
        /// Import a context from a tar or zip file
        Import(Import),
        /// Display detailed information on one or more contexts
        Inspect(Inspect),
        /// List contexts
        #[command(visible_alias = "list")]
        Ls(Ls),
        /// Remove one or more contexts
        #[command(visible_alias = "remove")]
        Rm(Rm),
        /// Print the name of the current context
        Show(Show),
        /// Update a context
        Update(Update),
        /// Set the current docker context
        Use(Use),
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Show {}

impl Show {
    async fn run(self, target: &Target) -> Outcome {
        print(&target.context_name())?;
        Ok(0)
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Use {
    #[arg(value_name = "CONTEXT")]
    name: String,
}

impl Use {
    async fn run(self, target: &Target) -> Outcome {
        contexts::choose(&target.config_folder(), &self.name)?;
        print(&self.name)?;
        say(&format!("Current context is now \"{}\"", self.name));
        if contexts::overriding().is_some_and(|_| self.name != contexts::DEFAULT) {
            say(&format!(
                "Warning: {} To use \"{}\", either set the global --context flag, or unset DOCKER_HOST environment variable.",
                overridden(),
                self.name
            ));
        }
        Ok(0)
    }
}

fn overridden() -> String {
    format!(
        "{} environment variable overrides the active context.",
        contexts::overriding().unwrap_or_default()
    )
}

#[derive(Debug, clap::Args)]
pub(crate) struct Ls {
    /// Format output using a custom template: 'table', 'table TEMPLATE', 'json' or 'TEMPLATE'
    #[arg(long, value_name = "STRING")]
    format: Option<String>,
    /// Only show context names
    #[arg(short, long)]
    quiet: bool,
}

const COLUMNS: [format::Column; 5] = [
    ("Name", "NAME"),
    ("Description", "DESCRIPTION"),
    ("DockerEndpoint", "DOCKER ENDPOINT"),
    ("Error", "ERROR"),
    ("Current", "CURRENT"),
];

impl Ls {
    async fn run(self, target: &Target) -> Outcome {
        let (all, current) =
            (contexts::all(&target.config_folder(), &target.default_address()), target.context_name());
        let table = self.format.as_deref().is_none_or(|format| format.starts_with("table"));
        let row = |context: &Context| -> format::Row {
            let mark = if table && context.name == current { " *" } else { "" };
            vec![
                ("Name", json!(format!("{}{mark}", context.name))),
                ("Description", json!(context.description)),
                ("DockerEndpoint", json!(context.host)),
                ("Error", json!("")),
                ("Current", json!(context.name == current)),
            ]
        };
        if self.quiet {
            all.iter().try_for_each(|context| print(&context.name))?;
        } else {
            format::rows(
                self.format.as_deref(),
                &COLUMNS,
                &["Name", "Description", "DockerEndpoint", "Error"],
                &all.iter().map(row).collect::<Vec<_>>(),
            )?;
        }
        if contexts::overriding().is_some() {
            say(&format!(
                "Warning: {} To use a context, either set the global --context flag, or unset DOCKER_HOST environment variable.",
                overridden()
            ));
        }
        Ok(0)
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Inspect {
    /// Format output using a custom template: 'json' or 'TEMPLATE'
    #[arg(short, long, value_name = "STRING")]
    format: Option<String>,
    #[arg(value_name = "CONTEXT")]
    names: Vec<String>,
}

impl Inspect {
    async fn run(self, target: &Target) -> Outcome {
        let all = contexts::all(&target.config_folder(), &target.default_address());
        let names = if self.names.is_empty() { vec![target.context_name()] } else { self.names };
        let mut documents = Vec::new();
        for name in &names {
            let found = all.iter().find(|context| context.name == *name);
            documents.push(
                found
                    .map(document)
                    .ok_or_else(|| CliError::new(format!("context \"{name}\": context not found")))?,
            );
        }
        match &self.format {
            Some(format) => {
                documents.iter().try_for_each(|document| print(&format::document(format, document)?))?
            }
            None => print(&format::indented(&Value::Array(documents).to_string()))?,
        }
        Ok(0)
    }
}

fn document(context: &Context) -> Value {
    let metadata = if context.description.is_empty() || context.name == contexts::DEFAULT {
        json!({})
    } else {
        json!({ "Description": context.description })
    };
    json!({
        "Name": context.name,
        "Metadata": metadata,
        "Endpoints": { "docker": { "Host": context.host, "SkipTLSVerify": false } },
        "TLSMaterial": {},
        "Storage": { "MetadataPath": context.folder, "TLSPath": context.folder },
    })
}
