//! Which ids are shown for which: the maps of user namespaces and of mounts, and the descriptors by which mounts get them.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use cringle_kernel::idmap::{self, Mapping};
use cringle_kernel::mount::{self, Depth};
use cringle_kernel::namespace::Namespaces;
use oci_spec::runtime::LinuxIdMapping;
use rustix::io::Errno;

use super::error::{Attempting as _, EngineError, Result};

/// A map of users and one of groups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Mappings {
    /// Of users.
    pub users: Vec<Mapping>,
    /// Of groups.
    pub groups: Vec<Mapping>,
}

impl Mappings {
    /// The maps of a specification; none if both are empty.
    ///
    /// # Errors
    /// Only one of them is there.
    pub(super) fn of_spec(
        users: Option<&Vec<LinuxIdMapping>>,
        groups: Option<&Vec<LinuxIdMapping>>,
        field: &str,
    ) -> Result<Option<Self>> {
        let ranges = |list: Option<&Vec<LinuxIdMapping>>| {
            let ranges = list.into_iter().flatten().map(|one| Mapping {
                inside: one.container_id(),
                outside: one.host_id(),
                length: one.size(),
            });
            ranges.collect::<Vec<_>>()
        };
        Self { users: ranges(users), groups: ranges(groups) }.complete(field)
    }

    /// Takes the words of a mount that containerd writes so: `uidmap=INSIDE:OUTSIDE:LENGTH`, and `gidmap` likewise.
    ///
    /// # Errors
    /// A word that is no map, or one of the two is missing.
    pub(super) fn of_words(words: &mut Vec<String>, field: &str) -> Result<Option<Self>> {
        let mut maps = Self::default();
        let mut rest = Vec::with_capacity(words.len());
        for word in words.drain(..) {
            if let Some(ranges) = word.strip_prefix("uidmap=") {
                maps.users.extend(parse(ranges, field)?);
            } else if let Some(ranges) = word.strip_prefix("gidmap=") {
                maps.groups.extend(parse(ranges, field)?);
            } else {
                rest.push(word);
            }
        }
        *words = rest;
        maps.complete(field)
    }

    fn complete(self, field: &str) -> Result<Option<Self>> {
        match (self.users.is_empty(), self.groups.is_empty()) {
            (true, true) => Ok(None),
            (false, false) => Ok(Some(self)),
            (true, false) | (false, true) => {
                let problem = "users and groups are to be mapped both or not at all";
                Err(EngineError::invalid(field, problem))
            }
        }
    }

    /// The user outside for one inside.
    pub(super) fn user_outside(&self, inside: u32) -> Option<u32> {
        self.users.iter().find_map(|range| range.outside_of(inside))
    }

    /// The group outside for one inside.
    pub(super) fn group_outside(&self, inside: u32) -> Option<u32> {
        self.groups.iter().find_map(|range| range.outside_of(inside))
    }
}

fn parse(text: &str, field: &str) -> Result<Vec<Mapping>> {
    text.split(',')
        .map(|one| {
            Mapping::from_text(one)
                .ok_or_else(|| EngineError::invalid(field, format!("{one:?} maps no ids")))
        })
        .collect()
}

/// The maps that mounts of a container need, each as the user namespace that has it.
#[derive(Debug, Default)]
pub(super) struct IdMaps(Vec<(Mappings, OwnedFd)>);

impl IdMaps {
    /// Has a namespace for each; `own` is the container's, which serves where its maps are meant.
    ///
    /// # Errors
    /// The kernel refused a map.
    pub(super) fn open(wanted: &[&Mappings], own: Option<(&Mappings, &OwnedFd)>) -> Result<Self> {
        let attempt = || "make the id map of a mount".to_owned();
        let mut maps = Self::default();
        for &mappings in wanted {
            if maps.0.iter().any(|(known, _)| known == mappings) {
                continue;
            }
            let namespace = match own {
                Some((maps, own)) if maps == mappings => {
                    rustix::io::fcntl_dupfd_cloexec(own, 3).attempting(attempt)?
                }
                Some(_) | None => {
                    let (users, groups) = (&mappings.users, &mappings.groups);
                    let made = idmap::make(Namespaces::NONE, users, groups, || Ok(()));
                    let first = made.attempting(attempt)?.into_iter().next();
                    first.ok_or(Errno::SRCH).attempting(attempt)?.1
                }
            };
            maps.0.push((mappings.clone(), namespace));
        }
        Ok(maps)
    }

    /// Child-side: lets a tree that is attached nowhere show ids by these maps.
    ///
    /// # Errors
    /// A filesystem of the tree can't.
    pub(super) fn apply(&self, mappings: &Mappings, tree: &OwnedFd, depth: Depth) -> Result<()> {
        let attempt = || "map the ids of a mount, whose filesystem may not support it".to_owned();
        mount::map_ids(tree, self.namespace(mappings)?, depth).attempting(attempt)
    }

    fn namespace(&self, mappings: &Mappings) -> Result<BorrowedFd<'_>> {
        let found = self.0.iter().find(|(known, _)| known == mappings);
        found.map(|(_, namespace)| namespace.as_fd()).ok_or(EngineError::Phase("without an id map"))
    }
}

/// Child-side: directories of layers that show ids by a map, each mounted over itself in this mount namespace, where whoever
/// mounts an overlay of them by path finds them so.
#[derive(Debug)]
pub(super) struct Layers<'a> {
    maps: &'a IdMaps,
    mapped: Vec<(&'a CStr, &'a Mappings)>,
}

impl<'a> Layers<'a> {
    /// None yet.
    pub(super) fn new(maps: &'a IdMaps) -> Self {
        Self { maps, mapped: Vec::new() }
    }

    /// The maps.
    pub(super) fn maps(&self) -> &'a IdMaps {
        self.maps
    }

    /// Maps one more, if it is not yet.
    ///
    /// # Errors
    /// It is mapped in another way, or its filesystem can't be.
    pub(super) fn map(&mut self, layer: &'a CStr, mappings: &'a Mappings) -> Result<()> {
        let attempt = || format!("map the ids of layer {layer:?}");
        match self.mapped.iter().find(|(known, _)| *known == layer) {
            Some((_, known)) if *known == mappings => return Ok(()),
            Some(_) => {
                return Err(EngineError::Unsupported(format!("layer {layer:?} with two id maps")));
            }
            None => {}
        }
        let tree = mount::clone_path(layer, Depth::One).attempting(attempt)?;
        self.maps.apply(mappings, &tree, Depth::One)?;
        let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
        let target =
            rustix::fs::open(layer, flags, rustix::fs::Mode::empty()).attempting(attempt)?;
        mount::attach(&tree, &target).attempting(attempt)?;
        self.mapped.push((layer, mappings));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    #[test]
    fn the_words_of_a_mount_give_its_maps_and_the_rest_stays() {
        let mut all = words(&["uidmap=0:1000:10,10:5000:5", "ro", "gidmap=0:2000:10"]);
        let maps = Mappings::of_words(&mut all, "rootfs").unwrap().unwrap();
        assert_eq!(all, ["ro"]);
        assert_eq!(
            [0, 9, 12, 15].map(|id| maps.user_outside(id)),
            [Some(1000), Some(1009), Some(5002), None]
        );
        assert_eq!(maps.group_outside(3), Some(2003));
        assert_eq!(Mappings::of_words(&mut words(&["ro"]), "rootfs").unwrap(), None);
    }

    #[test]
    fn what_is_no_map_or_half_a_map_is_refused() {
        for wrong in ["uidmap=0:1000:10", "gidmap=0:1:1", "uidmap=0:1", "uidmap=0:1:2:3", "gidmap="]
        {
            Mappings::of_words(&mut words(&[wrong]), "rootfs").unwrap_err();
        }
    }
}
