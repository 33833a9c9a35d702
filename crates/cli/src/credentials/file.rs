//! `config.json`: what is in it beside credentials stays as it is.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use wharf_api::AuthConfig;

use crate::error::{CliError, reason};

/// The file, read.
#[derive(Debug)]
pub(super) struct File {
    path: PathBuf,
    document: Map<String, Value>,
}

impl File {
    pub(super) fn read(path: PathBuf) -> Result<Self, CliError> {
        let fail = |why: String| CliError::new(format!("loading config file: {}: {why}", path.display()));
        let document = match fs::read(&path) {
            Ok(bytes) if bytes.is_empty() => Map::new(),
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| fail(error.to_string()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Map::new(),
            Err(error) => return Err(fail(reason(&error))),
        };
        Ok(Self { path, document })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The helper program's suffix for a server.
    pub(super) fn helper(&self, server: &str) -> Option<&str> {
        let of_server = self.document.get("credHelpers").and_then(|helpers| helpers.get(server));
        let of_all = self.document.get("credsStore");
        of_server.or(of_all)?.as_str().filter(|name| !name.is_empty())
    }

    /// The credentials in the file itself; other spellings of the same host count too.
    pub(super) fn get(&self, server: &str) -> Option<AuthConfig> {
        let all = self.document.get("auths")?.as_object()?;
        let same = |key: &&String| super::server_named(key) == super::server_named(server);
        let entry = all.get(server).or_else(|| all.keys().find(same).and_then(|key| all.get(key)))?;
        let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let pair = STANDARD.decode(text("auth")).unwrap_or_default();
        let pair = String::from_utf8_lossy(&pair).into_owned();
        let (username, password) = pair.split_once(':').unwrap_or_default();
        let auth = AuthConfig {
            username: if username.is_empty() { text("username") } else { username.to_owned() },
            password: password.trim_end_matches('\0').to_owned(),
            identitytoken: text("identitytoken"),
            registrytoken: text("registrytoken"),
            ..AuthConfig::default()
        };
        Some(auth).filter(|auth| *auth != AuthConfig::default())
    }

    pub(super) fn put(&mut self, auth: &AuthConfig) -> Result<(), CliError> {
        // With an identity token the password is not needed any more.
        let password = if auth.identitytoken.is_empty() { auth.password.as_str() } else { "" };
        let pair = STANDARD.encode(format!("{}:{password}", auth.username));
        let mut entry = Map::from_iter([("auth".to_owned(), json!(pair))]);
        if !auth.identitytoken.is_empty() {
            entry.insert("identitytoken".to_owned(), json!(auth.identitytoken));
        }
        self.auths().insert(auth.serveraddress.clone(), Value::Object(entry));
        self.write()
    }

    /// Notes that a helper has something for the server.
    pub(super) fn mention(&mut self, server: &str) -> Result<(), CliError> {
        self.auths().insert(server.to_owned(), json!({}));
        self.write()
    }

    pub(super) fn erase(&mut self, server: &str) -> Result<(), CliError> {
        let same = |key: &String| super::server_named(key) == super::server_named(server);
        let keys: Vec<String> = self.auths().keys().filter(|key| same(key)).cloned().collect();
        if keys.is_empty() {
            return Ok(());
        }
        for key in keys {
            self.auths().remove(&key);
        }
        self.write()
    }

    fn auths(&mut self) -> &mut Map<String, Value> {
        let auths = self.document.entry("auths").or_insert_with(|| json!({}));
        if !auths.is_object() {
            *auths = json!({});
        }
        // Just made one if it was none.
        match auths {
            Value::Object(auths) => auths,
            _ => unreachable!("auths is an object"),
        }
    }

    /// Replaces the file at once, for its owner's eyes only; a link stays one.
    fn write(&self) -> Result<(), CliError> {
        let path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let fail = |error: &std::io::Error| {
            CliError::new(format!("saving credentials: {}: {}", path.display(), reason(error)))
        };
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| fail(&error))?;
        let beside = folder.join(format!(".config.json.{}", std::process::id()));
        let write = || {
            let mut file =
                fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
            file.write_all(&tabbed(&self.document))?;
            file.sync_all()?;
            fs::rename(&beside, &path)
        };
        write().map_err(|error| {
            // What was begun is of no use.
            let _ = fs::remove_file(&beside);
            fail(&error)
        })
    }
}

/// JSON indented by tabs, as Docker's client writes it.
fn tabbed(document: &Map<String, Value>) -> Vec<u8> {
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
    // Values always serialise into memory.
    let _ = serde::Serialize::serialize(document, &mut serializer);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_found_and_the_rest_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        fs::write(&path, r#"{"detachKeys": "ctrl-a"}"#).unwrap();
        let auth = AuthConfig {
            username: "me".into(),
            password: "a:b".into(),
            serveraddress: "localhost:5000".into(),
            ..AuthConfig::default()
        };
        File::read(path.clone()).unwrap().put(&auth).unwrap();
        let mut file = File::read(path.clone()).unwrap();
        let found = file.get("localhost:5000").unwrap();
        assert_eq!((found.username.as_str(), found.password.as_str()), ("me", "a:b"));
        assert_eq!(file.get("https://localhost:5000/v1/").unwrap(), found);
        assert!(file.get("other").is_none());
        file.erase("localhost:5000").unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, "{\n\t\"auths\": {},\n\t\"detachKeys\": \"ctrl-a\"\n}");
    }

    #[test]
    fn helpers_of_one_server_go_before_the_store_of_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        fs::write(&path, r#"{"credsStore": "a", "credHelpers": {"r.example": "b"}}"#).unwrap();
        let file = File::read(path).unwrap();
        assert_eq!((file.helper("r.example"), file.helper("x")), (Some("b"), Some("a")));
    }
}
