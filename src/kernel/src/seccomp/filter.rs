//! A compiled filter: loading it, and keeping it as bytes.

use super::program::{Instruction, RETURN};
use rustix::io::Errno;

/// How a filter is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Flag {
    /// Onto all threads.
    Synchronise,
    /// Log every verdict but "allow".
    Log,
    /// Without the mitigation for speculative store bypass.
    AllowSpeculation,
    /// Waits for a listener can only be ended by a fatal signal.
    WaitKillable,
}

impl Flag {
    /// The flag of that name in the runtime specification.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "SECCOMP_FILTER_FLAG_TSYNC" => Some(Self::Synchronise),
            "SECCOMP_FILTER_FLAG_LOG" => Some(Self::Log),
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => Some(Self::AllowSpeculation),
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" => Some(Self::WaitKillable),
            _ => None,
        }
    }

    /// Its name in the runtime specification.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Synchronise => "SECCOMP_FILTER_FLAG_TSYNC",
            Self::Log => "SECCOMP_FILTER_FLAG_LOG",
            Self::AllowSpeculation => "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
            Self::WaitKillable => "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
        }
    }

    const fn bit(self) -> u32 {
        match self {
            Self::Synchronise => 1,
            Self::Log => 2,
            Self::AllowSpeculation => 4,
            // The kernel takes this one only together with a listener, and without a listener there is no such wait.
            Self::WaitKillable => 0,
        }
    }
}

/// A compiled filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    program: Vec<Instruction>,
    flags: u32,
}

/// Why bytes are no filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are no seccomp filter of this version")]
pub struct FilterError;

impl Filter {
    /// What the kernel takes (`BPF_MAXINSNS`).
    pub const MOST_INSTRUCTIONS: usize = 4096;
    /// Marks the bytes; the last one is the version of what follows.
    const MARK: [u8; 8] = *b"scfiltr\x01";
    const SIZE: usize = size_of::<Instruction>();

    pub(super) fn new(program: Vec<Instruction>, flags: &[Flag]) -> Self {
        Self { program, flags: flags.iter().fold(0, |bits, flag| bits | flag.bit()) }
    }

    /// The number of instructions.
    #[must_use]
    pub fn instructions(&self) -> usize {
        self.program.len()
    }

    #[cfg(test)]
    pub(super) fn program(&self) -> &[Instruction] {
        &self.program
    }

    /// Filters the calls of the calling thread, of what it becomes by execve(2) and of its children from now on. Needs
    /// no_new_privs or CAP_SYS_ADMIN. Child-side.
    ///
    /// # Errors
    /// What seccomp(2) answers.
    pub fn load(&self) -> Result<(), Errno> {
        const SET_MODE_FILTER: libc::c_uint = 1;
        let length =
            libc::c_ushort::try_from(self.program.len()).map_err(|_too_long| Errno::INVAL)?;
        let program =
            libc::sock_fprog { len: length, filter: self.program.as_ptr().cast_mut().cast() };
        // SAFETY: `program` and the instructions it points to outlive the call, which only reads them; `Instruction`
        // has the layout of `sock_filter` (a test compares size and fields).
        let answer = unsafe {
            libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, self.flags, &raw const program)
        };
        match answer {
            0 => Ok(()),
            // With TSYNC a positive answer is a thread that could not follow.
            1.. => Err(Errno::SRCH),
            _ => {
                Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL))
            }
        }
    }

    /// The filter as bytes, for a cache. Only who may load filters may write that cache: the bytes decide what a
    /// program can do.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        [&Self::MARK[..], &self.flags.to_le_bytes(), &self.code()].concat()
    }

    /// The instructions alone, as the kernel has and tells them on this kind of machine (`struct sock_filter`).
    #[must_use]
    pub fn code(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.program.len() * Self::SIZE);
        for instruction in &self.program {
            bytes.extend(instruction.code.to_le_bytes());
            bytes.extend([instruction.if_true, instruction.if_false]);
            bytes.extend(instruction.operand.to_le_bytes());
        }
        bytes
    }

    /// The filter that [`Filter::to_bytes`] gave.
    ///
    /// # Errors
    /// If the bytes are not whole, of another version, or no program that ends.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FilterError> {
        let (mark, rest) = bytes.split_first_chunk::<8>().ok_or(FilterError)?;
        let (flags, rest) = rest.split_first_chunk::<4>().ok_or(FilterError)?;
        let count = rest.len() / Self::SIZE;
        if *mark != Self::MARK || rest.len() % Self::SIZE != 0 || count > Self::MOST_INSTRUCTIONS {
            return Err(FilterError);
        }
        let (chunks, _) = rest.as_chunks::<8>();
        let program: Vec<Instruction> = chunks.iter().map(|chunk| decode(*chunk)).collect();
        // The kernel verifies the rest; this catches what was cut off.
        if program.last().is_none_or(|last| last.code != RETURN) {
            return Err(FilterError);
        }
        Ok(Self { program, flags: u32::from_le_bytes(*flags) })
    }
}

fn decode(bytes: [u8; 8]) -> Instruction {
    let [a, b, if_true, if_false, c, d, e, f] = bytes;
    Instruction {
        code: u16::from_le_bytes([a, b]),
        if_true,
        if_false,
        operand: u32::from_le_bytes([c, d, e, f]),
    }
}
