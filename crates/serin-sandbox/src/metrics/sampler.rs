//! The clock of the store: a sample of every series at a fixed step, as a scrape would take it.

use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::SharedStore;

/// Time between two samples: fine enough that a window of half a second holds several.
pub const SAMPLE_STEP: Duration = Duration::from_millis(100);

/// Samples until shut down.
pub async fn run(store: SharedStore, step: Duration, shutdown: CancellationToken) {
    let mut ticks = tokio::time::interval(step);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => store.lock().sample(now_ms()),
        }
    }
}

/// Milliseconds since the epoch.
pub(super) fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
