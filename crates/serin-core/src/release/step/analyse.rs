//! The steps of a policy: weights, rounds of checks, pauses, and the gates before promotion.

use std::time::Duration;

use jiff::Timestamp;

use crate::analysis::HookKind;
use crate::model::{Routing, after};
use crate::release::attempt::{Release, Stage};
use crate::release::policy::{Policy, PolicyStep, Size, Sizing};
use crate::release::report::{Event, WaitingOn};

use super::capacity::Capacity;
use super::context::{Context, Next};
use super::edit;
use super::gates::{self, Gates};
use super::prepare::{attend, held};
use super::route::{self, Steered, steer};
use super::{capacity, judge, persist, pods, prepare, promote, refused};

pub(super) fn advance(cx: &mut Context<'_>, release: &mut Release) -> Next {
    if !release.follows(cx.policy) {
        return edit::follow(cx, release);
    }
    if let Some(next) = refused::attend(cx, release).or_else(|| attend(cx, release)) {
        return next;
    }
    if promote::is_skipped(cx, release) {
        return promote::begin(cx, release);
    }
    match release.current(cx.policy) {
        Some(PolicyStep::Route(routing)) => shift(cx, release, &cx.meant(routing, release)),
        Some(PolicyStep::Analyse) => await_round(cx, release),
        Some(PolicyStep::Pause(duration)) => pause(cx, release, *duration),
        Some(PolicyStep::Gate) | None if cx.policy.has_hook(HookKind::ConfirmPromotion) => {
            release.stage = Stage::ConfirmingPromotion;
            release.clock.reopen(cx.now, Duration::ZERO);
            Next::Again
        }
        Some(PolicyStep::Gate) => next_step(cx, release),
        Some(PolicyStep::Size(size)) => resize(cx, release, *size),
        None => finish(cx, release),
    }
}

/// The candidate gets its pods; what users see stays.
fn resize(cx: &mut Context<'_>, release: &mut Release, size: Size) -> Next {
    steer(cx, &release.routing);
    if held(cx, release) {
        return Next::Rest;
    }
    if release.size != size {
        release.size = size;
        open_step(cx.policy, release, cx.now);
        return Next::Again;
    }
    match capacity::await_size(cx, release) {
        Capacity::There => next_step(cx, release),
        Capacity::Waiting => Next::Rest,
        Capacity::Late(reason) => prepare::give_up(cx, release, &reason),
    }
}

/// To promote is to expose everybody: it takes a round that has passed, like any other raise.
fn finish(cx: &mut Context<'_>, release: &mut Release) -> Next {
    steer(cx, &release.routing);
    if held(cx, release) || !gates::may_expose_more(cx, release) {
        return Next::Rest;
    }
    promote::begin(cx, release)
}

/// The confirm-promotion gates are open: those of a step lead to the next one.
pub(super) fn after_gates(cx: &mut Context<'_>, release: &mut Release) -> Next {
    if release.current(cx.policy) != Some(&PolicyStep::Gate) {
        return promote::begin(cx, release);
    }
    release.stage = Stage::Analysing;
    next_step(cx, release)
}

/// Opens the tick of the step that `release.step` names.
pub(super) fn open_step(policy: &Policy, release: &mut Release, now: Timestamp) {
    let step = release.current(policy);
    let wait = match (&release.stage, step) {
        (Stage::Analysing, Some(PolicyStep::Pause(Some(duration)))) => *duration,
        _ => Duration::ZERO,
    };
    release.short_since = None;
    release.clock.reopen(now, wait);
    release.awaited = release.watch.round;
}

fn shift(cx: &mut Context<'_>, release: &mut Release, routing: &Routing) -> Next {
    if release.routing != *routing {
        return decide(cx, release, routing);
    }
    if steer(cx, routing) == Steered::Waiting {
        if matches!(cx.policy.sizing, Sizing::Pods(_)) {
            return pods::wait(cx, release);
        }
        if cx.policy.steps.get(release.step as usize + 1) == Some(&PolicyStep::Analyse) {
            let meant = release.clock.opened;
            let until = after(meant, cx.policy.watch.interval);
            persist::foretell(cx, WaitingOn::Window { until }, persist::late(meant));
        }
        return Next::Rest;
    }
    if release.shown_since.is_none() {
        show(cx, release);
    }
    next_step(cx, release)
}

/// The router shows what was intended: what is measured from here on is about that. The round of it was opened when it was
/// intended, and is the same one now: whoever was called for it is not called twice, and a process that died in between calls
/// for that one.
fn show(cx: &Context<'_>, release: &mut Release) {
    release.shown_since = Some(cx.now);
    if release.watch.is_open() {
        release.watch.settle(&cx.policy.watch, cx.now);
    } else {
        release.watch.start(&cx.policy.watch, cx.now);
    }
}

/// Everything before this step has passed; only a raise asks the traffic gates.
fn decide(cx: &mut Context<'_>, release: &mut Release, routing: &Routing) -> Next {
    if steer(cx, &release.routing) == Steered::Waiting || held(cx, release) {
        return Next::Rest;
    }
    if routing.exposes_more_than(&release.routing) {
        match gates::look(cx, release, HookKind::ConfirmTrafficIncrease) {
            Gates::Open(names) => {
                match capacity::await_candidate(cx, release, routing) {
                    Capacity::There => {}
                    Capacity::Waiting => return Next::Rest,
                    Capacity::Late(reason) => return prepare::give_up(cx, release, &reason),
                }
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
    let before = route::intend(cx, release, routing);
    if release.watch.is_open() && cx.fresh_round != Some(release.watch.round) {
        // Its hooks were called for what was shown before.
        release.watch.start(&cx.policy.watch, cx.now);
        cx.fresh_round = Some(release.watch.round);
    } else {
        // What has passed was about what was shown before.
        release.watch.doubt();
    }
    release.clock.reopen(cx.now, Duration::ZERO);
    if let Some(event) = said(cx, &before, routing) {
        cx.say(event);
    }
    Next::Again
}

/// What Flagger says of a shift. Where iterations are counted, it says them instead.
fn said(cx: &Context<'_>, before: &Routing, routing: &Routing) -> Option<Event> {
    let weight = routing.highest_share();
    Some(Event::normal(match cx.policy.iterations {
        None => format!("Advance {} canary weight {weight}", cx.target()),
        Some(_) if routing.base.candidate() < 100 => return None,
        Some(_) if before.base.mirror() > 0 => "Stop traffic mirroring and route all traffic to canary".to_owned(),
        Some(_) => "Routing all traffic to canary".to_owned(),
    }))
}

/// Waits for a round that closes after this step began; it counts only while the router shows the intended routing.
fn await_round(cx: &mut Context<'_>, release: &mut Release) -> Next {
    if steer(cx, &release.routing) == Steered::Waiting {
        release.shown_since = None;
        return Next::Rest;
    }
    if release.shown_since.is_none() {
        release.shown_since = Some(cx.now);
        release.watch.start(&cx.policy.watch, cx.now);
        open_step(cx.policy, release, cx.now);
        return Next::Again;
    }
    if held(cx, release) {
        return Next::Rest;
    }
    if cx.policy.watch.has_passed(&release.watch, release.awaited) {
        return next_step(cx, release);
    }
    judge::show(cx, release);
    Next::Rest
}

fn pause(cx: &mut Context<'_>, release: &mut Release, duration: Option<Duration>) -> Next {
    steer(cx, &release.routing);
    if held(cx, release) {
        return Next::Rest;
    }
    let until = duration.map(|_| release.clock.due);
    match until {
        Some(until) if cx.now >= until => return next_step(cx, release),
        Some(until) => cx.wake_at(until),
        None => {}
    }
    cx.wait_silently(WaitingOn::Pause { until });
    Next::Rest
}

/// The confirm-promotion gates.
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
    match gates::look(cx, release, HookKind::ConfirmPromotion) {
        Gates::Open(names) => {
            for name in names {
                cx.say(Event::normal(format!("Confirm-promotion check {name} passed")));
            }
            after_gates(cx, release)
        }
        Gates::Closed { name, reason } => {
            gates::closed(cx, release, name, reason, "waiting for promotion approval")
        }
        Gates::Waiting => Next::Rest,
        Gates::RollBack(next) => next,
    }
}

pub(super) fn next_step(cx: &Context<'_>, release: &mut Release) -> Next {
    if !std::mem::take(&mut release.recheck) {
        release.step += 1;
    }
    open_step(cx.policy, release, cx.now);
    Next::Again
}
