//! `context create`, `update` and `rm`.

use std::path::Path;

use serde_json::{Value, json};

use crate::commands::Outcome;
use crate::connect::Target;
use crate::contexts;
use crate::error::{CliError, print, say};

#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// Description of the context
    #[arg(long, value_name = "STRING")]
    description: Option<String>,
    /// Set the docker endpoint
    #[arg(long, value_name = "STRINGTOSTRING")]
    docker: Vec<String>,
    /// Create context from a named context
    #[arg(long, value_name = "STRING")]
    from: Option<String>,
    #[arg(value_name = "CONTEXT")]
    name: String,
}

impl Create {
    pub(super) async fn run(self, target: &Target) -> Outcome {
        let config = target.config_folder();
        contexts::check_name(&self.name)?;
        if contexts::read(&config, &self.name).is_ok() {
            return Err(CliError::new(format!("context \"{}\" already exists", self.name)));
        }
        let mut document = match &self.from {
            Some(from) if from != contexts::DEFAULT => contexts::document(&config, from)?,
            _ => json!({ "Metadata": {}, "Endpoints": { "docker": endpoint(&target.default_address()) } }),
        };
        document["Name"] = json!(self.name);
        if let Some(description) = &self.description {
            document["Metadata"]["Description"] = json!(description);
        }
        let endpoint = Endpoint::parse(&self.docker)?;
        endpoint.apply(&mut document);
        contexts::write(&config, &self.name, &document)?;
        endpoint.keep_certificates(&config, &self.name)?;
        print(&self.name)?;
        say(&format!("Successfully created context \"{}\"", self.name));
        Ok(0)
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Update {
    /// Description of the context
    #[arg(long, value_name = "STRING")]
    description: Option<String>,
    /// Set the docker endpoint
    #[arg(long, value_name = "STRINGTOSTRING")]
    docker: Vec<String>,
    #[arg(value_name = "CONTEXT")]
    name: String,
}

impl Update {
    pub(super) async fn run(self, target: &Target) -> Outcome {
        let config = target.config_folder();
        contexts::check_name(&self.name)?;
        let mut document = contexts::document(&config, &self.name)?;
        if let Some(description) = &self.description {
            document["Metadata"]["Description"] = json!(description);
        }
        let endpoint = Endpoint::parse(&self.docker)?;
        endpoint.apply(&mut document);
        contexts::write(&config, &self.name, &document)?;
        endpoint.keep_certificates(&config, &self.name)?;
        print(&self.name)?;
        say(&format!("Successfully updated context \"{}\"", self.name));
        Ok(0)
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Rm {
    /// Force the removal of a context in use
    #[arg(short, long)]
    force: bool,
    #[arg(value_name = "CONTEXT", required = true)]
    names: Vec<String>,
}

impl Rm {
    pub(super) async fn run(self, target: &Target) -> Outcome {
        let config = target.config_folder();
        let current = contexts::current(&config);
        let mut failures = Vec::new();
        for name in &self.names {
            match self.remove(&config, name, current.as_deref() == Some(name)) {
                Ok(()) => print(name)?,
                Err(error) => failures.push(error.message().to_owned()),
            }
        }
        if failures.is_empty() { Ok(0) } else { Err(CliError::new(failures.join("\n"))) }
    }

    fn remove(&self, config: &Path, name: &str, is_current: bool) -> Result<(), CliError> {
        if name == contexts::DEFAULT {
            return Err(CliError::new("context \"default\" cannot be removed"));
        }
        if contexts::read(config, name).is_err() {
            let missing = CliError::new(format!("context \"{name}\" does not exist"));
            return if self.force { Ok(()) } else { Err(missing) };
        }
        if is_current && !self.force {
            let why = "is in use, set -f flag to force remove";
            return Err(CliError::new(format!("context \"{name}\" {why}")));
        }
        if is_current {
            contexts::choose(config, contexts::DEFAULT)?;
        }
        contexts::remove(config, name)
    }
}

fn endpoint(host: &str) -> Value {
    json!({ "Host": host, "SkipTLSVerify": false })
}

/// What `--docker key=value,…` says.
#[derive(Debug, Default)]
struct Endpoint {
    host: Option<String>,
    skip_verify: bool,
    /// File names in the context's folder, and where to copy them from.
    certificates: Vec<(&'static str, String)>,
}

impl Endpoint {
    fn parse(words: &[String]) -> Result<Self, CliError> {
        let failed = |why: String| CliError::new(format!("unable to create docker endpoint config: {why}"));
        let mut endpoint = Self::default();
        for word in words.iter().flat_map(|word| word.split(',')) {
            let (key, value) = word
                .split_once('=')
                .ok_or_else(|| CliError::new(format!("{word} must be formatted as key=value")))?;
            match key {
                "host" => endpoint.host = Some(host(value).map_err(failed)?),
                "skip-tls-verify" => endpoint.skip_verify = matches!(value, "1" | "t" | "true" | "TRUE"),
                "ca" => endpoint.certificates.push(("ca.pem", value.to_owned())),
                "cert" => endpoint.certificates.push(("cert.pem", value.to_owned())),
                "key" => endpoint.certificates.push(("key.pem", value.to_owned())),
                "from" => {}
                other => return Err(failed(format!("unrecognized config key: {other}"))),
            }
        }
        Ok(endpoint)
    }

    fn apply(&self, document: &mut Value) {
        if let Some(host) = &self.host {
            document["Endpoints"]["docker"] = json!({ "Host": host, "SkipTLSVerify": self.skip_verify });
        }
    }

    fn keep_certificates(&self, config: &Path, name: &str) -> Result<(), CliError> {
        use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
        if self.certificates.is_empty() {
            return Ok(());
        }
        let folder = contexts::tls_folder(config, name).join("docker");
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        for (file, source) in &self.certificates {
            let content = std::fs::read(source).map_err(|error| CliError::from(error).within(source))?;
            let mut kept = std::fs::File::options()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(folder.join(file))?;
            std::io::Write::write_all(&mut kept, &content)?;
        }
        Ok(())
    }
}

fn host(value: &str) -> Result<String, String> {
    let known = ["unix://", "tcp://", "ssh://", "fd://", "http://", "https://"];
    if value.is_empty() || known.iter().any(|scheme| value.starts_with(scheme)) {
        return Ok(value.to_owned());
    }
    Err(format!("unable to apply docker endpoint options: unable to parse docker host `{value}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_as_docker_reads_them() {
        let parse = |words: &[&str]| {
            Endpoint::parse(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
        };
        let endpoint = parse(&["host=tcp://h:1,skip-tls-verify=true", "ca=/x"]).unwrap();
        assert_eq!((endpoint.host.as_deref(), endpoint.skip_verify), (Some("tcp://h:1"), true));
        assert_eq!(endpoint.certificates, [("ca.pem", "/x".to_owned())]);
        let refusal = |word: &str| parse(&[word]).unwrap_err().message().to_owned();
        assert_eq!(refusal("foo=1"), "unable to create docker endpoint config: unrecognized config key: foo");
        assert!(refusal("host=bad").ends_with("unable to parse docker host `bad`"));
        assert_eq!(refusal("x"), "x must be formatted as key=value");
    }
}
