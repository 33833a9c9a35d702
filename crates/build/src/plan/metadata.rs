//! Instructions that change the image's config, and what all instructions share: words and history.

use std::collections::BTreeMap;

use wharf_oci::History;
use wharf_oci::image::{Config, Empty, Healthcheck as Probe};

use super::PlanError;
use super::stage::{Planner, StageState};
use crate::dockerfile::{
    Argument, Command, Healthcheck, Instruction, Lines, Located, Pair, Rule, Warning, nearest,
};
use crate::graph::{Edge, FileAction, Node, Operation, Owner};
use crate::words::{Expanded, Lexer};

/// What the history says of who made a step.
const COMMENT: &str = "buildkit.dockerfile.v0";

impl Planner<'_> {
    /// Goes through one instruction of a stage.
    pub(super) fn dispatch(
        &mut self,
        state: &mut StageState,
        located: &Located<Instruction>,
    ) -> Result<(), PlanError> {
        let lines = located.lines;
        match &located.item {
            Instruction::Run(run) => return self.run(state, run, located),
            Instruction::Copy(copy) | Instruction::Add(copy) => return self.copy(state, copy, located),
            Instruction::Workdir(path) => return self.workdir(state, path, lines),
            Instruction::Arg(arguments) => return self.arguments(state, arguments, lines),
            Instruction::Env(pairs) => self.environment(state, pairs, lines)?,
            Instruction::Label(pairs) => self.labels(state, pairs, lines)?,
            Instruction::Expose(ports) => self.expose(state, ports, lines)?,
            Instruction::Volume(paths) => self.volume(state, paths, lines)?,
            Instruction::Cmd(command) => {
                let words = with_shell(command, &state.image.config);
                state.record(format!("CMD {}", quoted(&words)));
                state.image.config.cmd = some(words);
                // Of both forms, as BuildKit has it.
                state.image.config.args_escaped = true;
                state.command_given = true;
            }
            Instruction::Entrypoint(command) => {
                let words = with_shell(command, &state.image.config);
                state.record(format!("ENTRYPOINT {}", quoted(&words)));
                state.image.config.entrypoint = some(words);
                if !state.command_given {
                    state.image.config.cmd = None;
                }
            }
            Instruction::Maintainer(name) => {
                state.image.author.clone_from(name);
                state.record(format!("MAINTAINER {name}"));
            }
            Instruction::User(user) => {
                state.image.config.user = self.word(state, user, lines)?;
                state.record(format!("USER {}", state.image.config.user));
            }
            Instruction::Stopsignal(signal) => {
                state.image.config.stop_signal = self.word(state, signal, lines)?;
                state.record(format!("STOPSIGNAL {}", state.image.config.stop_signal));
            }
            Instruction::Shell(words) => {
                state.record(format!("SHELL [{}]", words.join(" ")));
                state.image.config.shell.clone_from(words);
            }
            Instruction::Onbuild(trigger) => {
                state.image.config.on_build.push(trigger.clone());
                // The step itself is not recorded: it does nothing here.
            }
            Instruction::Healthcheck(check) => healthcheck(state, check),
        }
        Ok(())
    }

    /// Expands a word of a stage; variables that are not set are told.
    pub(super) fn expanded(
        &mut self,
        state: &StageState,
        word: &str,
        lines: Lines,
    ) -> Result<Expanded, PlanError> {
        let lookup = |name: &str| state.variables.get(name).cloned();
        let expanded = Lexer::new(self.dockerfile.directives.escape).expand(word, &lookup);
        let expanded = expanded.map_err(|error| PlanError::at(lines, error.to_string()))?;
        for name in &expanded.unset {
            let mut message = format!("Usage of undefined variable '${name}'");
            if let Some(near) = nearest(name, state.variables.keys().map(String::as_str)) {
                message = format!("{message} (did you mean ${near}?)");
            }
            let warning = Warning::new(Rule::UNDEFINED_VAR, lines, message);
            if !self.warnings.contains(&warning) {
                self.warnings.push(warning);
            }
        }
        Ok(expanded)
    }

    /// [`Self::expanded`], as one word.
    pub(super) fn word(&mut self, state: &StageState, word: &str, lines: Lines) -> Result<String, PlanError> {
        Ok(self.expanded(state, word, lines)?.word)
    }

    /// Declares arguments: what was given wins, then the default, then what stands above the first `FROM`.
    fn arguments(
        &mut self,
        state: &mut StageState,
        arguments: &[Argument],
        lines: Lines,
    ) -> Result<(), PlanError> {
        let mut shown = Vec::new();
        for argument in arguments {
            let given = self.options.arguments.get(&argument.name).cloned();
            let value = match (given, &argument.default) {
                (Some(given), _) => Some(given),
                (None, Some(default)) => Some(self.word(state, default, lines)?),
                (None, None) => self.globals.get(&argument.name).cloned(),
            };
            shown.push(match &value {
                Some(value) => format!("{}={value}", argument.name),
                None => argument.name.clone(),
            });
            state.variables.extend(value.clone().map(|value| (argument.name.clone(), value)));
            state.arguments.retain(|(name, _)| *name != argument.name);
            state.arguments.push((argument.name.clone(), value));
        }
        state.record(format!("ARG {}", shown.join(" ")));
        Ok(())
    }

    /// The pairs of one instruction; all see what was before it.
    fn pairs(
        &mut self,
        state: &StageState,
        pairs: &[Pair],
        lines: Lines,
    ) -> Result<Vec<(String, String)>, PlanError> {
        let mut expanded = Vec::new();
        for pair in pairs {
            expanded.push((self.word(state, &pair.name, lines)?, self.word(state, &pair.value, lines)?));
        }
        Ok(expanded)
    }

    fn environment(&mut self, state: &mut StageState, pairs: &[Pair], lines: Lines) -> Result<(), PlanError> {
        let pairs = self.pairs(state, pairs, lines)?;
        state.record(format!("ENV {}", joined(&pairs)));
        for (name, value) in pairs {
            set(&mut state.image.config.env, &name, &value);
            state.variables.insert(name, value);
        }
        Ok(())
    }

    fn labels(&mut self, state: &mut StageState, pairs: &[Pair], lines: Lines) -> Result<(), PlanError> {
        let pairs = self.pairs(state, pairs, lines)?;
        state.record(format!("LABEL {}", joined(&pairs)));
        state.image.config.labels.extend(pairs);
        Ok(())
    }

    fn expose(&mut self, state: &mut StageState, ports: &[String], lines: Lines) -> Result<(), PlanError> {
        let mut exposed = BTreeMap::new();
        for port in ports {
            for word in self.expanded(state, port, lines)?.words {
                let found = ports_of(&word)
                    .ok_or_else(|| PlanError::at(lines, format!("invalid containerPort: {word}")))?;
                exposed.extend(found.into_iter().map(|port| (port, Empty {})));
            }
        }
        let shown: Vec<&str> = exposed.keys().map(String::as_str).collect();
        state.record(format!("EXPOSE [{}]", shown.join(" ")));
        state.image.config.exposed_ports.extend(exposed);
        Ok(())
    }

    fn volume(&mut self, state: &mut StageState, paths: &[String], lines: Lines) -> Result<(), PlanError> {
        let mut volumes = Vec::new();
        for path in paths {
            let path = self.word(state, path, lines)?;
            if path.is_empty() {
                return Err(PlanError::at(lines, "VOLUME specified can not be an empty string"));
            }
            volumes.push(path);
        }
        state.record(format!("VOLUME [{}]", volumes.join(" ")));
        state.image.config.volumes.extend(volumes.into_iter().map(|path| (path, Empty {})));
        Ok(())
    }

    fn workdir(&mut self, state: &mut StageState, path: &str, lines: Lines) -> Result<(), PlanError> {
        let asked = self.word(state, path, lines)?;
        if !asked.starts_with('/') && !state.directory_given {
            let message =
                format!("Relative workdir \"{asked}\" can have unexpected results if the base image changes");
            self.warnings.push(Warning::new(Rule::WORKDIR_RELATIVE, lines, message));
        }
        state.directory_given = true;
        let directory = absolute(&state.image.config.working_dir, &asked);
        state.image.config.working_dir.clone_from(&directory);
        let name = format!("{}WORKDIR {asked}", state.next());
        if directory != "/" {
            let user = state.image.config.user.clone();
            let owner = Some(Owner { name: user }).filter(|owner| !owner.name.is_empty());
            let action = FileAction::MakeDirectory { path: directory.clone(), mode: 0o755, owner };
            self.files(state, vec![action], Vec::new(), name, lines);
            state.record_layer(format!("WORKDIR {directory}"));
        } else {
            state.record(format!("WORKDIR {directory}"));
        }
        Ok(())
    }

    /// Adds a file operation on the stage's tree, whose result becomes the stage's tree. `inputs` come behind that tree.
    pub(super) fn files(
        &mut self,
        state: &mut StageState,
        actions: Vec<FileAction>,
        inputs: Vec<Edge>,
        name: String,
        lines: Lines,
    ) {
        let base = state.tree.unwrap_or_else(|| self.empty());
        let inputs = std::iter::once(base).chain(inputs).collect();
        let node = self.graph.add(Node {
            operation: Operation::Files(actions),
            inputs,
            name,
            lines: Some(lines),
            platform: state.platform.clone(),
            ignore_cache: state.ignore_cache,
        });
        state.tree = Some(Edge { node, output: 0 });
    }

    /// An empty tree.
    pub(super) fn empty(&mut self) -> Edge {
        let known = self
            .graph
            .nodes()
            .find(|(_, node)| node.operation == Operation::Merge && node.inputs.is_empty())
            .map(|found| found.0);
        let node = known.unwrap_or_else(|| {
            let platform = self.options.platform.clone();
            let name = "[internal] empty".to_owned();
            self.graph.add(Node {
                operation: Operation::Merge,
                inputs: Vec::new(),
                name,
                lines: None,
                platform,
                ignore_cache: false,
            })
        });
        Edge { node, output: 0 }
    }
}

impl StageState {
    /// Records a step that makes no layer.
    pub(super) fn record(&mut self, created_by: String) {
        self.push(created_by, true);
    }

    /// Records a step that makes a layer.
    pub(super) fn record_layer(&mut self, created_by: String) {
        self.push(created_by, false);
    }

    fn push(&mut self, created_by: String, empty_layer: bool) {
        let comment = COMMENT.to_owned();
        self.image.history.push(History {
            created: None,
            created_by,
            author: String::new(),
            comment,
            empty_layer,
        });
    }
}

/// No command at all is none.
fn some(words: Vec<String>) -> Option<Vec<String>> {
    Some(words).filter(|words| !words.is_empty())
}

/// The command as it is run: by the stage's shell, or as it is.
pub(super) fn with_shell(command: &Command, config: &Config) -> Vec<String> {
    match command {
        Command::Exec(words) => words.clone(),
        Command::Shell(line) => {
            let mut words = if config.shell.is_empty() {
                vec!["/bin/sh".to_owned(), "-c".to_owned()]
            } else {
                config.shell.clone()
            };
            words.push(line.clone());
            words
        }
    }
}

/// `NAME=value` set in a list, in its place where it is there.
fn set(list: &mut Vec<String>, name: &str, value: &str) {
    let line = format!("{name}={value}");
    match list.iter_mut().find(|line| line.split_once('=').map_or(line.as_str(), |(name, _)| name) == name) {
        Some(known) => *known = line,
        None => list.push(line),
    }
}

fn joined(pairs: &[(String, String)]) -> String {
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}

/// A list of strings as Go's `%q` shows it.
fn quoted(words: &[String]) -> String {
    let words: Vec<String> =
        words.iter().map(|word| serde_json::Value::from(word.as_str()).to_string()).collect();
    format!("[{}]", words.join(" "))
}

/// `path` seen from `directory`, without `.` and `..`.
pub(super) fn absolute(directory: &str, path: &str) -> String {
    let whole = if path.starts_with('/') { path.to_owned() } else { format!("{directory}/{path}") };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// The ports of one word of `EXPOSE`: `80`, `80/udp`, `8000-8010`, also behind an address or a host port.
fn ports_of(word: &str) -> Option<Vec<String>> {
    let (ports, protocol) = word.split_once('/').unwrap_or((word, "tcp"));
    let protocol = if protocol.is_empty() { "tcp".to_owned() } else { protocol.to_ascii_lowercase() };
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return None;
    }
    let ports = ports.rsplit(':').next()?;
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then(|| (first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

fn healthcheck(state: &mut StageState, check: &Healthcheck) {
    let probe = match check {
        Healthcheck::None => Probe { test: vec!["NONE".to_owned()], ..Probe::default() },
        Healthcheck::Probe { command, interval, timeout, start_period, start_interval, retries } => Probe {
            test: match command {
                Command::Exec(words) => {
                    std::iter::once("CMD".to_owned()).chain(words.iter().cloned()).collect()
                }
                Command::Shell(line) => vec!["CMD-SHELL".to_owned(), line.clone()],
            },
            interval: *interval,
            timeout: *timeout,
            start_period: *start_period,
            start_interval: *start_interval,
            retries: i64::from(*retries),
        },
    };
    let times = [probe.interval, probe.timeout, probe.start_period, probe.start_interval];
    let times: Vec<String> = times.iter().map(|time| format!("\"{}\"", go_duration(*time))).collect();
    let retries = u8::try_from(probe.retries).unwrap_or(u8::MAX);
    state.record(format!("HEALTHCHECK &{{{} {} '\\x{retries:02x}'}}", quoted(&probe.test), times.join(" ")));
    state.image.config.healthcheck = Some(probe);
}

/// Nanoseconds as Go shows them: `1m30s`, `500ms`.
fn go_duration(nanoseconds: i64) -> String {
    if nanoseconds == 0 {
        return "0s".to_owned();
    }
    if nanoseconds < 1_000_000_000 {
        let (unit, name) = if nanoseconds < 1_000_000 { (1_000, "µs") } else { (1_000_000, "ms") };
        return fraction(nanoseconds, unit, name);
    }
    let seconds = fraction(nanoseconds % 60_000_000_000, 1_000_000_000, "s");
    let minutes = nanoseconds / 60_000_000_000;
    match (minutes / 60, minutes % 60) {
        (0, 0) => seconds,
        (0, minutes) => format!("{minutes}m{seconds}"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
    }
}

fn fraction(value: i64, unit: i64, name: &str) -> String {
    let rest = value % unit;
    let whole = value / unit;
    if rest == 0 {
        return format!("{whole}{name}");
    }
    let width = unit.ilog10() as usize;
    let digits = format!("{rest:0width$}");
    format!("{whole}.{}{name}", digits.trim_end_matches('0'))
}
