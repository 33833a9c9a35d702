//! Which devices a control group's processes may open or make.
//!
//! Version 1 has a list; version 2 wants an eBPF program that decides. Both start from "none" and apply
//! rules in order, the last match deciding.

use super::{Cgroup, files};
use crate::{bpf, error::Result};

/// Which kind of device a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// Both kinds.
    All,
    /// Block devices.
    Block,
    /// Character devices.
    Character,
}

/// What a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceAccess {
    /// Opening for reading.
    pub read: bool,
    /// Opening for writing.
    pub write: bool,
    /// Making a node.
    pub make_node: bool,
}

impl DeviceAccess {
    /// Everything.
    pub const ALL: Self = Self { read: true, write: true, make_node: true };

    /// Reads letters of `rwm`; none at all means everything.
    pub fn parse(letters: &str) -> Self {
        if letters.is_empty() {
            return Self::ALL;
        }
        let has = |letter| letters.contains(letter);
        Self { read: has('r'), write: has('w'), make_node: has('m') }
    }

    fn letters(self) -> String {
        let letters = [(self.read, 'r'), (self.write, 'w'), (self.make_node, 'm')];
        letters.into_iter().filter_map(|(has, letter)| has.then_some(letter)).collect()
    }
}

/// A rule of device access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceRule {
    /// Whether it allows or denies.
    pub allow: bool,
    /// Which kind.
    pub kind: DeviceKind,
    /// Major number; `None` for any.
    pub major: Option<u32>,
    /// Minor number; `None` for any.
    pub minor: Option<u32>,
    /// Which use.
    pub access: DeviceAccess,
}

impl DeviceRule {
    fn is_everything(&self) -> bool {
        self.kind == DeviceKind::All
            && self.access == DeviceAccess::ALL
            && self.major.is_none()
            && self.minor.is_none()
    }

    /// As version 1's files take it.
    fn line(&self) -> String {
        let kind = match self.kind {
            DeviceKind::All => return "a".to_owned(),
            DeviceKind::Block => 'b',
            DeviceKind::Character => 'c',
        };
        let number = |n: Option<u32>| n.map_or("*".to_owned(), |n| n.to_string());
        format!("{kind} {}:{} {}", number(self.major), number(self.minor), self.access.letters())
    }
}

/// Rules before the last one about everything have no effect.
fn effective(rules: &[DeviceRule]) -> (bool, &[DeviceRule]) {
    match rules.iter().rposition(DeviceRule::is_everything) {
        Some(last) => (rules[last].allow, &rules[last + 1..]),
        None => (false, rules),
    }
}

/// The lines of rules that are all of one kind, where saying one twice changes nothing.
fn lines(rules: &[DeviceRule]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::with_capacity(rules.len());
    for line in rules.iter().map(DeviceRule::line) {
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines
}

pub(super) fn apply(group: &Cgroup, rules: &[DeviceRule]) -> Result<()> {
    let (default, rules) = effective(rules);
    if let Some(dir) = group.controller("devices") {
        files::write(&dir.join(if default { "devices.allow" } else { "devices.deny" }), "a")?;
        for run in rules.chunk_by(|one, next| one.allow == next.allow) {
            let file = if run[0].allow { "devices.allow" } else { "devices.deny" };
            files::write_each(&dir.join(file), &lines(run))?;
        }
        return Ok(());
    }
    match &group.v2 {
        Some(dir) => bpf::attach_device_filter(dir, &bpf::device_program(default, rules)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(allow: bool, kind: DeviceKind, major: Option<u32>, access: &str) -> DeviceRule {
        DeviceRule { allow, kind, major, minor: None, access: DeviceAccess::parse(access) }
    }

    #[test]
    fn lines_are_version_ones() {
        assert_eq!(rule(true, DeviceKind::Character, Some(1), "rm").line(), "c 1:* rm");
        assert_eq!(rule(true, DeviceKind::Block, None, "").line(), "b *:* rwm");
    }

    #[test]
    fn a_rule_said_twice_is_written_once() {
        let rules = [("rwm", 1), ("m", 2), ("rwm", 1)];
        let rules = rules.map(|(access, major)| rule(true, DeviceKind::Character, Some(major), access));
        assert_eq!(lines(&rules), ["c 1:* rwm", "c 2:* m"]);
    }

    #[test]
    fn the_last_rule_about_everything_is_the_start() {
        let rules = [
            rule(true, DeviceKind::Block, None, "r"),
            rule(true, DeviceKind::All, None, ""),
            rule(false, DeviceKind::Block, Some(8), "w"),
        ];
        assert_eq!(effective(&rules), (true, &rules[2..]));
        assert_eq!(effective(&rules[..1]), (false, &rules[..1]));
    }
}
