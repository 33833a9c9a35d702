//! `wharf manifest annotate`.

use super::list::Lists;
use super::{Outcome, named};
use crate::connect::Target;
use crate::error::CliError;

/// What machines there are: an operating system, and its architectures.
const MACHINES: [(&str, &[&str]); 9] = [
    ("darwin", &["386", "amd64", "arm", "arm64"]),
    ("dragonfly", &["amd64"]),
    ("freebsd", &["386", "amd64", "arm"]),
    ("linux", &["386", "amd64", "arm", "arm64", "ppc64le", "mips64", "mips64le", "riscv64", "s390x"]),
    ("netbsd", &["386", "amd64", "arm"]),
    ("openbsd", &["386", "amd64", "arm"]),
    ("plan9", &["386", "amd64"]),
    ("solaris", &["amd64"]),
    ("windows", &["386", "amd64", "arm", "arm64"]),
];

#[derive(Debug, clap::Args)]
pub(crate) struct Annotate {
    /// Set architecture
    #[arg(long, value_name = "STRING", default_value = "", hide_default_value = true)]
    arch: String,
    /// Set operating system
    #[arg(long, value_name = "STRING", default_value = "", hide_default_value = true)]
    os: String,
    /// Set operating system feature
    #[arg(long, value_name = "STRINGS", value_delimiter = ',')]
    os_features: Vec<String>,
    /// Set operating system version
    #[arg(long, value_name = "STRING", default_value = "", hide_default_value = true)]
    os_version: String,
    /// Set architecture variant
    #[arg(long, value_name = "STRING", default_value = "", hide_default_value = true)]
    variant: String,
    #[arg(value_name = "MANIFEST_LIST")]
    list: String,
    #[arg(value_name = "MANIFEST")]
    manifest: String,
}

impl Annotate {
    pub(crate) async fn run(self, target: &Target) -> Outcome {
        let within =
            |what: &str, name: &str| format!("annotate: error parsing name for manifest {what}{name}");
        let list = named(&self.list).map_err(|error| error.within(&within("list ", &self.list)))?;
        let manifest = named(&self.manifest).map_err(|error| error.within(&within("", &self.manifest)))?;
        let lists = Lists::of(target);
        let mut described = lists.manifest(&list, &manifest)?.ok_or_else(|| {
            CliError::new(format!("manifest for image {} does not exist in {}", self.manifest, self.list))
        })?;
        let platform = described.descriptor.platform.get_or_insert_default();
        for (given, field) in [
            (&self.os, &mut platform.os),
            (&self.arch, &mut platform.architecture),
            (&self.variant, &mut platform.variant),
            (&self.os_version, &mut platform.os_version),
        ] {
            if !given.is_empty() {
                field.clone_from(given);
            }
        }
        for feature in &self.os_features {
            if !platform.os_features.contains(feature) {
                platform.os_features.push(feature.clone());
            }
        }
        let known = MACHINES.iter().find(|(os, _)| *os == platform.os);
        if !known.is_some_and(|(_, architectures)| architectures.contains(&platform.architecture.as_str())) {
            return Err(CliError::new(format!(
                "manifest entry for image has unsupported os/arch combination: {}/{}",
                self.os, self.arch
            )));
        }
        lists.save(&list, &manifest, &described)?;
        Ok(0)
    }
}
