//! The test itself: cells in, evidence out.

use serde::{Deserialize, Serialize};

/// The candidate may be this much worse before it counts: odds, so a quarter more failures. Pods differ by that much.
const TOLERANCE: f64 = 1.25;
/// A third of an octave, and two.
const THIRD: f64 = 1.259_921_049_894_873_2;
const TWO_THIRDS: f64 = 1.587_401_051_968_199_4;
/// How many times as bad the candidate may turn out to be: thirds of octaves from 2 to 64. Nobody knows which, so all are tried at
/// once.
const ALTERNATIVES: [f64; 16] = [
    2.0,
    2.0 * THIRD,
    2.0 * TWO_THIRDS,
    4.0,
    4.0 * THIRD,
    4.0 * TWO_THIRDS,
    8.0,
    8.0 * THIRD,
    8.0 * TWO_THIRDS,
    16.0,
    16.0 * THIRD,
    16.0 * TWO_THIRDS,
    32.0,
    32.0 * THIRD,
    32.0 * TWO_THIRDS,
    64.0,
];
/// Evidence at which a release ends: one in a hundred.
pub const LIMIT: f64 = 100.0;
/// Evidence that has to be left without the scrape that carries most of it.
const REST: f64 = 10.0;
/// Failed requests of the candidate below which nothing is concluded.
pub const FAILURES_MIN: f64 = 5.0;

/// What is kept of sums of gains and of interpolated counts: digits that JSON brings back as they were written, and far more than
/// anything is known to.
const GAIN_DIGITS: f64 = 1e9;
const COUNT_DIGITS: f64 = 1e3;

/// The value with so many digits: whole thousandths, millionths, …
pub(super) fn kept(value: f64, digits: f64) -> f64 {
    (value * digits).round() / digits
}

/// Requests of both sides and how many of them failed. Counts are whole unless they were interpolated.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// The candidate's requests.
    #[serde(rename = "c")]
    pub canary: f64,
    /// Those of them that failed.
    #[serde(rename = "cf", default, skip_serializing_if = "is_none")]
    pub canary_failed: f64,
    /// The requests of what serves.
    #[serde(rename = "p")]
    pub primary: f64,
    /// Those of them that failed.
    #[serde(rename = "pf", default, skip_serializing_if = "is_none")]
    pub primary_failed: f64,
}

impl Counts {
    /// As they are stored.
    fn kept(self) -> Self {
        let Self { canary, canary_failed, primary, primary_failed } = self;
        let [canary, canary_failed, primary, primary_failed] =
            [canary, canary_failed, primary, primary_failed].map(|count| kept(count, COUNT_DIGITS));
        Self { canary, canary_failed, primary, primary_failed }
    }

    /// The sum of both.
    pub fn add(&mut self, other: &Self) {
        self.canary += other.canary;
        self.canary_failed += other.canary_failed;
        self.primary += other.primary;
        self.primary_failed += other.primary_failed;
    }
}

/// Both sides over one stretch of time, as one observer saw it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// Where it begins, in milliseconds since the epoch; not part of it.
    pub start: i64,
    /// Where it ends; part of it.
    pub end: i64,
    /// The counts, apart for each kind of client that may see the sides in other proportions.
    pub strata: Vec<Counts>,
}

impl Cell {
    /// One with counts of one kind.
    pub fn new(start: i64, end: i64, counts: Counts) -> Self {
        Self { start, end, strata: vec![counts] }
    }

    fn overlaps(&self, start: i64, end: i64) -> bool {
        self.end > start && self.start < end
    }

    fn canary_failed(&self) -> f64 {
        self.strata.iter().map(|counts| counts.canary_failed).sum()
    }

    fn gains(&self) -> Gains {
        let mut all = Gains::default();
        for counts in &self.strata {
            all.add(&Gains::of(counts));
        }
        all
    }
}

/// What must not decide alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// The cell with most of the candidate's failures, and all that overlap it: one scrape.
    Scrape,
    /// The stretch of this many milliseconds with most of them: counts between two scrapes are interpolated.
    Stretch(i64),
}

/// Logarithms of the likelihood ratios, one for each alternative.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
struct Gains([f64; 16]);

impl Gains {
    /// What one stratum says. Where a side has no requests there is nothing to compare.
    fn of(counts: &Counts) -> Self {
        let Counts { canary, canary_failed, primary, primary_failed } = *counts;
        if canary <= 0.0 || primary <= 0.0 {
            return Self::default();
        }
        let share = canary / (canary + primary);
        let failed = canary_failed + primary_failed;
        let mean = |odds: f64| 1.0 - share + share * odds;
        if failed <= 0.0 {
            return Self::default();
        }
        Self(
            ALTERNATIVES.map(|odds| {
                canary_failed * (odds / TOLERANCE).ln() - failed * (mean(odds) / mean(TOLERANCE)).ln()
            }),
        )
    }

    fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(mine, theirs)| *mine = kept(*mine + theirs, GAIN_DIGITS));
    }

    fn without(&self, other: &Self) -> Self {
        let mut rest = *self;
        rest.0.iter_mut().zip(&other.0).for_each(|(mine, theirs)| *mine -= theirs);
        rest
    }

    /// The logarithm of the mean of all alternatives, tempered.
    fn evidence(&self, noise: f64) -> f64 {
        let largest = self.0.iter().fold(f64::NEG_INFINITY, |most, gain| most.max(gain / noise));
        let sum: f64 = self.0.iter().map(|gain| (gain / noise - largest).exp()).sum();
        largest + (sum / self.0.len() as f64).ln()
    }
}

/// All that has been seen of a release. It follows from the cells and their order alone.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Evidence {
    /// Where the last cell ended, in milliseconds since the epoch: what ends there or before is never counted again.
    pub up_to: i64,
    gains: Gains,
    /// All requests and failures of cells that could be compared.
    pub seen: Counts,
    /// For the odds ratio: what the candidate has too many, and what the other side has, weighed by cells.
    ratio: (f64, f64),
    #[serde(default, skip_serializing_if = "Option::is_none")]
    peak: Option<Peak>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    recent: Vec<Cell>,
}

/// The scrape that carries most.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Peak {
    failed: f64,
    start: i64,
    end: i64,
    gains: Gains,
}

/// What the evidence amounts to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reached {
    /// The logarithm of the evidence that the candidate is worse.
    pub total: f64,
    /// The same without the scrape that carries most of it.
    pub rest: f64,
    /// Failed requests of the candidate.
    pub failed: f64,
}

impl Reached {
    /// Whether it is enough.
    pub fn fails(&self) -> bool {
        self.total >= LIMIT.ln() && self.rest >= REST.ln() && self.failed >= FAILURES_MIN
    }

    /// The evidence, of [`LIMIT`], no more than a million.
    pub fn evidence(&self) -> f64 {
        self.total.exp().min(1e6)
    }

    /// What is missing although there is evidence enough.
    pub fn missing(&self) -> Option<&'static str> {
        match self {
            _ if self.total < LIMIT.ln() || self.fails() => None,
            Self { failed, .. } if *failed < FAILURES_MIN => Some("fewer than 5 failed requests"),
            Self { .. } => Some("one scrape carries it: waits for a second"),
        }
    }
}

impl Evidence {
    /// Nothing seen yet; what ends at `since` or before is never counted.
    pub fn since(since: i64) -> Self {
        Self { up_to: since, ..Self::default() }
    }

    /// Takes cells in the order of their ends, those whose time has not been counted, up to the first after which the evidence
    /// suffices: whenever somebody looks, it is decided by the same ones. Whether it does. It grows by the candidate's failures only,
    /// so nothing else is asked for it.
    pub fn take(&mut self, cells: Vec<Cell>, guard: Guard, noise: f64) -> bool {
        let counted = self.up_to;
        for cell in cells.into_iter().filter(|cell| cell.end > counted) {
            self.up_to = self.up_to.max(cell.end);
            let failed = cell.canary_failed() > 0.0;
            self.add(cell, guard);
            if failed && self.reached(noise).fails() {
                return true;
            }
        }
        false
    }

    /// Takes all of them, whatever they come to.
    pub fn take_all(&mut self, cells: Vec<Cell>, guard: Guard) {
        let counted = self.up_to;
        for cell in cells.into_iter().filter(|cell| cell.end > counted) {
            self.up_to = self.up_to.max(cell.end);
            self.add(cell, guard);
        }
    }

    fn add(&mut self, cell: Cell, guard: Guard) {
        let cell = Cell { strata: cell.strata.into_iter().map(Counts::kept).collect(), ..cell };
        let gains = cell.gains();
        self.gains.add(&gains);
        self.count(&cell);
        match guard {
            Guard::Scrape => self.remember_scrape(cell, gains),
            Guard::Stretch(length) => self.remember_stretch(cell, length),
        }
    }

    fn count(&mut self, cell: &Cell) {
        for counts in cell.strata.iter().filter(|counts| counts.canary > 0.0 && counts.primary > 0.0) {
            self.seen.add(counts);
            self.seen = self.seen.kept();
            let Counts { canary, canary_failed, primary, primary_failed } = *counts;
            let all = canary + primary;
            let (odds, against) = self.ratio;
            self.ratio = (
                kept(odds + canary_failed * (primary - primary_failed) / all, GAIN_DIGITS),
                kept(against + primary_failed * (canary - canary_failed) / all, GAIN_DIGITS),
            );
        }
    }

    fn remember_scrape(&mut self, cell: Cell, gains: Gains) {
        let (start, end, failed) = (cell.start, cell.end, cell.canary_failed());
        self.recent.retain(|recent| recent.end > start);
        self.recent.push(cell);
        let is_peak = failed > 0.0 && self.peak.as_ref().is_none_or(|peak| failed > peak.failed);
        if is_peak {
            let mut of_peak = Gains::default();
            for recent in self.recent.iter().filter(|recent| recent.overlaps(start, end)) {
                of_peak.add(&recent.gains());
            }
            self.peak = Some(Peak { failed, start, end, gains: of_peak });
        } else if let Some(peak) = self.peak.as_mut().filter(|peak| start < peak.end && end > peak.start) {
            peak.gains.add(&gains);
        }
    }

    fn remember_stretch(&mut self, cell: Cell, length: i64) {
        let (start, end) = (cell.end - length, cell.end);
        self.recent.retain(|recent| recent.end > start);
        self.recent.push(cell);
        let failed: f64 = self.recent.iter().map(Cell::canary_failed).sum();
        if failed > 0.0 && self.peak.as_ref().is_none_or(|peak| failed > peak.failed) {
            let mut of_peak = Gains::default();
            self.recent.iter().for_each(|recent| of_peak.add(&recent.gains()));
            self.peak = Some(Peak { failed, start, end, gains: of_peak });
        }
    }

    /// What it amounts to, tempered by the noise.
    pub fn reached(&self, noise: f64) -> Reached {
        let rest = self.peak.as_ref().map_or(self.gains, |peak| self.gains.without(&peak.gains));
        Reached { total: self.gains.evidence(noise), rest: rest.evidence(noise), failed: self.seen.canary_failed }
    }

    /// How many times as high the candidate's odds of failing are, over all cells; `None` while nothing else has failed.
    pub fn odds_ratio(&self) -> Option<f64> {
        (self.ratio.1 > 0.0).then(|| self.ratio.0 / self.ratio.1)
    }
}

fn is_none(count: &f64) -> bool {
    *count == 0.0
}

#[cfg(test)]
#[path = "evidence_tests.rs"]
mod tests;
