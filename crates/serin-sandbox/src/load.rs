//! How busy pods are: written by those who answer for them, read by what a cluster's metrics server would feed.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What a rate is counted over.
const SECOND: Duration = Duration::from_secs(1);

/// Requests of one pod, in the second under way and in the one before it.
#[derive(Debug)]
struct Meter {
    capacity: u32,
    since: Duration,
    taken: u32,
    before: u32,
}

/// What a second is.
#[derive(Debug, Clone, Copy)]
enum Second {
    /// One of the clock's, which is counted from here.
    Passes(Instant),
    /// So many requests, at whatever pods.
    Counts(u32),
}

#[derive(Debug)]
struct Table {
    second: Second,
    requests: u64,
    meters: HashMap<String, Meter>,
}

/// The pods' load by their address; cheap to clone, all clones share one table.
#[derive(Debug, Clone)]
pub struct Loads(Arc<Mutex<Table>>);

impl Default for Loads {
    fn default() -> Self {
        Self::of_second(Second::Passes(Instant::now()))
    }
}

impl Loads {
    /// A second is over with every so many requests, so that a busy machine, on which they come more slowly, changes nothing.
    pub fn counting(requests: NonZeroU32) -> Self {
        Self::of_second(Second::Counts(requests.get()))
    }

    fn of_second(second: Second) -> Self {
        Self(Arc::new(Mutex::new(Table { second, requests: 0, meters: HashMap::new() })))
    }

    /// Counts a request at a pod with that many requests a second as capacity; whether it is within it.
    pub(crate) fn take(&self, address: &str, capacity: u32, now: Instant) -> bool {
        let mut table = self.table();
        table.requests += 1;
        let now = table.time(now);
        let new = || Meter { capacity, since: now, taken: 0, before: 0 };
        let meter = table.meters.entry(address.to_owned()).or_insert_with(new);
        meter.advance(now);
        meter.taken = meter.taken.saturating_add(1);
        meter.taken <= capacity
    }

    /// Forgets a pod.
    pub(crate) fn forget(&self, address: &str) {
        self.table().meters.remove(address);
    }

    /// The share of its capacity that a pod used in the last full second; `None` when it has none, or had no request yet.
    pub(crate) fn of(&self, address: &str, now: Instant) -> Option<f64> {
        let mut table = self.table();
        let now = table.time(now);
        let meter = table.meters.get_mut(address)?;
        meter.advance(now);
        Some(f64::from(meter.before) / f64::from(meter.capacity.max(1)))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PartialEq for Loads {
    /// Whether they are the same table.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Table {
    fn time(&self, now: Instant) -> Duration {
        match self.second {
            Second::Passes(since) => now.saturating_duration_since(since),
            Second::Counts(requests) => Duration::from_secs_f64(self.requests as f64 / f64::from(requests)),
        }
    }
}

impl Meter {
    fn advance(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.since);
        if passed >= SECOND {
            self.before = if passed < 2 * SECOND { self.taken } else { 0 };
            (self.since, self.taken) = (now, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_takes_what_it_can_and_says_how_busy_it_was() {
        let loads = Loads::default();
        let start = Instant::now();
        assert_eq!((0..30).filter(|_| loads.take("10.0.0.1", 20, start)).count(), 20);
        assert_eq!(loads.of("10.0.0.1", start), Some(0.0));
        assert_eq!(loads.of("10.0.0.1", start + SECOND), Some(1.5));
        assert!(loads.take("10.0.0.1", 20, start + SECOND));
        assert_eq!(loads.of("10.0.0.1", start + 9 * SECOND), Some(0.0));
        assert_eq!(loads.of("10.0.0.2", start), None);
        loads.forget("10.0.0.1");
        assert_eq!(loads.of("10.0.0.1", start), None);
    }

    #[test]
    fn a_second_may_be_so_many_requests() {
        let (loads, now) = (Loads::counting(NonZeroU32::new(10).unwrap()), Instant::now());
        let mut taken = 0;
        for _ in 0..10 {
            taken += u32::from(loads.take("10.0.0.1", 3, now));
            loads.take("10.0.0.2", 9, now);
        }
        assert_eq!(taken, 6, "three in each of two seconds");
    }
}
