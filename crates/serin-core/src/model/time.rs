//! Arithmetic on timestamps that cannot fail.

use std::time::Duration;

use jiff::Timestamp;

/// `at` plus `duration`; beyond the calendar's end, its end.
pub fn after(at: Timestamp, duration: Duration) -> Timestamp {
    at.checked_add(duration).unwrap_or(Timestamp::MAX)
}

/// From `earlier` to `later`; zero if they are the other way round.
pub fn between(earlier: Timestamp, later: Timestamp) -> Duration {
    Duration::try_from(later.duration_since(earlier)).unwrap_or(Duration::ZERO)
}
