//! Comparing arguments: 64-bit values, of which BPF loads half at a time.

use wharf_oci::runtime::{SeccompOperator, SyscallArg};
use wharf_sys::seccomp::Instruction;

use super::{
    Conditions,
    assemble::{AND, JUMP_EQUAL, JUMP_GREATER, JUMP_NOT_LESS, LOAD, RETURN, statement},
};

/// Where a comparison leads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum To {
    /// The next instruction.
    Next,
    /// Past this comparison, which holds.
    Holds,
    /// To the next rule: it does not hold.
    Fails,
}

struct Step {
    code: u16,
    value: u32,
    yes: To,
    no: To,
}

/// Rules tried in order, each ending in its answer; then the default's.
pub(super) fn chain(rules: &[(Conditions<'_>, u32)], default: u32) -> Vec<Instruction> {
    let mut program = Vec::new();
    for (conditions, code) in rules {
        program.extend(rule(conditions, *code));
    }
    program.push(statement(RETURN, default));
    program
}

fn rule(conditions: &[&SyscallArg], code: u32) -> Vec<Instruction> {
    let mut steps = Vec::new();
    // The index of the instruction after each step's own comparison.
    let mut ends = Vec::new();
    for condition in conditions {
        let own = comparison(condition);
        let end = steps.len() + own.len();
        ends.resize(end, end);
        steps.extend(own);
    }
    let fail = steps.len() + 1;
    let distance = |from: usize, to: To| {
        let target = match to {
            To::Next => from + 1,
            To::Holds => ends[from],
            To::Fails => fail,
        };
        // At most six conditions of eight steps each.
        (target - from - 1) as u8
    };
    let mut program: Vec<Instruction> = steps
        .iter()
        .enumerate()
        .map(|(index, step)| Instruction {
            code: step.code,
            jump_true: distance(index, step.yes),
            jump_false: distance(index, step.no),
            value: step.value,
        })
        .collect();
    program.push(statement(RETURN, code));
    program
}

const fn plain(code: u16, value: u32) -> Step {
    Step { code, value, yes: To::Next, no: To::Next }
}

const fn jump(code: u16, value: u32, yes: To, no: To) -> Step {
    Step { code, value, yes, no }
}

fn comparison(condition: &SyscallArg) -> Vec<Step> {
    use SeccompOperator as Op;
    use To::{Fails, Holds, Next};
    // `struct seccomp_data`: arguments from offset 16, eight bytes each, least significant half first.
    let low_at = 16 + 8 * condition.index;
    let halves = |value: u64| ((value >> 32) as u32, value as u32);
    let (high, low) = halves(condition.value);
    let load_high = plain(LOAD, low_at + 4);
    let load_low = plain(LOAD, low_at);
    match condition.op {
        Op::Equal => {
            vec![load_high, jump(JUMP_EQUAL, high, Next, Fails), load_low, jump(JUMP_EQUAL, low, Next, Fails)]
        }
        Op::NotEqual => {
            vec![load_high, jump(JUMP_EQUAL, high, Next, Holds), load_low, jump(JUMP_EQUAL, low, Fails, Next)]
        }
        Op::Greater | Op::GreaterOrEqual => {
            let last = if condition.op == Op::Greater { JUMP_GREATER } else { JUMP_NOT_LESS };
            vec![
                load_high,
                jump(JUMP_GREATER, high, Holds, Next),
                jump(JUMP_EQUAL, high, Next, Fails),
                load_low,
                jump(last, low, Next, Fails),
            ]
        }
        Op::Less | Op::LessOrEqual => {
            let last = if condition.op == Op::Less { JUMP_NOT_LESS } else { JUMP_GREATER };
            vec![
                load_high,
                jump(JUMP_GREATER, high, Fails, Next),
                jump(JUMP_EQUAL, high, Next, Holds),
                load_low,
                jump(last, low, Fails, Next),
            ]
        }
        Op::MaskedEqual => {
            let (expected_high, expected_low) = halves(condition.value_two);
            vec![
                load_high,
                plain(AND, high),
                jump(JUMP_EQUAL, expected_high, Next, Fails),
                load_low,
                plain(AND, low),
                jump(JUMP_EQUAL, expected_low, Next, Fails),
            ]
        }
    }
}
