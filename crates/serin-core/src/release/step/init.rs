//! First sight of a target: primary is made from it, services and route lead there, the target scales to zero.

use jiff::Timestamp;

use crate::model::Remembered;
use crate::model::after;
use crate::release::action::Action;
use crate::release::observed::{Readiness, RouteObserved, Side, WorkloadObserved};
use crate::release::policy::Promotion;
use crate::release::questions::{self, Reply};
use crate::release::report::{Event, WaitingOn};
use crate::release::state::{Phase, State};

use super::context::{Context, Next, live};
use super::route::{Steered, steer};
use super::{finish, mend, size};

/// How far initialization is.
pub(super) struct Progress<'a> {
    /// When primary was first seen ready.
    pub(super) ready: &'a mut Option<Timestamp>,
    /// When the route was first seen to lead there.
    pub(super) routed: &'a mut Option<Timestamp>,
    /// The metric providers have answered.
    pub(super) providers: &'a mut bool,
    /// What the record in Git says of the target.
    pub(super) remembered: Option<&'a Remembered>,
}

/// Whether primary has been made of what is to serve first, and serves or is about to.
fn serves(cx: &Context<'_>) -> bool {
    cx.observed
        .primary
        .as_ref()
        .is_some_and(|primary| primary.readiness == Readiness::Ready && primary.replicas > 0)
}

pub(super) fn advance(cx: &mut Context<'_>, since: Timestamp, progress: Progress<'_>) -> Next {
    let Progress { ready, routed, providers, remembered } = progress;
    if let Some(reason) = cx.observed.blocks_start() {
        cx.wait_silently(WaitingOn::Blocked { reason: reason.to_owned() });
        return Next::Rest;
    }
    let Some(target) = &cx.observed.target else {
        cx.wait_silently(WaitingOn::Target { name: cx.policy.names.target.clone() });
        return Next::Rest;
    };
    if remembered.is_some_and(|record| record.promoted.digest != target.digest) && !serves(cx) {
        // Not what the record says, and nobody asked for it here: `sync` puts it right.
        cx.wait_silently(WaitingOn::Drift);
        return Next::Rest;
    }
    if cx.policy.promotion == Promotion::CopyToPrimary {
        cx.act(Action::EnsurePrimaryAutoscaler { floor: 0 });
    }
    let Some(primary) = &cx.observed.primary else {
        make_primary(cx, target, since);
        return Next::Rest;
    };
    if primary.readiness != Readiness::Ready || (primary.replicas == 0 && !size::is_parked(cx)) {
        *ready = None;
        await_primary(cx, target, primary, since);
        return Next::Rest;
    }
    let ready_since = *ready.get_or_insert(cx.now);
    // Asked from the start, said in Flagger's order: after what primary had to say.
    if !*providers && hear_providers(cx, ready_since, target) {
        *providers = true;
        return Next::Again;
    }
    let known = after(ready_since, cx.policy.settle);
    if cx.observed.route == RouteObserved::Missing && cx.now < known {
        // The services come first: a route to endpoints that proxies do not know yet would break what works now.
        cx.act(Action::EnsureServices { apex: Side::Stable });
        cx.wait_silently(WaitingOn::Endpoints { workload: cx.policy.names.primary(), until: known });
        cx.wake_at(known);
        return Next::Rest;
    }
    if steer(cx, &cx.at_rest()) == Steered::Waiting {
        *routed = None;
        return Next::Rest;
    }
    let Some(routed_at) = *routed else {
        *routed = Some(cx.now);
        return Next::Again;
    };
    hand_over(cx, target, primary, ready_since, routed_at, *providers)
}

/// The target has served until now: it drains, then scales to zero.
fn hand_over(
    cx: &mut Context<'_>,
    target: &WorkloadObserved,
    primary: &WorkloadObserved,
    ready: Timestamp,
    routed: Timestamp,
    providers: bool,
) -> Next {
    let drained = after(routed, cx.policy.drain);
    if target.replicas > 0 && cx.now < drained {
        cx.wait_silently(WaitingOn::Drain { until: drained });
        cx.wake_at(drained);
        return Next::Rest;
    }
    if target.replicas > 0 {
        mend::store(cx, &primary.digest);
        cx.act(Action::Scale { side: Side::Candidate, replicas: 0 });
        cx.wait_silently(WaitingOn::ScalingDown { workload: cx.policy.names.target.clone() });
        return Next::Rest;
    }
    match questions::providers(cx.policy, cx.observed, ready, &target.digest, cx.now) {
        Some(asked) if !providers => {
            cx.wait_for_answers(&[&asked.open]);
            Next::Rest
        }
        Some(_) | None => Next::Initialized(primary.digest.clone()),
    }
}

fn make_primary(cx: &mut Context<'_>, target: &WorkloadObserved, since: Timestamp) {
    cx.actions.clear();
    match cx.policy.promotion {
        Promotion::CopyToPrimary => {
            let replicas = size::new_primary(cx);
            cx.act(Action::CreatePrimary { expect: target.digest.clone(), replicas });
            cx.act(Action::EnsurePrimaryAutoscaler { floor: 0 });
        }
        Promotion::SwitchStable => cx.act(Action::SwitchStable { expect: live(target) }),
    }
    let workload = cx.policy.names.primary();
    let deadline = after(since, cx.policy.progress_deadline);
    cx.wait_silently(WaitingOn::Readiness { workload, reason: "it is being created".to_owned(), deadline });
}

fn await_primary(cx: &mut Context<'_>, target: &WorkloadObserved, primary: &WorkloadObserved, since: Timestamp) {
    // A first revision that never becomes ready is repaired by the next one: primary has not served anybody yet.
    let untried = cx.observed.route == RouteObserved::Missing && cx.policy.promotion == Promotion::CopyToPrimary;
    if untried && primary.digest != target.digest {
        cx.act(Action::CopyToPrimary { expect: live(target) });
    }
    // Nobody is served by it, and somebody has given the target another template: that is what is to serve first.
    let is_mended = primary.serving == 0 && primary.digest != target.digest;
    if is_mended && cx.policy.promotion == Promotion::SwitchStable {
        cx.act(Action::SwitchStable { expect: live(target) });
    }
    let reason = match &primary.readiness {
        Readiness::Ready => "it has no replicas".to_owned(),
        Readiness::Waiting(reason) | Readiness::Stalled(reason) => reason.clone(),
    };
    let workload = cx.policy.names.primary();
    let deadline = after(since, cx.policy.progress_deadline);
    let event = Event::warning(format!("{} not ready: {reason}", cx.policy.names.primary_dotted()));
    cx.wait(WaitingOn::Readiness { workload, reason, deadline }, || event);
}

/// Says once whether the metric providers are there; initialization does not depend on it.
fn hear_providers(cx: &mut Context<'_>, ready: Timestamp, target: &WorkloadObserved) -> bool {
    let Some(asked) = questions::providers(cx.policy, cx.observed, ready, &target.digest, cx.now) else {
        return true;
    };
    let event = match asked.reply(cx.observed, cx.now) {
        Reply::Pending => {
            let until = asked.open.until;
            cx.wake_at(until);
            return false;
        }
        Reply::Here(Ok(())) => Event::normal("all the metrics providers are available!"),
        Reply::Here(Err(reason)) => Event::warning(format!("Error checking metric providers: {reason}")),
        Reply::Late => Event::warning("Error checking metric providers: no answer in time"),
    };
    cx.say(event);
    true
}

/// Takes up, once, what the record says of a target that the cluster knew nothing of.
pub(super) fn remember(cx: &Context<'_>, state: &mut State) {
    let Some(record) = &cx.observed.remembered else { return };
    let Phase::Initializing { remembered: remembered @ None, .. } = &mut state.phase else { return };
    *remembered = Some(record.clone());
    finish::remember(state, record);
}

/// A first revision that will not start, and has not served anybody, is repaired by the next one: only then is that written
/// at once, without a release. What the record says was promoted last has served before: what comes after it is released.
pub(super) fn admit_repair(cx: &mut Context<'_>, state: &mut State) {
    let Phase::Initializing { since, remembered, .. } = &state.phase else { return };
    let Some(pending) = &cx.observed.pending else { return };
    let stuck = match cx.observed.primary.as_ref().map(|primary| &primary.readiness) {
        Some(Readiness::Ready) => false,
        Some(Readiness::Stalled(_)) => true,
        Some(Readiness::Waiting(_)) | None => {
            let deadline = after(*since, cx.policy.progress_deadline);
            cx.wake_at(deadline);
            cx.now >= deadline
        }
    };
    let failed = state.quarantine.iter().any(|entry| entry.revision.digest == pending.digest);
    let untried = cx.observed.blocks_start().is_none() && cx.observed.route == RouteObserved::Missing;
    let is_repair = stuck && untried && remembered.is_none() && !failed;
    state.admitted = is_repair.then(|| pending.clone());
}
