//! Identities: pods, containers and execs are 64 lower-case hexadecimal characters; clients may use a unique prefix.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What is wrong with a text that should be an identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not an id (64 lower-case hexadecimal characters)")]
pub struct MalformedId(pub String);

macro_rules! identity {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Box<str>);

        impl $name {
            /// The identity made of 32 random bytes.
            #[must_use]
            pub fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(hex(&bytes).into_boxed_str())
            }

            /// The 64 characters.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The first 13 characters, for names that must be short.
            #[must_use]
            pub fn short(&self) -> &str {
                &self.0[..13]
            }
        }

        impl TryFrom<String> for $name {
            type Error = MalformedId;

            fn try_from(text: String) -> Result<Self, MalformedId> {
                if is_full_id(&text) { Ok(Self(text.into_boxed_str())) } else { Err(MalformedId(text)) }
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0.into_string()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "{}({})", stringify!($name), self.short())
            }
        }
    };
}

identity!(
    /// The identity of a pod sandbox.
    PodId
);
identity!(
    /// The identity of a container.
    ContainerId
);
identity!(
    /// The identity of one exec in a container.
    ExecId
);

/// The name of one instance of the daemon on a host: everything global that it makes bears it (D15).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InstanceId(Box<str>);

/// What is wrong with a text that should name an instance.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not an instance id (1 to 8 lower-case letters or digits, a letter first)")]
pub struct MalformedInstanceId(pub String);

impl InstanceId {
    /// The text of the id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for InstanceId {
    type Error = MalformedInstanceId;

    fn try_from(text: String) -> Result<Self, MalformedInstanceId> {
        let legal = (1..=8).contains(&text.len())
            && text.starts_with(|first: char| first.is_ascii_lowercase())
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        if legal { Ok(Self(text.into_boxed_str())) } else { Err(MalformedInstanceId(text)) }
    }
}

impl From<InstanceId> for String {
    fn from(id: InstanceId) -> Self {
        id.0.into_string()
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

fn is_full_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from(if value < 10 { b'0' + value } else { b'a' + value - 10 });
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_64_lower_case_hexadecimal_characters() {
        let id = PodId::from_bytes([0xab; 32]);
        assert_eq!(id.as_str(), "ab".repeat(32));
        assert_eq!(PodId::try_from(id.to_string()).ok(), Some(id));
        for text in ["", "ab", &"AB".repeat(32), &"g0".repeat(32), &"ab".repeat(33)] {
            assert!(PodId::try_from(text.to_owned()).is_err(), "{text}");
        }
    }

    #[test]
    fn an_instance_id_is_short_and_plain() {
        for text in ["c", "cringle", "t1234567"] {
            assert!(InstanceId::try_from(text.to_owned()).is_ok(), "{text}");
        }
        for text in ["", "1a", "Abc", "a-b", "toolongname", "a/b"] {
            assert!(InstanceId::try_from(text.to_owned()).is_err(), "{text}");
        }
    }
}
