//! What is open now, with its answer. `ask` and `step` both look here, so they always agree.

use std::time::Duration;

use jiff::Timestamp;

use crate::analysis::compare::{Comparing, Comparison, Looked};
use crate::analysis::{self, Answered, Hook, HookKind, HookReply, Key, Measurement, Mode, Requests, Subject};
use crate::model::{Digest, ReleaseId, after};

use super::ask::{Counter, HookKey, LookKey, MetricKey, ProviderFault, Question, Tick};
use super::attempt::{Release, Stage};
use super::observed::Observed;
use super::outcome::OutcomeKind;
use super::policy::{Policy, PolicyStep};
use super::state::{Phase, State};

/// Longest wait for the providers to show that they are there.
const PROVIDERS_PATIENCE: Duration = Duration::from_secs(30);

/// What is said of a look that nobody answered.
pub(super) const NO_ANSWER: &str = "no answer in time";

/// A question, answered or not.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Open {
    /// What to find out.
    pub(super) question: Question,
    /// From when it may be asked.
    pub(super) from: Timestamp,
    /// The last moment at which an answer counts.
    pub(super) until: Timestamp,
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
    fn new(
        question: Question,
        from: Timestamp,
        patience: Duration,
        (observed, now): (&Observed, Timestamp),
    ) -> Self {
        // A process that started in the future started before the clock was put back: it could be asked all the time.
        let asking = observed.asking_since.map_or(from, |since| if since > now { from } else { since.max(from) });
        Self { question, from, until: after(asking, patience) }
    }

    fn hook(
        tick: &Tick,
        key: &Key,
        hook: &Hook,
        phase: &str,
        from: Timestamp,
        seen: (&Observed, Timestamp),
    ) -> Self {
        let key = HookKey { tick: tick.clone(), hook: key.clone() };
        let question = Question::Hook { key, hook: Box::new(hook.clone()), phase: phase.to_owned() };
        Self::new(question, from, hook.patience(), seen)
    }

    fn reply<'a, T>(&self, answer: Option<&'a T>, now: Timestamp) -> Reply<'a, T> {
        match answer {
            Some(answer) => Reply::Here(answer),
            None if now >= self.until => Reply::Late,
            None => Reply::Pending,
        }
    }

    /// Whether an answer may still come.
    pub(super) fn is_pending(&self, observed: &Observed, now: Timestamp) -> bool {
        !observed.answers.has(&self.question) && now < self.until
    }

    /// The hook and its reply by `now`, if it is a webhook's question.
    pub(super) fn called<'a>(&'a self, observed: &'a Observed, now: Timestamp) -> Option<Called<'a>> {
        let Question::Hook { key, hook, .. } = &self.question else { return None };
        Some(Called { hook, reply: self.reply(observed.answers.hook(key), now) })
    }

    /// What became of a look at the counters by `now`.
    pub(super) fn looked<'a>(&self, observed: &'a Observed, now: Timestamp) -> Reply<'a, Result<Looked, String>> {
        match &self.question {
            Question::Compare { key, .. } => self.reply(observed.answers.looked(key), now),
            _ => Reply::Late,
        }
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

/// The answers to one run of a release.
pub(super) struct OfRun<'a> {
    pub(super) release: &'a ReleaseId,
    pub(super) of: Counter,
    pub(super) observed: &'a Observed,
}

impl OfRun<'_> {
    fn tick(&self, number: u32) -> Tick {
        Tick { release: self.release.clone(), of: self.of, number }
    }
}

impl Answered for OfRun<'_> {
    fn metric(&self, check: &Key, attempt: u32) -> Option<&Measurement> {
        self.observed.answers.metric(&MetricKey { tick: self.tick(attempt), check: check.clone() })
    }

    fn hook(&self, hook: &Key, attempt: u32) -> Option<&HookReply> {
        self.observed.answers.hook(&HookKey { tick: self.tick(attempt), hook: hook.clone() })
    }

    fn requests(&self, check: &Key, attempt: u32) -> Option<&Requests> {
        self.observed.answers.requests(&MetricKey { tick: self.tick(attempt), check: check.clone() })
    }

    fn asking_since(&self) -> Option<Timestamp> {
        self.observed.asking_since
    }
}

/// Questions of the phase.
pub(super) fn of_phase(policy: &Policy, observed: &Observed, state: &State, now: Timestamp) -> Vec<Open> {
    let held = policy.suspended || observed.blocks_release().is_some();
    match &state.phase {
        Phase::Initializing { ready, providers: false, .. } if !held => match &observed.target {
            Some(target) => {
                let asked = providers(policy, observed, ready.unwrap_or(now), &target.digest, now);
                asked.map(|asked| asked.open).into_iter().collect()
            }
            None => Vec::new(),
        },
        Phase::Initializing { .. } | Phase::Idle { .. } | Phase::HandingBack(_) => Vec::new(),
        Phase::Releasing(release) => {
            let mut open = of_steps(policy, observed, release, now);
            open.extend(of_watch(policy, observed, release, now));
            open.extend(of_comparison(policy, observed, release, now));
            open
        }
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
    pub(super) fn reply<'a>(
        &self,
        observed: &'a Observed,
        now: Timestamp,
    ) -> Reply<'a, Result<(), ProviderFault>> {
        self.open.reply(observed.answers.providers(&self.key), now)
    }
}

/// Are the providers of the checks reachable? `None` if there is nothing to measure. Asked from the start; the time for an
/// answer counts from when primary is `ready`, however long that or the target took to come.
pub(super) fn providers(
    policy: &Policy,
    observed: &Observed,
    ready: Timestamp,
    digest: &Digest,
    now: Timestamp,
) -> Option<Providers> {
    if policy.watch.checks.is_empty() || policy.skip_analysis {
        return None;
    }
    let key = Tick { release: ReleaseId::new(0, digest), of: Counter::Steps, number: 0 };
    let checks = policy.watch.checks.values().cloned().collect();
    let question = Question::Providers { key: key.clone(), checks };
    Some(Providers { open: Open::new(question, ready, PROVIDERS_PATIENCE, (observed, now)), key })
}

/// The same of a release, while its pods become ready: what the checks name may be gone since.
pub(super) fn checkable(
    policy: &Policy,
    observed: &Observed,
    release: &Release,
    now: Timestamp,
) -> Option<Providers> {
    let Providers { open, .. } = providers(policy, observed, release.clock.due, &release.revision.digest, now)?;
    let key = Tick { release: release.id.clone(), of: Counter::Steps, number: release.clock.number };
    let checks = policy.watch.checks.values().cloned().collect();
    Some(Providers { open: Open { question: Question::Providers { key: key.clone(), checks }, ..open }, key })
}

/// Post-rollout hooks of the last release.
pub(super) fn after_release(policy: &Policy, observed: &Observed, state: &State, now: Timestamp) -> Vec<Open> {
    let Some(post) = &state.post_rollout else { return Vec::new() };
    let phase = match post.kind {
        OutcomeKind::Succeeded | OutcomeKind::Initialized => "Succeeded",
        OutcomeKind::Failed | OutcomeKind::Superseded | OutcomeKind::Withdrawn => "Failed",
    };
    let tick = Tick { release: post.release.clone(), of: Counter::Steps, number: 0 };
    let open = |(key, hook)| Open::hook(&tick, key, hook, phase, post.since, (observed, now));
    one_after_the_other(hooks(policy, HookKind::PostRollout).map(open), observed, now)
}

/// Whether nothing may go on: only who watches goes on.
pub(super) fn is_held(policy: &Policy, observed: &Observed, release: &Release) -> bool {
    release.paused || policy.suspended || observed.blocks_release().is_some()
}

/// Questions of the open tick of the steps: gates.
pub(super) fn of_steps(policy: &Policy, observed: &Observed, release: &Release, now: Timestamp) -> Vec<Open> {
    if is_held(policy, observed, release) {
        return Vec::new();
    }
    let kind = match &release.stage {
        Stage::Confirming => HookKind::ConfirmRollout,
        Stage::Preparing => HookKind::PreRollout,
        Stage::Analysing => match release.current(policy) {
            Some(PolicyStep::Route(routing))
                if policy.meant(routing, &release.id, None).exposes_more_than(&release.routing) =>
            {
                HookKind::ConfirmTrafficIncrease
            }
            Some(_) | None => return Vec::new(),
        },
        Stage::ConfirmingPromotion => HookKind::ConfirmPromotion,
        Stage::ScalingUp { .. } if now >= release.clock.due && !release.skip => {
            return checkable(policy, observed, release, now).map(|asked| asked.open).into_iter().collect();
        }
        Stage::ScalingUp { .. } | Stage::Promoting { .. } | Stage::Restoring { .. } | Stage::Ending { .. } => {
            return Vec::new();
        }
    };
    gates(policy, observed, release, kind, now)
}

/// Gates, asked when they are due, or, where a verdict comes before them, from when the state says so. And rollback hooks, as
/// long as no round calls them.
fn gates(policy: &Policy, observed: &Observed, release: &Release, kind: HookKind, now: Timestamp) -> Vec<Open> {
    let due = Some(release.clock.due).filter(|due| now >= *due && !release.is_watched());
    let Some(from) = release.clock.asked.or(due) else { return Vec::new() };
    let tick = Tick { release: release.id.clone(), of: Counter::Steps, number: release.clock.number };
    let phase = release.stage.flagger_phase();
    let open = |(key, hook)| Open::hook(&tick, key, hook, phase, from, (observed, now));
    let mut all = one_after_the_other(hooks(policy, kind).map(open), observed, now);
    if !release.is_watched() {
        let rollback = policy.watch.hooks.iter().filter(|(_, hook)| hook.kind == HookKind::Rollback);
        all.extend(rollback.map(open));
    }
    all
}

/// Questions of the rounds that watch over a release.
pub(super) fn of_watch(policy: &Policy, observed: &Observed, release: &Release, now: Timestamp) -> Vec<Open> {
    let answers = OfRun { release: &release.id, of: Counter::Watch, observed };
    let turn = policy.watch.advance(release.watch.clone(), &answers, mode(policy, observed, release), now);
    let phase = release.stage.flagger_phase();
    turn.asks.into_iter().filter_map(|ask| of_round(policy, &answers, ask, phase)).collect()
}

/// Questions of the comparison with primary: its past, once, and then a look whenever one is due.
pub(super) fn of_comparison(policy: &Policy, observed: &Observed, release: &Release, now: Timestamp) -> Vec<Open> {
    let (Some(plan), Some(run)) = (&policy.comparison, &release.comparison) else { return Vec::new() };
    if run.history.is_none() {
        return vec![of_past(plan, observed, release, now)];
    }
    of_look(plan, run, observed, release, now).into_iter().collect()
}

/// What primary did before the release began.
pub(super) fn of_past(plan: &Comparison, observed: &Observed, release: &Release, now: Timestamp) -> Open {
    let (id, until) = (release.id.clone(), release.started);
    let question = Question::History { release: id, until, window: plan.history };
    Open::new(question, until, plan.patience, (observed, now))
}

/// The look that is due.
pub(super) fn of_look(
    plan: &Comparison,
    run: &Comparing,
    observed: &Observed,
    release: &Release,
    now: Timestamp,
) -> Option<Open> {
    let due = run.due.filter(|due| now >= *due && release.is_compared())?;
    let key = LookKey { release: release.id.clone(), look: run.look, since: run.evidence.up_to };
    let look = Box::new(run.look_at(plan, now));
    Some(Open::new(Question::Compare { key, look }, due, plan.patience, (observed, now)))
}

fn of_round(policy: &Policy, answers: &OfRun<'_>, ask: analysis::Ask, phase: &str) -> Option<Open> {
    let analysis::Ask { subject, attempt, from, until } = ask;
    let tick = answers.tick(attempt);
    let question = match subject {
        Subject::Metric { check, window } => {
            let found = Box::new(policy.watch.checks.get(&check)?.clone());
            Question::Metric { key: MetricKey { tick, check }, check: found, window }
        }
        Subject::Hook(hook) => {
            let found = Box::new(policy.watch.hooks.get(&hook)?.clone());
            Question::Hook { key: HookKey { tick, hook }, hook: found, phase: phase.to_owned() }
        }
        Subject::Requests { check, window } => Question::Requests { key: MetricKey { tick, check }, window },
    };
    Some(Open { question, from, until })
}

/// Whether the release goes on by the rounds, or waits for something else meanwhile.
pub(super) fn mode(policy: &Policy, observed: &Observed, release: &Release) -> Mode {
    let analyses =
        release.stage == Stage::Analysing && matches!(release.current(policy), Some(PolicyStep::Analyse));
    let shown = release.shown_since.is_some();
    if analyses && shown && !is_held(policy, observed, release) { Mode::Moving } else { Mode::Waiting }
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
