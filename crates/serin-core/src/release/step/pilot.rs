//! A release under way: verdicts first, then newer revisions, then the stage.

use crate::release::attempt::{Release, Stage};

use super::context::{Context, Next};
use super::{analyse, capacity, compare, ending, judge, pods, prepare, promote, supersede};

pub(super) fn advance(cx: &mut Context<'_>, release: &mut Release) -> Next {
    if cx.policy.suspended && !release.is_watched() && !release.is_on_its_way_out() {
        cx.suspend();
        return Next::Rest;
    }
    capacity::follow(cx, release);
    pods::notice(cx, release);
    if let Some(next) = compare::verdict(cx, release) {
        return next;
    }
    cx.apex = promote::apex(cx, release);
    match release.stage {
        Stage::Ending { .. } => return ending::advance(cx, release),
        Stage::Restoring { .. } => return promote::restore(cx, release),
        Stage::Promoting { since, .. } => {
            let next = judge::verdict(cx, release).or_else(|| supersede::in_promotion(cx, release));
            return next.unwrap_or_else(|| promote::advance(cx, release, since));
        }
        Stage::Confirming
        | Stage::ScalingUp { .. }
        | Stage::Preparing
        | Stage::Analysing
        | Stage::ConfirmingPromotion => {}
    }
    // A verdict that is due counts even if a new revision arrives with it.
    if let Some(next) = judge::verdict(cx, release) {
        return next;
    }
    if let Some(next) = supersede::check(cx, release) {
        return next;
    }
    match release.stage {
        Stage::Confirming => prepare::confirm(cx, release),
        Stage::ScalingUp { since } => prepare::await_canary(cx, release, since),
        Stage::Preparing => prepare::call_hooks(cx, release),
        Stage::Analysing => analyse::advance(cx, release),
        Stage::ConfirmingPromotion => analyse::await_promotion(cx, release),
        Stage::Promoting { .. } | Stage::Restoring { .. } | Stage::Ending { .. } => Next::Rest,
    }
}
