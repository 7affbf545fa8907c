//! Finding a file in layers that lie on each other, as overlayfs would show them.
//!
//! One name at a time, each looked up in a directory that is open and never followed by the kernel: links lead on inside the
//! layers only, and whiteouts and opaque directories hide what is below them.

use crate::unpack::is_whiteout;
use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

/// As many links as the kernel follows.
const MOST_LINKS: usize = 40;

/// Layers, the topmost first.
#[derive(Debug)]
pub(crate) struct Merged {
    top: Rc<OwnedFd>,
    below: Vec<Rc<OwnedFd>>,
}

/// A file, by the directory of the layer that it is in.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) directory: Rc<OwnedFd>,
    pub(crate) name: Vec<u8>,
    pub(crate) stat: Stat,
}

/// One directory of the merged tree: those that it is made of, the topmost first.
#[derive(Debug, Clone)]
struct Place {
    /// Its part in the top layer.
    top: Option<Rc<OwnedFd>>,
    below: Vec<Rc<OwnedFd>>,
}

enum Entry {
    Directory(Place),
    Other(Found),
}

impl Merged {
    /// A layer on those below it, the base first.
    pub(crate) fn open(top: &Path, below: &[impl AsRef<Path>]) -> io::Result<Self> {
        let below = below.iter().rev().map(|path| Ok(Rc::new(open_root(path.as_ref())?)));
        let below = below.collect::<io::Result<_>>()?;
        Ok(Self { top: Rc::new(open_root(top)?), below })
    }

    /// The root of the top layer.
    pub(crate) fn top(&self) -> impl AsFd + '_ {
        self.top.as_fd()
    }

    /// The file at that path below the top layer, which has a say only in where directories lead. The last name is not
    /// followed if it is a link.
    pub(crate) fn find_below(&self, path: &[u8]) -> io::Result<Option<Found>> {
        let root = Place { top: Some(Rc::clone(&self.top)), below: self.below.clone() };
        let mut trail = vec![root.clone()];
        let mut rest: VecDeque<Vec<u8>> = names_of(path).collect();
        let mut links = 0;
        while let Some(name) = rest.pop_front() {
            if name == b".." {
                if trail.len() > 1 {
                    trail.pop();
                }
                continue;
            }
            let here = trail.last().unwrap_or(&root);
            if rest.is_empty() {
                let lower = Place { top: None, below: here.below.clone() };
                return Ok(match lower.entry(&name)? {
                    Some(Entry::Other(found)) => Some(found),
                    Some(Entry::Directory(_)) | None => None,
                });
            }
            match here.entry(&name)? {
                None => return Ok(None),
                Some(Entry::Directory(place)) => trail.push(place),
                Some(Entry::Other(found)) => {
                    links += 1;
                    if links > MOST_LINKS || !is_symlink(&found.stat) {
                        return Ok(None);
                    }
                    let target = fs::readlinkat(&found.directory, found.name, Vec::new())?;
                    let target = target.as_bytes();
                    if target.starts_with(b"/") {
                        trail.truncate(1);
                    }
                    for name in names_of(target).collect::<Vec<_>>().into_iter().rev() {
                        rest.push_front(name);
                    }
                }
            }
        }
        Ok(None)
    }
}

impl Place {
    fn entry(&self, name: &[u8]) -> io::Result<Option<Entry>> {
        let mut merged = Self { top: None, below: Vec::new() };
        let mut is_directory = false;
        let parts = self.top.iter().map(|part| (true, part));
        for (is_top, part) in parts.chain(self.below.iter().map(|part| (false, part))) {
            let stat = match fs::statat(part, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(errno.into()),
            };
            if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                if is_directory || is_whiteout(&stat) {
                    break;
                }
                let found = Found { directory: Rc::clone(part), name: name.to_vec(), stat };
                return Ok(Some(Entry::Other(found)));
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let directory = Rc::new(fs::openat(part, name, flags, Mode::empty())?);
            let is_opaque = is_opaque(&directory);
            is_directory = true;
            if is_top {
                merged.top = Some(directory);
            } else {
                merged.below.push(directory);
            }
            if is_opaque {
                break;
            }
        }
        Ok(is_directory.then_some(Entry::Directory(merged)))
    }
}

fn names_of(path: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let names = path.split(|&byte| byte == b'/').filter(|name| !matches!(*name, b"" | b"."));
    names.map(<[u8]>::to_vec)
}

fn is_symlink(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Symlink
}

fn is_opaque(directory: &OwnedFd) -> bool {
    let mut value = [0; 1];
    fs::fgetxattr(directory, "trusted.overlay.opaque", &mut value) == Ok(1) && value == *b"y"
}

/// The root of a layer.
pub(crate) fn open_root(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(fs::openat(fs::CWD, path, flags, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{DirBuilder, File};
    use std::io::Write;
    use std::path::PathBuf;

    /// A layer of files that have its own name as content, of directories (`d/`), links (`l -> x`), whiteouts (`-w`) and opaque
    /// directories (`!d`).
    fn layer(root: &Path, own: &str, entries: &[&str]) -> PathBuf {
        let layer = root.join(own);
        let make = |path: &Path| DirBuilder::new().recursive(true).create(path).expect("made");
        make(&layer);
        for entry in entries {
            if let Some((link, target)) = entry.split_once(" -> ") {
                std::os::unix::fs::symlink(target, layer.join(link)).expect("a link");
            } else if let Some(hidden) = entry.strip_prefix('-') {
                let path = layer.join(hidden);
                let kind = FileType::CharacterDevice;
                fs::mknodat(fs::CWD, &path, kind, Mode::empty(), 0).expect("a whiteout");
            } else if let Some(opaque) = entry.strip_prefix('!') {
                make(&layer.join(opaque));
                let (name, flags) = ("trusted.overlay.opaque", fs::XattrFlags::empty());
                fs::setxattr(layer.join(opaque), name, b"y", flags).expect("a mark");
            } else if entry.ends_with('/') {
                make(&layer.join(entry));
            } else {
                make(layer.join(entry).parent().expect("a parent"));
                File::create(layer.join(entry))
                    .expect("made")
                    .write_all(own.as_bytes())
                    .expect("written");
            }
        }
        layer
    }

    #[test]
    fn what_is_found_is_what_the_layers_show() {
        let root = tempfile::tempdir().expect("a directory");
        let base = [
            "a",
            "b",
            "gone",
            "d/x",
            "d/y",
            "covered/x",
            "usr/lib/l",
            "lib -> usr/lib",
            "abs -> /usr",
            "loop -> loop",
            "up -> ../../../../d",
            "file/inner",
        ];
        let base = layer(root.path(), "base", &base);
        let middle = ["b", "d/x", "-gone", "!covered", "covered/z", "file"];
        let middle = layer(root.path(), "middle", &middle);
        let own = ["a", "e -> d", "!opaque", "-hidden"];
        let top = layer(root.path(), "own", &own);
        let merged = Merged::open(&top, &[&base, &middle]).expect("opened");
        for (path, expected) in [
            ("a", Some("base")),
            ("b", Some("middle")),
            ("gone", None),
            ("missing", None),
            ("d/x", Some("middle")),
            ("d/y", Some("base")),
            ("d", None),
            ("covered/x", None),
            ("covered/z", Some("middle")),
            ("lib/l", Some("base")),
            ("abs/lib/l", Some("base")),
            ("up/y", Some("base")),
            ("e/y", Some("base")),
            ("loop/x", None),
            ("b/x", None),
            ("file/inner", None),
        ] {
            let found = merged.find_below(path.as_bytes()).expect(path);
            let content = found.map(|found| {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW;
                let opened = fs::openat(&found.directory, found.name, flags, Mode::empty());
                io::read_to_string(File::from(opened.expect(path))).expect(path)
            });
            assert_eq!(content.as_deref(), expected, "{path}");
        }
        let link = merged.find_below(b"lib").expect("looked").expect("the link itself");
        assert!(is_symlink(&link.stat));
    }

    #[test]
    fn a_layer_that_hides_what_is_below_it_hides_it_from_its_own_links_too() {
        let root = tempfile::tempdir().expect("a directory");
        let base = layer(root.path(), "base", &["d/x", "e/x"]);
        let top = layer(root.path(), "own", &["!d", "-e"]);
        let merged = Merged::open(&top, &[base]).expect("opened");
        assert!(merged.find_below(b"d/x").expect("looked").is_none());
        assert!(merged.find_below(b"e/x").expect("looked").is_none());
    }
}
