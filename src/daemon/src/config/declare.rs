//! What a declaration of keys is made of, and how a table of a file is read by it.

use serde::de::DeserializeOwned;
use std::fmt;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

/// One key: all that is to be said about it.
#[derive(Debug)]
pub(super) struct Key {
    /// Its name in its section.
    pub(super) name: &'static str,
    /// What it means, line by line, as doc comments have it: with a space in front.
    pub(super) doc: &'static [&'static str],
    /// The default, in TOML.
    pub(super) default: &'static str,
}

/// One section of the file: a table with its keys.
#[derive(Debug)]
pub(super) struct Declaration {
    /// The table's name; empty: the keys before the first table.
    pub(super) name: &'static str,
    /// What the section is about.
    pub(super) doc: &'static [&'static str],
    /// Its keys.
    pub(super) keys: &'static [Key],
}

/// Something wrong in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mistake {
    /// The key with its section, or nothing if the text is no TOML at all.
    pub(crate) key: String,
    /// The line it is on, from 1.
    pub(crate) line: usize,
    /// What is wrong with it.
    pub(crate) problem: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "line {}: ", self.line)?;
        if !self.key.is_empty() {
            write!(formatter, "{}: ", self.key)?;
        }
        formatter.write_str(&self.problem)
    }
}

/// A settings struct whose fields are the keys of one section.
pub(super) trait Section: Sized {
    /// Its keys.
    const DECLARATION: Declaration;

    /// Reads all of them; nothing if one is wrong, which the reader then knows.
    fn read(reader: &mut Reader<'_, '_>) -> Option<Self>;
}

/// One table of a file, from which keys are taken, and all mistakes so far.
#[derive(Debug)]
pub(super) struct Reader<'file, 'mistakes> {
    section: &'static str,
    text: &'file str,
    table: DeTable<'file>,
    mistakes: &'mistakes mut Vec<Mistake>,
}

impl<'file, 'mistakes> Reader<'file, 'mistakes> {
    /// A reader of this table of this text.
    pub(super) fn new(
        section: &'static str,
        text: &'file str,
        table: DeTable<'file>,
        mistakes: &'mistakes mut Vec<Mistake>,
    ) -> Self {
        Self { section, text, table, mistakes }
    }

    /// Reads a whole section; what is left over afterwards is a mistake.
    pub(super) fn section<S: Section>(mut self) -> Option<S> {
        let section = S::read(&mut self);
        for (key, _) in std::mem::take(&mut self.table) {
            let line = line(self.text, key.span().start);
            self.note(key.get_ref(), line, "there is no such key".to_owned());
        }
        section
    }

    /// The value of a key: the file's, or the default.
    pub(super) fn value<T: DeserializeOwned>(&mut self, key: &str, default: &str) -> Option<T> {
        let given = self.table.remove(key);
        let (value, from) = match given {
            Some(value) => {
                let start = value.span().start;
                (deserialize(value), start)
            }
            None => (DeValue::parse(default).and_then(deserialize), 0),
        };
        match value {
            Ok(value) => Some(value),
            Err(error) => {
                let start = error.span().map_or(from, |span| span.start);
                let line = line(self.text, start);
                self.note(key, line, error.message().to_owned());
                None
            }
        }
    }

    fn note(&mut self, key: &str, line: usize, problem: String) {
        let key = match self.section {
            "" => key.to_owned(),
            section => format!("{section}.{key}"),
        };
        self.mistakes.push(Mistake { key, line, problem });
    }
}

/// The line of a byte of a text, from 1.
pub(super) fn line(text: &str, byte: usize) -> usize {
    1 + text.bytes().take(byte).filter(|byte| *byte == b'\n').count()
}

fn deserialize<T: DeserializeOwned>(value: Spanned<DeValue<'_>>) -> Result<T, toml::de::Error> {
    T::deserialize(ValueDeserializer::from(value))
}

/// Declares a section: a struct, whose doc comments and defaults are also those of the file.
macro_rules! section {
    (
        $(#[doc = $section_doc:literal])*
        $name:ident = $section:literal {
            $($(#[doc = $doc:literal])* $key:ident: $type:ty = $default:literal,)*
        }
    ) => {
        $(#[doc = $section_doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub(crate) struct $name {
            $($(#[doc = $doc])* pub(crate) $key: $type,)*
        }

        impl $crate::config::declare::Section for $name {
            const DECLARATION: $crate::config::declare::Declaration =
                $crate::config::declare::Declaration {
                    name: $section,
                    doc: &[$($section_doc),*],
                    keys: &[$($crate::config::declare::Key {
                        name: stringify!($key),
                        doc: &[$($doc),*],
                        default: $default,
                    }),*],
                };

            fn read(reader: &mut $crate::config::declare::Reader<'_, '_>) -> Option<Self> {
                // Every key is read before the first failure counts, so that all mistakes are found.
                $(let $key = reader.value::<$type>(stringify!($key), $default);)*
                Some(Self { $($key: $key?,)* })
            }
        }
    };
}
pub(super) use section;
