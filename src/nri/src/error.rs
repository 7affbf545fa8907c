//! Why plugins keep an operation from being done.

use crate::connection::AskError;

/// An operation that a plugin, or two of them, do not let be done.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// A plugin answered with an error. Code FailedPrecondition.
    #[error("NRI plugin \"{plugin}\" refused {hook}")]
    Refused {
        /// The plugin.
        plugin: String,
        /// What it was asked.
        hook: &'static str,
        /// What it said.
        #[source]
        source: AskError,
    },
    /// A plugin that wants requests to fail if it can't answer did not answer. Code Unavailable.
    #[error("NRI plugin \"{plugin}\" did not answer {hook}")]
    Unanswered {
        /// The plugin.
        plugin: String,
        /// What it was asked.
        hook: &'static str,
        /// How it failed.
        #[source]
        source: AskError,
    },
    /// Two plugins set the same. Code FailedPrecondition.
    #[error("NRI plugins \"{first}\" and \"{second}\" both set {what}")]
    Conflict {
        /// The plugin that was asked first.
        first: String,
        /// The other one.
        second: String,
        /// What both set.
        what: String,
    },
    /// A plugin asked for more entries of a field than are taken. Code FailedPrecondition.
    #[error(
        "NRI plugin \"{plugin}\" asked for {count} entries of {what}; {most} at most are taken"
    )]
    TooMany {
        /// The plugin.
        plugin: String,
        /// The field.
        what: String,
        /// How many it asked for.
        count: usize,
        /// How many are taken.
        most: usize,
    },
    /// A plugin asked for an update of the container that it was asked to adjust. Code FailedPrecondition.
    #[error(
        "NRI plugin \"{plugin}\" asked for an update of container {container} while that is created"
    )]
    UpdateOfTheNew {
        /// The plugin.
        plugin: String,
        /// The container.
        container: String,
    },
    /// A validator rejects what plugins want. Code PermissionDenied.
    #[error("NRI validator \"{validator}\" rejected the container: {reason}")]
    Rejected {
        /// The validator.
        validator: String,
        /// What it said.
        reason: String,
    },
}
