//! The texts that name users: an image's `USER` and a request's user name. One strict parser (reliability: every
//! runtime once took some odd number for root).
//!
//! A text that starts with a digit is a number or nothing; it is never looked up as a name, whatever the image's
//! /etc/passwd says. Numbers are plain decimal digits without sign, blank or leading zero, and at most 2147483647, which is
//! also the client's limit.

use std::fmt;

/// A user or group: by number, or by a name that the image's account files must explain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Account<'a> {
    /// A number.
    Id(u32),
    /// A name.
    Name(&'a str),
}

/// What `USER` of an image says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserAndGroup<'a> {
    /// The user.
    pub user: Account<'a>,
    /// The group, if one is given.
    pub group: Option<Account<'a>>,
}

/// A text that names no user or group.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not a {what}")]
pub struct MalformedAccount {
    /// What it should have been.
    pub what: Kind,
    /// The text, without control characters.
    pub text: String,
}

/// What a text should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A user.
    User,
    /// A group.
    Group,
    /// A number of a user or group.
    Id,
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::User => "user name or number (0 to 2147483647)",
            Self::Group => "group name or number (0 to 2147483647)",
            Self::Id => "user or group number (0 to 2147483647)",
        })
    }
}

/// The highest number that a user or group may have.
pub const HIGHEST_ID: u32 = 2_147_483_647;

/// Names longer than this are not looked up.
const LONGEST_NAME: usize = 256;

/// Parses `user`, `uid`, and either followed by `:` and a group.
///
/// # Errors
/// When a part is empty or neither a number nor a name.
pub fn parse_user_and_group(text: &str) -> Result<UserAndGroup<'_>, MalformedAccount> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    Ok(UserAndGroup {
        user: parse_user(user)?,
        group: group.map(|group| parse(group, Kind::Group)).transpose()?,
    })
}

/// Parses a user alone.
///
/// # Errors
/// When it is neither a number nor a name.
pub fn parse_user(text: &str) -> Result<Account<'_>, MalformedAccount> {
    parse(text, Kind::User)
}

/// The number of a user or group as the wire has it.
///
/// # Errors
/// When it is out of range.
pub fn id_from_wire(number: i64) -> Result<u32, MalformedAccount> {
    u32::try_from(number)
        .ok()
        .filter(|id| *id <= HIGHEST_ID)
        .ok_or_else(|| MalformedAccount { what: Kind::Id, text: number.to_string() })
}

/// Plain decimal digits, no leading zero, in range.
#[must_use]
pub fn parse_id(text: &str) -> Option<u32> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !plain || (text.len() > 1 && text.starts_with('0')) {
        return None;
    }
    text.parse().ok().filter(|id| *id <= HIGHEST_ID)
}

fn parse(text: &str, what: Kind) -> Result<Account<'_>, MalformedAccount> {
    if let Some(id) = parse_id(text) {
        return Ok(Account::Id(id));
    }
    if is_name(text) { Ok(Account::Name(text)) } else { Err(malformed(text, what)) }
}

/// A letter or underscore first, so that nothing that looks like a number is a name; then what account names are made of.
fn is_name(text: &str) -> bool {
    text.len() <= LONGEST_NAME
        && text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-@+$\\".contains(&byte))
}

fn malformed(text: &str, what: Kind) -> MalformedAccount {
    let shown = text.chars().take(64).map(|c| if c.is_control() { '?' } else { c }).collect();
    MalformedAccount { what, text: shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_told_apart() {
        for (text, user, group) in [
            ("0", Account::Id(0), None),
            ("1002", Account::Id(1002), None),
            ("2147483647", Account::Id(HIGHEST_ID), None),
            ("root", Account::Name("root"), None),
            ("www-data:100", Account::Name("www-data"), Some(Account::Id(100))),
            ("1003:users", Account::Id(1003), Some(Account::Name("users"))),
            ("_apt", Account::Name("_apt"), None),
            ("svc$", Account::Name("svc$"), None),
        ] {
            assert_eq!(parse_user_and_group(text), Ok(UserAndGroup { user, group }), "{text}");
        }
    }

    #[test]
    fn what_is_neither_number_nor_name_is_refused() {
        for text in [
            "",
            ":",
            "1:",
            ":1",
            "-1",
            "-0",
            "+0",
            "00",
            "007",
            "0x0",
            "1.0",
            "1e3",
            " 1",
            "1 ",
            "1\n",
            "4294967295",
            "4294967296",
            "2147483648",
            "65536:4294967296",
            "18446744073709551616",
            "1:2:3",
            "1:-1",
            "root:",
            "root: 0",
            "1a",
            "١",
            "röt",
            "a b",
            "a/b",
            "a\0",
            "-root",
            "\n",
        ] {
            assert!(parse_user_and_group(text).is_err(), "{text:?}");
        }
        parse_user("root:root").unwrap_err();
        parse_user(&"a".repeat(257)).unwrap_err();
    }

    #[test]
    fn numbers_of_the_wire_are_bounded() {
        assert_eq!(id_from_wire(0), Ok(0));
        assert_eq!(id_from_wire(2_147_483_647), Ok(HIGHEST_ID));
        for number in [-1, 2_147_483_648, 4_294_967_295, 4_294_967_296, i64::MIN, i64::MAX] {
            assert!(id_from_wire(number).is_err(), "{number}");
        }
    }

    /// A small generator in place of a dependency: the property needs many cases, not shrinking.
    fn random_texts(count: usize) -> impl Iterator<Item = String> {
        const PIECES: [&str; 20] = [
            "0",
            "1",
            "9",
            "-",
            "+",
            "x",
            "a",
            "root",
            ":",
            " ",
            "\t",
            "4294967296",
            "4294967295",
            "2147483648",
            "٣",
            "_",
            ".",
            "\n",
            "00",
            "e",
        ];
        let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut next = move |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state % below).unwrap()
        };
        (0..count).map(move |_| {
            let length = next(6);
            (0..length).map(|_| PIECES[next(20)]).collect()
        })
    }

    #[test]
    fn only_an_exact_decimal_number_becomes_that_number() {
        for text in random_texts(100_000) {
            if let Ok(parsed) = parse_user_and_group(&text) {
                let shown = |account: &Account<'_>| match account {
                    Account::Id(id) => id.to_string(),
                    Account::Name(name) => (*name).to_owned(),
                };
                // Nothing is normalised away: what was parsed spells the text again, and only digits become a number.
                let user = shown(&parsed.user);
                let again = parsed
                    .group
                    .as_ref()
                    .map_or(user.clone(), |group| format!("{user}:{}", shown(group)));
                assert_eq!(again, text);
                if let Account::Name(name) = parsed.user {
                    assert!(!name.starts_with(|first: char| first.is_ascii_digit()), "{text:?}");
                }
            }
        }
    }
}
