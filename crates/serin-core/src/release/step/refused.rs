//! A route that is refused as it was just written: those who follow it take all of it or nothing, so nobody who comes by it is
//! answered any more. Back to what they took before, at once; what was refused is not written again before it is something else.

use crate::model::Routing;
use crate::release::attempt::{RefusedRoute, Release};
use crate::release::observed::{RouteObserved, Unaccepted};
use crate::release::policy::PolicyStep;
use crate::release::report::{Event, WaitingOn};

use super::context::{Context, Next};
use super::prepare::retreat;
use super::route::steer;

/// Looks after a refused route; `None` if there is none.
pub(super) fn attend(cx: &mut Context<'_>, release: &mut Release) -> Option<Next> {
    if let Some(reason) = refusal(cx, &release.routing).filter(|_| release.routing.exposes()) {
        release.refused =
            Some(RefusedRoute { routing: release.routing.clone(), reason: reason.to_owned(), outside: false });
        retreat(cx, release);
        return Some(Next::Again);
    }
    let mut refused = release.refused.take()?;
    let meant = match release.current(cx.policy) {
        Some(PolicyStep::Route(routing)) => Some(cx.meant(routing, release)),
        Some(PolicyStep::Analyse | PolicyStep::Pause(_) | PolicyStep::Gate | PolicyStep::Size(_)) | None => None,
    };
    if meant.as_ref() != Some(&refused.routing) {
        // Somebody has changed what is asked for.
        return None;
    }
    let rest = cx.at_rest();
    if refusal(cx, &rest).is_some() {
        refused.outside = true;
    } else if refused.outside && is_taken(cx, &rest) {
        // It was not for what the route says: there is a parent again.
        return None;
    }
    steer(cx, &release.routing);
    let reason = format!("{}; until it is another one all requests go to primary", refused.reason);
    let event = Event::warning(format!("{} is blocked: {reason}", cx.target()));
    cx.wait(WaitingOn::Misconfigured { reason }, || event);
    release.refused = Some(refused);
    Some(Next::Rest)
}

/// Why the route is refused while it says this, in words.
fn refusal<'a>(cx: &Context<'a>, says: &Routing) -> Option<&'a str> {
    match &cx.observed.route {
        RouteObserved::Present { routing, unaccepted: Some(Unaccepted::Refused(reason)), current: _ }
            if routing == says =>
        {
            Some(reason)
        }
        RouteObserved::Present { .. } | RouteObserved::Missing | RouteObserved::Unusable(_) => None,
    }
}

fn is_taken(cx: &Context<'_>, says: &Routing) -> bool {
    match &cx.observed.route {
        RouteObserved::Present { routing, unaccepted: None, current: _ } => routing == says,
        RouteObserved::Present { .. } | RouteObserved::Missing | RouteObserved::Unusable(_) => false,
    }
}
