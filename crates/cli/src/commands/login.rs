//! `wharf login` and `wharf logout`.

use std::io::{IsTerminal, Write};

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use wharf_api::client::ClientError;
use wharf_api::{AuthConfig, AuthResponse};

use super::Outcome;
use crate::connect::Target;
use crate::credentials::{Credentials, HUB, Kept, server_named};
use crate::error::{CliError, print, say};

#[derive(Debug, clap::Args)]
pub(crate) struct Login {
    /// Password or Personal Access Token (PAT)
    #[arg(short, long, value_name = "STRING", default_value = "", hide_default_value = true)]
    password: String,
    /// Take the Password or Personal Access Token (PAT) from stdin
    #[arg(long)]
    password_stdin: bool,
    /// Username
    #[arg(short, long, value_name = "STRING", default_value = "", hide_default_value = true)]
    username: String,
    #[arg(value_name = "SERVER", default_value = HUB, hide_default_value = true)]
    server: String,
}

impl Login {
    pub(crate) async fn run(self, target: &Target) -> Outcome {
        if self.password_stdin && !self.password.is_empty() {
            return Err(CliError::new(
                "conflicting options: cannot specify both --password and --password-stdin",
            ));
        }
        if self.password_stdin && self.username.is_empty() {
            return Err(CliError::new("the --password-stdin option requires --username to be set"));
        }
        if !self.password.is_empty() {
            say("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
        }
        let server = server_named(&self.server);
        let mut kept = Credentials::open(&target.config_folder())?;
        if self.username.is_empty() && self.password.is_empty() && again(target, &mut kept, &server).await? {
            return Ok(0);
        }
        let auth = self.ask(server)?;
        let auth = log_in(target, auth).await?;
        keep(&mut kept, &auth)
    }

    /// What the flags say, or the user at the terminal.
    fn ask(self, serveraddress: String) -> Result<AuthConfig, CliError> {
        let (mut username, mut password) = (self.username, self.password);
        if self.password_stdin {
            let text = std::io::read_to_string(std::io::stdin())?;
            password = text.trim_end_matches('\n').trim_end_matches('\r').to_owned();
        }
        if username.is_empty() || password.is_empty() {
            if !std::io::stdin().is_terminal() {
                return Err(CliError::new(
                    "Error: Cannot perform an interactive login from a non TTY device",
                ));
            }
            if username.is_empty() {
                username = question("Username: ", false)?;
            }
            password = question("Password: ", true)?;
        }
        if username.is_empty() || password.is_empty() {
            let what = if username.is_empty() { "username" } else { "password" };
            return Err(CliError::new(format!("Error: {what} is required")));
        }
        Ok(AuthConfig { username, password, serveraddress, ..AuthConfig::default() })
    }
}

/// Tries what is kept already; whether that was enough.
async fn again(target: &Target, kept: &mut Credentials, server: &str) -> Result<bool, CliError> {
    let known = kept.get(server)?;
    if known.username.is_empty() && known.identitytoken.is_empty() {
        return Ok(false);
    }
    say(&format!("Authenticating with existing credentials... [Username: {}]", known.username));
    say("\n Info -> To login with a different account, run 'wharf logout' followed by 'wharf login'\n");
    match log_in(target, known).await {
        Ok(auth) => keep(kept, &auth).map(|_| true),
        Err(error) => {
            say(&format!("Login did not succeed, error: {}", error.message()));
            Ok(false)
        }
    }
}

/// Has the daemon try credentials; an identity token takes the password's place.
async fn log_in(target: &Target, auth: AuthConfig) -> Result<AuthConfig, CliError> {
    let client = target.connect().await?;
    let answer: AuthResponse = client.post("/auth", &auth).await.map_err(|error| match error {
        ClientError::Api { .. } => CliError::from(error),
        other => other.into(),
    })?;
    if answer.identity_token.is_empty() {
        return Ok(auth);
    }
    Ok(AuthConfig { identitytoken: answer.identity_token, password: String::new(), ..auth })
}

fn keep(kept: &mut Credentials, auth: &AuthConfig) -> Outcome {
    if let Kept::Plain(path) = kept.put(auth)? {
        say(&format!(
            "\nWARNING! Your credentials are stored unencrypted in '{}'.\nConfigure a credential helper to remove this \
             warning. See\nhttps://docs.docker.com/go/credential-store/\n",
            path.display()
        ));
    }
    print("Login Succeeded")?;
    Ok(0)
}

/// Asks at the terminal; what is typed to a hidden question is not shown.
fn question(text: &str, hidden: bool) -> Result<String, CliError> {
    let mut out = std::io::stdout();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    let before = if hidden { tcgetattr(std::io::stdin()).ok() } else { None };
    if let Some(before) = &before {
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        tcsetattr(std::io::stdin(), OptionalActions::Now, &quiet).map_err(std::io::Error::from)?;
    }
    let mut line = String::new();
    let read = std::io::stdin().read_line(&mut line);
    if let Some(before) = &before {
        // Nothing can be done for a terminal that is gone.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, before);
        print("")?;
    }
    read?;
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}

#[derive(Debug, clap::Args)]
pub(crate) struct Logout {
    #[arg(value_name = "SERVER", default_value = HUB, hide_default_value = true)]
    server: String,
}

impl Logout {
    pub(crate) async fn run(self, target: &Target) -> Outcome {
        let server = server_named(&self.server);
        print(&format!("Removing login credentials for {server}"))?;
        Credentials::open(&target.config_folder())?.erase(&server)?;
        Ok(0)
    }
}
