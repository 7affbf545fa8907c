//! The Node Resource Interface on the wire, generated from `api.proto`, and what ttrpc wraps its messages in. What a message
//! means is decided elsewhere.

/// Package `nri.pkg.api.v1alpha1`.
#[expect(
    missing_docs,
    reason = "generated code; fields and values speak for themselves, traps are commented in api.proto"
)]
pub mod v1alpha1 {
    include!(concat!(env!("OUT_DIR"), "/nri.pkg.api.v1alpha1.rs"));
}

/// Package `ttrpc`.
#[expect(missing_docs, reason = "generated code; the fields speak for themselves")]
pub mod ttrpc {
    include!(concat!(env!("OUT_DIR"), "/ttrpc.rs"));
}

/// A service by its name on the wire.
pub trait Named {
    /// That name.
    const NAME: &'static str;
}

/// A message that a method of a service takes.
pub trait Call<S: Named>: prost::Message {
    /// The method's name on the wire.
    const METHOD: &'static str;
    /// What it answers.
    type Answer: prost::Message + Default;
}

/// What plugins serve.
#[derive(Debug, Clone, Copy)]
pub enum Plugin {}

/// What the runtime serves to plugins.
#[derive(Debug, Clone, Copy)]
pub enum Runtime {}

impl Named for Plugin {
    const NAME: &'static str = "nri.pkg.api.v1alpha1.Plugin";
}

impl Named for Runtime {
    const NAME: &'static str = "nri.pkg.api.v1alpha1.Runtime";
}

#[cfg(test)]
mod tests {
    use super::v1alpha1::{RunPodSandboxRequest, UpdateContainersRequest};
    use super::{Call, Plugin, Runtime};

    #[test]
    fn a_request_knows_its_method() {
        assert_eq!(<RunPodSandboxRequest as Call<Plugin>>::METHOD, "RunPodSandbox");
        assert_eq!(<UpdateContainersRequest as Call<Runtime>>::METHOD, "UpdateContainers");
    }
}
