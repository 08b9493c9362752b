//! Gates and hooks that have to accept before a release goes on.

use crate::analysis::{HookKind, HookReply};
use crate::model::between;
use crate::release::ask::ProviderFault;
use crate::release::attempt::{Cause, End, Release};
use crate::release::questions::{self, Called, Open, Reply};
use crate::release::report::{Event, WaitingOn};

use super::context::{Context, Next};
use super::{ending, judge};

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

/// Looks at the gates of `kind` in the open tick. While rounds watch over the release the verdict comes before the gate: nobody is asked,
/// and no answer counts, unless the last round has passed at the present exposure, an interval ago at most.
pub(super) fn look(cx: &mut Context<'_>, release: &mut Release, kind: HookKind) -> Gates {
    if cx.now < release.clock.due {
        cx.wake_at(release.clock.due);
        let until = release.clock.due;
        wait_at(cx, |cx| cx.wait_silently(WaitingOn::Window { until }));
        return Gates::Waiting;
    }
    if !may_expose_more(cx, release) {
        return Gates::Waiting;
    }
    if release.is_watched() {
        release.clock.asked.get_or_insert(cx.now);
    }
    let open = questions::of_steps(cx.policy, cx.observed, release, cx.now);
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

/// Whether the rounds allow that users are exposed to more; if not, what is waited for has been noted.
pub(super) fn may_expose_more(cx: &mut Context<'_>, release: &Release) -> bool {
    let may = !release.is_watched() || cx.policy.watch.may_raise(&release.watch, cx.now);
    if !may {
        wait_at(cx, |cx| judge::show(cx, release));
    }
    may
}

/// Whether everything is there that the checks name. What is not is the policy's fault: nobody meets the revision until it is
/// mended. A provider that does not answer is another matter: that is for the rounds to say.
pub(super) fn is_checkable(cx: &mut Context<'_>, release: &mut Release) -> bool {
    if cx.now < release.clock.due {
        cx.wake_at(release.clock.due);
        cx.waiting.clone_from(&cx.before);
        return false;
    }
    let Some(asked) = questions::checkable(cx.policy, cx.observed, release, cx.now) else { return true };
    match asked.reply(cx.observed, cx.now) {
        Reply::Pending => cx.wait_for_answers(&[&asked.open]),
        Reply::Here(Err(ProviderFault::Policy(reason))) => {
            let event = Event::warning(format!("{} is blocked: {reason}", cx.target()));
            cx.wait(WaitingOn::Misconfigured { reason: reason.clone() }, || event);
            release.clock.reopen(cx.now, cx.policy.interval);
            cx.wake_at(release.clock.due);
        }
        Reply::Here(Ok(()) | Err(ProviderFault::Unreachable(_))) | Reply::Late => return true,
    }
    false
}

/// Stays with a closed gate that was named before, until there is something else to say than that time passes.
fn wait_at(cx: &mut Context<'_>, otherwise: impl FnOnce(&mut Context<'_>)) {
    match &cx.before {
        Some(gate @ WaitingOn::Gate { .. }) => cx.waiting = Some(gate.clone()),
        Some(_) | None => otherwise(cx),
    }
}

/// Ends the release if a rollback hook asked for it.
fn roll_back(cx: &mut Context<'_>, release: &mut Release, open: &[Open]) -> Option<Next> {
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

/// A closed gate is asked again, under a new key: after the next round, or after the interval where there are none.
pub(super) fn closed(
    cx: &mut Context<'_>,
    release: &mut Release,
    name: String,
    reason: String,
    halt: &str,
) -> Next {
    let event = Event::warning(format!("Halt {} advancement {halt} {name}", cx.target()));
    cx.wait(WaitingOn::Gate { name, reason }, || event);
    let round = Some(between(cx.now, release.watch.due)).filter(|_| release.is_watched());
    let wait = round.filter(|wait| !wait.is_zero()).unwrap_or(cx.policy.interval);
    release.clock.reopen(cx.now, wait);
    Next::Again
}

/// `None` while pending; what a hook said if it did not accept.
fn said(called: &Called<'_>) -> Option<Result<(), String>> {
    match called.reply {
        Reply::Pending => None,
        Reply::Here(HookReply { accepted: true, .. }) => Some(Ok(())),
        Reply::Here(HookReply { accepted: false, body }) => Some(Err(body.clone())),
        Reply::Late => Some(Err(NO_ANSWER.to_owned())),
    }
}
