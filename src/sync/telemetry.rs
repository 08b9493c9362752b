//! Sync's own metrics.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// Upper end of the first bucket, in seconds: a probe of a repository on this machine.
const FIRST_BUCKET: f64 = 0.005;
/// Buckets, each twice as wide as the one before: up to three minutes.
const BUCKETS: u16 = 16;

/// What came of a turn.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Came {
    result: &'static str,
}

/// Handles to the metrics. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Telemetry {
    turns: Family<Came, Counter>,
    git: Histogram,
    pass: Histogram,
}

impl Default for Telemetry {
    fn default() -> Self {
        let buckets = || Histogram::new(exponential_buckets(FIRST_BUCKET, 2.0, BUCKETS));
        Self { turns: Family::default(), git: buckets(), pass: buckets() }
    }
}

impl Telemetry {
    /// Registers everything.
    pub fn register(registry: &mut Registry) -> Self {
        let new = Self::default();
        registry.register("serin_sync_turns", "Looks at the repository, by what came of them", new.turns.clone());
        registry.register("serin_git_look_seconds", "Time that a look at the repository took", new.git.clone());
        registry.register("serin_sync_pass_seconds", "Time that applying what is new took", new.pass.clone());
        new
    }

    /// A look at the repository took so long.
    pub(super) fn looked(&self, time: Duration, failed: bool) {
        self.git.observe(time.as_secs_f64());
        if failed {
            self.came("unreachable");
        }
    }

    /// There was nothing to do.
    pub(super) fn rested(&self) {
        self.came("unchanged");
    }

    /// A pass took so long.
    pub(super) fn passed(&self, time: Duration, interrupted: bool) {
        self.pass.observe(time.as_secs_f64());
        self.came(if interrupted { "interrupted" } else { "applied" });
    }

    fn came(&self, result: &'static str) {
        self.turns.get_or_create(&Came { result }).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_counted_by_what_came_of_them_and_timed() {
        let mut registry = Registry::default();
        let telemetry = Telemetry::register(&mut registry);
        telemetry.looked(Duration::from_millis(20), false);
        telemetry.rested();
        telemetry.looked(Duration::from_millis(20), true);
        telemetry.passed(Duration::from_secs(2), false);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "serin_sync_turns_total{result=\"unchanged\"} 1",
            "serin_sync_turns_total{result=\"unreachable\"} 1",
            "serin_sync_turns_total{result=\"applied\"} 1",
            "serin_git_look_seconds_count 2",
            "serin_sync_pass_seconds_sum 2.0",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
    }
}
