//! Promotion: primary takes the analysed revision while the canary keeps its weight; or gets the last good one back.

use std::time::Duration;

use jiff::Timestamp;

use crate::model::Digest;
use crate::release::action::Action;
use crate::release::attempt::{Cause, End, Release, Stage};
use crate::release::observed::{Readiness, WorkloadObserved};
use crate::release::policy::Promotion;
use crate::release::report::{Event, WaitingOn};

use super::context::{Context, Next, can_serve};
use super::prepare::{Health, health};
use super::route::steer;
use super::{ending, size, way_back};

/// Whether the remaining steps are left out: by `skipAnalysis` or by a person.
pub(super) fn is_skipped(cx: &Context<'_>, release: &Release) -> bool {
    (cx.policy.skip_analysis || release.skip) && cx.observed.blocks_release().is_none() && !cx.policy.suspended
}

/// The analysis is over.
pub(super) fn begin(cx: &mut Context<'_>, release: &mut Release) -> Next {
    release.stage = Stage::Promoting { since: cx.now };
    release.unready_since = None;
    release.paused = false;
    release.clock.reopen(cx.now, Duration::ZERO);
    let (target, primary) = (cx.target(), cx.policy.names.primary_dotted());
    cx.say(Event::normal(match cx.policy.promotion {
        Promotion::CopyToPrimary => format!("Copying {target} template spec to {primary}"),
        Promotion::SwitchStable => format!("Making {target} stable"),
    }));
    Next::Again
}

/// Brings primary to the revision; traffic stays where it is until primary is ready.
pub(super) fn advance(cx: &mut Context<'_>, release: &mut Release, since: Timestamp) -> Next {
    if lower(cx, release) {
        return Next::Again;
    }
    steer(cx, &release.routing);
    if cx.policy.suspended {
        cx.suspend();
        return Next::Rest;
    }
    let primary = cx.observed.primary.as_ref();
    let deadline = release.ready_deadline(since, primary, cx.now, cx.policy.progress_deadline);
    let digest = &release.revision.digest;
    let state = state_of(primary, digest);
    match state {
        Side::Ready => {
            if let Some(next) = way_back::walk(cx, release) {
                return next;
            }
            if release.first_traffic.is_some() {
                way_back::arrive(cx);
            }
            ending::begin(cx, release, End::Succeeded);
            return Next::Again;
        }
        Side::Stalled(reason) => return fail(cx, release, &reason),
        Side::Other | Side::Waiting(_) if cx.now >= deadline => {
            let reason = match state {
                Side::Waiting(reason) => reason,
                _ => match &cx.observed.problem {
                    Some(problem) => format!("its template could not be changed in time: {problem}"),
                    None => "its template could not be changed in time".to_owned(),
                },
            };
            return fail(cx, release, &reason);
        }
        Side::Other => {
            change_primary(cx, release);
            let reason = format!("it is to take revision {}", digest.short());
            cx.wait_silently(readiness(cx, reason, deadline));
        }
        Side::Waiting(reason) => wait_ready(cx, reason, deadline),
    }
    cx.wake_at(deadline);
    Next::Rest
}

/// How a primary stands towards a digest.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Side {
    /// It does not carry it.
    Other,
    Ready,
    Waiting(String),
    Stalled(String),
}

fn state_of(primary: Option<&WorkloadObserved>, digest: &Digest) -> Side {
    let Some(primary) = primary.filter(|primary| primary.digest == *digest) else { return Side::Other };
    match &primary.readiness {
        Readiness::Ready if primary.replicas == 0 => Side::Waiting("it is scaled to zero".to_owned()),
        Readiness::Ready => Side::Ready,
        Readiness::Waiting(reason) => Side::Waiting(reason.clone()),
        Readiness::Stalled(reason) => Side::Stalled(reason.clone()),
    }
}

fn change_primary(cx: &mut Context<'_>, release: &Release) {
    let expect = release.revision.clone();
    let copies = cx.policy.promotion == Promotion::CopyToPrimary;
    if copies && cx.observed.primary.is_none() {
        let replicas = size::new_primary(cx);
        cx.act(Action::CreatePrimary { expect: expect.digest, replicas });
        cx.act(Action::EnsurePrimaryAutoscaler);
        return;
    }
    if let Some(promoted) = cx.promoted.as_ref().map(|promoted| promoted.digest.clone()) {
        cx.act(Action::StoreLastGood { expect: promoted });
    }
    if copies {
        cx.act(Action::CopyToPrimary { expect });
        cx.act(Action::EnsurePrimaryAutoscaler);
    } else {
        cx.act(Action::SwitchStable { expect });
    }
}

fn fail(cx: &mut Context<'_>, release: &mut Release, reason: &str) -> Next {
    let message = format!(
        "Promotion of {} failed, primary not ready: {} not ready: {reason}",
        cx.target(),
        cx.policy.names.primary_dotted()
    );
    cx.say(Event::warning(message.clone()));
    release.stage = Stage::Restoring { since: cx.now, cause: Cause { message } };
    Next::Again
}

/// Gives primary its last good template back; traffic returns when it is ready, however long that takes.
pub(super) fn restore(cx: &mut Context<'_>, release: &mut Release) -> Next {
    let Stage::Restoring { since, cause } = release.stage.clone() else { return Next::Rest };
    if lower(cx, release) {
        return Next::Again;
    }
    steer(cx, &release.routing);
    let deadline =
        release.ready_deadline(since, cx.observed.primary.as_ref(), cx.now, cx.policy.progress_deadline);
    let Some(promoted) = cx.promoted.as_ref().map(|promoted| promoted.digest.clone()) else {
        ending::begin(cx, release, End::Failed { cause });
        return Next::Again;
    };
    match state_of(cx.observed.primary.as_ref(), &promoted) {
        Side::Ready => {
            ending::begin(cx, release, End::Failed { cause });
            return Next::Again;
        }
        Side::Other => {
            cx.act(Action::RestorePrimary { expect: promoted });
            let reason = "its last good template is to be put back".to_owned();
            cx.wait_silently(readiness(cx, reason, deadline));
        }
        Side::Waiting(reason) | Side::Stalled(reason) => wait_ready(cx, reason, deadline),
    }
    Next::Rest
}

/// A canary that cannot serve, or is no longer what was analysed, loses its traffic if primary is able to take it.
fn lower(cx: &Context<'_>, release: &mut Release) -> bool {
    let trusted = cx.observed.target.as_ref().is_some_and(|target| target.digest == release.revision.digest);
    let down = matches!(health(cx), Health::Down(_)) || !can_serve(cx.observed.target.as_ref());
    let lower = release.routing.exposes() && (down || !trusted) && can_serve(cx.observed.primary.as_ref());
    if lower {
        release.aim(cx.at_rest());
    }
    lower
}

fn wait_ready(cx: &mut Context<'_>, reason: String, deadline: Timestamp) {
    let event = Event::warning(format!("{} not ready: {reason}", cx.policy.names.primary_dotted()));
    let waiting = readiness(cx, reason, deadline);
    cx.wait(waiting, || event);
}

fn readiness(cx: &Context<'_>, reason: String, deadline: Timestamp) -> WaitingOn {
    WaitingOn::Readiness { workload: cx.policy.names.primary(), reason, deadline }
}
