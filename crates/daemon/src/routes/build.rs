//! Builds.

use std::collections::BTreeMap;

use hyper::StatusCode;
use serde::de::DeserializeOwned;
use wharf_api::{AuthConfig, Ulimit};
use wharf_engine::build::{ClassicOptions, Limits, PruneOptions};
use wharf_engine::registry::RegistryCredentials;
use wharf_engine::{Error, Result};
use wharf_oci::Reference;

use crate::buildkit::{self, Classic};
use crate::http::answer::{self, Answer, JSON};
use crate::http::call::Call;
use crate::http::registry_auth;

/// The classic build. `version=2` is how clients before BuildKit's own API asked for BuildKit.
pub(crate) async fn build(call: Call) -> Result<Answer> {
    let (state, session) = (call.app.buildkit.clone(), call.query.get("session").to_owned());
    let answered = begin(call).await;
    if answered.is_err() && !session.is_empty() {
        // A client that hears of the error before it serves its session never ends.
        buildkit::session_stands(&state, &session).await;
    }
    answered
}

async fn begin(call: Call) -> Result<Answer> {
    let options = options(&call)?;
    match call.query.get("version") {
        "" | "1" => {}
        "2" => {
            let outputs = document(&call, "outputs", "invalid outputs specified")?;
            let asked = Classic { options, session: call.query.get("session").to_owned(), outputs };
            let state = call.app.buildkit.clone();
            return buildkit::classic(state, asked, call.into_stream()).await;
        }
        other => return Err(Error::invalid(format!("invalid version {other:?}"))),
    }
    if options.remote == "client-session" {
        return Err(Error::invalid(
            "experimental session with v1 builder is no longer supported, use builder version v2 (BuildKit) instead",
        ));
    }
    let engine = call.app.engine.clone();
    let progress = engine.builds.classic(options, call.into_stream())?;
    answer::checked_stream(JSON, progress).await
}

fn options(call: &Call) -> Result<ClassicOptions> {
    let query = &call.query;
    if query.flag("squash") {
        return Err(Error::invalid("squash is only supported with experimental mode"));
    }
    if query.has("securityopt") {
        return Err(Error::invalid("security options are not supported on linux"));
    }
    if !matches!(query.get("isolation"), "" | "default") {
        return Err(Error::invalid(format!("Unsupported isolation: {:?}", query.get("isolation"))));
    }
    let mut names: Vec<Reference> = Vec::new();
    for text in query.all("t").iter().filter(|text| !text.is_empty()) {
        let name = Reference::parse(text).map_err(|error| Error::invalid(error.to_string()))?;
        if name.digest().is_some() {
            return Err(Error::invalid("build tag cannot contain a digest"));
        }
        let name = name.with_default_tag();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let platform = match query.get("platform") {
        "" => None,
        text => Some(
            text.parse()
                .map_err(|error: wharf_oci::platform::PlatformError| Error::invalid(error.to_string()))?,
        ),
    };
    let arguments: BTreeMap<String, Option<String>> =
        document(call, "buildargs", "error reading build args")?;
    let caches: Vec<String> = document(call, "cachefrom", "error reading cache-from")?;
    Ok(ClassicOptions {
        names,
        dockerfile: query.get("dockerfile").to_owned(),
        remote: query.get("remote").to_owned(),
        quiet: query.flag("q"),
        no_cache: query.flag("nocache"),
        pull: query.flag("pull"),
        arguments: arguments.into_iter().filter_map(|(name, value)| Some((name, value?))).collect(),
        labels: document(call, "labels", "error reading labels")?,
        target: query.get("target").to_owned(),
        platform,
        extra_hosts: query.all("extrahosts").into_iter().filter(|host| !host.is_empty()).collect(),
        network: query.get("networkmode").to_owned(),
        limits: limits(call)?,
        caches: caches.into_iter().filter(|name| !name.is_empty()).collect(),
        build_id: query.get("buildid").to_owned(),
        credentials: credentials(call),
    })
}

fn limits(call: &Call) -> Result<Limits> {
    let query = &call.query;
    let number = |name: &str| query.number(name).map(Option::unwrap_or_default);
    let ulimits: Vec<Ulimit> = document(call, "ulimits", "error reading ulimit settings")?;
    Ok(Limits {
        memory: number("memory")?,
        memory_swap: number("memswap")?,
        cpu_shares: number("cpushares")?,
        cpu_period: number("cpuperiod")?,
        cpu_quota: number("cpuquota")?,
        cpuset_cpus: query.get("cpusetcpus").to_owned(),
        cpuset_mems: query.get("cpusetmems").to_owned(),
        shm_size: number("shmsize")?,
        ulimits: ulimits.into_iter().map(|limit| (limit.name, limit.soft, limit.hard)).collect(),
        cgroup_parent: query.get("cgroupparent").to_owned(),
        security: Vec::new(),
    })
}

/// A parameter that is a document of its own; the zero value where it is not given.
fn document<T: DeserializeOwned + Default>(call: &Call, name: &str, doing: &str) -> Result<T> {
    match call.query.get(name) {
        "" | "null" => Ok(T::default()),
        text => {
            let read = serde_json::from_str(text);
            read.map_err(|error| Error::invalid(format!("{doing}: {error}")))
        }
    }
}

/// What `X-Registry-Config` carries: credentials by registry.
fn credentials(call: &Call) -> BTreeMap<String, RegistryCredentials> {
    let all: BTreeMap<String, AuthConfig> = registry_auth::decoded(call.header("x-registry-config"));
    all.iter().map(|(host, auth)| (host.clone(), registry_auth::of(auth))).collect()
}

/// What builds left that nobody needs.
pub(crate) async fn prune(call: Call) -> Result<Answer> {
    let query = &call.query;
    let bytes = |name: &str| match query.number(name)? {
        Some(number) => {
            u64::try_from(number).map_err(|_| Error::invalid(format!("invalid {name}: {number}")))
        }
        None => Ok(0),
    };
    let reserved = match bytes("reserved-space")? {
        0 => bytes("keep-storage")?,
        reserved => reserved,
    };
    let options = PruneOptions {
        all: query.flag("all"),
        filters: query.filters()?,
        unused_for: 0,
        reserved,
        most: bytes("max-used-space")?,
        free: bytes("min-free-space")?,
    };
    answer::json(&call.engine().builds.prune(options).await?)
}

pub(crate) async fn cancel(call: Call) -> Result<Answer> {
    let id = call.query.get("id");
    if id.is_empty() {
        return Err(Error::invalid("build ID not provided"));
    }
    call.engine().builds.cancel(id);
    Ok(answer::empty(StatusCode::OK))
}
