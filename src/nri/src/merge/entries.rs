//! Fields with entries, each of which is one plugin's.

use crate::HookError;
use crate::owners::Claimant;
use cringle_proto_nri::v1alpha1::{Field, KeyValue, LinuxDevice, Mount, PosixRlimit};
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

/// Adds what a plugin asks for to what the container has by now, and to the sum of what all asked for. In the sum a removal
/// stays for what the container had from the start; it comes before an entry of the same key.
pub(super) fn list<T: Entry>(
    claimant: &mut Claimant<'_>,
    field: Field,
    asked: Vec<T>,
    present: &mut Vec<T>,
    sum: &mut Vec<T>,
) -> Result<(), HookError> {
    let keys = |removed: bool| -> BTreeSet<String> {
        let named = asked.iter().map(|entry| (entry.key(), entry.key().strip_prefix('-')));
        let wanted = named.filter(|(_, removal)| removal.is_some() == removed);
        wanted.map(|(key, removal)| removal.unwrap_or(key).to_owned()).collect()
    };
    let (removed, set) = (keys(true), keys(false));
    for key in &removed {
        claimant.clear_entry(field, key);
    }
    sum.retain(|entry| !removed.contains(entry.key()));
    present.retain(|entry| !removed.contains(entry.key()) && !set.contains(entry.key()));
    for entry in asked {
        if entry.key().starts_with('-') {
            sum.push(entry);
            continue;
        }
        claimant.claim_entry(field, entry.key())?;
        sum.retain(|other| other.key() != entry.key());
        sum.push(entry.clone());
        present.push(entry);
    }
    Ok(())
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
