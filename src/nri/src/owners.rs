//! Who set what: each field of a container, and each entry of a field with entries, is one plugin's.

use crate::HookError;
use cringle_proto_nri::v1alpha1::{CompoundFieldOwners, Field, FieldOwners};
use std::collections::{BTreeMap, BTreeSet};

/// Who set what of one container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Owners {
    fields: BTreeMap<Field, String>,
    entries: BTreeMap<(Field, String), String>,
}

/// A plugin that sets fields.
#[derive(Debug)]
pub(crate) struct Claimant<'a> {
    /// Who set what so far.
    pub(crate) owners: &'a mut Owners,
    /// The plugin.
    pub(crate) plugin: &'a str,
}

impl Owners {
    /// Who set a field; several, with commas between them, if it is OCI hooks.
    #[must_use]
    pub fn of(&self, field: Field) -> Option<&str> {
        self.fields.get(&field).map(String::as_str)
    }

    /// Who set entries of a field, with their keys.
    pub fn of_entries(&self, field: Field) -> impl Iterator<Item = (&str, &str)> {
        self.entries
            .iter()
            .filter(move |((owned, _), _)| *owned == field)
            .map(|((_, key), plugin)| (key.as_str(), plugin.as_str()))
    }

    /// Everybody who set anything, with commas between them.
    #[must_use]
    pub fn everybody(&self) -> String {
        let owners = self.fields.values().flat_map(|owner| owner.split(','));
        let owners = owners.chain(self.entries.values().map(String::as_str));
        owners.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(",")
    }

    /// As validators are told.
    pub(crate) fn to_wire(&self) -> FieldOwners {
        let mut wire = FieldOwners::default();
        wire.simple.extend(self.fields.iter().map(|(field, name)| (*field as i32, name.clone())));
        for ((field, key), plugin) in &self.entries {
            let of_field: &mut CompoundFieldOwners =
                wire.compound.entry(*field as i32).or_default();
            drop(of_field.owners.insert(key.clone(), plugin.clone()));
        }
        wire
    }
}

impl Claimant<'_> {
    /// Claims a field.
    ///
    /// # Errors
    /// It is another plugin's.
    pub(crate) fn claim(&mut self, field: Field) -> Result<(), HookError> {
        let plugin = self.plugin.to_owned();
        let owner = self.owners.fields.entry(field).or_insert_with(|| plugin.clone());
        if *owner == plugin {
            return Ok(());
        }
        let what = field.as_str_name().to_owned();
        Err(HookError::Conflict { first: owner.clone(), second: plugin, what })
    }

    /// Claims an entry of a field.
    ///
    /// # Errors
    /// It is another plugin's.
    pub(crate) fn claim_entry(&mut self, field: Field, key: &str) -> Result<(), HookError> {
        let plugin = self.plugin.to_owned();
        let owner = self.owners.entries.entry((field, key.to_owned()));
        let owner = owner.or_insert_with(|| plugin.clone());
        if *owner == plugin {
            return Ok(());
        }
        let what = format!("{} \"{key}\"", field.as_str_name());
        Err(HookError::Conflict { first: owner.clone(), second: plugin, what })
    }

    /// Joins those who set a field that takes from all.
    pub(crate) fn join(&mut self, field: Field) {
        let owner = self.owners.fields.entry(field).or_default();
        if !owner.split(',').any(|name| name == self.plugin) {
            if !owner.is_empty() {
                owner.push(',');
            }
            owner.push_str(self.plugin);
        }
    }

    /// Takes a field away from whoever set it.
    pub(crate) fn clear(&mut self, field: Field) {
        drop(self.owners.fields.remove(&field));
    }

    /// Takes an entry of a field away from whoever set it.
    pub(crate) fn clear_entry(&mut self, field: Field, key: &str) {
        drop(self.owners.entries.remove(&(field, key.to_owned())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_plugin_set_no_other_sets_unless_it_takes_it_away_first() {
        let mut owners = Owners::default();
        let mut first = Claimant { owners: &mut owners, plugin: "00-a" };
        first.claim(Field::Args).unwrap();
        first.claim(Field::Args).unwrap();
        first.claim_entry(Field::Env, "X").unwrap();
        first.join(Field::OciHooks);
        let mut second = Claimant { owners: &mut owners, plugin: "10-b" };
        let error = second.claim(Field::Args).unwrap_err().to_string();
        assert_eq!(error, "NRI plugins \"00-a\" and \"10-b\" both set Args");
        let error = second.claim_entry(Field::Env, "X").unwrap_err().to_string();
        assert_eq!(error, "NRI plugins \"00-a\" and \"10-b\" both set Env \"X\"");
        second.claim_entry(Field::Env, "Y").unwrap();
        second.claim_entry(Field::Mounts, "X").unwrap();
        second.join(Field::OciHooks);
        second.clear(Field::Args);
        second.claim(Field::Args).unwrap();
        second.clear_entry(Field::Env, "X");
        second.claim_entry(Field::Env, "X").unwrap();
        assert_eq!(owners.of(Field::Args), Some("10-b"));
        assert_eq!(owners.of(Field::OciHooks), Some("00-a,10-b"));
        let entries: Vec<_> = owners.of_entries(Field::Env).collect();
        assert_eq!(entries, [("X", "10-b"), ("Y", "10-b")]);
        assert_eq!(owners.everybody(), "00-a,10-b");
        let wire = owners.to_wire();
        assert_eq!(wire.simple[&(Field::Args as i32)], "10-b");
        assert_eq!(wire.compound[&(Field::Mounts as i32)].owners["X"], "10-b");
    }
}
