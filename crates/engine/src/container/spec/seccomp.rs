//! Seccomp profiles: the built-in one, and those that users write in Docker's format.

use std::sync::OnceLock;

use serde::Deserialize;
use wharf_oci::runtime::{LinuxSeccomp, SeccompAction, SyscallArg, SyscallRule};

use super::runtime_error;
use crate::error::{Error, Result};

/// A profile in Docker's format: the runtime's, with conditions.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Profile {
    default_action: String,
    default_errno_ret: Option<u32>,
    architectures: Option<Vec<String>>,
    arch_map: Option<Vec<ArchMap>>,
    flags: Option<Vec<String>>,
    listener_path: String,
    listener_metadata: String,
    syscalls: Option<Vec<Rule>>,
}

/// An architecture and those its kernel runs besides.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ArchMap {
    architecture: String,
    sub_architectures: Option<Vec<String>>,
}

/// One rule, for hosts and containers that fit.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Rule {
    name: String,
    names: Option<Vec<String>>,
    action: String,
    errno_ret: Option<u32>,
    args: Option<Vec<SyscallArg>>,
    includes: Filter,
    excludes: Filter,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Filter {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

/// The built-in profile for a container with `capabilities`.
pub fn builtin(capabilities: &[String]) -> LinuxSeccomp {
    wharf_oci::seccomp::docker_default(capabilities, kernel())
}

/// Reads a profile and resolves its conditions; `None` where it says nothing at all (`{}`), which Docker takes as no
/// filter.
///
/// # Errors
/// What Docker says of a profile that is none, at start.
pub fn parse(text: &str, capabilities: &[String]) -> Result<Option<LinuxSeccomp>> {
    let profile: Profile = serde_json::from_str(text).map_err(|error| {
        Error::internal(format!("Decoding seccomp profile failed: {}", reason(text, &error)))
    })?;
    if profile.default_action.is_empty() && profile.syscalls.as_ref().is_none_or(Vec::is_empty) {
        return Ok(None);
    }
    let given = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
    if given(&profile.architectures) && profile.arch_map.as_ref().is_some_and(|map| !map.is_empty()) {
        let why = "both 'architectures' and 'archMap' are specified in the seccomp profile, use either 'architectures' or 'archMap'";
        return Err(Error::internal(why));
    }
    let mut architectures = profile.architectures.clone().unwrap_or_default();
    for map in profile.arch_map.iter().flatten().filter(|map| map.architecture == NATIVE.1) {
        architectures.push(map.architecture.clone());
        architectures.extend(map.sub_architectures.iter().flatten().cloned());
    }
    let mut syscalls = Vec::new();
    for rule in profile.syscalls.iter().flatten() {
        syscalls.extend(resolve(rule, capabilities)?);
    }
    Ok(Some(LinuxSeccomp {
        default_action: action(&profile.default_action)?,
        default_errno_ret: profile.default_errno_ret,
        architectures,
        flags: profile.flags.unwrap_or_default(),
        listener_path: profile.listener_path,
        listener_metadata: profile.listener_metadata,
        syscalls,
    }))
}

/// Go's words for the commonest mistake, a path where the profile itself belongs (the client reads files).
fn reason(text: &str, error: &serde_json::Error) -> String {
    match text.trim_start().chars().next() {
        Some(first) if !matches!(first, '{' | '[' | '"' | 't' | 'f' | 'n' | '-' | '0'..='9') => {
            format!("invalid character '{first}' looking for beginning of value")
        }
        None => "unexpected end of JSON input".to_owned(),
        _ => error.to_string(),
    }
}

/// This machine: as Docker's profiles say it, and as the kernel's constants do.
#[cfg(target_arch = "x86_64")]
const NATIVE: (&str, &str) = ("amd64", "SCMP_ARCH_X86_64");
#[cfg(target_arch = "aarch64")]
const NATIVE: (&str, &str) = ("arm64", "SCMP_ARCH_AARCH64");

fn resolve(rule: &Rule, capabilities: &[String]) -> Result<Option<SyscallRule>> {
    let has = |name: &String| capabilities.contains(name);
    let here = |arch: &String| arch == NATIVE.0;
    let (includes, excludes) = (&rule.includes, &rule.excludes);
    let any = |list: &Option<Vec<String>>, fits: &dyn Fn(&String) -> bool| list.iter().flatten().any(fits);
    let said = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
    if any(&excludes.arches, &here) || any(&excludes.caps, &has) {
        return Ok(None);
    }
    if excludes.min_kernel.as_deref().is_some_and(at_least) {
        return Ok(None);
    }
    if said(&includes.arches) && !any(&includes.arches, &here) {
        return Ok(None);
    }
    // All of the capabilities have to be there, any of the architectures.
    if !includes.caps.iter().flatten().all(has) {
        return Ok(None);
    }
    if includes.min_kernel.as_deref().is_some_and(|version| !at_least(version)) {
        return Ok(None);
    }
    if !rule.name.is_empty() && said(&rule.names) {
        let why =
            "both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'";
        return Err(Error::internal(why));
    }
    let names =
        if rule.name.is_empty() { rule.names.clone().unwrap_or_default() } else { vec![rule.name.clone()] };
    Ok(Some(SyscallRule {
        names,
        action: action(&rule.action)?,
        errno_ret: rule.errno_ret,
        args: rule.args.clone().unwrap_or_default(),
    }))
}

fn action(text: &str) -> Result<SeccompAction> {
    serde_json::from_value(serde_json::Value::String(text.to_owned()))
        .map_err(|_| runtime_error(format_args!("string {text} is not a valid action for seccomp")))
}

/// The running kernel's version, major and minor.
pub fn kernel() -> (u32, u32) {
    static VERSION: OnceLock<(u32, u32)> = OnceLock::new();
    *VERSION.get_or_init(|| version(&rustix::system::uname().release().to_string_lossy()))
}

fn version(text: &str) -> (u32, u32) {
    let mut parts = text.split(|letter: char| !letter.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

fn at_least(wanted: &str) -> bool {
    kernel() >= version(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(profile: &str) -> String {
        parse(profile, &[]).unwrap_err().message().to_owned()
    }

    #[test]
    fn profiles_are_refused_as_recorded() {
        let why = "Decoding seccomp profile failed: invalid character '/' looking for beginning of value";
        assert_eq!(text("/nonexist"), why);
        assert!(text(r#"{"defaultAction":"foo"}"#).ends_with("string foo is not a valid action for seccomp"));
        let both = r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["x"],"archMap":[{}]}"#;
        assert!(text(both).starts_with("both 'architectures' and 'archMap' are specified"));
        assert_eq!(parse("{}", &[]).unwrap(), None);
    }

    #[test]
    fn conditions_are_resolved() {
        let profile = format!(
            r#"{{"defaultAction":"SCMP_ACT_ERRNO","archMap":[{{"architecture":"{}","subArchitectures":["SCMP_ARCH_X86"]}}],
            "syscalls":[
              {{"names":["a"],"action":"SCMP_ACT_ALLOW","includes":{{"caps":["CAP_SYS_ADMIN"]}}}},
              {{"names":["b"],"action":"SCMP_ACT_ALLOW","excludes":{{"caps":["CAP_SYS_ADMIN"]}}}},
              {{"names":["c"],"action":"SCMP_ACT_ALLOW","includes":{{"minKernel":"4.8"}}}},
              {{"names":["d"],"action":"SCMP_ACT_ALLOW","includes":{{"minKernel":"99.0"}}}},
              {{"names":["e"],"action":"SCMP_ACT_ALLOW","includes":{{"arches":["nothing"]}}}},
              {{"name":"f","action":"SCMP_ACT_ERRNO","errnoRet":38,"args":[{{"index":0,"value":1,"op":"SCMP_CMP_EQ"}}]}}]}}"#,
            NATIVE.1
        );
        let names = |capabilities: &[String]| -> Vec<String> {
            let profile = parse(&profile, capabilities).unwrap().unwrap();
            profile.syscalls.into_iter().flat_map(|rule| rule.names).collect()
        };
        assert_eq!(names(&[]), ["b", "c", "f"]);
        assert_eq!(names(&["CAP_SYS_ADMIN".to_owned()]), ["a", "c", "f"]);
        assert_eq!(parse(&profile, &[]).unwrap().unwrap().architectures.len(), 2);
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(version("6.18.44-x") > version("6.8"));
        assert!(at_least("5.15"));
    }
}
