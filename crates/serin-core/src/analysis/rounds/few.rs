//! How many requests a value is made of: too few of them mean nothing, whatever the value is.
//!
//! Windows with too few grow towards the begin of the present exposure, so that little traffic only takes longer. The count is
//! the router's own, asked beside the values and over the same windows.

use super::super::judged::Judged;
use super::super::run::{Answered, Mode, Requests};
use super::super::{Check, Key, OnMissing, Verdict};
use super::{Rounds, RoundsRun, age, waits_for_its_window, window};

/// A window with too few requests is the next time this many times as long.
const STRETCH: u64 = 2;
/// A window with this many times the requests that are needed is shortened again: half of it still has enough.
const PLENTY: u64 = 3;
impl Rounds {
    /// Whether the candidate's requests are counted for this check: once for all checks of the same window.
    pub(super) fn is_counted(&self, run: &RoundsRun, key: &Key, check: &Check, answered: &dyn Answered) -> bool {
        let counts = check.counts() && self.counter(run, key, check) == key;
        let explains = !check.counts() && is_empty_handed(run, key, check, answered);
        self.min_samples.is_some() && !waits_for_its_window(check, run) && (counts || explains)
    }

    /// The check under whose key the requests in this one's window are counted.
    pub(super) fn counter<'a>(&'a self, run: &RoundsRun, key: &'a Key, check: &Check) -> &'a Key {
        let alike = |other: &Check| other.counts() && window(other, run) == window(check, run);
        let first = self.checks.iter().find(|(_, other)| check.counts() && alike(other));
        first.map_or(key, |(first, _)| first)
    }

    /// A judgement of a value, if the value is one of enough requests. Without their number it cannot be said to have passed.
    pub(super) fn of_enough(
        &self,
        run: &RoundsRun,
        check: &Check,
        judged: Judged,
        counted: Option<&Requests>,
    ) -> Judged {
        if self.min_samples.is_none() {
            return judged;
        }
        match counted {
            Some(Ok(requests)) if *requests < check.min_samples => {
                let seconds = window(check, run).as_secs_f64();
                let had = if *requests == 1 { "1 request".to_owned() } else { format!("{requests} requests") };
                let why = format!("the candidate has had {had} in {seconds}s, {} are needed", check.min_samples);
                Judged { samples: Some(*requests), ..judged.but(Verdict::Few, why) }
            }
            Some(Ok(requests)) => Judged { samples: Some(*requests), ..judged },
            Some(Err(_)) | None if judged.verdict == Verdict::Fail => judged,
            Some(Err(why)) => judged.but(Verdict::Error, format!("the router's counters cannot be read: {why}")),
            None => judged.but(Verdict::Error, "the router's counters did not answer in time".to_owned()),
        }
    }

    /// What too few requests amount to. At the last round that may be held they are missing data like any other.
    pub(super) fn on_few(&self, run: &RoundsRun, check: &Check, mode: Mode) -> OnMissing {
        let is_last = mode == Mode::Moving && run.held.saturating_add(1) >= self.hold_limit;
        if check.on_few == OnMissing::Hold && is_last { check.on_no_data } else { check.on_few }
    }

    /// Windows with too few requests grow, and shrink again when there are plenty.
    pub(super) fn stretch(&self, run: &mut RoundsRun, answered: &dyn Answered) {
        let mut longest = 0;
        let (mut few, mut plenty) = (false, true);
        for (key, check) in self.checks.iter().filter(|(_, check)| check.counts() && !check.own_window) {
            let Some(Ok(requests)) = answered.requests(self.counter(run, key, check), run.round) else { continue };
            longest = longest.max(u64::try_from(window(check, run).as_millis()).unwrap_or(u64::MAX));
            few |= *requests < check.min_samples;
            plenty &= *requests >= check.min_samples.saturating_mul(PLENTY);
        }
        if few {
            run.reach = longest.saturating_mul(STRETCH);
        } else if plenty {
            run.reach /= STRETCH;
        }
    }
}

/// Whether an empty answer has come in that only means something beside the number of requests in the same window.
fn is_empty_handed(run: &RoundsRun, key: &Key, check: &Check, answered: &dyn Answered) -> bool {
    let (judged, _) = Judged::of(check, answered.metric(key, run.round), window(check, run));
    judged.verdict == Verdict::NoData && age(run) >= check.window && check.on_no_data == OnMissing::Hold
}
