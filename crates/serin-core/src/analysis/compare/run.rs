//! The comparison of one release: when it looks, what it may do, and what it says.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::{after, between};

use super::cells::Looked;
use super::evidence::{Counts, Evidence, Guard, LIMIT, Reached, kept};
use super::noise::{HISTORY_FAILURES, Noise};
use super::share::Share;
use super::sight::{Stage, seen_from};
use super::windows::grid;

/// Time between two samples that is assumed until some were seen: as long as Prometheus' own default.
const STEP: Duration = Duration::from_secs(60);
/// How many times the time between two samples a look goes back beyond what it counts, in halves: the sample before is in it.
const MARGIN: u32 = 5;

/// What is kept of the history: millionths.
const HISTORY_DIGITS: f64 = 1e6;

/// Whether the comparison may end a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It says what it would do.
    Advises,
    /// It rolls back.
    Enforces,
}

/// Who counts the requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// Whoever routes: both sides in one scrape.
    ByRouter,
    /// Each pod for itself: sampled at other moments than the others.
    ByPods,
}

/// How a release is compared.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// Whether it may end the release.
    pub standing: Standing,
    /// Why it only advises although it was told to enforce.
    pub caveat: Option<String>,
    /// Who counts.
    pub counted: Counted,
    /// The noise, where the user says it.
    pub noise: Option<f64>,
    /// Time is this many times as fast as it usually is.
    pub speed: f64,
    /// Shortest and longest wait between two looks.
    pub waits: (Duration, Duration),
    /// How long after a sample it can be read.
    pub settles: Duration,
    /// Samples further apart than this are too coarse to decide between the rounds.
    pub coarse: Duration,
    /// Primary's past that the noise is made of.
    pub history: Duration,
    /// How far back a look goes at most; what lies before is skipped.
    pub reach: Duration,
    /// Longest wait for an answer.
    pub patience: Duration,
}

/// What is known of primary before a release.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct History {
    /// How much its failures come together.
    pub noise: Noise,
    /// Its requests a second, lately.
    pub rate: f64,
    /// Share of them that failed.
    pub failed: f64,
}

impl History {
    /// As it is stored: digits that JSON brings back as they were written.
    #[must_use]
    pub fn kept(self) -> Self {
        let Self { noise, rate, failed } = self;
        let round = |value: f64| kept(value, HISTORY_DIGITS);
        let noise = Noise { factor: round(noise.factor), failures: round(noise.failures), ..noise };
        Self { noise, rate: round(rate), failed: round(failed) }
    }
}

/// How far the comparison of a release is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Comparing {
    /// What primary's past says; `None` until it was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<History>,
    /// The open look; part of its question's key.
    #[serde(default)]
    pub look: u32,
    /// When it is due; `None` before users have met the candidate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Timestamp>,
    /// What was seen.
    #[serde(default)]
    pub evidence: Evidence,
    /// Time between two samples, in milliseconds; 0 until it was seen.
    #[serde(default)]
    pub step: i64,
    /// Who is followed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub observers: Vec<String>,
    /// How many are not, being too many.
    #[serde(default, skip_serializing_if = "is_none")]
    pub left_out: usize,
    /// Milliseconds that no sample was there for in time.
    #[serde(default, skip_serializing_if = "is_no_time")]
    pub skipped: i64,
    /// The candidate's share of requests as it is shown now.
    #[serde(default)]
    pub share: Share,
    /// Since when users have met the candidate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begun: Option<Timestamp>,
    /// How it stands, for people.
    #[serde(default)]
    pub notes: Notes,
    /// It has said that it would roll back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub told: bool,
    /// Why the last look saw nothing, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// How a comparison stands, in words.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Notes {
    /// What was seen, and what is missing.
    pub saw: String,
    /// What can be seen at this traffic.
    pub sees: String,
    /// How much failures come together.
    pub noise: String,
    /// Why it only advises.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advises: Option<String>,
    /// How the requests are shared otherwise than the route says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<String>,
}

/// What one look asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct LookAt {
    /// Who counts.
    pub counted: Counted,
    /// What ends here or before was counted, in milliseconds since the epoch.
    pub since: i64,
    /// How far back from now.
    pub window: Duration,
    /// Who is followed already.
    pub known: Vec<String>,
    /// Time is this many times as fast as it usually is.
    pub speed: f64,
}

impl Comparing {
    /// Users meet the candidate from now on.
    pub fn begin(&mut self, plan: &Comparison, now: Timestamp) {
        (self.due, self.begun) = (Some(after(now, plan.waits.0)), Some(now));
        self.evidence = Evidence::since(now.as_millisecond());
    }

    /// What the next look asks for.
    pub fn look_at(&self, plan: &Comparison, now: Timestamp) -> LookAt {
        let counted_since = Timestamp::from_millisecond(self.evidence.up_to).unwrap_or(now);
        let window = between(counted_since, now).saturating_add(self.step(plan) * MARGIN / 2);
        LookAt {
            counted: plan.counted,
            since: self.evidence.up_to,
            window: window.min(plan.reach),
            known: self.observers.clone(),
            speed: plan.speed,
        }
    }

    /// Takes what a look saw and sets the next; whether it suffices to end the release. `wanted`: the candidate's share, and since
    /// when the router has shown it.
    pub fn take(
        &mut self,
        plan: &Comparison,
        looked: Looked,
        wanted: Option<(f64, Timestamp)>,
        now: Timestamp,
    ) -> bool {
        let Looked { cells, step, newest, observers, left_out } = looked;
        (self.observers, self.left_out) = (observers, left_out);
        if step > 0 {
            self.step = step;
        }
        let oldest = cells.first().map(|cell| cell.start);
        let gap = oldest.map_or(0, |start| (start - self.evidence.up_to).max(0));
        if self.evidence.seen != Counts::default() && gap > self.step.saturating_mul(3) {
            self.skipped += gap;
        }
        self.trouble = newest.is_none().then(|| "nobody counts requests of either side".to_owned());
        self.share.follow(wanted, &cells, self.evidence.up_to);
        let guard = self.guard(plan);
        let fails = if self.told {
            self.evidence.take_all(cells, guard);
            false
        } else {
            self.evidence.take(cells, guard, self.noise(plan).factor)
        };
        self.next(plan, newest, now);
        fails
    }

    /// A look that saw nothing.
    pub fn miss(&mut self, plan: &Comparison, why: String, now: Timestamp) {
        self.trouble = Some(why);
        self.next(plan, None, now);
    }

    fn next(&mut self, plan: &Comparison, newest: Option<i64>, now: Timestamp) {
        self.look = self.look.saturating_add(1);
        let (shortest, longest) = plan.waits;
        let newest = newest.and_then(|newest| Timestamp::from_millisecond(newest).ok());
        let sampled = newest.map(|newest| after(newest, self.step(plan).saturating_add(plan.settles)));
        let wait = sampled.map_or(longest, |sampled| between(now, sampled.max(now)).clamp(shortest, longest));
        self.due = Some(after(now, wait));
    }

    /// After the clock was put back the next look is no further away than its own wait.
    pub fn follow_clock(&mut self, plan: &Comparison, now: Timestamp) {
        self.due = self.due.map(|due| due.min(after(now, plan.waits.1)));
    }

    fn step(&self, plan: &Comparison) -> Duration {
        match u64::try_from(self.step) {
            Ok(step) if step > 0 => Duration::from_millis(step),
            Ok(_) | Err(_) => STEP.div_f64(plan.speed.max(1.0)),
        }
    }

    fn guard(&self, plan: &Comparison) -> Guard {
        match plan.counted {
            Counted::ByRouter => Guard::Scrape,
            // Interpolated counts of one scrape reach into the windows at both its ends.
            Counted::ByPods => Guard::Stretch(self.step.max(0) + grid(plan.speed)),
        }
    }

    /// What the evidence is tempered by.
    pub fn noise(&self, plan: &Comparison) -> Noise {
        let measured = self.history.map_or_else(Noise::guess, |history| history.noise);
        plan.noise.map_or(measured, Noise::said)
    }

    /// What the evidence amounts to.
    pub fn reached(&self, plan: &Comparison) -> Reached {
        self.evidence.reached(self.noise(plan).factor)
    }

    /// Why it only advises, in words; `None` if it decides.
    pub fn only_advises(&self, plan: &Comparison) -> Option<String> {
        let noise = self.noise(plan);
        let step = self.step(plan);
        match plan.standing {
            Standing::Advises => Some("spec.analysis.comparison is not enforce".to_owned()),
            Standing::Enforces if plan.caveat.is_some() => plan.caveat.clone(),
            Standing::Enforces if !noise.is_known(plan.history.as_secs()) => Some(format!(
                "primary's history is too short to say how failures come together: {} of {}, {} failures of {} \
                 (spec.analysis.comparisonNoise says it instead)",
                hours(noise.covered),
                hours(plan.history.as_secs()),
                noise.failures.round(),
                HISTORY_FAILURES
            )),
            Standing::Enforces if self.step > 0 && step > plan.coarse => Some(format!(
                "samples are {}s apart, more than {}s",
                step.as_secs_f64(),
                plan.coarse.as_secs_f64()
            )),
            Standing::Enforces => None,
        }
    }

    /// What can be seen at this traffic; `stages`: seconds at each share of the candidate.
    fn sight(&self, plan: &Comparison, stages: &[(f64, f64)]) -> Sight {
        let Some((rate, failed)) = self.traffic() else { return Sight::Unknown };
        let stages: Vec<Stage> =
            stages.iter().map(|(seconds, share)| Stage { requests: rate * seconds, share: *share }).collect();
        match seen_from(&stages, failed, self.noise(plan).factor) {
            Some(from) => Sight::From { canary: from, rate, primary: failed },
            None => Sight::Nothing { rate },
        }
    }

    /// Requests a second to both sides and the share of primary's that fails: of before the release, else of this one.
    fn traffic(&self) -> Option<(f64, f64)> {
        let before = self.history.filter(|history| history.rate > 0.0);
        if let Some(History { rate, failed, .. }) = before {
            return Some((rate, failed));
        }
        let Counts { canary, primary, primary_failed, .. } = self.evidence.seen;
        let seconds = self.begun.map(|begun| (self.evidence.up_to - begun.as_millisecond()) as f64 / 1000.0);
        let seconds = seconds.filter(|seconds| *seconds > 0.0 && primary > 0.0)?;
        Some(((canary + primary) / seconds, primary_failed / primary))
    }

    /// Notes for people how it stands.
    pub fn note(&mut self, plan: &Comparison, stages: &[(f64, f64)]) {
        let noise = self.noise(plan);
        let source = match (plan.noise, noise.pods) {
            (Some(_), _) => "as spec.analysis.comparisonNoise says".to_owned(),
            (None, 0) => "a guess: nothing is known of primary's failures".to_owned(),
            (None, 1) => {
                format!("of {} of primary's one pod, whose bad times count as clumps", hours(noise.covered))
            }
            (None, pods) => format!("of {} of {pods} pods of primary", hours(noise.covered)),
        };
        self.notes = Notes {
            saw: self.words(plan),
            sees: self.sight(plan, stages).to_string(),
            noise: format!("failures come in clumps of about {} ({source})", short(noise.clump())),
            advises: self.only_advises(plan),
            share: self.share.differs(),
        };
    }

    /// What was seen, in words.
    pub fn words(&self, plan: &Comparison) -> String {
        let Counts { canary, canary_failed, primary, primary_failed } = self.evidence.seen;
        if canary <= 0.0 || primary <= 0.0 {
            return self.trouble.clone().unwrap_or_else(|| "nothing to compare with yet".to_owned());
        }
        let reached = self.reached(plan);
        let odds = match self.evidence.odds_ratio() {
            Some(ratio) => format!("odds {} times primary's", short(ratio)),
            None if canary_failed > 0.0 => "primary failed none".to_owned(),
            None => "neither failed any".to_owned(),
        };
        let missing = reached.missing().map(|missing| format!("; {missing}")).unwrap_or_default();
        format!(
            "{} % of the canary's {} requests failed, {} % of primary's {}: {odds}, evidence {} of {LIMIT}{missing}",
            short(100.0 * canary_failed / canary),
            canary.round(),
            short(100.0 * primary_failed / primary),
            primary.round(),
            short(reached.evidence())
        )
    }
}

impl Notes {
    /// A line for each thing to say.
    pub fn lines(&self) -> Vec<String> {
        let Self { saw, sees, noise, advises, share } = self;
        let advises = advises.as_ref().map(|why| format!("only advises: {why}"));
        [Some(saw.clone()), Some(sees.clone()), Some(noise.clone()), advises, share.clone()]
            .into_iter()
            .flatten()
            .filter(|line| !line.is_empty())
            .collect()
    }
}

/// What can be seen at some traffic.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Sight {
    /// Nobody knows the traffic yet.
    Unknown,
    /// Not even a candidate that fails everything, at this many requests a second.
    Nothing { rate: f64 },
    /// A candidate that fails this share of its requests, beside a primary that fails that one.
    From { canary: f64, rate: f64, primary: f64 },
}

impl fmt::Display for Sight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => Ok(()),
            Self::Nothing { rate } => write!(f, "sees nothing at {} requests a second", short(*rate)),
            Self::From { canary, rate, primary } => write!(
                f,
                "can see a canary that fails about {} % or more, at {} requests a second of which primary fails {} %",
                short(100.0 * canary),
                short(*rate),
                short(100.0 * primary)
            ),
        }
    }
}

/// Two digits that matter, without zeros at the end.
fn short(value: f64) -> String {
    let digits = if value >= 10.0 || value == 0.0 {
        0
    } else if value >= 1.0 {
        1
    } else {
        2
    };
    format!("{value:.digits$}")
}

/// `6 h`, `12 min`.
fn hours(seconds: u64) -> String {
    let minutes = seconds / 60;
    if minutes >= 60 && minutes.is_multiple_of(60) {
        format!("{} h", minutes / 60)
    } else {
        format!("{minutes} min")
    }
}

fn is_none(count: &usize) -> bool {
    *count == 0
}

fn is_no_time(time: &i64) -> bool {
    *time == 0
}
