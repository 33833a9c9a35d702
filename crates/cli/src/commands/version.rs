//! `wharf version`.

use serde_json::{Value, json};
use wharf_api::client::NEWEST;

use super::Outcome;
use crate::connect::Target;
use crate::error::print;
use crate::format;

#[derive(Debug, clap::Args)]
pub(crate) struct Version {
    /// Format output using a custom template: 'json' or 'TEMPLATE'
    #[arg(short, long, value_name = "STRING")]
    format: Option<String>,
}

impl Version {
    pub(crate) async fn run(self, target: &Target) -> Outcome {
        let client = target.connect().await?;
        let server: Value = client.get("/version").await?;
        let (os, arch) = (std::env::consts::OS, architecture());
        let own = json!({
            "Version": env!("CARGO_PKG_VERSION"), "ApiVersion": client.version(), "DefaultAPIVersion": NEWEST, "GitCommit": "", "GoVersion": "",
            "Os": os, "Arch": arch, "BuildTime": "", "Context": target.context_name(),
        });
        let both = json!({ "Client": own, "Server": server });
        if let Some(template) = &self.format {
            print(&format::document(template, &both)?)?;
            return Ok(0);
        }
        print(&format!(
            "Client:\n Version:           {}\n API version:       {}\n OS/Arch:           {os}/{arch}\n Context:           {}\n",
            env!("CARGO_PKG_VERSION"),
            client.version(),
            target.context_name()
        ))?;
        print(page(&server).trim_end())?;
        Ok(0)
    }
}

/// The server's part: what it says of itself, then its other components.
fn page(server: &Value) -> String {
    use std::fmt::Write;

    let word = |name: &str| server[name].as_str().unwrap_or("").to_owned();
    let mut text = format!("Server: {}\n", server["Platform"]["Name"].as_str().unwrap_or(""));
    // Writing to a string cannot fail.
    let mut line = |name: &str, value: &str| {
        let _ = if value.is_empty() && name != "Version" {
            writeln!(text, " {name}:")
        } else {
            writeln!(text, "  {:<17} {value}", format!("{name}:"))
        };
    };
    let components: Vec<&Value> = server["Components"].as_array().into_iter().flatten().collect();
    for component in &components {
        let detail = |name: &str| component["Details"][name].as_str().unwrap_or("").to_owned();
        let engine = component["Name"] == "Engine";
        line(component["Name"].as_str().unwrap_or(""), "");
        line("Version", component["Version"].as_str().unwrap_or(""));
        if engine {
            line(
                "API version",
                &format!("{} (minimum version {})", word("ApiVersion"), word("MinAPIVersion")),
            );
            line("OS/Arch", &format!("{}/{}", word("Os"), word("Arch")));
            line("Kernel", &word("KernelVersion"));
            line("Experimental", &detail("Experimental"));
        } else {
            let commit = detail("GitCommit");
            if !commit.is_empty() {
                line("GitCommit", &commit);
            }
        }
    }
    text
}

/// The machine in Go's words.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
