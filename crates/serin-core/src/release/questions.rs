//! What is open in the current tick, with its answer. `ask` and `step` both look here, so they always agree.

use std::time::Duration;

use jiff::Timestamp;

use crate::model::{Digest, ReleaseId};

use super::ask::{AnswerOutcome, HookReply, QuestionKey, QuestionKind};
use super::attempt::{Release, Stage};
use super::observed::{Observed, RouteObserved};
use super::outcome::OutcomeKind;
use super::policy::{Check, Hook, HookKind, Policy, PolicyStep};
use super::state::{Phase, State};
use super::time::{after, between};

/// Longest wait for a metric after it was asked. Providers have shorter timeouts of their own; this is the backstop for an
/// answer that got lost.
pub(super) const METRIC_ANSWER_MAX: Duration = Duration::from_secs(30);
/// What a hook may take beyond its own timeouts: connecting and the pauses between attempts.
const HOOK_MARGIN: Duration = Duration::from_secs(15);
/// Most attempts that count towards a hook's time; a larger `retries` in a manifest must not stop a release for ever.
const HOOK_ATTEMPTS_MAX: u32 = 10;

/// A question of the open tick, answered or not.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Open {
    /// Its identity.
    pub(super) key: QuestionKey,
    /// What to find out.
    pub(super) kind: QuestionKind,
    /// From when it may be asked.
    pub(super) from: Timestamp,
    /// How long an answer may take from there.
    allowance: Duration,
}

/// What became of a question.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Reply<'a> {
    /// Not asked or not answered yet.
    Pending,
    /// No answer came in time.
    Late,
    /// The answer.
    Here(&'a AnswerOutcome),
}

impl Open {
    fn hook(key: QuestionKey, hook: &Hook, phase: &str, from: Timestamp) -> Self {
        let attempts = hook.retries.saturating_add(1).min(HOOK_ATTEMPTS_MAX);
        let allowance = hook.timeout.saturating_mul(attempts).saturating_add(HOOK_MARGIN);
        let kind = QuestionKind::Hook { hook: Box::new(hook.clone()), phase: phase.to_owned() };
        Self { key, kind, from, allowance }
    }

    /// The last moment at which an answer counts.
    pub(super) fn until(&self, observed: &Observed) -> Timestamp {
        after(observed.asking_since.map_or(self.from, |since| since.max(self.from)), self.allowance)
    }

    /// What became of it by `now`.
    pub(super) fn reply<'a>(&self, observed: &'a Observed, now: Timestamp) -> Reply<'a> {
        match observed.answers.iter().find(|answer| answer.key == self.key) {
            Some(answer) => Reply::Here(&answer.outcome),
            None if now >= self.until(observed) => Reply::Late,
            None => Reply::Pending,
        }
    }

    /// The name people know it by.
    pub(super) fn name(&self) -> &str {
        match &self.kind {
            QuestionKind::Metric { check, .. } => &check.name,
            QuestionKind::Hook { hook, .. } => &hook.name,
            QuestionKind::Providers { .. } => "metric providers",
        }
    }

    fn accepted(&self, observed: &Observed, now: Timestamp) -> bool {
        matches!(self.reply(observed, now), Reply::Here(AnswerOutcome::Hook(HookReply { accepted: true, .. })))
    }
}

/// Questions of the phase.
pub(super) fn of_phase(policy: &Policy, observed: &Observed, state: &State, now: Timestamp) -> Vec<Open> {
    match &state.phase {
        Phase::Initializing { ready, providers: false, .. } => match &observed.target {
            Some(target) => providers(policy, ready.unwrap_or(now), &target.digest).into_iter().collect(),
            None => Vec::new(),
        },
        Phase::Initializing { providers: true, .. } | Phase::Idle { .. } => Vec::new(),
        Phase::Releasing(release) => of_release(policy, observed, release, now),
    }
}

/// Are the providers of the checks reachable? `None` if there is nothing to measure. Asked from the start; the time for an
/// answer counts from when primary is `ready`, however long that or the target took to come.
pub(super) fn providers(policy: &Policy, ready: Timestamp, digest: &Digest) -> Option<Open> {
    if policy.checks.is_empty() || policy.skip_analysis {
        return None;
    }
    Some(Open {
        key: QuestionKey { release: ReleaseId::new(0, digest), tick: 0, check: "providers".to_owned() },
        kind: QuestionKind::Providers { checks: policy.checks.clone() },
        from: ready,
        allowance: METRIC_ANSWER_MAX,
    })
}

/// Post-rollout hooks of the last release.
pub(super) fn after_release(policy: &Policy, observed: &Observed, state: &State) -> Vec<Open> {
    let Some(post) = &state.post_rollout else { return Vec::new() };
    let phase = match post.kind {
        OutcomeKind::Succeeded | OutcomeKind::Initialized => "Succeeded",
        OutcomeKind::Failed | OutcomeKind::Superseded => "Failed",
    };
    let key = |hook: &Hook| QuestionKey::hook(&post.release, 0, hook);
    let all = hooks(policy, HookKind::PostRollout).map(|hook| Open::hook(key(hook), hook, phase, post.since));
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
        Stage::Analysing => match policy.steps.get(release.step as usize) {
            Some(PolicyStep::SetWeight(weights)) if *weights > release.weights => {
                gates(policy, observed, release, HookKind::ConfirmTrafficIncrease, now)
            }
            Some(PolicyStep::Analyse) if window_is_open(observed, release) => {
                let phase = release.stage.flagger_phase();
                let mut open: Vec<Open> = hooks(policy, HookKind::Rollout)
                    .map(|hook| Open::hook(hook_key(release, hook), hook, phase, release.opened))
                    .collect();
                open.extend(at_close(policy, release, now));
                open
            }
            Some(PolicyStep::Analyse | PolicyStep::SetWeight(_) | PolicyStep::Pause(_)) | None => Vec::new(),
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

/// A window counts only while the router shows the intended weights.
pub(super) fn window_is_open(observed: &Observed, release: &Release) -> bool {
    let shown = matches!(observed.route, RouteObserved::Present { weights, .. } if weights == release.weights);
    shown && release.weights_since.is_some()
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
    let due = policy.checks.iter().filter(|check| is_due(check, release));
    due.map(|check| Open {
        key: QuestionKey::metric(&release.id, release.tick, check),
        kind: QuestionKind::Metric { check: Box::new(check.clone()), window: window(check, release) },
        from: release.due,
        allowance: METRIC_ANSWER_MAX,
    })
    .collect()
}

/// A check with a cadence of its own is left out of ticks that come too early for it.
fn is_due(check: &Check, release: &Release) -> bool {
    let judged = release.counts.iter().find(|count| count.name == check.name).map(|count| count.judged);
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
    let phase = release.stage.flagger_phase();
    let all = hooks(policy, kind).map(|hook| Open::hook(hook_key(release, hook), hook, phase, release.due));
    let mut open = one_after_the_other(all, observed, now);
    open.extend(rollback_hooks(policy, release, now));
    open
}

fn rollback_hooks(policy: &Policy, release: &Release, now: Timestamp) -> Vec<Open> {
    if now < release.due {
        return Vec::new();
    }
    let phase = release.stage.flagger_phase();
    hooks(policy, HookKind::Rollback)
        .map(|hook| Open::hook(hook_key(release, hook), hook, phase, release.due))
        .collect()
}

fn hook_key(release: &Release, hook: &Hook) -> QuestionKey {
    QuestionKey::hook(&release.id, release.tick, hook)
}

fn hooks(policy: &Policy, kind: HookKind) -> impl Iterator<Item = &Hook> {
    policy.hooks.iter().filter(move |hook| hook.kind == kind)
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
