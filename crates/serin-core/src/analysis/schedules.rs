//! Argo's pace: each check by a clock of its own, with limits of its own.
//!
//! A run ends with the worst of its checks, at once where one is bad, and passes when every check has had its measurements.
//! It knows nothing of steps: in the background, between two steps, or on its own it is the same.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::after;

use super::judged::Judged;
use super::keyed::{Defined, Definition};
use super::run::{Answered, Ask, End, News, Subject, Turn};
use super::{Check, Key, Keyed, OnMissing, Reading, Verdict};

/// Wait after a measurement that could not be made, whatever the check's interval is (Argo Rollouts'
/// `DefaultErrorRetryInterval`).
const ERROR_RETRY: Duration = Duration::from_secs(10);

/// What is checked, each by its own clock.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Schedules {
    /// The checks.
    pub checks: Keyed<Scheduled>,
}

/// A check with its clock.
#[derive(Debug, Clone, PartialEq)]
pub struct Scheduled {
    /// The check.
    pub check: Check,
    /// When it is measured, and how much of what is too much.
    pub schedule: Schedule,
    /// It is measured and shown, and ends nothing.
    pub dry_run: bool,
}

/// When a check is measured, and how much of what is too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// From the run's start to the first measurement.
    pub delay: Duration,
    /// From a measurement's end to the next one; without, there is one measurement.
    pub interval: Option<Duration>,
    /// Measurements in all; with an interval and without a count the run has no end of its own.
    pub count: Option<u32>,
    /// Failures that are still allowed; `None` allows all.
    pub failure_limit: Option<u32>,
    /// Inconclusive measurements that are still allowed.
    pub inconclusive_limit: u32,
    /// Errors in a row that are still allowed.
    pub error_limit: u32,
    /// Passes in a row that end the check early; 0 for never.
    pub success_limit: u32,
}

impl Default for Schedule {
    /// One measurement that must pass; four errors in a row are waited out (Argo Rollouts' defaults).
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            interval: None,
            count: None,
            failure_limit: Some(0),
            inconclusive_limit: 0,
            error_limit: 4,
            success_limit: 0,
        }
    }
}

impl Schedule {
    fn count(&self) -> Option<u32> {
        match (self.interval, self.count) {
            (_, Some(count)) => Some(count),
            (None, None) => Some(1),
            (Some(_), None) => None,
        }
    }
}

/// Where a run, or a check of it, is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Phase {
    /// Every check has had its measurements and passed.
    Successful,
    /// Something is still to be measured.
    Running,
    /// What was measured says nothing.
    Inconclusive,
    /// It could not be measured.
    Error,
    /// Too much failed.
    Failed,
}

/// A run of checks by their own clocks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SchedulesRun {
    /// When it started.
    pub started: Timestamp,
    /// Where it is.
    pub phase: Phase,
    /// Why it ended, unless all is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<Because>,
    /// The clocks of its checks.
    pub clocks: Vec<CheckClock>,
}

/// A check's clock.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckClock {
    /// Which check.
    pub check: Key,
    /// The measurement that comes next; part of its question's key.
    pub attempt: u32,
    /// When it comes.
    pub due: Timestamp,
    /// Where the check is.
    pub phase: Phase,
    /// Measurements that passed.
    pub passed: u32,
    /// That failed.
    pub failed: u32,
    /// That said nothing.
    pub inconclusive: u32,
    /// That could not be made.
    pub errors: u32,
    /// Passes in a row.
    pub passes_in_a_row: u32,
    /// Errors in a row.
    pub errors_in_a_row: u32,
    /// The last judgement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Judged>,
}

/// Which check ended a run, and by what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Because {
    /// The check's name.
    pub check: String,
    /// What it came to.
    pub phase: Phase,
    /// How many measurements.
    pub count: u32,
    /// How many were allowed.
    pub limit: u32,
}

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { check, phase, count, limit } = self;
        let what = match phase {
            Phase::Failed => "failed",
            Phase::Inconclusive => "inconclusive",
            Phase::Error => "errors in a row",
            Phase::Running | Phase::Successful => "passed in a row",
        };
        write!(f, "{check}: {count} {what}, {limit} allowed")
    }
}

impl Defined for Scheduled {
    fn definition(&self) -> Definition {
        let Self { check, schedule, dry_run } = self;
        let Schedule { delay, interval, count, failure_limit, inconclusive_limit, error_limit, success_limit } =
            schedule;
        check
            .definition()
            .with(delay.as_millis())
            .with_option(interval.map(|interval| interval.as_millis()))
            .with_option(*count)
            .with_option(*failure_limit)
            .with(inconclusive_limit)
            .with(error_limit)
            .with(success_limit)
            .with(dry_run)
    }
}

impl CheckClock {
    fn new(check: Key, due: Timestamp) -> Self {
        Self {
            check,
            attempt: 0,
            due,
            phase: Phase::Running,
            passed: 0,
            failed: 0,
            inconclusive: 0,
            errors: 0,
            passes_in_a_row: 0,
            errors_in_a_row: 0,
            last: None,
        }
    }

    fn measured(&self) -> u32 {
        self.passed.saturating_add(self.failed).saturating_add(self.inconclusive)
    }

    /// Counts one measurement and sets the next.
    fn count(&mut self, scheduled: &Scheduled, judged: Judged, now: Timestamp) {
        let outcome = match judged.verdict {
            Verdict::Pass => Verdict::Pass,
            Verdict::Fail => Verdict::Fail,
            Verdict::Inconclusive => Verdict::Inconclusive,
            Verdict::NoData if scheduled.check.on_no_data == OnMissing::Fail => Verdict::Fail,
            Verdict::Error | Verdict::Several if scheduled.check.on_error == OnMissing::Fail => Verdict::Fail,
            Verdict::NoData if scheduled.check.on_no_data == OnMissing::Pass => Verdict::Pass,
            Verdict::Error | Verdict::Several if scheduled.check.on_error == OnMissing::Pass => Verdict::Pass,
            Verdict::NoData
            | Verdict::Early
            | Verdict::Few
            | Verdict::Error
            | Verdict::Several
            | Verdict::Misconfigured => Verdict::Error,
        };
        self.attempt = self.attempt.saturating_add(1);
        let misconfigured = judged.verdict == Verdict::Misconfigured;
        self.last = Some(judged);
        if misconfigured {
            // Nobody's measurement: it is made when the policy is right.
            self.due = after(now, ERROR_RETRY);
            return;
        }
        let counter = match outcome {
            Verdict::Pass => &mut self.passed,
            Verdict::Fail => &mut self.failed,
            Verdict::Inconclusive => &mut self.inconclusive,
            _ => &mut self.errors,
        };
        *counter = counter.saturating_add(1);
        let in_a_row = |is: bool, count: u32| if is { count.saturating_add(1) } else { 0 };
        self.passes_in_a_row = in_a_row(outcome == Verdict::Pass, self.passes_in_a_row);
        self.errors_in_a_row = in_a_row(outcome == Verdict::Error, self.errors_in_a_row);
        let wait = match (outcome, scheduled.schedule.interval) {
            (Verdict::Error, _) | (_, None) => ERROR_RETRY,
            (_, Some(interval)) => interval,
        };
        self.due = after(now, wait);
        self.phase = self.assess(&scheduled.schedule).0;
    }

    /// What the counts amount to, with the count and the limit that decided.
    fn assess(&self, schedule: &Schedule) -> (Phase, u32, u32) {
        let Schedule { failure_limit, inconclusive_limit, error_limit, success_limit, .. } = *schedule;
        if let Some(limit) = failure_limit.filter(|limit| self.failed > *limit) {
            return (Phase::Failed, self.failed, limit);
        }
        if self.inconclusive > inconclusive_limit {
            return (Phase::Inconclusive, self.inconclusive, inconclusive_limit);
        }
        if self.errors_in_a_row > error_limit {
            return (Phase::Error, self.errors_in_a_row, error_limit);
        }
        if success_limit > 0 && self.passes_in_a_row >= success_limit {
            return (Phase::Successful, self.passes_in_a_row, success_limit);
        }
        match schedule.count() {
            Some(count) if self.measured() >= count => {
                let phase = match (success_limit, failure_limit) {
                    (0, _) => Phase::Successful,
                    (_, Some(_)) => Phase::Inconclusive,
                    (_, None) => Phase::Failed,
                };
                (phase, self.passes_in_a_row, success_limit)
            }
            Some(_) | None => (Phase::Running, self.measured(), 0),
        }
    }

    /// A clock that was put back: no measurement is further away than its own wait.
    fn follow_clock(&mut self, schedule: &Schedule, now: Timestamp) {
        let wait = schedule.interval.unwrap_or(Duration::ZERO).max(schedule.delay).max(ERROR_RETRY);
        self.due = self.due.min(after(now, wait));
    }
}

impl SchedulesRun {
    /// A run that starts now.
    pub fn new(now: Timestamp) -> Self {
        Self { started: now, phase: Phase::Running, because: None, clocks: Vec::new() }
    }

    /// Ends it; what was good so far is good.
    pub fn stop(&mut self) {
        if self.phase == Phase::Running {
            self.phase = Phase::Successful;
        }
    }

    /// What of the policy is at fault, with the check's name.
    pub fn misconfigured(&self) -> Option<(&str, &str)> {
        let at_fault = |judged: &&Judged| judged.verdict == Verdict::Misconfigured;
        let judged = self.clocks.iter().filter_map(|clock| clock.last.as_ref()).find(at_fault)?;
        Some((&judged.name, judged.text.as_deref().unwrap_or_default()))
    }

    /// Every check has a clock, and no clock is without its check.
    fn follow_plan(&mut self, plan: &Schedules) {
        self.clocks.retain(|clock| plan.checks.get(&clock.check).is_some());
        for (key, scheduled) in plan.checks.iter() {
            if self.clocks.iter().all(|clock| clock.check != *key) {
                self.clocks.push(CheckClock::new(key.clone(), after(self.started, scheduled.schedule.delay)));
            }
        }
    }
}

impl Schedules {
    /// One look: judges every measurement that is due and answered or late, and sets the clocks anew.
    pub fn advance(&self, mut run: SchedulesRun, answered: &dyn Answered, now: Timestamp) -> Turn<SchedulesRun> {
        if run.phase != Phase::Running {
            return Turn::waiting(run, Vec::new(), None);
        }
        run.started = run.started.min(now);
        run.follow_plan(self);
        let mut turn = Turn::waiting(run, Vec::new(), None);
        let mut wakes = Vec::new();
        for clock in turn.run.clocks.iter_mut().filter(|clock| clock.phase == Phase::Running) {
            let Some(scheduled) = self.checks.get(&clock.check) else { continue };
            clock.follow_clock(&scheduled.schedule, now);
            if now < clock.due {
                wakes.push(clock.due);
                continue;
            }
            let check = &scheduled.check;
            let subject = Subject::Metric { check: clock.check.clone(), window: check.window };
            let ask = Ask::new(subject, clock.attempt, clock.due, check.patience, (answered, now));
            if ask.is_pending(answered, now) {
                wakes.push(ask.until);
                turn.asks.push(ask);
                continue;
            }
            let measured = answered.metric(&clock.check, clock.attempt);
            let (judged, reading) = Judged::of(check, measured, check.window);
            turn.judged = true;
            if judged.verdict != Verdict::Pass {
                turn.news.push(News::Check { check: clock.check.clone(), reading, judged: judged.clone() });
            }
            clock.count(scheduled, judged, now);
            if clock.phase == Phase::Running {
                wakes.push(clock.due);
            }
        }
        turn.wake = wakes.into_iter().min();
        turn.end = self.conclude(&mut turn.run);
        turn
    }

    /// The worst of the checks ends the run at once; passed is what all have passed.
    fn conclude(&self, run: &mut SchedulesRun) -> Option<End> {
        let clocks = run.clocks.iter().filter_map(|clock| Some((clock, self.checks.get(&clock.check)?)));
        let clocks: Vec<_> = clocks.collect();
        let bad = clocks.iter().filter(|(clock, scheduled)| clock.phase > Phase::Running && !scheduled.dry_run);
        let Some((clock, scheduled)) = bad.max_by_key(|(clock, _)| clock.phase) else {
            if clocks.iter().any(|(clock, _)| clock.phase == Phase::Running) {
                return None;
            }
            run.phase = Phase::Successful;
            return Some(End::Passed);
        };
        let (phase, count, limit) = clock.assess(&scheduled.schedule);
        let name = scheduled.check.name.clone();
        let because = Because { check: name.clone(), phase, count, limit };
        let what = because.to_string();
        let last = clock.last.clone().map(|judged| News::Check {
            check: clock.check.clone(),
            reading: judged.value.map_or_else(
                || Reading::NoData { reason: judged.text.clone().unwrap_or_default() },
                |value| Reading::Value { value },
            ),
            judged,
        });
        run.phase = phase;
        run.because = Some(because);
        Some(match (phase, last) {
            (Phase::Inconclusive, _) => End::Inconclusive { check: name, what },
            (Phase::Error, Some(last)) => End::HeldTooLong { limit: count, missing: Box::new(last) },
            (_, last) => End::Failed { limit: count, failed: last.into_iter().collect() },
        })
    }
}
