//! What keeps a target's releases from reaching Git, told to people on the Canary.

use crate::release::report::Event;
use crate::release::state::State;

use super::context::Context;

/// Says it once when it begins, changes or ends.
pub(super) fn tell(cx: &mut Context<'_>, state: &mut State) {
    let unrecorded = cx.observed.unrecorded.as_ref();
    if state.unrecorded.as_ref() == unrecorded {
        return;
    }
    let target = cx.target();
    cx.say(match unrecorded {
        Some(reason) => Event::warning(format!("Git does not have everything of {target}: {reason}")),
        None => Event::normal(format!("Git has everything of {target} again")),
    });
    state.unrecorded = unrecorded.cloned();
}
