//! What time it is.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tokio::time::Instant;

/// Wall-clock time, or time that runs with tokio's clock so that tests can pause and advance it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Clock {
    /// The system's.
    #[default]
    System,
    /// Starts at a given time and follows tokio's clock.
    Following {
        /// The time at `since`.
        start: Timestamp,
        /// When it started.
        since: Instant,
    },
}

impl Clock {
    /// A clock that shows `start` now and follows tokio's clock from here.
    pub fn following(start: Timestamp) -> Self {
        Self::Following { start, since: Instant::now() }
    }

    /// Now.
    pub fn now(&self) -> Timestamp {
        match self {
            Self::System => Timestamp::now(),
            Self::Following { start, since } => {
                let elapsed = SignedDuration::try_from(since.elapsed()).unwrap_or(SignedDuration::MAX);
                start.checked_add(elapsed).unwrap_or(Timestamp::MAX)
            }
        }
    }

    /// Now, in the resolution of the API's `Time`, which is whole seconds.
    pub fn stamp(&self) -> Time {
        let now = self.now();
        Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
    }
}
