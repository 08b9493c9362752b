//! Flagger's pace: all checks together, once an interval, with one shared count of failures.
//!
//! A round opens, its rollout hooks are called; an interval later it closes and its checks are asked. When everything is
//! answered or late it is judged, once, and the next one opens. A round's window is the time at the present exposure, at
//! most the metric's own interval, so each step is judged by its own traffic at the pace that the user asked for.

mod few;

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::{after, between};

use super::judged::Judged;
use super::run::{Answered, Ask, End, Mode, News, Subject, Turn};
use super::{Check, Hook, HookKind, HookReply, Key, Keyed, OnMissing, Verdict};

/// While a release waits, as many failures as the threshold end it when they come within this many times as many rounds:
/// half of all rounds. Added up over days, single failures would end a healthy version.
const WAITING_ROUNDS: u32 = 2;
/// Most failures that are remembered; a higher threshold counts as this one. It bounds the status.
const THRESHOLD_MAX: u32 = 1_000;
/// Longest wait for the router's counters once everything else is answered.
const COUNTERS_PATIENCE: Duration = Duration::from_secs(30);
/// What a late hook is taken to have said.
pub(super) const NO_ANSWER: &str = "no answer in time";

/// What is checked in each round.
#[derive(Debug, Clone, PartialEq)]
pub struct Rounds {
    /// Flagger's `spec.analysis.interval`: from the opening of a round to its close.
    pub interval: Duration,
    /// Failed rounds that end the run; at least 1.
    pub threshold: u32,
    /// The metric checks.
    pub checks: Keyed<Check>,
    /// [`HookKind::Rollout`] is called when a round opens and has to accept, [`HookKind::Rollback`] when it closes and ends the
    /// run if it accepts. Other kinds have no part in rounds.
    pub hooks: Keyed<Hook>,
    /// Rounds that may be held for missing data or provider errors, one after the other, before the run ends.
    pub hold_limit: u32,
    /// Requests at the candidate from which on an empty answer is a failed check; `None` where the router does not count: then
    /// no check has too few of them either.
    pub min_samples: Option<u64>,
}

/// Where the rounds are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoundsRun {
    /// The open round; part of every question's key.
    pub round: u32,
    /// When it opened.
    pub opened: Timestamp,
    /// When it closes.
    pub due: Timestamp,
    /// Since when the candidate has been watched as it is used now: no window reaches before. `None` while it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// What windows are stretched to, as far as the present exposure goes back, because there were too few requests in shorter
    /// ones: milliseconds, 0 for no further than the metric's interval.
    #[serde(default, skip_serializing_if = "is_short")]
    pub reach: u64,
    /// The rounds that failed and still count.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<u32>,
    /// Held rounds in a row.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub held: u32,
    /// The last round, if it passed at the present exposure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passed: Option<Passed>,
    /// What keeps the last round from being passed, besides failures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<Trouble>,
    /// The last judgement of every check.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<Known>,
}

/// A round that passed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Passed {
    /// Which.
    pub round: u32,
    /// When it was judged.
    pub at: Timestamp,
    /// What was asked in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub asked: Vec<Key>,
}

/// Why a round neither passed nor failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Trouble {
    /// Data is missing, or could not be had.
    Data {
        /// The check's name.
        check: String,
        /// Why.
        reason: String,
    },
    /// The policy is at fault.
    Policy {
        /// The check's name.
        check: String,
        /// What, and what helps.
        reason: String,
    },
}

/// A check with its last judgement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Known {
    /// Which.
    pub check: Key,
    /// What it was.
    #[serde(flatten)]
    pub judged: Judged,
}

/// What a round amounts to.
#[derive(Debug, Default)]
struct Tally {
    news: Vec<News>,
    failed: Vec<News>,
    missing: Option<News>,
    /// Too few requests that would be held, whatever they are taken for at the last round that may be.
    few: bool,
    early: bool,
    trouble: Option<Trouble>,
    inconclusive: Option<(String, String)>,
}

impl Default for RoundsRun {
    /// Of a time before all windows.
    fn default() -> Self {
        Self::new(Timestamp::UNIX_EPOCH)
    }
}

impl RoundsRun {
    /// Nothing is watched yet.
    pub fn new(now: Timestamp) -> Self {
        Self {
            round: 0,
            opened: now,
            due: now,
            since: None,
            reach: 0,
            failures: Vec::new(),
            held: 0,
            passed: None,
            trouble: None,
            checks: Vec::new(),
        }
    }

    /// The candidate is used in another way from now on: a round opens that knows nothing of before.
    pub fn start(&mut self, plan: &Rounds, now: Timestamp) {
        (self.since, self.reach) = (Some(now), 0);
        self.doubt();
        self.open(now, after(now, plan.interval));
    }

    /// What is watched is shown only now: the open round, whose hooks may have been called when it was meant, counts from here.
    pub fn settle(&mut self, plan: &Rounds, now: Timestamp) {
        (self.since, self.reach) = (Some(now), 0);
        self.doubt();
        (self.opened, self.due) = (now, after(now, plan.interval));
    }

    /// The candidate is not used any more: nothing is asked until it is again. What failed still counts.
    pub fn stop(&mut self) {
        self.since = None;
        self.doubt();
    }

    /// Whether rounds follow each other.
    pub fn is_open(&self) -> bool {
        self.since.is_some()
    }

    /// What has passed does not count any more; the next round will say.
    pub fn doubt(&mut self) {
        self.passed = None;
        self.trouble = None;
        self.held = 0;
    }

    /// Something that belongs to the release failed outside the rounds and counts like a failed round. `true` if that was one
    /// too many.
    pub fn fail(&mut self, plan: &Rounds) -> bool {
        self.failures.push(self.round);
        self.round = self.round.saturating_add(1);
        self.is_over(plan)
    }

    /// Failures that count.
    pub fn failed(&self) -> u32 {
        u32::try_from(self.failures.len()).unwrap_or(u32::MAX)
    }

    fn is_over(&self, plan: &Rounds) -> bool {
        self.failed() >= plan.threshold.min(THRESHOLD_MAX)
    }

    fn open(&mut self, now: Timestamp, due: Timestamp) {
        self.round = self.round.saturating_add(1);
        (self.opened, self.due) = (now, due);
    }

    /// After the clock was put back nothing would close until it is where it was: a window that is further away than its own
    /// length is opened anew.
    fn follow_clock(&mut self, plan: &Rounds, now: Timestamp) {
        if self.due > after(now, plan.interval) {
            self.open(now, after(now, plan.interval));
        }
        self.opened = self.opened.min(now);
        self.since = self.since.map(|since| since.min(now));
        if let Some(passed) = &mut self.passed {
            passed.at = passed.at.min(now);
        }
    }
}

impl Rounds {
    /// Whether there is anything to ask.
    pub fn is_empty(&self) -> bool {
        self.checks.is_empty() && self.hooks.is_empty()
    }

    /// Whether users may be exposed further: a round has passed as they are exposed now, it is the last one, and it is not
    /// older than an interval.
    pub fn may_raise(&self, run: &RoundsRun, now: Timestamp) -> bool {
        let is_fresh = |passed: &Passed| self.was_asked(passed) && between(passed.at, now) <= self.interval;
        self.is_empty() || run.passed.as_ref().is_some_and(is_fresh)
    }

    /// Whether `round` or a later one has passed, the last one among them.
    pub fn has_passed(&self, run: &RoundsRun, round: u32) -> bool {
        run.passed.as_ref().is_some_and(|passed| passed.round >= round && self.was_asked(passed))
    }

    /// Whether everything that is checked now was asked in a round: what an edit adds has a say before the next raise.
    fn was_asked(&self, passed: &Passed) -> bool {
        self.keys().all(|key| passed.asked.contains(key))
    }

    fn keys(&self) -> impl Iterator<Item = &Key> {
        let is_asked = |hook: &Hook| matches!(hook.kind, HookKind::Rollout | HookKind::Rollback);
        let hooks = self.hooks.iter().filter(move |(_, hook)| is_asked(hook));
        self.checks.iter().map(|(key, _)| key).chain(hooks.map(|(key, _)| key))
    }

    /// One look: judges the open round if it is due and everything is answered or late, and opens the next.
    pub fn advance(
        &self,
        mut run: RoundsRun,
        answered: &dyn Answered,
        mode: Mode,
        now: Timestamp,
    ) -> Turn<RoundsRun> {
        if !run.is_open() {
            return Turn::waiting(run, Vec::new(), None);
        }
        run.follow_clock(self, now);
        if self.is_empty() && mode == Mode::Waiting {
            return Turn::waiting(run, Vec::new(), None);
        }
        let mut asks = self.asks(&run, answered, now);
        asks.retain(|ask| ask.is_pending(answered, now));
        if now < run.due {
            let wake = Some(run.due);
            return Turn::waiting(run, asks, wake);
        }
        if !asks.is_empty() {
            let wake = asks.iter().map(|ask| ask.until).min();
            return Turn::waiting(run, asks, wake);
        }
        self.judge(run, answered, mode, now)
    }

    /// The questions of the open round, answered or not.
    fn asks(&self, run: &RoundsRun, answered: &dyn Answered, now: Timestamp) -> Vec<Ask> {
        let ask = |subject, from, patience| Ask::new(subject, run.round, from, patience, (answered, now));
        let hooks = |kind: HookKind, from: Timestamp| {
            let of_kind = self.hooks.iter().filter(move |(_, hook)| hook.kind == kind);
            of_kind.map(move |(key, hook)| ask(Subject::Hook(key.clone()), from, hook.patience()))
        };
        let mut asks: Vec<Ask> = hooks(HookKind::Rollout, run.opened).collect();
        if now < run.due {
            return asks;
        }
        let checks = self.checks.iter().filter(|(_, check)| !waits_for_its_window(check, run));
        asks.extend(checks.map(|(key, check)| {
            let subject = Subject::Metric { check: key.clone(), window: window(check, run) };
            ask(subject, run.due, check.patience)
        }));
        asks.extend(hooks(HookKind::Rollback, run.due));
        let counted = self.checks.iter().filter(|(key, check)| self.is_counted(run, key, check, answered));
        asks.extend(counted.map(|(key, check)| {
            let subject = Subject::Requests { check: key.clone(), window: window(check, run) };
            ask(subject, run.due, check.patience + COUNTERS_PATIENCE)
        }));
        asks
    }

    fn judge(&self, mut run: RoundsRun, answered: &dyn Answered, mode: Mode, now: Timestamp) -> Turn<RoundsRun> {
        let accepts = |key: &Key| answered.hook(key, run.round).is_some_and(|reply| reply.accepted);
        let rollback = self.hooks.iter().find(|(key, hook)| hook.kind == HookKind::Rollback && accepts(key));
        let rollback = rollback.map(|(_, hook)| End::RolledBack { hook: hook.name.clone() });
        let mut tally = self.weigh(&mut run, answered, mode);
        let news = std::mem::take(&mut tally.news);
        let end = rollback.or_else(|| self.conclude(&mut run, tally, mode, now));
        let asks = Vec::new();
        if end.is_none() || matches!(end, Some(End::Inconclusive { .. })) {
            let next = after(run.due, self.interval);
            let due = if next > now { next } else { after(now, self.interval) };
            run.open(now, due);
        }
        let wake = Some(run.due);
        Turn { run, asks, news, judged: true, wake, end }
    }

    fn weigh(&self, run: &mut RoundsRun, answered: &dyn Answered, mode: Mode) -> Tally {
        let mut tally = Tally::default();
        for (key, check) in self.checks.iter() {
            let (judged, reading) = self.judge_check(run, key, check, answered);
            let before = run.remember(key, &judged);
            let what = judged.text.clone().unwrap_or_default();
            let news = News::Check { check: key.clone(), reading, judged: judged.clone() };
            let counts = match judged.verdict {
                Verdict::Pass => continue,
                Verdict::Early => {
                    tally.early = true;
                    continue;
                }
                Verdict::Misconfigured => {
                    tally.trouble = Some(Trouble::Policy { check: check.name.clone(), reason: what });
                    OnMissing::Hold
                }
                Verdict::Inconclusive => {
                    tally.inconclusive.get_or_insert((check.name.clone(), what));
                    OnMissing::Hold
                }
                Verdict::Fail => OnMissing::Fail,
                Verdict::NoData => check.on_no_data,
                Verdict::Few => self.on_few(run, check, mode),
                Verdict::Error | Verdict::Several => check.on_error,
            };
            tally.few |= judged.verdict == Verdict::Few && check.on_few == OnMissing::Hold;
            if counts == OnMissing::Pass {
                continue;
            }
            // What only holds is said once, not for every round of a night without users.
            let repeats = match judged.verdict {
                Verdict::Fail => true,
                Verdict::Misconfigured | Verdict::Few => counts == OnMissing::Fail,
                _ => mode == Mode::Moving,
            };
            // Nobody waits for the verdict: what is few holds nothing up.
            let is_quiet = judged.verdict == Verdict::Few && counts == OnMissing::Hold && mode == Mode::Waiting;
            if !is_quiet && (repeats || before != Some(judged.verdict)) {
                tally.news.push(news.clone());
            }
            match (counts, judged.verdict) {
                (OnMissing::Fail, _) => tally.failed.push(news),
                (OnMissing::Hold, Verdict::NoData | Verdict::Few | Verdict::Error | Verdict::Several) => {
                    tally.missing.get_or_insert(news);
                    let reason = judged.text.unwrap_or_default();
                    tally.trouble.get_or_insert(Trouble::Data { check: check.name.clone(), reason });
                }
                (OnMissing::Hold | OnMissing::Pass, _) => {}
            }
        }
        self.stretch(run, answered);
        // The checks that a policy has no more.
        run.checks.retain(|known| self.checks.get(&known.check).is_some());
        for (key, hook) in self.hooks.iter().filter(|(_, hook)| hook.kind == HookKind::Rollout) {
            let reply = match answered.hook(key, run.round) {
                Some(HookReply { accepted: true, .. }) => continue,
                Some(HookReply { accepted: false, body }) => body.clone(),
                None => NO_ANSWER.to_owned(),
            };
            let news = News::Hook { name: hook.name.clone(), reply };
            tally.news.push(news.clone());
            tally.failed.push(news);
        }
        tally
    }

    fn judge_check(
        &self,
        run: &RoundsRun,
        key: &Key,
        check: &Check,
        answered: &dyn Answered,
    ) -> (Judged, super::Reading) {
        if waits_for_its_window(check, run) {
            let why = format!("its query looks back over {}s", check.window.as_secs_f64());
            let reading = super::Reading::NoData { reason: why.clone() };
            return (Judged::unasked(check, Verdict::Early, why), reading);
        }
        let (judged, reading) = Judged::of(check, answered.metric(key, run.round), window(check, run));
        let counted = self.min_samples.and_then(|_| answered.requests(self.counter(run, key, check), run.round));
        match judged.verdict {
            Verdict::NoData => {}
            Verdict::Pass | Verdict::Fail | Verdict::Inconclusive if check.counts() => {
                return (self.of_enough(run, check, judged, counted), reading);
            }
            _ => return (judged, reading),
        }
        let why = judged.text.clone().unwrap_or_default();
        if age(run) < check.window {
            return (judged.but(Verdict::Early, why), reading);
        }
        let explained = self.min_samples.zip(counted).filter(|_| check.on_no_data == OnMissing::Hold);
        match explained {
            Some((minimum, Ok(requests))) if *requests >= minimum => {
                let why = format!("{why}, although the candidate has had {requests} requests in that time");
                (Judged { samples: Some(*requests), ..judged.but(Verdict::Fail, why) }, reading)
            }
            Some((_, Ok(requests))) => (Judged { samples: Some(*requests), ..judged }, reading),
            Some((_, Err(_))) | None => (judged, reading),
        }
    }

    fn conclude(&self, run: &mut RoundsRun, tally: Tally, mode: Mode, now: Timestamp) -> Option<End> {
        let Tally { news: _, failed, missing, few, early, trouble, inconclusive } = tally;
        let clean =
            failed.is_empty() && missing.is_none() && trouble.is_none() && inconclusive.is_none() && !early;
        run.passed = clean.then(|| Passed { round: run.round, at: now, asked: self.keys().cloned().collect() });
        run.trouble = trouble;
        if mode == Mode::Waiting {
            let window = self.threshold.min(THRESHOLD_MAX).saturating_mul(WAITING_ROUNDS);
            let oldest = run.round.saturating_sub(window);
            run.failures.retain(|failed| *failed > oldest);
        }
        run.held = match mode {
            _ if missing.is_none() && !few => 0,
            Mode::Moving => run.held.saturating_add(1),
            Mode::Waiting => run.held,
        };
        if !failed.is_empty() {
            run.failures.push(run.round);
            if run.is_over(self) {
                return Some(End::Failed { limit: self.threshold, failed });
            }
        }
        match missing {
            Some(missing) if run.held >= self.hold_limit && mode == Mode::Moving => {
                return Some(End::HeldTooLong { limit: self.hold_limit, missing: Box::new(missing) });
            }
            Some(_) | None => {}
        }
        inconclusive.map(|(check, what)| End::Inconclusive { check, what })
    }
}

impl RoundsRun {
    /// The verdict before.
    fn remember(&mut self, key: &Key, judged: &Judged) -> Option<Verdict> {
        let judged = judged.clone();
        match self.checks.iter_mut().find(|known| known.check == *key) {
            Some(known) => Some(std::mem::replace(&mut known.judged, judged).verdict),
            None => {
                self.checks.push(Known { check: key.clone(), judged });
                None
            }
        }
    }
}

/// How long the candidate has been used as it is now when the round closes.
fn age(run: &RoundsRun) -> Duration {
    run.since.map_or(Duration::ZERO, |since| between(since, run.due))
}

fn window(check: &Check, run: &RoundsRun) -> Duration {
    let stretches = check.counts() && !check.own_window;
    let reach = Duration::from_millis(if stretches { run.reach } else { 0 });
    check.window.max(reach).min(age(run))
}

/// A query with a window of its own looks back before the present exposure until that is as old as the metric's interval.
fn waits_for_its_window(check: &Check, run: &RoundsRun) -> bool {
    check.own_window && age(run) < check.window
}

fn is_short(reach: &u64) -> bool {
    *reach == 0
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

#[cfg(test)]
#[path = "rounds_tests.rs"]
mod tests;
