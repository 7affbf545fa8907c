//! The thread that takes away what nobody needs: layers of removed images, and what is in the trash.
//!
//! It runs when it's woken, and what it fails at is left to the next time or the next start. It ends when the store does.

use crate::state::Store;
use std::io;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Weak};

/// How to wake the thread.
#[derive(Debug)]
pub(crate) struct Sweeper {
    orders: Sender<Order>,
}

/// The other end, before there is a thread.
#[derive(Debug)]
pub(crate) struct Orders(Receiver<Order>);

#[derive(Debug)]
enum Order {
    Sweep,
    /// Sweep, and say when it's done.
    SweepAndTell(SyncSender<()>),
}

impl Sweeper {
    pub(crate) fn new() -> (Self, Orders) {
        let (orders, receiver) = channel();
        (Self { orders }, Orders(receiver))
    }

    /// Something may be unneeded now.
    pub(crate) fn wake(&self) {
        // Without a thread the next start sweeps.
        let _ended = self.orders.send(Order::Sweep);
    }

    /// Waits until all that is unneeded now is gone.
    pub(crate) fn finish(&self) {
        let (done, wait) = sync_channel(1);
        // An error means that the thread has ended, and then there's nothing to wait for.
        let _ended = self.orders.send(Order::SweepAndTell(done));
        let _ended = wait.recv();
    }
}

impl Orders {
    /// Starts the thread. It isn't joined: it ends with the store, whose last owner it may be for a moment itself.
    pub(crate) fn serve(self, store: &Arc<Store>) -> io::Result<()> {
        let store = Arc::downgrade(store);
        std::thread::Builder::new()
            .name("image-sweeper".to_owned())
            .spawn(move || self.run(&store))?;
        Ok(())
    }

    fn run(&self, store: &Weak<Store>) {
        while let Ok(first) = self.0.recv() {
            let mut waiting = Vec::new();
            // One sweep serves all orders that are there.
            for order in std::iter::once(first).chain(self.0.try_iter()) {
                match order {
                    Order::Sweep => {}
                    Order::SweepAndTell(done) => waiting.push(done),
                }
            }
            let Some(store) = store.upgrade() else { return };
            store.collect();
            if let Err(error) = store.trash.empty() {
                tracing::warn!(%error, "failed to empty the image store's trash; the next sweep will");
            }
            for done in waiting {
                // Whoever asked may have left.
                let _left = done.send(());
            }
        }
    }
}
