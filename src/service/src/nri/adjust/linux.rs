//! What only Linux has: devices, namespaces, sysctls, seccomp, the OOM score.

use super::{Unmet, linux_of, process_of};
use crate::bundle::Draft;
use cringle_domain::plan::ContainerPlan;
use cringle_proto_nri::v1alpha1::{
    Field, LinuxContainerAdjustment, LinuxDevice, LinuxDeviceCgroup, LinuxNamespace, LinuxSeccomp,
};
use oci_spec::runtime::{
    self as oci, Linux, LinuxDeviceBuilder, LinuxDeviceCgroupBuilder, LinuxDeviceType,
    LinuxNamespaceBuilder, LinuxNamespaceType,
};
use serde_json::json;
use std::path::Path;

pub(super) fn apply(
    wishes: &LinuxContainerAdjustment,
    plan: &mut ContainerPlan,
    draft: &mut Draft,
) -> Result<(), Unmet> {
    let linux = linux_of(&mut draft.spec);
    for device in &wishes.devices {
        add_device(device, linux)?;
    }
    for rule in wishes.resources.iter().flat_map(|resources| &resources.devices) {
        add_rule(rule, linux)?;
    }
    for namespace in &wishes.namespaces {
        replace_namespace(namespace, linux)?;
    }
    if !wishes.sysctl.is_empty() {
        let sysctls = linux.sysctl_mut().get_or_insert_default();
        for (name, value) in &wishes.sysctl {
            drop(match name.strip_prefix('-') {
                Some(removed) => sysctls.remove(removed),
                None => sysctls.insert(name.clone(), value.clone()),
            });
        }
    }
    if let Some(score) = wishes.oom_score_adj {
        let problem = || format!("{} is not in -1000 to 1000", score.value);
        let score = i16::try_from(score.value).ok().filter(|score| (-1000..=1000).contains(score));
        let score = score.ok_or_else(|| Unmet::invalid(Field::OomScoreAdj, "", problem()))?;
        plan.resources.oom_score_adjustment = Some(score);
        process_of(&mut draft.spec).set_oom_score_adj(Some(score.into()));
    }
    match &wishes.seccomp_policy {
        Some(policy) => confine(policy, plan, draft),
        None => Ok(()),
    }
}

/// Replaces the device of that path, and lets it be used as its mode says.
fn add_device(wish: &LinuxDevice, linux: &mut Linux) -> Result<(), Unmet> {
    let path = wish.path.as_str();
    let devices = linux.devices_mut().get_or_insert_default();
    if let Some(removed) = path.strip_prefix('-') {
        devices.retain(|device| device.path() != Path::new(removed));
        return Ok(());
    }
    let invalid = |problem: String| Unmet::invalid(Field::Devices, path, problem);
    let kind = kind_of(&wish.r#type)
        .filter(|kind| *kind != LinuxDeviceType::A)
        .ok_or_else(|| invalid(format!("\"{}\" is no kind of device", wish.r#type)))?;
    let built = LinuxDeviceBuilder::default()
        .path(path)
        .typ(kind)
        .major(wish.major)
        .minor(wish.minor)
        .build()
        .map_err(|error| invalid(error.to_string()))?;
    let mut device = built;
    let mode = wish.file_mode.map(|mode| mode.value);
    device
        .set_file_mode(mode)
        .set_uid(wish.uid.map(|id| id.value))
        .set_gid(wish.gid.map(|id| id.value));
    devices.retain(|other| other.path() != Path::new(path));
    devices.push(device);
    let read = mode.is_none_or(|mode| mode & 0o444 != 0).then_some("r");
    let write = mode.is_none_or(|mode| mode & 0o222 != 0).then_some("w");
    let access: String = [read, write, Some("m")].into_iter().flatten().collect();
    let rule = LinuxDeviceCgroupBuilder::default()
        .allow(true)
        .typ(kind)
        .major(wish.major)
        .minor(wish.minor)
        .access(access)
        .build()
        .map_err(|error| invalid(error.to_string()))?;
    rules_of(linux).push(rule);
    Ok(())
}

fn add_rule(wish: &LinuxDeviceCgroup, linux: &mut Linux) -> Result<(), Unmet> {
    let invalid = |problem: String| Unmet::invalid(Field::None, "", problem);
    let kind = match wish.r#type.as_str() {
        "" => LinuxDeviceType::A,
        other => {
            kind_of(other).ok_or_else(|| invalid(format!("\"{other}\" is no kind of device")))?
        }
    };
    let mut rule = LinuxDeviceCgroupBuilder::default()
        .allow(wish.allow)
        .typ(kind)
        .access(wish.access.as_str())
        .build()
        .map_err(|error| invalid(error.to_string()))?;
    rule.set_major(wish.major.map(|number| number.value));
    rule.set_minor(wish.minor.map(|number| number.value));
    rules_of(linux).push(rule);
    Ok(())
}

fn rules_of(linux: &mut Linux) -> &mut Vec<oci::LinuxDeviceCgroup> {
    linux.resources_mut().get_or_insert_default().devices_mut().get_or_insert_default()
}

fn kind_of(word: &str) -> Option<LinuxDeviceType> {
    match word {
        "a" => Some(LinuxDeviceType::A),
        "b" => Some(LinuxDeviceType::B),
        "c" => Some(LinuxDeviceType::C),
        "u" => Some(LinuxDeviceType::U),
        "p" => Some(LinuxDeviceType::P),
        _ => None,
    }
}

/// A namespace that is taken away is the host's.
fn replace_namespace(wish: &LinuxNamespace, linux: &mut Linux) -> Result<(), Unmet> {
    let name = wish.r#type.trim_start_matches('-');
    let invalid = |problem: String| Unmet::invalid(Field::Namespace, name, problem);
    let kind = LinuxNamespaceType::try_from(name)
        .map_err(|_unknown| invalid(format!("\"{name}\" is no kind of namespace")))?;
    let namespaces = linux.namespaces_mut().get_or_insert_default();
    namespaces.retain(|other| other.typ() != kind);
    if wish.r#type.starts_with('-') {
        return Ok(());
    }
    let builder = LinuxNamespaceBuilder::default().typ(kind);
    let builder = if wish.path.is_empty() { builder } else { builder.path(wish.path.as_str()) };
    namespaces.push(builder.build().map_err(|error| invalid(error.to_string()))?);
    Ok(())
}

/// The policy in the words of a document, which are also the interface's.
fn confine(policy: &LinuxSeccomp, plan: &ContainerPlan, draft: &mut Draft) -> Result<(), Unmet> {
    let calls = policy.syscalls.iter().map(|call| {
        let args = call.args.iter().map(|arg| {
            json!({"index": arg.index, "value": arg.value, "valueTwo": arg.value_two, "op": arg.op})
        });
        let mut entry = json!({
            "names": call.names, "action": call.action, "args": args.collect::<Vec<_>>(),
        });
        if let Some(errno) = call.errno_ret {
            entry["errnoRet"] = json!(errno.value);
        }
        entry
    });
    let mut profile = json!({
        "defaultAction": policy.default_action,
        "architectures": policy.architectures,
        "flags": policy.flags,
        "syscalls": calls.collect::<Vec<_>>(),
    });
    let optional = [
        ("defaultErrnoRet", policy.default_errno.map(|errno| json!(errno.value))),
        ("listenerPath", given(&policy.listener_path)),
        ("listenerMetadata", given(&policy.listener_metadata)),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            profile[name] = value;
        }
    }
    let capabilities = plan.process.capabilities.bounding;
    draft
        .confine(profile.to_string().as_bytes(), capabilities)
        .map_err(|error| Unmet::invalid(Field::SeccompPolicy, "", crate::error::chain(&error)))
}

fn given(text: &str) -> Option<serde_json::Value> {
    (!text.is_empty()).then(|| json!(text))
}
