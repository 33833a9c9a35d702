//! `version`: this program and what it speaks.

use std::collections::BTreeMap;

use wharf_api::{ApiVersion, Component, PlatformName, Version};

use super::{System, host};

/// This program's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

impl System {
    /// Versions of the engine and its parts. All of them are this one program.
    pub fn version(&self) -> Version {
        let commit = option_env!("WHARF_COMMIT").unwrap_or_default();
        let built = option_env!("WHARF_BUILD_TIME").unwrap_or_default();
        let (api, oldest) = (ApiVersion::MAX.to_string(), ApiVersion::MIN.to_string());
        let kernel = host::kernel();
        let details = [
            ("ApiVersion", api.as_str()),
            ("Arch", host::go_architecture()),
            ("BuildTime", built),
            ("Experimental", "false"),
            ("GitCommit", commit),
            ("GoVersion", ""),
            ("KernelVersion", &kernel),
            ("MinAPIVersion", &oldest),
            ("Os", "linux"),
        ];
        let details: BTreeMap<String, String> =
            details.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Version {
            platform: PlatformName { name: "Wharf".to_owned() },
            components: vec![Component { name: "Engine".to_owned(), version: VERSION.to_owned(), details }],
            version: VERSION.to_owned(),
            api_version: api,
            min_api_version: oldest,
            git_commit: commit.to_owned(),
            go_version: String::new(),
            os: "linux".to_owned(),
            arch: host::go_architecture().to_owned(),
            kernel_version: kernel,
            experimental: false,
            build_time: built.to_owned(),
        }
    }
}
