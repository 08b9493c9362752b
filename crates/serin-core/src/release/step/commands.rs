//! Commands: promote, abort, retry, pause, resume. Each is answered once, whatever becomes of it.

use crate::model::{Digest, ReleaseId};
use crate::release::attempt::{Cause, End, Release, Stage};
use crate::release::observed::{Request, Verb};
use crate::release::policy::PolicyStep;
use crate::release::report::Event;
use crate::release::state::{Phase, State};

use super::analyse;
use super::context::Context;
use super::ending;

/// Notes that a request is answered; `false` if it has been before.
pub(super) fn take(state: &mut State, request: &Request) -> bool {
    let is_new = state.handled_request.as_ref() != Some(&request.raw);
    state.handled_request = Some(request.raw.clone());
    is_new
}

/// What is said to a request that is not obeyed.
pub(super) fn refusal(target: &str, request: &Request, reason: &str) -> Event {
    let Request { verb, subject, raw: _ } = request;
    Event::warning(format!("Request to {verb} {target} {subject} refused: {reason}"))
}

/// Answers a request that has not been answered yet.
pub(super) fn handle(cx: &mut Context<'_>, state: &mut State) {
    let Some(request) = &cx.observed.request else { return };
    if !take(state, request) {
        return;
    }
    let done = match (request.verb, &mut state.phase) {
        (Verb::Retry, _) => retry(state, request),
        (verb, Phase::Releasing(release)) if is_about(request, &release.id, &release.revision.digest) => {
            on_release(cx, verb, release)
        }
        (_, Phase::Releasing(release)) => Err(format!("release {} is under way", release.id)),
        (_, Phase::Initializing { .. } | Phase::Idle { .. } | Phase::HandingBack(_)) => {
            Err("nothing is being released".to_owned())
        }
    };
    let (verb, target) = (request.verb, cx.target());
    cx.say(match done {
        Ok(()) => Event::normal(format!("Request to {verb} {target} {} accepted", request.subject)),
        Err(reason) => refusal(&target, request, &reason),
    });
}

fn on_release(cx: &mut Context<'_>, verb: Verb, release: &mut Release) -> Result<(), String> {
    let before_promotion = matches!(
        release.stage,
        Stage::Confirming
            | Stage::ScalingUp { .. }
            | Stage::Preparing
            | Stage::Analysing
            | Stage::ConfirmingPromotion
    );
    match verb {
        Verb::Abort => abort(cx, release),
        _ if !before_promotion => Err("it is too late: the release is being finished".to_owned()),
        Verb::Promote => {
            release.skip = true;
            release.paused = false;
            Ok(())
        }
        Verb::Pause => {
            release.paused = true;
            Ok(())
        }
        Verb::Resume => resume(cx, release),
        Verb::Retry => Err("it is under way".to_owned()),
    }
}

fn abort(cx: &mut Context<'_>, release: &mut Release) -> Result<(), String> {
    let cause = Cause { message: "the release was aborted on request".to_owned() };
    match &release.stage {
        Stage::Ending { .. } | Stage::Restoring { .. } => {
            return Err("it is too late: the release is being finished".to_owned());
        }
        // Primary may have been changed already.
        Stage::Promoting { .. } => release.stage = Stage::Restoring { since: cx.now, cause },
        Stage::Confirming
        | Stage::ScalingUp { .. }
        | Stage::Preparing
        | Stage::Analysing
        | Stage::ConfirmingPromotion => ending::begin(cx, release, End::Failed { cause }),
    }
    release.paused = false;
    cx.say(Event::warning(format!("Rolling back {} abort requested", cx.target())));
    Ok(())
}

fn resume(cx: &Context<'_>, release: &mut Release) -> Result<(), String> {
    if release.paused {
        release.paused = false;
        // What was measured before the pause says nothing about now.
        analyse::open_step(cx.policy, release, cx.now);
        return Ok(());
    }
    let at_pause =
        matches!((&release.stage, release.current(cx.policy)), (Stage::Analysing, Some(PolicyStep::Pause(_))));
    if !at_pause {
        return Err("it is not paused".to_owned());
    }
    analyse::next_step(cx, release);
    Ok(())
}

fn retry(state: &mut State, request: &Request) -> Result<(), String> {
    let kept = state.quarantine.len();
    state.quarantine.retain(|entry| !is_about(request, &entry.release, &entry.revision.digest));
    if state.quarantine.len() == kept {
        return Err("no such revision is quarantined".to_owned());
    }
    Ok(())
}

fn is_about(request: &Request, id: &ReleaseId, digest: &Digest) -> bool {
    let subject = request.subject.as_str();
    subject == id.as_str() || subject == digest.as_str() || subject == digest.short()
}
