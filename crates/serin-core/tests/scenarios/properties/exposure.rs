//! How users are exposed, and how that changes.

use serin_core::model::{Routing, Split};
use serin_core::release::{Action, Phase, Readiness, Stage};

use super::{Moment, alike, ensure, last_route, routing};

/// The route is told what is meant, or less: a raise is written down before it is carried out.
pub(super) fn the_route_gets_no_more_than_is_meant(moment: &Moment<'_>) -> Result<(), String> {
    let meant = match &moment.step.state.phase {
        Phase::Releasing(release) => &release.routing,
        Phase::Initializing { .. } | Phase::Idle { .. } => &Routing::default(),
        // The target takes over.
        Phase::HandingBack(_) => return Ok(()),
    };
    let told = moment.step.actions.iter().find_map(|action| match action {
        Action::Route(routing) if routing.exposes() && routing.exposes_more_than(meant) => Some(routing),
        _ => None,
    });
    ensure(told.is_none(), || format!("the route is told {told:?}, meant is {meant}"))
}

/// While a release walks its steps exposure rises to what the next step says, and to nothing else.
pub(super) fn rises_step_by_step(moment: &Moment<'_>) -> Result<(), String> {
    let Some((before, after)) = moment.same() else { return Ok(()) };
    if !after.routing.exposes() || !after.routing.exposes_more_than(&before.routing) {
        return Ok(());
    }
    if matches!(after.stage, Stage::Promoting { .. }) {
        // The candidate takes over while primary is replaced.
        let all = after.routing.base == Split::ALL && after.routing.rules.is_empty();
        return ensure(all, || format!("promotion raises to {}", after.routing));
    }
    ensure(after.stage == Stage::Analysing, || format!("{:?} raises to {}", after.stage, after.routing))?;
    let policy = moment.policy();
    let Some(step) = last_route(policy, after.step) else {
        return Err(format!("{} is no step's", after.routing));
    };
    let says = routing(policy, step).is_some_and(|routing| alike(routing, &after.routing));
    ensure(says, || format!("step {step} does not say {}", after.routing))?;
    // Where an edit goes on is not the next step of anything; a route that shows already what a step says is passed at once.
    let is_news = |step: &usize| routing(policy, *step).is_some_and(|routing| !alike(routing, &before.routing));
    let skipped = (before.step as usize + 1..step).find(is_news);
    ensure(skipped.is_none() || moment.history.edited || moment.world.meddled, || {
        format!("step {} is followed by {step}, left out is {skipped:?}", before.step)
    })
}

/// Exposure falls because the release ends, goes back, waits for pods, was edited, or because its next step says so.
pub(super) fn falls_for_a_reason(moment: &Moment<'_>) -> Result<(), String> {
    let Some((before, after)) = moment.same() else { return Ok(()) };
    let (high, low) = (&before.routing, &after.routing);
    if !high.exposes_more_than(low) || low.exposes_more_than(high) || alike(high, low) {
        return Ok(());
    }
    let digest = &after.revision.digest;
    let goes_back = match after.stage {
        Stage::Ending { .. } | Stage::Restoring { .. } => true,
        Stage::Promoting { .. } => moment
            .observed
            .primary
            .as_ref()
            .is_some_and(|primary| primary.digest == *digest && primary.readiness == Readiness::Ready),
        Stage::Confirming
        | Stage::ScalingUp { .. }
        | Stage::Preparing
        | Stage::Analysing
        | Stage::ConfirmingPromotion => false,
    };
    let policy = moment.policy();
    let says = last_route(policy, after.step)
        .and_then(|step| routing(policy, step))
        .is_some_and(|routing| alike(routing, low));
    let excused = goes_back || says || moment.history.edited || !moment.is_well(after);
    ensure(excused, || format!("exposure falls from {high} to {low} for no reason, at {:?}", after.stage))
}
