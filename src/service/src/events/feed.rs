//! One sequence, many subscribers: each gets everything from its subscription on, in order, or is told how much it missed.
//!
//! Nothing is kept for nobody: without a subscriber there is no buffer. With subscribers there is one for all of them, of a
//! fixed size; who does not read for that long has lost the sequence and is cut off, so that a stuck client costs no more
//! memory than this and no other subscriber anything.

use tokio::sync::broadcast::{self, error::RecvError};

/// Where a sequence is said.
#[derive(Debug)]
pub(super) struct Feed<T> {
    length: usize,
    sender: Option<broadcast::Sender<T>>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Closed,
}

/// One subscriber's place in a sequence. Dropped, it is freed.
#[derive(Debug)]
pub struct Subscription<T>(broadcast::Receiver<T>);

/// Why a subscription gives nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Its subscriber did not read for so long that this many are gone.
    FellBehind(u64),
    /// The sequence is at its end.
    Closed,
}

impl<T: Clone> Feed<T> {
    /// A sequence of which at least the last `length` are kept for a slow subscriber.
    pub(super) fn new(length: usize) -> Self {
        Self { length, sender: None, state: State::Open }
    }

    /// Whether anybody listens. If nobody does any more, the buffer is let go of.
    pub(super) fn is_heard(&mut self) -> bool {
        self.sender.take_if(|sender| sender.receiver_count() == 0);
        self.sender.is_some()
    }

    /// How many listen.
    pub(super) fn subscribers(&self) -> usize {
        self.sender.as_ref().map_or(0, broadcast::Sender::receiver_count)
    }

    /// Says the next one to those who listen.
    pub(super) fn say(&mut self, one: T) {
        if let Some(sender) = &self.sender
            && let Err(_unheard) = sender.send(one)
        {
            self.sender = None;
        }
    }

    /// A subscription to what is said from now on.
    pub(super) fn subscribe(&mut self) -> Subscription<T> {
        if self.state == State::Closed {
            // Its sender is dropped here, so that it ends at once.
            return Subscription(broadcast::channel(1).1);
        }
        let length = self.length;
        let sender = self.sender.get_or_insert_with(|| broadcast::channel(length).0);
        Subscription(sender.subscribe())
    }

    /// Ends it for those who listen, after what was said, and for those who come.
    pub(super) fn close(&mut self) {
        self.state = State::Closed;
        self.sender = None;
    }
}

impl<T: Clone> Subscription<T> {
    /// The next one.
    ///
    /// # Errors
    /// If there is none to come; then no further call gives one that belongs to the same sequence.
    pub async fn next(&mut self) -> Result<T, Ended> {
        self.0.recv().await.map_err(|error| match error {
            RecvError::Lagged(count) => Ended::FellBehind(count),
            RecvError::Closed => Ended::Closed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_subscriber_gets_everything_since_it_came_in_order() {
        let mut feed = Feed::new(8);
        feed.say(0);
        let mut early = feed.subscribe();
        feed.say(1);
        let mut late = feed.subscribe();
        feed.say(2);
        feed.close();
        assert_eq!([early.next().await, early.next().await], [Ok(1), Ok(2)]);
        assert_eq!(late.next().await, Ok(2));
        assert_eq!(early.next().await, Err(Ended::Closed));
        assert_eq!(late.next().await, Err(Ended::Closed));
        assert_eq!(feed.subscribe().next().await, Err(Ended::Closed));
    }

    #[tokio::test]
    async fn who_falls_behind_is_told_by_how_much_and_nobody_else_loses_anything() {
        let mut feed = Feed::new(4);
        let mut slow = feed.subscribe();
        let mut quick = feed.subscribe();
        for number in 0..7 {
            feed.say(number);
            assert_eq!(quick.next().await, Ok(number));
        }
        assert_eq!(slow.next().await, Err(Ended::FellBehind(3)));
    }

    #[test]
    fn a_subscriber_that_leaves_is_freed_and_the_last_one_takes_the_buffer_along() {
        let mut feed = Feed::<u8>::new(4);
        assert!(!feed.is_heard());
        let (first, second) = (feed.subscribe(), feed.subscribe());
        assert_eq!(feed.subscribers(), 2);
        drop(first);
        assert_eq!(feed.subscribers(), 1);
        assert!(feed.is_heard());
        drop(second);
        assert!(!feed.is_heard());
        assert!(feed.sender.is_none(), "the buffer is still there");
    }
}
