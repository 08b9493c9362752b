//! Steering: the live routing is brought to the intended one.

use crate::model::{Routing, Sticky};
use crate::release::action::Action;
use crate::release::attempt::Release;
use crate::release::observed::{Readiness, RouteObserved, Side, WorkloadObserved};
use crate::release::policy::Sizing;
use crate::release::report::WaitingOn;

use super::context::{Context, can_serve, stable_serves};
use super::pods;

/// What became of the intended routing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Steered {
    /// The router shows it.
    Shown,
    /// Not yet; what is waited for has been noted.
    Waiting,
}

/// Means users to meet the candidate like this from now on; returns what was meant before.
pub(super) fn intend(cx: &mut Context<'_>, release: &mut Release, routing: &Routing) -> Routing {
    release.shown_since = None;
    if let Sticky::Issue(affinity) = &routing.sticky {
        cx.cookie = Some(affinity.candidate.clone());
    }
    if routing.exposes() {
        // Intended is as good as shown when it comes to draining: the router may be ahead of what is observed.
        release.first_traffic.get_or_insert(cx.now);
    }
    std::mem::replace(&mut release.routing, routing.clone())
}

/// Wants `routing` on the router. Never moves traffic to a side that cannot take it.
pub(super) fn steer(cx: &mut Context<'_>, routing: &Routing) -> Steered {
    if let Sizing::Pods(updates) = cx.policy.sizing {
        return pods::steer(cx, routing, updates);
    }
    match &cx.observed.route {
        RouteObserved::Missing => {
            let rest = cx.at_rest();
            let first = if not_able(cx, &rest, routing).is_none() { routing.clone() } else { rest };
            let (apex, _) = apex(cx);
            cx.act(Action::EnsureServices { apex });
            cx.act(Action::Route(first.clone()));
            cx.wait_silently(WaitingOn::Route { wanted: first, reason: None });
            Steered::Waiting
        }
        RouteObserved::Unusable(reason) => {
            cx.wait_silently(WaitingOn::Blocked { reason: reason.clone() });
            // A Canary that goes does not wait for a route that is somebody else's.
            if cx.observed.deleting.is_some() { Steered::Shown } else { Steered::Waiting }
        }
        RouteObserved::Present { routing: live, current, unaccepted } => {
            let is_shown = live == routing;
            if !is_shown && let Some(waiting) = not_able(cx, live, routing) {
                cx.wait_silently(waiting);
                return Steered::Waiting;
            }
            let (apex, is_led) = apex(cx);
            if !current || cx.observed.apex.is_some_and(|led| led != apex) {
                cx.act(Action::EnsureServices { apex });
            }
            if !current || !is_shown {
                cx.act(Action::Route(routing.clone()));
            }
            if is_shown && is_led && unaccepted.is_none() {
                return Steered::Shown;
            }
            let reason = match unaccepted {
                Some(why) => Some(why.reason().to_owned()),
                None => (is_shown && !is_led)
                    .then(|| format!("Service {} does not lead there yet", cx.policy.names.service)),
            };
            cx.wait_silently(WaitingOn::Route { wanted: routing.clone(), reason });
            Steered::Waiting
        }
    }
}

/// Where the service in front of both sides leads from here on, and whether that is where it is meant to and does. It never
/// leads anybody to a side that cannot take them while the other one can.
fn apex(cx: &Context<'_>) -> (Side, bool) {
    let (canary, primary) = (cx.observed.target.as_ref(), cx.observed.primary.as_ref());
    let is_able = match cx.apex {
        Side::Candidate => is_ready(canary),
        Side::Stable => stable_serves(primary) || !can_serve(canary),
    };
    let led = cx.observed.apex;
    let to = if is_able { cx.apex } else { led.unwrap_or(Side::Stable) };
    (to, led.is_none_or(|led| led == cx.apex))
}

fn is_ready(side: Option<&WorkloadObserved>) -> bool {
    side.is_some_and(|side| side.replicas > 0 && side.readiness == Readiness::Ready)
}

/// Why a side that would get more traffic must not get it.
fn not_able(cx: &Context<'_>, live: &Routing, wanted: &Routing) -> Option<WaitingOn> {
    let (canary, primary) = (cx.observed.target.as_ref(), cx.observed.primary.as_ref());
    let names = &cx.policy.names;
    if wanted.exposes_more_than(live) && !is_ready(canary) {
        return Some(cannot_serve(&names.target, canary));
    }
    // Primary is the known good side: it gets the traffic unless only the canary is able to serve.
    let returns = live.exposes_more_than(wanted) && wanted.uses_stable();
    let stuck = returns && !stable_serves(primary) && can_serve(canary);
    stuck.then(|| cannot_serve(&names.primary(), primary))
}

fn cannot_serve(workload: &str, side: Option<&WorkloadObserved>) -> WaitingOn {
    let reason = match side.map(|side| &side.readiness) {
        None => "it does not exist",
        Some(Readiness::Ready) => "it has no replicas",
        Some(Readiness::Waiting(reason) | Readiness::Stalled(reason)) => reason,
    };
    WaitingOn::Blocked { reason: format!("{workload} to be able to take the traffic: {reason}") }
}
