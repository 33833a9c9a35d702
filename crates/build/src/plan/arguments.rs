//! Build arguments: those that are always there, those above the first `FROM`, those of a stage.

use std::collections::BTreeMap;

use wharf_oci::Platform;

use super::PlanOptions;

/// Arguments that need no declaration, and leave no trace in the history.
const PROXIES: [&str; 5] = ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];

/// Whether an argument is one of the proxies', in either case.
fn is_proxy(name: &str) -> bool {
    PROXIES.contains(&name.to_ascii_uppercase().as_str())
        && (name == name.to_ascii_uppercase() || name == name.to_ascii_lowercase())
}

/// The proxies' settings that were given, as a `RUN` sees them.
pub(super) fn proxies(options: &PlanOptions) -> Vec<String> {
    let given = options.arguments.iter().filter(|(name, _)| is_proxy(name));
    given.map(|(name, value)| format!("{name}={value}")).collect()
}

/// `BUILDPLATFORM`, `TARGETARCH` and their like; they can be used in `FROM`, and in a stage once declared.
pub(super) fn platform_arguments(options: &PlanOptions) -> BTreeMap<String, String> {
    let mut arguments = BTreeMap::new();
    let mut of = |prefix: &str, platform: &Platform| {
        let mut put = |suffix: &str, value: String| arguments.insert(format!("{prefix}{suffix}"), value);
        put("PLATFORM", full_name(platform));
        put("OS", platform.os.clone());
        put("OSVERSION", platform.os_version.clone());
        put("ARCH", platform.architecture.clone());
        put("VARIANT", platform.variant.clone());
    };
    of("BUILD", &options.build_platform);
    of("TARGET", &options.platform);
    arguments
        .insert("TARGETSTAGE".to_owned(), options.target.clone().unwrap_or_else(|| "default".to_owned()));
    arguments
}

/// `linux/arm/v7`.
pub(super) fn full_name(platform: &Platform) -> String {
    let base = format!("{}/{}", platform.os, platform.architecture);
    if platform.variant.is_empty() { base } else { format!("{base}/{}", platform.variant) }
}
