//! What is open in the current tick, with its answer. `ask` and `step` both look here, so they always agree.

use std::time::Duration;

use jiff::Timestamp;

use crate::analysis::{Check, Hook, HookKind, HookReply, Key, Measurement};
use crate::model::{Digest, ReleaseId};

use super::ask::{HookKey, MetricKey, Question, Tick};
use super::attempt::{Release, Stage};
use super::observed::Observed;
use super::outcome::OutcomeKind;
use super::policy::{Policy, PolicyStep};
use super::state::{Phase, State};
use super::time::{after, between};

/// Longest wait for a metric after it was asked. Providers have shorter timeouts of their own; this is the backstop for an
/// answer that got lost.
pub(super) const METRIC_ANSWER_MAX: Duration = Duration::from_secs(30);

/// A question of the open tick, answered or not.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Open {
    /// What to find out.
    pub(super) question: Question,
    /// From when it may be asked.
    pub(super) from: Timestamp,
    /// How long an answer may take from there.
    allowance: Duration,
}

/// What became of a question.
#[derive(Debug, PartialEq)]
pub(super) enum Reply<'a, T> {
    /// Not asked or not answered yet.
    Pending,
    /// No answer came in time.
    Late,
    /// The answer.
    Here(&'a T),
}

/// A webhook's question with its reply.
#[derive(Debug, PartialEq)]
pub(super) struct Called<'a> {
    /// The hook.
    pub(super) hook: &'a Hook,
    /// What it said.
    pub(super) reply: Reply<'a, HookReply>,
}

impl Open {
    fn hook(tick: &Tick, key: &Key, hook: &Hook, phase: &str, from: Timestamp) -> Self {
        let key = HookKey { tick: tick.clone(), hook: key.clone() };
        let question = Question::Hook { key, hook: Box::new(hook.clone()), phase: phase.to_owned() };
        Self { question, from, allowance: hook.patience() }
    }

    fn metric(tick: &Tick, key: &Key, check: &Check, window: Duration, from: Timestamp) -> Self {
        let key = MetricKey { tick: tick.clone(), check: key.clone() };
        let question = Question::Metric { key, check: Box::new(check.clone()), window };
        Self { question, from, allowance: METRIC_ANSWER_MAX }
    }

    /// The last moment at which an answer counts.
    pub(super) fn until(&self, observed: &Observed) -> Timestamp {
        after(observed.asking_since.map_or(self.from, |since| since.max(self.from)), self.allowance)
    }

    fn reply<'a, T>(&self, answer: Option<&'a T>, observed: &Observed, now: Timestamp) -> Reply<'a, T> {
        match answer {
            Some(answer) => Reply::Here(answer),
            None if now >= self.until(observed) => Reply::Late,
            None => Reply::Pending,
        }
    }

    /// Whether an answer may still come.
    pub(super) fn is_pending(&self, observed: &Observed, now: Timestamp) -> bool {
        !observed.answers.has(&self.question) && now < self.until(observed)
    }

    /// The check and its value by `now`, if it is a metric's question.
    pub(super) fn measured<'a>(
        &'a self,
        observed: &'a Observed,
        now: Timestamp,
    ) -> Option<(&'a Check, Reply<'a, Measurement>)> {
        let Question::Metric { key, check, .. } = &self.question else { return None };
        Some((check, self.reply(observed.answers.metric(key), observed, now)))
    }

    /// The hook and its reply by `now`, if it is a webhook's question.
    pub(super) fn called<'a>(&'a self, observed: &'a Observed, now: Timestamp) -> Option<Called<'a>> {
        let Question::Hook { key, hook, .. } = &self.question else { return None };
        Some(Called { hook, reply: self.reply(observed.answers.hook(key), observed, now) })
    }

    fn accepted(&self, observed: &Observed, now: Timestamp) -> bool {
        self.called(observed, now).is_some_and(|called| called.accepts())
    }
}

impl Called<'_> {
    /// Whether it has accepted.
    pub(super) fn accepts(&self) -> bool {
        matches!(self.reply, Reply::Here(HookReply { accepted: true, .. }))
    }
}

/// Questions of the phase.
pub(super) fn of_phase(policy: &Policy, observed: &Observed, state: &State, now: Timestamp) -> Vec<Open> {
    match &state.phase {
        Phase::Initializing { ready, providers: false, .. } => match &observed.target {
            Some(target) => {
                let asked = providers(policy, ready.unwrap_or(now), &target.digest);
                asked.map(|asked| asked.open).into_iter().collect()
            }
            None => Vec::new(),
        },
        Phase::Initializing { providers: true, .. } | Phase::Idle { .. } => Vec::new(),
        Phase::Releasing(release) => of_release(policy, observed, release, now),
    }
}

/// The question whether the providers are there.
pub(super) struct Providers {
    /// As it is asked.
    pub(super) open: Open,
    key: Tick,
}

impl Providers {
    /// What became of it by `now`.
    pub(super) fn reply<'a>(&self, observed: &'a Observed, now: Timestamp) -> Reply<'a, Result<(), String>> {
        self.open.reply(observed.answers.providers(&self.key), observed, now)
    }
}

/// Are the providers of the checks reachable? `None` if there is nothing to measure. Asked from the start; the time for an
/// answer counts from when primary is `ready`, however long that or the target took to come.
pub(super) fn providers(policy: &Policy, ready: Timestamp, digest: &Digest) -> Option<Providers> {
    if policy.checks.is_empty() || policy.skip_analysis {
        return None;
    }
    let key = Tick { release: ReleaseId::new(0, digest), number: 0 };
    let question = Question::Providers { key: key.clone(), checks: policy.checks.values().cloned().collect() };
    Some(Providers { open: Open { question, from: ready, allowance: METRIC_ANSWER_MAX }, key })
}

/// Post-rollout hooks of the last release.
pub(super) fn after_release(policy: &Policy, observed: &Observed, state: &State) -> Vec<Open> {
    let Some(post) = &state.post_rollout else { return Vec::new() };
    let phase = match post.kind {
        OutcomeKind::Succeeded | OutcomeKind::Initialized => "Succeeded",
        OutcomeKind::Failed | OutcomeKind::Superseded => "Failed",
    };
    let tick = Tick { release: post.release.clone(), number: 0 };
    let all =
        hooks(policy, HookKind::PostRollout).map(|(key, hook)| Open::hook(&tick, key, hook, phase, post.since));
    one_after_the_other(all, observed, post.since)
}

/// Questions of the open tick of a release.
pub(super) fn of_release(policy: &Policy, observed: &Observed, release: &Release, now: Timestamp) -> Vec<Open> {
    if release.paused {
        return Vec::new();
    }
    match &release.stage {
        Stage::Confirming => gates(policy, observed, release, HookKind::ConfirmRollout, now),
        Stage::Preparing => gates(policy, observed, release, HookKind::PreRollout, now),
        Stage::Analysing => match release.current(policy) {
            Some(PolicyStep::Route(routing))
                if policy.meant(routing, &release.id, None).exposes_more_than(&release.routing) =>
            {
                gates(policy, observed, release, HookKind::ConfirmTrafficIncrease, now)
            }
            Some(PolicyStep::Analyse) if window_is_open(observed, release) => {
                let (tick, phase) = (tick(release), release.stage.flagger_phase());
                let mut open: Vec<Open> = hooks(policy, HookKind::Rollout)
                    .map(|(key, hook)| Open::hook(&tick, key, hook, phase, release.opened))
                    .collect();
                open.extend(at_close(policy, release, now));
                open
            }
            Some(PolicyStep::Analyse | PolicyStep::Route(_) | PolicyStep::Pause(_) | PolicyStep::Gate) | None => {
                Vec::new()
            }
        },
        Stage::ConfirmingPromotion => {
            let mut open = gates(policy, observed, release, HookKind::ConfirmPromotion, now);
            open.extend(metrics(policy, release, now));
            open
        }
        Stage::ScalingUp { .. } | Stage::Promoting { .. } | Stage::Restoring { .. } | Stage::Ending { .. } => {
            Vec::new()
        }
    }
}

/// A window counts only while the router shows the intended routing.
pub(super) fn window_is_open(observed: &Observed, release: &Release) -> bool {
    observed.route.shows(&release.routing) && release.shown_since.is_some()
}

/// Metrics and rollback hooks, asked when the window closes.
fn at_close(policy: &Policy, release: &Release, now: Timestamp) -> Vec<Open> {
    let mut open = metrics(policy, release, now);
    open.extend(rollback_hooks(policy, release, now));
    open
}

fn metrics(policy: &Policy, release: &Release, now: Timestamp) -> Vec<Open> {
    if now < release.due {
        return Vec::new();
    }
    let tick = tick(release);
    let due = policy.checks.iter().filter(|(key, check)| is_due(key, check, release));
    due.map(|(key, check)| Open::metric(&tick, key, check, window(check, release), release.due)).collect()
}

/// A check with a cadence of its own is left out of ticks that come too early for it.
fn is_due(key: &Key, check: &Check, release: &Release) -> bool {
    let judged = release.counts.iter().find(|count| count.check == *key).and_then(|count| count.judged);
    match (check.every, judged) {
        (Some(every), Some(judged)) => after(judged, every) <= release.due,
        (Some(_) | None, _) => true,
    }
}

/// No window reaches before this revision's first traffic, or a previous canary's errors would judge it.
fn window(check: &Check, release: &Release) -> Duration {
    match release.first_traffic {
        Some(first) if first < release.due => check.window.min(between(first, release.due)),
        Some(_) | None => check.window,
    }
}

/// Gates and rollback hooks, asked when the tick is due.
fn gates(policy: &Policy, observed: &Observed, release: &Release, kind: HookKind, now: Timestamp) -> Vec<Open> {
    if now < release.due {
        return Vec::new();
    }
    let (tick, phase) = (tick(release), release.stage.flagger_phase());
    let all = hooks(policy, kind).map(|(key, hook)| Open::hook(&tick, key, hook, phase, release.due));
    let mut open = one_after_the_other(all, observed, now);
    open.extend(rollback_hooks(policy, release, now));
    open
}

fn rollback_hooks(policy: &Policy, release: &Release, now: Timestamp) -> Vec<Open> {
    if now < release.due {
        return Vec::new();
    }
    let (tick, phase) = (tick(release), release.stage.flagger_phase());
    hooks(policy, HookKind::Rollback).map(|(key, hook)| Open::hook(&tick, key, hook, phase, release.due)).collect()
}

fn tick(release: &Release) -> Tick {
    Tick { release: release.id.clone(), number: release.tick }
}

fn hooks(policy: &Policy, kind: HookKind) -> impl Iterator<Item = (&Key, &Hook)> {
    policy.hooks.iter().filter(move |(_, hook)| hook.kind == kind)
}

/// A hook may rely on those before it, so it is asked once they have accepted.
fn one_after_the_other(all: impl Iterator<Item = Open>, observed: &Observed, now: Timestamp) -> Vec<Open> {
    let mut open = Vec::new();
    for question in all {
        let accepted = question.accepted(observed, now);
        open.push(question);
        if !accepted {
            break;
        }
    }
    open
}
