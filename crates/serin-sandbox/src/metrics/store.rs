//! Counters, and their history sampled at common points in time.
//!
//! All series are sampled together, so a sample's time is stored once and a series is a list of runs of equal values:
//! an idle series costs nothing however long it lives.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

/// A series' labels with its name under `__name__`.
pub type Labels = BTreeMap<String, String>;

/// History kept; every window in use is far shorter (Flagger's default is one minute).
const RETENTION: Duration = Duration::from_secs(15 * 60);
/// Series kept: some 400 pods with two histograms for each of two codes. A pod's series stay when it goes.
const SERIES_MAX: usize = 40_000;

/// Names a series in its store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeriesId(usize);

/// Why a series cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The bound is reached.
    #[error("the metric store is full ({SERIES_MAX} series): labels must not carry unbounded values")]
    Full,
}

/// Counters and their sampled history.
#[derive(Debug)]
pub struct Store {
    retention_ms: i64,
    series: Vec<Series>,
    by_labels: HashMap<Labels, SeriesId>,
    /// Times of the samples in milliseconds since the epoch; the first one has the number `dropped`.
    times: VecDeque<i64>,
    dropped: u64,
}

#[derive(Debug)]
struct Series {
    labels: Labels,
    current: f64,
    runs: VecDeque<Run>,
}

/// The same value at the samples `first..=last`.
#[derive(Debug, Clone, Copy)]
struct Run {
    value: f64,
    first: u64,
    last: u64,
}

impl Default for Store {
    fn default() -> Self {
        Self::new(RETENTION)
    }
}

impl Store {
    /// An empty store that keeps its history for `retention`.
    pub fn new(retention: Duration) -> Self {
        Self {
            retention_ms: i64::try_from(retention.as_millis()).unwrap_or(i64::MAX),
            series: Vec::new(),
            by_labels: HashMap::new(),
            times: VecDeque::new(),
            dropped: 0,
        }
    }

    /// The series with these labels; a new one starts at zero and is sampled from now on.
    ///
    /// # Errors
    /// When the store is full.
    pub fn series(&mut self, labels: &Labels) -> Result<SeriesId, StoreError> {
        if let Some(id) = self.by_labels.get(labels) {
            return Ok(*id);
        }
        if self.series.len() >= SERIES_MAX {
            return Err(StoreError::Full);
        }
        let id = SeriesId(self.series.len());
        self.series.push(Series { labels: labels.clone(), current: 0.0, runs: VecDeque::new() });
        self.by_labels.insert(labels.clone(), id);
        Ok(id)
    }

    /// Adds to a counter.
    pub fn add(&mut self, id: SeriesId, delta: f64) {
        if let Some(series) = self.series.get_mut(id.0) {
            series.current += delta;
        }
    }

    /// Sets a gauge, or a counter in a test.
    pub fn set(&mut self, id: SeriesId, value: f64) {
        if let Some(series) = self.series.get_mut(id.0) {
            series.current = value;
        }
    }

    /// Takes a sample of every series; time that does not move forward is ignored, as Prometheus refuses such samples.
    pub fn sample(&mut self, at_ms: i64) {
        if self.times.back().is_some_and(|last| *last >= at_ms) {
            return;
        }
        let number = self.dropped + self.times.len() as u64;
        self.times.push_back(at_ms);
        while self.times.front().is_some_and(|first| *first < at_ms - self.retention_ms) {
            self.times.pop_front();
            self.dropped += 1;
        }
        for series in &mut self.series {
            series.sample(number, self.dropped);
        }
    }

    /// The current values, in order of creation.
    pub fn current(&self) -> impl Iterator<Item = (&Labels, f64)> {
        self.series.iter().map(|series| (&series.labels, series.current))
    }

    /// The labels of every series that was sampled.
    pub(super) fn sampled(&self) -> impl Iterator<Item = (SeriesId, &Labels)> {
        self.series
            .iter()
            .enumerate()
            .filter(|(_, series)| !series.runs.is_empty())
            .map(|(index, series)| (SeriesId(index), &series.labels))
    }

    /// The newest sample after `after_ms` and not after `at_ms`.
    pub(super) fn value_at(&self, id: SeriesId, after_ms: i64, at_ms: i64) -> Option<f64> {
        let before = self.times.partition_point(|time| *time <= at_ms);
        let index = before.checked_sub(1)?;
        if *self.times.get(index)? <= after_ms {
            return None;
        }
        self.series.get(id.0)?.value(self.dropped + index as u64)
    }

    /// The samples after `after_ms` and not after `at_ms`, as (time in ms, value).
    pub(super) fn samples(&self, id: SeriesId, after_ms: i64, at_ms: i64) -> Vec<(i64, f64)> {
        let from = self.times.partition_point(|time| *time <= after_ms);
        let to = self.times.partition_point(|time| *time <= at_ms);
        let Some(series) = self.series.get(id.0) else { return Vec::new() };
        let mut runs = series.runs.iter().peekable();
        let mut samples = Vec::with_capacity(to.saturating_sub(from));
        for (index, time) in self.times.range(from..to.max(from)).enumerate() {
            let number = self.dropped + (from + index) as u64;
            while runs.next_if(|run| run.last < number).is_some() {}
            if let Some(run) = runs.peek()
                && run.first <= number
            {
                samples.push((*time, run.value));
            }
        }
        samples
    }
}

impl Series {
    fn sample(&mut self, number: u64, oldest: u64) {
        match self.runs.back_mut() {
            Some(run) if run.value.to_bits() == self.current.to_bits() && run.last + 1 == number => {
                run.last = number
            }
            _ => self.runs.push_back(Run { value: self.current, first: number, last: number }),
        }
        while self.runs.front().is_some_and(|run| run.last < oldest) {
            self.runs.pop_front();
        }
    }

    fn value(&self, number: u64) -> Option<f64> {
        let index = self.runs.partition_point(|run| run.last < number);
        self.runs.get(index).filter(|run| run.first <= number).map(|run| run.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(name: &str) -> Labels {
        Labels::from([("__name__".to_owned(), name.to_owned())])
    }

    #[test]
    fn keeps_history_as_runs_and_forgets_after_retention() {
        let mut store = Store::new(Duration::from_secs(1));
        let early = store.series(&labels("early")).unwrap();
        for step in 0..5 {
            store.sample(step * 100);
        }
        let late = store.series(&labels("late")).unwrap();
        store.add(early, 2.0);
        store.sample(500);

        assert_eq!(store.samples(early, 300, 500), [(400, 0.0), (500, 2.0)]);
        assert_eq!(store.samples(late, -1, 500), [(500, 0.0)], "a series has no samples before it existed");
        assert_eq!(store.value_at(late, -1, 499), None);
        assert_eq!(store.value_at(early, -1, 499), Some(0.0));

        store.sample(1_500);
        assert_eq!(store.samples(early, -1, 1_500), [(500, 2.0), (1_500, 2.0)]);
        assert_eq!(store.value_at(early, 1_500, 2_000), None, "outside the lookback");
    }
}
