//! Signals by number and by name (signal(7)).
//!
//! The realtime signals start at 34: 32 and 33 are taken by the C library's threads, and SIGRTMIN in an image or a request
//! means the first one that a program can use.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A signal number, 1 to 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Signal(u8);

/// A text that names no signal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a signal (SIGTERM, TERM, 15, SIGRTMIN+3)")]
pub struct MalformedSignal(pub String);

const REALTIME_FIRST: u8 = 34;
const REALTIME_LAST: u8 = 64;

/// Name to number on x86 and ARM; where two names share a number, the first one is shown.
const NAMES: [(&str, u8); 35] = [
    ("ABRT", 6),
    ("ALRM", 14),
    ("BUS", 7),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("FPE", 8),
    ("HUP", 1),
    ("ILL", 4),
    ("INT", 2),
    ("IO", 29),
    ("IOT", 6),
    ("KILL", 9),
    ("PIPE", 13),
    ("POLL", 29),
    ("PROF", 27),
    ("PWR", 30),
    ("QUIT", 3),
    ("SEGV", 11),
    ("STKFLT", 16),
    ("STOP", 19),
    ("SYS", 31),
    ("TERM", 15),
    ("TRAP", 5),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("USR1", 10),
    ("USR2", 12),
    ("VTALRM", 26),
    ("WINCH", 28),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("UNUSED", 31),
];

impl Signal {
    /// SIGTERM.
    pub const TERM: Self = Self(15);
    /// SIGKILL.
    pub const KILL: Self = Self(9);

    /// The signal of that number, if there is one.
    #[must_use]
    pub fn from_number(number: i32) -> Option<Self> {
        u8::try_from(number).ok().filter(|number| (1..=64).contains(number)).map(Self)
    }

    /// The signal that a text names: with or without `SIG`, in any case, a number, or a distance from either end of the
    /// realtime range (`SIGRTMIN+3`, and `SIGRTMINPLUS3` as the CRI spells it).
    ///
    /// # Errors
    /// When the text names none.
    pub fn parse(text: &str) -> Result<Self, MalformedSignal> {
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let number = if name.starts_with(|first: char| first.is_ascii_digit()) {
            // "SIG15" is no spelling of anything.
            decimal(name).filter(|_| name.len() == upper.len())
        } else if let Some(distance) = name.strip_prefix("RTMIN") {
            distance_of(distance, "+", "PLUS").and_then(|up| REALTIME_FIRST.checked_add(up))
        } else if let Some(distance) = name.strip_prefix("RTMAX") {
            distance_of(distance, "-", "MINUS").and_then(|down| REALTIME_LAST.checked_sub(down))
        } else {
            NAMES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
        };
        // A distance must not lead out of the realtime range.
        let lowest = if name.starts_with("RT") { REALTIME_FIRST } else { 1 };
        number
            .filter(|number| (lowest..=REALTIME_LAST).contains(number))
            .map(Self)
            .ok_or_else(|| MalformedSignal(text.to_owned()))
    }

    /// Its number.
    #[must_use]
    pub fn number(self) -> i32 {
        i32::from(self.0)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            REALTIME_FIRST => formatter.write_str("SIGRTMIN"),
            REALTIME_LAST => formatter.write_str("SIGRTMAX"),
            number @ 35..=49 => write!(formatter, "SIGRTMIN+{}", number - REALTIME_FIRST),
            number @ 50..=63 => write!(formatter, "SIGRTMAX-{}", REALTIME_LAST - number),
            number => match NAMES.iter().find(|(_, known)| *known == number) {
                Some((name, _)) => write!(formatter, "SIG{name}"),
                None => write!(formatter, "{number}"),
            },
        }
    }
}

fn decimal(text: &str) -> Option<u8> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if plain { text.parse().ok() } else { None }
}

/// The number after either sign; nothing at all is zero.
fn distance_of(text: &str, sign: &str, word: &str) -> Option<u8> {
    if text.is_empty() {
        return Some(0);
    }
    decimal(text.strip_prefix(sign).or_else(|| text.strip_prefix(word))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_known_by_its_usual_spellings() {
        for (text, number) in [
            ("SIGTERM", 15),
            ("TERM", 15),
            ("term", 15),
            ("sigquit", 3),
            ("15", 15),
            ("64", 64),
            ("SIGIOT", 6),
            ("SIGCLD", 17),
            ("SIGPOLL", 29),
            ("SIGRTMIN", 34),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("RTMIN+15", 49),
            ("SIGRTMINPLUS3", 37),
            ("SIGRTMAX", 64),
            ("SIGRTMAX-14", 50),
            ("SIGRTMAXMINUS1", 63),
        ] {
            assert_eq!(Signal::parse(text).map(Signal::number), Ok(number), "{text}");
        }
    }

    #[test]
    fn a_text_that_names_no_signal_is_refused() {
        for text in [
            "",
            "SIG",
            "0",
            "65",
            "-1",
            "+9",
            " 9",
            "9 ",
            "SIG15",
            "SIGFOO",
            "RTMIN+",
            "RTMIN-1",
            "RTMIN+31",
            "RTMAX+1",
            "RTMAX-31",
            "RTMIN+256",
            "RTMINPLUS",
            "RT",
            "15.",
            "٩",
            "TERM\n",
        ] {
            assert!(Signal::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn every_signal_is_parsed_from_the_name_it_is_shown_by() {
        for number in 1..=64 {
            let signal = Signal::from_number(number).unwrap();
            assert_eq!(Signal::parse(&signal.to_string()), Ok(signal), "{signal}");
        }
    }
}
