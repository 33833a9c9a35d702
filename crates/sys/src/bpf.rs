//! The eBPF program by which cgroup v2 decides about devices.
//!
//! The program type is `BPF_PROG_TYPE_CGROUP_DEVICE`; its context is `struct bpf_cgroup_dev_ctx`
//! (`linux/bpf.h`): `access_type` (low half: kind, high half: use), `major`, `minor`, each 32 bits.

use std::{
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    path::Path,
};

use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::{
    cgroup::{DeviceKind, DeviceRule},
    error::{Context, Error, Result},
    process::errno,
};

/// `struct bpf_insn`: operation, registers (source in the high half), offset, immediate.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

const fn instruction(code: u8, target: u8, source: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: source << 4 | target, offset, immediate }
}

/// 32-bit load from memory, BPF_LDX | BPF_MEM | BPF_W.
const LOAD: u8 = 0x61;
/// Copy of a 32-bit register, BPF_ALU | BPF_MOV | BPF_X.
const COPY: u8 = 0xbc;
/// 32-bit "and" with a constant, BPF_ALU | BPF_AND | BPF_K.
const AND: u8 = 0x54;
/// 32-bit shift right, BPF_ALU | BPF_RSH | BPF_K.
const SHIFT_RIGHT: u8 = 0x74;
/// Constant into a 64-bit register, BPF_ALU64 | BPF_MOV | BPF_K.
const SET: u8 = 0xb7;
/// Jump if not equal to a constant, BPF_JMP | BPF_JNE | BPF_K.
const JUMP_NOT_EQUAL: u8 = 0x55;
/// Jump if not equal to a register, BPF_JMP | BPF_JNE | BPF_X.
const JUMP_DIFFERENT: u8 = 0x5d;
/// End with register 0 as the answer.
const EXIT: u8 = 0x95;

/// `BPF_DEVCG_DEV_BLOCK` and `_CHAR`.
const KIND_BLOCK: i32 = 1;
const KIND_CHARACTER: i32 = 2;
/// `BPF_DEVCG_ACC_MKNOD`, `_READ`, `_WRITE`.
const USE_MKNOD: i32 = 1;
const USE_READ: i32 = 2;
const USE_WRITE: i32 = 4;

/// Translates rules, of which the last match decides: they are tried from the last to the first.
pub(crate) fn device_program(default: bool, rules: &[DeviceRule]) -> Vec<Instruction> {
    // r2 = kind, r3 = use, r4 = major, r5 = minor; r1 is the context.
    let mut program = vec![
        instruction(LOAD, 2, 1, 0, 0),
        instruction(AND, 2, 0, 0, 0xffff),
        instruction(LOAD, 3, 1, 0, 0),
        instruction(SHIFT_RIGHT, 3, 0, 0, 16),
        instruction(LOAD, 4, 1, 4, 0),
        instruction(LOAD, 5, 1, 8, 0),
    ];
    for rule in rules.iter().rev() {
        program.extend(rule_block(rule));
    }
    program.extend(answer(default));
    program
}

fn answer(allow: bool) -> [Instruction; 2] {
    [instruction(SET, 0, 0, 0, allow.into()), instruction(EXIT, 0, 0, 0, 0)]
}

fn rule_block(rule: &DeviceRule) -> Vec<Instruction> {
    let mut tests = Vec::new();
    match rule.kind {
        DeviceKind::All => {}
        DeviceKind::Block => tests.push(instruction(JUMP_NOT_EQUAL, 2, 0, 0, KIND_BLOCK)),
        DeviceKind::Character => tests.push(instruction(JUMP_NOT_EQUAL, 2, 0, 0, KIND_CHARACTER)),
    }
    let bits =
        [(rule.access.make_node, USE_MKNOD), (rule.access.read, USE_READ), (rule.access.write, USE_WRITE)];
    let mask: i32 = bits.into_iter().filter_map(|(has, bit)| has.then_some(bit)).sum();
    if mask != USE_MKNOD | USE_READ | USE_WRITE {
        // The rule matches when it covers every use asked for.
        tests.push(instruction(COPY, 1, 3, 0, 0));
        tests.push(instruction(AND, 1, 0, 0, mask));
        tests.push(instruction(JUMP_DIFFERENT, 1, 3, 0, 0));
    }
    for (register, number) in [(4, rule.major), (5, rule.minor)] {
        if let Some(number) = number {
            tests.push(instruction(JUMP_NOT_EQUAL, register, 0, 0, number.cast_signed()));
        }
    }
    tests.extend(answer(rule.allow));
    let length = tests.len();
    for (index, test) in tests.iter_mut().enumerate() {
        if matches!(test.code, JUMP_NOT_EQUAL | JUMP_DIFFERENT) {
            // At most eight instructions, so the distance fits.
            test.offset = (length - index - 1) as i16;
        }
    }
    tests
}

/// `BPF_PROG_LOAD`, `BPF_PROG_ATTACH`, `BPF_PROG_TYPE_CGROUP_DEVICE`, `BPF_CGROUP_DEVICE`.
const PROG_LOAD: libc::c_long = 5;
const PROG_ATTACH: libc::c_long = 8;
const TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
/// `BPF_F_ALLOW_MULTI`: programs of the groups above still decide too.
const ALLOW_MULTI: u32 = 2;

/// The first fields of `union bpf_attr` for `BPF_PROG_LOAD`; the kernel takes the rest as zero.
#[repr(C)]
#[derive(Default)]
struct LoadAttributes {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

/// The same for `BPF_PROG_ATTACH`.
#[repr(C)]
#[derive(Default)]
struct AttachAttributes {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
    replace: u32,
}

fn load(program: &[Instruction]) -> Result<OwnedFd> {
    let attributes = LoadAttributes {
        kind: TYPE_CGROUP_DEVICE,
        count: u32::try_from(program.len()).unwrap_or(u32::MAX),
        instructions: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        ..LoadAttributes::default()
    };
    // SAFETY: the attributes, the program and the license outlive the call, which reads the size given.
    let fd = unsafe {
        libc::syscall(libc::SYS_bpf, PROG_LOAD, &raw const attributes, size_of::<LoadAttributes>())
    };
    match RawFd::try_from(fd) {
        // SAFETY: the kernel has just made this descriptor for us alone.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(Error::new("load device program", errno())),
    }
}

/// Loads a program and attaches it to a cgroup v2 directory; it stays as long as the group.
///
/// # Errors
/// What the kernel refused.
pub(crate) fn attach_device_filter(group: &Path, program: &[Instruction]) -> Result<()> {
    let what = || format!("attach device program to {}", group.display());
    let directory = openat(CWD, group, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).context(what)?;
    let program = load(program)?;
    let attributes = AttachAttributes {
        target: directory.as_raw_fd().cast_unsigned(),
        program: program.as_raw_fd().cast_unsigned(),
        kind: ATTACH_CGROUP_DEVICE,
        flags: ALLOW_MULTI,
        replace: 0,
    };
    // SAFETY: the attributes outlive the call, which reads the size given.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, PROG_ATTACH, &raw const attributes, size_of::<AttachAttributes>())
    };
    if result == 0 { Ok(()) } else { Err(Error::new(what(), errno())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::DeviceAccess;

    #[test]
    fn the_kernel_accepts_the_program() {
        let rule = |allow, kind, major, access| DeviceRule {
            allow,
            kind,
            major,
            minor: Some(3),
            access: DeviceAccess::parse(access),
        };
        let rules = [
            rule(true, DeviceKind::Character, Some(1), "rwm"),
            rule(false, DeviceKind::Block, None, "w"),
            rule(true, DeviceKind::All, None, "m"),
        ];
        load(&device_program(false, &rules)).unwrap();
        load(&device_program(true, &[])).unwrap();
    }
}
