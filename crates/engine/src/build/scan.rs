//! Lists of what is in an image: a scanner, which is an image too, looks at a result and leaves its statements in files.
//!
//! The protocol is BuildKit's: the tree is mounted read-only below `/run/src/core`, the scanner is told by its environment,
//! and each file that it leaves in `/run/out` is one in-toto statement.

use std::io::Read;

use serde_json::Value;
use wharf_build::graph::Execute;
use wharf_build::solve::{MountSource, Process, ReadyMount, Tree};
use wharf_oci::Platform;
use wharf_store::ChainLayer;
use wharf_sys::root::Root;

use super::export::{Sbom, Statement};
use super::host::Hosted;
use super::solve::RunOptions;
use super::vertex::Steps;
use super::{Build, Step, run};
use crate::container::launch::make_directory;
use crate::error::{Error, ErrorKind, Result};
use crate::names::new_id;

/// The scanner of who names none.
const USUAL: &str = "docker/buildkit-syft-scanner:stable-1";
/// Where the scanner finds what it looks at, and where it leaves what it found.
const SOURCE: &str = "/run/src/core/sbom";
const DESTINATION: &str = "/run/out";
/// What it works in.
const SCRATCH: &str = "/tmp";
/// What its statements must be.
const SPDX: &str = "https://spdx.dev/Document";
/// The files that it may leave, and the bytes of each.
const MOST: usize = 64;
const LARGEST: u64 = 32 << 20;

impl Build {
    /// What a scanner says of a tree. On a thread that may sleep.
    pub(super) fn scan(&self, platform: &Platform, tree: &Tree, wanted: &Sbom) -> Result<Vec<Statement>> {
        let scanner = wanted.generator.as_deref().filter(|name| !name.is_empty()).unwrap_or(USUAL);
        let reference = wharf_oci::Reference::parse(scanner)
            .map_err(|error| Error::invalid(format!("sbom scanner {scanner}: {error}")))?;
        let image = self.base_image(&reference.with_default_tag().to_string(), &Platform::host(), false)?;
        let config = image.config.config;
        let arguments: Vec<String> =
            [config.entrypoint, config.cmd].into_iter().flatten().flatten().collect();
        if arguments.is_empty() {
            return Err(Error::invalid(format!("sbom scanner {scanner} does not have cmd")));
        }
        let mut environment = config.env;
        environment.push(format!("BUILDKIT_SCAN_DESTINATION={DESTINATION}"));
        environment.push(format!("BUILDKIT_SCAN_SOURCE={SOURCE}"));
        let directory = SCRATCH.to_owned();
        let execute = Execute { arguments, environment, directory, user: config.user, ..Execute::default() };
        let id = image.id.parse().map_err(|_| Error::internal("an image's id is no digest"))?;
        let title = format!("[{platform}] generating sbom using {}", image.reference);
        let said = self.step(&title, |step| Ok(self.run_scanner(step, &id, tree, &execute)?));
        said.map_err(Error::from)
    }

    fn run_scanner(
        &self,
        step: &Step,
        id: &wharf_oci::Digest,
        tree: &Tree,
        execute: &Execute,
    ) -> Result<Vec<Statement>> {
        let store = &self.builds.store;
        let image = store.image_below(id);
        let image = image.ok_or_else(|| Error::not_found("the sbom scanner was removed before it ran"))?;
        let chain: Vec<ChainLayer> =
            image.layers.iter().map(|layer| ChainLayer::Image(layer.diff_id)).collect();
        let root = store.begin_step(&chain)?;
        let out = Scratch::new(&self.builds.places())?;
        let mount = |source, destination: &str, read_only| ReadyMount {
            source,
            selector: String::new(),
            destination: destination.to_owned(),
            read_only,
        };
        let source = match tree {
            Tree::Directory(path) => MountSource::Directory(path.clone()),
            Tree::Chain(chain) => MountSource::Layers(store.chain_view(chain)?),
        };
        let mounts = vec![
            mount(MountSource::Tmpfs(None), SCRATCH, false),
            mount(source, SOURCE, true),
            mount(MountSource::Directory(out.0.clone()), DESTINATION, false),
        ];
        let platform = Platform::host();
        let process = Process { execute, root: root.recipe(), mounts, platform: &platform };
        let (options, steps) = (RunOptions::default(), Steps::none(self));
        let host = Hosted { build: self, options: &options, steps: &steps };
        let code = run::execute(&host, &process, self.cancel(), step).map_err(Error::internal)?;
        if code != 0 {
            let shown = execute.arguments.join(" ");
            let why = format!("process \"{shown}\" did not complete successfully: exit code: {code}");
            return Err(Error::internal(why));
        }
        statements(&out.0)
    }
}

/// A directory that a scanner writes to.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn new(places: &std::path::Path) -> Result<Self> {
        let path = places.join(format!("scan-{}", new_id()));
        make_directory(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!("remove {}: {error}", self.0.display());
        }
    }
}

/// The statements that a scanner left, by the names of their files.
fn statements(directory: &std::path::Path) -> Result<Vec<Statement>> {
    let failed = |error: wharf_sys::root::RootError| Error::internal(format!("read sbom: {error}"));
    let root = Root::open(directory).map_err(failed)?;
    let mut names: Vec<_> = root.top().and_then(|top| top.entries()).map_err(failed)?;
    names.sort_by(|one, other| one.name.cmp(&other.name));
    if names.len() > MOST {
        return Err(Error::invalid(format!("the sbom scanner left more than {MOST} files")));
    }
    names.iter().map(|entry| statement(&root, &entry.name.to_string_lossy())).collect()
}

fn statement(root: &Root, name: &str) -> Result<Statement> {
    let wrong = |why: &dyn std::fmt::Display| {
        Error::new(ErrorKind::Invalid, format!("failed to read sbom statement {name}: {why}"))
    };
    let file = root.open_file(name).map_err(|error| wrong(&error))?;
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(|error| wrong(&error))?;
    if bytes.len() as u64 > LARGEST {
        return Err(wrong(&format!("it is larger than {LARGEST} bytes")));
    }
    let mut document: Value = serde_json::from_slice(&bytes).map_err(|error| wrong(&error))?;
    let kind = document.get("predicateType").and_then(Value::as_str).unwrap_or_default().to_owned();
    if kind != SPDX {
        return Err(wrong(&format!("bundle entry {kind} does not match required predicate type {SPDX}")));
    }
    let predicate = document.get_mut("predicate").map(Value::take).unwrap_or_default();
    Ok(Statement { predicate_type: kind, predicate })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_scanner_leaves_is_read_and_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write("b.json", r#"{"predicateType": "https://spdx.dev/Document", "predicate": {"b": 1}}"#);
        write("a.json", r#"{"predicateType": "https://spdx.dev/Document", "predicate": {"a": 1}}"#);
        let found = statements(dir.path()).unwrap();
        assert_eq!(found[0].predicate["a"], 1);
        assert_eq!(found[1].predicate["b"], 1);
        write("c.json", r#"{"predicateType": "https://example.com", "predicate": {}}"#);
        assert!(statements(dir.path()).unwrap_err().message().contains("does not match"));
        write("c.json", "no JSON");
        assert!(statements(dir.path()).is_err());
        std::fs::remove_file(dir.path().join("c.json")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("c.json")).unwrap();
        assert!(statements(dir.path()).is_err());
        for number in 0..MOST {
            write(&number.to_string(), "{}");
        }
        assert!(statements(dir.path()).unwrap_err().message().contains("more than"));
    }
}
