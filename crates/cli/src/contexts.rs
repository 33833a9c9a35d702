//! Docker's contexts on disk: a folder for each under `contexts/meta`, named by the SHA-256 of its name, and the
//! current one's name in `config.json`.

use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::Digest;

use crate::error::{CliError, reason};

/// The context that is no file: what the environment says.
pub(crate) const DEFAULT: &str = "default";

/// A daemon known by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Context {
    pub(crate) name: String,
    pub(crate) description: String,
    /// Where its daemon listens.
    pub(crate) host: String,
    /// Where it is kept.
    pub(crate) folder: String,
}

/// The variable that takes the choice away from contexts, if one is set.
pub(crate) fn overriding() -> Option<&'static str> {
    ["WHARF_HOST", "DOCKER_HOST"]
        .into_iter()
        .find(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
}

/// The name in `config.json`.
pub(crate) fn current(config: &Path) -> Option<String> {
    setting(config, "currentContext")
}

/// A text that `config.json` sets.
pub(crate) fn setting(config: &Path, name: &str) -> Option<String> {
    let document: Value = serde_json::from_slice(&std::fs::read(config.join("config.json")).ok()?).ok()?;
    document[name].as_str().filter(|value| !value.is_empty()).map(str::to_owned)
}

/// Reads one.
///
/// # Errors
/// When there is none of that name, or its file says no address.
pub(crate) fn read(config: &Path, name: &str) -> Result<Context, CliError> {
    let folder = folder(config, name);
    let file = folder.join("meta.json");
    let missing = |why: String| {
        CliError::new(format!("context \"{name}\": context not found: open {}: {why}", file.display()))
    };
    let text = std::fs::read(&file).map_err(|error| missing(reason(&error)))?;
    parse(&serde_json::from_slice(&text)?, &folder).ok_or_else(|| missing("no docker endpoint".into()))
}

fn folder(config: &Path, name: &str) -> PathBuf {
    config.join("contexts/meta").join(hex::encode(sha2::Sha256::digest(name)))
}

fn parse(document: &Value, folder: &Path) -> Option<Context> {
    Some(Context {
        name: document["Name"].as_str()?.to_owned(),
        description: document["Metadata"]["Description"].as_str().unwrap_or_default().to_owned(),
        host: document["Endpoints"]["docker"]["Host"].as_str()?.to_owned(),
        folder: folder.display().to_string(),
    })
}

/// The default one (at `address`) and all on disk, by name.
pub(crate) fn all(config: &Path, address: &str) -> Vec<Context> {
    let mut list: Vec<Context> = std::fs::read_dir(config.join("contexts/meta"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            parse(
                &serde_json::from_slice(&std::fs::read(entry.path().join("meta.json")).ok()?).ok()?,
                &entry.path(),
            )
        })
        .collect();
    list.push(Context {
        name: DEFAULT.into(),
        description: "Current DOCKER_HOST based configuration".into(),
        host: address.to_owned(),
        folder: "<IN MEMORY>".into(),
    });
    list.sort_by(|a, b| a.name.cmp(&b.name));
    list
}

/// Names as Docker has them.
///
/// # Errors
/// Docker's, for other names.
pub(crate) fn check_name(name: &str) -> Result<(), CliError> {
    if name.is_empty() {
        return Err(CliError::new("context name cannot be empty"));
    }
    if name == DEFAULT {
        return Err(CliError::new("\"default\" is a reserved context name"));
    }
    let mut bytes = name.bytes();
    let fine = bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.+-".contains(&byte));
    if fine && name.len() > 1 {
        return Ok(());
    }
    Err(CliError::new(format!(
        "context name \"{name}\" is invalid, names are validated against regexp \"^[a-zA-Z0-9][a-zA-Z0-9_.+-]+$\""
    )))
}

/// The whole document of one, as Docker's client keeps it.
///
/// # Errors
/// When there is none of that name.
pub(crate) fn document(config: &Path, name: &str) -> Result<Value, CliError> {
    read(config, name)?;
    Ok(serde_json::from_slice(&std::fs::read(folder(config, name).join("meta.json"))?)?)
}

/// Keeps a document under its name.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write(config: &Path, name: &str, document: &Value) -> Result<(), CliError> {
    let folder = folder(config, name);
    std::fs::create_dir_all(&folder)?;
    let partial = folder.join(".meta.json.partial");
    std::fs::write(&partial, serde_json::to_vec(document)?)?;
    Ok(std::fs::rename(partial, folder.join("meta.json"))?)
}

/// Where the certificates of one are.
pub(crate) fn tls_folder(config: &Path, name: &str) -> PathBuf {
    config.join("contexts/tls").join(hex::encode(sha2::Sha256::digest(name)))
}

/// Forgets one.
///
/// # Errors
/// When there is none of that name.
pub(crate) fn remove(config: &Path, name: &str) -> Result<(), CliError> {
    read(config, name)?;
    match std::fs::remove_dir_all(tls_folder(config, name)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    Ok(std::fs::remove_dir_all(folder(config, name))?)
}

/// Makes one the current one.
///
/// # Errors
/// When there is none of that name or `config.json` cannot be written.
pub(crate) fn choose(config: &Path, name: &str) -> Result<(), CliError> {
    if name != DEFAULT {
        read(config, name)?;
    }
    let file = config.join("config.json");
    let mut document: Value = match std::fs::read(&file) {
        Ok(text) => serde_json::from_slice(&text)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => serde_json::json!({}),
        Err(error) => return Err(error.into()),
    };
    let Some(fields) = document.as_object_mut() else {
        return Err(CliError::new(format!("{}: not an object", file.display())));
    };
    if name == DEFAULT {
        fields.remove("currentContext");
    } else {
        fields.insert("currentContext".into(), name.into());
    }
    std::fs::create_dir_all(config)?;
    // Whole or not at all: the file holds more than this one setting.
    let partial = config.join(".config.json.partial");
    std::fs::write(&partial, serde_json::to_vec_pretty(&document)?)?;
    Ok(std::fs::rename(&partial, &file)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_are_found_and_chosen() {
        let config = tempfile::tempdir().unwrap();
        let home = folder(config.path(), "far");
        std::fs::create_dir_all(&home).unwrap();
        std::fs::write(home.join("meta.json"), r#"{"Name":"far","Metadata":{"Description":"d"},"Endpoints":{"docker":{"Host":"tcp://1.2.3.4:2375"}}}"#).unwrap();
        std::fs::write(config.path().join("config.json"), r#"{"auths":{}}"#).unwrap();

        let names: Vec<String> =
            all(config.path(), "unix:///x").into_iter().map(|context| context.name).collect();
        assert_eq!(names, ["default", "far"]);
        assert_eq!(read(config.path(), "far").unwrap().host, "tcp://1.2.3.4:2375");
        assert!(choose(config.path(), "nope").is_err());
        choose(config.path(), "far").unwrap();
        assert_eq!(current(config.path()).as_deref(), Some("far"));
        choose(config.path(), "default").unwrap();
        assert_eq!(current(config.path()), None);
        assert!(std::fs::read_to_string(config.path().join("config.json")).unwrap().contains("auths"));
    }
}
