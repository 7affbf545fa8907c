//! What an archive says of its container, in the words of other runtimes and their tools: `config.dump` and `spec.dump` as
//! Podman, CRI-O and containerd write them, `status` as containerd does.
//!
//! The annotations are containerd's names for what the container is. Those of the user stay out of them, as they stay out of
//! the runtime spec: nothing that a user wrote steers who reads this.

use cringle_domain::container::{ContainerPhase, ContainerRecord};
use cringle_domain::pod::PodRecord;
use cringle_domain::time::Timestamp;
use serde_json::{Value, json};

/// The times of something that has not happened, as the others write it.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// What the documents are made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    /// The container.
    pub(crate) container: &'a ContainerRecord,
    /// Its pod.
    pub(crate) pod: &'a PodRecord,
    /// When its checkpoint was made.
    pub(crate) at: Timestamp,
}

impl Subject<'_> {
    /// `config.dump`.
    pub(crate) fn config(self) -> Value {
        let container = self.container;
        json!({
            "id": container.id.as_str(),
            "name": container.spec.metadata.name,
            "rootfsImage": container.spec.image.reference,
            "rootfsImageRef": container.image.to_string(),
            "rootfsImageName": container.image_reference,
            "runtime": "cringle",
            "createdTime": rfc3339(container.created),
            "checkpointedTime": rfc3339(self.at),
            "restoredTime": NEVER,
            "restored": false,
        })
    }

    /// `spec.dump`, from the document that the shim was given.
    pub(crate) fn spec(self, mut document: Value) -> Value {
        let (pod, container) = (&self.pod.spec.metadata, &self.container.spec);
        document["annotations"] = json!({
            "io.container.manager": "cringle",
            "io.kubernetes.cri.container-type": "container",
            "io.kubernetes.cri.container-name": container.metadata.name,
            "io.kubernetes.cri.image-name": container.image.reference,
            "io.kubernetes.cri.sandbox-id": self.pod.id.as_str(),
            "io.kubernetes.cri.sandbox-name": pod.name,
            "io.kubernetes.cri.sandbox-namespace": pod.namespace,
            "io.kubernetes.cri.sandbox-uid": pod.uid,
        });
        document
    }

    /// `status`.
    pub(crate) fn status(self) -> Value {
        let (pid, started) = match &self.container.phase {
            ContainerPhase::Running { process, started } => (process.pid, started.nanoseconds()),
            ContainerPhase::Creating
            | ContainerPhase::Created
            | ContainerPhase::Exited { .. }
            | ContainerPhase::Removing => (0, 0),
        };
        json!({
            "CreatedAt": self.container.created.nanoseconds(),
            "StartedAt": started,
            "FinishedAt": 0,
            "ExitCode": 0,
            "Pid": pid,
            "Reason": "",
            "Message": "",
        })
    }
}

/// A moment in universal time, with nanoseconds.
fn rfc3339(at: Timestamp) -> String {
    const SECOND: u64 = 1_000_000_000;
    const DAY: u64 = 86_400;
    let (seconds, fraction) = (at.nanoseconds() / SECOND, at.nanoseconds() % SECOND);
    let (days, second) = (seconds / DAY, seconds % DAY);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:09}Z")
}

/// The date of a day since the epoch, by the Gregorian calendar.
fn date(days: u64) -> (u64, u64, u64) {
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let (mut year, mut left) = (1970, days);
    loop {
        let length = if is_leap(year) { 366 } else { 365 };
        if left < length {
            break;
        }
        left -= length;
        year += 1;
    }
    let february = if is_leap(year) { 29 } else { 28 };
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 1;
    for length in lengths {
        if left < length {
            break;
        }
        left -= length;
        month += 1;
    }
    (year, month, left + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_dates() {
        for (seconds, text) in [
            (1, "1970-01-01T00:00:01.000000005Z"),
            (951_782_399, "2000-02-28T23:59:59.000000005Z"),
            (951_868_799, "2000-02-29T23:59:59.000000005Z"),
            (1_735_689_600, "2025-01-01T00:00:00.000000005Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000005Z"),
        ] {
            let at = Timestamp::from_nanoseconds(seconds * 1_000_000_000 + 5);
            assert_eq!(rfc3339(at), text);
        }
    }
}
