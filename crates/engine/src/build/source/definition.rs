//! The Dockerfile, and what the context leaves out.

use std::collections::BTreeMap;
use std::sync::Arc;

use wharf_build::graph::Graph;
use wharf_build::ignore::Ignore;
use wharf_build::plan::{ContextSource, GraphSource, context_graph};
use wharf_build::solve::LocalRequest;
use wharf_oci::{Digest, Platform};
use wharf_sys::root::Root;

use crate::build::request::{BuildRequest, DockerfileSource};
use crate::build::solve::RunOptions;
use crate::build::{Build, BuildFailure, Step};
use crate::error::ErrorKind;

/// The largest Dockerfile or ignore file that is read, bytes.
const LARGEST: u64 = 16 << 20;
/// What an archive's first bytes are looked at for.
const HEAD: usize = 512;

/// What a build is defined by.
pub(in crate::build) struct Definition {
    /// The Dockerfile's name.
    pub(in crate::build) name: String,
    /// All of it.
    pub(in crate::build) text: Arc<str>,
    /// The step that read it.
    pub(in crate::build) step: Digest,
    /// The build context.
    pub(in crate::build) context: ContextSource,
    /// The named ones.
    pub(in crate::build) contexts: BTreeMap<String, ContextSource>,
}

impl Build {
    /// Reads the Dockerfile and the ignore files.
    pub(in crate::build) fn definition(
        self: &Arc<Self>,
        request: &BuildRequest,
    ) -> Result<Definition, BuildFailure> {
        let shown = match &request.dockerfile {
            DockerfileSource::Local { path, .. } | DockerfileSource::Context { path } => path.clone(),
            DockerfileSource::Text(_) => "Dockerfile".to_owned(),
        };
        let mut context = request.context.clone();
        let (text, own_ignore, step) =
            self.step(&format!("[internal] load build definition from {shown}"), |step| {
                let (text, own) = match &request.dockerfile {
                    DockerfileSource::Text(text) => (text.clone().into_bytes(), None),
                    DockerfileSource::Local { name, path } => {
                        let ignore = format!("{path}.dockerignore");
                        let root = self.part(name, &[path, &ignore], step)?;
                        (self.dockerfile_in(&root, path)?, root.read(&ignore, LARGEST).ok())
                    }
                    DockerfileSource::Context { path } => self.in_context(&mut context, path, step)?,
                };
                Ok((text, own, step.digest()))
            })?;
        let text = String::from_utf8(text)
            .map_err(|_| BuildFailure::new(ErrorKind::Invalid, format!("{shown} is not UTF-8")))?;
        if let ContextSource::Local { name, ignored } = &mut context {
            let file = match own_ignore {
                Some(own) => Some(own),
                None => self.ignore_file(name, "load .dockerignore")?,
            };
            *ignored = lines(file)?;
        }
        let mut contexts = request.contexts.clone();
        for (shown, context) in &mut contexts {
            if let ContextSource::Local { name, ignored } = context {
                *ignored = lines(self.ignore_file(name, &format!("load .dockerignore of {shown}"))?)?;
            }
        }
        Ok(Definition { name: shown, text: text.into(), step, context, contexts })
    }

    fn ignore_file(&self, name: &str, shown: &str) -> Result<Option<Vec<u8>>, BuildFailure> {
        self.step(&format!("[internal] {shown}"), |step| {
            let root = self.part(name, &[".dockerignore"], step)?;
            Ok(root.read(".dockerignore", LARGEST).ok())
        })
    }

    /// A part of a client's directory.
    fn part(&self, name: &str, files: &[&str], step: &Step) -> Result<Root, BuildFailure> {
        let follow: Vec<String> = files.iter().map(|file| (*file).to_owned()).collect();
        let request = LocalRequest { name, include: &[], exclude: &[], follow: &follow };
        let path = self.local(&request, step).map_err(|why| BuildFailure::new(ErrorKind::Invalid, why))?;
        Root::open(&path).map_err(|error| BuildFailure::new(ErrorKind::Internal, error.to_string()))
    }

    fn dockerfile_in(&self, root: &Root, path: &str) -> Result<Vec<u8>, BuildFailure> {
        root.read(path, LARGEST).map_err(|error| {
            let why =
                if error.is_not_found() { "no such file or directory".to_owned() } else { error.to_string() };
            BuildFailure::new(ErrorKind::Invalid, format!("failed to read dockerfile: open {path}: {why}"))
        })
    }

    /// The Dockerfile in a context that comes from elsewhere. An address may give a Dockerfile alone.
    fn in_context(
        self: &Arc<Self>,
        context: &mut ContextSource,
        path: &str,
        step: &Step,
    ) -> Result<(Vec<u8>, Option<Vec<u8>>), BuildFailure> {
        let ignore = format!("{path}.dockerignore");
        if let ContextSource::Local { name, .. } = context {
            let root = self.part(name, &[path, &ignore], step)?;
            return Ok((self.dockerfile_in(&root, path)?, root.read(&ignore, LARGEST).ok()));
        }
        if let ContextSource::Archive(url) = context
            && let Some(text) = self.lone_dockerfile(url, step)?
        {
            let (graph, result, config) = (Graph::default(), None, None);
            *context = ContextSource::Graph(Box::new(GraphSource { graph, result, config }));
            return Ok((text, None));
        }
        let (graph, result) = context_graph(context, &Platform::host());
        let missing = || {
            BuildFailure::new(
                ErrorKind::Invalid,
                format!("failed to read dockerfile: open {path}: no such file or directory"),
            )
        };
        let result = result.ok_or_else(missing)?;
        let tree = self.run_graph(&graph, result, &RunOptions::default(), None)?;
        let root = self.open(&tree)?;
        Ok((self.dockerfile_in(&root, path)?, root.read(&ignore, LARGEST).ok()))
    }

    /// What an address gives, if that is no archive.
    fn lone_dockerfile(&self, url: &str, step: &Step) -> Result<Option<Vec<u8>>, BuildFailure> {
        let invalid = |why: String| BuildFailure::new(ErrorKind::Invalid, why);
        let directory = self.http(url, None, "context", step).map_err(invalid)?;
        let root = Root::open(&directory).map_err(|error| invalid(error.to_string()))?;
        let mut head = Vec::new();
        let file = root.open_file("context").map_err(|error| invalid(error.to_string()))?;
        std::io::Read::read_to_end(&mut std::io::Read::take(file, HEAD as u64), &mut head)
            .map_err(|error| invalid(error.to_string()))?;
        if is_archive(&head) {
            return Ok(None);
        }
        let text = root.read("context", LARGEST).map_err(|error| invalid(error.to_string()))?;
        Ok(Some(text))
    }
}

/// The patterns of an ignore file.
fn lines(file: Option<Vec<u8>>) -> Result<Vec<String>, BuildFailure> {
    let Some(file) = file else { return Ok(Vec::new()) };
    let text = String::from_utf8_lossy(&file);
    let ignore = Ignore::read(&text);
    let ignore = ignore.map_err(|error| {
        BuildFailure::new(ErrorKind::Invalid, format!("failed parsing .dockerignore: {error}"))
    })?;
    Ok(ignore.patterns().collect())
}

/// Whether a file begins as a tar archive does, compressed or not.
fn is_archive(head: &[u8]) -> bool {
    let compressed: [&[u8]; 4] =
        [&[0x1f, 0x8b], b"BZh", &[0xfd, b'7', b'z', b'X', b'Z'], &[0x28, 0xb5, 0x2f, 0xfd]];
    compressed.iter().any(|magic| head.starts_with(magic)) || head.get(257..262) == Some(b"ustar")
}
