//! Post-rollout hooks: called when the release is over; their answers are events and nothing more.

use crate::analysis::HookReply;
use crate::release::questions::{self, Called, Reply};
use crate::release::report::Event;
use crate::release::state::State;

use super::context::Context;

/// Says what the hooks answered once all have, or one has failed.
pub(super) fn hear(cx: &mut Context<'_>, state: &mut State) {
    let open = questions::after_release(cx.policy, cx.observed, state, cx.now);
    if open.iter().any(|open| open.is_pending(cx.observed, cx.now)) {
        return;
    }
    let (observed, now) = (cx.observed, cx.now);
    for called in open.iter().filter_map(|open| open.called(observed, now)) {
        cx.say(said(&called));
    }
    state.post_rollout = None;
}

/// Looks again when the time of a pending answer is over.
pub(super) fn wake(cx: &mut Context<'_>, state: &State) {
    for open in questions::after_release(cx.policy, cx.observed, state, cx.now) {
        if open.is_pending(cx.observed, cx.now) {
            cx.wake_at(open.until);
        }
    }
}

fn said(called: &Called<'_>) -> Event {
    let name = &called.hook.name;
    match called.reply {
        Reply::Here(HookReply { accepted: true, .. }) => {
            Event::normal(format!("Post-rollout check {name} passed"))
        }
        Reply::Here(HookReply { accepted: false, body }) => {
            Event::warning(format!("Post-rollout hook {name} failed {body}"))
        }
        Reply::Late | Reply::Pending => {
            Event::warning(format!("Post-rollout hook {name} failed no answer in time"))
        }
    }
}
