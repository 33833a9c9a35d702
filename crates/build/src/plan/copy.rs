//! `COPY` and `ADD`.

use super::PlanError;
use super::metadata::absolute;
use super::stage::{Planner, StageState};
use crate::dockerfile::{AddOptions, Copy, InlineFile, Instruction, Lines, Located};
use crate::graph::{CopyFiles, Edge, FileAction, Node, Operation, Owner, Source};
use crate::words::Lexer;

impl Planner<'_> {
    /// Adds the nodes of a `COPY` or `ADD`.
    pub(super) fn copy(
        &mut self,
        state: &mut StageState,
        copy: &Copy,
        located: &Located<Instruction>,
    ) -> Result<(), PlanError> {
        let lines = located.lines;
        let mut expanded = copy.clone();
        for source in &mut expanded.sources {
            *source = self.word(state, source, lines)?;
        }
        let destination = self.word(state, &copy.destination, lines)?;
        for pattern in &mut expanded.excludes {
            *pattern = self.word(state, pattern, lines)?;
        }
        if let Some(owner) = &copy.chown {
            expanded.chown = Some(self.word(state, owner, lines)?);
        }
        if let Some(mode) = &copy.chmod {
            let mode = self.word(state, mode, lines)?;
            check_mode(&mode).map_err(|why| PlanError::at(lines, why))?;
            expanded.chmod = Some(mode);
        }
        expanded.destination = target(&state.image.config.working_dir, &destination);
        let several = expanded.sources.len() + expanded.files.len() > 1;
        if several && !expanded.destination.ends_with('/') {
            let name = located.item.name();
            let why = format!(
                "When using {name} with more than one source file, the destination must be a directory and end with a /"
            );
            return Err(PlanError::at(
                lines,
                format!("dockerfile parse error on line {}: {why}", lines.first),
            ));
        }
        let mut inputs = Vec::new();
        let mut actions = Vec::new();
        if !expanded.sources.is_empty() {
            self.sources(state, &expanded, &mut inputs, &mut actions, lines)?;
        }
        for file in &copy.files {
            let action = self.inline(state, file, &expanded, &mut inputs, lines)?;
            actions.push(action);
        }
        let shown = shown(located, &destination, &expanded, copy);
        let name = format!("{}{} {shown}", state.next(), located.item.name());
        self.place(state, &expanded, actions, inputs, name, lines);
        state.record_layer(format!(
            "{} {} # buildkit",
            located.item.name(),
            recorded(copy, &expanded, &destination)
        ));
        Ok(())
    }

    /// Lays the copies over the stage's tree; a link's are made on an empty one, so that they depend on nothing below.
    fn place(
        &mut self,
        state: &mut StageState,
        copy: &Copy,
        actions: Vec<FileAction>,
        inputs: Vec<Edge>,
        name: String,
        lines: Lines,
    ) {
        let names_need_base =
            copy.chown.as_ref().is_some_and(|owner| owner.contains(|part: char| part.is_ascii_alphabetic()));
        if !copy.link || names_need_base {
            self.files(state, actions, inputs, name, lines);
            return;
        }
        let mut alone = StageState { tree: None, ..state.clone() };
        self.files(&mut alone, actions, inputs, name.clone(), lines);
        let (Some(below), Some(copied)) = (state.tree, alone.tree) else {
            state.tree = alone.tree;
            return;
        };
        let node = self.graph.add(Node {
            operation: Operation::Merge,
            inputs: vec![below, copied],
            name: format!("[internal] link {name}"),
            lines: Some(lines),
            platform: state.platform.clone(),
            ignore_cache: false,
        });
        state.tree = Some(Edge { node, output: 0 });
    }

    /// The copies of paths and addresses.
    fn sources(
        &mut self,
        state: &mut StageState,
        copy: &Copy,
        inputs: &mut Vec<Edge>,
        actions: &mut Vec<FileAction>,
        lines: Lines,
    ) -> Result<(), PlanError> {
        let local: Vec<String> =
            copy.sources.iter().filter(|source| copy.add.is_none() || !is_remote(source)).cloned().collect();
        let tree = if local.is_empty() {
            None
        } else {
            Some(self.from(state, copy.from.as_deref(), &local, lines)?)
        };
        let tree_input = tree.map(|tree| {
            inputs.push(tree);
            inputs.len()
        });
        for source in &copy.sources {
            let add = copy.add.clone().unwrap_or_default();
            let (input, source, unpack) = match tree_input {
                Some(input) if copy.add.is_none() || !is_remote(source) => {
                    (input, source.clone(), copy.add.is_some() && add.unpack != Some(false))
                }
                _ => {
                    let (edge, name, unpack) = self.remote(state, source, &add, lines);
                    inputs.push(edge);
                    (inputs.len(), name, unpack)
                }
            };
            actions.push(FileAction::Copy(Box::new(CopyFiles {
                input,
                source: format!("/{}", source.trim_start_matches('/')),
                destination: copy.destination.clone(),
                owner: copy.chown.clone().map(|name| Owner { name }),
                mode: copy.chmod.clone(),
                unpack,
                parents: copy.parents,
                allow_empty: true,
                keep_name: false,
                replace: false,
                include: Vec::new(),
                required: Vec::new(),
                exclude: copy.excludes.clone(),
            })));
        }
        Ok(())
    }

    /// A repository or a file from elsewhere: its tree, the path in it, and whether it is unpacked.
    fn remote(
        &mut self,
        state: &StageState,
        address: &str,
        add: &AddOptions,
        lines: Lines,
    ) -> (Edge, String, bool) {
        let (source, name, path) = if is_git(address) {
            let source = Source::Git { address: address.to_owned(), keep_git_dir: add.keep_git_dir };
            (source, format!("[internal] load git source {address}"), "/".to_owned())
        } else {
            let file_name = file_name(address);
            let source = Source::Http {
                url: address.to_owned(),
                checksum: add.checksum.clone(),
                file_name: file_name.clone(),
            };
            (source, address.to_owned(), file_name)
        };
        let node = self.graph.add(Node {
            operation: Operation::Source(source),
            inputs: Vec::new(),
            name,
            lines: Some(lines),
            platform: state.platform.clone(),
            ignore_cache: false,
        });
        (Edge { node, output: 0 }, path, add.unpack == Some(true))
    }

    /// A file whose content stands in the Dockerfile.
    fn inline(
        &mut self,
        state: &StageState,
        file: &InlineFile,
        copy: &Copy,
        inputs: &mut Vec<Edge>,
        lines: Lines,
    ) -> Result<FileAction, PlanError> {
        let content = if file.expand {
            let lookup = |name: &str| state.variables.get(name).cloned();
            let lexer = Lexer { escape: self.dockerfile.directives.escape, literal_quotes: true };
            lexer
                .expand(&file.content, &lookup)
                .map_err(|error| PlanError::at(lines, error.to_string()))?
                .word
        } else {
            file.content.clone()
        };
        let path = format!("/{}", file.name.trim_start_matches('/'));
        let made = FileAction::MakeFile {
            path: path.clone(),
            content: content.into_bytes(),
            mode: 0o644,
            owner: None,
        };
        let empty = self.empty();
        let node = self.graph.add(Node {
            operation: Operation::Files(vec![made]),
            inputs: vec![empty],
            name: "[internal] preparing inline document".to_owned(),
            lines: Some(lines),
            platform: state.platform.clone(),
            ignore_cache: false,
        });
        inputs.push(Edge { node, output: 0 });
        Ok(FileAction::Copy(Box::new(CopyFiles {
            input: inputs.len(),
            source: path,
            destination: copy.destination.clone(),
            owner: copy.chown.clone().map(|name| Owner { name }),
            mode: copy.chmod.clone(),
            unpack: false,
            parents: false,
            allow_empty: false,
            keep_name: false,
            replace: false,
            include: Vec::new(),
            required: Vec::new(),
            exclude: Vec::new(),
        })))
    }

    /// The tree that files are taken from: the context, a stage, or an image.
    pub(super) fn from(
        &mut self,
        state: &StageState,
        from: Option<&str>,
        paths: &[String],
        lines: Lines,
    ) -> Result<Edge, PlanError> {
        let Some(name) = from else {
            let source = self.options.context.clone();
            let found = self.source_tree(&source, &state.platform, paths, Some(lines))?.0;
            return Ok(found.unwrap_or_else(|| self.empty()));
        };
        if name.contains('$') {
            let why = "variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround";
            return Err(PlanError::at(
                lines,
                format!("dockerfile parse error on line {}: {why}", lines.first),
            ));
        }
        let stage = self.dockerfile.stage(name).and_then(|at| self.stages[at].as_ref());
        let tree = match stage.filter(|_| self.named(name).is_none()) {
            Some(stage) => stage.tree,
            None => self.other_image(name, &state.platform, paths, lines)?,
        };
        Ok(tree.unwrap_or_else(|| self.empty()))
    }
}

fn is_git(address: &str) -> bool {
    let path = address.split('#').next().unwrap_or_default();
    address.starts_with("git@")
        || address.starts_with("git://")
        || address.starts_with("ssh://")
        || (path.ends_with(".git") && (address.starts_with("http://") || address.starts_with("https://")))
}

fn is_remote(address: &str) -> bool {
    address.starts_with("http://") || address.starts_with("https://") || is_git(address)
}

/// The last part of an address's path.
fn file_name(address: &str) -> String {
    let path = address.split(['?', '#']).next().unwrap_or_default();
    let path = path.split_once("://").map_or(path, |(_, rest)| rest);
    let name = path.split_once('/').and_then(|(_, path)| path.rsplit('/').find(|part| !part.is_empty()));
    name.unwrap_or("download").to_owned()
}

/// The destination seen from the working directory; a trailing slash stays.
fn target(directory: &str, destination: &str) -> String {
    let path = absolute(directory, destination);
    let is_directory = destination.ends_with('/')
        || destination == "."
        || destination.ends_with("/.")
        || destination.is_empty();
    if is_directory && path != "/" { format!("{path}/") } else { path }
}

fn check_mode(mode: &str) -> Result<(), String> {
    let octal = u32::from_str_radix(mode, 8).is_ok_and(|mode| mode <= 0o7777);
    let symbolic = mode.split(',').all(|part| {
        let (who, rest) = part.split_at(part.find(['+', '-', '=']).unwrap_or(part.len()));
        who.chars().all(|part| "ugoa".contains(part))
            && rest.len() > 1
            && rest.chars().all(|part| "+-=rwxXstugo".contains(part))
    });
    if octal || symbolic {
        Ok(())
    } else {
        Err(format!("invalid chmod parameter: '{mode}'. it should be octal string and between 0 and 07777"))
    }
}

/// The flags that the history shows, the sources and the destination.
fn recorded(copy: &Copy, expanded: &Copy, destination: &str) -> String {
    let chown = expanded.chown.iter().map(|owner| format!("--chown={owner}"));
    let chmod = expanded.chmod.iter().map(|mode| format!("--chmod={mode}"));
    let files = copy.files.iter().map(|file| format!("<<{}", file.name));
    let words = chown.chain(chmod).chain(expanded.sources.iter().cloned()).chain(files);
    words.chain([destination.to_owned()]).collect::<Vec<_>>().join(" ")
}

/// The instruction as it is shown: its flags as they were written, its words expanded.
fn shown(located: &Located<Instruction>, destination: &str, expanded: &Copy, copy: &Copy) -> String {
    let flags =
        located.text.split_whitespace().skip(1).take_while(|word| word.starts_with("--")).map(str::to_owned);
    let files = copy.files.iter().map(|file| format!("<<{}", file.name));
    let words = flags.chain(expanded.sources.iter().cloned()).chain(files);
    words.chain([destination.to_owned()]).collect::<Vec<_>>().join(" ")
}
