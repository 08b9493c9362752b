//! The way out of a release, whatever its end: weight 0, observed, drained, then scaled down.

use crate::model::after;
use crate::release::action::Action;
use crate::release::attempt::{End, Release, Stage};
use crate::release::observed::Side;
use crate::release::report::{Event, WaitingOn};

use super::context::{Context, Next};
use super::route::{Steered, steer};
use super::{mend, persist};

/// From here on all traffic belongs to primary.
pub(super) fn begin(cx: &Context<'_>, release: &mut Release, end: End) {
    release.stage = Stage::Ending { end, zero_since: None, scaling_down: false };
    release.aim(cx.at_rest());
    release.unready_since = None;
    release.paused = false;
}

pub(super) fn advance(cx: &mut Context<'_>, release: &mut Release) -> Next {
    notice_promotion(cx, release);
    if steer(cx, &cx.at_rest()) == Steered::Waiting {
        if let Stage::Ending { zero_since, .. } = &mut release.stage {
            *zero_since = None;
        }
        if release.first_traffic.is_some() {
            let until = match cx.before {
                Some(WaitingOn::Drain { until }) => until,
                Some(_) | None => after(cx.now, cx.policy.drain),
            };
            persist::foretell(cx, WaitingOn::Drain { until }, until);
        }
        return Next::Rest;
    }
    let had_traffic = release.first_traffic.is_some();
    let Stage::Ending { end, zero_since, scaling_down } = &mut release.stage else { return Next::Rest };
    let Some(zero_since) = *zero_since else {
        *zero_since = Some(cx.now);
        return Next::Again;
    };
    let drained = after(zero_since, cx.policy.drain);
    if had_traffic && cx.now < drained {
        cx.wait_silently(WaitingOn::Drain { until: drained });
        persist::keep_foretold(cx, drained);
        cx.wake_at(drained);
        return Next::Rest;
    }
    if *end == End::Superseded && stays_up(cx) {
        return Next::Finished(End::Superseded);
    }
    let is_up = cx.observed.target.as_ref().is_some_and(|target| target.replicas > 0);
    // It is over as a rule before anybody could read that it is waited for.
    let told_from = after(if had_traffic { drained } else { zero_since }, persist::BRIEF);
    if !*scaling_down && (!is_up || cx.now >= told_from) {
        *scaling_down = true;
        let event = farewell(cx, end, had_traffic);
        cx.say(event);
        return Next::Again;
    }
    if !is_up {
        return Next::Finished(end.clone());
    }
    let is_told = *scaling_down;
    if *end == End::Succeeded {
        mend::store(cx, &release.revision.digest);
    }
    cx.act(Action::Scale { side: Side::Candidate, replicas: 0 });
    cx.wait_silently(WaitingOn::ScalingDown { workload: cx.policy.names.target.clone() });
    if !is_told {
        cx.told.clone_from(&cx.before);
        cx.wake_at(told_from);
    }
    Next::Rest
}

/// A copy to primary that was seen only after the release had been taken for superseded: primary runs this revision, and
/// the next one's last good template is this one.
fn notice_promotion(cx: &Context<'_>, release: &mut Release) {
    let runs = cx.observed.primary.as_ref().is_some_and(|primary| primary.digest == release.revision.digest);
    if let Stage::Ending { end, .. } = &mut release.stage
        && *end == End::Superseded
        && runs
    {
        *end = End::Succeeded;
    }
}

/// The next revision takes over the canary as it is; one that went back to what primary runs needs none.
fn stays_up(cx: &Context<'_>) -> bool {
    cx.wanted().is_some_and(|wanted| !cx.is_promoted(&wanted.digest))
}

/// Whether another revision is released next. A Canary that is being deleted releases none.
pub(super) fn has_successor(cx: &Context<'_>) -> bool {
    cx.observed.deleting.is_none() && stays_up(cx)
}

fn farewell(cx: &Context<'_>, end: &End, had_traffic: bool) -> Event {
    let target = cx.target();
    match end {
        End::Succeeded if had_traffic => Event::normal(format!("Promotion completed! Scaling down {target}")),
        End::Succeeded => Event::normal(format!("Promotion completed! Canary analysis was skipped for {target}")),
        End::Failed { .. } => Event::warning(format!("Canary failed! Scaling down {target}")),
        End::Superseded => Event::normal(format!("Canary withdrawn! Scaling down {target}")),
    }
}
