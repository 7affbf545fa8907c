//! Names of devices in the Container Device Interface, and where a request may name them.

use crate::refusal::Refusal;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Annotations of a container with this beginning name devices too: the way before the CRI had a field.
pub const ANNOTATION_PREFIX: &str = "cdi.k8s.io/";

/// The longest vendor, a DNS name.
const LONGEST_VENDOR: usize = 253;
/// The longest class.
const LONGEST_CLASS: usize = 63;
/// The longest name of a device; the specification has no bound.
const LONGEST_DEVICE: usize = 1024;

/// Who made a device, and what it is: `vendor.example/class`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceClass {
    vendor: String,
    class: String,
}

/// A device by its qualified name: `vendor.example/class=device`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeviceName {
    class: DeviceClass,
    device: String,
}

/// A text that names no device or class.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no qualified name of a CDI device (vendor/class=device): its {part} {problem}"
)]
pub struct MalformedName {
    text: String,
    part: &'static str,
    problem: &'static str,
}

/// All devices that a container asks for, each once: first those of the field, then those of its annotations.
///
/// # Errors
/// Invalid, with the field or annotation that names no device.
pub fn requested(
    fields: impl IntoIterator<Item = String>,
    annotations: &BTreeMap<String, String>,
) -> Result<Vec<DeviceName>, Refusal> {
    let fields = fields.into_iter().map(|name| ("CDI_devices".to_owned(), name));
    let annotations = annotations
        .iter()
        .filter(|(key, _)| key.starts_with(ANNOTATION_PREFIX))
        .flat_map(|(key, value)| {
            value.split(',').map(move |name| (format!("annotations[{key:?}]"), name.to_owned()))
        });
    let mut names = Vec::new();
    for (place, text) in fields.chain(annotations) {
        let name: DeviceName = text
            .parse()
            .map_err(|error: MalformedName| Refusal::invalid(place, error.to_string()))?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

impl DeviceClass {
    /// The device of this class with that name.
    ///
    /// # Errors
    /// No device can be called so.
    pub fn device(&self, device: &str) -> Result<DeviceName, MalformedName> {
        let failed =
            |problem| MalformedName { text: format!("{self}={device}"), part: "device", problem };
        check(device, LONGEST_DEVICE, ":").map_err(failed)?;
        Ok(DeviceName { class: self.clone(), device: device.to_owned() })
    }

    /// The class without the vendor.
    #[must_use]
    pub fn class(&self) -> &str {
        &self.class
    }
}

impl FromStr for DeviceClass {
    type Err = MalformedName;

    fn from_str(text: &str) -> Result<Self, MalformedName> {
        let failed = |part, problem| MalformedName { text: text.to_owned(), part, problem };
        let (vendor, class) = text.split_once('/').unwrap_or((text, ""));
        for (part, name, longest) in
            [("vendor", vendor, LONGEST_VENDOR), ("class", class, LONGEST_CLASS)]
        {
            check(name, longest, "").map_err(|problem| failed(part, problem))?;
            if !name.starts_with(|first: char| first.is_ascii_alphabetic()) {
                return Err(failed(part, "does not begin with a letter"));
            }
        }
        Ok(Self { vendor: vendor.to_owned(), class: class.to_owned() })
    }
}

impl fmt::Display for DeviceClass {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.vendor, self.class)
    }
}

impl FromStr for DeviceName {
    type Err = MalformedName;

    fn from_str(text: &str) -> Result<Self, MalformedName> {
        let (class, device) = text.split_once('=').unwrap_or((text, ""));
        let whole = |error: MalformedName| MalformedName { text: text.to_owned(), ..error };
        class.parse().and_then(|class: DeviceClass| class.device(device)).map_err(whole)
    }
}

impl TryFrom<String> for DeviceName {
    type Error = MalformedName;

    fn try_from(text: String) -> Result<Self, MalformedName> {
        text.parse()
    }
}

impl From<DeviceName> for String {
    fn from(name: DeviceName) -> Self {
        name.to_string()
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}={}", self.class, self.device)
    }
}

/// ASCII letters and digits, and between them `-`, `_`, `.` and what is in `more`.
fn check(name: &str, longest: usize, more: &str) -> Result<(), &'static str> {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric();
    if name.is_empty() {
        return Err("is missing");
    }
    if name.len() > longest {
        return Err("is too long");
    }
    if !name.starts_with(is_plain) || !name.ends_with(is_plain) {
        return Err("does not begin and end with a letter or digit");
    }
    let allowed =
        |letter: char| is_plain(letter) || "-_.".contains(letter) || more.contains(letter);
    if name.chars().all(allowed) {
        Ok(())
    } else {
        Err("has a character in it that is not allowed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_qualified_name_comes_back_as_it_was() {
        for text in
            ["vendor.com/class=device", "a/b=0", "V-1.x/c_d.e=GPU-1:2_3.4", "vendor.com/net=all"]
        {
            let name: DeviceName = text.parse().unwrap();
            assert_eq!(name.to_string(), text);
            let kept: DeviceName =
                serde_json::from_str(&serde_json::to_string(&name).unwrap()).unwrap();
            assert_eq!(kept, name);
        }
    }

    #[test]
    fn what_is_no_qualified_name_is_refused_with_the_part() {
        for (text, part) in [
            ("", "vendor"),
            ("device", "class"),
            ("vendor.com/class", "device"),
            ("vendor.com=x", "class"),
            ("/class=x", "vendor"),
            ("vendor.com/=x", "class"),
            ("vendor.com/class=", "device"),
            ("1vendor/class=x", "vendor"),
            ("vendor/1class=x", "class"),
            ("vendor-/class=x", "vendor"),
            ("vendor/class/more=x", "class"),
            ("vendor/class=x=y", "device"),
            ("vendor/class=-x", "device"),
            ("vendor/class=x:", "device"),
            ("vendor/class=x y", "device"),
            ("vendor/class=ü", "device"),
            ("vendor:x/class=y", "vendor"),
        ] {
            let error = text.parse::<DeviceName>().unwrap_err();
            assert_eq!((error.part, error.text.as_str()), (part, text));
        }
        let long = |vendor, class| format!("{}/{}=x", "v".repeat(vendor), "c".repeat(class));
        long(253, 63).parse::<DeviceName>().unwrap();
        assert_eq!(long(254, 1).parse::<DeviceName>().unwrap_err().part, "vendor");
        assert_eq!(long(1, 64).parse::<DeviceName>().unwrap_err().part, "class");
    }

    #[test]
    fn field_and_annotations_are_one_list_without_doubles() {
        let annotations = [
            ("cdi.k8s.io/b", "v/c=2,v/c=3"),
            ("cdi.k8s.io/a", "v/c=1"),
            ("other.io/cdi.k8s.io/", "nonsense"),
        ];
        let annotations: BTreeMap<_, _> = annotations
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        let names = requested(["v/c=3".to_owned(), "v/c=3".to_owned()], &annotations).unwrap();
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["v/c=3", "v/c=1", "v/c=2"]);
    }

    #[test]
    fn the_place_of_a_wrong_name_is_told() {
        let annotations = BTreeMap::from([("cdi.k8s.io/a".to_owned(), "v/c=1,".to_owned())]);
        let refused = requested([], &annotations).unwrap_err().to_string();
        assert!(refused.contains("cdi.k8s.io/a"), "{refused}");
        let refused = requested(["x".to_owned()], &BTreeMap::new()).unwrap_err().to_string();
        assert!(refused.starts_with("CDI_devices: "), "{refused}");
    }
}
