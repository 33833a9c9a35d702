//! Programs that keep credentials: `docker-credential-NAME get|store|erase`, JSON on their standard streams
//! (github.com/docker/docker-credential-helpers).

use std::io::Write;
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};
use wharf_api::AuthConfig;

use crate::error::{CliError, reason};

/// The name under which a helper keeps identity tokens.
const TOKEN: &str = "<token>";
/// What helpers say of a server that they know nothing of.
const NOT_FOUND: &str = "credentials not found in native keychain";

#[derive(Debug)]
pub(super) struct Helper {
    program: String,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Entry {
    #[serde(rename = "ServerURL")]
    server: String,
    username: String,
    secret: String,
}

impl Helper {
    pub(super) fn new(name: &str) -> Self {
        Self { program: format!("docker-credential-{name}") }
    }

    pub(super) fn get(&self, server: &str) -> Result<Option<AuthConfig>, CliError> {
        let Some(answer) = self.call("get", server.as_bytes())? else { return Ok(None) };
        let entry: Entry = serde_json::from_slice(&answer)?;
        let serveraddress = server.to_owned();
        Ok(Some(if entry.username == TOKEN {
            AuthConfig { identitytoken: entry.secret, serveraddress, ..AuthConfig::default() }
        } else {
            AuthConfig {
                username: entry.username,
                password: entry.secret,
                serveraddress,
                ..AuthConfig::default()
            }
        }))
    }

    pub(super) fn store(&self, auth: &AuthConfig) -> Result<(), CliError> {
        let (username, secret) = match auth.identitytoken.as_str() {
            "" => (auth.username.as_str(), auth.password.as_str()),
            token => (TOKEN, token),
        };
        let entry = Entry {
            server: auth.serveraddress.clone(),
            username: username.to_owned(),
            secret: secret.to_owned(),
        };
        self.call("store", &serde_json::to_vec(&entry)?).map(drop)
    }

    pub(super) fn erase(&self, server: &str) -> Result<(), CliError> {
        self.call("erase", server.as_bytes()).map(drop)
    }

    /// What the program answers; `None` when it knows nothing of the server.
    fn call(&self, verb: &str, input: &[u8]) -> Result<Option<Vec<u8>>, CliError> {
        let fail =
            |why: String| CliError::new(format!("error getting credentials - err: {}: {why}", self.program));
        let spawned = Command::new(&self.program)
            .arg(verb)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn();
        let mut child = spawned.map_err(|error| fail(reason(&error)))?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that reads nothing has its reasons to tell.
            let _ = stdin.write_all(input);
        }
        let output = child.wait_with_output().map_err(|error| fail(reason(&error)))?;
        if output.status.success() {
            return Ok(Some(output.stdout));
        }
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if said == NOT_FOUND { Ok(None) } else { Err(fail(format!("{}, out: `{said}`", output.status))) }
    }
}
