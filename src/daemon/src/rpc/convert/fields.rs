//! Forms that many messages share.

use cringle_domain::refusal::Refusal;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::time::Duration;

/// Labels, annotations and the like, sorted, so that equal requests are equal.
pub(super) fn sorted(map: HashMap<String, String>) -> BTreeMap<String, String> {
    map.into_iter().collect()
}

/// The same for the wire.
pub(super) fn unsorted(map: &BTreeMap<String, String>) -> HashMap<String, String> {
    map.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// A part of a message that must be there.
pub(super) fn present<T>(part: Option<T>, field: &str) -> Result<T, Refusal> {
    part.ok_or_else(|| Refusal::invalid(field, "is missing"))
}

/// A text that must not be empty.
pub(super) fn filled(text: String, field: &str) -> Result<String, Refusal> {
    if text.is_empty() { Err(Refusal::invalid(field, "is empty")) } else { Ok(text) }
}

/// Paths that must be absolute.
pub(super) fn absolute(paths: Vec<String>, field: &str) -> Result<Vec<PathBuf>, Refusal> {
    let absolute = |path: String| {
        if path.starts_with('/') {
            return Ok(PathBuf::from(path));
        }
        Err(Refusal::invalid(field, format!("{path:?} is not an absolute path")))
    };
    paths.into_iter().map(absolute).collect()
}

/// The number of a user or group.
pub(super) fn id(number: i64, field: &str) -> Result<u32, Refusal> {
    match u32::try_from(number) {
        Ok(id) if i32::try_from(id).is_ok() => Ok(id),
        Ok(_) | Err(_) => {
            Err(Refusal::invalid(field, format!("{number} is not in 0 to 2147483647")))
        }
    }
}

/// A value of an enumeration of the CRI.
pub(super) fn known<T: TryFrom<i32>>(number: i32, field: &str) -> Result<T, Refusal> {
    let unknown = |_| Refusal::invalid(field, format!("{number} is not a value of this field"));
    T::try_from(number).map_err(unknown)
}

/// A number of seconds; none if it is negative.
pub(in crate::rpc) fn seconds(number: i64) -> Option<Duration> {
    u64::try_from(number).ok().map(Duration::from_secs)
}
