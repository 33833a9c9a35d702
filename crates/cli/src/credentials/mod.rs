//! Credentials for registries, kept where Docker's client keeps them: in `config.json`, or by a helper program that it
//! names (`credsStore`, `credHelpers`).

mod file;
mod helper;

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use wharf_api::AuthConfig;
use wharf_oci::Reference;

use crate::error::CliError;
use file::File;
use helper::Helper;

/// The key of Docker Hub's credentials.
pub(crate) const HUB: &str = "https://index.docker.io/v1/";

/// The credentials of one user.
#[derive(Debug)]
pub(crate) struct Credentials {
    file: File,
}

/// Where credentials went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kept {
    /// Into the file, for whoever can read it.
    Plain(PathBuf),
    /// To a helper.
    Helper,
}

impl Credentials {
    /// Those of the client configuration in `folder`; a missing file is an empty one.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(crate) fn open(folder: &Path) -> Result<Self, CliError> {
        Ok(Self { file: File::read(folder.join("config.json"))? })
    }

    /// What is kept for a server; nothing is the empty document.
    ///
    /// # Errors
    /// When the helper fails.
    pub(crate) fn get(&self, server: &str) -> Result<AuthConfig, CliError> {
        let found = match self.helper(server) {
            Some(helper) => helper.get(server)?,
            None => self.file.get(server),
        };
        let mut auth = found.unwrap_or_default();
        if auth.serveraddress.is_empty() && auth != AuthConfig::default() {
            server.clone_into(&mut auth.serveraddress);
        }
        Ok(auth)
    }

    /// Keeps credentials for `auth.serveraddress`.
    ///
    /// # Errors
    /// When the helper or the file fails.
    pub(crate) fn put(&mut self, auth: &AuthConfig) -> Result<Kept, CliError> {
        if let Some(helper) = self.helper(&auth.serveraddress) {
            helper.store(auth)?;
            // What an earlier login left in the open goes.
            self.file.mention(&auth.serveraddress)?;
            return Ok(Kept::Helper);
        }
        self.file.put(auth)?;
        Ok(Kept::Plain(self.file.path().to_owned()))
    }

    /// Forgets a server's credentials; none is no error.
    ///
    /// # Errors
    /// When the helper or the file fails.
    pub(crate) fn erase(&mut self, server: &str) -> Result<(), CliError> {
        if let Some(helper) = self.helper(server) {
            helper.erase(server)?;
        }
        self.file.erase(server)
    }

    fn helper(&self, server: &str) -> Option<Helper> {
        self.file.helper(server).map(Helper::new)
    }
}

/// The key of a repository's credentials: the registry's host, but for the hub.
pub(crate) fn server_of(reference: &Reference) -> &str {
    match reference.domain() {
        "docker.io" => HUB,
        domain => domain,
    }
}

/// The key that a user's word for a server means.
pub(crate) fn server_named(word: &str) -> String {
    let bare = word.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    match bare {
        "" | "docker.io" | "index.docker.io" | "registry-1.docker.io" | "index.docker.io/v1" => {
            HUB.to_owned()
        }
        // Whatever else Docker does with paths, only the host counts.
        other => other.split('/').next().unwrap_or(other).to_owned(),
    }
}

/// The `X-Registry-Auth` for a repository. A helper that fails is told, and nobody's credentials are sent: whether that
/// suffices, the registry says.
pub(crate) fn header(folder: &Path, reference: &Reference) -> String {
    let found = Credentials::open(folder).and_then(|kept| kept.get(server_of(reference)));
    let auth = found.unwrap_or_else(|error| {
        crate::error::say(&format!("WARNING: {}", error.message()));
        AuthConfig::default()
    });
    encode(&auth)
}

fn encode(auth: &AuthConfig) -> String {
    // A document of strings always serialises.
    URL_SAFE.encode(serde_json::to_vec(auth).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_named_as_dockers() {
        assert_eq!(server_named("docker.io"), HUB);
        assert_eq!(server_named("https://localhost:5000/v2/"), "localhost:5000");
        assert_eq!(server_of(&"busybox".parse().unwrap()), HUB);
        assert_eq!(server_of(&"localhost:5000/x".parse().unwrap()), "localhost:5000");
    }

    #[test]
    fn nobody_is_the_empty_document() {
        assert_eq!(encode(&AuthConfig::default()), "e30=");
    }
}
