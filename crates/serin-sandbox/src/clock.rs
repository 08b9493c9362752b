//! What time it is in the world.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tokio::time::Instant;

/// A clock that runs with tokio's, so that tests can pause and advance the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// The time at `since`.
    pub start: Timestamp,
    /// When it started.
    pub since: Instant,
}

impl Clock {
    /// A clock that shows `start` now.
    pub fn following(start: Timestamp) -> Self {
        Self { start, since: Instant::now() }
    }

    /// Now.
    pub fn now(&self) -> Timestamp {
        let elapsed = SignedDuration::try_from(self.since.elapsed()).unwrap_or(SignedDuration::MAX);
        self.start.checked_add(elapsed).unwrap_or(Timestamp::MAX)
    }

    /// Now, in the resolution of the API's `Time`, which is whole seconds.
    pub fn stamp(&self) -> Time {
        let now = self.now();
        Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
    }
}
