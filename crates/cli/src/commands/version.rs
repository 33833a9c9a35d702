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
        let own = json!({ "Version": env!("CARGO_PKG_VERSION"), "ApiVersion": client.version(), "DefaultAPIVersion": NEWEST, "Os": os, "Arch": arch });
        let both = json!({ "Client": own, "Server": server });
        if let Some(template) = &self.format {
            print(&format::document(template, &both)?)?;
            return Ok(0);
        }
        let word = |name: &str| server[name].as_str().unwrap_or("").to_owned();
        print(&format!("Client: Wharf\n Version:           {}\n API version:       {}\n OS/Arch:           {os}/{arch}\n", env!("CARGO_PKG_VERSION"), client.version()))?;
        print(&format!(
            "Server: {}\n Engine:\n  Version:          {}\n  API version:      {} (minimum version {})\n  OS/Arch:          {}/{}\n  Kernel:           {}",
            server["Platform"]["Name"].as_str().unwrap_or(""),
            word("Version"),
            word("ApiVersion"),
            word("MinAPIVersion"),
            word("Os"),
            word("Arch"),
            word("KernelVersion")
        ))?;
        Ok(0)
    }
}

/// The machine in Go's words.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
