//! `wharf start`.

use wharf_api::ContainerInspect;
use wharf_api::client::escape;

use super::{Outcome, run};
use crate::connect::Target;
use crate::detach::Keys;
use crate::error::{CliError, print, say};
use crate::{streams, terminal};

#[derive(Debug, clap::Args)]
pub(crate) struct Start {
    /// Attach STDOUT/STDERR and forward signals
    #[arg(short, long)]
    attach: bool,
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "STRING", default_value = "", hide_default_value = true)]
    detach_keys: String,
    /// Attach container's STDIN
    #[arg(short, long)]
    interactive: bool,
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

impl Start {
    pub(crate) async fn run(mut self, target: &Target) -> Outcome {
        target.settle_detach_keys(&mut self.detach_keys);
        let client = target.connect().await?;
        if self.attach || self.interactive {
            return self.attached(&client).await;
        }
        let mut failed = Vec::new();
        for name in &self.containers {
            match run::start(&client, name).await {
                Ok(()) => print(name)?,
                Err(error) => {
                    say(error.message().trim_start_matches("wharf: "));
                    failed.push(name.as_str());
                }
            }
        }
        if failed.is_empty() {
            Ok(0)
        } else {
            Err(CliError::new(format!("Error: failed to start containers: {}", failed.join(", "))))
        }
    }

    async fn attached(&self, client: &wharf_api::client::Client) -> Outcome {
        let [name] = &self.containers[..] else {
            return Err(CliError::new("you cannot start and attach multiple containers at once"));
        };
        let container: ContainerInspect = client.get(&format!("/containers/{}/json", escape(name))).await?;
        let stdin = self.interactive && container.config.open_stdin;
        let keys = Keys::parse(&self.detach_keys)?;
        let connection = run::attach(client, &container.id, [stdin, true, true], &self.detach_keys).await?;
        let waiting = run::wait(client, &container.id, "next-exit").await?;
        let raw = (container.config.tty && stdin).then(terminal::Raw::enter).flatten();
        let carried = tokio::spawn(streams::carry(connection, stdin, container.config.tty, keys));
        run::start(client, &container.id).await.map_err(|error| error.with_code(1))?;
        if container.config.tty {
            run::follow_size(client.clone(), format!("/containers/{}/resize", container.id));
        } else {
            run::forward_signals(client.clone(), container.id.clone());
        }
        let outcome = run::finish(carried, waiting).await;
        drop(raw);
        Ok(outcome?.unwrap_or(0))
    }
}
