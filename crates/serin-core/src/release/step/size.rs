//! Git's replica count sizes primary at once, whatever is being released, and starts no release.

use crate::release::action::Action;
use crate::release::policy::Promotion;

use super::context::Context;

/// Primary gets the size that Git names. Not none at all: primary is what serves.
pub(super) fn primary(cx: &mut Context<'_>) {
    let (Some(size), Some(primary)) = (cx.observed.size, &cx.observed.primary) else { return };
    if cx.policy.promotion == Promotion::CopyToPrimary && size > 0 && primary.replicas != size {
        cx.act(Action::ScalePrimary { replicas: size });
    }
}
