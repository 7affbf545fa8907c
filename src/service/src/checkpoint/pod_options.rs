//! The file that tells which archive of a pod's directory is whose.

use super::CheckpointError;
use super::archive::{Limit, Timed};
use super::intake::Intake;
use super::places::existing_directory;
use crate::container::Container;
use cringle_domain::refusal::Refusal;
use rustix::fs::{Mode, OFlags};
use serde::Deserialize;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

/// What the directory has: which container has which archive. The name and the form are those of other runtimes' pods.
pub(crate) const OPTIONS: &str = "pod.options";
/// The version of that form.
const VERSION: u32 = 1;
/// A longer one is none.
const LARGEST: u64 = 1 << 20;

/// Writes which container has which archive.
///
/// # Errors
/// The file system refuses, or the time is over.
pub(crate) fn list(
    output: &Path,
    containers: &[Arc<Container>],
    limit: Limit,
) -> Result<(), CheckpointError> {
    let name = |one: &Arc<Container>| one.record().spec.metadata.name.clone();
    let ids: BTreeMap<_, _> =
        containers.iter().map(|one| (name(one), one.container_id().as_str())).collect();
    let document = json!({"version": VERSION, "containers": ids, "annotations": {}});
    let path = output.join(OPTIONS);
    let mut file = Timed::create(&path, limit)?;
    file.write_all(document.to_string().as_bytes())
        .map_err(CheckpointError::file("write", &path))?;
    cringle_store::atomic::sync_directory(output).map_err(CheckpointError::file("sync", output))
}

/// The archives of a pod's checkpoint, by the names of their containers.
pub(crate) type Archives = BTreeMap<String, Intake>;

/// Opens the archives in a directory that [`list`] has described, if they are those of exactly these containers. A file of
/// another kind than a plain one is none of them.
///
/// # Errors
/// Invalid: the path is that of no such directory, its containers are others, or an archive is missing.
pub(crate) fn archives(directory: &str, names: &BTreeSet<&str>) -> Result<Archives, Refusal> {
    let refuse = |problem: String| Refusal::invalid("checkpoint_path", problem);
    let directory = existing_directory("checkpoint_path", directory)?;
    let open = |name: &str| {
        let path = directory.join(name);
        let problem = |error: io::Error| refuse(format!("\"{}\": {error}", path.display()));
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::open(&path, flags, Mode::empty());
        let file = File::from(file.map_err(|errno| problem(errno.into()))?);
        match file.metadata() {
            Ok(found) if found.is_file() => Ok(file),
            Ok(_) => Err(refuse(format!("\"{}\" is no file", path.display()))),
            Err(error) => Err(problem(error)),
        }
    };
    let mut text = Vec::new();
    let read = open(OPTIONS)?.take(LARGEST).read_to_end(&mut text);
    read.map_err(|error| refuse(format!("\"{OPTIONS}\" in it: {error}")))?;
    let known: Known = serde_json::from_slice(&text)
        .map_err(|error| refuse(format!("\"{OPTIONS}\" in it makes no sense: {error}")))?;
    if known.version != VERSION {
        let version = known.version;
        return Err(refuse(format!("\"{OPTIONS}\" in it is of version {version}, not {VERSION}")));
    }
    require_same(names, &known)?;
    let opened = known.containers.into_iter().map(|(name, id)| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if id.is_empty() || !id.bytes().all(plain) {
            return Err(refuse(format!("container \"{name}\" in it has the id \"{id}\"")));
        }
        let file_name = format!("{id}.tar");
        Ok((name, Intake { file: open(&file_name)?, path: directory.join(file_name) }))
    });
    opened.collect()
}

/// The content of the file.
#[derive(Debug, Deserialize)]
struct Known {
    version: u32,
    containers: BTreeMap<String, String>,
}

fn require_same(names: &BTreeSet<&str>, known: &Known) -> Result<(), Refusal> {
    let there: BTreeSet<&str> = known.containers.keys().map(String::as_str).collect();
    let quoted = |names: Vec<&&str>| {
        let names: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
        names.join(", ")
    };
    let missing: Vec<_> = names.difference(&there).collect();
    let more: Vec<_> = there.difference(names).collect();
    let problem = match (missing.is_empty(), more.is_empty()) {
        (true, true) => return Ok(()),
        (false, _) => format!("the checkpoint has no container {}", quoted(missing)),
        (true, false) => format!("the checkpoint has container {} as well", quoted(more)),
    };
    Err(Refusal::invalid("container_configs", problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(path: &Path, text: &str) {
        File::create(path).unwrap().write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn the_archives_of_exactly_these_containers_are_opened() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().display().to_string();
        let one = BTreeSet::from(["one"]);
        let refused = |names: &BTreeSet<&str>, word: &str| {
            let text = archives(&path, names).unwrap_err().to_string();
            assert!(text.contains(word), "{text}");
        };
        refused(&one, "pod.options");
        let options = place.path().join(OPTIONS);
        put(&options, r#"{"version":1,"containers":{"one":"0a1"}}"#);
        refused(&one, "0a1.tar");
        put(&place.path().join("0a1.tar"), "x");
        assert_eq!(archives(&path, &one).unwrap().len(), 1);
        refused(&BTreeSet::from(["one", "two"]), "has no container \"two\"");
        refused(&BTreeSet::new(), "has container \"one\" as well");
        std::fs::remove_file(place.path().join("0a1.tar")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", place.path().join("0a1.tar")).unwrap();
        refused(&one, "0a1.tar");
        for (text, word) in [
            (r#"{"version":2,"containers":{}}"#, "version 2"),
            ("[]", "makes no sense"),
            (r#"{"version":1,"containers":{"one":"../0a1"}}"#, "has the id"),
        ] {
            put(&options, text);
            refused(&one, word);
        }
    }
}
