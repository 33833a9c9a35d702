//! A vendor's file, as YAML or JSON.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_saphyr::options;

/// What a file says. An unknown field is an error: a container without what it asks for would start and then fail.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Document {
    cdi_version: String,
    /// `VENDOR/CLASS` of all its devices.
    pub(super) kind: String,
    #[serde(default, rename = "annotations")]
    _annotations: BTreeMap<String, String>,
    pub(super) devices: Vec<Device>,
    /// For all of its devices.
    #[serde(default)]
    pub(super) container_edits: Edits,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Device {
    pub(super) name: String,
    #[serde(default, rename = "annotations")]
    _annotations: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) container_edits: Edits,
}

/// What a container gets.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Edits {
    /// `NAME=VALUE`.
    pub(super) env: Vec<String>,
    pub(super) device_nodes: Vec<DeviceNode>,
    pub(super) mounts: Vec<Mount>,
    pub(super) hooks: Vec<Hook>,
    #[serde(rename = "additionalGids")]
    pub(super) additional_gids: Vec<u32>,
    pub(super) intel_rdt: Option<BTreeMap<String, serde_json::Value>>,
    pub(super) net_devices: Option<Vec<BTreeMap<String, String>>>,
}

/// A device node; what is not said is as on the host.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct DeviceNode {
    /// In the container.
    pub(super) path: String,
    pub(super) host_path: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) major: i64,
    pub(super) minor: i64,
    pub(super) file_mode: Option<u32>,
    /// Some of `rwm`; empty: all.
    pub(super) permissions: String,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Mount {
    pub(super) host_path: String,
    pub(super) container_path: String,
    #[serde(default, rename = "type")]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) options: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Hook {
    pub(super) hook_name: String,
    pub(super) path: String,
    #[serde(default)]
    pub(super) args: Vec<String>,
    #[serde(default)]
    pub(super) env: Vec<String>,
    pub(super) timeout: Option<i64>,
}

/// The points of a container's life at which hooks are run.
pub(super) const HOOKS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

impl Document {
    /// Reads a file's text, of which JSON is a part of YAML's.
    ///
    /// # Errors
    /// What is wrong with it, in words that follow the file's name.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        // As YAML 1.1 has numbers: file modes are written 0660.
        let options = options! { strict_booleans: true, legacy_octal_numbers: true };
        let document: Self =
            serde_saphyr::from_str_with_options(text, options).map_err(|error| error.to_string())?;
        document.check()?;
        Ok(document)
    }

    fn check(&self) -> Result<(), String> {
        let major = self.cdi_version.trim_start_matches('v').split('.').next();
        if !matches!(major, Some("0" | "1")) {
            return Err(format!("unknown CDI version {:?}", self.cdi_version));
        }
        let legal = self.kind.split_once('/').is_some_and(|(vendor, class)| {
            let begins = |word: &str| word.starts_with(|first: char| first.is_ascii_alphabetic());
            begins(vendor) && begins(class) && word(vendor, ".-_") && word(class, "-_.")
        });
        if !legal {
            return Err(format!("invalid kind {:?}: VENDOR/CLASS is wanted", self.kind));
        }
        if self.devices.is_empty() {
            return Err("it names no devices".to_owned());
        }
        self.container_edits.check()?;
        for (number, device) in self.devices.iter().enumerate() {
            if !word(&device.name, "-_.:") {
                return Err(format!("invalid device name {:?}", device.name));
            }
            if self.devices[..number].iter().any(|other| other.name == device.name) {
                return Err(format!("device {:?} is there twice", device.name));
            }
            device.container_edits.check().map_err(|why| format!("device {:?}: {why}", device.name))?;
        }
        Ok(())
    }
}

/// Letters and digits at both ends, those and some of `others` between.
pub(super) fn word(text: &str, others: &str) -> bool {
    let inner = |letter: char| letter.is_ascii_alphanumeric() || others.contains(letter);
    let outer = |letter: char| letter.is_ascii_alphanumeric();
    text.starts_with(outer) && text.ends_with(outer) && text.chars().all(inner)
}

impl Edits {
    fn check(&self) -> Result<(), String> {
        if let Some(variable) = self.env.iter().find(|variable| !variable.contains('=')) {
            return Err(format!("invalid environment variable {variable:?}"));
        }
        for node in &self.device_nodes {
            if node.path.is_empty() {
                return Err("a device node without a path".to_owned());
            }
            if !matches!(node.kind.as_str(), "" | "b" | "c" | "u" | "p") {
                return Err(format!("device {:?}: invalid type {:?}", node.path, node.kind));
            }
            if node.permissions.bytes().any(|letter| !b"rwm".contains(&letter)) {
                return Err(format!("device {:?}: invalid permissions {:?}", node.path, node.permissions));
            }
        }
        if let Some(hook) = self.hooks.iter().find(|hook| !HOOKS.contains(&hook.hook_name.as_str())) {
            return Err(format!("invalid hook name {:?}", hook.hook_name));
        }
        if let Some(hook) = self.hooks.iter().find(|hook| !hook.path.starts_with('/')) {
            return Err(format!("the path of hook {:?} is not absolute", hook.path));
        }
        if self.mounts.iter().any(|mount| mount.host_path.is_empty() || mount.container_path.is_empty()) {
            return Err("a mount without hostPath or containerPath".to_owned());
        }
        let unknown = [("intelRdt", self.intel_rdt.is_some()), ("netDevices", self.net_devices.is_some())];
        match unknown.iter().find(|(_, given)| *given) {
            Some((name, _)) => Err(format!("{name} is not available in this version of Wharf")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_notations_are_read() {
        let yaml = "
cdiVersion: 0.5.0
kind: nvidia.com/gpu
containerEdits:
  env: [A=yes]
  mounts:
  - {hostPath: /a, containerPath: /b, options: [ro, nosuid, nodev, bind]}
  hooks:
  - hookName: createContainer
    path: /usr/bin/nvidia-cdi-hook
    args: [nvidia-cdi-hook, chmod, --mode, \"755\"]
devices:
- name: \"0\"
  containerEdits: {deviceNodes: [{path: /dev/nvidia0, fileMode: 0660}], additionalGids: [7]}
- {name: all, annotations: {of: x}}
";
        let document = Document::parse(yaml).unwrap();
        assert_eq!(document.container_edits.env, ["A=yes"]);
        assert_eq!(document.container_edits.hooks[0].args[3], "755");
        assert_eq!(document.devices[0].container_edits.device_nodes[0].file_mode, Some(0o660));
        let json = r#"{"cdiVersion":"1.0.0","kind":"a.b/c","devices":[{"name":"x","containerEdits":{"env":["B=1"]}}]}"#;
        assert_eq!(Document::parse(json).unwrap().devices[0].container_edits.env, ["B=1"]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let with = |version: &str, kind: &str, devices: &str| {
            let text = format!("{{cdiVersion: {version}, kind: {kind}, devices: {devices}}}");
            Document::parse(&text).unwrap_err()
        };
        for (version, kind, devices, why) in [
            ("2.0.0", "a/b", "[{name: x}]", "unknown CDI version"),
            ("0.6.0", "ab", "[{name: x}]", "invalid kind \"ab\""),
            ("0.6.0", "a/b", "[]", "no devices"),
            ("0.6.0", "a/b", "[{name: x/y}]", "invalid device name"),
            ("0.6.0", "a/b", "[{name: x}, {name: x}]", "is there twice"),
            ("0.6.0", "a/b", "[{name: x, other: y}]", "unknown field"),
            ("0.6.0", "a/b", "[{name: x, containerEdits: {env: [X]}}]", "invalid environment variable \"X\""),
            (
                "0.6.0",
                "a/b",
                "[{name: x, containerEdits: {deviceNodes: [{path: /d, type: z}]}}]",
                "invalid type",
            ),
            (
                "0.6.0",
                "a/b",
                "[{name: x, containerEdits: {hooks: [{hookName: h, path: /h}]}}]",
                "invalid hook name",
            ),
            ("0.6.0", "a/b", "[{name: x, containerEdits: {intelRdt: {}}}]", "intelRdt is not available"),
        ] {
            let error = with(version, kind, devices);
            assert!(error.contains(why), "{error}");
        }
    }
}
