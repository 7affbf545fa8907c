//! How far an operation is: for who is refused because of it, and for the log when its client has left.

use crate::metrics::Stage;
use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

tokio::task_local! {
    static OWN: Arc<Progress>;
}

/// An operation under way.
#[derive(Debug)]
pub struct Progress {
    since: Instant,
    stage: Mutex<&'static str>,
    /// Whether the client that it was begun for has left.
    unheard: AtomicBool,
}

/// How far it was at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SoFar {
    /// What it was doing: the name of a [`Stage`], or of what comes before and after them.
    pub stage: &'static str,
    /// How long it has been going on.
    pub age: Duration,
}

impl Default for Progress {
    fn default() -> Self {
        Self { since: Instant::now(), stage: Mutex::new("begin"), unheard: AtomicBool::new(false) }
    }
}

impl Progress {
    /// How far it is now.
    #[must_use]
    pub fn so_far(&self) -> SoFar {
        let stage = *self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        SoFar { stage, age: self.since.elapsed() }
    }

    /// The client that it was begun for leaves.
    pub fn leave(&self) {
        self.unheard.store(true, Ordering::Release);
    }

    /// Whether the client that it was begun for has left. Others may still wait.
    #[must_use]
    pub fn is_unheard(&self) -> bool {
        self.unheard.load(Ordering::Acquire)
    }

    /// Runs the operation whose progress this is.
    pub async fn of<T>(self: Arc<Self>, operation: impl Future<Output = T>) -> T {
        OWN.scope(self, operation).await
    }
}

/// The operation that this task carries out, if it is one, is at that stage.
pub(crate) fn enter(stage: Stage) {
    enter_named(stage.name());
}

/// It gives back what it took, for it failed.
pub(crate) fn enter_undoing() {
    enter_named("undo");
}

fn enter_named(stage: &'static str) {
    // Outside an operation nobody asks.
    let _outside = OWN.try_with(|progress| {
        *progress.stage.lock().unwrap_or_else(PoisonError::into_inner) = stage;
    });
}

impl fmt::Display for SoFar {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "for {:.1} s, at stage \"{}\"", self.age.as_secs_f64(), self.stage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_operation_tells_its_last_stage_to_others() {
        let progress = Arc::new(Progress::default());
        assert_eq!(progress.so_far().stage, "begin");
        let operation = async {
            enter(Stage::PodNetwork);
            "done"
        };
        assert_eq!(Arc::clone(&progress).of(operation).await, "done");
        enter_undoing();
        assert_eq!(progress.so_far().stage, "pod_network");
        let text = SoFar { stage: "undo", age: Duration::from_millis(2_340) }.to_string();
        assert_eq!(text, "for 2.3 s, at stage \"undo\"");
    }
}
