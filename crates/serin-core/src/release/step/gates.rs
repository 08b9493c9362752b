//! Gates and hooks that have to accept before a release goes on.

use crate::analysis::{HookKind, HookReply};
use crate::release::attempt::{Cause, End, Release};
use crate::release::questions::{self, Called, Open, Reply};
use crate::release::report::{Event, WaitingOn};
use crate::release::time::after;

use super::context::{Context, Next};
use super::ending;

/// What a late hook is taken to have said.
const NO_ANSWER: &str = "no answer in time";

/// What became of the gates of one kind.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Gates {
    /// All accepted; their names.
    Open(Vec<String>),
    /// One did not accept.
    Closed {
        /// Its name.
        name: String,
        /// What it said.
        reason: String,
    },
    /// Not asked or not answered yet; what is waited for has been noted.
    Waiting,
    /// A rollback hook asked for a rollback.
    RollBack(Next),
}

/// Looks at the gates of `kind` in the open tick.
pub(super) fn look(cx: &mut Context<'_>, release: &mut Release, kind: HookKind) -> Gates {
    if cx.now < release.due {
        cx.wake_at(release.due);
        cx.waiting = match &cx.before {
            Some(gate @ WaitingOn::Gate { .. }) => Some(gate.clone()),
            Some(_) | None => Some(WaitingOn::Window { until: release.due }),
        };
        return Gates::Waiting;
    }
    let open = questions::of_release(cx.policy, cx.observed, release, cx.now);
    if let Some(next) = roll_back(cx, release, &open) {
        return Gates::RollBack(next);
    }
    let mut names = Vec::new();
    for question in &open {
        let Some(called) = question.called(cx.observed, cx.now).filter(|called| called.hook.kind == kind) else {
            continue;
        };
        let name = called.hook.name.clone();
        match said(&called) {
            None => {
                cx.wait_for_answers(&[question]);
                return Gates::Waiting;
            }
            Some(Ok(())) => names.push(name),
            Some(Err(reason)) => return Gates::Closed { name, reason },
        }
    }
    Gates::Open(names)
}

/// Ends the release if a rollback hook asked for it.
pub(super) fn roll_back(cx: &mut Context<'_>, release: &mut Release, open: &[Open]) -> Option<Next> {
    let hook = open
        .iter()
        .filter_map(|open| open.called(cx.observed, cx.now))
        .find(|called| called.hook.kind == HookKind::Rollback && called.accepts())?;
    let name = hook.hook.name.clone();
    cx.say(Event::warning(format!("Rollback check {name} passed")));
    cx.say(Event::warning(format!("Rolling back {} manual webhook invoked", cx.target())));
    ending::begin(
        cx,
        release,
        End::Failed { cause: Cause { message: format!("the rollback hook {name} asked for it") } },
    );
    Some(Next::Again)
}

/// A closed gate is asked again after the interval, under a new key.
pub(super) fn closed(
    cx: &mut Context<'_>,
    release: &mut Release,
    name: String,
    reason: String,
    halt: &str,
) -> Next {
    let event = Event::warning(format!("Halt {} advancement {halt} {name}", cx.target()));
    cx.wait(WaitingOn::Gate { name, reason }, || event);
    reopen(cx, release);
    Next::Again
}

/// Opens the next tick, one interval long.
pub(super) fn reopen(cx: &Context<'_>, release: &mut Release) {
    release.tick += 1;
    release.opened = cx.now;
    release.due = after(cx.now, cx.policy.interval);
}

/// `None` while pending; what a hook said if it did not accept.
pub(super) fn said(called: &Called<'_>) -> Option<Result<(), String>> {
    match called.reply {
        Reply::Pending => None,
        Reply::Here(HookReply { accepted: true, .. }) => Some(Ok(())),
        Reply::Here(HookReply { accepted: false, body }) => Some(Err(body.clone())),
        Reply::Late => Some(Err(NO_ANSWER.to_owned())),
    }
}
