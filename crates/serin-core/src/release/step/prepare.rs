//! From a new revision to the first traffic: gates, the canary scales up, pre-rollout hooks. And the canary's health.

use std::time::Duration;

use jiff::Timestamp;

use crate::analysis::HookKind;
use crate::model::after;
use crate::release::action::Action;
use crate::release::attempt::{Cause, End, Release, Stage};
use crate::release::observed::{Readiness, Side};
use crate::release::policy::{PolicyStep, Sizing};
use crate::release::report::{Event, WaitingOn};

use super::context::{Context, Next};
use super::gates::{self, Gates};
use super::route::steer;
use super::{analyse, capacity, ending, judge, persist, promote, size};

/// What the canary is able to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Health {
    /// Everything.
    Ready,
    /// Not all wanted pods are there, but enough for what it serves now.
    Limping(String),
    /// It cannot serve.
    Down(String),
    /// It will not become ready by itself.
    Stalled(String),
}

/// The confirm-rollout gates.
pub(super) fn confirm(cx: &mut Context<'_>, release: &mut Release) -> Next {
    if release.skip {
        scale_up(cx, release, false);
        return Next::Again;
    }
    steer(cx, &cx.at_rest());
    if held(cx, release) {
        return Next::Rest;
    }
    match gates::look(cx, release, HookKind::ConfirmRollout) {
        Gates::Open(names) => {
            for name in names {
                cx.say(Event::normal(format!("Confirm-rollout check {name} passed")));
            }
            scale_up(cx, release, false);
            Next::Again
        }
        Gates::Closed { name, reason } => gates::closed(cx, release, name, reason, "waiting for approval"),
        Gates::Waiting => Next::Rest,
        Gates::RollBack(next) => next,
    }
}

/// Begins to scale up; `restarted` when that has been announced.
pub(super) fn scale_up(cx: &mut Context<'_>, release: &mut Release, restarted: bool) {
    if !restarted {
        cx.say(Event::normal(format!("New revision detected! Scaling up {}", cx.target())));
    }
    match cx.policy.sizing {
        Sizing::Ahead => release.stage = Stage::ScalingUp { since: cx.now },
        Sizing::ByShare | Sizing::Pods(_) => {
            release.stage = Stage::Analysing;
            analyse::open_step(cx.policy, release, cx.now);
        }
    }
}

/// The canary scales up and becomes ready.
pub(super) fn await_canary(cx: &mut Context<'_>, release: &mut Release, since: Timestamp) -> Next {
    steer(cx, &cx.at_rest());
    match health(cx) {
        Health::Ready => {
            if promote::is_skipped(cx, release) {
                return promote::begin(cx, release);
            }
            if held(cx, release) || !is_known(cx, release) || !gates::is_checkable(cx, release) {
                return Next::Rest;
            }
            release.stage = Stage::Preparing;
            release.clock.reopen(cx.now, Duration::ZERO);
            Next::Again
        }
        Health::Stalled(reason) => give_up(cx, release, &reason),
        Health::Limping(reason) | Health::Down(reason) => {
            release.ready_since = None;
            not_ready(cx, release, since, &reason)
        }
    }
}

/// Whether proxies have had time to learn of the canary's endpoints.
pub(super) fn is_known(cx: &mut Context<'_>, release: &mut Release) -> bool {
    let until = after(*release.ready_since.get_or_insert(cx.now), cx.policy.settle);
    if cx.now >= until {
        return true;
    }
    cx.wake_at(until);
    cx.wait_silently(WaitingOn::Endpoints { workload: cx.policy.names.target.clone(), until });
    persist::pass_over(cx, until);
    false
}

/// The pre-rollout hooks: one that fails counts as a failed check and is asked again after the interval.
pub(super) fn call_hooks(cx: &mut Context<'_>, release: &mut Release) -> Next {
    if let Some(next) = attend(cx, release) {
        return next;
    }
    if promote::is_skipped(cx, release) {
        return promote::begin(cx, release);
    }
    steer(cx, &cx.at_rest());
    if held(cx, release) {
        return Next::Rest;
    }
    match gates::look(cx, release, HookKind::PreRollout) {
        Gates::Open(names) => {
            start(cx);
            for name in names {
                cx.say(Event::normal(format!("Pre-rollout check {name} passed")));
            }
            release.stage = Stage::Analysing;
            (release.step, release.recheck) = (0, false);
            analyse::open_step(cx.policy, release, cx.now);
            Next::Again
        }
        Gates::Closed { name, reason } => {
            start(cx);
            hook_failed(cx, release, name, reason)
        }
        Gates::Waiting => {
            // Answers that come quickly are told with what follows from them.
            let told_from = after(release.clock.opened, persist::BRIEF);
            if cx.now >= told_from {
                start(cx);
            }
            cx.wake_at(told_from);
            Next::Rest
        }
        Gates::RollBack(next) => next,
    }
}

/// What is said when the analysis of a target begins.
pub(super) fn starting(target: &str) -> Event {
    Event::normal(format!("Starting canary analysis for {target}"))
}

/// Says that the analysis begins, once a release.
fn start(cx: &mut Context<'_>) {
    if std::mem::replace(&mut cx.has_started, true) {
        return;
    }
    cx.say(starting(&cx.target()));
    if cx.policy.watch.is_empty() {
        cx.say(Event::warning(format!("Nothing checks {}: its steps take their time and no more", cx.target())));
    }
}

fn hook_failed(cx: &mut Context<'_>, release: &mut Release, name: String, reason: String) -> Next {
    let target = cx.target();
    cx.say(Event::warning(format!("Halt {target} advancement pre-rollout check {name} failed {reason}")));
    if release.watch.fail(&cx.policy.watch) {
        let (limit, what) = (cx.policy.watch.threshold, format!("pre-rollout check {name} failed: {reason}"));
        judge::threshold_reached(cx, release, limit, &what);
        return Next::Again;
    }
    cx.before = Some(WaitingOn::Gate { name, reason });
    release.clock.reopen(cx.now, cx.policy.interval);
    Next::Again
}

/// Whether a pause or an outside obstacle keeps the release at this point; noted as what is waited for.
pub(super) fn held(cx: &mut Context<'_>, release: &Release) -> bool {
    if cx.policy.suspended {
        cx.suspend();
        return true;
    }
    if let Some(reason) = cx.observed.blocks_release() {
        cx.wait_silently(WaitingOn::Blocked { reason: reason.to_owned() });
        return true;
    }
    if release.paused {
        cx.wait_silently(WaitingOn::Pause { until: None });
    }
    release.paused
}

/// The canary must be ready while it is analysed. If it cannot serve, traffic goes to primary at once and the step is
/// taken again when it can; after the deadline the release fails. `None` if all is well.
pub(super) fn attend(cx: &mut Context<'_>, release: &mut Release) -> Option<Next> {
    let is_needed = match cx.policy.sizing {
        Sizing::Ahead => true,
        Sizing::ByShare => release.routing.exposes(),
        // Whose pods cannot serve gets no requests.
        Sizing::Pods(_) => false,
    };
    if !is_needed {
        return None;
    }
    let reason = match health(cx) {
        Health::Ready => {
            release.unready_since = None;
            let resting = release.routing == cx.at_rest() && !is_known(cx, release);
            return resting.then(|| {
                steer(cx, &cx.at_rest());
                Next::Rest
            });
        }
        Health::Stalled(reason) if !cx.policy.suspended => return Some(give_up(cx, release, &reason)),
        Health::Down(_) | Health::Stalled(_) if release.routing.exposes() => {
            retreat(cx, release);
            return Some(Next::Again);
        }
        Health::Down(reason) | Health::Limping(reason) | Health::Stalled(reason) => reason,
    };
    release.ready_since = None;
    let since = *release.unready_since.get_or_insert(cx.now);
    steer(cx, &release.routing);
    Some(not_ready(cx, release, since, &reason))
}

/// Back to the step that set the present routing, with everything on primary.
pub(super) fn retreat(cx: &Context<'_>, release: &mut Release) {
    let until = cx.policy.steps.iter().take(release.step as usize + 1);
    let last = until.enumerate().rfind(|(_, step)| matches!(step, PolicyStep::Route(_)));
    release.step = last.and_then(|(index, _)| u32::try_from(index).ok()).unwrap_or(0);
    release.stage = Stage::Analysing;
    release.recheck = false;
    release.aim(cx.at_rest());
    analyse::open_step(cx.policy, release, cx.now);
}

fn not_ready(cx: &mut Context<'_>, release: &mut Release, since: Timestamp, reason: &str) -> Next {
    let deadline = release.ready_deadline(since, cx.observed.target.as_ref(), cx.now, cx.policy.progress_deadline);
    if cx.now >= deadline && !cx.policy.suspended {
        return give_up(cx, release, reason);
    }
    cx.wake_at(deadline);
    let workload = cx.policy.names.target.clone();
    if cx.observed.target.is_none() {
        cx.wait_silently(WaitingOn::Target { name: workload });
        return Next::Rest;
    }
    let waiting = WaitingOn::Readiness { workload, reason: reason.to_owned(), deadline };
    if cx.observed.target.as_ref().is_some_and(|target| target.replicas == 0) {
        let replicas = size::candidate(cx);
        cx.act(Action::Scale { side: Side::Candidate, replicas });
        cx.wait_silently(waiting);
    } else if release.short_since.is_some() {
        // It is being given more pods for what it is to get.
        cx.wait_silently(waiting);
    } else {
        let event = Event::warning(format!("canary deployment {} not ready: {reason}", cx.target()));
        cx.wait(waiting, || event);
    }
    Next::Rest
}

pub(super) fn give_up(cx: &mut Context<'_>, release: &mut Release, reason: &str) -> Next {
    let target = cx.target();
    let message = format!("canary deployment {target} not ready: {reason}");
    cx.say(Event::warning(format!("Rolling back {target} progress deadline exceeded {message}")));
    ending::begin(cx, release, End::Failed { cause: Cause { message } });
    Next::Again
}

pub(super) fn health(cx: &Context<'_>) -> Health {
    let Some(target) = &cx.observed.target else {
        return Health::Down(format!("{} does not exist", cx.policy.names.target));
    };
    if target.replicas == 0 {
        return Health::Down("it is scaled to zero".to_owned());
    }
    match &target.readiness {
        Readiness::Ready => Health::Ready,
        Readiness::Waiting(reason) if target.available >= capacity::own_minimum(cx, target) => {
            Health::Limping(reason.clone())
        }
        Readiness::Waiting(reason) => Health::Down(reason.clone()),
        Readiness::Stalled(reason) => Health::Stalled(reason.clone()),
    }
}
