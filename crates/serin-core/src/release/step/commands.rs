//! Commands: promote, abort, retry, pause, resume. Each is answered once, whatever becomes of it.

use crate::model::{Digest, Quarantined, ReleaseId};
use crate::release::attempt::{Cause, End, Release, Stage};
use crate::release::observed::{Request, Verb};
use crate::release::policy::{PolicyStep, Sizing};
use crate::release::report::Event;
use crate::release::state::{Phase, State, Unheld};

use super::analyse;
use super::context::Context;
use super::{ending, finish};

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
        (Verb::Retry, Phase::Releasing(release)) if may_begin_anew(cx, release, request) => {
            // What it was aborted for does not count: the same revision follows it.
            release.stage = Stage::Ending { end: End::Superseded, zero_since: None, scaling_down: false };
            Ok(())
        }
        (Verb::Retry, _) => retry(state, request),
        (Verb::Quarantine, _) => refuse(cx, state, request),
        (Verb::Release, Phase::Idle { .. }) => unhold(cx, state, request),
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
        Verb::Retry | Verb::Release | Verb::Quarantine => Err("it is under way".to_owned()),
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

/// What is refused by hand is not released until it is let go by hand.
fn refuse(cx: &Context<'_>, state: &mut State, request: &Request) -> Result<(), String> {
    let digest: Digest = request.subject.parse().map_err(|error| format!("{error}"))?;
    if cx.is_promoted(&digest) {
        return Err("it is what runs".to_owned());
    }
    if state.release().is_some_and(|release| release.revision.digest == digest) {
        return Err("it is being released; `serin abort` fails and quarantines it".to_owned());
    }
    let by_hand = |entry: &&Quarantined| entry.is_by_hand() && entry.revision.digest != digest;
    if state.quarantine.iter().filter(by_hand).count() >= State::QUARANTINE_MAX {
        return Err(format!("{} are quarantined by hand already: lift one first", State::QUARANTINE_MAX));
    }
    if state.quarantine.iter().all(|entry| entry.revision.digest != digest) {
        finish::quarantine(state, Quarantined::by_hand(digest));
    }
    Ok(())
}

/// What is held is released: no longer, and nothing else.
fn unhold(cx: &Context<'_>, state: &mut State, request: &Request) -> Result<(), String> {
    let (Some(hold), Some(revision)) = (&cx.observed.hold, cx.wanted()) else {
        return Err("nothing waits for a release window or another environment".to_owned());
    };
    if cx.is_promoted(&revision.digest) {
        return Err("nothing waits for a release window or another environment".to_owned());
    }
    if ![revision.digest.as_str(), revision.digest.short()].contains(&request.subject.as_str()) {
        return Err(format!("what waits is revision {}", revision.digest.short()));
    }
    let why = format!("on request {}: {}", request.raw, hold.reason());
    state.unheld = Some(Unheld { digest: revision.digest, why });
    Ok(())
}

/// Whether a release that has failed, and is on its way out, is asked for again before that is over. Argo Rollouts takes such a
/// word at once.
fn may_begin_anew(cx: &Context<'_>, release: &Release, request: &Request) -> bool {
    let has_failed = matches!(&release.stage, Stage::Ending { end: End::Failed { .. }, .. });
    has_failed && cx.policy.sizing != Sizing::Ahead && is_about(request, &release.id, &release.revision.digest)
}

fn is_about(request: &Request, id: &ReleaseId, digest: &Digest) -> bool {
    let subject = request.subject.as_str();
    subject == id.as_str() || subject == digest.as_str() || subject == digest.short()
}
