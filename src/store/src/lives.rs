//! Pods and containers as what [`crate::tracked`] keeps.

use crate::tracked::Life;
use cringle_domain::container::{ContainerEvent, ContainerRecord, ContainerRefusal};
use cringle_domain::pod::{PodEvent, PodRecord, PodRefusal};

impl Life for PodRecord {
    type Event = PodEvent;
    type Refusal = PodRefusal;

    fn apply(&self, event: PodEvent) -> Result<Option<Self>, PodRefusal> {
        Self::apply(self, event)
    }

    fn kind() -> &'static str {
        "pod"
    }

    fn identity(&self) -> &str {
        self.id.as_str()
    }

    fn phase_name(&self) -> &'static str {
        self.phase.name()
    }
}

impl Life for ContainerRecord {
    type Event = ContainerEvent;
    type Refusal = ContainerRefusal;

    fn apply(&self, event: ContainerEvent) -> Result<Option<Self>, ContainerRefusal> {
        Self::apply(self, event)
    }

    fn kind() -> &'static str {
        "container"
    }

    fn identity(&self) -> &str {
        self.id.as_str()
    }

    fn phase_name(&self) -> &'static str {
        self.phase.name()
    }
}
