//! Which devices there are: the files of some directories, read again when they have changed.
//!
//! A later directory outranks an earlier one. Two files of one directory that describe the same device cancel each other,
//! unless a later directory has it too.

use crate::read::{self, ReadError, Source, Stamp};
use cringle_domain::cdi::DeviceName;
use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The devices of some directories.
#[derive(Debug)]
pub struct Catalog {
    directories: Vec<PathBuf>,
    /// What was read, by path. Never locked for longer than it takes to copy the pointer.
    known: Mutex<Arc<Files>>,
}

type Files = BTreeMap<PathBuf, Known>;

/// A file at the time it was read.
#[derive(Debug, Clone)]
struct Known {
    stamp: Stamp,
    content: Result<Arc<Source>, String>,
}

/// Something that keeps a file or a directory from being used, or a device from being given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The file or directory.
    pub path: PathBuf,
    /// Why, with all causes.
    pub problem: String,
}

/// What there is at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Devices that can be asked for, by name.
    pub devices: Vec<DeviceName>,
    /// What can't be used.
    pub faults: Vec<Fault>,
}

/// What one look found.
#[derive(Debug, Default)]
pub(crate) struct View {
    devices: HashMap<DeviceName, Found>,
    pub(crate) faults: Vec<Fault>,
}

/// Where a device is described.
#[derive(Debug, Clone)]
pub(crate) enum Found {
    /// By one file: the place of the device in it.
    Device(Arc<Source>, usize),
    /// By several of the same rank.
    Conflict(Vec<PathBuf>),
}

impl Catalog {
    /// The catalogue of these directories, of which the last has the last word. They need not exist.
    #[must_use]
    pub fn new(directories: Vec<PathBuf>) -> Self {
        Self { directories, known: Mutex::default() }
    }

    /// The directories.
    #[must_use]
    pub fn directories(&self) -> &[PathBuf] {
        &self.directories
    }

    /// What there is now. It looks at the directories, so it may wait for a disk.
    #[must_use]
    pub fn report(&self) -> Report {
        let view = self.look();
        let usable = view.devices.iter().filter(|(_, found)| matches!(found, Found::Device(..)));
        let mut devices: Vec<_> = usable.map(|(name, _)| name.clone()).collect();
        devices.sort();
        Report { devices, faults: view.faults }
    }

    /// Looks at the directories, and reads what is new.
    pub(crate) fn look(&self) -> View {
        let before = Arc::clone(&self.known.lock().unwrap_or_else(PoisonError::into_inner));
        let (mut now, mut view) = (Files::new(), View::default());
        for directory in &self.directories {
            let paths = list(directory).unwrap_or_else(|problem| {
                view.faults.push(Fault { path: directory.clone(), problem });
                Vec::new()
            });
            let mut of_directory = HashMap::new();
            for path in paths {
                let Some(known) = recall(&before, &path) else { continue };
                match &known.content {
                    Ok(source) => enter(source, &mut of_directory),
                    Err(problem) => {
                        view.faults.push(Fault { path: path.clone(), problem: problem.clone() });
                    }
                }
                now.insert(path, known);
            }
            view.devices.extend(of_directory);
        }
        view.note_conflicts();
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(now);
        view
    }
}

impl View {
    /// Where a device is described, if it is.
    pub(crate) fn find(&self, name: &DeviceName) -> Option<&Found> {
        self.devices.get(name)
    }

    fn note_conflicts(&mut self) {
        let mut conflicts = Vec::new();
        for (name, found) in &self.devices {
            let Found::Conflict(paths) = found else { continue };
            for path in paths {
                let others: Vec<_> = paths.iter().filter(|other| *other != path).collect();
                let problem = format!("device {name} is described by {others:?} too");
                conflicts.push(Fault { path: path.clone(), problem });
            }
        }
        conflicts.sort_by(|a, b| (&a.path, &a.problem).cmp(&(&b.path, &b.problem)));
        self.faults.extend(conflicts);
    }
}

/// Adds the devices of a file to those of its directory.
fn enter(source: &Arc<Source>, devices: &mut HashMap<DeviceName, Found>) {
    for (index, name) in source.names.iter().enumerate() {
        let found = match devices.remove(name) {
            None => Found::Device(Arc::clone(source), index),
            Some(Found::Device(other, _)) => {
                Found::Conflict(vec![other.path.clone(), source.path.clone()])
            }
            Some(Found::Conflict(mut paths)) => {
                paths.push(source.path.clone());
                Found::Conflict(paths)
            }
        };
        devices.insert(name.clone(), found);
    }
}

/// The files of a directory that describe devices, by their names' order. A directory that is not there has none.
fn list(directory: &Path) -> Result<Vec<PathBuf>, String> {
    let found = match rustix::fs::stat(directory) {
        Ok(found) => found,
        Err(rustix::io::Errno::NOENT) => return Ok(Vec::new()),
        Err(errno) => return Err(format!("failed to look at it: {}", io::Error::from(errno))),
    };
    read::refuse_foreign(&found).map_err(|foreign| foreign.to_string())?;
    let entries = std::fs::read_dir(directory).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let entries = entries.map_err(|error| format!("failed to list it: {error}"))?;
    let describes = |path: &PathBuf| {
        path.extension().is_some_and(|extension| extension == "json" || extension == "yaml")
    };
    let is_directory =
        |entry: &std::fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    let mut paths: Vec<_> = (entries.iter().filter(|entry| !is_directory(entry)))
        .map(std::fs::DirEntry::path)
        .filter(describes)
        .collect();
    paths.sort();
    Ok(paths)
}

/// What is in a file: as before if it did not change. Nothing if it has vanished.
fn recall(before: &Files, path: &Path) -> Option<Known> {
    // Before it is read: if it changes in between, the next look reads it again.
    let stamp = match Stamp::of(path) {
        Ok(stamp) => stamp,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        // It is read, to say why not; a stamp that matches none has it read each time.
        Err(_) => return Some(Known { stamp: Stamp::default(), content: content(path) }),
    };
    if let Some(known) = before.get(path).filter(|known| known.stamp == stamp) {
        return Some(known.clone());
    }
    let content = content(path);
    if let Err(problem) = &content {
        tracing::warn!(path = %path.display(), problem, "a file of CDI devices can't be used");
    }
    Some(Known { stamp, content })
}

fn content(path: &Path) -> Result<Arc<Source>, String> {
    read::read(path).map(Arc::new).map_err(|error| chain(&error))
}

fn chain(error: &ReadError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests;
