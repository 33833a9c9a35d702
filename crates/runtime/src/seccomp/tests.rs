//! Programs are run by an interpreter of classic BPF.

use wharf_oci::runtime::{SeccompOperator, SyscallRule};

use super::*;

/// What the kernel hands to the program.
struct Call {
    arch: u32,
    number: u32,
    args: [u64; 6],
}

fn word(call: &Call, offset: u32) -> u32 {
    match offset {
        0 => call.number,
        4 => call.arch,
        _ => {
            let arg = call.args[((offset - 16) / 8) as usize];
            if offset.is_multiple_of(8) { arg as u32 } else { (arg >> 32) as u32 }
        }
    }
}

fn run(program: &[Instruction], call: &Call) -> u32 {
    let (mut at, mut accumulator) = (0, 0);
    loop {
        let instruction = program[at];
        at += 1;
        let holds = match instruction.code {
            assemble::LOAD => {
                accumulator = word(call, instruction.value);
                continue;
            }
            assemble::AND => {
                accumulator &= instruction.value;
                continue;
            }
            assemble::JUMP => {
                at += instruction.value as usize;
                continue;
            }
            assemble::RETURN => return instruction.value,
            assemble::JUMP_EQUAL => accumulator == instruction.value,
            assemble::JUMP_GREATER => accumulator > instruction.value,
            assemble::JUMP_NOT_LESS => accumulator >= instruction.value,
            other => panic!("operation {other:#x}"),
        };
        at += usize::from(if holds { instruction.jump_true } else { instruction.jump_false });
    }
}

fn ask(program: &[Instruction], arch: Arch, name: &str, args: &[u64]) -> u32 {
    let mut all = [0; 6];
    all[..args.len()].copy_from_slice(args);
    let number = arch.number(name).unwrap();
    run(program, &Call { arch: arch.audit(), number, args: all })
}

const DENIED: u32 = answer::ERRNO | EPERM;
const MISSING: u32 = answer::ERRNO | ENOSYS;

fn docker(capabilities: &[&str]) -> Vec<Instruction> {
    let capabilities: Vec<String> = capabilities.iter().map(|&c| c.to_owned()).collect();
    compile(&wharf_oci::seccomp::docker_default(&capabilities, (6, 1))).unwrap()
}

#[test]
#[cfg(target_arch = "x86_64")]
fn dockers_profile_decides_as_docker_does() {
    let program = docker(&[]);
    let x86_64 = |name, args: &[u64]| ask(&program, Arch::X86_64, name, args);
    assert_eq!(x86_64("read", &[]), answer::ALLOW);
    assert_eq!(x86_64("mount", &[]), DENIED);
    assert_eq!(x86_64("io_uring_setup", &[]), DENIED);
    assert_eq!(x86_64("keyctl", &[]), DENIED);
    assert_eq!(x86_64("ptrace", &[]), answer::ALLOW);
    assert_eq!(x86_64("clone3", &[]), MISSING);
    // clone without, then with, a new user namespace.
    assert_eq!(x86_64("clone", &[0x11]), answer::ALLOW);
    assert_eq!(x86_64("clone", &[0x1000_0011]), DENIED);
    assert_eq!(x86_64("personality", &[0]), answer::ALLOW);
    assert_eq!(x86_64("personality", &[0x4_0000]), DENIED);
    assert_eq!(x86_64("personality", &[0xffff_ffff]), answer::ALLOW);
    // AF_INET, AF_UNIX, AF_NETLINK; AF_ALG and AF_VSOCK.
    for domain in [2, 1, 16] {
        assert_eq!(x86_64("socket", &[domain]), answer::ALLOW, "{domain}");
    }
    for domain in [38, 40, 0x1_0000_0002] {
        assert_eq!(x86_64("socket", &[domain]), DENIED, "{domain}");
    }
    assert_eq!(ask(&program, Arch::X86, "read", &[]), answer::ALLOW);
    assert_eq!(ask(&program, Arch::X86, "mount", &[]), DENIED);
    assert_eq!(ask(&program, Arch::X32, "execve", &[]), answer::ALLOW);
    assert_eq!(ask(&program, Arch::X32, "mount", &[]), DENIED);
    // A call that no kernel has yet, and a foreign architecture.
    let new = Call { arch: Arch::X86_64.audit(), number: 5000, args: [0; 6] };
    assert_eq!(run(&program, &new), MISSING);
    let foreign = Call { arch: Arch::Aarch64.audit(), number: 0, args: [0; 6] };
    assert_eq!(run(&program, &foreign), answer::KILL_PROCESS);
    assert!(program.len() < 4096, "{}", program.len());
}

#[test]
#[cfg(target_arch = "x86_64")]
fn capabilities_open_calls() {
    let program = docker(&["CAP_SYS_ADMIN", "CAP_SYSLOG"]);
    for name in ["mount", "clone3", "unshare", "syslog", "setns"] {
        assert_eq!(ask(&program, Arch::X86_64, name, &[0x1000_0000]), answer::ALLOW, "{name}");
    }
    assert_eq!(ask(&program, Arch::X86_64, "clone", &[0x1000_0000]), answer::ALLOW);
    assert_eq!(ask(&program, Arch::X86_64, "reboot", &[]), DENIED);
}

fn profile_with(args: Vec<SyscallArg>) -> LinuxSeccomp {
    LinuxSeccomp {
        default_action: SeccompAction::Allow,
        default_errno_ret: None,
        architectures: Vec::new(),
        flags: Vec::new(),
        listener_path: String::new(),
        listener_metadata: String::new(),
        syscalls: vec![SyscallRule {
            names: vec!["getpid".into(), "no_such_call".into()],
            action: SeccompAction::Errno,
            errno_ret: Some(7),
            args,
        }],
    }
}

#[test]
fn comparisons_are_over_64_bits() {
    use SeccompOperator as Op;
    const BIG: u64 = 0x1_0000_0005;
    let values = [0, 4, 5, 6, BIG - 1, BIG, BIG + 1, u64::MAX];
    for op in [Op::Equal, Op::NotEqual, Op::Less, Op::LessOrEqual, Op::Greater, Op::GreaterOrEqual] {
        for value in [5, BIG] {
            let arg = SyscallArg { index: 1, value, value_two: 0, op };
            let program = compile(&profile_with(vec![arg])).unwrap();
            for given in values {
                let expected = match op {
                    Op::Equal => given == value,
                    Op::NotEqual => given != value,
                    Op::Less => given < value,
                    Op::LessOrEqual => given <= value,
                    Op::Greater => given > value,
                    _ => given >= value,
                };
                let answer = ask(&program, Arch::NATIVE, "getpid", &[0, given]);
                assert_eq!(answer == answer::ERRNO | 7, expected, "{given:#x} {op:?} {value:#x}");
            }
        }
    }
}

#[test]
fn conditions_on_different_arguments_hold_together_and_on_one_alternatively() {
    use SeccompOperator::Equal;
    let arg = |index, value| SyscallArg { index, value, value_two: 0, op: Equal };
    let both = compile(&profile_with(vec![arg(0, 1), arg(1, 2)])).unwrap();
    let either = compile(&profile_with(vec![arg(0, 1), arg(0, 2)])).unwrap();
    let denied = |program: &[Instruction], args: &[u64]| {
        ask(program, Arch::NATIVE, "getpid", args) == answer::ERRNO | 7
    };
    assert!(denied(&both, &[1, 2]) && !denied(&both, &[1, 3]) && !denied(&both, &[0, 2]));
    assert!(denied(&either, &[1]) && denied(&either, &[2]) && !denied(&either, &[3]));
}

#[test]
fn impossible_profiles_are_refused() {
    let arg = SyscallArg { index: 6, value: 0, value_two: 0, op: SeccompOperator::Equal };
    assert!(compile(&profile_with(vec![arg])).is_err());
    let mut profile = profile_with(Vec::new());
    profile.architectures.push("SCMP_ARCH_VAX".into());
    assert!(compile(&profile).is_err());
}

#[test]
fn a_remembered_profile_is_found_in_a_specification_and_only_there() {
    let profile = wharf_oci::seccomp::docker_default(&[], (6, 1));
    let linux = wharf_oci::runtime::Linux { seccomp: Some(profile.clone()), ..Default::default() };
    let annotations = [("seccomp".to_owned(), "\"seccomp\":{}".to_owned())].into();
    let spec = Spec { linux: Some(linux), annotations, ..Default::default() };
    let text = serde_json::to_vec(&spec).unwrap();
    let known = serde_json::to_vec(&profile).unwrap();
    let range = find(&text, &known).unwrap();
    assert_eq!(serde_json::from_slice::<LinuxSeccomp>(&text[range]).unwrap(), profile);
    assert_eq!(find(&text, b"{\"defaultAction\":\"SCMP_ACT_KILL\""), None);

    remember(profile.clone());
    let (read, found) = read_spec(&text).unwrap();
    let other = LinuxSeccomp { default_action: SeccompAction::Log, ..profile.clone() };
    if found == Some(&profile) {
        assert_eq!(read.linux.unwrap().seccomp, None);
        assert_eq!(read.annotations, spec.annotations);
    } else {
        // Another test was first to have one remembered.
        assert_eq!((read.linux.unwrap().seccomp, found), (Some(profile), None));
    }
    let linux = wharf_oci::runtime::Linux { seccomp: Some(other.clone()), ..Default::default() };
    let text = serde_json::to_vec(&Spec { linux: Some(linux), ..Default::default() }).unwrap();
    let (read, found) = read_spec(&text).unwrap();
    assert_eq!((read.linux.unwrap().seccomp, found), (Some(other), None));
}
