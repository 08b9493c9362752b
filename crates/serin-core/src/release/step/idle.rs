//! Primary serves; a new revision on the target starts a release.

use std::time::Duration;

use crate::analysis::HookKind;
use crate::model::{Digest, Quarantined, ReleaseId, Revision, after};
use crate::release::action::Action;
use crate::release::attempt::Release;
use crate::release::observed::{Side, WorkloadObserved};
use crate::release::outcome::OutcomeKind;
use crate::release::policy::Promotion;
use crate::release::report::{Event, WaitingOn};
use crate::release::state::{Phase, State};

use super::context::{Context, Next, drifted, live};
use super::route::{Steered, steer};
use super::{capacity, finish, prepare, size};

/// When a hold without an end is looked at again.
const RELOOK: Duration = Duration::from_secs(24 * 3600);

pub(super) fn advance(cx: &mut Context<'_>, state: &mut State, last: OutcomeKind) -> Next {
    let Some(target) = &cx.observed.target else {
        cx.wait_silently(WaitingOn::Target { name: cx.policy.names.target.clone() });
        return Next::Rest;
    };
    rebaseline(state, target);
    if !primary_is_there(cx, state, target) || steer(cx, &cx.at_rest()) == Steered::Waiting {
        return Next::Rest;
    }
    drop_former(cx, state);
    if let Some(reason) = cx.observed.blocks_start() {
        cx.wait_silently(WaitingOn::Blocked { reason: reason.to_owned() });
        return Next::Rest;
    }
    if let Some(revision) = admit(cx, state, target) {
        if last != OutcomeKind::Superseded {
            scale_down(cx, target);
        }
        cx.wait_silently(WaitingOn::Write { revision });
        return Next::Rest;
    }
    consider(cx, state, target, last)
}

/// The primary of a former target goes when nobody has been sent to it for long enough: services and route lead elsewhere, and what is
/// idle has been so since then.
fn drop_former(cx: &mut Context<'_>, state: &State) {
    let (Some(workload), Phase::Idle { since, .. }) = (cx.observed.former.clone(), &state.phase) else { return };
    let drained = after(*since, cx.policy.drain);
    if cx.now >= drained {
        cx.act(Action::DropFormer { workload });
    } else {
        cx.wake_at(drained);
    }
}

/// Whether the target's revision is to be released.
fn consider(cx: &mut Context<'_>, state: &mut State, target: &WorkloadObserved, last: OutcomeKind) -> Next {
    if drifted(target) {
        let message = format!("{} was changed in the cluster, putting it back to what Git says", cx.target());
        cx.wait(WaitingOn::Drift, || Event::warning(message));
        return Next::Rest;
    }
    let revision = live(target);
    if is_promoted(state, &revision.digest) {
        // Git, or somebody with kubectl, went back to what primary runs: nothing to release.
        state.last_applied = Some(revision.digest);
        state.generation = generation(target);
        scale_down(cx, target);
        return Next::Rest;
    }
    if let Some(by_hand) = refused(state, target, &revision.digest) {
        state.generation = generation(target);
        finish::refuse(cx, state, &revision);
        scale_down(cx, target);
        cx.wait_silently(WaitingOn::Quarantine { revision, by_hand });
        return Next::Rest;
    }
    if size::is_parked(cx) {
        scale_down(cx, target);
        cx.wait_silently(WaitingOn::Parked { name: cx.policy.names.target.clone() });
        return Next::Rest;
    }
    if waits(cx, state, &revision) {
        scale_down(cx, target);
        return Next::Rest;
    }
    start(cx, state, target, revision, last);
    Next::Again
}

/// Whether the revision is held: its release has not begun, so nobody waits for it but who wrote it.
fn waits(cx: &mut Context<'_>, state: &State, revision: &Revision) -> bool {
    let Some(hold) = &cx.observed.hold else { return false };
    if state.unheld.as_ref().is_some_and(|unheld| unheld.digest == revision.digest) {
        return false;
    }
    let (target, short) = (cx.target(), revision.digest.short());
    cx.wake_at(hold.until().unwrap_or_else(|| after(cx.now, RELOOK)));
    let waiting = hold.clone().waiting(revision.clone());
    let message = format!("New revision {short} of {target} waits for {waiting}");
    cx.wait(waiting, || Event::normal(message));
    true
}

/// Whether it failed before, or was refused by hand (`true`). From Git it takes `serin retry` to release it again. Somebody who
/// writes by hand, and wrote something else in between, asks for it by writing it again, as with Flagger; what was refused by
/// hand is let go by hand.
fn refused(state: &mut State, target: &WorkloadObserved, digest: &Digest) -> Option<bool> {
    if target.stamped.is_none() && state.last_applied.as_ref() != Some(digest) {
        state.quarantine.retain(|entry| entry.revision.digest != *digest || entry.is_by_hand());
    }
    let found = state.quarantine.iter().find(|entry| entry.revision.digest == *digest);
    found.map(Quarantined::is_by_hand)
}

fn start(
    cx: &mut Context<'_>,
    state: &mut State,
    target: &WorkloadObserved,
    revision: Revision,
    last: OutcomeKind,
) {
    state.releases += 1;
    state.admitted = None;
    state.last_applied = Some(revision.digest.clone());
    state.generation = generation(target);
    let id = ReleaseId::new(state.releases, &revision.digest);
    let mut release = Release::new(id, revision, cx.policy.plan(), cx.at_rest(), cx.now);
    release.overrode =
        state.unheld.take().filter(|unheld| unheld.digest == release.revision.digest).map(|it| it.why);
    if let Some(why) = &release.overrode {
        cx.say(Event::warning(format!("Releasing {} outside of what holds it, {why}", cx.target())));
    }
    capacity::begin(cx, &mut release);
    release.skip = cx.observed.skips;
    if !cx.policy.has_hook(HookKind::ConfirmRollout) {
        // After a supersede the canary is already up, and `Restarting analysis` has been said.
        let restarted = last == OutcomeKind::Superseded && target.replicas > 0;
        prepare::scale_up(cx, &mut release, restarted);
    }
    state.phase = Phase::Releasing(Box::new(release));
}

/// Tells `sync` that it may write what it holds back; the revision, if the target does not carry it yet.
fn admit(cx: &Context<'_>, state: &mut State, target: &WorkloadObserved) -> Option<Revision> {
    let pending = cx.observed.pending.as_ref()?;
    state.admitted = Some(pending.clone());
    (pending.digest != target.digest).then(|| pending.clone())
}

/// A digest that changes while the object's generation does not is a new way to compute it, not a new revision.
fn rebaseline(state: &mut State, target: &WorkloadObserved) {
    let Some(last) = &state.last_applied else { return };
    if *last == target.digest {
        state.generation = generation(target);
        return;
    }
    if state.generation.is_none() || state.generation != generation(target) {
        return;
    }
    let old = last.clone();
    if let Some(promoted) = state.promoted.as_mut().filter(|promoted| promoted.revision.digest == old) {
        promoted.revision.digest = target.digest.clone();
    }
    for entry in state.quarantine.iter_mut().filter(|entry| entry.revision.digest == old) {
        entry.revision.digest = target.digest.clone();
    }
    state.last_applied = Some(target.digest.clone());
}

/// What `sync` stamps has its identity in the stamp; the generation matters for the rest only.
fn generation(target: &WorkloadObserved) -> Option<i64> {
    target.stamped.is_none().then_some(target.generation)
}

fn is_promoted(state: &State, digest: &Digest) -> bool {
    state.promoted.as_ref().is_some_and(|promoted| promoted.revision.digest == *digest)
}

/// A primary that was deleted is made again, if the target still has what it ran.
fn primary_is_there(cx: &mut Context<'_>, state: &State, target: &WorkloadObserved) -> bool {
    if cx.observed.primary.is_some() {
        return true;
    }
    let name = cx.policy.names.primary();
    if is_promoted(state, &target.digest) && cx.policy.promotion == Promotion::CopyToPrimary {
        let replicas = size::new_primary(cx);
        cx.act(Action::CreatePrimary { expect: target.digest.clone(), replicas });
        cx.act(Action::EnsurePrimaryAutoscaler { floor: 0 });
    }
    cx.wait_silently(WaitingOn::Target { name });
    false
}

/// A target that is not being released runs nothing.
fn scale_down(cx: &mut Context<'_>, target: &WorkloadObserved) {
    if target.replicas > 0 {
        cx.act(Action::Scale { side: Side::Candidate, replicas: 0 });
    }
}
