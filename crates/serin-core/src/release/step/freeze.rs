//! Suspended or blocked: a release stays as it is, and so does the time it has left.

use crate::model::between;
use crate::release::attempt::{Release, Stage};
use crate::release::state::{Phase, State};

use super::context::Context;

/// Notes that the release under way is kept as it is, or lets it go on.
pub(super) fn note(cx: &Context<'_>, state: &mut State) {
    let Phase::Releasing(release) = &mut state.phase else { return };
    let held = cx.policy.suspended || cx.observed.blocks_release().is_some();
    let frozen = held && cx.observed.deleting.is_none();
    if release.frozen && !frozen {
        thaw(cx, release);
    }
    release.frozen = frozen;
}

/// No gate was asked meanwhile, so none is late; a pause ends when it was to end; and waiting for pods begins anew.
fn thaw(cx: &Context<'_>, release: &mut Release) {
    let left = between(cx.now, release.clock.due);
    release.clock.reopen(cx.now, left);
    (release.unready_since, release.short_since) = (None, None);
    match &mut release.stage {
        Stage::ScalingUp { since } | Stage::Promoting { since, .. } | Stage::Restoring { since, .. } => {
            *since = cx.now
        }
        Stage::Confirming
        | Stage::Preparing
        | Stage::Analysing
        | Stage::ConfirmingPromotion
        | Stage::Ending { .. } => {}
    }
}
