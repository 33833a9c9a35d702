//! What the flags ask of the daemon.

use std::collections::BTreeMap;

use bollard_buildkit_proto::moby::buildkit::v1::{CacheOptions, CacheOptionsEntry, Exporter};
use wharf_oci::Reference;

use super::Build;
use super::context::Context;
use super::options::{self, Output};
use super::session::Destination;
use crate::error::CliError;

/// Build arguments that are taken from the environment without being asked for.
const FROM_ENVIRONMENT: [&str; 1] = ["SOURCE_DATE_EPOCH"];

impl Build {
    /// The attributes of the frontend.
    pub(super) fn attributes(&self, context: &Context) -> Result<BTreeMap<String, String>, CliError> {
        let mut all = context.attributes.clone();
        let mut put = |name: &str, value: String| drop(all.insert(name.to_owned(), value));
        for (name, value) in self.arguments() {
            put(&format!("build-arg:{name}"), value);
        }
        for label in &self.label {
            let (name, value) = label.split_once('=').unwrap_or((label, ""));
            put(&format!("label:{name}"), value.to_owned());
        }
        if let Some(target) = &self.target {
            put("target", target.clone());
        }
        if self.no_cache {
            put("no-cache", String::new());
        } else if !self.no_cache_filter.is_empty() {
            put("no-cache", self.no_cache_filter.join(","));
        }
        put("image-resolve-mode", if self.pull { "pull" } else { "local" }.to_owned());
        if !self.platform.is_empty() {
            put("platform", self.platform.join(","));
        }
        if !self.add_host.is_empty() {
            put("add-hosts", hosts(&self.add_host)?);
        }
        if let Some(size) = &self.shm_size {
            put("shm-size", bytes(size)?.to_string());
        }
        if !self.ulimit.is_empty() {
            put("ulimit", self.ulimit.join(","));
        }
        if let Some(parent) = &self.cgroup_parent {
            put("cgroup-parent", parent.clone());
        }
        match self.network.as_str() {
            "" | "default" => {}
            mode => put("force-network-mode", mode.to_owned()),
        }
        for (kind, value) in self.attestations()? {
            put(&format!("attest:{kind}"), value);
        }
        Ok(all)
    }

    /// The build arguments: `NAME=VALUE`, or `NAME` with the environment's value.
    fn arguments(&self) -> BTreeMap<String, String> {
        let mut arguments = BTreeMap::new();
        for name in FROM_ENVIRONMENT {
            arguments.extend(std::env::var(name).ok().map(|value| (name.to_owned(), value)));
        }
        for argument in &self.build_arg {
            let (name, value) = match argument.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (argument.as_str(), std::env::var(argument).ok()),
            };
            arguments.extend(value.map(|value| (name.to_owned(), value)));
        }
        arguments
    }

    fn attestations(&self) -> Result<BTreeMap<String, String>, CliError> {
        let mut all: BTreeMap<String, String> =
            self.attest.iter().map(|text| options::attest(text)).collect::<Result<_, _>>()?;
        let short = [("provenance", &self.provenance), ("sbom", &self.sbom)];
        all.extend(
            short
                .iter()
                .filter_map(|(kind, value)| value.as_deref().map(|value| options::attestation(kind, value))),
        );
        Ok(all)
    }

    /// What comes out, and where what comes to this side goes.
    pub(super) fn exporters(&self) -> Result<(Vec<Exporter>, BTreeMap<usize, Destination>), CliError> {
        let mut outputs =
            self.output.iter().map(|text| Output::parse(text)).collect::<Result<Vec<_>, _>>()?;
        if outputs.is_empty() || self.load && !outputs.iter().any(|output| output.kind == "image") {
            outputs.push(Output::image());
        }
        let names = self.names()?;
        let (mut exporters, mut destinations) = (Vec::new(), BTreeMap::new());
        for (number, mut output) in outputs.into_iter().enumerate() {
            let image = matches!(output.kind.as_str(), "image" | "docker" | "oci");
            if image && !names.is_empty() && !output.attributes.contains_key("name") {
                output.attributes.insert("name".to_owned(), names.join(","));
            }
            if self.push && output.kind == "image" {
                output.attributes.insert("push".to_owned(), "true".to_owned());
            }
            for annotation in self.annotation.iter().filter(|_| image) {
                let (key, value) = annotation.split_once('=').unwrap_or((annotation, ""));
                let (place, key) = match key.rsplit_once(':').filter(|(place, _)| is_place(place)) {
                    Some((place, key)) => (format!("-{place}"), key),
                    None => (String::new(), key),
                };
                output.attributes.insert(format!("annotation{place}.{key}"), value.to_owned());
            }
            destinations.extend(output.destination.map(|destination| (number, destination)));
            exporters.push(Exporter { r#type: output.kind, attrs: output.attributes.into_iter().collect() });
        }
        Ok((exporters, destinations))
    }

    /// The image's names in full.
    pub(super) fn names(&self) -> Result<Vec<String>, CliError> {
        let name = |text: &String| {
            let wrong = |why: &dyn std::fmt::Display| CliError::new(format!("invalid tag {text:?}: {why}"));
            let name = Reference::parse(text).map_err(|error| wrong(&error))?;
            if name.digest().is_some() {
                return Err(wrong(&"refusing to create a tag with a digest reference"));
            }
            Ok(name.with_default_tag().to_string())
        };
        self.tag.iter().map(name).collect()
    }

    pub(super) fn caches(&self) -> Result<Option<CacheOptions>, CliError> {
        let entry = |text: &String| {
            let (r#type, attrs) = options::cache(text)?;
            Ok(CacheOptionsEntry { r#type, attrs: attrs.into_iter().collect() })
        };
        let exports = self.cache_to.iter().map(entry).collect::<Result<Vec<_>, CliError>>()?;
        let imports = self.cache_from.iter().map(entry).collect::<Result<Vec<_>, CliError>>()?;
        let any = !exports.is_empty() || !imports.is_empty();
        Ok(any.then_some(CacheOptions { exports, imports, ..CacheOptions::default() }))
    }
}

fn is_place(text: &str) -> bool {
    let place = text.split('[').next().unwrap_or_default();
    matches!(place, "manifest" | "index" | "manifest-descriptor" | "index-descriptor")
}

/// `name:address` and `name=address` as the frontend takes them.
fn hosts(given: &[String]) -> Result<String, CliError> {
    let host = |text: &String| {
        let wrong = || CliError::new(format!("bad format for add-host: {text:?}"));
        let (name, address) = text.split_once('=').or_else(|| text.split_once(':')).ok_or_else(wrong)?;
        let address = address.trim_start_matches('[').trim_end_matches(']');
        if name.is_empty() || (address != "host-gateway" && address.parse::<std::net::IpAddr>().is_err()) {
            return Err(CliError::new(format!("invalid IP address in add-host: {address:?}")));
        }
        Ok(format!("{name}={address}"))
    };
    Ok(given.iter().map(host).collect::<Result<Vec<_>, _>>()?.join(","))
}

/// `64m`, `1g`, `512`.
fn bytes(text: &str) -> Result<u64, CliError> {
    let wrong = || CliError::new(format!("invalid size: '{text}'"));
    let lower = text.trim().to_lowercase();
    let number = lower.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let scale = match lower[number.len()..].trim_end_matches('b').trim_end_matches('i') {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        "t" => 1_u64 << 40,
        _ => return Err(wrong()),
    };
    number.trim().parse::<u64>().ok().and_then(|number| number.checked_mul(scale)).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_hosts() {
        assert_eq!(
            (bytes("64m").unwrap(), bytes("1gb").unwrap(), bytes("7").unwrap()),
            (64 << 20, 1 << 30, 7)
        );
        assert!(bytes("x").is_err());
        let given = ["a:1.2.3.4".to_owned(), "b=::1".to_owned(), "c:host-gateway".to_owned()];
        assert_eq!(hosts(&given).unwrap(), "a=1.2.3.4,b=::1,c=host-gateway");
        assert!(hosts(&["a".to_owned()]).is_err() && hosts(&["a:b".to_owned()]).is_err());
    }
}
