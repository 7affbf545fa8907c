//! What happens to pods and containers, told to those who subscribed, with the statuses of that moment.
//!
//! The journal is the witness of every [`Tracked`](cringle_store::tracked::Tracked) object: a change is shown to readers and
//! put into the sequence under one lock, so that the order of events is the order of the changes over all objects, and no
//! change can miss its event. The statuses of an event are the published records as they are under that lock. The lock is
//! held for a few look-ups in memory, never for a file or an await.
//!
//! Nothing is replayed: who subscribes gets what happens from then on, and looks at the lists for what was before. What
//! happened while the daemon was not there is in the records when it is back, before anybody can subscribe.

mod feed;
mod standing;

pub use feed::{Ended, Subscription};
pub use standing::Happening;

use crate::clock::Clock;
use crate::container::Container;
use crate::index::Index;
use crate::pod::Pod;
use crate::{Service, ServiceError, container, pod};
use cringle_domain::container::ContainerRecord;
use cringle_domain::id::PodId;
use cringle_domain::pod::PodRecord;
use cringle_domain::time::Timestamp;
use cringle_store::tracked::Witness;
use feed::Feed;
use standing::Standing;
use std::cmp::Reverse;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many events a subscriber may be behind: a thousand containers created and started in one go.
const PATIENCE: usize = 2048;

/// Something that happened to a pod or a container.
#[derive(Debug, Clone)]
pub struct Event {
    /// What.
    pub happening: Happening,
    /// To whom: the id of a container, or of the pod itself.
    pub subject: String,
    /// The pod and its containers in that moment; what was deleted as it last was.
    pub moment: Moment,
}

/// A pod and its containers as they were at one time.
#[derive(Debug, Clone)]
pub struct Moment {
    /// That time. Later moments have later times, whatever the clock of the machine does.
    pub at: Timestamp,
    /// The pod; absent if it is not to be seen.
    pub pod: Option<Arc<PodRecord>>,
    /// Its containers that are to be seen, newest first: of those of one name a kubelet takes the first for the last one.
    pub containers: Vec<Arc<ContainerRecord>>,
}

/// The one order of all changes.
#[derive(Debug)]
pub(crate) struct Journal {
    clock: Clock,
    pods: Arc<Index<Pod>>,
    containers: Arc<Index<Container>>,
    order: Mutex<Order>,
}

#[derive(Debug)]
struct Order {
    /// The time of the last moment.
    last: u64,
    feed: Feed<Arc<Event>>,
}

impl Journal {
    /// A journal of these objects.
    pub(crate) fn new(
        clock: Clock,
        pods: Arc<Index<Pod>>,
        containers: Arc<Index<Container>>,
    ) -> Self {
        let order = Mutex::new(Order { last: 0, feed: Feed::new(PATIENCE) });
        Self { clock, pods, containers, order }
    }

    /// Shows a new container to everybody.
    pub(crate) fn appear(&self, container: Arc<Container>) {
        let mut order = self.lock();
        let record = container.record();
        self.containers.insert(container);
        self.tell_container(&mut order, Standing::Absent, &record, &record);
    }

    fn tell_container(
        &self,
        order: &mut Order,
        before: Standing,
        last: &Arc<ContainerRecord>,
        after: &ContainerRecord,
    ) {
        for happening in
            standing::happenings(before, Standing::of_container(&after.phase)).iter().copied()
        {
            if !order.feed.is_heard() {
                return;
            }
            let mut moment = self.moment(order, &after.pod);
            if happening == Happening::Deleted {
                moment.containers.push(Arc::clone(last));
                newest_first(&mut moment.containers);
            }
            order.say(happening, after.id.as_str(), moment);
        }
    }

    fn tell_pod(&self, order: &mut Order, before: &Arc<PodRecord>, after: &PodRecord) {
        let (from, to) = (Standing::of_pod(&before.phase), Standing::of_pod(&after.phase));
        for happening in standing::happenings(from, to).iter().copied() {
            if !order.feed.is_heard() {
                return;
            }
            let mut moment = self.moment(order, &after.id);
            if happening == Happening::Deleted {
                moment.pod = Some(Arc::clone(before));
            }
            order.say(happening, after.id.as_str(), moment);
        }
    }

    /// The moment now: nothing changes while the order is held.
    fn moment(&self, order: &mut Order, pod: &PodId) -> Moment {
        let found = self.pods.find(pod.as_str()).ok().map(|pod| pod.record());
        let own = self.containers.filtered(|container| container.pod_id() == pod);
        let records = own.iter().map(|container| container.record());
        let seen = records.filter(|record| container::list::is_visible(&record.phase));
        let mut containers: Vec<_> = seen.collect();
        newest_first(&mut containers);
        Moment {
            at: order.stamp(self.clock.now()),
            pod: found.filter(|record| pod::list::is_visible(&record.phase)),
            containers,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Order> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn newest_first(containers: &mut [Arc<ContainerRecord>]) {
    containers.sort_by_key(|container| Reverse(container.created));
}

impl Order {
    /// A time after all that were given.
    fn stamp(&mut self, now: Timestamp) -> Timestamp {
        self.last = now.nanoseconds().max(self.last + 1);
        Timestamp::from_nanoseconds(self.last)
    }

    fn say(&mut self, happening: Happening, subject: &str, moment: Moment) {
        self.feed.say(Arc::new(Event { happening, subject: subject.to_owned(), moment }));
    }
}

impl Witness<PodRecord> for Journal {
    fn witness(&self, before: &Arc<PodRecord>, after: &Arc<PodRecord>, show: &dyn Fn()) {
        let mut order = self.lock();
        show();
        self.tell_pod(&mut order, before, after);
    }
}

impl Witness<ContainerRecord> for Journal {
    fn witness(
        &self,
        before: &Arc<ContainerRecord>,
        after: &Arc<ContainerRecord>,
        show: &dyn Fn(),
    ) {
        let mut order = self.lock();
        show();
        self.tell_container(&mut order, Standing::of_container(&before.phase), before, after);
    }
}

impl Service {
    /// Everything that happens from now on.
    pub fn subscribe(&self) -> Subscription<Arc<Event>> {
        self.journal.lock().feed.subscribe()
    }

    /// How many subscribers there are.
    #[must_use]
    pub fn subscribers(&self) -> usize {
        self.journal.lock().feed.subscribers()
    }

    /// Ends all subscriptions, for the daemon ends.
    pub fn end_events(&self) {
        self.journal.lock().feed.close();
    }

    /// A pod, found by id or a unique beginning of it, and it with its containers at one place in the order of all events.
    ///
    /// # Errors
    /// If there is none that clients may see.
    pub fn pod_moment(&self, id: &str) -> Result<(Arc<PodRecord>, Moment), ServiceError> {
        let mut order = self.journal.lock();
        let pod = self.pod(id)?;
        let moment = self.journal.moment(&mut order, &pod.id);
        Ok((pod, moment))
    }
}
