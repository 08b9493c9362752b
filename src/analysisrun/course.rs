//! One look at a run: what its status says and what has been measured since becomes the next status.
//!
//! The status is all there is: the clocks of the checks are read from it and written back into it, in upstream's fields. So a run
//! that somebody else has begun goes on, and a crash between any two writes loses nothing and counts nothing twice. A
//! measurement's slot is its number within its metric. What is asked twice without harm is asked again after a crash; what is
//! not is written down before it is asked ([`Planned::recorded`]).

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use jiff::{Timestamp, Unit};

use crate::analysis::{
    Answered, CheckClock, HookReply, Judged, Key, Measurement as Sample, Phase, Reading, Requests, SchedulesRun,
    Subject, Verdict,
};
use crate::api::argo::{
    AnalysisRunSpec, AnalysisRunStatus, Measurement, MetricResult, RunPhase, RunSummary, TtlStrategy,
};
use crate::model::{after, told};

use super::args::Args;
use super::plan::{Plan, Planned};
use super::words;

/// Wait after a measurement that could not be made (Argo Rollouts' `DefaultErrorRetryInterval`).
const ERROR_RETRY: Duration = Duration::from_secs(10);
/// Longest value that is shown: ten of them are kept for each metric.
const VALUE_MAX: usize = 1024;
/// What a measurement says that somebody ended.
const TERMINATED: &str = "Metric Terminated";

/// What a provider answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Taken {
    /// What came back.
    pub reading: Reading,
    /// The same in words.
    pub value: Option<String>,
    /// What else is to be said.
    pub message: Option<String>,
    /// What the provider says of it.
    pub metadata: BTreeMap<String, String>,
    /// When it was asked.
    pub started: Timestamp,
}

impl Taken {
    /// That nothing could be measured, and why.
    pub fn failed(why: impl Into<String>, started: Timestamp) -> Self {
        let reading = Reading::Error { reason: why.into() };
        Self { reading, value: None, message: None, metadata: BTreeMap::new(), started }
    }
}

/// What has been measured so far.
pub trait Given {
    /// What a metric's slot came to.
    fn taken(&self, metric: &str, slot: u32) -> Option<&Taken>;
    /// Since when this process has been asking.
    fn asking_since(&self) -> Timestamp;
    /// Whether this process has written down that a slot is asked.
    fn has_begun(&self, metric: &str, slot: u32) -> bool;
}

/// A measurement that is to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// The metric's place in [`Plan::metrics`].
    pub metric: usize,
    /// Its number, from 0.
    pub number: u32,
}

/// A look.
#[derive(Clone, Copy)]
pub struct Look<'a> {
    /// What is measured.
    pub plan: &'a Plan,
    /// The status as it is.
    pub status: &'a AnalysisRunStatus,
    /// Somebody wants it to end.
    pub terminate: bool,
    /// What has been measured.
    pub given: &'a dyn Given,
    /// Now.
    pub now: Timestamp,
}

/// What comes of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Next {
    /// The status, to be written before anything is asked.
    pub status: AnalysisRunStatus,
    /// What is to be asked when the status is written; what is asked already is in it again.
    pub asks: Vec<Slot>,
    /// When to look again.
    pub wake: Option<Timestamp>,
}

/// The status of a run that cannot begin, or not go on.
pub fn failed(status: &AnalysisRunStatus, why: &str, now: Timestamp) -> AnalysisRunStatus {
    let now = whole(now);
    AnalysisRunStatus {
        phase: RunPhase::Error,
        message: Some(told(why)),
        started_at: status.started_at.or(Some(now)),
        completed_at: Some(now),
        ..status.clone()
    }
}

/// When a run that is over is deleted.
pub fn expires(spec: &AnalysisRunSpec, status: &AnalysisRunStatus) -> Option<Timestamp> {
    let TtlStrategy { seconds_after_completion, seconds_after_failure, seconds_after_success } =
        spec.ttl_strategy?;
    let of_phase = match status.phase {
        RunPhase::Successful => seconds_after_success,
        RunPhase::Failed => seconds_after_failure,
        RunPhase::Error | RunPhase::Inconclusive => None,
        RunPhase::Pending | RunPhase::Running => return None,
    };
    let seconds = u64::try_from(of_phase.or(seconds_after_completion)?).unwrap_or(0);
    Some(after(status.completed_at?, Duration::from_secs(seconds)))
}

/// Takes a run one look further.
pub fn advance(look: Look<'_>) -> Next {
    let Look { plan, terminate, given, now, .. } = look;
    let mut status = look.status.clone();
    if status.phase.is_over() {
        return Next { status, asks: Vec::new(), wake: None };
    }
    status.started_at.get_or_insert(whole(now));
    status.phase = RunPhase::Running;
    if terminate {
        conclude(plan, &mut status, true, now);
        return Next { status, asks: Vec::new(), wake: None };
    }
    interrupted(plan, &mut status, given, now);
    let before = clocks(plan, &status, now);
    let answers = Answers::new(plan, given, &before);
    let turn = plan.schedules.advance(before.clone(), &answers, now);
    for (planned, clock) in of_metrics(plan, &turn.run) {
        let attempt = before.clocks.iter().find(|before| before.check == clock.check).map_or(0, |it| it.attempt);
        if clock.attempt != attempt {
            let taken = given.taken(&planned.name, attempt);
            note(result_of(&mut status, planned, &plan.args), planned, clock, taken, now);
        }
    }
    let slots = turn.asks.iter().filter_map(|ask| match &ask.subject {
        Subject::Metric { check, .. } => {
            let metric = plan.metrics.iter().position(|planned| planned.key == *check)?;
            Some(Slot { metric, number: ask.attempt })
        }
        Subject::Hook(_) | Subject::Requests { .. } => None,
    });
    let asks: Vec<Slot> = slots.collect();
    for slot in &asks {
        begin(plan, &mut status, *slot, now);
    }
    if turn.end.is_some() {
        conclude(plan, &mut status, false, now);
        return Next { status, asks: Vec::new(), wake: None };
    }
    summarise(plan, &mut status);
    Next { status, asks, wake: turn.wake }
}

/// Moments are told in whole seconds, as upstream does.
fn whole(time: Timestamp) -> Timestamp {
    time.round(jiff::TimestampRound::new().smallest(Unit::Second).mode(jiff::RoundMode::Floor)).unwrap_or(time)
}

fn of_metrics<'a>(plan: &'a Plan, run: &'a SchedulesRun) -> impl Iterator<Item = (&'a Planned, &'a CheckClock)> {
    run.clocks.iter().filter_map(|clock| {
        let planned = plan.metrics.iter().find(|planned| planned.key == clock.check)?;
        Some((planned, clock))
    })
}

fn found<'a>(status: &'a AnalysisRunStatus, name: &str) -> Option<&'a MetricResult> {
    status.metric_results.iter().find(|result| result.name == name)
}

/// The result of a metric, which is there from its first measurement on.
fn result_of<'a>(status: &'a mut AnalysisRunStatus, planned: &Planned, args: &Args) -> &'a mut MetricResult {
    let results = &mut status.metric_results;
    let index = results.iter().position(|result| result.name == planned.name).unwrap_or_else(|| {
        let query = planned.resolved_query(args).map(|query| ("ResolvedPrometheusQuery".to_owned(), query));
        results.push(MetricResult {
            name: planned.name.clone(),
            phase: RunPhase::Running,
            dry_run: planned.dry_run,
            metadata: query.into_iter().collect(),
            ..MetricResult::default()
        });
        results.len() - 1
    });
    &mut results[index]
}

/// The clocks that a status shows.
fn clocks(plan: &Plan, status: &AnalysisRunStatus, now: Timestamp) -> SchedulesRun {
    let started = status.started_at.unwrap_or(now).min(now);
    let clock = |planned: &Planned| {
        let none = MetricResult::default();
        let result = found(status, &planned.name).unwrap_or(&none);
        let count = |count: i32| u32::try_from(count).unwrap_or(0);
        CheckClock {
            check: planned.key.clone(),
            attempt: count(result.count).saturating_add(count(result.error)),
            due: due(planned, result, started),
            phase: phase(result.phase),
            passed: count(result.successful),
            failed: count(result.failed),
            inconclusive: count(result.inconclusive),
            errors: count(result.error),
            passes_in_a_row: count(result.consecutive_success),
            errors_in_a_row: count(result.consecutive_error),
            last: None,
        }
    };
    SchedulesRun {
        started,
        phase: Phase::Running,
        because: None,
        clocks: plan.metrics.iter().map(clock).collect(),
    }
}

fn due(planned: &Planned, result: &MetricResult, started: Timestamp) -> Timestamp {
    let Some(last) = result.measurements.last() else { return after(started, planned.schedule.delay) };
    let Some(finished) = last.finished_at else { return last.started_at.unwrap_or(started) };
    let wait = match (last.phase, planned.schedule.interval) {
        (RunPhase::Error, _) | (_, None) => ERROR_RETRY,
        (_, Some(interval)) => interval,
    };
    after(finished, wait)
}

fn phase(phase: RunPhase) -> Phase {
    match phase {
        RunPhase::Pending | RunPhase::Running => Phase::Running,
        RunPhase::Successful => Phase::Successful,
        RunPhase::Failed => Phase::Failed,
        RunPhase::Error => Phase::Error,
        RunPhase::Inconclusive => Phase::Inconclusive,
    }
}

fn told_phase(phase: Phase) -> RunPhase {
    match phase {
        Phase::Running => RunPhase::Running,
        Phase::Successful => RunPhase::Successful,
        Phase::Failed => RunPhase::Failed,
        Phase::Error => RunPhase::Error,
        Phase::Inconclusive => RunPhase::Inconclusive,
    }
}

/// Notes what a measurement came to.
fn note(result: &mut MetricResult, planned: &Planned, clock: &CheckClock, taken: Option<&Taken>, now: Timestamp) {
    let judged = clock.last.as_ref();
    let phase = judged.map_or(RunPhase::Error, |judged| of_verdict(judged.verdict));
    let open = result.measurements.last_mut().filter(|last| last.finished_at.is_none());
    let begun = open.as_ref().and_then(|open| open.started_at);
    let mut metadata = open.map(|open| std::mem::take(&mut open.metadata)).unwrap_or_default();
    metadata.extend(taken.map(|taken| taken.metadata.clone()).unwrap_or_default());
    let measurement = Measurement {
        phase,
        message: message(judged, taken, phase).map(told),
        started_at: begun.or_else(|| taken.map(|taken| whole(taken.started))).or(Some(whole(now))),
        finished_at: Some(whole(now)),
        value: taken.and_then(|taken| taken.value.as_deref()).map(|value| cut(value, VALUE_MAX)),
        metadata,
        resume_at: None,
    };
    put(result, planned, measurement);
    let count = |count: u32| i32::try_from(count).unwrap_or(i32::MAX);
    result.successful = count(clock.passed);
    result.failed = count(clock.failed);
    result.inconclusive = count(clock.inconclusive);
    result.error = count(clock.errors);
    result.count = result.successful.saturating_add(result.failed).saturating_add(result.inconclusive);
    result.consecutive_error = count(clock.errors_in_a_row);
    result.consecutive_success = count(clock.passes_in_a_row);
    settle(result, told_phase(clock.phase));
}

/// Why a measurement is no success: what could not be measured or evaluated, and what its provider says.
fn message(judged: Option<&Judged>, taken: Option<&Taken>, phase: RunPhase) -> Option<String> {
    let judged = judged.and_then(|judged| judged.text.clone()).filter(|_| phase == RunPhase::Error);
    let said = taken.and_then(|taken| taken.message.clone()).filter(|_| phase != RunPhase::Successful);
    match (judged, said) {
        (Some(judged), Some(said)) => Some(format!("{judged}: {said}")),
        (judged, said) => judged.or(said),
    }
}

fn cut(text: &str, most: usize) -> String {
    let end = (0..=most.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    let kept = text.get(..end).unwrap_or_default();
    if kept.len() < text.len() { format!("{kept}…") } else { kept.to_owned() }
}

fn of_verdict(verdict: Verdict) -> RunPhase {
    match verdict {
        Verdict::Pass => RunPhase::Successful,
        Verdict::Fail => RunPhase::Failed,
        Verdict::Inconclusive => RunPhase::Inconclusive,
        Verdict::NoData
        | Verdict::Early
        | Verdict::Few
        | Verdict::Several
        | Verdict::Error
        | Verdict::Misconfigured => RunPhase::Error,
    }
}

/// A measurement takes the place of the one that was open, or follows the others; the oldest go.
fn put(result: &mut MetricResult, planned: &Planned, measurement: Measurement) {
    match result.measurements.last_mut().filter(|last| last.finished_at.is_none()) {
        Some(open) => *open = measurement,
        None => result.measurements.push(measurement),
    }
    let surplus = result.measurements.len().saturating_sub(planned.keep);
    result.measurements.drain(..surplus);
}

/// A metric that changes its phase says what its last measurement said.
fn settle(result: &mut MetricResult, phase: RunPhase) {
    if result.phase != phase {
        result.phase = phase;
        result.message = result.measurements.last().and_then(|last| last.message.clone());
    }
}

/// Writes down that a measurement begins which must not be made twice.
fn begin(plan: &Plan, status: &mut AnalysisRunStatus, slot: Slot, now: Timestamp) {
    let Some(planned) = plan.metrics.get(slot.metric).filter(|planned| planned.recorded) else { return };
    let result = result_of(status, planned, &plan.args);
    if result.measurements.last().is_some_and(|last| last.finished_at.is_none()) {
        return;
    }
    let measurement =
        Measurement { phase: RunPhase::Running, started_at: Some(whole(now)), ..Measurement::default() };
    put(result, planned, measurement);
}

/// Measurements that an earlier process began and that cannot be made twice: whether they were made nobody knows. A Job is found
/// again by its name.
fn interrupted(plan: &Plan, status: &mut AnalysisRunStatus, given: &dyn Given, now: Timestamp) {
    for planned in plan.metrics.iter().filter(|planned| planned.recorded && !planned.is_job) {
        let Some(result) = status.metric_results.iter_mut().find(|result| result.name == planned.name) else {
            continue;
        };
        let slot = u32::try_from(result.count.saturating_add(result.error)).unwrap_or(0);
        let open = result.measurements.last().is_some_and(|last| last.finished_at.is_none());
        if !open || given.has_begun(&planned.name, slot) {
            continue;
        }
        let started_at = result.measurements.last().and_then(|last| last.started_at);
        let message = Some("nobody knows whether it was asked: the process ended meanwhile".to_owned());
        let finished_at = Some(whole(now));
        let error =
            Measurement { phase: RunPhase::Error, message, started_at, finished_at, ..Measurement::default() };
        put(result, planned, error);
        result.error = result.error.saturating_add(1);
        result.consecutive_error = result.consecutive_error.saturating_add(1);
        result.consecutive_success = 0;
        if let Some((phase, _)) = words::too_much(result, &planned.schedule) {
            settle(result, phase);
        }
    }
}

/// Ends a run: what is still under way is ended, and the worst of its metrics is what it came to.
fn conclude(plan: &Plan, status: &mut AnalysisRunStatus, asked: bool, now: Timestamp) {
    for planned in &plan.metrics {
        let Some(result) = status.metric_results.iter_mut().find(|result| result.name == planned.name) else {
            continue;
        };
        if result.phase.is_over() {
            continue;
        }
        if let Some(open) = result.measurements.last_mut().filter(|last| last.finished_at.is_none()) {
            open.phase = RunPhase::Inconclusive;
            open.message = Some(TERMINATED.to_owned());
            open.finished_at = Some(whole(now));
            result.inconclusive = result.inconclusive.saturating_add(1);
            result.count = result.count.saturating_add(1);
            result.consecutive_success = 0;
        }
        let phase = words::too_much(result, &planned.schedule).map_or(RunPhase::Successful, |(phase, _)| phase);
        settle(result, phase);
    }
    let mut worst: Option<(RunPhase, String)> = None;
    for planned in &plan.metrics {
        let Some(index) = status.metric_results.iter().position(|result| result.name == planned.name) else {
            continue;
        };
        let result = &mut status.metric_results[index];
        let why = words::too_much(result, &planned.schedule).map(|(_, why)| why);
        if planned.dry_run {
            let phase = result.phase;
            result.message =
                why.map(|why| format!("Metric assessed {phase} due to {why}")).or(result.message.take());
            continue;
        }
        if worst.as_ref().is_none_or(|(phase, _)| severity(result.phase) > severity(*phase)) {
            worst = Some((result.phase, why.map(|why| words::assessed(result, &why)).unwrap_or_default()));
        }
    }
    let (phase, message) = worst.unwrap_or((RunPhase::Successful, String::new()));
    let message = if message.is_empty() && asked { "Run Terminated".to_owned() } else { message };
    status.phase = phase;
    status.message = Some(message).filter(|message| !message.is_empty()).map(told);
    status.completed_at = Some(whole(now));
    summarise(plan, status);
}

fn severity(phase: RunPhase) -> u8 {
    match phase {
        RunPhase::Successful => 0,
        RunPhase::Running => 1,
        RunPhase::Pending => 2,
        RunPhase::Inconclusive => 3,
        RunPhase::Error => 4,
        RunPhase::Failed => 5,
    }
}

/// How many metrics came to what.
fn summarise(plan: &Plan, status: &mut AnalysisRunStatus) {
    let of = |dry_run: bool| {
        let mut summary = RunSummary::default();
        for planned in plan.metrics.iter().filter(|planned| planned.dry_run == dry_run) {
            summary.count += 1;
            match found(status, &planned.name).map(|result| result.phase) {
                Some(RunPhase::Successful) => summary.successful += 1,
                Some(RunPhase::Failed) => summary.failed += 1,
                Some(RunPhase::Inconclusive) => summary.inconclusive += 1,
                Some(RunPhase::Error) => summary.error += 1,
                Some(RunPhase::Pending | RunPhase::Running) | None => {}
            }
        }
        summary
    };
    (status.run_summary, status.dry_run_summary) = (Some(of(false)), Some(of(true)));
}

/// What has been measured, as the clocks ask for it.
struct Answers {
    samples: HashMap<(Key, u32), Sample>,
    since: Timestamp,
}

impl Answers {
    fn new(plan: &Plan, given: &dyn Given, run: &SchedulesRun) -> Self {
        let sample = |(planned, clock): (&Planned, &CheckClock)| {
            let taken = given.taken(&planned.name, clock.attempt)?;
            // A run by itself has nobody who mends it: what is misconfigured could not be measured.
            let reading = match &taken.reading {
                Reading::Misconfigured { reason } => Reading::Error { reason: reason.clone() },
                other => other.clone(),
            };
            let sample = Sample { reading, query: String::new(), at: taken.started };
            Some(((planned.key.clone(), clock.attempt), sample))
        };
        let samples = of_metrics(plan, run).filter_map(sample).collect();
        Self { samples, since: given.asking_since() }
    }
}

impl Answered for Answers {
    fn metric(&self, check: &Key, attempt: u32) -> Option<&Sample> {
        self.samples.get(&(check.clone(), attempt))
    }

    fn hook(&self, _hook: &Key, _attempt: u32) -> Option<&HookReply> {
        None
    }

    fn requests(&self, _check: &Key, _attempt: u32) -> Option<&Requests> {
        None
    }

    fn asking_since(&self) -> Option<Timestamp> {
        Some(self.since)
    }
}

#[cfg(test)]
mod tests;
