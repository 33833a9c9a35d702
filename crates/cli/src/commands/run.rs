//! `wharf run`: create, attach, wait and start, in the order that loses nothing.

use std::pin::Pin;

use hyper::Method;
use tokio::signal::unix::{SignalKind, signal};
use wharf_api::WaitResponse;
use wharf_api::client::{Client, Connection, escape};

use super::{Outcome, create, reach};
use crate::connect::Target;
use crate::container_flags::{ContainerFlags, request};
use crate::detach::Keys;
use crate::error::{CliError, print, say};
use crate::streams::{self, Ended};
use crate::{filters::path, terminal};

#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Run {
    /// Run container in background and print container ID
    #[arg(short, long)]
    detach: bool,
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "STRING", default_value = "", hide_default_value = true)]
    detach_keys: String,
    /// Proxy received signals to the process
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true", action = clap::ArgAction::Set)]
    sig_proxy: bool,
    #[command(flatten)]
    flags: ContainerFlags,
}

impl Run {
    pub(crate) async fn run(mut self, target: &Target) -> Outcome {
        target.settle_detach_keys(&mut self.detach_keys);
        let failed = |error: CliError| CliError::new(format!("wharf: {}", error.message())).with_code(125);
        let document = request(&self.flags, self.detach).map_err(failed)?;
        if self.detach && !self.flags.attach.is_empty() {
            return Err(CliError::new("conflicting options: cannot specify both --attach and --detach"));
        }
        if document.config.tty && document.config.attach_stdin && !terminal::stdin_is_terminal() {
            return Err(CliError::new("the input device is not a TTY"));
        }
        let client = target.connect().await.map_err(failed)?;
        let created = create::create(target, &client, &self.flags, &document).await.map_err(failed)?;
        let id = created.id;
        if self.detach {
            start(&client, &id).await?;
            print(&id)?;
            if self.flags.publishes() {
                reach::tell(&client, &id).await;
            }
            return Ok(0);
        }
        self.foreground(&client, &id, &document.config).await
    }

    async fn foreground(&self, client: &Client, id: &str, config: &wharf_api::ContainerConfig) -> Outcome {
        let keys = Keys::parse(&self.detach_keys)?;
        let connection = attach(
            client,
            id,
            [config.attach_stdin, config.attach_stdout, config.attach_stderr],
            &self.detach_keys,
        )
        .await?;
        // Registered before the start, so that even the shortest life is seen.
        let condition = if self.flags.rm { "removed" } else { "next-exit" };
        let waiting = wait(client, id, condition).await?;
        let raw = (config.tty && config.attach_stdin).then(terminal::Raw::enter).flatten();
        let carried = tokio::spawn(streams::carry(connection, config.attach_stdin, config.tty, keys));
        if let Err(error) = start(client, id).await {
            drop(raw);
            return Err(error);
        }
        if config.tty {
            follow_size(client.clone(), format!("/containers/{id}/resize"));
        } else if self.sig_proxy {
            forward_signals(client.clone(), id.to_owned());
        }
        let ended = finish(carried, waiting).await;
        drop(raw);
        Ok(ended?.unwrap_or(0))
    }
}

/// Waits for the streams' end and the exit code; `None` when the caller detached.
pub(super) async fn finish(
    carried: tokio::task::JoinHandle<Result<Ended, CliError>>,
    waiting: Waiting,
) -> Result<Option<i32>, CliError> {
    let waited = tokio::spawn(waiting);
    let streams = carried.await.unwrap_or_else(|error| Err(CliError::new(error.to_string())));
    if streams? == Ended::Detached {
        return Ok(None);
    }
    let ended = waited.await.map_err(|error| CliError::new(error.to_string()))??;
    if let Some(error) = ended.error {
        say(&format!("Error waiting for container: {}", error.message));
        return Ok(Some(125));
    }
    Ok(Some(i32::try_from(ended.status_code).unwrap_or(1)))
}

/// What Docker says where a detached caller is an error.
pub(super) fn detached() -> CliError {
    CliError::new("read escape sequence")
}

/// A wait that the daemon has taken note of.
pub(super) type Waiting = Pin<Box<dyn Future<Output = Result<WaitResponse, CliError>> + Send>>;

/// Registers a wait; the answer's head comes at once.
pub(super) async fn wait(client: &Client, id: &str, condition: &str) -> Result<Waiting, CliError> {
    use http_body_util::BodyExt;
    let path = format!("/containers/{id}/wait?condition={condition}");
    let answer = client.send(Method::POST, &path, wharf_api::client::Body::Empty, &[]).await?;
    Ok(Box::pin(async move {
        let bytes =
            answer.into_body().collect().await.map_err(|error| CliError::new(error.to_string()))?.to_bytes();
        wharf_api::from_slice(&bytes).map_err(|error| CliError::new(error.to_string()))
    }))
}

/// Attaches to the streams chosen (input, output, error).
pub(super) async fn attach(
    client: &Client,
    id: &str,
    [stdin, stdout, stderr]: [bool; 3],
    keys: &str,
) -> Result<Pin<Box<dyn Connection>>, CliError> {
    let flag = |set: bool| if set { "1" } else { "" };
    let query = [
        ("stream", "1"),
        ("stdin", flag(stdin)),
        ("stdout", flag(stdout)),
        ("stderr", flag(stderr)),
        ("detachKeys", &escape(keys)),
    ];
    Ok(client
        .hijack(&path(&format!("/containers/{id}/attach"), &query), wharf_api::client::Body::Empty)
        .await?)
}

/// Starts it; the exit code tells what was wrong with its program, as a shell's would.
pub(super) async fn start(client: &Client, id: &str) -> Result<(), CliError> {
    let Err(error) = client.call(Method::POST, &format!("/containers/{}/start", escape(id))).await else {
        return Ok(());
    };
    let text = error.to_string();
    let any = |needles: &[&str]| needles.iter().any(|needle| text.contains(needle));
    let code = match () {
        () if any(&[
            "executable file not found",
            "no such file or directory",
            "system cannot find the file specified",
        ]) =>
        {
            127
        }
        () if any(&["permission denied", "is a directory"]) => 126,
        () => 125,
    };
    Err(CliError::new(format!("wharf: {text}")).with_code(code))
}

/// Tells the terminal's size now and whenever it changes.
pub(super) fn follow_size(client: Client, path: String) {
    tokio::spawn(async move {
        let Ok(mut changes) = signal(SignalKind::window_change()) else { return };
        loop {
            if let Some((height, width)) = terminal::size() {
                // The process may be over already; its size matters to nobody then.
                let _ = client.call(Method::POST, &format!("{path}?h={height}&w={width}")).await;
            }
            if changes.recv().await.is_none() {
                return;
            }
        }
    });
}

/// Passes the signals that end a command on to the container.
pub(super) fn forward_signals(client: Client, id: String) {
    let kinds = [
        (SignalKind::interrupt(), "INT"),
        (SignalKind::terminate(), "TERM"),
        (SignalKind::hangup(), "HUP"),
        (SignalKind::quit(), "QUIT"),
        (SignalKind::user_defined1(), "USR1"),
        (SignalKind::user_defined2(), "USR2"),
    ];
    for (kind, name) in kinds {
        let (client, id) = (client.clone(), id.clone());
        tokio::spawn(async move {
            let Ok(mut signals) = signal(kind) else { return };
            while signals.recv().await.is_some() {
                let _ = client.call(Method::POST, &format!("/containers/{id}/kill?signal={name}")).await;
            }
        });
    }
}
