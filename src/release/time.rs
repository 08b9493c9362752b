//! Arithmetic on timestamps that cannot fail.

use std::time::Duration;

use jiff::Timestamp;

use super::observed::WorkloadObserved;

/// `at` plus `duration`; beyond the calendar's end, its end.
pub(super) fn after(at: Timestamp, duration: Duration) -> Timestamp {
    at.checked_add(duration).unwrap_or(Timestamp::MAX)
}

/// Kubernetes writes condition times in whole seconds, so the true one may be this much later.
const CONDITION_STEP: Duration = Duration::from_secs(1);

/// When a side that is not ready has had its time: `limit` after it began, or after its rollout last made progress.
pub(super) fn ready_deadline(since: Timestamp, side: Option<&WorkloadObserved>, limit: Duration) -> Timestamp {
    let progressed = side.and_then(|side| side.progressed).map(|at| after(at, CONDITION_STEP));
    after(progressed.map_or(since, |at| at.max(since)), limit)
}

/// From `earlier` to `later`; zero if they are the other way round.
pub(super) fn between(earlier: Timestamp, later: Timestamp) -> Duration {
    Duration::try_from(later.duration_since(earlier)).unwrap_or(Duration::ZERO)
}
