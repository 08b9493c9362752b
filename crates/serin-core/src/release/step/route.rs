//! Steering: the live weights are brought to the intended ones.

use crate::model::Weights;
use crate::release::action::Action;
use crate::release::observed::{Readiness, RouteObserved, WorkloadObserved};
use crate::release::report::WaitingOn;

use super::context::{Context, can_serve};

/// What became of the intended weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Steered {
    /// The router shows them.
    Shown,
    /// Not yet; what is waited for has been noted.
    Waiting,
}

/// Wants `weights` on the router. Never moves traffic to a side that cannot take it.
pub(super) fn steer(cx: &mut Context<'_>, weights: Weights) -> Steered {
    match &cx.observed.route {
        RouteObserved::Missing => {
            let able = not_able(cx, Weights::PRIMARY, weights).is_none();
            let first = if able { weights } else { Weights::PRIMARY };
            cx.act(Action::EnsureServices);
            cx.act(Action::EnsureRoute(first));
            cx.wait_silently(WaitingOn::Weights { wanted: first });
            Steered::Waiting
        }
        RouteObserved::Unusable(reason) => {
            cx.wait_blocked(reason);
            Steered::Waiting
        }
        RouteObserved::Present { weights: live, current } => {
            let (live, current) = (*live, *current);
            if live == weights {
                if !current {
                    cx.act(Action::EnsureServices);
                    cx.act(Action::EnsureRoute(weights));
                }
                return Steered::Shown;
            }
            if let Some(waiting) = not_able(cx, live, weights) {
                cx.wait_silently(waiting);
                return Steered::Waiting;
            }
            if current {
                cx.act(Action::SetWeights(weights));
            } else {
                cx.act(Action::EnsureServices);
                cx.act(Action::EnsureRoute(weights));
            }
            cx.wait_silently(WaitingOn::Weights { wanted: weights });
            Steered::Waiting
        }
    }
}

/// Why the side that would get more traffic must not get it.
fn not_able(cx: &Context<'_>, live: Weights, wanted: Weights) -> Option<WaitingOn> {
    let (canary, primary) = (cx.observed.target.as_ref(), cx.observed.primary.as_ref());
    let names = &cx.policy.names;
    if wanted == live {
        return None;
    }
    if wanted > live {
        let ready = canary.is_some_and(|canary| canary.replicas > 0 && canary.readiness == Readiness::Ready);
        return (!ready).then(|| cannot_serve(&names.target, canary));
    }
    // Primary is the known good side: it gets the traffic unless only the canary is able to serve.
    let stuck = !can_serve(primary) && can_serve(canary);
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
