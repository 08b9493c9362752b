//! Promotion: primary takes the analysed revision while the canary keeps its weight; or gets the last good one back.

use std::time::Duration;

use jiff::Timestamp;

use crate::model::{Digest, Routing, after};
use crate::release::action::Action;
use crate::release::attempt::{Cause, End, Release, Stage};
use crate::release::observed::{Readiness, Side, WorkloadObserved};
use crate::release::policy::{Promotion, Size, Sizing};
use crate::release::report::{Event, WaitingOn};

use super::capacity::{self, Capacity};
use super::context::{Context, Next, can_serve, stable_serves};
use super::prepare::{Health, health};
use super::route::{self, Steered, steer};
use super::{ending, persist, pods, size, way_back};

/// Whether the remaining steps are left out: by `skipAnalysis` or by a person.
pub(super) fn is_skipped(cx: &Context<'_>, release: &Release) -> bool {
    (cx.policy.skip_analysis || release.skip) && cx.observed.blocks_release().is_none() && !cx.policy.suspended
}

/// The analysis is over.
pub(super) fn begin(cx: &mut Context<'_>, release: &mut Release) -> Next {
    release.stage = Stage::Promoting { since: cx.now, relieved: None };
    release.unready_since = None;
    release.paused = false;
    release.clock.reopen(cx.now, Duration::ZERO);
    release.size = Size::Share;
    if let Sizing::Pods(_) = cx.policy.sizing {
        let everything = cx.meant(&Routing::candidate_percent(100), release);
        route::intend(cx, release, &everything);
    }
    let (target, primary) = (cx.target(), cx.policy.names.primary_dotted());
    cx.say(Event::normal(match cx.policy.promotion {
        Promotion::CopyToPrimary => format!("Copying {target} template spec to {primary}"),
        Promotion::SwitchStable => format!("Making {target} stable"),
    }));
    Next::Again
}

/// Brings primary to the revision; traffic stays where it is until primary is ready.
pub(super) fn advance(cx: &mut Context<'_>, release: &mut Release, since: Timestamp) -> Next {
    if let Sizing::Pods(_) = cx.policy.sizing {
        return pods::promote(cx, release);
    }
    if lower(cx, release) || take_over(cx, release) {
        return Next::Again;
    }
    let steered = steer(cx, &release.routing);
    if cx.policy.suspended {
        cx.suspend();
        return Next::Rest;
    }
    let primary = cx.observed.primary.as_ref();
    let deadline = release.ready_deadline(since, primary, cx.now, cx.policy.progress_deadline);
    let digest = &release.revision.digest.clone();
    let state = state_of(primary, digest);
    release.primary_ready_since = release.primary_ready_since.filter(|_| state == Standing::Ready);
    match state {
        Standing::Ready => {
            let lacks = capacity::primary_lacks(cx, release).filter(|_| cx.now < deadline);
            if let Some(reason) = lacks.filter(|_| release.routing.exposes()) {
                wait_ready(cx, reason, deadline);
                cx.wake_at(deadline);
                return Next::Rest;
            }
            if !is_primary_known(cx, release) {
                return Next::Rest;
            }
            if let Some(next) = way_back::walk(cx, release) {
                return next;
            }
            if release.first_traffic.is_some() {
                way_back::arrive(cx);
            }
            ending::begin(cx, release, End::Succeeded);
            return Next::Again;
        }
        Standing::Stalled(reason) => return fail(cx, release, &reason),
        Standing::Other | Standing::Waiting(_) if cx.now >= deadline => {
            let reason = match state {
                Standing::Waiting(reason) => reason,
                Standing::Other | Standing::Ready | Standing::Stalled(_) => unchanged(cx, release),
            };
            return fail(cx, release, &reason);
        }
        Standing::Other => {
            match relieve(cx, release, steered) {
                Relief::Given => {}
                Relief::Again => return Next::Again,
                Relief::Waiting => {
                    cx.wake_at(deadline);
                    return Next::Rest;
                }
                Relief::Late(reason) => return fail(cx, release, &reason),
            }
            change_primary(cx, release);
            let reason = format!("it is to take revision {}", digest.short());
            cx.wait_silently(readiness(cx, reason, deadline));
        }
        Standing::Waiting(reason) => wait_ready(cx, reason, deadline),
    }
    cx.wake_at(deadline);
    Next::Rest
}

/// Why primary does not carry the revision when its time is over.
fn unchanged(cx: &Context<'_>, release: &Release) -> String {
    let what = "its template could not be changed in time";
    match &cx.observed.problem {
        Some(problem) => format!("{what}: {problem}"),
        None if release.short_since.is_some() || matches!(health(cx), Health::Limping(_) | Health::Down(_)) => {
            format!("{what}: the canary did not have the pods to take all requests meanwhile")
        }
        None => what.to_owned(),
    }
}

/// Where the service in front of both sides leads. Whoever does not come by the route would stay on a primary whose pods are
/// replaced: when all requests are on the candidate, they are led there, too, and back when primary serves again.
pub(super) fn apex(cx: &Context<'_>, release: &Release) -> Side {
    let is_changed = match release.stage {
        Stage::Promoting { .. } | Stage::Restoring { .. } => true,
        Stage::Confirming
        | Stage::ScalingUp { .. }
        | Stage::Preparing
        | Stage::Analysing
        | Stage::ConfirmingPromotion
        | Stage::Ending { .. } => false,
    };
    let copies = cx.policy.promotion == Promotion::CopyToPrimary && cx.policy.guards.apex;
    if !is_changed || !copies || release.routing.uses_stable() {
        return Side::Stable;
    }
    let is_led = cx.observed.apex == Some(Side::Candidate);
    let is_lost = !stable_serves(cx.observed.primary.as_ref());
    if is_led || is_lost || capacity::is_starved_by_update(cx, release, 100) {
        Side::Candidate
    } else {
        Side::Stable
    }
}

/// Whether primary may be changed.
enum Relief {
    /// Nobody is on it who would miss its pods.
    Given,
    /// The state has changed.
    Again,
    /// Not yet; what is waited for has been noted.
    Waiting,
    /// The candidate did not get the pods for it in time.
    Late(String),
}

/// A primary that would not keep the pods that its share takes, because all are replaced at once or too many of them, loses its
/// requests first: the candidate, which runs what is promoted, gets the pods for all of them, then the requests; and when
/// none is under way to primary any more, that is changed.
///
/// A candidate that is to become the stable side itself gets the pods for all of them before it does.
fn relieve(cx: &mut Context<'_>, release: &mut Release, steered: Steered) -> Relief {
    if cx.policy.promotion == Promotion::SwitchStable {
        let everything = cx.meant(&Routing::candidate_percent(100), release);
        return match ready_for_all(cx, release, &everything) {
            Capacity::There => Relief::Given,
            Capacity::Waiting => Relief::Waiting,
            Capacity::Late(reason) => Relief::Late(reason),
        };
    }
    if cx.observed.primary.is_none() || !cx.policy.guards.relief {
        return Relief::Given;
    }
    if release.routing.uses_stable() {
        if let Stage::Promoting { relieved, .. } = &mut release.stage {
            // Users may have come back since.
            *relieved = None;
        }
        if !capacity::is_starved_by_update(cx, release, release.routing.base.stable()) {
            return Relief::Given;
        }
        let everything = cx.meant(&Routing::candidate_percent(100), release);
        return match ready_for_all(cx, release, &everything) {
            Capacity::There => {
                cx.say(Event::normal(format!(
                    "Routing all traffic to canary while the pods of {} are replaced",
                    cx.policy.names.primary_dotted()
                )));
                route::intend(cx, release, &everything);
                Relief::Again
            }
            Capacity::Waiting => Relief::Waiting,
            Capacity::Late(reason) => Relief::Late(reason),
        };
    }
    let Stage::Promoting { relieved, .. } = &mut release.stage else { return Relief::Waiting };
    if steered == Steered::Waiting {
        *relieved = None;
        return Relief::Waiting;
    }
    let Some(since) = *relieved else {
        // Whoever is led by the service only is led there just now.
        let routed = release.shown_since.filter(|_| cx.apex == Side::Stable);
        *relieved = Some(routed.unwrap_or(cx.now));
        return Relief::Again;
    };
    let until = after(since, cx.policy.drain);
    if cx.now < until {
        let workload = cx.policy.names.primary();
        cx.wait_silently(WaitingOn::Relief { workload, until });
        cx.wake_at(until);
        return Relief::Waiting;
    }
    Relief::Given
}

/// Whether proxies have had time to learn of the pods of a primary that nobody was sent to: all of them may be new.
fn is_primary_known(cx: &mut Context<'_>, release: &mut Release) -> bool {
    let copies = cx.policy.promotion == Promotion::CopyToPrimary;
    if !copies || release.routing.uses_stable() {
        return true;
    }
    let until = after(*release.primary_ready_since.get_or_insert(cx.now), cx.policy.settle);
    if cx.now < until {
        cx.wake_at(until);
        cx.wait_silently(WaitingOn::Endpoints { workload: cx.policy.names.primary(), until });
        persist::pass_over(cx, until);
    }
    cx.now >= until
}

/// Whether the candidate can have all requests.
fn ready_for_all(cx: &mut Context<'_>, release: &mut Release, everything: &Routing) -> Capacity {
    if cx.policy.sizing == Sizing::ByShare {
        return capacity::await_candidate(cx, release, everything);
    }
    match health(cx) {
        Health::Ready => capacity::await_candidate(cx, release, everything),
        Health::Limping(reason) | Health::Down(reason) | Health::Stalled(reason) => {
            release.ready_since = None;
            let names = &cx.policy.names;
            let reason =
                format!("{} is to take all requests from {} first: {reason}", names.target, names.primary());
            cx.wait_silently(WaitingOn::Blocked { reason });
            Capacity::Waiting
        }
    }
}

/// A primary without any pod that serves loses its requests to the candidate, which runs what is promoted and is ready.
fn take_over(cx: &mut Context<'_>, release: &mut Release) -> bool {
    let everything = cx.meant(&Routing::candidate_percent(100), release);
    let copies = cx.policy.promotion == Promotion::CopyToPrimary && cx.policy.guards.relief;
    let is_lost = copies && !stable_serves(cx.observed.primary.as_ref());
    let is_used = release.routing.uses_stable();
    let takes = is_lost && is_used && is_trusted(cx, release) && health(cx) == Health::Ready;
    if takes {
        cx.say(Event::warning(format!(
            "Routing all traffic to canary: no pod of {} serves",
            cx.policy.names.primary_dotted()
        )));
        route::intend(cx, release, &everything);
    }
    takes
}

/// Whether the candidate is what was analysed.
fn is_trusted(cx: &Context<'_>, release: &Release) -> bool {
    cx.observed.target.as_ref().is_some_and(|target| target.digest == release.revision.digest)
}

/// How a primary stands towards a digest.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Standing {
    /// It does not carry it.
    Other,
    Ready,
    Waiting(String),
    Stalled(String),
}

fn state_of(primary: Option<&WorkloadObserved>, digest: &Digest) -> Standing {
    let Some(primary) = primary.filter(|primary| primary.digest == *digest) else { return Standing::Other };
    match &primary.readiness {
        Readiness::Ready if primary.replicas == 0 => Standing::Waiting("it is scaled to zero".to_owned()),
        Readiness::Ready => Standing::Ready,
        Readiness::Waiting(reason) => Standing::Waiting(reason.clone()),
        Readiness::Stalled(reason) => Standing::Stalled(reason.clone()),
    }
}

fn change_primary(cx: &mut Context<'_>, release: &Release) {
    let expect = release.revision.clone();
    let copies = cx.policy.promotion == Promotion::CopyToPrimary;
    if copies && cx.observed.primary.is_none() {
        let replicas = size::new_primary(cx);
        cx.act(Action::CreatePrimary { expect: expect.digest, replicas });
        cx.act(Action::EnsurePrimaryAutoscaler { floor: capacity::floor(release) });
        return;
    }
    if let Some(promoted) = cx.promoted.as_ref().map(|promoted| promoted.digest.clone()) {
        cx.act(Action::StoreLastGood { expect: promoted });
    }
    if copies {
        cx.act(Action::CopyToPrimary { expect });
        cx.act(Action::EnsurePrimaryAutoscaler { floor: capacity::floor(release) });
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
    if let Sizing::Pods(_) = cx.policy.sizing {
        return pods::restore(cx, release, cause);
    }
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
        Standing::Ready if !is_primary_known(cx, release) => return Next::Rest,
        Standing::Ready => {
            ending::begin(cx, release, End::Failed { cause });
            return Next::Again;
        }
        Standing::Other => {
            cx.act(Action::RestorePrimary { expect: promoted });
            let reason = "its last good template is to be put back".to_owned();
            cx.wait_silently(readiness(cx, reason, deadline));
        }
        Standing::Waiting(reason) | Standing::Stalled(reason) => wait_ready(cx, reason, deadline),
    }
    Next::Rest
}

/// A canary that cannot serve, or is no longer what was analysed, loses its traffic if primary is able to take it.
fn lower(cx: &Context<'_>, release: &mut Release) -> bool {
    let down = matches!(health(cx), Health::Down(_)) || !can_serve(cx.observed.target.as_ref());
    let lose = down || !is_trusted(cx, release);
    let lower = release.routing.exposes() && lose && stable_serves(cx.observed.primary.as_ref());
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
