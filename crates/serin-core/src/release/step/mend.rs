//! What was promoted keeps serving: a primary that somebody deleted or changed gets it back.

use crate::model::Digest;
use crate::release::action::Action;
use crate::release::attempt::{End, Stage};
use crate::release::policy::Promotion;
use crate::release::report::Event;
use crate::release::state::{Phase, State};

use super::context::Context;
use super::{capacity, size};

/// Puts primary and its autoscaler right, whatever else goes on. While a release changes primary, that comes first.
pub(super) fn primary(cx: &mut Context<'_>, state: &State) {
    if cx.policy.promotion != Promotion::CopyToPrimary {
        return;
    }
    let Some(promoted) = state.promoted.as_ref().map(|promoted| promoted.revision.digest.clone()) else { return };
    let floor = state.release().map_or(0, capacity::floor);
    if cx.observed.primary.is_some() && capacity::is_autoscaler_stale(cx.observed, floor) {
        cx.act(Action::EnsurePrimaryAutoscaler { floor });
    }
    if is_changed_by_release(state) {
        return;
    }
    let Some(found) = changed(cx, &promoted) else { return };
    if found.is_none() && cx.observed.deleting.is_some() {
        return;
    }
    let primary = cx.policy.names.primary_dotted();
    let what = match found {
        Some(found) => format!("was changed in the cluster to {}", found.short()),
        None => "was deleted in the cluster".to_owned(),
    };
    let event = Event::warning(format!("{primary} {what}, putting {} back", promoted.short()));
    if state.journal.last().is_none_or(|entry| entry.event != event) {
        cx.say(event);
    }
    put_back(cx, promoted);
}

/// What primary carries instead of the promoted digest; `None` if all is well.
fn changed(cx: &Context<'_>, promoted: &Digest) -> Option<Option<Digest>> {
    match &cx.observed.primary {
        None => Some(None),
        Some(primary) if primary.digest == *promoted => None,
        Some(primary) => Some(Some(primary.digest.clone())),
    }
}

/// Keeps what primary runs from now on: soon the target has another template, and primary may have to get its own back.
pub(super) fn store(cx: &mut Context<'_>, promoted: &Digest) {
    if cx.policy.promotion == Promotion::CopyToPrimary {
        cx.act(Action::StoreLastGood { expect: promoted.clone() });
    }
}

/// From the target if it has what was promoted, else from what was stored then.
fn put_back(cx: &mut Context<'_>, promoted: Digest) {
    let target = cx.observed.target.as_ref().filter(|target| target.digest == promoted);
    let action = match (target, cx.observed.primary.is_some()) {
        (Some(_), false) => Action::CreatePrimary { expect: promoted, replicas: size::new_primary(cx) },
        (Some(target), true) => Action::CopyToPrimary { expect: super::context::live(target) },
        (None, _) => Action::RestorePrimary { expect: promoted },
    };
    // Last: whatever else is to be done does not wait for it.
    cx.act(action);
}

/// The release is about to change primary, or has: it sees to it.
fn is_changed_by_release(state: &State) -> bool {
    match &state.phase {
        Phase::Initializing { .. } => true,
        Phase::Idle { .. } | Phase::HandingBack(_) => false,
        Phase::Releasing(release) => match &release.stage {
            Stage::Promoting { .. } | Stage::Restoring { .. } | Stage::Ending { end: End::Succeeded, .. } => true,
            Stage::Ending { end: End::Failed { .. } | End::Superseded, .. }
            | Stage::Confirming
            | Stage::ScalingUp { .. }
            | Stage::Preparing
            | Stage::Analysing
            | Stage::ConfirmingPromotion => false,
        },
    }
}
