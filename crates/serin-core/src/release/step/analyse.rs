//! The steps of a policy: weights, windows, pauses, and the gates before promotion.

use std::time::Duration;

use jiff::Timestamp;

use crate::analysis::HookKind;
use crate::model::Routing;
use crate::release::attempt::{Release, Stage};
use crate::release::policy::{Policy, PolicyStep};
use crate::release::questions::{self, Open};
use crate::release::report::{Event, WaitingOn};
use crate::release::time::after;

use super::context::{Context, Next};
use super::gates::{self, Gates};
use super::prepare::{attend, held};
use super::promote;
use super::route::{Steered, steer};

pub(super) fn advance(cx: &mut Context<'_>, release: &mut Release) -> Next {
    if release.steps != count(cx.policy) {
        return start_over(cx, release);
    }
    if let Some(next) = attend(cx, release) {
        return next;
    }
    if promote::is_skipped(cx, release) {
        return promote::begin(cx, release);
    }
    match cx.policy.steps.get(release.step as usize) {
        Some(PolicyStep::Route(routing)) => shift(cx, release, routing),
        Some(PolicyStep::Analyse) => watch(cx, release),
        Some(PolicyStep::Pause(duration)) => pause(cx, release, *duration),
        None if cx.policy.has_hook(HookKind::ConfirmPromotion) => {
            release.stage = Stage::ConfirmingPromotion;
            release.tick += 1;
            (release.opened, release.due) = (cx.now, cx.now);
            Next::Again
        }
        None => promote::begin(cx, release),
    }
}

/// The number of a policy's steps.
pub(super) fn count(policy: &Policy) -> u32 {
    u32::try_from(policy.steps.len()).unwrap_or(u32::MAX)
}

/// The steps were edited: an index into the old ones says nothing about the new ones.
fn start_over(cx: &mut Context<'_>, release: &mut Release) -> Next {
    cx.say(Event::normal(format!("Analysis of {} was changed, starting it again", cx.target())));
    release.steps = count(cx.policy);
    release.step = 0;
    release.aim(cx.policy.at_rest());
    open_step(cx.policy, release, cx.now);
    Next::Again
}

/// Opens the tick of the step that `release.step` names.
pub(super) fn open_step(policy: &Policy, release: &mut Release, now: Timestamp) {
    let step = policy.steps.get(release.step as usize);
    let wait = match (&release.stage, step) {
        (Stage::Analysing, Some(PolicyStep::Analyse)) => window(policy, release.step as usize),
        (Stage::Analysing, Some(PolicyStep::Pause(Some(duration)))) => *duration,
        _ => Duration::ZERO,
    };
    release.tick += 1;
    release.opened = now;
    release.due = after(now, wait);
}

/// The first check at a weight waits until the longest query window holds nothing but this weight.
fn window(policy: &Policy, step: usize) -> Duration {
    let before = policy.steps.iter().take(step).rev().find(|step| !matches!(step, PolicyStep::Pause(_)));
    match before {
        Some(PolicyStep::Analyse) => policy.interval,
        Some(PolicyStep::Route(_) | PolicyStep::Pause(_)) | None => {
            policy.checks.values().map(|check| check.window).fold(policy.interval, Duration::max)
        }
    }
}

fn shift(cx: &mut Context<'_>, release: &mut Release, routing: &Routing) -> Next {
    if release.routing != *routing {
        return decide(cx, release, routing);
    }
    if steer(cx, routing) == Steered::Waiting {
        return Next::Rest;
    }
    release.shown_since = Some(cx.now);
    // At step 0 the analysis (re)starts: what earlier pods did does not count.
    if routing.exposes() && release.step == 0 {
        release.first_traffic = Some(cx.now);
    }
    next_step(cx, release)
}

/// Everything before this step has passed; only a raise asks the traffic gates.
fn decide(cx: &mut Context<'_>, release: &mut Release, routing: &Routing) -> Next {
    if steer(cx, &release.routing) == Steered::Waiting || held(cx, release) {
        return Next::Rest;
    }
    if routing.exposes_more_than(&release.routing) && cx.policy.has_hook(HookKind::ConfirmTrafficIncrease) {
        match gates::look(cx, release, HookKind::ConfirmTrafficIncrease) {
            Gates::Open(names) => {
                for name in names {
                    cx.say(Event::normal(format!("Confirm-traffic-increase check {name} passed")));
                }
            }
            Gates::Closed { name, reason } => {
                return gates::closed(cx, release, name, reason, "waiting for traffic increase approval");
            }
            Gates::Waiting => return Next::Rest,
            Gates::RollBack(next) => return next,
        }
    }
    release.aim(routing.clone());
    if routing.exposes() {
        // Intended is as good as shown when it comes to draining: the router may be ahead of what is observed.
        release.first_traffic.get_or_insert(cx.now);
    }
    release.tick += 1;
    cx.say(Event::normal(format!("Advance {} canary weight {}", cx.target(), routing.base.candidate())));
    Next::Again
}

/// The window of an analysis: it counts only while the router shows the intended routing.
fn watch(cx: &mut Context<'_>, release: &mut Release) -> Next {
    if steer(cx, &release.routing) == Steered::Waiting {
        release.shown_since = None;
        return Next::Rest;
    }
    if release.shown_since.is_none() {
        release.shown_since = Some(cx.now);
        open_step(cx.policy, release, cx.now);
        return Next::Again;
    }
    if held(cx, release) {
        return Next::Rest;
    }
    if cx.now < release.due {
        cx.wake_at(release.due);
        cx.waiting = match &cx.before {
            Some(data @ WaitingOn::Data { .. }) if release.held > 0 => Some(data.clone()),
            Some(_) | None => Some(WaitingOn::Window { until: release.due }),
        };
        return Next::Rest;
    }
    await_answers(cx, release);
    Next::Rest
}

fn pause(cx: &mut Context<'_>, release: &mut Release, duration: Option<Duration>) -> Next {
    steer(cx, &release.routing);
    if held(cx, release) {
        return Next::Rest;
    }
    let until = duration.map(|_| release.due);
    match until {
        Some(until) if cx.now >= until => return next_step(cx, release),
        Some(until) => cx.wake_at(until),
        None => {}
    }
    cx.wait_silently(WaitingOn::Pause { until });
    Next::Rest
}

/// The confirm-promotion gates; the checks go on and are judged with them in [`super::judge`].
pub(super) fn await_promotion(cx: &mut Context<'_>, release: &mut Release) -> Next {
    if let Some(next) = attend(cx, release) {
        return next;
    }
    if promote::is_skipped(cx, release) {
        return promote::begin(cx, release);
    }
    steer(cx, &release.routing);
    if held(cx, release) {
        return Next::Rest;
    }
    if cx.now < release.due {
        cx.wake_at(release.due);
        cx.waiting = match &cx.before {
            Some(said @ (WaitingOn::Data { .. } | WaitingOn::Gate { .. })) => Some(said.clone()),
            Some(_) | None => Some(WaitingOn::Window { until: release.due }),
        };
        return Next::Rest;
    }
    await_answers(cx, release);
    Next::Rest
}

fn await_answers(cx: &mut Context<'_>, release: &Release) {
    let open = questions::of_release(cx.policy, cx.observed, release, cx.now);
    let pending: Vec<&Open> = open.iter().filter(|open| open.is_pending(cx.observed, cx.now)).collect();
    cx.wait_for_answers(&pending);
}

pub(super) fn next_step(cx: &Context<'_>, release: &mut Release) -> Next {
    release.step += 1;
    open_step(cx.policy, release, cx.now);
    Next::Again
}
