//! Device rules on cgroup v2: a small eBPF program that the kernel asks at each open(2) or mknod(2) of a device node.
//!
//! Each access that is asked for is decided by the last rule that matches the node and speaks of that access; what no
//! rule speaks of is denied. So the program walks the rules backwards, strikes off what a granting rule grants, says no
//! as soon as a taking rule meets something not yet granted, and yes when nothing is left.

use super::CgroupError;
use super::limits::{DeviceKind, DeviceRule, Permission};
use crate::error::SystemError;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;

/// Replaces the device programs of the cgroup whose directory is `path` by one for these rules. The new one is attached
/// first (with several attached, all must agree), so no moment is without a rule.
pub(super) fn replace(path: &Path, rules: &[DeviceRule]) -> Result<(), CgroupError> {
    let fail = |source| CgroupError::DeviceProgram { path: path.to_path_buf(), source };
    let directory = super::open_directory(path)?;
    let before = attached(directory.as_fd()).map_err(fail)?;
    let program = load(&assemble(rules)).map_err(fail)?;
    attach(directory.as_fd(), program.as_fd()).map_err(fail)?;
    for id in before {
        let Some(old) = open_program(id).map_err(fail)? else { continue };
        detach(directory.as_fd(), old.as_fd()).map_err(fail)?;
    }
    Ok(())
}

/// One eBPF instruction, as the kernel lays it out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// Register 1 holds the context at entry; register 0 the answer at exit.
const ANSWER: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const WANTED: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const SCRATCH: u8 = 6;

// Opcodes (linux/bpf.h, linux/bpf_common.h): class, size or source, operation.
const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xb7;
const MOVE_REGISTER: u8 = 0xbf;
const AND: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const JUMP_NOT_EQUAL: u8 = 0x55;
const JUMP_EQUAL: u8 = 0x15;
const EXIT: u8 = 0x95;

const fn instruction(code: u8, to: u8, from: u8, immediate: i32) -> Instruction {
    Instruction { code, registers: to | (from << 4), offset: 0, immediate }
}

const fn jump(code: u8, register: u8, immediate: i32, offset: i16) -> Instruction {
    Instruction { code, registers: register, offset, immediate }
}

fn assemble(rules: &[DeviceRule]) -> Vec<Instruction> {
    let load = |register, offset| Instruction {
        code: LOAD_WORD,
        registers: register | (CONTEXT << 4),
        offset,
        immediate: 0,
    };
    // struct bpf_cgroup_dev_ctx: access << 16 | kind, major, minor.
    let mut program = vec![
        load(KIND, 0),
        instruction(MOVE_REGISTER, WANTED, KIND, 0),
        instruction(SHIFT_RIGHT, WANTED, 0, 16),
        instruction(AND, KIND, 0, 0xffff),
        load(MAJOR, 4),
        load(MINOR, 8),
    ];
    for rule in rules.iter().rev() {
        program.extend(decide(rule));
    }
    program.extend(answer(Permission::Deny));
    program
}

/// The instructions of one rule: skip it unless the node matches, then grant or take.
fn decide(rule: &DeviceRule) -> Vec<Instruction> {
    // BPF_DEVCG_DEV_BLOCK and BPF_DEVCG_DEV_CHAR.
    let kind = match rule.kind {
        DeviceKind::All => None,
        DeviceKind::Block => Some(1),
        DeviceKind::Character => Some(2),
    };
    let bits = i32::from(rule.access.bits());
    let verdict = match rule.permission {
        Permission::Allow => {
            let mut grant =
                vec![instruction(AND, WANTED, 0, !bits), jump(JUMP_NOT_EQUAL, WANTED, 0, 2)];
            grant.extend(answer(Permission::Allow));
            grant
        }
        Permission::Deny => {
            let mut take = vec![
                instruction(MOVE_REGISTER, SCRATCH, WANTED, 0),
                instruction(AND, SCRATCH, 0, bits),
                jump(JUMP_EQUAL, SCRATCH, 0, 2),
            ];
            take.extend(answer(Permission::Deny));
            take
        }
    };
    let mut conditions: Vec<(u8, i32)> = Vec::new();
    conditions.extend(kind.map(|kind| (KIND, kind)));
    // Device numbers have 32 bits at most; the comparison sign-extends, so numbers beyond 31 bits never match. Linux has
    // 12 bits of major and 20 of minor.
    let number = |value: u32| i32::try_from(value).unwrap_or(-1);
    conditions.extend(rule.major.map(|major| (MAJOR, number(major))));
    conditions.extend(rule.minor.map(|minor| (MINOR, number(minor))));

    let mut left = conditions.len();
    let mut block = Vec::new();
    for (register, value) in conditions {
        left -= 1;
        let skip = i16::try_from(left + verdict.len()).unwrap_or(i16::MAX);
        block.push(jump(JUMP_NOT_EQUAL, register, value, skip));
    }
    block.extend(verdict);
    block
}

fn answer(permission: Permission) -> [Instruction; 2] {
    let value = match permission {
        Permission::Allow => 1,
        Permission::Deny => 0,
    };
    [instruction(MOVE, ANSWER, 0, value), instruction(EXIT, 0, 0, 0)]
}

// bpf(2): commands and types.
const PROGRAM_LOAD: libc::c_long = 5;
const PROGRAM_ATTACH: libc::c_long = 8;
const PROGRAM_DETACH: libc::c_long = 9;
const PROGRAM_BY_ID: libc::c_long = 13;
const PROGRAM_QUERY: libc::c_long = 16;
const CGROUP_DEVICE_PROGRAM: u32 = 15;
const CGROUP_DEVICE_POINT: u32 = 6;
const ALLOW_MULTIPLE: u32 = 2;
/// The most programs the kernel attaches at one point.
const MOST_PROGRAMS: usize = 64;

/// The part of `union bpf_attr` that BPF_PROG_LOAD reads here.
#[repr(C)]
struct LoadRequest {
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

/// The part that BPF_PROG_ATTACH and BPF_PROG_DETACH read.
#[repr(C)]
struct AttachRequest {
    target: i32,
    program: i32,
    point: u32,
    flags: u32,
}

/// The part that BPF_PROG_QUERY reads and writes.
#[repr(C)]
struct QueryRequest {
    target: i32,
    point: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    padding: u32,
}

/// The part that BPF_PROG_GET_FD_BY_ID reads.
#[repr(C)]
struct ByIdRequest {
    id: u32,
    next: u32,
    flags: u32,
}

/// bpf(2) with that command on that request, which may hold addresses of what outlives the call.
fn bpf<T>(command: libc::c_long, request: &mut T) -> io::Result<i32> {
    let size = size_of::<T>();
    // SAFETY: `request` is exclusively ours for the call and `size` is its size; the kernel takes missing fields of the
    // union for zero. Addresses within are of live buffers, as each caller shows.
    let answer =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(request), size) };
    i32::try_from(answer).ok().filter(|answer| *answer >= 0).ok_or_else(io::Error::last_os_error)
}

fn load(program: &[Instruction]) -> Result<OwnedFd, SystemError> {
    // The program calls nothing, so its licence is of no consequence.
    let license = c"Apache-2.0";
    let mut request = LoadRequest {
        kind: CGROUP_DEVICE_PROGRAM,
        count: u32::try_from(program.len()).unwrap_or(u32::MAX),
        instructions: address(program.as_ptr()),
        license: address(license.as_ptr()),
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
    };
    let number = bpf(PROGRAM_LOAD, &mut request)
        .map_err(|source| SystemError::new("bpf(BPF_PROG_LOAD)", "", source))?;
    // SAFETY: the kernel just made this descriptor for us, close-on-exec.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

fn attach(directory: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<(), SystemError> {
    let mut request = AttachRequest {
        target: directory.as_raw_fd(),
        program: program.as_raw_fd(),
        point: CGROUP_DEVICE_POINT,
        flags: ALLOW_MULTIPLE,
    };
    bpf(PROGRAM_ATTACH, &mut request)
        .map(drop)
        .map_err(|source| SystemError::new("bpf(BPF_PROG_ATTACH)", "", source))
}

fn detach(directory: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<(), SystemError> {
    let mut request = AttachRequest {
        target: directory.as_raw_fd(),
        program: program.as_raw_fd(),
        point: CGROUP_DEVICE_POINT,
        flags: 0,
    };
    match bpf(PROGRAM_DETACH, &mut request) {
        Err(source) if source.raw_os_error() != Some(libc::ENOENT) => {
            Err(SystemError::new("bpf(BPF_PROG_DETACH)", "", source))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

/// The ids of the device programs attached to the cgroup itself.
fn attached(directory: BorrowedFd<'_>) -> Result<Vec<u32>, SystemError> {
    let mut ids = vec![0_u32; MOST_PROGRAMS];
    let mut request = QueryRequest {
        target: directory.as_raw_fd(),
        point: CGROUP_DEVICE_POINT,
        query_flags: 0,
        attach_flags: 0,
        ids: address(ids.as_mut_ptr().cast_const()),
        count: 64,
        padding: 0,
    };
    bpf(PROGRAM_QUERY, &mut request)
        .map_err(|source| SystemError::new("bpf(BPF_PROG_QUERY)", "", source))?;
    ids.truncate(usize::try_from(request.count).unwrap_or(0));
    Ok(ids)
}

/// The program of that id; none if it is gone.
fn open_program(id: u32) -> Result<Option<OwnedFd>, SystemError> {
    let mut request = ByIdRequest { id, next: 0, flags: 0 };
    match bpf(PROGRAM_BY_ID, &mut request) {
        // SAFETY: the kernel just made this descriptor for us, close-on-exec.
        Ok(number) => Ok(Some(unsafe { OwnedFd::from_raw_fd(number) })),
        Err(source) if source.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(source) => Err(SystemError::new("bpf(BPF_PROG_GET_FD_BY_ID)", id.to_string(), source)),
    }
}

/// An address as the kernel's interface wants it: 64 bits wide on every machine.
fn address<T>(pointer: *const T) -> u64 {
    u64::try_from(pointer.addr()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::super::limits::DeviceAccess;
    use super::*;

    /// What the program answers, by our own reading of the instructions.
    fn run(program: &[Instruction], kind: u32, access: u32, node: (u32, u32)) -> u64 {
        let context = [access << 16 | kind, node.0, node.1];
        let mut registers = [0_u64; 11];
        let mut at = 0;
        loop {
            let step = program[at];
            let (to, from) = (usize::from(step.registers & 15), usize::from(step.registers >> 4));
            let immediate = i64::from(step.immediate).cast_unsigned();
            at += 1;
            let mut jump_if = |condition: bool| {
                if condition {
                    at += usize::try_from(step.offset).unwrap();
                }
            };
            match step.code {
                LOAD_WORD => {
                    let word = usize::try_from(step.offset).unwrap() / 4;
                    registers[to] = u64::from(context[word]);
                    assert_eq!(from, usize::from(CONTEXT));
                }
                MOVE => registers[to] = immediate,
                MOVE_REGISTER => registers[to] = registers[from],
                AND => registers[to] &= immediate,
                SHIFT_RIGHT => registers[to] >>= immediate,
                JUMP_NOT_EQUAL => jump_if(registers[to] != immediate),
                JUMP_EQUAL => jump_if(registers[to] == immediate),
                EXIT => return registers[0],
                other => panic!("opcode {other:#x}"),
            }
        }
    }

    fn rule(
        permission: Permission,
        kind: DeviceKind,
        node: (Option<u32>, Option<u32>),
        access: &str,
    ) -> DeviceRule {
        let access = DeviceAccess::from_letters(access).unwrap();
        DeviceRule { permission, kind, major: node.0, minor: node.1, access }
    }

    const BLOCK: u32 = 1;
    const CHARACTER: u32 = 2;
    const MKNOD: u32 = 1;
    const READ: u32 = 2;
    const WRITE: u32 = 4;

    #[test]
    fn the_last_matching_rule_decides_each_access() {
        use DeviceKind::{All, Block, Character};
        use Permission::{Allow, Deny};
        let program = assemble(&[
            rule(Allow, Character, (Some(1), Some(3)), "r"),
            rule(Allow, Character, (Some(1), Some(3)), "w"),
            rule(Allow, All, (None, None), "m"),
            rule(Allow, Block, (Some(8), None), "rw"),
            rule(Deny, Block, (Some(8), Some(1)), "w"),
        ]);
        for (kind, access, node, expected) in [
            (CHARACTER, READ, (1, 3), 1),
            (CHARACTER, READ | WRITE, (1, 3), 1),
            (CHARACTER, READ | WRITE | MKNOD, (1, 3), 1),
            (BLOCK, READ, (1, 3), 0),
            (CHARACTER, READ, (1, 5), 0),
            (CHARACTER, MKNOD, (200, 5), 1),
            (BLOCK, READ | WRITE, (8, 0), 1),
            (BLOCK, READ, (8, 1), 1),
            (BLOCK, WRITE, (8, 1), 0),
            (BLOCK, READ | WRITE, (8, 1), 0),
        ] {
            assert_eq!(run(&program, kind, access, node), expected, "{kind} {access} {node:?}");
        }
    }

    #[test]
    fn no_rule_grants_nothing() {
        assert_eq!(run(&assemble(&[]), CHARACTER, READ, (1, 3)), 0);
    }

    #[test]
    fn the_request_structures_have_the_sizes_the_kernel_reads() {
        assert_eq!(size_of::<Instruction>(), 8);
        assert_eq!(size_of::<LoadRequest>(), 48);
        assert_eq!(size_of::<AttachRequest>(), 16);
        assert_eq!(size_of::<QueryRequest>(), 32);
        assert_eq!(size_of::<ByIdRequest>(), 12);
    }
}
