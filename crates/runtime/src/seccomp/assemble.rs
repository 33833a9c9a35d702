//! Putting the program together.

use std::collections::BTreeMap;

use wharf_sys::seccomp::Instruction;

use super::{
    ENOSYS, Leaf, Table, answer,
    arch::{Arch, X32_BIT},
    conditions,
};

/// Classic BPF operations (`linux/bpf_common.h`): load a word at a fixed offset, jump, compare with a constant,
/// "and" with a constant, end.
pub(super) const LOAD: u16 = 0x20;
pub(super) const JUMP: u16 = 0x05;
pub(super) const JUMP_EQUAL: u16 = 0x15;
pub(super) const JUMP_GREATER: u16 = 0x25;
pub(super) const JUMP_NOT_LESS: u16 = 0x35;
pub(super) const AND: u16 = 0x54;
pub(super) const RETURN: u16 = 0x06;

/// Offsets in `struct seccomp_data`.
const NUMBER_AT: u32 = 0;
const ARCH_AT: u32 = 4;

pub(super) const fn statement(code: u16, value: u32) -> Instruction {
    Instruction { code, jump_true: 0, jump_false: 0, value }
}

/// The farthest that a conditional jump is let go; its offsets are bytes, and a neighbour may need a place too.
const FAR: usize = 250;

/// A program under construction, its last instruction first: every jump goes to what is there already, so that equal
/// answers are shared and not written again for each range of numbers.
#[derive(Default)]
struct Builder {
    backwards: Vec<Instruction>,
    /// Where each answer was last written.
    answers: BTreeMap<u32, usize>,
}

impl Builder {
    fn push(&mut self, instruction: Instruction) -> usize {
        self.backwards.push(instruction);
        self.backwards.len() - 1
    }

    /// How many instructions one that is pushed now would have to skip.
    fn distance(&self, target: usize) -> usize {
        self.backwards.len() - target - 1
    }

    fn answer(&mut self, code: u32) -> usize {
        match self.answers.get(&code) {
            Some(place) if self.distance(*place) < FAR => *place,
            _ => {
                let place = self.push(statement(RETURN, code));
                self.answers.insert(code, place);
                place
            }
        }
    }

    /// A place from which `target` is reached, near enough for a conditional jump.
    fn near(&mut self, target: usize) -> usize {
        if self.distance(target) < FAR {
            return target;
        }
        let there = self.backwards[target];
        if there.code == RETURN {
            return self.answer(there.value);
        }
        // A program has at most 4096 instructions.
        let distance = self.distance(target) as u32;
        self.push(statement(JUMP, distance))
    }

    /// Goes to `yes` where the comparison holds, else to `no`.
    fn branch(&mut self, code: u16, value: u32, yes: usize, no: usize) -> usize {
        let (yes, no) = (self.near(yes), self.near(no));
        // Both are nearer than `FAR` and two more.
        let (jump_true, jump_false) = (self.distance(yes) as u8, self.distance(no) as u8);
        self.push(Instruction { code, jump_true, jump_false, value })
    }

    /// Binary search over the starts of a table, which is never empty.
    fn search(&mut self, table: &[(u32, Leaf<'_>)]) -> usize {
        match table {
            [(_, Leaf::When(rules, default))] => {
                let chain = conditions::chain(rules, *default);
                self.backwards.extend(chain.iter().rev());
                self.backwards.len() - 1
            }
            [(_, Leaf::Always(code))] => self.answer(*code),
            _ => {
                let (below, above) = table.split_at(table.len() / 2);
                let (no, yes) = (self.search(below), self.search(above));
                self.branch(JUMP_NOT_LESS, above[0].0, yes, no)
            }
        }
    }
}

pub(super) fn program(tables: &[(Arch, Table<'_>)]) -> Vec<Instruction> {
    let mut builder = Builder::default();
    // x32 lives inside the block of x86_64, whose architecture it shares.
    let (x32, own): (Vec<_>, Vec<_>) = tables.iter().partition(|(arch, _)| *arch == Arch::X32);
    let mut blocks = Vec::new();
    for (arch, table) in own {
        let mut start = builder.search(table);
        if *arch == Arch::X86_64 {
            let other = match x32.first() {
                Some((_, table)) => builder.search(table),
                None => builder.answer(answer::ERRNO | ENOSYS),
            };
            start = builder.branch(JUMP_NOT_LESS, X32_BIT, other, start);
        }
        let last = builder.backwards.len() - 1;
        if start != last {
            // A table with one answer for all may be one that was written long before.
            let distance = builder.distance(start) as u32;
            builder.push(statement(JUMP, distance));
        }
        blocks.push((*arch, builder.push(statement(LOAD, NUMBER_AT))));
    }
    // An architecture that the profile does not speak of.
    let mut next = builder.push(statement(RETURN, answer::KILL_PROCESS));
    for (arch, block) in blocks.into_iter().rev() {
        next = builder.branch(JUMP_EQUAL, arch.audit(), block, next);
    }
    builder.push(statement(LOAD, ARCH_AT));
    builder.backwards.reverse();
    builder.backwards
}
