//! Mount options: the words of an OCI specification told apart into what they mean.

use std::ffi::CString;
use std::path::PathBuf;

use cringle_kernel::mount::{Attributes, Change, Depth, Parameter, Propagation};

use super::error::{EngineError, Result};

/// What a list of options asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    /// It is a bind mount, of one mount or of all below it too.
    pub bind: Option<Depth>,
    /// Attributes of the mount itself.
    pub top: Change,
    /// Attributes of the mount and all below it.
    pub tree: Change,
    /// The propagation asked for, and how deep.
    pub propagation: Option<(Propagation, Depth)>,
    /// The part of the filesystem that is meant, by the word of mount(8).
    pub sub_path: Option<PathBuf>,
    /// What is left for the filesystem itself.
    pub parameters: Vec<Parameter>,
}

/// What an attribute word does.
#[derive(Clone, Copy)]
enum Effect {
    Set(Attributes),
    Clear(Attributes),
    /// Access time is a field, not a bit.
    AccessTime(Attributes),
}

/// The attribute words; with an "r" before them they are about the whole tree.
const ATTRIBUTES: [(&str, Effect); 18] = [
    ("ro", Effect::Set(Attributes::READ_ONLY)),
    ("rw", Effect::Clear(Attributes::READ_ONLY)),
    ("nosuid", Effect::Set(Attributes::NO_SET_ID)),
    ("suid", Effect::Clear(Attributes::NO_SET_ID)),
    ("nodev", Effect::Set(Attributes::NO_DEVICES)),
    ("dev", Effect::Clear(Attributes::NO_DEVICES)),
    ("noexec", Effect::Set(Attributes::NO_EXECUTE)),
    ("exec", Effect::Clear(Attributes::NO_EXECUTE)),
    ("nodiratime", Effect::Set(Attributes::NO_DIRECTORY_ACCESS_TIME)),
    ("diratime", Effect::Clear(Attributes::NO_DIRECTORY_ACCESS_TIME)),
    ("nosymfollow", Effect::Set(Attributes::NO_SYMLINKS)),
    ("symfollow", Effect::Clear(Attributes::NO_SYMLINKS)),
    ("noatime", Effect::AccessTime(Attributes::NO_ACCESS_TIME)),
    ("strictatime", Effect::AccessTime(Attributes::STRICT_ACCESS_TIME)),
    ("relatime", Effect::AccessTime(Attributes::NONE)),
    ("norelatime", Effect::AccessTime(Attributes::NONE)),
    ("nostrictatime", Effect::AccessTime(Attributes::NONE)),
    ("atime", Effect::AccessTime(Attributes::NONE)),
];

const PROPAGATIONS: [(&str, Propagation); 4] = [
    ("private", Propagation::Private),
    ("slave", Propagation::Slave),
    ("shared", Propagation::Shared),
    ("unbindable", Propagation::Unbindable),
];

/// What is mounted is not the whole filesystem but what is at a path in it.
const SUB_PATH: &str = "X-mount.subdir=";

impl Options {
    /// Parses a list; `field` names it in errors.
    ///
    /// # Errors
    /// An option this engine does not support, or with a NUL byte in it.
    pub(super) fn parse(words: &[String], field: &str) -> Result<Self> {
        let mut options = Self::default();
        for word in words {
            options.take(word, field)?;
        }
        Ok(options)
    }

    fn take(&mut self, word: &str, field: &str) -> Result<()> {
        match word {
            "" | "defaults" | "async" => {}
            "bind" => self.bind = self.bind.or(Some(Depth::One)),
            "rbind" => self.bind = Some(Depth::Tree),
            "idmap" | "ridmap" | "tmpcopyup" | "remount" => {
                return Err(EngineError::Unsupported(format!("mount option {word:?} in {field}")));
            }
            _ if word.starts_with(SUB_PATH) => {
                self.sub_path = word.strip_prefix(SUB_PATH).map(PathBuf::from);
            }
            _ if self.take_attribute(word) || self.take_propagation(word) => {}
            _ => self.parameters.push(parameter(word, field)?),
        }
        Ok(())
    }

    fn take_attribute(&mut self, word: &str) -> bool {
        let find =
            |word| ATTRIBUTES.iter().find(|(name, _)| *name == word).map(|&(_, effect)| effect);
        if let Some(effect) = find(word) {
            apply(&mut self.top, effect);
        } else if let Some(effect) = word.strip_prefix('r').and_then(find) {
            apply(&mut self.tree, effect);
        } else {
            return false;
        }
        true
    }

    fn take_propagation(&mut self, word: &str) -> bool {
        for (name, propagation) in PROPAGATIONS {
            if word == name {
                self.propagation = Some((propagation, Depth::One));
                return true;
            }
            if word.strip_prefix('r') == Some(name) {
                self.propagation = Some((propagation, Depth::Tree));
                return true;
            }
        }
        false
    }
}

fn apply(change: &mut Change, effect: Effect) {
    match effect {
        Effect::Set(attribute) => {
            change.set = change.set.with(attribute);
            change.clear = change.clear.without(attribute);
        }
        Effect::Clear(attribute) => {
            change.set = change.set.without(attribute);
            change.clear = change.clear.with(attribute);
        }
        Effect::AccessTime(kind) => {
            change.set = change.set.without(Attributes::ACCESS_TIME).with(kind);
            change.clear = change.clear.with(Attributes::ACCESS_TIME);
        }
    }
}

/// A word for the filesystem: `key` or `key=value`.
pub(super) fn parameter(word: &str, field: &str) -> Result<Parameter> {
    let text = |text: &str| {
        CString::new(text)
            .map_err(|_nul| EngineError::invalid(field, "an option has a NUL byte in it"))
    };
    let (key, value) = match word.split_once('=') {
        Some((key, value)) => (text(key)?, Some(text(value)?)),
        None => (text(word)?, None),
    };
    Ok(Parameter { key, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Options {
        let words: Vec<_> = words.iter().map(|&word| word.to_owned()).collect();
        Options::parse(&words, "mounts[0]").unwrap()
    }

    #[test]
    fn the_later_of_two_opposite_words_counts() {
        let options = parse(&["ro", "nosuid", "rw"]);
        assert_eq!(options.top.set, Attributes::NO_SET_ID);
        assert_eq!(options.top.clear, Attributes::READ_ONLY);
        let options = parse(&["rw", "ro"]);
        assert_eq!((options.top.set, options.top.clear), (Attributes::READ_ONLY, Attributes::NONE));
    }

    #[test]
    fn words_with_an_r_are_about_the_tree_and_rbind_rro_ro_differ() {
        let options = parse(&["rbind", "rro", "ro", "rprivate"]);
        assert_eq!(options.bind, Some(Depth::Tree));
        assert_eq!(options.tree.set, Attributes::READ_ONLY);
        assert_eq!(options.top.set, Attributes::READ_ONLY);
        assert_eq!(options.propagation, Some((Propagation::Private, Depth::Tree)));
        assert!(options.parameters.is_empty());
    }

    #[test]
    fn access_time_replaces_its_whole_field() {
        let options = parse(&["noatime", "strictatime"]);
        assert_eq!(options.top.set, Attributes::STRICT_ACCESS_TIME);
        assert_eq!(options.top.clear, Attributes::ACCESS_TIME);
        assert_eq!(parse(&["relatime"]).top.set, Attributes::NONE);
    }

    #[test]
    fn what_is_not_known_is_for_the_filesystem() {
        let options = parse(&["mode=1777", "size=65536k", "noswap"]);
        let keys: Vec<_> = options.parameters.iter().map(|one| one.key.to_str().unwrap()).collect();
        assert_eq!(keys, ["mode", "size", "noswap"]);
        assert_eq!(options.parameters[2].value, None);
    }

    #[test]
    fn what_is_not_done_is_refused_by_name() {
        let error = Options::parse(&["idmap".to_owned()], "mounts[3]").unwrap_err();
        assert!(error.to_string().contains("\"idmap\" in mounts[3]"));
    }
}
