//! Putting the program together.

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

/// `then` runs where the comparison holds, else what follows it.
fn unless(code: u16, value: u32, then: Vec<Instruction>) -> Vec<Instruction> {
    let mut program = Vec::with_capacity(then.len() + 2);
    match u8::try_from(then.len()) {
        Ok(length) => program.push(Instruction { code, jump_true: 0, jump_false: length, value }),
        Err(_) => {
            program.push(Instruction { code, jump_true: 1, jump_false: 0, value });
            program.push(statement(JUMP, length_of(&then)));
        }
    }
    program.extend(then);
    program
}

/// A program has at most 4096 instructions.
fn length_of(program: &[Instruction]) -> u32 {
    program.len() as u32
}

pub(super) fn program(tables: &[(Arch, Table<'_>)]) -> Vec<Instruction> {
    let mut program = vec![statement(LOAD, ARCH_AT)];
    for (arch, table) in tables {
        // x32 lives inside the block of x86_64, whose architecture it shares.
        if *arch == Arch::X32 {
            continue;
        }
        let mut block = vec![statement(LOAD, NUMBER_AT)];
        if *arch == Arch::X86_64 {
            let x32 = tables.iter().find(|(arch, _)| *arch == Arch::X32);
            let other = x32
                .map_or_else(|| vec![statement(RETURN, answer::ERRNO | ENOSYS)], |(_, table)| search(table));
            block.extend(unless(JUMP_NOT_LESS, X32_BIT, other));
        }
        block.extend(search(table));
        program.extend(unless(JUMP_EQUAL, arch.audit(), block));
    }
    // An architecture that the profile does not speak of.
    program.push(statement(RETURN, answer::KILL_PROCESS));
    program
}

/// Binary search over the starts; never empty.
fn search(table: &[(u32, Leaf<'_>)]) -> Vec<Instruction> {
    match table {
        [] => Vec::new(),
        [(_, Leaf::Always(code))] => vec![statement(RETURN, *code)],
        [(_, Leaf::When(rules, default))] => conditions::chain(rules, *default),
        _ => {
            let (below, above) = table.split_at(table.len() / 2);
            let mut program = unless(JUMP_NOT_LESS, above[0].0, search(above));
            program.extend(search(below));
            program
        }
    }
}
