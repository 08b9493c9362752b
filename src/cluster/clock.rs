//! What time it is.
//!
//! Deadlines are kept in objects and outlive processes and machines, so they are read by one clock: the API server's. Its
//! `Date` header says what it shows, and between two answers the monotonic clock counts on: a machine whose own clock is
//! wrong, or is set, moves nothing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use http::header::DATE;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tokio::time::Instant;

/// Resolution of a `Date` header: it names the second that has begun.
const DATE_RESOLUTION: Duration = Duration::from_secs(1);

/// Tells the time. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub enum Clock {
    /// This machine's, where no API server is asked.
    #[default]
    System,
    /// Starts at a given time and follows tokio's clock, so that tests can pause and advance it.
    Following {
        /// The time at `since`.
        start: Timestamp,
        /// When it started.
        since: Instant,
    },
    /// The API server's; see [`super::Cluster::clock`].
    Server(Arc<ServerTime>),
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
            Self::Following { start, since } => later(*start, since.elapsed()),
            Self::Server(time) => time.at(Instant::now()),
        }
    }

    /// Now, in the resolution of the API's `Time`, which is whole seconds.
    pub fn stamp(&self) -> Time {
        let now = self.now();
        Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
    }
}

/// What the API server's clock shows, as far as its answers tell.
#[derive(Debug)]
pub struct ServerTime(Mutex<Anchor>);

/// A time and the moment at which it was shown; the monotonic clock counts on from there.
#[derive(Debug, Clone, Copy)]
struct Anchor {
    shown: Timestamp,
    at: Instant,
}

impl Default for ServerTime {
    /// This machine's time, until an answer says better.
    fn default() -> Self {
        Self(Mutex::new(Anchor { shown: Timestamp::now(), at: Instant::now() }))
    }
}

impl ServerTime {
    fn at(&self, moment: Instant) -> Timestamp {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).time(moment)
    }

    /// Learns from an answer to a request that was sent at `sent` and has just come. The server's clock showed the header's
    /// second somewhere in between, so ours is moved as little as makes that possible: within a second or so both agree, and
    /// answers that bring nothing new change nothing.
    pub(super) fn learn(&self, headers: &HeaderMap, sent: Instant) {
        let date = headers.get(DATE).and_then(|date| date.to_str().ok());
        let Some(date) = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok()) else { return };
        let (earliest, came) = (date.timestamp(), Instant::now());
        let latest = later(earliest, DATE_RESOLUTION);
        let mut anchor = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if anchor.time(came) < earliest {
            *anchor = Anchor { shown: earliest, at: came };
        } else if anchor.time(sent) > latest {
            *anchor = Anchor { shown: latest, at: sent };
        }
    }
}

impl Anchor {
    fn time(self, moment: Instant) -> Timestamp {
        match moment.checked_duration_since(self.at) {
            Some(since) => later(self.shown, since),
            None => {
                let before = SignedDuration::try_from(self.at - moment).unwrap_or(SignedDuration::MAX);
                self.shown.checked_sub(before).unwrap_or(Timestamp::MIN)
            }
        }
    }
}

fn later(at: Timestamp, elapsed: Duration) -> Timestamp {
    let elapsed = SignedDuration::try_from(elapsed).unwrap_or(SignedDuration::MAX);
    at.checked_add(elapsed).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(date: &str) -> HeaderMap {
        [(DATE, date.parse().unwrap())].into_iter().collect()
    }

    async fn pass(millis: u64) {
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_api_servers_time_counts_whatever_this_machine_shows() {
        let time = Arc::new(ServerTime::default());
        let clock = Clock::Server(time.clone());
        // Two hours behind and a day ahead of this machine, wherever its clock is: the server is far from both.
        time.learn(&answer("Thu, 26 Nov 2020 10:00:00 GMT"), Instant::now());
        assert_eq!(clock.now().to_string(), "2020-11-26T10:00:01Z");
        pass(90_000).await;
        assert_eq!(clock.now().to_string(), "2020-11-26T10:01:31Z", "the monotonic clock counts on");
        time.learn(&answer("Tue, 26 Nov 2030 10:00:00 GMT"), Instant::now());
        assert_eq!(clock.now().to_string(), "2030-11-26T10:00:00Z");
    }

    #[tokio::test(start_paused = true)]
    async fn answers_that_fit_move_nothing_and_slow_ones_only_what_they_must() {
        let time = Arc::new(ServerTime::default());
        let clock = Clock::Server(time.clone());
        time.learn(&answer("Thu, 26 Nov 2020 10:00:00 GMT"), Instant::now());
        time.learn(&answer("Thu, 26 Nov 2020 10:00:00 GMT"), Instant::now());
        let before = clock.now();
        time.learn(&answer("Thu, 26 Nov 2020 10:00:01 GMT"), Instant::now());
        assert_eq!(clock.now(), before, "it is within the second that was named");
        // Ten seconds under way: the header was written at any time in between.
        let sent = Instant::now();
        pass(10_000).await;
        let before = clock.now();
        time.learn(&answer("Thu, 26 Nov 2020 10:00:05 GMT"), sent);
        assert_eq!(clock.now(), before);
        for garbage in ["", "yesterday", "26 Nov 2020"] {
            time.learn(&answer(garbage), Instant::now());
            assert_eq!(clock.now(), before, "{garbage:?}");
        }
    }
}
