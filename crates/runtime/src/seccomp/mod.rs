//! From a profile to the BPF program the kernel runs before each system call.
//!
//! The program finds the architecture, then the call's number by binary search over ranges with the same
//! answer, then compares arguments where a rule has conditions. See `seccomp(2)`.

mod arch;
mod assemble;
mod conditions;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::OnceLock;

use wharf_oci::runtime::{LinuxSeccomp, SeccompAction, Spec, SyscallArg};
use wharf_sys::seccomp::Instruction;

use self::arch::Arch;
use crate::error::{LaunchError, Result};

/// `SECCOMP_RET_*` of `linux/seccomp.h`.
mod answer {
    pub(super) const KILL_PROCESS: u32 = 0x8000_0000;
    pub(super) const KILL_THREAD: u32 = 0;
    pub(super) const TRAP: u32 = 0x0003_0000;
    pub(super) const ERRNO: u32 = 0x0005_0000;
    pub(super) const TRACE: u32 = 0x7ff0_0000;
    pub(super) const LOG: u32 = 0x7ffc_0000;
    pub(super) const ALLOW: u32 = 0x7fff_0000;
}

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// What one system call's number leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Leaf<'a> {
    /// One answer.
    Always(u32),
    /// The first set of conditions that holds decides, else the default.
    When(Vec<(Conditions<'a>, u32)>, u32),
}

/// Conditions that must hold together.
type Conditions<'a> = Vec<&'a SyscallArg>;

/// Translates a profile for this machine.
///
/// # Errors
/// Unknown architectures, arguments beyond the sixth, actions this engine does not have.
pub fn compile(profile: &LinuxSeccomp) -> Result<Vec<Instruction>> {
    let arches = arches(profile)?;
    let default = code_of(profile.default_action, profile.default_errno_ret)?;
    let rules = Rules::new(profile, default)?;
    let tables: Vec<_> = arches.iter().map(|arch| (*arch, rules.table(*arch, default))).collect();
    Ok(assemble::program(&tables))
}

/// A profile that was compiled for all children of this process.
#[derive(Debug)]
struct Remembered {
    profile: LinuxSeccomp,
    program: Vec<Instruction>,
    /// As it stands in a `config.json`.
    text: Vec<u8>,
}

static REMEMBERED: OnceLock<Remembered> = OnceLock::new();

/// How a specification names its profile.
const KEY: &[u8] = b"\"seccomp\":";

/// Compiles a profile ahead of the launches that will want it; only the first one is kept.
pub fn remember(profile: LinuxSeccomp) {
    if let (Ok(program), Ok(text)) = (compile(&profile), serde_json::to_vec(&profile)) {
        let _another_was_first = REMEMBERED.set(Remembered { profile, program, text });
    }
}

/// Reads a `config.json`. Its profile is most of it and most often the remembered one, which is then answered and
/// not read again: the specification has none.
///
/// # Errors
/// What is wrong with the text.
pub fn read_spec(text: &[u8]) -> serde_json::Result<(Spec, Option<&'static LinuxSeccomp>)> {
    let whole = || Ok((serde_json::from_slice(text)?, None));
    let Some(known) = REMEMBERED.get() else { return whole() };
    let Some(range) = find(text, &known.text) else { return whole() };
    let short = [&text[..range.start], b"null", &text[range.end..]].concat();
    Ok((serde_json::from_slice(&short)?, Some(&known.profile)))
}

/// Where `profile` stands as a specification's. Inside of a JSON string no quote goes without a backslash before it, so
/// that the key found is one.
fn find(text: &[u8], profile: &[u8]) -> Option<Range<usize>> {
    let mut keys = text.windows(KEY.len()).enumerate().filter(|(_, window)| *window == KEY);
    let start = keys.find(|(at, _)| text[at + KEY.len()..].starts_with(profile))?.0 + KEY.len();
    Some(start..start + profile.len())
}

/// Whether [`remember`] has kept one.
pub fn remembers() -> bool {
    REMEMBERED.get().is_some()
}

/// As [`compile`], but a profile that is remembered is not translated again.
///
/// # Errors
/// As [`compile`].
pub fn compiled(profile: &LinuxSeccomp) -> Result<Cow<'static, [Instruction]>> {
    match REMEMBERED.get() {
        Some(known) if std::ptr::eq(&raw const known.profile, profile) || known.profile == *profile => {
            Ok(Cow::Borrowed(&known.program))
        }
        _ => compile(profile).map(Cow::Owned),
    }
}

fn arches(profile: &LinuxSeccomp) -> Result<Vec<Arch>> {
    let mut arches = vec![Arch::NATIVE];
    for name in &profile.architectures {
        match Arch::from_name(name) {
            Some(arch) if !arches.contains(&arch) => arches.push(arch),
            Some(_) => {}
            None if Arch::is_foreign(name) => {}
            None => return Err(LaunchError::other(format!("seccomp: unknown architecture {name:?}"))),
        }
    }
    Ok(arches)
}

fn code_of(action: SeccompAction, errno: Option<u32>) -> Result<u32> {
    let data = errno.unwrap_or(EPERM) & 0xffff;
    Ok(match action {
        SeccompAction::Kill => answer::KILL_THREAD,
        SeccompAction::KillProcess => answer::KILL_PROCESS,
        SeccompAction::Trap => answer::TRAP,
        SeccompAction::Errno => answer::ERRNO | data,
        SeccompAction::Trace => answer::TRACE | data,
        SeccompAction::Allow => answer::ALLOW,
        SeccompAction::Log => answer::LOG,
        SeccompAction::Notify => return Err(LaunchError::other("seccomp: SCMP_ACT_NOTIFY is not supported")),
    })
}

/// The whole range of numbers as ascending starts with what each leads to.
type Table<'a> = Vec<(u32, Leaf<'a>)>;

/// A profile's rules found by the name of a call.
struct Rules<'a> {
    /// Sorted; of one name in the profile's order.
    by_name: Vec<(&'a str, usize)>,
    rules: Vec<(u32, Vec<Conditions<'a>>)>,
}

impl<'a> Rules<'a> {
    fn new(profile: &'a LinuxSeccomp, default: u32) -> Result<Self> {
        let (mut by_name, mut rules) = (Vec::new(), Vec::new());
        for rule in &profile.syscalls {
            let code = code_of(rule.action, rule.errno_ret)?;
            if code == default {
                continue;
            }
            if let Some(arg) = rule.args.iter().find(|arg| arg.index > 5) {
                return Err(LaunchError::other(format!("seccomp: no argument {}", arg.index)));
            }
            by_name.extend(rule.names.iter().map(|name| (name.as_str(), rules.len())));
            rules.push((code, alternatives(&rule.args)));
        }
        by_name.sort_unstable();
        Ok(Self { by_name, rules })
    }

    fn of(&self, name: &str) -> impl Iterator<Item = &(u32, Vec<Conditions<'a>>)> {
        let start = self.by_name.partition_point(|(known, _)| *known < name);
        let same = self.by_name[start..].iter().take_while(move |(known, _)| *known == name);
        same.map(|(_, index)| &self.rules[*index])
    }

    fn table(&self, arch: Arch, default: u32) -> Table<'a> {
        let mut leaves = BTreeMap::new();
        arch.each_call(&mut |number, name| {
            for (code, alternatives) in self.of(name) {
                add(&mut leaves, number, alternatives, *code, default);
            }
        });
        cover(&leaves, default)
    }
}

/// Conditions on one argument said twice are alternatives, as runc reads them; else all must hold.
fn alternatives(args: &[SyscallArg]) -> Vec<Conditions<'_>> {
    let repeated = (0..6).any(|index| args.iter().filter(|arg| arg.index == index).count() > 1);
    if repeated { args.iter().map(|arg| vec![arg]).collect() } else { vec![args.iter().collect()] }
}

/// A rule without conditions makes those with conditions moot, as libseccomp has it; of several without,
/// the first counts.
fn add<'a>(
    leaves: &mut BTreeMap<u32, Leaf<'a>>,
    number: u32,
    alternatives: &[Conditions<'a>],
    code: u32,
    default: u32,
) {
    let leaf = leaves.entry(number).or_insert_with(|| Leaf::When(Vec::new(), default));
    let Leaf::When(rules, _) = leaf else { return };
    if alternatives.iter().any(Vec::is_empty) {
        *leaf = Leaf::Always(code);
        return;
    }
    rules.extend(alternatives.iter().map(|conditions| (conditions.clone(), code)));
}

/// Fills the gaps. Numbers above all that the profile knows are calls newer than it: with a default that
/// fails calls, these fail as on a kernel without them, so that programs fall back.
fn cover<'a>(leaves: &BTreeMap<u32, Leaf<'a>>, default: u32) -> Table<'a> {
    let fails = default & 0xffff_0000 == answer::ERRNO;
    let newest = leaves.keys().next_back().copied();
    let mut table: Table<'a> = Vec::new();
    let mut push = |start: u32, leaf: Leaf<'a>| {
        if table.last().is_none_or(|(_, last)| *last != leaf) {
            table.push((start, leaf));
        }
    };
    let mut next = 0;
    for (number, leaf) in leaves {
        if *number > next {
            push(next, Leaf::Always(default));
        }
        push(*number, leaf.clone());
        next = number.saturating_add(1);
    }
    match newest {
        Some(_) if fails => push(next, Leaf::Always(answer::ERRNO | ENOSYS)),
        _ => push(next, Leaf::Always(default)),
    }
    table
}
