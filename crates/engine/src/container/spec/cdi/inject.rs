//! Giving a container what its device requests stand for.

use wharf_api::{DeviceRequest, HostConfig};
use wharf_oci::runtime::{self, DeviceRule, Spec};

use super::super::devices;
use super::GPUS;
use super::document::{DeviceNode, Edits, Hook, Mount};
use super::registry::Registry;
use crate::config::EngineConfig;
use crate::error::{Error, Result};

/// Adds what the container's device requests stand for.
///
/// # Errors
/// Docker's words for drivers and devices that are not there.
pub(in crate::container::spec) fn inject(
    engine: &EngineConfig,
    host: &HostConfig,
    spec: &mut Spec,
) -> Result<()> {
    let mut requests = host.device_requests.iter().flatten().peekable();
    if requests.peek().is_none() {
        return Ok(());
    }
    let registry = Registry::read(&engine.cdi_spec_dirs);
    for request in requests {
        let names = names(request, &registry)?;
        let edits = registry.edits(&names).map_err(|missing| {
            let mut why =
                format!("CDI device injection failed: unresolvable CDI devices {}", missing.join(", "));
            for problem in registry.problems() {
                why.push_str("; ");
                why.push_str(problem);
            }
            Error::internal(why)
        })?;
        for edit in edits {
            apply(edit, host.privileged, spec)
                .map_err(|why| Error::internal(format!("CDI device injection failed: {why}")))?;
        }
    }
    Ok(())
}

/// The qualified names of the devices that a request means.
fn names(request: &DeviceRequest, registry: &Registry) -> Result<Vec<String>> {
    let ids = request.device_ids.clone().unwrap_or_default();
    if request.driver == "cdi" {
        if request.count != 0 {
            return Err(Error::invalid("unexpected count in CDI device request"));
        }
        if request.options.as_ref().is_some_and(|options| !options.is_empty()) {
            return Err(Error::invalid("unexpected options in CDI device request"));
        }
        return Ok(ids);
    }
    let wants_gpu = request.capabilities.iter().flatten().flatten().any(|capability| capability == "gpu");
    let known = GPUS.iter().filter(|(driver, _)| request.driver.is_empty() || request.driver == *driver);
    let kind = known.map(|(_, kind)| kind).find(|kind| wants_gpu && registry.count(kind) > 0);
    let Some(kind) = kind else {
        let sets = request.capabilities.iter().flatten().map(|set| format!("[{}]", set.join(" ")));
        let sets = sets.collect::<Vec<_>>().join(" ");
        let driver = &request.driver;
        let why = format!("could not select device driver {driver:?} with capabilities: [{sets}]");
        return Err(Error::internal(why));
    };
    if request.count != 0 && !ids.is_empty() {
        return Err(Error::invalid("cannot set both Count and DeviceIDs on device request"));
    }
    let ids = match request.count {
        0 => ids,
        count if count < 0 => vec!["all".to_owned()],
        count if count > registry.count(kind) => {
            let there = registry.count(kind);
            let why = format!("{count} devices of kind {kind} are asked for, there are {there}");
            return Err(Error::internal(format!("CDI device injection failed: {why}")));
        }
        count => (0..count).map(|number| number.to_string()).collect(),
    };
    Ok(ids.into_iter().map(|id| format!("{kind}={id}")).collect())
}

fn apply(edits: &Edits, privileged: bool, spec: &mut Spec) -> std::result::Result<(), String> {
    let process = spec.process.get_or_insert_default();
    for variable in &edits.env {
        let name = variable.split_once('=').map_or(variable.as_str(), |(name, _)| name);
        process.env.retain(|old| old.split_once('=').is_none_or(|(old, _)| old != name));
        process.env.push(variable.clone());
    }
    let groups = &mut process.user.additional_gids;
    for group in edits.additional_gids.iter().filter(|group| **group != 0) {
        if !groups.contains(group) {
            groups.push(*group);
        }
    }
    let (user, group) = (process.user.uid, process.user.gid);
    let linux = spec.linux.get_or_insert_default();
    for asked in &edits.device_nodes {
        let (mut node, access) = device(asked)?;
        // Those who use a device are not root as a rule.
        node.uid = node.uid.or((user != 0).then_some(user));
        node.gid = node.gid.or((group != 0).then_some(group));
        if !privileged && matches!(node.kind.as_str(), "b" | "c") {
            linux.resources.get_or_insert_default().devices.push(DeviceRule {
                allow: true,
                kind: node.kind.clone(),
                major: Some(node.major),
                minor: Some(node.minor),
                access,
            });
        }
        linux.devices.retain(|old| old.path != node.path);
        linux.devices.push(node);
    }
    for asked in &edits.mounts {
        let place = asked.container_path.trim_end_matches('/');
        let is_below = |old: &runtime::Mount| {
            old.destination.strip_prefix(place).is_some_and(|rest| rest.starts_with('/'))
        };
        spec.mounts.retain(|old| old.destination != place);
        // It must not go over what the container was given below it.
        let at = spec.mounts.iter().position(is_below).unwrap_or(spec.mounts.len());
        spec.mounts.insert(at, mount(asked));
    }
    for asked in &edits.hooks {
        let hooks = spec.hooks.get_or_insert_default();
        let list = match asked.hook_name.as_str() {
            "prestart" => &mut hooks.prestart,
            "createRuntime" => &mut hooks.create_runtime,
            "createContainer" => &mut hooks.create_container,
            "startContainer" => &mut hooks.start_container,
            "poststart" => &mut hooks.poststart,
            _ => &mut hooks.poststop,
        };
        list.push(hook(asked));
    }
    Ok(())
}

/// The node, and who may do what with it.
fn device(asked: &DeviceNode) -> std::result::Result<(runtime::Device, String), String> {
    let access = if asked.permissions.is_empty() { "rwm" } else { &asked.permissions };
    let mut node = runtime::Device {
        path: asked.path.clone(),
        kind: asked.kind.clone(),
        major: asked.major,
        minor: asked.minor,
        file_mode: asked.file_mode,
        uid: asked.uid,
        gid: asked.gid,
    };
    if node.kind.is_empty() || (node.major == 0 && node.kind != "p") {
        let on_host = if asked.host_path.is_empty() { &asked.path } else { &asked.host_path };
        let found =
            devices::grant(on_host, &asked.path, access).map_err(|error| error.message().to_owned())?;
        let [found] = &found.nodes[..] else { return Err(format!("{on_host} is not a device node")) };
        if !asked.kind.is_empty() && asked.kind != found.kind {
            return Err(format!("device {on_host}: type {} is wanted, it is {}", asked.kind, found.kind));
        }
        (node.kind, node.major, node.minor) = (found.kind.clone(), found.major, found.minor);
        node.file_mode = node.file_mode.or(found.file_mode);
    }
    Ok((node, access.to_owned()))
}

fn mount(asked: &Mount) -> runtime::Mount {
    runtime::Mount {
        destination: asked.container_path.clone(),
        kind: if asked.kind.is_empty() { "bind".to_owned() } else { asked.kind.clone() },
        source: asked.host_path.clone(),
        options: asked.options.clone(),
        ..runtime::Mount::default()
    }
}

fn hook(asked: &Hook) -> runtime::Hook {
    runtime::Hook {
        path: asked.path.clone(),
        args: asked.args.clone(),
        env: asked.env.clone(),
        timeout: asked.timeout,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn engine(dir: &Path) -> EngineConfig {
        EngineConfig { cdi_spec_dirs: vec![dir.to_owned()], ..EngineConfig::default() }
    }

    fn ask(dir: &Path, request: DeviceRequest) -> Result<Spec> {
        let host = HostConfig { device_requests: Some(vec![request]), ..HostConfig::default() };
        let mut spec = Spec::default();
        let given = runtime::Mount { destination: "/b/inside".to_owned(), ..runtime::Mount::default() };
        spec.mounts.push(given);
        spec.process.get_or_insert_default().env = vec!["A=old".to_owned(), "B=kept".to_owned()];
        inject(&engine(dir), &host, &mut spec).map(|()| spec)
    }

    fn gpus(driver: &str, count: i64, ids: Option<Vec<String>>) -> DeviceRequest {
        let capabilities = Some(vec![vec!["gpu".to_owned()]]);
        DeviceRequest { driver: driver.to_owned(), count, device_ids: ids, capabilities, options: None }
    }

    #[test]
    fn a_container_gets_what_the_file_says() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(
            dir.path().join("v.yaml"),
            "
cdiVersion: 0.6.0
kind: vendor.com/device
containerEdits: {env: [A=new], additionalGids: [0, 7, 7]}
devices:
- name: one
  containerEdits:
    deviceNodes: [{path: /dev/x, hostPath: /dev/null, permissions: rw}]
    mounts: [{hostPath: /a, containerPath: /b, options: [rbind, ro]}]
    hooks: [{hookName: createContainer, path: /h, args: [h, x]}]
",
        )
        .unwrap();
        let cdi = |name: &str| DeviceRequest {
            driver: "cdi".to_owned(),
            device_ids: Some(vec![name.to_owned()]),
            ..DeviceRequest::default()
        };
        let spec = ask(dir.path(), cdi("vendor.com/device=one")).unwrap();
        let process = spec.process.unwrap();
        assert_eq!(process.env, ["B=kept", "A=new"]);
        assert_eq!(process.user.additional_gids, [7]);
        let linux = spec.linux.unwrap();
        assert_eq!((linux.devices[0].path.as_str(), linux.devices[0].minor), ("/dev/x", 3));
        let rules = linux.resources.unwrap().devices;
        assert_eq!((rules[0].minor, rules[0].access.as_str()), (Some(3), "rw"));
        assert_eq!(spec.mounts[1].destination, "/b/inside");
        assert_eq!((spec.mounts[0].source.as_str(), spec.mounts[0].kind.as_str()), ("/a", "bind"));
        assert_eq!(spec.hooks.unwrap().create_container[0].args, ["h", "x"]);
        std::fs::write(dir.path().join("bad.yaml"), "[").unwrap();
        let error = ask(dir.path(), cdi("vendor.com/device=two")).unwrap_err();
        let said = error.message();
        let begins = "CDI device injection failed: unresolvable CDI devices vendor.com/device=two; ";
        assert!(said.starts_with(begins) && said.contains("bad.yaml: "), "{said}");
        let counted = DeviceRequest { count: 1, ..cdi("vendor.com/device=one") };
        let error = ask(dir.path(), counted).unwrap_err();
        assert_eq!(error.message(), "unexpected count in CDI device request");
    }

    #[test]
    fn gpus_are_devices_of_their_vendors_kind() {
        let dir = tempfile::tempdir().unwrap();
        let none = |driver: &str| {
            let error = ask(dir.path(), gpus(driver, -1, None)).unwrap_err();
            assert_eq!(
                error.message(),
                format!("could not select device driver {driver:?} with capabilities: [[gpu]]")
            );
        };
        none("");
        none("nvidia");
        let device = |name: &str| format!("{{name: {name:?}, containerEdits: {{env: [GPU{name}=1]}}}}");
        let devices = ["all", "0", "1"].map(device).join(", ");
        let text = format!("{{cdiVersion: 0.6.0, kind: nvidia.com/gpu, devices: [{devices}]}}");
        std::fs::write(dir.path().join("nvidia.yaml"), text).unwrap();
        let env = |request| ask(dir.path(), request).unwrap().process.unwrap().env[2..].to_vec();
        assert_eq!(env(gpus("", -1, None)), ["GPUall=1"]);
        assert_eq!(env(gpus("nvidia", 2, None)), ["GPU0=1", "GPU1=1"]);
        let error = ask(dir.path(), gpus("", i64::MAX, None)).unwrap_err();
        assert!(error.message().ends_with("are asked for, there are 3"), "{error}");
        assert_eq!(env(gpus("", 0, Some(vec!["1".to_owned()]))), ["GPU1=1"]);
        none("amd");
        let no_set = DeviceRequest { capabilities: None, ..gpus("", -1, None) };
        let error = ask(dir.path(), no_set).unwrap_err();
        assert_eq!(error.message(), "could not select device driver \"\" with capabilities: []");
    }
}
