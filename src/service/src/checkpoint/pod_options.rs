//! The file that tells which archive of a pod's directory is whose.

use super::CheckpointError;
use super::archive::{Limit, Timed};
use crate::container::Container;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

/// What the directory has: which container has which archive. The name and the form are those of other runtimes' pods.
pub(crate) const OPTIONS: &str = "pod.options";
/// The version of that form.
const VERSION: u32 = 1;

/// Writes which container has which archive.
///
/// # Errors
/// The file system refuses, or the time is over.
pub(crate) fn list(
    output: &Path,
    containers: &[Arc<Container>],
    limit: Limit,
) -> Result<(), CheckpointError> {
    let name = |one: &Arc<Container>| one.record().spec.metadata.name.clone();
    let ids: BTreeMap<_, _> =
        containers.iter().map(|one| (name(one), one.container_id().as_str())).collect();
    let document = json!({"version": VERSION, "containers": ids, "annotations": {}});
    let path = output.join(OPTIONS);
    let mut file = Timed::create(&path, limit)?;
    file.write_all(document.to_string().as_bytes())
        .map_err(CheckpointError::file("write", &path))?;
    cringle_store::atomic::sync_directory(output).map_err(CheckpointError::file("sync", output))
}
