//! How pods and containers stand, as clients see it, and what a change from one standing to another is called.

use cringle_domain::container::ContainerPhase;
use cringle_domain::pod::PodPhase;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happening {
    /// It can be seen.
    Created,
    /// It runs; a pod: it takes containers.
    Started,
    /// It ended; a pod: it takes no containers any more.
    Stopped,
    /// It can't be seen any more.
    Deleted,
}

/// How something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Not to be seen: being made or removed.
    Absent,
    /// Made, and not started.
    Made,
    /// Running, or ready.
    Up,
    /// Ended.
    Down,
}

impl Standing {
    /// How a pod of this phase stands.
    pub(super) fn of_pod(phase: &PodPhase) -> Self {
        match phase {
            PodPhase::Creating | PodPhase::Removing => Self::Absent,
            PodPhase::Ready { .. } => Self::Up,
            PodPhase::NotReady { .. } => Self::Down,
        }
    }

    /// How a container of this phase stands.
    pub(super) fn of_container(phase: &ContainerPhase) -> Self {
        match phase {
            ContainerPhase::Creating | ContainerPhase::Removing => Self::Absent,
            ContainerPhase::Created => Self::Made,
            ContainerPhase::Running { .. } => Self::Up,
            ContainerPhase::Exited { .. } => Self::Down,
        }
    }
}

/// What happens on the way from one standing to another. No life goes back, so that what is not on a way forward is
/// nothing.
pub(super) fn happenings(from: Standing, to: Standing) -> &'static [Happening] {
    use Happening::{Created, Deleted, Started, Stopped};
    use Standing::{Absent, Down, Made, Up};
    match (from, to) {
        (Absent, Made) => &[Created],
        (Absent, Up) => &[Created, Started],
        // A pod whose failed bring-up could not be undone.
        (Absent, Down) => &[Created, Stopped],
        (Made, Up) => &[Started],
        (Made | Up, Down) => &[Stopped],
        (Made | Down, Absent) => &[Deleted],
        (Up, Absent) => &[Stopped, Deleted],
        (Absent, Absent) | (Made | Up | Down, Made) | (Up | Down, Up) | (Down, Down) => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::Happening::{Created, Deleted, Started, Stopped};
    use super::Standing::{Absent, Down, Made, Up};
    use super::*;

    #[test]
    fn a_life_is_told_whole_whichever_steps_it_takes() {
        for (life, told) in [
            (&[Absent, Made, Up, Down, Absent][..], &[Created, Started, Stopped, Deleted][..]),
            (&[Absent, Up, Up, Down, Absent], &[Created, Started, Stopped, Deleted]),
            (&[Absent, Made, Down, Absent], &[Created, Stopped, Deleted]),
            (&[Absent, Made, Absent], &[Created, Deleted]),
            (&[Absent, Down, Down, Absent], &[Created, Stopped, Deleted]),
            (&[Absent, Absent], &[]),
        ] {
            let found: Vec<_> = life
                .windows(2)
                .flat_map(|step| happenings(step[0], step[1]).iter().copied())
                .collect();
            assert_eq!(found, told, "{life:?}");
        }
    }
}
