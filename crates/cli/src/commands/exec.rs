//! `wharf exec`.

use std::path::PathBuf;

use wharf_api::client::{escape, json};
use wharf_api::{ExecCreateRequest, ExecInspect, IdResponse};

use super::{Outcome, run};
use crate::connect::Target;
use crate::detach::Keys;
use crate::error::CliError;
use crate::{streams, terminal};

#[derive(Debug, clap::Args)]
pub(crate) struct Exec {
    /// Detached mode: run command in the background
    #[arg(short, long)]
    detach: bool,
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "STRING", default_value = "", hide_default_value = true)]
    detach_keys: String,
    /// Set environment variables
    #[arg(short, long, value_name = "LIST")]
    env: Vec<String>,
    /// Read in a file of environment variables
    #[arg(long, value_name = "LIST")]
    env_file: Vec<PathBuf>,
    /// Keep STDIN open even if not attached
    #[arg(short, long)]
    interactive: bool,
    /// Give extended privileges to the command
    #[arg(long)]
    privileged: bool,
    /// Allocate a pseudo-TTY
    #[arg(short, long)]
    tty: bool,
    /// Username or UID (format: "<name|uid>[:<group|gid>]")
    #[arg(short, long, value_name = "STRING", default_value = "", hide_default_value = true)]
    user: String,
    /// Working directory inside the container
    #[arg(short, long, value_name = "STRING", default_value = "", hide_default_value = true)]
    workdir: String,
    container: String,
    #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

impl Exec {
    pub(crate) async fn run(mut self, target: &Target) -> Outcome {
        target.settle_detach_keys(&mut self.detach_keys);
        if self.tty && self.interactive && !self.detach && !terminal::stdin_is_terminal() {
            return Err(CliError::new("the input device is not a TTY"));
        }
        let client = target.connect().await?;
        let size = if self.tty { terminal::size() } else { None };
        let mut environment = Vec::new();
        for file in &self.env_file {
            let text = std::fs::read_to_string(file).map_err(|error| {
                CliError::new(format!("open {}: {}", file.display(), crate::error::reason(&error)))
            })?;
            environment.extend(
                text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned),
            );
        }
        environment.extend(self.env.iter().cloned());
        let request = ExecCreateRequest {
            attach_stdin: self.interactive && !self.detach,
            attach_stdout: !self.detach,
            attach_stderr: !self.detach,
            detach_keys: self.detach_keys.clone(),
            tty: self.tty,
            env: Some(environment),
            cmd: Some(self.command.clone()),
            privileged: self.privileged,
            user: self.user.clone(),
            working_dir: self.workdir.clone(),
            console_size: size.map(|(height, width)| [u32::from(height), u32::from(width)]),
        };
        let created: IdResponse =
            client.post(&format!("/containers/{}/exec", escape(&self.container)), &request).await?;
        let start = serde_json::json!({ "Detach": self.detach, "Tty": self.tty, "ConsoleSize": request.console_size });
        let path = format!("/exec/{}/start", created.id);
        if self.detach {
            client.bytes(hyper::Method::POST, &path, json(&start)?).await?;
            return Ok(0);
        }
        let keys = Keys::parse(&self.detach_keys)?;
        let connection = client.hijack(&path, json(&start)?).await?;
        let raw = (self.tty && self.interactive).then(terminal::Raw::enter).flatten();
        if self.tty {
            run::follow_size(client.clone(), format!("/exec/{}/resize", created.id));
        }
        let carried = streams::carry(connection, self.interactive, self.tty, keys).await;
        drop(raw);
        if carried? == streams::Ended::Detached {
            return Err(run::detached());
        }
        let ended: ExecInspect = client.get(&format!("/exec/{}/json", created.id)).await?;
        Ok(ended.exit_code.and_then(|code| i32::try_from(code).ok()).unwrap_or(0))
    }
}
