//! The parameters of `POST /build` as a build that BuildKit's API would ask for.

use std::collections::HashMap;

use bollard_buildkit_proto::moby::buildkit::v1::{
    CacheOptions, CacheOptionsEntry, Exporter as Named, SolveRequest,
};
use serde::Deserialize;
use wharf_engine::names::new_id;
use wharf_engine::{Error, Result};

use super::{Classic, UPLOAD};
use crate::buildkit::session::UPLOAD_HOST;

/// The remote context of a build whose client has it.
const SESSION: &str = "client-session";
/// Makes an image of this engine.
const IMAGE: &str = "moby";

/// What comes out of a build.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Output {
    #[serde(rename = "Type", alias = "type", default)]
    kind: String,
    #[serde(rename = "Attrs", alias = "attrs", default)]
    attributes: Option<HashMap<String, String>>,
}

/// The build that is asked for.
///
/// # Errors
/// What cannot be had this way.
pub(super) fn solve(asked: &Classic) -> Result<SolveRequest> {
    let options = &asked.options;
    let id = new_id()[..25].to_owned();
    let inline = CacheOptionsEntry { r#type: "inline".to_owned(), ..CacheOptionsEntry::default() };
    let caches = CacheOptions {
        exports: options.inline_cache().then_some(inline).into_iter().collect(),
        ..CacheOptions::default()
    };
    let entitlement = (options.network == "host").then(|| "network.host".to_owned());
    Ok(SolveRequest {
        frontend: "dockerfile.v0".to_owned(),
        frontend_attrs: attributes(asked, &id)?,
        session: asked.session.clone(),
        exporters: exporters(asked)?,
        entitlements: entitlement.into_iter().collect(),
        cache: Some(caches),
        r#ref: id,
        ..SolveRequest::default()
    })
}

fn attributes(asked: &Classic, id: &str) -> Result<HashMap<String, String>> {
    let options = &asked.options;
    let mut all = HashMap::new();
    let mut put = |name: &str, value: &str| drop(all.insert(name.to_owned(), value.to_owned()));
    if !options.target.is_empty() {
        put("target", &options.target);
    }
    if !matches!(options.dockerfile.as_str(), "" | ".") {
        put("filename", &options.dockerfile);
    }
    match options.remote.as_str() {
        SESSION => {}
        "" | UPLOAD => put("context", &format!("http://{UPLOAD_HOST}/{id}")),
        address => put("context", address),
    }
    put("cache-from", &options.caches.join(","));
    options.arguments.iter().for_each(|(name, value)| put(&format!("build-arg:{name}"), value));
    options.labels.iter().for_each(|(name, value)| put(&format!("label:{name}"), value));
    if options.no_cache {
        put("no-cache", "");
    }
    put("image-resolve-mode", if options.pull { "pull" } else { "default" });
    if let Some(platform) = &options.platform {
        put("platform", &platform.to_string());
    }
    match options.network.as_str() {
        "" | "default" => {}
        mode @ ("host" | "none") => put("force-network-mode", mode),
        other => return Err(Error::internal(format!("network mode {other:?} not supported by buildkit"))),
    }
    let hosts = options.extra_hosts.iter().map(|text| host(text)).collect::<Result<Vec<_>>>()?;
    put("add-hosts", &hosts.join(","));
    if options.limits.shm_size > 0 {
        put("shm-size", &options.limits.shm_size.to_string());
    }
    let limits = options.limits.ulimits.iter().map(|(name, soft, hard)| format!("{name}={soft}:{hard}"));
    let limits: Vec<String> = limits.collect();
    if !limits.is_empty() {
        put("ulimit", &limits.join(","));
    }
    Ok(all)
}

/// `name:address` as the frontend takes it.
fn host(text: &str) -> Result<String> {
    match text.split_once(':') {
        Some((name, address)) if !name.is_empty() && !address.is_empty() => Ok(format!("{name}={address}")),
        _ => Err(Error::internal(format!("invalid host {text}"))),
    }
}

fn exporters(asked: &Classic) -> Result<Vec<Named>> {
    let (kind, mut attrs) = match &asked.outputs[..] {
        [] => (IMAGE, HashMap::new()),
        [one] if one.kind == "cacheonly" => return Ok(Vec::new()),
        [one] => (one.kind.as_str(), one.attributes.clone().unwrap_or_default()),
        _ => return Err(Error::internal("multiple outputs not supported")),
    };
    if matches!(kind, "image" | IMAGE) && !asked.options.names.is_empty() {
        let names: Vec<String> = asked.options.names.iter().map(ToString::to_string).collect();
        attrs.insert("name".to_owned(), names.join(","));
    }
    Ok(vec![Named { r#type: kind.to_owned(), attrs }])
}

#[cfg(test)]
mod tests {
    use wharf_engine::build::{ClassicOptions, Limits};

    use super::*;

    fn asked(options: ClassicOptions, outputs: &str) -> Result<SolveRequest> {
        let outputs = serde_json::from_str(outputs).unwrap();
        solve(&Classic { options, session: "s".to_owned(), outputs })
    }

    #[test]
    fn parameters_become_attributes_of_the_frontend() {
        let options = ClassicOptions {
            names: vec!["a:1".parse().unwrap(), "b:2".parse().unwrap()],
            dockerfile: "Other".to_owned(),
            remote: "client-session".to_owned(),
            arguments: [("BUILDKIT_INLINE_CACHE".to_owned(), "1".to_owned())].into(),
            extra_hosts: vec!["h:::1".to_owned()],
            network: "host".to_owned(),
            limits: Limits { shm_size: 64, ulimits: vec![("nofile".to_owned(), 1, 2)], ..Limits::default() },
            ..ClassicOptions::default()
        };
        let request = asked(options, "[]").unwrap();
        let attribute = |name: &str| request.frontend_attrs.get(name).map(String::as_str);
        assert_eq!((attribute("filename"), attribute("context")), (Some("Other"), None));
        assert_eq!((attribute("add-hosts"), attribute("ulimit")), (Some("h=::1"), Some("nofile=1:2")));
        assert_eq!((attribute("shm-size"), attribute("force-network-mode")), (Some("64"), Some("host")));
        assert_eq!(request.entitlements, ["network.host"]);
        assert_eq!(request.cache.unwrap().exports[0].r#type, "inline");
        assert_eq!(request.exporters[0].attrs["name"], "docker.io/library/a:1,docker.io/library/b:2");
    }

    #[test]
    fn contexts_are_the_clients_or_come_with_a_request() {
        let with = |remote: &str| {
            let remote = remote.to_owned();
            let request = asked(ClassicOptions { remote, ..ClassicOptions::default() }, "[]").unwrap();
            request
                .frontend_attrs
                .get("context")
                .cloned()
                .map(|address| address.replace(&request.r#ref, "ID"))
        };
        assert_eq!(with("client-session"), None);
        let upload = format!("http://{UPLOAD_HOST}/ID");
        assert_eq!((with("").as_ref(), with("upload-request").as_ref()), (Some(&upload), Some(&upload)));
        assert_eq!(with("https://example.com/x.git").unwrap(), "https://example.com/x.git");
    }

    #[test]
    fn outputs_are_one_at_most() {
        let of = |outputs: &str| asked(ClassicOptions::default(), outputs);
        assert_eq!(of("[]").unwrap().exporters[0].r#type, IMAGE);
        let local = of(r#"[{"Type":"local","Attrs":null}]"#).unwrap().exporters;
        assert!(local[0].r#type == "local" && local[0].attrs.is_empty());
        assert!(of(r#"[{"Type":"cacheonly"}]"#).unwrap().exporters.is_empty());
        assert!(of(r#"[{"Type":"local"},{"Type":"tar"}]"#).is_err());
        let bridged = ClassicOptions { network: "bridge".to_owned(), ..ClassicOptions::default() };
        assert!(asked(bridged, "[]").unwrap_err().message().contains("not supported by buildkit"));
    }
}
