//! `FileOp`: files copied, made and removed.
//!
//! Its actions may work on one another's results in any order; here each chain that goes straight on is one operation, and
//! what branches off is one of its own.

use bollard_buildkit_proto::pb;
use wharf_build::graph::{CopyFiles, Edge, FileAction, Operation, Owner};

use super::{Builder, Result, Shown, pick};

/// The actions of one operation, at most.
const MOST: usize = 1_000;

/// What an operation is called that has no name.
pub(super) fn usual_name(file: &pb::FileOp) -> String {
    let action = file.actions.first().and_then(|action| action.action.as_ref());
    match action {
        Some(pb::file_action::Action::Copy(copy)) => format!("copy {} {}", copy.src, copy.dest),
        Some(pb::file_action::Action::Mkfile(file)) => format!("mkfile {}", file.path),
        Some(pb::file_action::Action::Mkdir(directory)) => format!("mkdir {}", directory.path),
        Some(pb::file_action::Action::Rm(removed)) => format!("rm {}", removed.path),
        Some(pb::file_action::Action::Symlink(link)) => {
            format!("symlink {} -> {}", link.newpath, link.oldpath)
        }
        _ => "file operation".to_owned(),
    }
}

impl Builder<'_> {
    /// Adds file actions; returns the outputs.
    pub(super) fn files(
        &mut self,
        file: &pb::FileOp,
        inputs: &[Option<Edge>],
        shown: &Shown,
    ) -> Result<Vec<Option<Edge>>> {
        if file.actions.len() > MOST {
            return Err(format!("a file operation has more than {MOST} actions"));
        }
        // The results of actions are numbered behind the inputs.
        let mut known: Vec<Option<Edge>> = inputs.to_vec();
        let mut outputs: Vec<(usize, Option<Edge>)> = Vec::new();
        let mut at = 0;
        while at < file.actions.len() {
            let end = chain_end(file, inputs.len(), at);
            let base = pick(&known, file.actions[at].input)?.unwrap_or_else(|| self.empty(shown));
            let (mut edges, mut actions) = (vec![base], Vec::new());
            for action in &file.actions[at..end] {
                actions.push(convert(action, &known, &mut edges, || self.empty(shown))?);
            }
            let edge = Some(self.node(Operation::Files(actions), edges, shown));
            // Nobody asks for what is within a chain.
            known.extend((at..end).map(|_| edge));
            let output = usize::try_from(file.actions[end - 1].output).ok();
            outputs.extend(output.map(|output| (output, edge)));
            at = end;
        }
        outputs.sort_unstable_by_key(|(output, _)| *output);
        if outputs.iter().enumerate().any(|(at, (output, _))| at != *output) {
            return Err("the outputs of a file operation are not numbered from 0".to_owned());
        }
        Ok(outputs.into_iter().map(|(_, edge)| edge).collect())
    }
}

/// The end of the chain that begins at an action: each works on the one before, and on it alone.
fn chain_end(file: &pb::FileOp, inputs: usize, begin: usize) -> usize {
    let number = |at: usize| i64::try_from(inputs + at).unwrap_or(i64::MAX);
    let users = |at: usize| {
        let uses = |action: &pb::FileAction| action.input == number(at) || second(action) == Some(number(at));
        file.actions.iter().filter(|action| uses(action)).count()
    };
    let mut end = begin + 1;
    while end < file.actions.len()
        && file.actions[end - 1].output < 0
        && file.actions[end].input == number(end - 1)
        && second(&file.actions[end]) != Some(number(end - 1))
        && users(end - 1) == 1
    {
        end += 1;
    }
    end
}

/// The tree that an action copies from.
fn second(action: &pb::FileAction) -> Option<i64> {
    matches!(action.action, Some(pb::file_action::Action::Copy(_))).then_some(action.secondary_input)
}

fn convert(
    action: &pb::FileAction,
    known: &[Option<Edge>],
    edges: &mut Vec<Edge>,
    empty: impl FnOnce() -> Edge,
) -> Result<FileAction> {
    use pb::file_action::Action;
    Ok(match &action.action {
        Some(Action::Copy(copy)) => {
            let from = pick(known, action.secondary_input)?.unwrap_or_else(empty);
            edges.push(from);
            FileAction::Copy(Box::new(copied(copy, edges.len() - 1)?))
        }
        Some(Action::Mkfile(file)) => FileAction::MakeFile {
            path: file.path.clone(),
            content: file.data.clone(),
            mode: mode(file.mode),
            owner: owner(file.owner.as_ref())?,
        },
        Some(Action::Mkdir(directory)) => FileAction::MakeDirectory {
            path: directory.path.clone(),
            mode: mode(directory.mode),
            owner: owner(directory.owner.as_ref())?,
        },
        Some(Action::Rm(removed)) => FileAction::Remove {
            path: removed.path.clone(),
            wildcard: removed.allow_wildcard,
            allow_missing: removed.allow_not_found,
        },
        Some(Action::Symlink(link)) => FileAction::Symlink {
            path: link.newpath.clone(),
            target: link.oldpath.clone(),
            owner: owner(link.owner.as_ref())?,
        },
        None => return Err("a file action does nothing".to_owned()),
    })
}

fn mode(given: i32) -> u32 {
    u32::try_from(given).unwrap_or(0) & 0o7777
}

fn copied(copy: &pb::FileActionCopy, input: usize) -> Result<CopyFiles> {
    let within = |patterns: &[String]| patterns.iter().map(|pattern| below(&copy.src, pattern)).collect();
    let mode = match (copy.mode_str.as_str(), copy.mode) {
        ("", -1) => None,
        // A zero is what who gives no mode sends too.
        ("", 0) => None,
        ("", mode) => Some(format!("{:o}", u32::try_from(mode).unwrap_or(0) & 0o7777)),
        (text, _) => Some(text.to_owned()),
    };
    Ok(CopyFiles {
        input,
        source: copy.src.clone(),
        destination: copy.dest.clone(),
        owner: owner(copy.owner.as_ref())?,
        mode,
        unpack: copy.attempt_unpack_docker_compatibility,
        parents: false,
        allow_empty: copy.allow_empty_wildcard,
        keep_name: !copy.dir_copy_contents,
        replace: copy.always_replace_existing_dest_paths,
        include: within(&copy.include_patterns),
        required: within(&copy.required_paths),
        exclude: within(&copy.exclude_patterns),
    })
}

/// A pattern of what is below a path, relative to the top of its tree.
fn below(path: &str, pattern: &str) -> String {
    let (negated, pattern) = pattern.strip_prefix('!').map_or(("", pattern), |rest| ("!", rest));
    match path.trim_matches('/') {
        "" | "." => format!("{negated}{pattern}"),
        path => format!("{negated}{path}/{}", pattern.trim_start_matches('/')),
    }
}

fn owner(given: Option<&pb::ChownOpt>) -> Result<Option<Owner>> {
    let Some(given) = given else { return Ok(None) };
    let text = |user: Option<&pb::UserOpt>| match user.and_then(|user| user.user.as_ref()) {
        None => String::new(),
        Some(pb::user_opt::User::ById(id)) => id.to_string(),
        Some(pb::user_opt::User::ByName(named)) => named.name.clone(),
    };
    let (user, group) = (text(given.user.as_ref()), text(given.group.as_ref()));
    if user.contains(':') || group.contains(':') {
        return Err(format!("invalid owner {user}:{group}"));
    }
    let name = match (user.is_empty(), group.is_empty()) {
        (true, true) => return Ok(None),
        (_, true) => user,
        (true, false) => format!("0:{group}"),
        (false, false) => format!("{user}:{group}"),
    };
    Ok(Some(Owner { name }))
}
