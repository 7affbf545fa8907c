//! What may be called what: container ids, network names and interface names end up in paths, so each is checked first.

/// The longest name that a network interface can have.
pub const INTERFACE_NAME_LENGTH: usize = 15;

/// Whether the text can be a container id or the name of a network: a letter or digit, then letters, digits, `_`, `.`, `-`.
#[must_use]
pub fn is_identifier(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphanumeric())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

/// Whether the kernel and the specification allow that name for an interface.
#[must_use]
pub fn is_interface(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= INTERFACE_NAME_LENGTH
        && text != "."
        && text != ".."
        && !text.chars().any(|c| c == '/' || c == ':' || c == '\0' || c.is_whitespace())
}

/// Whether the text can be the type of a plugin: the name of a file and no path.
#[must_use]
pub fn is_plugin_type(text: &str) -> bool {
    !text.is_empty() && text != "." && text != ".." && !text.contains(['/', '\\', '\0'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_start_with_a_letter_or_digit_and_hold_no_separators() {
        for good in ["a", "0", "k8s-pod.1_x"] {
            assert!(is_identifier(good), "{good}");
        }
        for bad in ["", "-a", ".a", "a/b", "a b", "..", "ä", "a\n"] {
            assert!(!is_identifier(bad), "{bad:?}");
        }
    }

    #[test]
    fn interface_names_fit_into_the_kernel_and_into_a_path() {
        for good in ["eth0", "a", "net1.100", "123456789012345"] {
            assert!(is_interface(good), "{good}");
        }
        for bad in ["", ".", "..", "1234567890123456", "a/b", "a:b", "a b", "a\tb"] {
            assert!(!is_interface(bad), "{bad:?}");
        }
    }

    #[test]
    fn a_plugin_type_is_no_path() {
        assert!(is_plugin_type("bridge"));
        for bad in ["", "..", "../evil", "a/b"] {
            assert!(!is_plugin_type(bad), "{bad:?}");
        }
    }
}
