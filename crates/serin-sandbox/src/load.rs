//! How busy pods are: written by those who answer for them, read by what a cluster's metrics server would feed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What a rate is counted over.
const SECOND: Duration = Duration::from_secs(1);

/// Requests of one pod, in the second under way and in the one before it.
#[derive(Debug)]
struct Meter {
    capacity: u32,
    since: Instant,
    taken: u32,
    before: u32,
}

/// The pods' load by their address; cheap to clone, all clones share one table.
#[derive(Debug, Clone, Default)]
pub struct Loads(Arc<Mutex<HashMap<String, Meter>>>);

impl Loads {
    /// Counts a request at a pod with that many requests a second as capacity; whether it is within it.
    pub(crate) fn take(&self, address: &str, capacity: u32, now: Instant) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let meter = all.entry(address.to_owned()).or_insert(Meter { capacity, since: now, taken: 0, before: 0 });
        meter.advance(now);
        meter.taken = meter.taken.saturating_add(1);
        meter.taken <= capacity
    }

    /// Forgets a pod.
    pub(crate) fn forget(&self, address: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(address);
    }

    /// The share of its capacity that a pod used in the last full second; `None` when it has none, or had no request yet.
    pub(crate) fn of(&self, address: &str, now: Instant) -> Option<f64> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let meter = all.get_mut(address)?;
        meter.advance(now);
        Some(f64::from(meter.before) / f64::from(meter.capacity.max(1)))
    }
}

impl PartialEq for Loads {
    /// Whether they are the same table.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Meter {
    fn advance(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.since);
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
}
