//! Fields with entries, each of which is one plugin's.

use crate::HookError;
use crate::owners::Claimant;
use cringle_proto_nri::v1alpha1::{
    Field, HugepageLimit, KeyValue, LinuxDevice, Mount, PosixRlimit,
};
use std::collections::{BTreeMap, BTreeSet};

/// An entry and what it is known by; with "-" before that, it stands for its removal.
pub(super) trait Entry: Clone {
    fn key(&self) -> &str;
}

impl Entry for Mount {
    fn key(&self) -> &str {
        &self.destination
    }
}

impl Entry for LinuxDevice {
    fn key(&self) -> &str {
        &self.path
    }
}

impl Entry for KeyValue {
    fn key(&self) -> &str {
        &self.key
    }
}

impl Entry for HugepageLimit {
    fn key(&self) -> &str {
        &self.page_size
    }
}

impl Entry for PosixRlimit {
    fn key(&self) -> &str {
        &self.r#type
    }
}

impl<V: Clone> Entry for (String, V) {
    fn key(&self) -> &str {
        &self.0
    }
}

/// How many entries of one field a plugin may ask for at a time; more are a mistake, and much work for everybody.
const MOST: usize = 4096;

/// Refuses more entries than anybody needs.
pub(super) fn bound(claimant: &Claimant<'_>, field: Field, count: usize) -> Result<(), HookError> {
    if count <= MOST {
        return Ok(());
    }
    let (plugin, what) = (claimant.plugin.to_owned(), field.as_str_name().to_owned());
    Err(HookError::TooMany { plugin, what, count, most: MOST })
}

/// Adds what a plugin asks for to what the container has by now, and to the sum of what all asked for. In the sum a removal
/// stays for what the container had from the start; it comes before an entry of the same key.
pub(super) fn list<T: Entry>(
    claimant: &mut Claimant<'_>,
    field: Field,
    asked: Vec<T>,
    present: &mut Vec<T>,
    sum: &mut Vec<T>,
) -> Result<(), HookError> {
    bound(claimant, field, asked.len())?;
    let keys = |removed: bool| -> BTreeSet<String> {
        let named = asked.iter().map(|entry| (entry.key(), entry.key().strip_prefix('-')));
        let wanted = named.filter(|(_, removal)| removal.is_some() == removed);
        wanted.map(|(key, removal)| removal.unwrap_or(key).to_owned()).collect()
    };
    let (removed, set) = (keys(true), keys(false));
    for key in &removed {
        claimant.clear_entry(field, key);
    }
    for entries in [&mut *sum, &mut *present] {
        entries.retain(|entry| !removed.contains(entry.key()) && !set.contains(entry.key()));
    }
    for entry in last_of_each(asked) {
        if !entry.key().starts_with('-') {
            claimant.claim_entry(field, entry.key())?;
            present.push(entry.clone());
        }
        sum.push(entry);
    }
    Ok(())
}

/// Of entries with the same key the last.
pub(super) fn last_of_each<T: Entry>(entries: Vec<T>) -> Vec<T> {
    let mut known = BTreeSet::new();
    let newest_first = entries.into_iter().rev();
    let mut kept: Vec<T> =
        newest_first.filter(|entry| known.insert(entry.key().to_owned())).collect();
    kept.reverse();
    kept
}

/// The same for fields that are maps.
pub(super) fn map<V: Clone>(
    claimant: &mut Claimant<'_>,
    field: Field,
    asked: BTreeMap<String, V>,
    present: &mut BTreeMap<String, V>,
    sum: &mut BTreeMap<String, V>,
) -> Result<(), HookError> {
    let listed = |map: &mut BTreeMap<String, V>| std::mem::take(map).into_iter().collect();
    let (mut had, mut whole): (Vec<_>, Vec<_>) = (listed(present), listed(sum));
    list(claimant, field, asked.into_iter().collect(), &mut had, &mut whole)?;
    present.extend(had);
    sum.extend(whole);
    Ok(())
}
