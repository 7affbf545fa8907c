//! What is taken from an archive that somebody gives us: memory images, and what the container wrote. Nothing else.
//!
//! An archive is foreign input. Its own words about the container (`config.dump`, `spec.dump`, `status`, annotations) are not
//! even read: image, mounts, devices, log and cgroup are those of the request. Of its members only plain files of known names
//! are taken, each below a directory of ours and under a name without any path; a link, a device or a path makes the whole
//! archive unfit. What the container wrote is unpacked by the worker that unpacks images.

use super::CheckpointError;
use super::archive::{CHANGES, GONE, IMAGES, Limit, Timed, or_late};
use super::outside::STREAM_NAMES;
use serde::Deserialize;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};
use tar::{Archive, Builder, EntryType, Header};

/// More members are no container's.
const MOST_MEMBERS: usize = 200_000;
/// The documents that are read into memory are smaller.
const LARGEST_DOCUMENT: u64 = 16 << 20;
/// Names that hide others in layers of images.
const WHITEOUT: &str = ".wh.";

/// An archive to be taken in.
#[derive(Debug)]
pub(crate) struct Intake {
    /// Its path, for errors.
    pub(crate) path: PathBuf,
    /// It.
    pub(crate) file: File,
}

/// What was taken in, besides the images.
#[derive(Debug)]
pub(crate) struct Taken {
    /// What CRIU calls the first three descriptors of the first process.
    pub(crate) streams: [String; 3],
    /// What the container wrote and removed, in the form of a layer.
    changes: File,
    gone: Vec<u8>,
}

impl Taken {
    /// What the container removed and wrote, as the archive of a layer.
    pub(crate) fn layer(self) -> impl Read + Send {
        io::Cursor::new(self.gone).chain(self.changes)
    }
}

impl Intake {
    /// Takes the images to `directory`, where a directory for them is, and the rest beside them.
    ///
    /// # Errors
    /// It is no checkpoint, has what none has, or there is no room or time.
    pub(crate) fn take(self, directory: &Path, limit: Limit) -> Result<Taken, CheckpointError> {
        let path = self.path.clone();
        let unfit = |problem: &str| CheckpointError::unfit(&path, problem);
        or_late(self.extract(directory, limit), limit)?;
        let document = |name: &Path| -> Result<Vec<u8>, CheckpointError> {
            let place = directory.join(name);
            let mut text = Vec::new();
            let file = File::open(&place);
            let read = file.and_then(|file| file.take(LARGEST_DOCUMENT).read_to_end(&mut text));
            match read {
                Ok(_) => Ok(text),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    Err(unfit(&format!("it has no \"{}\"", name.display())))
                }
                Err(source) => Err(CheckpointError::file("read", place)(source)),
            }
        };
        let streams = document(&Path::new(IMAGES).join(STREAM_NAMES))?;
        let streams = stream_names(&streams)
            .ok_or_else(|| unfit(&format!("its \"{IMAGES}/{STREAM_NAMES}\" makes no sense")))?;
        let gone = hidden(&document(Path::new(GONE))?)
            .ok_or_else(|| unfit(&format!("its \"{GONE}\" is no list of paths")))?;
        let place = directory.join(CHANGES);
        let changes = match File::open(&place) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(unfit(&format!("it has no \"{CHANGES}\"")));
            }
            opened => opened.map_err(CheckpointError::file("open", &place))?,
        };
        Ok(Taken { streams, changes, gone })
    }

    fn extract(self, directory: &Path, limit: Limit) -> Result<(), CheckpointError> {
        let Self { path, mut file } = self;
        let unfit = |problem: String| CheckpointError::unfit(&path, problem);
        let broken = |error: io::Error| unfit(format!("it is no archive: {error}"));
        file.seek(SeekFrom::Start(0)).map_err(CheckpointError::file("read", &path))?;
        let mut archive = Archive::new(io::BufReader::with_capacity(256 << 10, file));
        for (count, entry) in archive.entries().map_err(broken)?.enumerate() {
            let mut entry = entry.map_err(broken)?;
            if count >= MOST_MEMBERS {
                return Err(unfit("it has too many members".to_owned()));
            }
            let name = entry.path().map_err(broken)?.into_owned();
            let kind = entry.header().entry_type();
            if kind == EntryType::Directory {
                continue;
            }
            if kind != EntryType::Regular {
                let name = name.display();
                return Err(unfit(format!("its member \"{name}\" is no file: {kind:?}")));
            }
            let Some(place) = place_of(&name) else {
                return Err(unfit(format!("its member \"{}\" has no plain name", name.display())));
            };
            let Some(place) = place else { continue };
            let target = directory.join(place);
            let mut output = Timed::create(&target, limit)?;
            copy(&mut entry, &mut output, &target, &broken)?;
        }
        Ok(())
    }
}

/// Who fails is told apart: the archive, or the disk that it is copied to.
fn copy(
    input: &mut impl Read,
    output: &mut Timed,
    target: &Path,
    broken: &impl Fn(io::Error) -> CheckpointError,
) -> Result<(), CheckpointError> {
    let mut piece = vec![0; 256 << 10];
    loop {
        let length = input.read(&mut piece).map_err(broken)?;
        if length == 0 {
            return Ok(());
        }
        io::Write::write_all(output, piece.get(..length).unwrap_or_default())
            .map_err(CheckpointError::file("write", target))?;
    }
}

/// Where a member goes; no place: it is not needed; none: its name is none that a member has.
fn place_of(name: &Path) -> Option<Option<PathBuf>> {
    let parts = name.components().map(|part| match part {
        Component::Normal(part) => part.to_str(),
        Component::RootDir | Component::ParentDir | Component::CurDir | Component::Prefix(_) => {
            None
        }
    });
    let parts = parts.collect::<Option<Vec<&str>>>()?;
    let plain = |name: &str| {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        name.bytes().all(known) && !name.starts_with('.')
    };
    match parts.as_slice() {
        [name] if *name == CHANGES || *name == GONE => Some(Some(PathBuf::from(name))),
        [name] if plain(name) => Some(None),
        [IMAGES, name] if plain(name) => Some(Some(Path::new(IMAGES).join(name))),
        [..] => None,
    }
}

/// Names of CRIU for what leads outside, and of no other form: others could stand for a namespace.
fn stream_names(text: &[u8]) -> Option<[String; 3]> {
    #[derive(Deserialize)]
    struct Document {
        streams: [String; 3],
    }
    let Document { streams } = serde_json::from_slice(text).ok()?;
    let inside = |name: &str, before: &str| {
        name.strip_prefix(before).and_then(|rest| rest.strip_suffix(']')).map(str::to_owned)
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|one| one.is_ascii_hexdigit());
    let is_known = |name: &String| {
        let pipe = inside(name, "pipe:[").is_some_and(|number| digits(&number));
        let file = inside(name, "file[").is_some_and(|numbers| {
            numbers.split_once(':').is_some_and(|(one, two)| digits(one) && digits(two))
        });
        name.is_empty() || pipe || file
    };
    streams.iter().all(is_known).then_some(streams)
}

/// The beginning of an archive that hides these paths in an image.
fn hidden(text: &[u8]) -> Option<Vec<u8>> {
    let paths: Vec<String> = serde_json::from_slice(text).ok()?;
    let mut archive = Builder::new(Vec::new());
    for path in paths {
        let path = Path::new(&path).strip_prefix("/").ok()?.to_owned();
        let name = path.file_name()?;
        let mut hiding = WHITEOUT.as_bytes().to_vec();
        hiding.extend(name.as_bytes());
        let path = path.with_file_name(std::ffi::OsString::from_vec(hiding));
        let mut header = Header::new_gnu();
        header.set_size(0);
        header.set_mode(0);
        header.set_entry_type(EntryType::Regular);
        archive.append_data(&mut header, &path, io::empty()).ok()?;
    }
    // Without the mark of its end, for more comes.
    Some(archive.get_ref().clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// An archive with members of these kinds, and what of it was taken.
    fn taken(
        members: &[(&str, EntryType, &[u8])],
    ) -> (tempfile::TempDir, Result<Taken, CheckpointError>) {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a.tar");
        let mut archive = Builder::new(File::create(&path).unwrap());
        for (name, kind, content) in members {
            let mut header = Header::new_gnu();
            header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_size(u64::try_from(content.len()).unwrap());
            header.set_mode(0o777);
            header.set_link_name("/etc/passwd").unwrap();
            header.set_cksum();
            archive.append(&header, *content).unwrap();
        }
        archive.finish().unwrap();
        let directory = place.path().join("taken");
        std::fs::create_dir_all(directory.join(IMAGES)).unwrap();
        let intake = Intake { file: File::open(&path).unwrap(), path };
        let taken = intake.take(&directory, Limit::of(Duration::from_secs(60)));
        (place, taken)
    }

    const STREAMS: &[u8] = br#"{"streams":["file[3a:12]","pipe:[7]",""]}"#;

    fn whole<'a>() -> Vec<(&'a str, EntryType, &'a [u8])> {
        vec![
            ("spec.dump", EntryType::Regular, b"not even read"),
            ("checkpoint/", EntryType::Directory, b""),
            ("checkpoint/inventory.img", EntryType::Regular, b"i"),
            ("checkpoint/inherited.json", EntryType::Regular, STREAMS),
            ("rootfs-diff.tar", EntryType::Regular, b"changes"),
            ("deleted.files", EntryType::Regular, br#"["/www/index.html"]"#),
        ]
    }

    #[test]
    fn images_and_changes_are_taken_and_nothing_else() {
        let (place, taken) = taken(&whole());
        let taken = taken.unwrap();
        assert_eq!(taken.streams, ["file[3a:12]", "pipe:[7]", ""]);
        let mut layer = Vec::new();
        taken.layer().read_to_end(&mut layer).unwrap();
        assert!(layer.starts_with(b"www/.wh.index.html\0"));
        assert!(layer.ends_with(b"changes"));
        let directory = place.path().join("taken");
        assert!(!directory.join("spec.dump").exists());
        assert_eq!(std::fs::read(directory.join(IMAGES).join("inventory.img")).unwrap(), b"i");
    }

    #[test]
    fn a_member_that_is_no_plain_file_of_a_plain_name_makes_the_archive_unfit() {
        for (name, kind) in [
            ("checkpoint/../../x", EntryType::Regular),
            ("/etc/x", EntryType::Regular),
            ("checkpoint/a/b", EntryType::Regular),
            ("checkpoint/.hidden", EntryType::Regular),
            ("other/x.img", EntryType::Regular),
            ("checkpoint/x.img", EntryType::Symlink),
            ("checkpoint", EntryType::Symlink),
            ("checkpoint/x.img", EntryType::Link),
            ("checkpoint/x.img", EntryType::Char),
            ("checkpoint/x.img", EntryType::GNUSparse),
        ] {
            let mut members = whole();
            members.push((name, kind, b""));
            let (_place, taken) = taken(&members);
            assert!(matches!(taken, Err(CheckpointError::Unfitting { .. })), "{name} {kind:?}");
        }
    }

    #[test]
    fn an_archive_that_lacks_something_says_what() {
        for missing in ["checkpoint/inherited.json", "rootfs-diff.tar", "deleted.files"] {
            let mut members = whole();
            members.retain(|(name, ..)| *name != missing);
            let (_place, taken) = taken(&members);
            let text = taken.unwrap_err().to_string();
            assert!(text.contains(missing), "{text}");
        }
    }

    #[test]
    fn names_that_stand_for_something_else_than_streams_are_refused() {
        for name in ["extRootNetNS", "pipe:[]", "file[1]", "file[x:1]", "/dev/null", "pipe:[1]]"] {
            let text = format!(r#"{{"streams":["{name}","",""]}}"#);
            assert_eq!(stream_names(text.as_bytes()), None, "{name}");
        }
        for text in ["[\"x\"]", "[\"/\"]", "{}", "[\"/a/..\"]"] {
            assert!(hidden(text.as_bytes()).is_none(), "{text}");
        }
    }
}
