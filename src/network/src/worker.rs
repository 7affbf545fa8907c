//! The thread on which our own plugins run in-process. One is enough: the kernel serialises changes of links anyway. It
//! keeps their sockets open, because closing one after a deletion waits for the kernel (`networking` 8.3).

use crate::StartError;
use cringle_cni::context::Context;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::oneshot;

type Job = Box<dyn FnOnce(&mut Context) + Send>;

/// Where jobs are sent; the thread ends with it.
#[derive(Debug)]
pub(crate) struct Worker {
    jobs: Sender<Job>,
}

/// The worker did not finish a job: a bug in a plugin.
#[derive(Debug, thiserror::Error)]
#[error("the plugin ended abnormally")]
pub struct WorkerLost;

impl Worker {
    pub(crate) fn start(instance: &str) -> Result<Self, StartError> {
        let (jobs, queue) = channel();
        let instance = instance.to_owned();
        std::thread::Builder::new()
            .name("network".to_owned())
            .spawn(move || work(&queue, &instance))
            .map_err(|source| StartError::Thread { name: "network", source })?;
        Ok(Self { jobs })
    }

    /// Runs a job on the thread and waits for its answer.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Context) -> T + Send + 'static,
    ) -> Result<T, WorkerLost> {
        let (sender, receiver) = oneshot::channel();
        let job = Box::new(move |context: &mut Context| {
            // The caller may have gone; what was done stays done, and its record says what is owed.
            drop(sender.send(job(context)));
        });
        self.jobs.send(job).map_err(|_gone| WorkerLost)?;
        receiver.await.map_err(|_gone| WorkerLost)
    }
}

fn work(queue: &Receiver<Job>, instance: &str) {
    let mut context = Context::for_instance(instance);
    while let Ok(job) = queue.recv() {
        if catch_unwind(AssertUnwindSafe(|| job(&mut context))).is_err() {
            tracing::error!("a network plugin of ours panicked");
            // Its sockets may be half-way through a request.
            context = Context::for_instance(instance);
        }
    }
}
