//! Annotations, mounts, the process and hooks.

use super::{Unmet, linux_of, process_of};
use cringle_domain::mounts;
use cringle_proto_nri::v1alpha1::{self as nri, ContainerAdjustment, Field, KeyValue};
use oci_spec::runtime::{
    Hook, Hooks, Mount, MountBuilder, PosixRlimit, PosixRlimitBuilder, PosixRlimitType, Spec,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Annotations of ours steer the shim.
const OWN_ANNOTATIONS: &str = "dev.cringle.";

pub(super) fn apply(wishes: &ContainerAdjustment, spec: &mut Spec) -> Result<(), Unmet> {
    annotate(wishes, spec)?;
    if !wishes.mounts.is_empty() {
        mount(&wishes.mounts, spec)?;
    }
    if !wishes.env.is_empty() {
        let entries = process_of(spec).env().clone().unwrap_or_default();
        process_of(spec).set_env(Some(environment(entries, &wishes.env)));
    }
    if !wishes.args.is_empty() {
        process_of(spec).set_args(Some(wishes.args.clone()));
    }
    limit(&wishes.rlimits, spec)?;
    if let Some(hooks) = &wishes.hooks {
        add_hooks(hooks, spec.hooks_mut().get_or_insert_default());
    }
    Ok(())
}

fn annotate(wishes: &ContainerAdjustment, spec: &mut Spec) -> Result<(), Unmet> {
    if wishes.annotations.is_empty() {
        return Ok(());
    }
    let annotations = spec.annotations_mut().get_or_insert_default();
    for (key, value) in &wishes.annotations {
        if let Some(removed) = key.strip_prefix('-') {
            drop(annotations.remove(removed));
            continue;
        }
        if key.starts_with(OWN_ANNOTATIONS) {
            let problem = format!("\"{key}\" is not for plugins");
            return Err(Unmet::invalid(Field::Annotations, key, problem));
        }
        drop(annotations.insert(key.clone(), value.clone()));
    }
    Ok(())
}

/// Removes and adds mounts. Those further down come later: what is mounted over them would hide them.
fn mount(wishes: &[nri::Mount], spec: &mut Spec) -> Result<(), Unmet> {
    let mut mounts = spec.mounts().clone().unwrap_or_default();
    let mut propagation = linux_of(spec).rootfs_propagation().clone();
    let target = |wish: &nri::Mount| PathBuf::from(wish.destination.trim_start_matches('-'));
    let last: BTreeMap<_, _> =
        wishes.iter().enumerate().map(|(place, wish)| (target(wish), place)).collect();
    mounts.retain(|mount| !last.contains_key(mount.destination()));
    for (place, wish) in wishes.iter().enumerate() {
        if wish.destination.starts_with('-') || last.get(&target(wish)) != Some(&place) {
            continue;
        }
        let added = one_mount(wish)?;
        let words = added.options().clone().unwrap_or_default();
        let has = |word: &str| words.iter().any(|one| one == word);
        if has("rshared") || has("shared") {
            propagation = Some("rshared".to_owned());
        } else if (has("rslave") || has("slave")) && propagation.as_deref() != Some("rshared") {
            propagation = Some("rslave".to_owned());
        }
        mounts.push(added);
    }
    mounts.sort_by_key(|mount| mount.destination().components().count());
    spec.set_mounts(Some(mounts));
    linux_of(spec).set_rootfs_propagation(propagation);
    Ok(())
}

fn one_mount(wish: &nri::Mount) -> Result<Mount, Unmet> {
    let key = wish.destination.as_str();
    let target = mounts::clean(Path::new(key))
        .map_err(|error| Unmet::invalid(Field::Mounts, key, error.to_string()))?;
    mounts::check_target(&target, Path::new(&wish.source))
        .map_err(|refusal| Unmet::of_entry(Field::Mounts, key, refusal))?;
    MountBuilder::default()
        .destination(target)
        .typ(wish.r#type.as_str())
        .source(wish.source.as_str())
        .options(wish.options.clone())
        .build()
        .map_err(|error| Unmet::invalid(Field::Mounts, key, error.to_string()))
}

/// Variables in place of those of the same name, or after all others.
fn environment(entries: Vec<String>, wishes: &[KeyValue]) -> Vec<String> {
    // Of each name the last wish; none is that it goes.
    let mut wanted: BTreeMap<&str, Option<String>> = BTreeMap::new();
    for wish in wishes {
        match wish.key.strip_prefix('-') {
            Some(removed) => wanted.insert(removed, None),
            None => wanted.insert(&wish.key, Some(format!("{}={}", wish.key, wish.value))),
        };
    }
    let name = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    let mut left = wanted.clone();
    let kept = entries.into_iter().filter_map(|entry| {
        let name = name(&entry);
        match wanted.get(name.as_str()) {
            None => Some(entry),
            Some(_) => left.remove(name.as_str()).flatten(),
        }
    });
    let mut changed: Vec<String> = kept.collect();
    let new = wishes.iter().filter_map(|wish| left.remove(wish.key.as_str()).flatten());
    changed.extend(new);
    changed
}

fn limit(wishes: &[nri::PosixRlimit], spec: &mut Spec) -> Result<(), Unmet> {
    if wishes.is_empty() {
        return Ok(());
    }
    let mut limits = process_of(spec).rlimits().clone().unwrap_or_default();
    for wish in wishes {
        let name = wish.r#type.trim_start_matches('-');
        limits.retain(|limit: &PosixRlimit| limit.typ().to_string() != name);
        if wish.r#type.starts_with('-') {
            continue;
        }
        let invalid = |problem: String| Unmet::invalid(Field::Rlimits, name, problem);
        let kind = PosixRlimitType::from_str(name)
            .map_err(|_unknown| invalid(format!("\"{name}\" is not a resource limit")))?;
        let limit = PosixRlimitBuilder::default().typ(kind).soft(wish.soft).hard(wish.hard);
        limits.push(limit.build().map_err(|error| invalid(error.to_string()))?);
    }
    process_of(spec).set_rlimits(Some(limits));
    Ok(())
}

fn add_hooks(wishes: &nri::Hooks, hooks: &mut Hooks) {
    let add = |into: &mut Option<Vec<Hook>>, wishes: &[nri::Hook]| {
        if !wishes.is_empty() {
            into.get_or_insert_default().extend(wishes.iter().map(hook));
        }
    };
    add(hooks.prestart_mut(), &wishes.prestart);
    add(hooks.create_runtime_mut(), &wishes.create_runtime);
    add(hooks.create_container_mut(), &wishes.create_container);
    add(hooks.start_container_mut(), &wishes.start_container);
    add(hooks.poststart_mut(), &wishes.poststart);
    add(hooks.poststop_mut(), &wishes.poststop);
}

fn hook(wish: &nri::Hook) -> Hook {
    let listed = |list: &[String]| (!list.is_empty()).then(|| list.to_vec());
    let mut hook = Hook::default();
    hook.set_path(wish.path.as_str().into())
        .set_args(listed(&wish.args))
        .set_env(listed(&wish.env))
        .set_timeout(wish.timeout.map(|timeout| timeout.value));
    hook
}
