//! Paths in a layer: relative, without `.` and `..`, in bytes.

use rustix::path::Arg;
use std::borrow::Cow;
use std::ffi::{CStr, CString};

/// What the kernel takes at most, the NUL included.
const LONGEST_PATH: usize = 4095;
const LONGEST_NAME: usize = 255;

/// A checked path in a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LayerPath {
    /// The names joined by slashes; empty for the root.
    joined: Vec<u8>,
    /// Where the last name begins.
    name: usize,
}

/// One name in a directory: not empty, no slash, not `.` or `..`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileName<'path>(&'path [u8]);

impl LayerPath {
    /// Reads a path as archives have it: leading, trailing and double slashes mean nothing, `..` steps back within it.
    pub(crate) fn parse(path: &[u8], depth: usize) -> Result<Self, &'static str> {
        let mut names: Vec<&[u8]> = Vec::new();
        for name in path.split(|&byte| byte == b'/') {
            match name {
                b"" | b"." => {}
                b".." => {
                    names.pop().ok_or("it leaves the layer")?;
                }
                _ if name.len() > LONGEST_NAME => return Err("a name longer than 255 bytes"),
                _ => names.push(name),
            }
        }
        if names.len() > depth {
            return Err("it is nested deeper than allowed");
        }
        let joined = names.join(&b'/');
        if joined.len() >= LONGEST_PATH {
            return Err("a path longer than 4095 bytes");
        }
        let name = joined.len() - names.last().map_or(0, |name| name.len());
        Ok(Self { joined, name })
    }

    /// The last name; the root has none.
    pub(crate) fn name(&self) -> Option<FileName<'_>> {
        FileName::parse(&self.joined[self.name..])
    }

    /// The last name of what is not the root.
    pub(crate) fn file_name(&self) -> FileName<'_> {
        FileName(&self.joined[self.name..])
    }

    /// The path of the directory that it is in.
    pub(crate) fn parent(&self) -> &[u8] {
        &self.joined[..self.name.saturating_sub(1)]
    }

    /// The whole path.
    pub(crate) fn joined(&self) -> Vec<u8> {
        self.joined.clone()
    }

    /// The path of another name in the same directory.
    pub(crate) fn sibling(&self, name: FileName<'_>) -> Vec<u8> {
        [&self.joined[..self.name], name.0].concat()
    }

    /// The directories above it from the top on, each with its last name.
    pub(crate) fn ancestors(&self) -> impl Iterator<Item = (&[u8], FileName<'_>)> {
        let parent = self.parent();
        let ends = parent
            .iter()
            .enumerate()
            .filter(|&(_, &byte)| byte == b'/')
            .map(|(at, _)| at)
            .chain((!parent.is_empty()).then_some(parent.len()));
        let mut start = 0;
        ends.map(move |end| {
            let name = FileName(&parent[start..end]);
            start = end + 1;
            (&parent[..end], name)
        })
    }
}

impl<'path> FileName<'path> {
    pub(crate) fn parse(name: &'path [u8]) -> Option<Self> {
        let legal = !matches!(name, b"" | b"." | b"..")
            && !name.contains(&b'/')
            && name.len() <= LONGEST_NAME;
        legal.then_some(Self(name))
    }

    pub(crate) fn as_bytes(self) -> &'path [u8] {
        self.0
    }
}

impl Arg for FileName<'_> {
    fn as_str(&self) -> rustix::io::Result<&str> {
        self.0.as_str()
    }

    fn to_string_lossy(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.0)
    }

    fn as_cow_c_str(&self) -> rustix::io::Result<Cow<'_, CStr>> {
        self.0.as_cow_c_str()
    }

    fn into_c_str<'b>(self) -> rustix::io::Result<Cow<'b, CStr>>
    where
        Self: 'b,
    {
        let owned = CString::new(self.0).map_err(|_nul| rustix::io::Errno::INVAL)?;
        Ok(Cow::Owned(owned))
    }

    fn into_with_c_str<T, F>(self, f: F) -> rustix::io::Result<T>
    where
        Self: Sized,
        F: FnOnce(&CStr) -> rustix::io::Result<T>,
    {
        self.0.into_with_c_str(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_cleaned_and_stays_inside() {
        for (text, joined, parent) in [
            ("a", "a", ""),
            ("./a", "a", ""),
            ("/a/b/", "a/b", "a"),
            ("a//./b/../c", "a/c", "a"),
            ("", "", ""),
            (".", "", ""),
            ("/", "", ""),
            ("a/..", "", ""),
        ] {
            let path = LayerPath::parse(text.as_bytes(), 9).expect(text);
            assert_eq!(path.joined(), joined.as_bytes(), "{text}");
            assert_eq!(path.parent(), parent.as_bytes(), "{text}");
            assert_eq!(path.name().is_none(), joined.is_empty(), "{text}");
        }
        for text in ["..", "../a", "/../a", "a/../../b", "a/b/c/d/e/f/g/h/i/j", &"x".repeat(256)] {
            assert!(LayerPath::parse(text.as_bytes(), 9).is_err(), "{text}");
        }
    }

    #[test]
    fn ancestors_come_from_the_top() {
        let path = LayerPath::parse(b"a/bb/c", 9).expect("a path");
        let ancestors: Vec<_> =
            path.ancestors().map(|(path, name)| (path, name.as_bytes())).collect();
        assert_eq!(ancestors, [(&b"a"[..], &b"a"[..]), (b"a/bb", b"bb")]);
        assert_eq!(LayerPath::parse(b"a", 9).expect("a path").ancestors().count(), 0);
    }
}
