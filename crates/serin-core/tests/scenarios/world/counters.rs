//! What the router counts: so many requests a second, of which so many fail, from the beginning of time. It follows from the time
//! alone, so whoever reads it again reads the same.

use std::time::Duration;

use jiff::Timestamp;
use serin_core::analysis::compare::{
    Cell, Comparison, Counted, Counts, HISTORY, History, LookAt, Looked, Noise, Standing,
};

/// Seconds between two samples.
const STEP: i64 = 15_000;
/// The candidate's share of all requests, whatever the route says.
const SHARE: f64 = 0.1;

/// Counters of both sides.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Counters {
    /// Requests a second.
    pub(crate) rate: f64,
    /// Share of the candidate's that fail.
    pub(crate) canary: f64,
    /// Share of primary's.
    pub(crate) primary: f64,
    /// Seconds of primary's past that are known.
    pub(crate) past: u64,
}

impl Default for Counters {
    fn default() -> Self {
        Self { rate: 20.0, canary: 0.0, primary: 0.0, past: HISTORY }
    }
}

impl Counters {
    pub(crate) fn look(&self, look: &LookAt, now: Timestamp) -> Looked {
        let (first, last) = (look.since.div_euclid(STEP), now.as_millisecond().div_euclid(STEP));
        let counts = |requests: f64, fails: f64| (requests, requests * fails);
        let (canary, canary_failed) = counts(self.rate * SHARE * STEP as f64 / 1000.0, self.canary);
        let (primary, primary_failed) = counts(self.rate * (1.0 - SHARE) * STEP as f64 / 1000.0, self.primary);
        let of_cell = Counts { canary, canary_failed, primary, primary_failed };
        Looked {
            cells: (first..last).map(|cell| Cell::new(cell * STEP, (cell + 1) * STEP, of_cell)).collect(),
            step: STEP,
            newest: Some(last * STEP),
            observers: vec!["gateway".to_owned()],
            left_out: 0,
        }
    }

    pub(crate) fn history(&self) -> History {
        let noise = Noise { factor: 1.0, failures: 0.0, covered: self.past, pods: 2 };
        History { noise, rate: self.rate, failed: self.primary }
    }
}

/// A plan as a Canary's is.
pub(crate) fn plan(standing: Standing) -> Comparison {
    let seconds = Duration::from_secs;
    Comparison {
        standing,
        caveat: None,
        counted: Counted::ByRouter,
        noise: None,
        speed: 1.0,
        waits: (seconds(2), seconds(15)),
        settles: seconds(1),
        coarse: seconds(30),
        history: seconds(HISTORY),
        reach: seconds(900),
        patience: seconds(30),
    }
}
