//! `wharf attach`.

use wharf_api::ContainerInspect;
use wharf_api::client::escape;

use super::{Outcome, run};
use crate::connect::Target;
use crate::detach::Keys;
use crate::error::CliError;
use crate::{streams, terminal};

#[derive(Debug, clap::Args)]
pub(crate) struct Attach {
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "STRING", default_value = "", hide_default_value = true)]
    detach_keys: String,
    /// Do not attach STDIN
    #[arg(long)]
    no_stdin: bool,
    /// Proxy all received signals to the process
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true", action = clap::ArgAction::Set)]
    sig_proxy: bool,
    container: String,
}

impl Attach {
    pub(crate) async fn run(mut self, target: &Target) -> Outcome {
        target.settle_detach_keys(&mut self.detach_keys);
        let client = target.connect().await?;
        let container: ContainerInspect =
            client.get(&format!("/containers/{}/json", escape(&self.container))).await?;
        if !container.state.running {
            return Err(CliError::new("You cannot attach to a stopped container, start it first"));
        }
        if container.state.paused {
            return Err(CliError::new("You cannot attach to a paused container, unpause it first"));
        }
        let (tty, stdin) = (container.config.tty, container.config.open_stdin && !self.no_stdin);
        let keys = Keys::parse(&self.detach_keys)?;
        let connection = run::attach(&client, &container.id, [stdin, true, true], &self.detach_keys).await?;
        let waiting = run::wait(&client, &container.id, "not-running").await?;
        let raw = (tty && stdin).then(terminal::Raw::enter).flatten();
        if tty {
            run::follow_size(client.clone(), format!("/containers/{}/resize", container.id));
        } else if self.sig_proxy {
            run::forward_signals(client.clone(), container.id.clone());
        }
        let carried = tokio::spawn(streams::carry(connection, stdin, tty, keys));
        let outcome = run::finish(carried, waiting).await;
        drop(raw);
        outcome?.ok_or_else(run::detached)
    }
}
