//! What has to be mended outside, told to people once.

use std::time::Duration;

use crate::model::after;
use crate::release::observed::Obstacle;
use crate::release::report::Event;
use crate::release::state::State;

use super::context::Context;

/// A target that comes together with its Canary may be seen a moment later.
const TARGET_GRACE: Duration = Duration::from_secs(10);

/// Says it when it begins or changes.
pub(super) fn tell(cx: &mut Context<'_>, state: &mut State) {
    let words = cx.observed.obstacle.as_ref().map(Obstacle::words).map(str::to_owned);
    let words = words.or_else(|| missing_target(cx, state));
    if state.obstacle == words {
        return;
    }
    if let Some(words) = &words {
        let goes_on = cx.observed.blocks_release().is_none();
        let meanwhile = match state.release().filter(|_| goes_on) {
            Some(release) => format!("; release {} goes on as it began", release.id),
            None => String::new(),
        };
        let event = Event::warning(format!("{} is blocked: {words}{meanwhile}", cx.target()));
        cx.say(event);
    }
    state.obstacle = words;
}

/// A target that has not been there for a while is missed: its name may be a typing error.
fn missing_target(cx: &mut Context<'_>, state: &mut State) -> Option<String> {
    if cx.observed.target.is_some() || cx.observed.deleting.is_some() {
        state.missing_since = None;
        return None;
    }
    let missed = after(*state.missing_since.get_or_insert(cx.now), TARGET_GRACE);
    if cx.now < missed {
        cx.wake_at(missed);
        return None;
    }
    let names = &cx.policy.names;
    Some(format!(
        "{} does not exist in namespace {}: create it, or correct spec.targetRef",
        names.target, names.canary.namespace
    ))
}
