//! Memory that a burst of work leaves behind is given back to the kernel.
//!
//! What hundreds of clients needed at once is free when they have left, but in pieces between what stays, and malloc keeps
//! it for ever. So now and then all pages with nothing in them are given back, which takes about a millisecond. Why not only
//! after a burst: how much of what is in memory is free, and was not given back before, nobody knows.

use cringle_kernel::memory;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// How often that is done.
const PERIOD: Duration = Duration::from_secs(10);

/// Gives back what is free, again and again. Whoever runs it ends it.
pub async fn keep_small() {
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = memory::give_back() {
            let error = crate::error::chain(&error);
            return tracing::warn!(error, "free memory is not given back");
        }
    }
}
