//! Requests of older clients made into what they meant, as dockerd does: options that came with a later version
//! are dropped, defaults that changed are those of their time.

use wharf_api::{ApiVersion, CreateRequest, HostConfig, Mount};
use wharf_engine::container::spec::points::IDMAP;
use wharf_engine::{Error, Result};

/// Adjusts a create request of `version`.
pub(crate) fn create(request: &mut CreateRequest, version: ApiVersion) -> Result<()> {
    let host = request.host_config.get_or_insert_default();
    if host.pids_limit.is_some_and(|limit| limit <= 0) {
        // Both zero and -1 ask for no limit.
        host.pids_limit = None;
    }
    if !version.at_least(40) {
        before_40(host);
    }
    if !version.at_least(41) && host.cgroupns_mode.is_empty() {
        host.cgroupns_mode = "host".to_owned();
    }
    if !version.at_least(42) {
        before_42(host);
    }
    if !version.at_least(44) {
        before_44(request)?;
    }
    for mount in request.host_config.iter().flat_map(|host| host.mounts.iter().flatten()) {
        check_mount(mount, version)?;
    }
    Ok(())
}

/// Fills in whom `idmap` alone means: whoever calls.
pub(crate) fn owners(request: &mut CreateRequest, caller: Option<(u32, u32)>) -> Result<()> {
    let host = request.host_config.get_or_insert_default();
    let unknown =
        "idmap: who calls is not known over this connection; say whom files belong to with idmap=UID-GID";
    let owner =
        || caller.map(|(user, group)| format!("{user}-{group}")).ok_or_else(|| Error::invalid(unknown));
    for bind in host.binds.iter_mut().flatten() {
        if let Some((rest, mode)) = bind.rsplit_once(':')
            && mode.split(',').any(|word| word == IDMAP)
        {
            let owner = format!("{IDMAP}={}", owner()?);
            let words: Vec<&str> =
                mode.split(',').map(|word| if word == IDMAP { owner.as_str() } else { word }).collect();
            *bind = format!("{rest}:{}", words.join(","));
        }
    }
    for mount in host.mounts.iter_mut().flatten().filter(|mount| mount.idmap == "true") {
        mount.idmap = owner()?;
    }
    Ok(())
}

fn before_40(host: &mut HostConfig) {
    if host.ipc_mode.is_empty() {
        host.ipc_mode = "shareable".to_owned();
    }
    for mount in host.mounts.iter_mut().flatten() {
        if let Some(bind) = &mut mount.bind_options {
            bind.non_recursive = false;
        }
    }
}

fn before_42(host: &mut HostConfig) {
    host.console_size = [0, 0];
    for mount in host.mounts.iter_mut().flatten() {
        if let Some(bind) = &mut mount.bind_options {
            bind.create_mountpoint = false;
        }
        if mount.r#type == "bind" {
            mount.volume_options = None;
            mount.tmpfs_options = None;
        }
    }
}

fn before_44(request: &mut CreateRequest) -> Result<()> {
    if let Some(health) = &mut request.config.healthcheck {
        health.start_interval = 0;
    }
    // Read-only binds were not recursive then.
    for mount in request.host_config.iter_mut().flat_map(|host| host.mounts.iter_mut().flatten()) {
        if mount.r#type == "bind" && mount.read_only {
            mount.bind_options.get_or_insert_default().read_only_non_recursive = true;
        }
    }
    let endpoints = request.networking_config.as_ref().and_then(|config| config.endpoints_config.as_ref());
    let names: Vec<&str> = endpoints.iter().flat_map(|map| map.keys().map(String::as_str)).collect();
    if names.len() > 1 {
        return Err(Error::invalid(format!(
            "Container cannot be created with multiple network endpoints: {}",
            names.join(", ")
        )));
    }
    Ok(())
}

fn check_mount(mount: &Mount, version: ApiVersion) -> Result<()> {
    if mount.r#type == "image" && !version.at_least(48) {
        return Err(Error::invalid("Mount type \"Image\" needs API v1.48 or newer"));
    }
    if mount.volume_options.as_ref().is_some_and(|volume| !volume.subpath.is_empty()) && !version.at_least(45)
    {
        return Err(Error::invalid("VolumeOptions.Subpath needs API v1.45 or newer"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adjusted(body: &str, minor: u16) -> Result<CreateRequest> {
        let mut request = wharf_api::from_slice(body.as_bytes()).unwrap();
        create(&mut request, ApiVersion::new(1, minor)).map(|()| request)
    }

    #[test]
    fn old_clients_get_the_defaults_of_their_time() {
        let host =
            |minor| adjusted(r#"{"HostConfig":{"PidsLimit":-1}}"#, minor).unwrap().host_config.unwrap();
        assert_eq!((host(39).ipc_mode.as_str(), host(40).ipc_mode.as_str()), ("shareable", ""));
        assert_eq!((host(40).cgroupns_mode.as_str(), host(41).cgroupns_mode.as_str()), ("host", ""));
        assert_eq!(host(51).pids_limit, None);
    }

    #[test]
    fn options_of_later_versions_are_dropped_or_refused() {
        let body = r#"{"Healthcheck":{"StartInterval":5},"HostConfig":{"Mounts":[
            {"Type":"bind","ReadOnly":true,"VolumeOptions":{"NoCopy":true}}]}}"#;
        let old = adjusted(body, 41).unwrap();
        let mount = &old.host_config.as_ref().unwrap().mounts.as_ref().unwrap()[0];
        assert_eq!(old.config.healthcheck.unwrap().start_interval, 0);
        assert!(
            mount.volume_options.is_none() && mount.bind_options.as_ref().unwrap().read_only_non_recursive
        );
        let two = r#"{"NetworkingConfig":{"EndpointsConfig":{"a":{},"b":null}}}"#;
        assert_eq!(
            adjusted(two, 43).unwrap_err().message(),
            "Container cannot be created with multiple network endpoints: a, b"
        );
        assert!(adjusted(two, 44).is_ok());
        assert!(adjusted(r#"{"HostConfig":{"Mounts":[{"Type":"image"}]}}"#, 47).is_err());
    }
}
