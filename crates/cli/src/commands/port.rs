//! `wharf port`.

use wharf_api::ContainerInspect;
use wharf_api::client::escape;

use super::Outcome;
use crate::connect::Target;
use crate::error::{CliError, print};

#[derive(Debug, clap::Args)]
pub(crate) struct Port {
    container: String,
    #[arg(value_name = "PRIVATE_PORT[/PROTO]")]
    port: Option<String>,
}

impl Port {
    pub(crate) async fn run(self, target: &Target) -> Outcome {
        let client = target.connect().await?;
        let container: ContainerInspect =
            client.get(&format!("/containers/{}/json", escape(&self.container))).await?;
        let wanted = self
            .port
            .as_ref()
            .map(|port| if port.contains('/') { port.clone() } else { format!("{port}/tcp") });
        let ports = container.network_settings.ports.into_iter();
        let mut found = false;
        for (port, bindings) in ports.filter(|(port, _)| wanted.as_ref().is_none_or(|wanted| wanted == port))
        {
            for binding in bindings.into_iter().flatten() {
                let host = if binding.host_ip.contains(':') {
                    format!("[{}]", binding.host_ip)
                } else {
                    binding.host_ip
                };
                let address = format!("{host}:{}", binding.host_port);
                print(&if wanted.is_some() { address } else { format!("{port} -> {address}") })?;
                found = true;
            }
        }
        match wanted {
            Some(_) if !found => Err(CliError::new(format!(
                "Error: No public port '{}' published for {}",
                self.port.as_deref().unwrap_or_default(),
                self.container
            ))),
            _ => Ok(0),
        }
    }
}
