//! The clock of the store: a sample of every series at a fixed step, as a scrape would take it.

use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::SharedStore;

/// Time between two samples at the speed of the real world: a quarter of the shortest interval of an analysis.
const REAL_STEP: Duration = Duration::from_millis(2_500);
/// Shortest time between two samples: fine enough that a window of half a second holds several.
pub const SAMPLE_STEP: Duration = Duration::from_millis(100);

/// Time between two samples where time goes this many times as fast. Samples that came more often than anybody's would flatter
/// whatever is decided by them.
pub fn sample_step(speed: f64) -> Duration {
    REAL_STEP.div_f64(speed.max(1.0)).max(SAMPLE_STEP)
}

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
