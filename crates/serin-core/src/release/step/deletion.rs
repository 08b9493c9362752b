//! A deleted Canary hands its target back. The target gets the promoted template and primary's size; when it is ready,
//! route and service lead to it; and when primary has drained, both are left to it, so that nobody who calls them notices.
//! What else was generated goes with the Canary.

use crate::model::{Revision, Routing, after};
use crate::release::action::Action;
use crate::release::attempt::{End, Stage};
use crate::release::observed::{Deleting, Readiness, RouteObserved, Side, WorkloadObserved};
use crate::release::report::{Event, WaitingOn};
use crate::release::state::{HandBack, Phase, State};

use super::context::{Context, Next, can_serve};
use super::ending;

/// Ends what is under way: a release before its promotion is withdrawn, one that changes primary is finished first.
pub(super) fn begin(cx: &mut Context<'_>, state: &mut State) {
    let Some(deleting) = cx.observed.deleting else { return };
    let back = HandBack { since: cx.now, rested: None, ready: None, led: None, left: None };
    match &mut state.phase {
        Phase::HandingBack(_) => return,
        Phase::Releasing(release) if !deleting.with_namespace => {
            let is_withdrawn = match release.stage {
                Stage::Confirming
                | Stage::ScalingUp { .. }
                | Stage::Preparing
                | Stage::Analysing
                | Stage::ConfirmingPromotion => true,
                Stage::Promoting { .. } | Stage::Restoring { .. } | Stage::Ending { .. } => false,
            };
            if is_withdrawn {
                ending::begin(cx, release, End::Superseded);
                let message = format!(
                    "Canary {} is being deleted, withdrawing release {}",
                    cx.policy.names.canary, release.id
                );
                cx.say(Event::normal(message));
            }
            return;
        }
        Phase::Releasing(_) | Phase::Initializing { .. } | Phase::Idle { .. } => {}
    }
    state.phase = Phase::HandingBack(back);
    let target = cx.target();
    cx.say(Event::normal(format!("Terminating canary {target}")));
}

pub(super) fn advance(cx: &mut Context<'_>, back: &mut HandBack) -> Next {
    let Some(deleting) = cx.observed.deleting else { return Next::Rest };
    let target = cx.observed.target.as_ref();
    match target.filter(|_| !deleting.with_namespace) {
        // There is nobody to hand anything back to, or nobody left to serve.
        None => let_go(cx),
        Some(target) => {
            // Once service and route are its own, everybody is on it: whoever changes it from then on means it.
            let is_its_own = deleting.led_back && deleting.left;
            let ready = is_its_own
                || return_template(cx, back, target, deleting)
                    && reach(cx, back, deleting)
                    && scale(cx, back, target);
            if !ready {
                stay_on_primary(cx, back, target);
            } else if lead_back(cx, back, deleting) && leave(cx, back, deleting) {
                let_go(cx);
            }
        }
    }
    Next::Rest
}

/// Whether the target carries the promoted template. It is changed when nobody has been on it for long enough.
fn return_template(
    cx: &mut Context<'_>,
    back: &mut HandBack,
    target: &WorkloadObserved,
    deleting: Deleting,
) -> bool {
    let Some(promoted) = promoted(cx, deleting).filter(|promoted| promoted.digest != target.digest) else {
        return true;
    };
    (back.ready, back.led) = (None, None);
    if is_exposed(cx) {
        back.rested = None;
        wait(cx, "traffic to be back on primary");
        return false;
    }
    if !drained(cx, &mut back.rested) {
        return false;
    }
    cx.act(Action::ReturnTemplate { expect: promoted });
    wait(cx, "its template to be what was promoted");
    false
}

/// Whether the route sends anybody to the target.
fn is_exposed(cx: &Context<'_>) -> bool {
    match &cx.observed.route {
        RouteObserved::Present { routing, .. } => *routing != cx.at_rest(),
        RouteObserved::Missing | RouteObserved::Unusable(_) => false,
    }
}

/// Until the target is what it shall be, whoever was led there goes back to primary, if that is able to take them.
fn stay_on_primary(cx: &mut Context<'_>, back: &mut HandBack, target: &WorkloadObserved) {
    let may = can_serve(cx.observed.primary.as_ref()) || !can_serve(Some(target));
    if is_exposed(cx) && may {
        (back.rested, back.led) = (None, None);
        cx.act(Action::Route(cx.at_rest()));
    }
}

/// What primary serves, in the target's terms; `None` before there is a primary.
fn promoted(cx: &Context<'_>, deleting: Deleting) -> Option<Revision> {
    if !deleting.copied {
        return None;
    }
    let served = |primary: &WorkloadObserved| Revision { digest: primary.digest.clone(), commit: None };
    cx.promoted.clone().or_else(|| cx.observed.primary.as_ref().map(served))
}

/// Whether the route's way to the target ends at its pods.
fn reach(cx: &mut Context<'_>, back: &mut HandBack, deleting: Deleting) -> bool {
    let is_routed = matches!(cx.observed.route, RouteObserved::Present { .. });
    if !is_routed || deleting.reachable {
        return true;
    }
    back.ready = None;
    cx.act(Action::ReachTarget);
    wait(cx, "the canary's service to lead to it");
    false
}

/// Whether the target has primary's size, is ready, and proxies know of its pods.
fn scale(cx: &mut Context<'_>, back: &mut HandBack, target: &WorkloadObserved) -> bool {
    let primary = cx.observed.primary.as_ref().map(|primary| primary.replicas);
    // What Git scales to nothing stays nothing.
    let is_parked = cx.observed.size == Some(0) && primary == Some(0);
    let wanted = if is_parked { 0 } else { primary.unwrap_or(target.replicas).max(target.minimum()) };
    if target.replicas < wanted {
        back.ready = None;
        cx.act(Action::Scale { side: Side::Candidate, replicas: wanted });
        wait(cx, "it to be scaled up");
        return false;
    }
    if let Readiness::Waiting(reason) | Readiness::Stalled(reason) = &target.readiness {
        back.ready = None;
        wait(cx, &format!("it to become ready, until then primary serves: {reason}"));
        return false;
    }
    let known = after(*back.ready.get_or_insert(cx.now), cx.policy.settle);
    if cx.now < known {
        cx.wake_at(known);
        wait(cx, "proxies to learn of its pods");
    }
    cx.now >= known
}

/// Whether all requests reach the target, and have done so for long enough that none is under way to primary.
fn lead_back(cx: &mut Context<'_>, back: &mut HandBack, deleting: Deleting) -> bool {
    let everything = Routing::candidate_percent(100);
    match &cx.observed.route {
        // Once left behind it is not ours any more.
        RouteObserved::Missing | RouteObserved::Unusable(_) => {}
        RouteObserved::Present { routing, current: true, unaccepted: None } if *routing == everything => {}
        // Somebody may write it already as it shall be without the Canary, e.g. Git: our last word is the same.
        RouteObserved::Present { .. } => {
            back.led = None;
            cx.act(Action::Route(everything));
            wait(cx, "traffic to be led back to it");
            return false;
        }
    }
    if !deleting.led_back {
        back.led = None;
        cx.act(Action::LeadBack);
        wait(cx, "the service to lead back to it");
        return false;
    }
    drained(cx, &mut back.led)
}

/// Whether service and route are the target's, and proxies know.
fn leave(cx: &mut Context<'_>, back: &mut HandBack, deleting: Deleting) -> bool {
    if !deleting.left {
        back.left = None;
        cx.act(Action::Leave);
        wait(cx, "service and route to be left to it");
        return false;
    }
    drained(cx, &mut back.left)
}

fn let_go(cx: &mut Context<'_>) {
    cx.act(Action::LetGo);
    wait(cx, "the Canary to go");
}

/// Whether it has been so for as long as proxies take to learn of it.
fn drained(cx: &mut Context<'_>, since: &mut Option<jiff::Timestamp>) -> bool {
    let until = after(*since.get_or_insert(cx.now), cx.policy.drain);
    if cx.now < until {
        cx.wake_at(until);
        wait(cx, "proxies to learn of it");
    }
    cx.now >= until
}

fn wait(cx: &mut Context<'_>, reason: &str) {
    let name = cx.policy.names.target.clone();
    cx.wait_silently(WaitingOn::HandBack { name, reason: reason.to_owned() });
}
