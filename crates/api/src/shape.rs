//! Documents of the newest version made into what older clients expect: one function a version, applied in turn
//! from the newest down to the one asked for. What each does was recorded from dockerd 28.5.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::version::ApiVersion;

/// Kinds of documents that differ between versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Document {
    /// `GET /containers/json`.
    ContainerList,
    /// `GET /containers/ID/json`.
    ContainerInspect,
    /// `GET /images/json`.
    ImageList,
    /// `GET /images/NAME/json`.
    ImageInspect,
    /// `GET /info`.
    Info,
    /// `GET /system/df`.
    DiskUsage,
}

/// The document as clients of `version` expect it, as JSON with a line end.
pub fn render<T: Serialize>(
    kind: Document,
    document: &T,
    version: ApiVersion,
) -> serde_json::Result<Vec<u8>> {
    let mut text = if version >= ApiVersion::MAX {
        serde_json::to_vec(document)?
    } else {
        let mut value = serde_json::to_value(document)?;
        shape(kind, &mut value, version);
        serde_json::to_vec(&value)?
    };
    text.push(b'\n');
    Ok(text)
}

/// Makes a document of [`ApiVersion::MAX`] into one of `version`.
pub fn shape(kind: Document, document: &mut Value, version: ApiVersion) {
    for (minor, step) in STEPS {
        if !version.at_least(minor) {
            step(kind, document);
        }
    }
}

type Step = fn(Document, &mut Value);

/// What changed with a version, undone; newest first.
const STEPS: [(u16, Step); 11] = [
    (51, before_51),
    (50, before_50),
    (49, before_49),
    (48, before_48),
    (47, before_47),
    (46, before_46),
    (45, before_45),
    (44, before_44),
    (43, before_43),
    (42, before_42),
    (25, before_25),
];

fn before_51(kind: Document, document: &mut Value) {
    if kind == Document::ImageList {
        each(document, |image| set(image, "Containers", json!(-1)));
    }
}

fn before_50(kind: Document, document: &mut Value) {
    match kind {
        Document::ImageInspect => {
            let Some(config) = object(document, "Config") else { return };
            for name in ["AttachStderr", "AttachStdin", "AttachStdout", "OpenStdin", "StdinOnce", "Tty"] {
                config.insert(name.to_owned(), json!(false));
            }
            for name in ["Domainname", "Hostname", "Image"] {
                config.insert(name.to_owned(), json!(""));
            }
        }
        Document::Info => {
            remove(document, "DiscoveredDevices");
            set(document, "BridgeNfIptables", json!(false));
            set(document, "BridgeNfIp6tables", json!(false));
        }
        _ => {}
    }
}

fn before_49(kind: Document, document: &mut Value) {
    if kind == Document::Info {
        remove(document, "FirewallBackend");
        for name in ["ContainerdCommit", "RuncCommit", "InitCommit"] {
            let Some(commit) = object(document, name) else { continue };
            if let Some(id) = commit.get("ID").cloned().filter(|id| id != "") {
                commit.insert("Expected".to_owned(), id);
            }
        }
    }
}

fn before_48(kind: Document, document: &mut Value) {
    match kind {
        Document::ContainerList => each(document, |container| remove(container, "ImageManifestDescriptor")),
        Document::ContainerInspect => remove(document, "ImageManifestDescriptor"),
        Document::ImageList => each(document, |image| remove(image, "Descriptor")),
        Document::ImageInspect => {
            remove(document, "Descriptor");
            remove(document, "Manifests");
        }
        _ => {}
    }
}

fn before_47(kind: Document, document: &mut Value) {
    match kind {
        Document::ImageList => each(document, |image| remove(image, "Manifests")),
        Document::Info => {
            if let Some(registries) = object(document, "RegistryConfig") {
                registries.insert("AllowNondistributableArtifactsCIDRs".to_owned(), Value::Null);
                registries.insert("AllowNondistributableArtifactsHostnames".to_owned(), Value::Null);
            }
        }
        _ => {}
    }
}

fn before_46(kind: Document, document: &mut Value) {
    match kind {
        Document::ContainerList => each(document, |container| {
            if let Some(host) = object(container, "HostConfig") {
                host.remove("Annotations");
            }
        }),
        Document::Info => remove(document, "Containerd"),
        _ => {}
    }
}

fn before_45(kind: Document, document: &mut Value) {
    match kind {
        Document::ContainerInspect => add_short_ids(document),
        Document::ImageInspect => set(
            document,
            "ContainerConfig",
            json!({
                "Hostname": "", "Domainname": "", "User": "", "AttachStdin": false, "AttachStdout": false,
                "AttachStderr": false, "Tty": false, "OpenStdin": false, "StdinOnce": false, "Env": null, "Cmd": null,
                "Image": "", "Volumes": null, "WorkingDir": "", "Entrypoint": null, "OnBuild": null, "Labels": null,
            }),
        ),
        _ => {}
    }
}

/// On networks with a resolver a container also went by its short id.
fn add_short_ids(container: &mut Value) {
    let Some(id) =
        container.get("Id").and_then(Value::as_str).map(|id| id.chars().take(12).collect::<String>())
    else {
        return;
    };
    let Some(networks) = container.pointer_mut("/NetworkSettings/Networks").and_then(Value::as_object_mut)
    else {
        return;
    };
    for (name, endpoint) in networks {
        if matches!(name.as_str(), "bridge" | "host" | "none") {
            continue;
        }
        match endpoint.get_mut("Aliases") {
            Some(Value::Array(aliases)) if aliases.iter().any(|alias| *alias == id.as_str()) => {}
            Some(Value::Array(aliases)) => aliases.push(json!(id)),
            _ => set(endpoint, "Aliases", json!([id])),
        }
    }
}

fn before_44(kind: Document, document: &mut Value) {
    let add_virtual_size = |image: &mut Value| {
        if let Some(size) = image.get("Size").cloned() {
            set(image, "VirtualSize", size);
        }
    };
    match kind {
        Document::ImageList => each(document, add_virtual_size),
        Document::ImageInspect => {
            add_virtual_size(document);
            if document.get("Created").is_none() {
                set(document, "Created", json!(crate::NEVER));
            }
        }
        Document::DiskUsage => {
            if let Some(images) = document.get_mut("Images") {
                each(images, add_virtual_size);
            }
        }
        Document::Info => {
            let Some(runtimes) = object(document, "Runtimes") else { return };
            for runtime in runtimes.values_mut() {
                remove(runtime, "status");
            }
        }
        _ => {}
    }
}

fn before_43(kind: Document, document: &mut Value) {
    if kind == Document::ImageList {
        each(document, |image| {
            let empty = |name: &str| image.get(name).and_then(Value::as_array).is_none_or(Vec::is_empty);
            match (empty("RepoTags"), empty("RepoDigests")) {
                (true, true) => {
                    set(image, "RepoTags", json!(["<none>:<none>"]));
                    set(image, "RepoDigests", json!(["<none>@<none>"]));
                }
                (true, false) => set(image, "RepoTags", Value::Null),
                (false, true) => set(image, "RepoDigests", Value::Null),
                (false, false) => {}
            }
        });
    }
}

fn before_42(kind: Document, document: &mut Value) {
    match kind {
        Document::Info => set(document, "KernelMemory", json!(true)),
        Document::DiskUsage => {
            let sizes = document.get("BuildCache").and_then(Value::as_array);
            let total: i64 =
                sizes.into_iter().flatten().filter_map(|cache| cache.get("Size")?.as_i64()).sum();
            if total != 0 {
                set(document, "BuilderSize", json!(total));
            }
        }
        _ => {}
    }
}

fn before_25(kind: Document, document: &mut Value) {
    if kind == Document::Info {
        let Some(options) = document.get_mut("SecurityOptions").and_then(Value::as_array_mut) else { return };
        for option in options {
            // `name=seccomp,profile=builtin` was plain `seccomp`.
            let name = option
                .as_str()
                .and_then(|text| text.strip_prefix("name=")?.split(',').next().map(str::to_owned));
            if let Some(name) = name {
                *option = json!(name);
            }
        }
    }
}

fn each(list: &mut Value, work: impl FnMut(&mut Value)) {
    list.as_array_mut().into_iter().flatten().for_each(work);
}

fn set(document: &mut Value, name: &str, value: Value) {
    if let Some(document) = document.as_object_mut() {
        document.insert(name.to_owned(), value);
    }
}

fn remove(document: &mut Value, name: &str) {
    if let Some(document) = document.as_object_mut() {
        document.remove(name);
    }
}

fn object<'a>(document: &'a mut Value, name: &str) -> Option<&'a mut Map<String, Value>> {
    document.get_mut(name)?.as_object_mut()
}
