//! Reading many things, for many who ask, without one that hangs.
//!
//! One round reads everything that anybody asked for before it began, each thing once. Who asks during a round is served
//! by the next one, so that no answer is older than its question. A round works in a thread of its own. When that makes no
//! progress for a while, the thing it is at hangs: another thread goes on with the rest, and the round ends without the
//! one that hangs, whose last reading stays.

use crate::index::Indexed;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// How long one reading may take before it counts as hanging; far more than any takes on a busy machine.
const STALL: Duration = Duration::from_millis(500);

/// How many readings of one round may hang before it leaves the rest unread.
const THREADS: usize = 4;

/// Readings of one kind of thing.
pub(crate) struct Rounds<T: Indexed> {
    name: &'static str,
    read: Box<dyn Fn(&T) + Send + Sync>,
    asked: Mutex<Asked<T>>,
    /// The number of the last round that is over.
    over: watch::Sender<u64>,
}

struct Asked<T> {
    next: BTreeMap<String, Arc<T>>,
    /// The number of rounds that began.
    begun: u64,
    runs: bool,
}

impl<T: Indexed> fmt::Debug for Rounds<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Rounds").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<T: Indexed + Send + Sync + 'static> Rounds<T> {
    /// Readings by that function, which returns at once if the same thing is being read already.
    pub(crate) fn new(name: &'static str, read: impl Fn(&T) + Send + Sync + 'static) -> Arc<Self> {
        let asked = Asked { next: BTreeMap::new(), begun: 0, runs: false };
        Arc::new(Self {
            name,
            read: Box::new(read),
            asked: Mutex::new(asked),
            over: watch::Sender::new(0),
        })
    }

    /// Returns when each of these things was read after this call began, or hangs.
    pub(crate) async fn read(self: &Arc<Self>, things: impl IntoIterator<Item = Arc<T>>) {
        let Some(round) = self.ask(things) else { return };
        // The sender is ours, so there is always an answer.
        drop(self.over.subscribe().wait_for(|over| *over >= round).await);
    }

    /// The number of the round that will read them; none if there is nothing to read.
    fn ask(self: &Arc<Self>, things: impl IntoIterator<Item = Arc<T>>) -> Option<u64> {
        let mut things = things.into_iter().peekable();
        things.peek()?;
        let mut asked = self.lock();
        asked.next.extend(things.map(|thing| (thing.id().to_owned(), thing)));
        if !asked.runs {
            asked.runs = true;
            // Ends with the last round that somebody asked for, or with the runtime.
            tokio::spawn(Arc::clone(self).run());
        }
        Some(asked.begun + 1)
    }

    async fn run(self: Arc<Self>) {
        while let Some((round, things)) = self.begin() {
            self.round(things).await;
            self.over.send_replace(round);
        }
    }

    fn begin(&self) -> Option<(u64, Vec<Arc<T>>)> {
        let mut asked = self.lock();
        let things: Vec<Arc<T>> = std::mem::take(&mut asked.next).into_values().collect();
        if things.is_empty() {
            asked.runs = false;
            return None;
        }
        asked.begun += 1;
        Some((asked.begun, things))
    }

    async fn round(self: &Arc<Self>, things: Vec<Arc<T>>) {
        let mut left = things.len();
        let queue = Arc::new(Mutex::new(things));
        let (done, mut progress) = mpsc::unbounded_channel();
        for _ in 0..THREADS {
            if self.start(&queue, &done).is_err() {
                tracing::warn!(what = self.name, "no thread for a reading");
                return;
            }
            while left > 0 {
                match tokio::time::timeout(STALL, progress.recv()).await {
                    Ok(Some(())) => left -= 1,
                    Ok(None) => return,
                    Err(_elapsed) => break,
                }
            }
            if left == 0 {
                return;
            }
            tracing::warn!(what = self.name, left, "a reading hangs");
            if lock(&queue).is_empty() {
                // Nothing that another thread could read.
                return;
            }
        }
    }

    /// A thread, not a task: what it reads may hang, and pods are looked at from inside their network namespaces.
    fn start(
        self: &Arc<Self>,
        queue: &Arc<Mutex<Vec<Arc<T>>>>,
        done: &mpsc::UnboundedSender<()>,
    ) -> std::io::Result<()> {
        let (rounds, queue, done) = (Arc::clone(self), Arc::clone(queue), done.clone());
        let work = move || {
            let next = || lock(&queue).pop();
            while let Some(thing) = next() {
                (rounds.read)(&thing);
                if done.send(()).is_err() {
                    // The round is over without us.
                    break;
                }
            }
        };
        std::thread::Builder::new().name("reading".to_owned()).spawn(work).map(drop)
    }

    fn lock(&self) -> MutexGuard<'_, Asked<T>> {
        // Nothing under this lock can panic half-way through a change.
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lock<T>(queue: &Mutex<Vec<Arc<T>>>) -> MutexGuard<'_, Vec<Arc<T>>> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ServiceError;
    use crate::stats::Gauge;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::mpsc as channel;

    #[derive(Debug)]
    struct Thing(String, Gauge<u64>);

    impl Indexed for Thing {
        type Name = String;
        fn id(&self) -> &str {
            &self.0
        }
        fn name(&self) -> String {
            self.0.clone()
        }
        fn absent(id: &str) -> ServiceError {
            ServiceError::NoSuchPod(id.to_owned())
        }
    }

    fn things<const N: usize>(names: [&str; N]) -> [Arc<Thing>; N] {
        names.map(|name| Arc::new(Thing(name.to_owned(), Gauge::default())))
    }

    /// Counts the readings of each thing.
    fn count(thing: &Thing) {
        thing.1.read(|last| Some(last.map_or(1, |last| last + 1)));
    }

    #[tokio::test]
    async fn who_asks_together_shares_a_round_and_who_asks_later_gets_a_new_one() {
        let rounds = Rounds::new("test", count);
        let all = things(["a", "b"]);
        let together = (0..10).map(|_| rounds.read(all.clone()));
        futures::future::join_all(together).await;
        // The first to ask may have been alone in its round.
        for thing in &all {
            let readings = thing.1.last().map(|count| *count);
            assert!(matches!(readings, Some(1 | 2)), "{readings:?}");
        }
        let before = all[0].1.last();
        rounds.read([Arc::clone(&all[0])]).await;
        assert_eq!(all[0].1.last().map(|count| *count), before.map(|count| *count + 1));
        rounds.read([]).await;
    }

    #[tokio::test]
    async fn a_round_of_which_only_what_hangs_is_left_is_over() {
        let (free, freed) = channel::channel::<()>();
        let freed = Mutex::new(freed);
        let rounds = Rounds::new("test", move |_: &Thing| {
            freed.lock().unwrap().recv().unwrap_err();
        });
        let round = rounds.read(things(["a"]));
        tokio::time::timeout(Duration::from_secs(60), round).await.unwrap();
        drop(free);
    }

    #[tokio::test]
    async fn a_thing_that_hangs_keeps_its_last_reading_and_the_others_get_new_ones() {
        let (free, freed) = channel::channel::<()>();
        let freed = Mutex::new(freed);
        let calls = AtomicU64::new(0);
        let rounds = Rounds::new("test", move |thing: &Thing| {
            // From its second reading on.
            let hangs = thing.0 == "b" && thing.1.last().is_some();
            thing.1.read(|last| {
                calls.fetch_add(1, Ordering::Relaxed);
                if hangs {
                    freed.lock().unwrap().recv().unwrap_err();
                }
                Some(last.map_or(1, |last| last + 1))
            });
        });
        let all = things(["a", "b", "c"]);
        for _ in 0..3 {
            rounds.read(all.clone()).await;
        }
        let readings = all.each_ref().map(|thing| *thing.1.last().unwrap());
        assert_eq!(readings, [3, 1, 3]);
        drop(free);
    }
}
