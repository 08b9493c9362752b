//! Capacity before weight: a side gets more requests when enough of its pods are ready for them.
//!
//! What all requests take together is known from the stable side: as many pods as were ready there when the release began,
//! and more once an autoscaler asks for more at its share. The engine sizes the candidate for what it is to get next;
//! primary's autoscaler, while a release runs, goes no lower than what all requests take, so that a rollback, which waits
//! for nobody, finds the pods it needs.

use crate::model::{Routing, after};
use crate::release::action::Action;
use crate::release::attempt::{Release, Stage};
use crate::release::observed::{AutoscalerObserved, Observed, Side, WorkloadObserved};
use crate::release::policy::{Policy, PolicyStep, Promotion, Size, Sizing};
use crate::release::report::WaitingOn;
use crate::release::state::{HeldMinimum, State};

use super::context::Context;
use super::prepare;

/// From this share on, in percent, a candidate's autoscaler tells what all requests take. Below, rounding to whole pods says
/// more than the load does.
const SHARE_THAT_TELLS: u8 = 20;

/// Whether a side has the pods that it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Capacity {
    /// It has.
    There,
    /// Not yet; what is waited for has been noted.
    Waiting,
    /// It did not get them in time.
    Late(String),
}

/// What a new release begins with.
pub(super) fn begin(cx: &Context<'_>, release: &mut Release) {
    let Some(primary) = &cx.observed.primary else { return };
    release.demand = primary.available.max(1);
    if cx.observed.autoscaler.is_some() && cx.policy.guards.floor {
        (release.floor, release.primary_asked) = (primary.replicas, primary.replicas);
    }
}

/// More is demanded when an autoscaler asks for more pods, at the share that its side gets, than anybody has given it.
pub(super) fn follow(cx: &Context<'_>, release: &mut Release) {
    if release.demand == 0 {
        // An earlier version began it.
        begin(cx, release);
    }
    let observed = cx.observed;
    if let Some(size) = observed.size {
        // Whoever sizes it in Git knows what it takes. What sizes both sides together, an autoscaler or a person, says it whole.
        release.demand = match cx.policy.promotion {
            Promotion::CopyToPrimary => release.demand.min(size.max(1)),
            Promotion::SwitchStable => size.max(1),
        };
    }
    let Some(limits) = observed.autoscaler.map(|autoscaler| autoscaler.maximum) else { return };
    if release.shown_since.is_none() || !release.routing.rules.is_empty() {
        return;
    }
    let base = &release.routing.base;
    let stable = more(observed.primary.as_ref(), &mut release.primary_asked, base.stable());
    let candidate = more(observed.target.as_ref(), &mut release.sized, base.candidate());
    let candidate = candidate.filter(|_| base.candidate() >= SHARE_THAT_TELLS);
    let most = [stable, candidate].into_iter().flatten().max().unwrap_or(0);
    release.demand = release.demand.max(most.min(limits));
}

/// What all requests take if an autoscaler asks for more than it, or the engine, has before. What it keeps while its share becomes
/// smaller says nothing.
fn more(side: Option<&WorkloadObserved>, known: &mut i32, percent: u8) -> Option<i32> {
    let asks = side.map(|side| side.replicas).filter(|replicas| *replicas > *known)?;
    *known = asks;
    let is_asked = percent > 0 && side.is_some_and(|side| asks > side.minimum());
    is_asked.then(|| whole(asks, percent))
}

/// The least that primary's autoscaler may go to while this release runs: what it had before, and where all requests come back to
/// it, what they take.
pub(super) fn floor(release: &Release) -> i32 {
    match release.stage {
        _ if release.floor == 0 => 0,
        Stage::Promoting { .. } | Stage::Restoring { .. } | Stage::Ending { .. } => {
            release.floor.max(release.demand)
        }
        Stage::Confirming
        | Stage::ScalingUp { .. }
        | Stage::Preparing
        | Stage::Analysing
        | Stage::ConfirmingPromotion => release.floor,
    }
}

/// Whether primary's autoscaler is not as it is to be, its minimum included.
pub(super) fn is_autoscaler_stale(observed: &Observed, floor: i32) -> bool {
    let minimum = |found: &AutoscalerObserved| found.meant.max(floor.min(found.maximum));
    observed.autoscaler_stale || observed.autoscaler.is_some_and(|found| found.minimum != minimum(&found))
}

/// Whether the candidate has enough pods for `routing`, and proxies know of them. If not, it is sized for it, which takes as
/// long as the progress deadline at most.
pub(super) fn await_candidate(cx: &mut Context<'_>, release: &mut Release, routing: &Routing) -> Capacity {
    let needed = match override_of(release) {
        Some(pods) => pods.max(1),
        None => candidate_needs(cx.observed, release, routing),
    };
    let what = format!("{} % of the requests take", share(routing));
    await_pods(cx, release, needed, &what)
}

/// Whether the candidate has the pods that it is to have, neither more nor less, and proxies know of them.
pub(super) fn await_size(cx: &mut Context<'_>, release: &mut Release) -> Capacity {
    let goal = goal(cx.observed, release);
    let live = cx.observed.target.as_ref().map_or(0, |target| target.replicas);
    if live > goal {
        cx.act(Action::Scale { side: Side::Candidate, replicas: goal });
        cx.wait_silently(WaitingOn::ScalingDown { workload: cx.policy.names.target.clone() });
        return Capacity::Waiting;
    }
    if goal == 0 { Capacity::There } else { await_pods(cx, release, goal, "its step takes") }
}

/// How many pods a candidate that gets them by its share is to have now.
pub(super) fn goal(observed: &Observed, release: &Release) -> i32 {
    let exposes = release.routing.exposes();
    match override_of(release) {
        Some(pods) => pods.max(i32::from(exposes)),
        None if exposes => candidate_needs(observed, release, &release.routing),
        None => 0,
    }
}

/// What somebody has said that a candidate is to have, whatever it gets.
fn override_of(release: &Release) -> Option<i32> {
    match release.size {
        Size::Share => None,
        Size::Pods(count) => Some(count.max(0)),
        Size::Percent(percent) => Some(pods(release.demand, percent)),
    }
}

fn await_pods(cx: &mut Context<'_>, release: &mut Release, needed: i32, what: &str) -> Capacity {
    let Some(target) = &cx.observed.target else { return Capacity::Waiting };
    if matches!(cx.policy.sizing, Sizing::Pods(_)) {
        // Its pods are its share.
        return Capacity::There;
    }
    if target.available >= needed || !cx.policy.guards.capacity {
        release.short_since = None;
        return if prepare::is_known(cx, release) { Capacity::There } else { Capacity::Waiting };
    }
    if cx.policy.sizing == Sizing::ByShare {
        // Those that come are not known yet.
        release.ready_since = None;
    }
    let deadline = after(*release.short_since.get_or_insert(cx.now), cx.policy.progress_deadline);
    if cx.now >= deadline && !cx.policy.suspended {
        let ready = target.available;
        let reason = format!("{ready} of the {needed} pods are ready that {what}");
        return Capacity::Late(match target.limits {
            Some(_) => format!("{reason}: its autoscaler keeps it at {}", target.replicas),
            None => reason,
        });
    }
    release.sized = release.sized.max(needed);
    hold(cx, release.sized);
    if target.replicas < needed {
        cx.act(Action::Scale { side: Side::Candidate, replicas: needed });
    }
    cx.wake_at(deadline);
    let workload = cx.policy.names.target.clone();
    // How many there are by now changes with each of them, and is not worth a write.
    let reason = format!("{what} {needed} ready pods");
    cx.wait_silently(WaitingOn::Readiness { workload, reason, deadline });
    Capacity::Waiting
}

/// The candidate's autoscaler knows the load of now, and would take away at once what is there for the load to come: until the
/// release is over it is held at what the candidate was given. What it was before is in the state first.
fn hold(cx: &mut Context<'_>, at: i32) {
    let Some(limits) = cx.observed.target.as_ref().and_then(|target| target.limits) else { return };
    let found = limits.minimum;
    let held = match cx.held {
        None if at <= found => return,
        None => HeldMinimum { before: found, at, from: None },
        Some(held) if held.is_ours(found) => {
            let at = at.max(held.before);
            // It is raised again: until that has arrived, what it was raised to before is found.
            let from = Some(found).filter(|found| *found != at && *found != held.before);
            HeldMinimum { before: held.before, at, from }
        }
        // Somebody has set another one meanwhile: that is what comes back.
        Some(_) => HeldMinimum { before: found, at: at.max(found), from: None },
    };
    cx.held = Some(held);
    if found != held.at {
        cx.act(Action::HoldTarget { minimum: held.at });
    }
}

/// The target's minimum while it is not held at another one.
pub(super) fn own_minimum(cx: &Context<'_>, target: &WorkloadObserved) -> i32 {
    cx.held.map_or_else(|| target.minimum(), |held| held.before.max(1))
}

/// Holds on while a release needs it; then the autoscaler gets its own minimum back, whatever the end is.
pub(super) fn keep_hold(cx: &mut Context<'_>, state: &State) {
    let Some(held) = cx.held else { return };
    let release = state.release().filter(|release| release.sized > 0);
    match (release, cx.observed.target.as_ref().and_then(|target| target.limits)) {
        (Some(release), Some(_)) => hold(cx, release.sized),
        (None, Some(limits)) if held.is_ours(limits.minimum) && limits.minimum != held.before => {
            cx.act(Action::HoldTarget { minimum: held.before });
        }
        // It has its own again, or another one that somebody gave it, or is gone.
        (None, Some(_)) | (_, None) => cx.held = None,
    }
}

/// Why primary cannot take all requests yet, in words. Its autoscaler, which the engine holds high enough, sees to that.
pub(super) fn primary_lacks(cx: &Context<'_>, release: &Release) -> Option<String> {
    let primary = cx.observed.primary.as_ref().filter(|_| cx.policy.guards.capacity)?;
    let limits = primary.limits?;
    let needed = release.demand.min(limits.maximum);
    (primary.available < needed)
        .then(|| format!("{} of the {needed} pods are ready that all requests take", primary.available))
}

/// Whether primary, changed as it is to be changed, goes on with fewer pods than this share of all requests takes: that of the stable
/// side, whoever is copied to the candidate included. A little less is made up for by the surge that a rolling update brings: three quarters are enough, which Kubernetes' defaults keep.
pub(super) fn is_starved_by_update(cx: &Context<'_>, release: &Release, percent: u8) -> bool {
    let (Some(target), Some(primary)) = (&cx.observed.target, &cx.observed.primary) else { return false };
    let kept = i64::from(target.updates.keeps(primary.replicas));
    let needed = i64::from(pods(release.demand, percent));
    kept * 4 < needed * 3
}

/// The pods that a candidate takes for a routing, as far as its autoscaler lets it have them.
pub(super) fn candidate_needs(observed: &Observed, release: &Release, routing: &Routing) -> i32 {
    let needed = pods(release.demand, share(routing)).max(1);
    let limits = observed.target.as_ref().and_then(|target| target.limits);
    limits.map_or(needed, |limits| needed.min(limits.maximum.max(1)))
}

/// The pods that the first share of a policy takes, of `all`; without steps everything is the first share.
pub(super) fn first_share(policy: &Policy, all: i32) -> i32 {
    let mut shares = policy.steps.iter().filter_map(|step| match step {
        PolicyStep::Route(routing) if routing.exposes() => Some(share(routing)),
        PolicyStep::Route(_)
        | PolicyStep::Analyse
        | PolicyStep::Pause(_)
        | PolicyStep::Gate
        | PolicyStep::Size(_) => None,
    });
    let first = shares.next().filter(|_| !policy.skip_analysis);
    pods(all, first.unwrap_or(100)).max(1)
}

/// The candidate's part of all requests, copies included, in percent. How many meet a rule nobody knows: whoever writes one
/// means some.
fn share(routing: &Routing) -> u8 {
    let base = &routing.base;
    base.candidate().saturating_add(base.mirror()).min(100)
}

/// Pods for a share of what `all` pods serve.
fn pods(all: i32, percent: u8) -> i32 {
    scaled(all, i64::from(percent), 100)
}

/// Pods for everything, where `part` serve this share.
fn whole(part: i32, percent: u8) -> i32 {
    scaled(part, 100, i64::from(percent.max(1)))
}

fn scaled(pods: i32, times: i64, of: i64) -> i32 {
    i32::try_from((i64::from(pods) * times + of - 1) / of).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_rounded_up_to_whole_pods() {
        for (all, percent, expected) in [(10, 50, 5), (10, 51, 6), (3, 10, 1), (1, 100, 1), (7, 0, 0)] {
            assert_eq!(pods(all, percent), expected, "{all} at {percent} %");
        }
        for (part, percent, expected) in [(7, 70, 10), (3, 50, 6), (1, 100, 1), (2, 30, 7)] {
            assert_eq!(whole(part, percent), expected, "{part} at {percent} %");
        }
    }

    #[test]
    fn copies_are_requests_too() {
        let copies = crate::model::Split::candidate_percent(30).mirrored(100);
        assert_eq!(share(&Routing::all(copies)), 100);
    }
}
