//! What one plugin is told: its own configuration with the network's name, the version, the result so far and the
//! capability arguments that it declares (CNI specification 1.1, section 4).

use crate::conf::{ConfigurationList, Object, Plugin};
use cringle_domain::attachment::AttachmentRecord;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

/// The configuration for one plugin, as text.
///
/// # Errors
/// If the record's capability arguments are not JSON.
pub(crate) fn configuration(
    list: &ConfigurationList,
    plugin: &Plugin,
    capabilities: &Object,
    previous: Option<&RawValue>,
) -> Result<String, serde_json::Error> {
    let mut object = base(list, plugin)?;
    let mut given = Object::new();
    for name in &plugin.capabilities {
        if let Some(value) = capabilities.get(name) {
            given.insert(name.clone(), value.clone());
        }
    }
    if !given.is_empty() {
        object.insert("runtimeConfig".to_owned(), to_raw_value(&given)?);
    }
    if let Some(previous) = previous {
        object.insert("prevResult".to_owned(), previous.to_owned());
    }
    serde_json::to_string(&object)
}

/// The configuration for GC: what is valid, under the key of the specification and under its older name.
///
/// # Errors
/// Never in practice; the shape is ours.
pub(crate) fn collection(
    list: &ConfigurationList,
    plugin: &Plugin,
    valid: &[&AttachmentRecord],
) -> Result<String, serde_json::Error> {
    let mut object = base(list, plugin)?;
    let valid: Vec<Valid<'_>> = valid
        .iter()
        .map(|record| Valid { container: &record.container_id, interface: &record.interface })
        .collect();
    let valid = to_raw_value(&valid)?;
    object.insert("cni.dev/attachments".to_owned(), valid.clone());
    object.insert("cni.dev/valid-attachments".to_owned(), valid);
    serde_json::to_string(&object)
}

/// A result that says its version: one without is of the configuration's.
///
/// # Errors
/// Never in practice; it was read before.
pub(crate) fn versioned(
    list: &ConfigurationList,
    result: Box<RawValue>,
) -> Result<Box<RawValue>, serde_json::Error> {
    let mut object: Object = serde_json::from_str(result.get())?;
    if object.contains_key("cniVersion") {
        return Ok(result);
    }
    object.insert("cniVersion".to_owned(), to_raw_value(&list.version)?);
    to_raw_value(&object)
}

#[derive(Serialize)]
struct Valid<'a> {
    #[serde(rename = "containerID")]
    container: &'a str,
    #[serde(rename = "ifname")]
    interface: &'a str,
}

pub(crate) fn base(list: &ConfigurationList, plugin: &Plugin) -> Result<Object, serde_json::Error> {
    let mut object = plugin.object.clone();
    // Reserved keys are the runtime's; what a file says there is not passed on.
    object.retain(|key, _| {
        key != "runtimeConfig" && key != "prevResult" && !key.starts_with("cni.dev/")
    });
    object.insert("name".to_owned(), to_raw_value(&list.name)?);
    object.insert("cniVersion".to_owned(), to_raw_value(&list.version)?);
    Ok(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_gets_only_the_capabilities_that_it_declares_and_nothing_from_reserved_keys() {
        let list = ConfigurationList::parse(
            r#"{"cniVersion":"1.0.0","name":"n","plugins":[
                {"type":"a","capabilities":{"portMappings":true,"dns":false},"prevResult":{"x":1},"cni.dev/y":2}]}"#,
        )
        .unwrap();
        let capabilities: Object =
            serde_json::from_str(r#"{"portMappings":[1],"dns":[2],"bandwidth":[3]}"#).unwrap();
        let text = configuration(&list, &list.plugins[0], &capabilities, None).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["runtimeConfig"], serde_json::json!({"portMappings":[1]}));
        assert_eq!(value["name"], "n");
        assert_eq!(value["cniVersion"], "1.0.0");
        assert!(value.get("prevResult").is_none() && value.get("cni.dev/y").is_none());
    }
}
