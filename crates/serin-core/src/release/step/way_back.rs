//! The way back after promotion: traffic returns to the stable side at once, or step by step where the policy says so.

use crate::model::Routing;
use crate::release::attempt::Release;
use crate::release::report::{Event, WaitingOn};

use super::context::{Context, Next};
use super::route::{Steered, steer};

/// One step of the way; `None` when only the last one is left, to rest.
pub(super) fn walk(cx: &mut Context<'_>, release: &mut Release) -> Option<Next> {
    if cx.policy.way_back.is_empty() || !release.routing.exposes() {
        return None;
    }
    if steer(cx, &release.routing) == Steered::Waiting {
        return Some(Next::Rest);
    }
    if cx.now < release.clock.due {
        cx.wake_at(release.clock.due);
        cx.wait_silently(WaitingOn::Window { until: release.clock.due });
        return Some(Next::Rest);
    }
    let mut lower = cx.policy.way_back.iter().map(|routing| cx.meant(routing, release));
    let is_lower = |routing: &Routing| {
        release.routing.exposes_more_than(routing) && !routing.exposes_more_than(&release.routing)
    };
    let lower = lower.find(is_lower)?;
    say(cx, 100 - lower.highest_share());
    release.aim(lower);
    release.clock.reopen(cx.now, cx.policy.interval);
    Some(Next::Again)
}

/// Says that all traffic goes back, in the words of the way it came.
pub(super) fn arrive(cx: &mut Context<'_>) {
    if cx.policy.way_back.is_empty() {
        cx.say(Event::normal("Routing all traffic to primary"));
    } else {
        say(cx, 100);
    }
}

fn say(cx: &mut Context<'_>, stable: u8) {
    cx.say(Event::normal(format!("Advance {} primary weight {stable}", cx.target())));
}
