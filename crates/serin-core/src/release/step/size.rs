//! How many pods either side is to have.

use crate::model::after;
use crate::release::action::Action;
use crate::release::attempt::{Release, Stage};
use crate::release::observed::Side;
use crate::release::policy::{PolicyStep, Promotion, Sizing};
use crate::release::state::{Phase, State};

use super::context::Context;
use super::{capacity, pods};

/// Sizes both sides. What is suspended is left as it is; where the sides change places, both are one workload to people, and
/// that is sized all the same.
pub(super) fn sides(cx: &mut Context<'_>, state: &State) {
    let is_left = cx.policy.suspended && cx.observed.deleting.is_none();
    match cx.policy.promotion {
        Promotion::CopyToPrimary if is_left => {}
        Promotion::CopyToPrimary => primary(cx, state),
        Promotion::SwitchStable if matches!(cx.policy.sizing, Sizing::Pods(_)) => pods::size(cx, state),
        Promotion::SwitchStable => {
            primary(cx, state);
            candidate_on_its_way(cx, state);
        }
    }
}

/// A candidate keeps the pods that its share takes, or that it was given, when the whole is sized anew under it, and while a step
/// takes its time it has no more than those.
fn candidate_on_its_way(cx: &mut Context<'_>, state: &State) {
    let (Phase::Releasing(release), Some(target)) = (&state.phase, &cx.observed.target) else { return };
    let is_analysed = matches!(release.stage, Stage::Analysing | Stage::ConfirmingPromotion);
    let is_sized = cx.actions.iter().any(|action| matches!(action, Action::Scale { side: Side::Candidate, .. }));
    if !is_analysed || is_sized {
        return;
    }
    let goal = capacity::goal(cx.observed, release);
    let grows = (1..goal).contains(&target.replicas);
    if grows || shrinks(cx, release, target.replicas, goal) {
        cx.act(Action::Scale { side: Side::Candidate, replicas: goal });
    }
}

/// Whether the candidate has more than it needs: the next step does not need it either, and nobody is on his way to what goes.
fn shrinks(cx: &mut Context<'_>, release: &Release, replicas: i32, goal: i32) -> bool {
    let takes_time = matches!(release.current(cx.policy), Some(PolicyStep::Pause(_) | PolicyStep::Analyse));
    if cx.policy.sizing != Sizing::ByShare || !takes_time || replicas <= goal {
        return false;
    }
    let Some(shown) = release.shown_since else { return false };
    let drained = after(shown, cx.policy.drain);
    cx.wake_at(drained);
    cx.now >= drained
}

/// Git's replica count sizes primary at once, whatever is being released, and starts no release. Only to nothing it is not
/// scaled under a release, which it ends before.
fn primary(cx: &mut Context<'_>, state: &State) {
    let (Some(size), Some(primary)) = (cx.observed.size, &cx.observed.primary) else { return };
    let may = match state.phase {
        Phase::Initializing { .. } | Phase::Idle { .. } => true,
        Phase::Releasing(_) => size > 0,
        Phase::HandingBack(_) => false,
    };
    if may && primary.replicas != size {
        cx.act(Action::Scale { side: Side::Stable, replicas: size });
    }
}

/// Whether Git scales the target to nothing: there is nobody to serve, and nothing to learn from a release.
pub(super) fn is_parked(cx: &Context<'_>) -> bool {
    cx.observed.size == Some(0)
}

/// With how many pods primary is made: Git's count, else as many as the target has, which it takes over from.
pub(super) fn new_primary(cx: &Context<'_>) -> i32 {
    let target = cx.observed.target.as_ref().map_or(1, |target| target.replicas.max(1));
    cx.observed.size.unwrap_or(target)
}

/// With how many pods the candidate begins: its autoscaler's minimum, else as many as primary has. One that becomes the stable
/// side itself begins with what its first share takes, and gets more with each raise.
pub(super) fn candidate(cx: &Context<'_>) -> i32 {
    if let (Promotion::SwitchStable, Some(size)) = (cx.policy.promotion, cx.observed.size) {
        return capacity::first_share(cx.policy, size);
    }
    let target = cx.observed.target.as_ref();
    match target.filter(|target| target.limits.is_some()) {
        Some(target) => capacity::own_minimum(cx, target),
        None => cx.observed.primary.as_ref().map_or(1, |primary| primary.replicas.max(1)),
    }
}
