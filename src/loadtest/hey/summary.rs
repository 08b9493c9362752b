//! What a run came to, printed as `hey` prints it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Latencies kept, hey's own limit.
const LATENCIES_MAX: usize = 1_000_000;
/// Different errors kept; more are counted under one heading.
const ERRORS_MAX: usize = 100;
/// Bars of the histogram.
const BARS: usize = 10;
/// Characters of the longest bar.
const BAR_WIDTH: usize = 40;
/// Percentiles printed.
const PERCENTILES: [usize; 7] = [10, 25, 50, 75, 90, 95, 99];

/// One answered request.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) bytes: u64,
    pub(super) took: Duration,
}

/// The result of a run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Summary {
    /// How long the run took.
    pub total: Duration,
    /// Answers by status code.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests without an answer, by error.
    pub errors: BTreeMap<String, u64>,
    bytes: u64,
    latencies: Vec<Duration>,
}

impl Summary {
    pub(super) fn answered(&mut self, answer: Answer) {
        let Answer { status, bytes, took } = answer;
        *self.statuses.entry(status).or_default() += 1;
        self.bytes += bytes;
        if self.latencies.len() < LATENCIES_MAX {
            self.latencies.push(took);
        }
    }

    pub(super) fn failed(&mut self, error: String) {
        self.failures(error, 1);
    }

    fn failures(&mut self, error: String, count: u64) {
        let known = self.errors.contains_key(&error) || self.errors.len() < ERRORS_MAX;
        let key = if known { error } else { "other errors".to_owned() };
        *self.errors.entry(key).or_default() += count;
    }

    pub(super) fn merge(&mut self, other: Self) {
        let Self { total, statuses, errors, bytes, latencies } = other;
        self.total = self.total.max(total);
        for (status, count) in statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        for (error, count) in errors {
            self.failures(error, count);
        }
        self.bytes += bytes;
        let room = LATENCIES_MAX.saturating_sub(self.latencies.len());
        self.latencies.extend(latencies.into_iter().take(room));
    }

    /// Requests that were answered.
    pub fn answers(&self) -> u64 {
        self.statuses.values().sum()
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sorted: Vec<f64> = self.latencies.iter().map(Duration::as_secs_f64).collect();
        sorted.sort_by(f64::total_cmp);
        let answers = self.answers();
        let average = sorted.iter().sum::<f64>() / sorted.len() as f64;
        let total = self.total.as_secs_f64();
        writeln!(f, "\nSummary:")?;
        writeln!(f, "  Total:\t{total:.4} secs")?;
        if let (Some(fastest), Some(slowest)) = (sorted.first(), sorted.last()) {
            writeln!(f, "  Slowest:\t{slowest:.4} secs")?;
            writeln!(f, "  Fastest:\t{fastest:.4} secs")?;
            writeln!(f, "  Average:\t{average:.4} secs")?;
            writeln!(f, "  Requests/sec:\t{:.4}", answers as f64 / total)?;
            writeln!(f, "\n  Total data:\t{} bytes", self.bytes)?;
            writeln!(f, "  Size/request:\t{} bytes", self.bytes / answers.max(1))?;
            histogram(f, &sorted, *fastest, *slowest)?;
            percentiles(f, &sorted)?;
            writeln!(f, "\nStatus code distribution:")?;
            for (status, count) in &self.statuses {
                writeln!(f, "  [{status}]\t{count} responses")?;
            }
        }
        if !self.errors.is_empty() {
            writeln!(f, "\nError distribution:")?;
            for (error, count) in &self.errors {
                writeln!(f, "  [{count}]\t{error}")?;
            }
        }
        Ok(())
    }
}

fn histogram(f: &mut fmt::Formatter<'_>, sorted: &[f64], fastest: f64, slowest: f64) -> fmt::Result {
    let width = (slowest - fastest) / BARS as f64;
    let bounds = (0..=BARS).map(|bar| if bar == BARS { slowest } else { fastest + width * bar as f64 });
    let mut below = 0;
    let bars: Vec<(f64, usize)> = bounds
        .map(|bound| {
            let reached = sorted.partition_point(|latency| *latency <= bound);
            let count = reached - below;
            below = reached;
            (bound, count)
        })
        .collect();
    let highest = bars.iter().map(|(_, count)| *count).max().unwrap_or(0).max(1);
    writeln!(f, "\nResponse time histogram:")?;
    for (bound, count) in bars {
        writeln!(f, "  {bound:.3} [{count}]\t|{}", "■".repeat((count * BAR_WIDTH + highest / 2) / highest))?;
    }
    Ok(())
}

fn percentiles(f: &mut fmt::Formatter<'_>, sorted: &[f64]) -> fmt::Result {
    writeln!(f, "\n\nLatency distribution:")?;
    for percentile in PERCENTILES {
        let index = (sorted.len() * percentile / 100).min(sorted.len().saturating_sub(1));
        if let Some(latency) = sorted.get(index) {
            writeln!(f, "  {percentile}% in {latency:.4} secs")?;
        }
    }
    Ok(())
}
