//! An assembler for classic BPF. Jumps only go forward, so the program is put together from its end: what a jump leads to
//! is there before the jump is, and distances are known at once.

use super::{Comparison, Verdict};

/// One instruction, as the kernel lays it out (`struct sock_filter`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(super) struct Instruction {
    pub(super) code: u16,
    pub(super) if_true: u8,
    pub(super) if_false: u8,
    pub(super) operand: u32,
}

// Opcodes (linux/bpf_common.h).
pub(super) const LOAD: u16 = 0x20;
pub(super) const AND: u16 = 0x54;
pub(super) const JUMP: u16 = 0x05;
pub(super) const JUMP_EQUAL: u16 = 0x15;
pub(super) const JUMP_GREATER: u16 = 0x25;
pub(super) const JUMP_GREATER_OR_EQUAL: u16 = 0x35;
pub(super) const RETURN: u16 = 0x06;

// Offsets in what the kernel tells the filter (`struct seccomp_data`).
pub(super) const NUMBER: u32 = 0;
pub(super) const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// A place in the program, counted from its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Label(usize);

/// A program under construction, last instruction first.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    reversed: Vec<Instruction>,
    returns: Vec<(Verdict, Label)>,
}

impl Assembler {
    /// The place of an instruction that returns this verdict. A near one is used again.
    pub(super) fn verdict(&mut self, verdict: Verdict) -> Label {
        /// Leaves room for the instructions that come between it and the jump.
        const NEAR: usize = 200;
        let known = self.returns.iter().position(|(known, _)| *known == verdict);
        if let Some((_, label)) = known.and_then(|position| self.returns.get(position))
            && self.reversed.len() - label.0 < NEAR
        {
            return *label;
        }
        let label = self.push(RETURN, verdict.encoded());
        match known.and_then(|position| self.returns.get_mut(position)) {
            Some((_, nearest)) => *nearest = label,
            None => self.returns.push((verdict, label)),
        }
        label
    }

    /// `if accumulator <comparison> operand then … else …`
    pub(super) fn branch(
        &mut self,
        code: u16,
        operand: u32,
        then: Label,
        otherwise: Label,
    ) -> Label {
        let then = self.reachable(then, 2);
        let otherwise = self.reachable(otherwise, 1);
        let distance =
            |label: Label| u8::try_from(self.reversed.len() - label.0 - 1).unwrap_or(u8::MAX);
        let (if_true, if_false) = (distance(then), distance(otherwise));
        self.reversed.push(Instruction { code, if_true, if_false, operand });
        Label(self.reversed.len() - 1)
    }

    /// Loads a word of what the kernel tells, then goes on at `next`.
    pub(super) fn load(&mut self, offset: u32, next: Label) -> Label {
        self.before(next);
        self.push(LOAD, offset)
    }

    /// Where to go to learn whether an argument compares so: to `then` if it does. The accumulator is used up.
    pub(super) fn compare(
        &mut self,
        argument: u8,
        comparison: Comparison,
        then: Label,
        otherwise: Label,
    ) -> Label {
        let low_word = ARGUMENTS + 8 * u32::from(argument);
        match comparison {
            Comparison::Equal(value) => self.equal(low_word, (u64::MAX, value), then, otherwise),
            Comparison::NotEqual(value) => self.equal(low_word, (u64::MAX, value), otherwise, then),
            Comparison::MaskedEqual { mask, value } => {
                self.equal(low_word, (mask, value & mask), then, otherwise)
            }
            Comparison::Greater(value) => {
                self.greater(low_word, (JUMP_GREATER, value), then, otherwise)
            }
            Comparison::LessOrEqual(value) => {
                self.greater(low_word, (JUMP_GREATER, value), otherwise, then)
            }
            Comparison::GreaterOrEqual(value) => {
                self.greater(low_word, (JUMP_GREATER_OR_EQUAL, value), then, otherwise)
            }
            Comparison::Less(value) => {
                self.greater(low_word, (JUMP_GREATER_OR_EQUAL, value), otherwise, then)
            }
        }
    }

    /// Where to go to learn whether an argument is one of these values, which have their high word in common.
    pub(super) fn any_of(
        &mut self,
        argument: u8,
        values: &[u64],
        then: Label,
        otherwise: Label,
    ) -> Label {
        let low_word = ARGUMENTS + 8 * u32::from(argument);
        let mut next = otherwise;
        for value in values.iter().rev() {
            next = self.branch(JUMP_EQUAL, halves(*value).1, then, next);
        }
        let low = self.load(low_word, next);
        let high = values.first().map_or(0, |value| halves(*value).0);
        let same = self.branch(JUMP_EQUAL, high, low, otherwise);
        self.load(low_word + 4, same)
    }

    /// The finished program, which starts at `entry`.
    pub(super) fn finish(mut self, entry: Label) -> Vec<Instruction> {
        self.before(entry);
        self.reversed.reverse();
        self.reversed
    }

    fn equal(&mut self, low_word: u32, test: (u64, u64), then: Label, otherwise: Label) -> Label {
        let ((mask_high, mask_low), (high, low)) = (halves(test.0), halves(test.1));
        let low = self.word_equal(low_word, (mask_low, low), then, otherwise);
        self.word_equal(low_word + 4, (mask_high, high), low, otherwise)
    }

    fn word_equal(&mut self, word: u32, test: (u32, u32), then: Label, otherwise: Label) -> Label {
        let (mask, value) = test;
        if mask == 0 {
            // Nothing is looked at, so nothing is in the way.
            return then;
        }
        let branch = self.branch(JUMP_EQUAL, value, then, otherwise);
        let masked = if mask == u32::MAX { branch } else { self.push(AND, mask) };
        self.load(word, masked)
    }

    fn greater(&mut self, low_word: u32, test: (u16, u64), then: Label, otherwise: Label) -> Label {
        let (code, (high, low)) = (test.0, halves(test.1));
        let low = self.branch(code, low, then, otherwise);
        let low = self.load(low_word, low);
        let same = self.branch(JUMP_EQUAL, high, low, otherwise);
        let high = self.branch(JUMP_GREATER, high, then, same);
        self.load(low_word + 4, high)
    }

    /// The label itself, or one nearby that leads there, if a branch that is `room` instructions away from being next
    /// couldn't reach it.
    fn reachable(&mut self, label: Label, room: usize) -> Label {
        let distance = self.reversed.len() + room - label.0;
        if distance <= usize::from(u8::MAX) { label } else { self.jump(label) }
    }

    fn jump(&mut self, label: Label) -> Label {
        let distance = u32::try_from(self.reversed.len() - label.0 - 1).unwrap_or(u32::MAX);
        self.push(JUMP, distance)
    }

    /// Makes sure that what is pushed next goes on at `next`.
    fn before(&mut self, next: Label) {
        if next.0 + 1 != self.reversed.len() {
            self.jump(next);
        }
    }

    fn push(&mut self, code: u16, operand: u32) -> Label {
        self.reversed.push(Instruction { code, if_true: 0, if_false: 0, operand });
        Label(self.reversed.len() - 1)
    }
}

/// The high and the low word.
fn halves(value: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = value.to_be_bytes();
    (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]))
}
