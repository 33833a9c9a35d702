//! Values of flags that are lists of fields: `type=local,dest=out`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::session::{Agent, Destination, Secret};
use crate::error::CliError;

/// Fields of a CSV value, in order; quotes hold commas together.
pub(super) fn fields(text: &str) -> Result<Vec<(String, String)>, CliError> {
    let mut words = vec![String::new()];
    let (mut quoted, mut letters) = (false, text.chars().peekable());
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => {
                letters.next();
                if let Some(word) = words.last_mut() {
                    word.push('"');
                }
            }
            '"' => quoted = !quoted,
            ',' if !quoted => words.push(String::new()),
            letter => {
                if let Some(word) = words.last_mut() {
                    word.push(letter);
                }
            }
        }
    }
    if quoted {
        return Err(CliError::new(format!("invalid value {text:?}: a quote is not closed")));
    }
    let split = |word: &String| match word.split_once('=') {
        Some((name, value)) => (name.trim().to_lowercase(), value.to_owned()),
        None => (word.trim().to_owned(), String::new()),
    };
    Ok(words.iter().filter(|word| !word.is_empty()).map(split).collect())
}

/// `id=ID,src=PATH` or `id=ID,env=NAME`.
pub(super) fn secret(text: &str) -> Result<(String, Secret), CliError> {
    let (mut id, mut file, mut variable, mut kind) = (String::new(), None, None, String::new());
    for (name, value) in fields(text)? {
        match name.as_str() {
            "id" => id = value,
            "type" if matches!(value.as_str(), "file" | "env") => kind = value,
            "type" => return Err(CliError::new(format!("unsupported secret type {value:?}"))),
            "source" | "src" if kind == "env" => variable = Some(value),
            "source" | "src" => file = Some(PathBuf::from(value)),
            "env" => variable = Some(value),
            other => return Err(CliError::new(format!("unexpected key '{other}' in '{text}'"))),
        }
    }
    if id.is_empty() {
        return Err(CliError::new(format!("secret {text:?} has no id")));
    }
    let secret = match (file, variable) {
        (Some(path), _) => Secret::File(existing(path)?),
        (None, Some(name)) => Secret::Variable(name),
        (None, None) if std::env::var_os(&id).is_some() => Secret::Variable(id.clone()),
        (None, None) => Secret::File(existing(PathBuf::from(&id))?),
    };
    Ok((id, secret))
}

fn existing(path: PathBuf) -> Result<PathBuf, CliError> {
    let found = std::fs::metadata(&path);
    found.map_err(|error| {
        CliError::new(format!("failed to stat {}: {}", path.display(), crate::error::reason(&error)))
    })?;
    Ok(path)
}

/// `default`, `ID=SOCKET`.
pub(super) fn agent(text: &str) -> Result<(String, Agent), CliError> {
    let (id, path) = text.split_once('=').unwrap_or((text, ""));
    if path.contains(',')
        || path.ends_with(".pem")
        || path.ends_with("id_rsa")
        || path.ends_with("id_ed25519")
    {
        let why = "keys are not read: give the socket of an agent that holds them";
        return Err(CliError::new(format!("failed to use {path} for ssh {id:?}: {why}")));
    }
    let path = match path {
        "" => std::env::var_os("SSH_AUTH_SOCK")
            .filter(|path| !path.is_empty())
            .map(PathBuf::from)
            .ok_or_else(|| CliError::new("invalid empty ssh agent socket: make sure SSH_AUTH_SOCK is set"))?,
        path => existing(PathBuf::from(path))?,
    };
    let id = if id.is_empty() { "default" } else { id };
    Ok((id.to_owned(), Agent(path)))
}

/// One of the things that come out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Output {
    pub(super) kind: String,
    pub(super) attributes: BTreeMap<String, String>,
    pub(super) destination: Option<Destination>,
}

impl Output {
    /// An image of the daemon's.
    pub(super) fn image() -> Self {
        Self { kind: "image".to_owned(), attributes: BTreeMap::new(), destination: None }
    }

    /// `type=local,dest=DIR`; a plain path is a directory, `-` an archive on standard output.
    pub(super) fn parse(text: &str) -> Result<Self, CliError> {
        let (mut kind, mut dest, mut attributes) = (String::new(), None, BTreeMap::new());
        if !text.contains('=') {
            (kind, dest) = (if text == "-" { "tar" } else { "local" }.to_owned(), Some(text.to_owned()));
        } else {
            for (name, value) in fields(text)? {
                match name.as_str() {
                    "type" => kind = value,
                    "dest" => dest = Some(value),
                    _ => drop(attributes.insert(name, value)),
                }
            }
        }
        let destination = match (kind.as_str(), dest) {
            ("", _) => return Err(CliError::new("type is required for output")),
            ("local", None) => return Err(CliError::new("dest is required for local output")),
            ("local", Some(dest)) if dest == "-" => {
                return Err(CliError::new("dest cannot be stdout for local output"));
            }
            ("local", Some(dest)) => Some(Destination::Directory(absolute(&dest))),
            ("image" | "registry" | "cacheonly", Some(_)) => {
                return Err(CliError::new(format!("dest is not allowed for {kind} output")));
            }
            ("docker", None) => return Ok(Self { kind: "image".to_owned(), attributes, destination: None }),
            ("image" | "registry" | "cacheonly", None) => None,
            ("tar" | "oci" | "docker", Some(dest)) if dest != "-" => Some(Destination::File(absolute(&dest))),
            ("tar" | "oci" | "docker", _) => Some(Destination::Standard),
            (other, _) => return Err(CliError::new(format!("unknown output type {other:?}"))),
        };
        if kind == "registry" {
            kind = "image".to_owned();
            attributes.insert("push".to_owned(), "true".to_owned());
        }
        Ok(Self { kind, attributes, destination })
    }
}

/// A path that stays what it is wherever this program goes.
pub(super) fn absolute(path: &str) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| Path::new(path).to_owned())
}

/// `--provenance` and `--sbom` as what `--attest type=…` takes.
pub(super) fn attestation(kind: &str, value: &str) -> (String, String) {
    let value = match value {
        "true" | "1" | "" => String::new(),
        "false" | "0" => "disabled=true".to_owned(),
        other => other.to_owned(),
    };
    (kind.to_owned(), value)
}

/// `type=provenance,mode=max` as kind and the rest.
pub(super) fn attest(text: &str) -> Result<(String, String), CliError> {
    let fields = fields(text)?;
    let kind = fields.iter().find(|(name, _)| name == "type").map(|(_, kind)| kind.clone());
    let kind = kind.ok_or_else(|| CliError::new("attestation type not specified"))?;
    let rest: Vec<String> = fields
        .iter()
        .filter(|(name, _)| name != "type")
        .map(|(name, value)| if value.is_empty() { name.clone() } else { format!("{name}={value}") })
        .collect();
    Ok((kind, rest.join(",")))
}

/// `type=registry,ref=…`, or a plain reference.
pub(super) fn cache(text: &str) -> Result<(String, BTreeMap<String, String>), CliError> {
    if !text.contains('=') {
        let attributes = BTreeMap::from([("ref".to_owned(), text.to_owned())]);
        return Ok(("registry".to_owned(), attributes));
    }
    let mut attributes: BTreeMap<String, String> = fields(text)?.into_iter().collect();
    let kind =
        attributes.remove("type").ok_or_else(|| CliError::new(format!("type required form> {text:?}")))?;
    Ok((kind, attributes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_hold_commas_together() {
        let found = fields("type=image,\"name=a,b\",push").unwrap();
        let found: Vec<(&str, &str)> =
            found.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(found, [("type", "image"), ("name", "a,b"), ("push", "")]);
        assert!(fields("a=\"b").is_err());
    }

    #[test]
    fn outputs_know_where_they_go() {
        let tar = Output::parse("-").unwrap();
        assert_eq!((tar.kind.as_str(), tar.destination), ("tar", Some(Destination::Standard)));
        let local = Output::parse("/tmp/x").unwrap();
        assert_eq!(local.destination, Some(Destination::Directory("/tmp/x".into())));
        let registry = Output::parse("type=registry,name=a/b").unwrap();
        assert_eq!((registry.kind.as_str(), registry.attributes["push"].as_str()), ("image", "true"));
        assert_eq!(Output::parse("type=docker").unwrap().kind, "image");
        assert!(Output::parse("type=local").is_err() && Output::parse("type=odd").is_err());
    }

    #[test]
    fn attestations_and_caches() {
        assert_eq!(attestation("provenance", "false").1, "disabled=true");
        assert_eq!(
            attest("type=provenance,mode=max").unwrap(),
            ("provenance".to_owned(), "mode=max".to_owned())
        );
        assert_eq!(cache("me/x").unwrap().0, "registry");
        let (kind, attributes) = cache("type=local,dest=/c").unwrap();
        assert_eq!((kind.as_str(), attributes["dest"].as_str()), ("local", "/c"));
    }
}
