//! Whether processes for other machines can be run here.

use std::path::Path;

use wharf_oci::Platform;

/// Where the kernel says which programs it hands to whom.
const REGISTERED: &str = "/proc/sys/fs/binfmt_misc";

/// Refuses a process that neither this machine nor an emulator can run, before the kernel does in its own words.
pub(super) fn check(platform: &Platform) -> Result<(), String> {
    let host = Platform::host();
    let own = platform.architecture == host.architecture
        || matches!(
            (host.architecture.as_str(), platform.architecture.as_str()),
            ("amd64", "386") | ("arm64", "arm")
        );
    if own || platform.architecture.is_empty() || is_registered(&platform.architecture) {
        return Ok(());
    }
    Err(format!(
        "a process for {platform} cannot be run on {host}: no emulator is registered below {REGISTERED}; \
         qemu-user-static has them"
    ))
}

fn is_registered(architecture: &str) -> bool {
    let machine = match architecture {
        "amd64" => "x86_64",
        "386" => "i386",
        "arm64" => "aarch64",
        "loong64" => "loongarch64",
        "mips64le" => "mips64el",
        other => other,
    };
    let enabled = |name: String| {
        let text = std::fs::read_to_string(Path::new(REGISTERED).join(name)).unwrap_or_default();
        text.lines().next() == Some("enabled")
    };
    enabled(format!("qemu-{machine}")) || (machine == "x86_64" && enabled("rosetta".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_needs_no_emulator() {
        assert_eq!(check(&Platform::host()), Ok(()));
        let strange = Platform { architecture: "nosuch".to_owned(), ..Platform::host() };
        assert!(check(&strange).is_err_and(|why| why.contains("no emulator is registered")));
    }
}
