//! Filters against a naive reading of their profiles, and against the kernel.

use super::compile::{Decisions, tables, unlisted};
use super::program::{
    AND, Instruction, JUMP, JUMP_EQUAL, JUMP_GREATER, JUMP_GREATER_OR_EQUAL, LOAD, RETURN,
};
use super::*;
use crate::capability::{Capability, CapabilitySet};
use crate::testing::exit_code;

/// What a filter is told of a call.
#[derive(Debug, Clone, Copy)]
struct Call {
    architecture: u32,
    number: u32,
    arguments: [u64; 6],
}

impl Call {
    fn word(&self, offset: u32) -> u32 {
        let mut bytes = Vec::new();
        bytes.extend(self.number.to_le_bytes());
        bytes.extend(self.architecture.to_le_bytes());
        bytes.extend([0; 8]);
        bytes.extend(self.arguments.iter().flat_map(|argument| argument.to_le_bytes()));
        let at = usize::try_from(offset).unwrap();
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
    }
}

/// Runs a filter as the kernel would; its answer, and how many steps it took.
fn run(program: &[Instruction], call: &Call) -> (u32, usize) {
    let (mut accumulator, mut at, mut steps) = (0_u32, 0_usize, 0_usize);
    loop {
        let step = program[at];
        at += 1;
        steps += 1;
        let holds = match step.code {
            LOAD => {
                accumulator = call.word(step.operand);
                continue;
            }
            AND => {
                accumulator &= step.operand;
                continue;
            }
            JUMP => {
                at += usize::try_from(step.operand).unwrap();
                continue;
            }
            RETURN => return (step.operand, steps),
            JUMP_EQUAL => accumulator == step.operand,
            JUMP_GREATER => accumulator > step.operand,
            JUMP_GREATER_OR_EQUAL => accumulator >= step.operand,
            other => panic!("opcode {other:#x}"),
        };
        at += usize::from(if holds { step.if_true } else { step.if_false });
    }
}

/// The verdict by a plain reading of the rules.
fn naive(decisions: &Decisions, default: Verdict, number: u32, arguments: &[u64; 6]) -> Verdict {
    let Some(decision) = decisions.get(&number) else {
        return unlisted(decisions, default, number);
    };
    let holds = |condition: &Condition| {
        let argument = arguments[usize::from(condition.argument)];
        match condition.comparison {
            Comparison::NotEqual(value) => argument != value,
            Comparison::Less(value) => argument < value,
            Comparison::LessOrEqual(value) => argument <= value,
            Comparison::Equal(value) => argument == value,
            Comparison::GreaterOrEqual(value) => argument >= value,
            Comparison::Greater(value) => argument > value,
            Comparison::MaskedEqual { mask, value } => argument & mask == value & mask,
        }
    };
    let first = decision.conditional.iter().find(|(conditions, _)| conditions.iter().all(holds));
    first.map(|(_, verdict)| *verdict).or(decision.otherwise).unwrap_or(default)
}

/// Argument lists around every value that a profile compares with.
fn arguments(profile: &Profile) -> Vec<[u64; 6]> {
    let mut values = vec![0, 1, u64::MAX];
    for condition in profile.rules.iter().flat_map(|rule| &rule.conditions) {
        let (_, value, second) = condition.comparison.to_name();
        for value in [value, second] {
            let near = [value, value.wrapping_add(1), value.wrapping_sub(1), value ^ (1 << 40)];
            values.extend(near);
        }
    }
    values.sort_unstable();
    values.dedup();
    let mut lists: Vec<[u64; 6]> = values.iter().map(|value| [*value; 6]).collect();
    let pairs = values.iter().flat_map(|a| values.iter().map(|b| [*a, 0, *b, *a, 0, 0]));
    lists.extend(pairs.step_by(1 + values.len() / 48));
    lists
}

/// Compares a profile's filter with its naive reading for every number and interesting argument.
fn agree(name: &str, profile: &Profile) -> Filter {
    let filter = compile(profile).unwrap().filter;
    let lists = arguments(profile);
    for (architecture, decisions) in tables(profile).unwrap() {
        for number in (0..520).chain([0x3fff_ffff]) {
            let has_conditions =
                decisions.get(&number).is_some_and(|decision| !decision.conditional.is_empty());
            let lists = if has_conditions { lists.as_slice() } else { &lists[..1] };
            for arguments in lists {
                let call =
                    Call { architecture: architecture.token(), number, arguments: *arguments };
                let expected = naive(&decisions, profile.default, number, arguments);
                let (answer, steps) = run(filter.program(), &call);
                assert_eq!(answer, expected.encoded(), "{name}: {call:x?} is not {expected:?}");
                assert!(has_conditions || steps <= 20, "{name}: {number} took {steps} steps");
            }
        }
    }
    filter
}

fn rule(names: &[&str], verdict: Verdict, conditions: &[(u8, Comparison)]) -> Rule {
    let condition = |(argument, comparison): &(u8, Comparison)| Condition {
        argument: *argument,
        comparison: *comparison,
    };
    Rule {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        verdict,
        conditions: conditions.iter().map(condition).collect(),
    }
}

fn profile(default: Verdict, rules: Vec<Rule>) -> Profile {
    let architectures = vec![Architecture::X86_64, Architecture::I386];
    Profile { default, architectures, rules, flags: Vec::new() }
}

#[test]
fn the_default_profile_means_the_same_compiled_and_read_for_many_capability_sets() {
    for bits in [0, 0xa802_05fb, CapabilitySet::all().bits(), 1 << 21, 1 << 12, 1 << 13, 1 << 29] {
        let set = CapabilitySet::from_bits(bits);
        let filter = agree("default", &default_profile(set));
        let instructions = filter.instructions();
        // The usual sets, and those that open many calls.
        assert!(instructions <= 300, "{bits:x}: {instructions} instructions");
    }
}

#[test]
fn every_comparison_is_right_at_its_borders() {
    const BIG: u64 = 0x1234_5678_9abc_def0;
    for value in [0, 1, 0xffff_ffff, 0x1_0000_0000, BIG, u64::MAX] {
        for comparison in [
            Comparison::NotEqual(value),
            Comparison::Less(value),
            Comparison::LessOrEqual(value),
            Comparison::Equal(value),
            Comparison::GreaterOrEqual(value),
            Comparison::Greater(value),
            Comparison::MaskedEqual { mask: value, value: BIG },
            Comparison::MaskedEqual { mask: 0xffff_0000, value },
        ] {
            let rules = vec![
                rule(&["read"], Verdict::Errno(5), &[(2, comparison), (0, Comparison::Greater(0))]),
                rule(&["read"], Verdict::Trap, &[(0, comparison)]),
                rule(&["write"], Verdict::KillThread, &[(5, comparison)]),
            ];
            agree("comparison", &profile(Verdict::Allow, rules));
        }
    }
}

#[test]
fn what_neighbouring_rules_share_is_tested_once_and_right() {
    let equal = |argument, value| (argument, Comparison::Equal(value));
    let rules = vec![
        rule(&["read"], Verdict::Allow, &[equal(0, 1)]),
        rule(&["read"], Verdict::Allow, &[equal(0, 2)]),
        rule(&["read"], Verdict::Allow, &[equal(0, 2 | 1 << 40)]),
        rule(&["read"], Verdict::Trap, &[equal(0, 3)]),
        rule(&["read"], Verdict::Log, &[equal(0, 4), equal(2, 1)]),
        rule(&["read"], Verdict::Log, &[equal(0, 4), equal(2, 2)]),
        rule(&["read"], Verdict::Allow, &[equal(0, 4), equal(2, 3), equal(1, 0)]),
        rule(&["read"], Verdict::Trap, &[equal(0, 4), equal(2, 3)]),
        rule(&["read"], Verdict::KillThread, &[equal(2, 5)]),
        rule(&["read"], Verdict::Errno(9), &[]),
    ];
    agree("shared", &profile(Verdict::Errno(1), rules));
}

#[test]
fn a_long_program_with_far_jumps_is_right() {
    let names: Vec<&str> =
        numbers::table(Architecture::X86_64).iter().map(|(name, _)| *name).collect();
    let rules = names.iter().take(300).enumerate().map(|(position, name)| {
        let number = u16::try_from(position).unwrap();
        let value = u64::from(number) << 20;
        rule(&[name], Verdict::Errno(number), &[(1, Comparison::Equal(value))])
    });
    let profile = profile(Verdict::Allow, rules.collect());
    let filter = compile(&profile).unwrap().filter;
    assert!(filter.instructions() > 2000);
    for (architecture, decisions) in tables(&profile).unwrap() {
        for number in 0..500 {
            for value in [0, 5 << 20, 299 << 20] {
                let arguments = [0, value, 0, 0, 0, 0];
                let call = Call { architecture: architecture.token(), number, arguments };
                let expected = naive(&decisions, profile.default, number, &arguments);
                assert_eq!(run(filter.program(), &call).0, expected.encoded(), "{call:x?}");
            }
        }
    }
}

#[test]
fn a_profile_too_long_for_the_kernel_is_refused() {
    let rules = (0..1500)
        .map(|value| rule(&["read"], Verdict::Errno(7), &[(1, Comparison::Equal(value << 33))]));
    let refused = compile(&profile(Verdict::Allow, rules.collect()));
    assert!(matches!(refused, Err(CompileError::TooLong { .. })), "{refused:?}");
}

#[test]
fn calls_by_other_architectures_end_the_process_and_x32_is_refused() {
    for default in [Verdict::Allow, Verdict::Errno(EPERM), Verdict::KillThread] {
        let mut profile = profile(default, vec![rule(&["read"], Verdict::Allow, &[])]);
        profile.architectures.clear();
        let filter = compile(&profile).unwrap().filter;
        let ask = |architecture, number| {
            run(filter.program(), &Call { architecture, number, arguments: [0; 6] }).0
        };
        for other in [Architecture::I386, Architecture::Aarch64] {
            if other != Architecture::NATIVE {
                assert_eq!(ask(other.token(), 0), Verdict::KillProcess.encoded());
            }
        }
        if Architecture::NATIVE == Architecture::X86_64 {
            let expected = if default == Verdict::Allow { Verdict::Errno(ENOSYS) } else { default };
            assert_eq!(ask(Architecture::X86_64.token(), 0x4000_0000), expected.encoded());
            assert_eq!(ask(Architecture::X86_64.token(), u32::MAX), expected.encoded());
        }
    }
}

#[test]
fn calls_newer_than_the_profile_do_not_exist() {
    let rules = vec![rule(&["read", "openat2"], Verdict::Allow, &[])];
    let decide = |default| {
        let filter = compile(&profile(default, rules.clone())).unwrap().filter;
        [436, 437, 438, 9999].map(|number| {
            let architecture = Architecture::NATIVE.token();
            run(filter.program(), &Call { architecture, number, arguments: [0; 6] }).0
        })
    };
    let [eperm, enosys, allow] =
        [Verdict::Errno(1), Verdict::Errno(38), Verdict::Allow].map(Verdict::encoded);
    assert_eq!(decide(Verdict::Errno(1)), [eperm, allow, enosys, enosys]);
    let kill = Verdict::KillProcess;
    assert_eq!(decide(kill), [kill.encoded(), allow, kill.encoded(), kill.encoded()]);
}

#[test]
fn a_refused_socket_call_is_refused_by_way_of_socketcall_too() {
    if Architecture::NATIVE != Architecture::X86_64 {
        return;
    }
    let family = (0, Comparison::Equal(38));
    let refusing = profile(Verdict::Allow, vec![rule(&["socket"], Verdict::Errno(97), &[family])]);
    let filter = agree("socketcall", &refusing);
    let ask = |selector| {
        let architecture = Architecture::I386.token();
        let arguments = [selector, 0, 0, 0, 0, 0];
        run(filter.program(), &Call { architecture, number: 102, arguments }).0
    };
    assert_eq!(ask(1), Verdict::Errno(97).encoded());
    assert_eq!(ask(2), Verdict::Allow.encoded());
}

#[test]
fn contradictions_and_impossible_arguments_are_refused_and_unknown_names_told() {
    let both = profile(
        Verdict::Allow,
        vec![rule(&["read"], Verdict::Trap, &[]), rule(&["read"], Verdict::Errno(1), &[])],
    );
    assert!(matches!(compile(&both), Err(CompileError::Contradiction { .. })));
    let far =
        profile(Verdict::Allow, vec![rule(&["read"], Verdict::Trap, &[(6, Comparison::Equal(0))])]);
    assert!(matches!(compile(&far), Err(CompileError::Argument { argument: 6, .. })));
    let unknown = profile(Verdict::Allow, vec![rule(&["mmap2", "nosuchcall"], Verdict::Trap, &[])]);
    assert_eq!(compile(&unknown).unwrap().unknown, ["nosuchcall"]);
}

#[test]
fn two_conditions_on_one_argument_are_two_rules() {
    let conditions = [(0, Comparison::Equal(1)), (0, Comparison::Equal(2))];
    let either = profile(Verdict::Errno(1), vec![rule(&["read"], Verdict::Allow, &conditions)]);
    let filter = agree("twice", &either);
    let ask = |value| {
        let (architecture, arguments) = (Architecture::X86_64.token(), [value, 0, 0, 0, 0, 0]);
        run(filter.program(), &Call { architecture, number: 0, arguments }).0
    };
    let allow = Verdict::Allow.encoded();
    assert_eq!([ask(1), ask(2), ask(3)], [allow, allow, Verdict::Errno(1).encoded()]);
}

#[test]
fn a_filter_survives_as_bytes_and_damaged_bytes_are_refused() {
    let filter = compile(&default_profile(CapabilitySet::EMPTY)).unwrap().filter;
    let bytes = filter.to_bytes();
    assert_eq!(Filter::from_bytes(&bytes), Ok(filter));
    for damaged in [&bytes[..0], &bytes[..12], &bytes[..40], &bytes[..bytes.len() - 1], &bytes[1..]]
    {
        assert_eq!(Filter::from_bytes(damaged), Err(FilterError));
    }
}

#[test]
fn instructions_are_laid_out_as_the_kernel_reads_them() {
    assert_eq!(size_of::<Instruction>(), size_of::<libc::sock_filter>());
    assert_eq!(
        std::mem::offset_of!(Instruction, if_true),
        std::mem::offset_of!(libc::sock_filter, jt)
    );
    assert_eq!(
        std::mem::offset_of!(Instruction, if_false),
        std::mem::offset_of!(libc::sock_filter, jf)
    );
    assert_eq!(
        std::mem::offset_of!(Instruction, operand),
        std::mem::offset_of!(libc::sock_filter, k)
    );
}

const CIRCUMSTANCES: Circumstances =
    Circumstances { capabilities: CapabilitySet::EMPTY, kernel: (6, 18) };

#[test]
fn a_profile_survives_as_json() {
    for bits in [0, CapabilitySet::all().bits()] {
        let profile = default_profile(CapabilitySet::from_bits(bits));
        let json = profile.to_json().unwrap();
        assert_eq!(read_profile(&json, &CIRCUMSTANCES).unwrap(), profile);
    }
}

#[test]
fn rules_of_a_file_depend_on_capabilities_architecture_and_kernel() {
    let json = br#"{
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1,
        "archMap": [
            {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]},
            {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]}
        ],
        "syscalls": [
            {"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [], "comment": "", "includes": {}, "excludes": {}},
            {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
            {"names": ["kcmp"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "99.0"}},
            {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38, "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["s390_pci_mmio_read"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["s390x"]}},
            {"name": "personality", "action": "SCMP_ACT_ALLOW",
             "args": [{"index": 0, "value": 8, "valueTwo": 0, "op": "SCMP_CMP_EQ"}]}
        ]
    }"#;
    let names = |capabilities| {
        let circumstances = Circumstances { capabilities, ..CIRCUMSTANCES };
        let profile = read_profile(json, &circumstances).unwrap();
        profile.rules.into_iter().flat_map(|rule| rule.names).collect::<Vec<_>>()
    };
    assert_eq!(names(CapabilitySet::EMPTY), ["read", "ptrace", "clone3", "personality"]);
    let admin = CapabilitySet::EMPTY.with(Capability::SysAdmin);
    assert_eq!(names(admin), ["read", "ptrace", "mount", "personality"]);
}

#[test]
fn a_malformed_file_is_refused() {
    for json in [
        "",
        "{}",
        "[]",
        r#"{"defaultAction": "SCMP_ACT_MAYBE"}"#,
        r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#,
        r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 4096}"#,
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscals": []}"#,
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/x"}"#,
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_NEW"]}"#,
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_VAX"]}"#,
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": [], "action": "SCMP_ACT_TRAP"}]}"#,
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["a"], "name": "b", "action": "SCMP_ACT_TRAP"}]}"#,
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"]}]}"#,
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_TRAP",
            "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}]}"#,
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_TRAP",
            "args": [{"index": 0, "value": 0, "op": "=="}]}]}"#,
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_TRAP",
            "includes": {"caps": ["CAP_MAGIC"]}}]}"#,
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_TRAP",
            "includes": {"minKernel": "new"}}]}"#,
    ] {
        assert!(read_profile(json.as_bytes(), &CIRCUMSTANCES).is_err(), "{json}");
    }
}

/// Loads the filter in a child and runs `probe` there; its exit code, or the signal that ended it.
fn under(profile: &Profile, probe: impl FnOnce() -> i32) -> Result<i32, i32> {
    let filter = compile(profile).unwrap().filter;
    exit_code(|| {
        rustix::thread::set_no_new_privs(true).unwrap();
        filter.load().unwrap();
        probe()
    })
}

/// The error number of a system call; 0 if it succeeds.
fn errno_of(number: libc::c_long, arguments: [libc::c_long; 3]) -> i32 {
    let [a, b, c] = arguments;
    // SAFETY: the callers pass numbers, or null for addresses.
    let answer = unsafe { libc::syscall(number, a, b, c, 0, 0, 0) };
    if answer >= 0 { 0 } else { std::io::Error::last_os_error().raw_os_error().unwrap_or(-1) }
}

#[test]
fn the_kernel_takes_the_default_filter_and_obeys_it() {
    let ordinary = default_profile(CapabilitySet::EMPTY);
    for (name, number, arguments, expected) in [
        ("getpid", libc::SYS_getpid, [0, 0, 0], 0),
        ("unshare", libc::SYS_unshare, [0, 0, 0], libc::EPERM),
        ("clone3", libc::SYS_clone3, [0, 0, 0], libc::ENOSYS),
        ("clone into a user namespace", libc::SYS_clone, [0x1000_0000, 0, 0], libc::EPERM),
        ("sethostname", libc::SYS_sethostname, [0, 0, 0], libc::EPERM),
        ("keyctl", libc::SYS_keyctl, [0, 0, 0], libc::EPERM),
        ("bpf", libc::SYS_bpf, [0, 0, 0], libc::EPERM),
        ("io_uring_setup", libc::SYS_io_uring_setup, [1, 0, 0], libc::EPERM),
        ("personality, asked", libc::SYS_personality, [0xffff_ffff, 0, 0], 0),
        ("personality, odd", libc::SYS_personality, [0x40, 0, 0], libc::EPERM),
        ("a call to come", 600, [0, 0, 0], libc::ENOSYS),
        ("AF_UNIX", libc::SYS_socket, [1, 1, 0], 0),
        ("AF_INET", libc::SYS_socket, [2, 1, 0], 0),
        ("AF_ALG", libc::SYS_socket, [38, 5, 0], libc::EPERM),
        ("AF_VSOCK", libc::SYS_socket, [40, 1, 0], libc::EPERM),
        ("NETLINK_ROUTE", libc::SYS_socket, [16, 3, 0], 0),
        ("NETLINK_XFRM", libc::SYS_socket, [16, 3, 6], libc::EPERM),
        ("NETLINK_AUDIT", libc::SYS_socket, [16, 3, 9], libc::EPROTONOSUPPORT),
    ] {
        let seen = under(&ordinary, || errno_of(number, arguments));
        assert_eq!(seen, Ok(expected), "{name}");
    }
}

#[test]
fn every_socket_family_but_the_listed_ones_is_refused_by_the_filter() {
    let ordinary = default_profile(CapabilitySet::EMPTY);
    for family in 0..46 {
        let seen = under(&ordinary, || errno_of(libc::SYS_socket, [family, 2, 6]));
        let is_listed = [1, 2, 10].contains(&family);
        assert_eq!(seen != Ok(libc::EPERM), is_listed, "family {family}: {seen:?}");
    }
}

#[test]
fn capabilities_open_what_comes_with_them() {
    let with = |capability| default_profile(CapabilitySet::EMPTY.with(capability));
    let unshare = |profile| under(&profile, || errno_of(libc::SYS_unshare, [0, 0, 0]));
    assert_eq!(unshare(with(Capability::SysAdmin)), Ok(0));
    assert_eq!(unshare(with(Capability::NetAdmin)), Ok(libc::EPERM));
    let xfrm = |profile| under(&profile, || errno_of(libc::SYS_socket, [16, 3, 6]));
    assert_ne!(xfrm(with(Capability::NetAdmin)), Ok(libc::EPERM));
    let packet = |profile| under(&profile, || errno_of(libc::SYS_socket, [17, 3, 0]));
    assert_ne!(packet(with(Capability::NetRaw)), Ok(libc::EPERM));
    assert_eq!(packet(with(Capability::SysAdmin)), Ok(libc::EPERM));
}

#[test]
fn threads_and_processes_work_under_the_default_filter() {
    let seen = under(&default_profile(CapabilitySet::EMPTY), || {
        let answer = std::thread::spawn(|| 7).join().unwrap();
        let child = std::process::Command::new("/bin/true").status();
        i32::from(answer != 7 || !child.is_ok_and(|status| status.success()))
    });
    assert_eq!(seen, Ok(0));
}

#[test]
fn each_verdict_has_its_effect() {
    let say = |verdict| profile(Verdict::Allow, vec![rule(&["getppid"], verdict, &[])]);
    let probe = || errno_of(libc::SYS_getppid, [0; 3]);
    for (verdict, expected) in [
        (Verdict::Allow, Ok(0)),
        (Verdict::Log, Ok(0)),
        (Verdict::Errno(77), Ok(77)),
        (Verdict::Trace(1), Ok(libc::ENOSYS)),
        (Verdict::Trap, Err(libc::SIGSYS)),
        (Verdict::KillThread, Err(libc::SIGSYS)),
        (Verdict::KillProcess, Err(libc::SIGSYS)),
    ] {
        assert_eq!(under(&say(verdict), probe), expected, "{verdict:?}");
    }
}

/// A system call the way 32-bit programs make it; the kernel takes it for one of theirs.
#[cfg(target_arch = "x86_64")]
fn errno_of_32_bit_call(number: i32, first: i32, second: i32) -> i32 {
    let answer: i32;
    // SAFETY: the callers pass numbers, or null for addresses; the register that the compiler keeps for itself is put
    // back, and the kernel may clear the ones that 32-bit programs don't have.
    unsafe {
        std::arch::asm!(
            "xchg rbx, {first:r}",
            "int 0x80",
            "xchg rbx, {first:r}",
            first = inout(reg) first => _,
            inlateout("eax") number => answer,
            in("ecx") second,
            in("edx") 0,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    if answer >= 0 { 0 } else { -answer }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn the_filter_holds_for_32_bit_calls_too() {
    let ordinary = default_profile(CapabilitySet::EMPTY);
    for (name, number, first, expected) in [
        ("getpid", 20, 0, 0),
        ("unshare", 310, 0, libc::EPERM),
        ("mount", 21, 0, libc::EPERM),
        ("clone3", 435, 0, libc::ENOSYS),
        ("socketcall, socket", 102, 1, libc::EPERM),
        // With arguments at no address.
        ("socketcall, bind", 102, 2, libc::EFAULT),
        ("socket AF_UNIX", 359, 1, 0),
        ("socket AF_ALG", 359, 38, libc::EPERM),
        ("keyctl", 288, 0, libc::EPERM),
    ] {
        let seen = under(&ordinary, || {
            let second = if number == 359 { 1 } else { 0 };
            errno_of_32_bit_call(number, first, second)
        });
        assert_eq!(seen, Ok(expected), "{name}");
    }
    let mut native_only = ordinary;
    native_only.architectures.clear();
    let seen = under(&native_only, || errno_of_32_bit_call(20, 0, 0));
    assert_eq!(seen, Err(libc::SIGSYS));
}
