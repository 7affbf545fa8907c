//! What plugins can subscribe to: which request tells which event.

use cringle_proto_nri::v1alpha1::{
    CreateContainerRequest, Event, PostCreateContainerRequest, PostStartContainerRequest,
    PostUpdateContainerRequest, PostUpdatePodSandboxRequest, RemoveContainerRequest,
    RemovePodSandboxRequest, RunPodSandboxRequest, StartContainerRequest, StateChangeEvent,
    StopContainerRequest, StopPodSandboxRequest, UpdateContainerRequest, UpdatePodSandboxRequest,
    ValidateContainerAdjustmentRequest,
};
use cringle_proto_nri::{Call, Plugin};

/// A request that a plugin gets if it subscribed to it.
pub trait Hook: Call<Plugin> {
    /// What it subscribes to.
    const EVENT: Event;

    /// The same for a plugin that is older than this request; none if there is no such.
    fn state_change(&self) -> Option<StateChangeEvent>;
}

/// A set of events as it is on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Events(u32);

impl Events {
    /// All that there are.
    pub(crate) const ALL: Self = Self(bit(Event::Last) - 1);
    /// None.
    pub(crate) const NONE: Self = Self(0);

    /// The set of a plugin's answer; zero is everything. None if there are events in it that are not known.
    pub(crate) fn from_wire(bits: i32) -> Option<Self> {
        match u32::try_from(bits).ok()? {
            0 => Some(Self::ALL),
            bits => (bits & !Self::ALL.0 == 0).then_some(Self(bits)),
        }
    }

    /// Whether an event is in it.
    pub(crate) fn has(self, event: Event) -> bool {
        self.0 & bit(event) != 0
    }

    /// The set with this event.
    pub(crate) fn with(self, event: Event) -> Self {
        Self(self.0 | bit(event))
    }
}

/// Event N is bit N-1; the first one is 1.
const fn bit(event: Event) -> u32 {
    1 << (event as u32 - 1)
}

macro_rules! hooks {
    ($($request:ty = $event:ident, $older:ident;)*) => {
        $(impl Hook for $request {
            const EVENT: Event = Event::$event;

            fn state_change(&self) -> Option<StateChangeEvent> {
                hooks!(@$older self, $event)
            }
        })*
    };
    (@none $request:expr, $event:ident) => { None };
    (@pod $request:expr, $event:ident) => {
        Some(StateChangeEvent {
            event: Event::$event.into(),
            pod: $request.pod.clone(),
            container: None,
        })
    };
    (@container $request:expr, $event:ident) => {
        Some(StateChangeEvent {
            event: Event::$event.into(),
            pod: $request.pod.clone(),
            container: $request.container.clone(),
        })
    };
}

hooks! {
    RunPodSandboxRequest = RunPodSandbox, pod;
    UpdatePodSandboxRequest = UpdatePodSandbox, none;
    PostUpdatePodSandboxRequest = PostUpdatePodSandbox, pod;
    StopPodSandboxRequest = StopPodSandbox, pod;
    RemovePodSandboxRequest = RemovePodSandbox, pod;
    CreateContainerRequest = CreateContainer, none;
    PostCreateContainerRequest = PostCreateContainer, container;
    StartContainerRequest = StartContainer, container;
    PostStartContainerRequest = PostStartContainer, container;
    UpdateContainerRequest = UpdateContainer, none;
    PostUpdateContainerRequest = PostUpdateContainer, container;
    StopContainerRequest = StopContainer, none;
    RemoveContainerRequest = RemoveContainer, container;
    ValidateContainerAdjustmentRequest = ValidateContainerAdjustment, none;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_bits_and_none_of_them_is_all() {
        assert_eq!(Events::from_wire(0), Some(Events::ALL));
        assert_eq!(Events::from_wire((1 << 14) - 1), Some(Events::ALL));
        assert_eq!(Events::from_wire(1 << 14), None);
        assert_eq!(Events::from_wire(-1), None);
        let some = Events::from_wire(0b1001).unwrap();
        assert!(some.has(Event::RunPodSandbox) && some.has(Event::CreateContainer));
        assert!(!some.has(Event::StopPodSandbox));
        assert!(some.with(Event::StopPodSandbox).has(Event::StopPodSandbox));
        assert!(Events::ALL.has(Event::ValidateContainerAdjustment));
    }
}
