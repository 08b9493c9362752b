//! Post-rollout hooks: called when the release is over; their answers are events and nothing more.

use crate::release::ask::{AnswerOutcome, HookReply};
use crate::release::questions::{self, Open, Reply};
use crate::release::report::Event;
use crate::release::state::State;

use super::context::Context;

/// Says what the hooks answered once all have, or one has failed.
pub(super) fn hear(cx: &mut Context<'_>, state: &mut State) {
    let open = questions::after_release(cx.policy, cx.observed, state);
    if open.iter().any(|open| open.reply(cx.observed, cx.now) == Reply::Pending) {
        return;
    }
    for open in &open {
        let event = said(cx, open);
        cx.say(event);
    }
    state.post_rollout = None;
}

/// Looks again when the time of a pending answer is over.
pub(super) fn wake(cx: &mut Context<'_>, state: &State) {
    for open in questions::after_release(cx.policy, cx.observed, state) {
        if open.reply(cx.observed, cx.now) == Reply::Pending {
            cx.wake_at(open.until(cx.observed));
        }
    }
}

fn said(cx: &Context<'_>, open: &Open) -> Event {
    let name = open.name();
    match open.reply(cx.observed, cx.now) {
        Reply::Here(AnswerOutcome::Hook(HookReply { accepted: true, .. })) => {
            Event::normal(format!("Post-rollout check {name} passed"))
        }
        Reply::Here(AnswerOutcome::Hook(HookReply { accepted: false, body })) => {
            Event::warning(format!("Post-rollout hook {name} failed {body}"))
        }
        Reply::Here(AnswerOutcome::Measured(_)) | Reply::Late | Reply::Pending => {
            Event::warning(format!("Post-rollout hook {name} failed no answer in time"))
        }
    }
}
