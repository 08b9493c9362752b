//! The order of things: gates, pauses, commands, suspensions, ends.

use serin_core::release::{Action, Cause, End, HookKind, Phase, PolicyStep, Release, Stage, Verb};

use super::{Moment, ensure};

/// How far a stage is on the way to promotion; `None` on the way out.
fn rank(stage: &Stage) -> Option<u8> {
    Some(match stage {
        Stage::Confirming => 0,
        Stage::ScalingUp { .. } => 1,
        Stage::Preparing => 2,
        Stage::Analysing => 3,
        Stage::ConfirmingPromotion => 4,
        Stage::Promoting { .. } => 5,
        Stage::Restoring { .. } | Stage::Ending { .. } => return None,
    })
}

fn is_raised(before: &Release, after: &Release) -> bool {
    after.routing.exposes() && after.routing.exposes_more_than(&before.routing)
}

/// A step is taken again only where pods were missing, the template was changed, or the steps were edited.
pub(super) fn steps_go_forward(moment: &Moment<'_>) -> Result<(), String> {
    let Some((before, after)) = moment.walking() else { return Ok(()) };
    let excused = moment.history.edited || !moment.is_well(after);
    ensure(after.step >= before.step || excused, || {
        format!("step {} is followed by {} for no reason", before.step, after.step)
    })
}

/// Every gate on the way has said yes, since what it is about was last decided.
pub(super) fn passes_no_closed_gate(moment: &Moment<'_>) -> Result<(), String> {
    let Some((before, after)) = moment.same() else { return Ok(()) };
    let (Some(from), Some(to)) = (rank(&before.stage), rank(&after.stage)) else { return Ok(()) };
    let skips = after.skip || moment.policy().skip_analysis;
    let passed = |stage: u8| from <= stage && to > stage;
    if passed(0) && !after.skip {
        open(moment, HookKind::ConfirmRollout, false)?;
    }
    if passed(2) && !skips {
        open(moment, HookKind::PreRollout, false)?;
    }
    if to == 3 && is_raised(before, after) {
        open(moment, HookKind::ConfirmTrafficIncrease, true)?;
    }
    let gates = !moment.history.edited && passes(moment, before, after, |step| *step == PolicyStep::Gate);
    if (passed(4) || gates) && !skips {
        open(moment, HookKind::ConfirmPromotion, true)?;
    }
    Ok(())
}

/// Whether every hook of a kind has accepted last; `anew`: since the present routing was meant.
fn open(moment: &Moment<'_>, kind: HookKind, anew: bool) -> Result<(), String> {
    let hooks = moment.policy().hooks.iter().filter(|(_, hook)| hook.kind == kind);
    let since = if anew { moment.history.meant_at } else { 0 };
    for (key, hook) in hooks {
        let heard = moment.history.hooks.get(key);
        let accepts = heard.is_some_and(|heard| heard.good && heard.place >= since);
        ensure(accepts, || format!("{} has not accepted: {heard:?}", hook.name))?;
    }
    Ok(())
}

/// Whether a step of this kind is passed.
fn passes(moment: &Moment<'_>, before: &Release, after: &Release, which: impl Fn(&PolicyStep) -> bool) -> bool {
    let through = before.stage == Stage::Analysing || before.stage == Stage::ConfirmingPromotion;
    let steps = &moment.policy().steps;
    let last = (after.step as usize).min(steps.len());
    through && (before.step as usize..last).any(|step| which(&steps[step]))
}

/// A pause lasts as long as it says, one without a time until somebody goes on, and one that a person asked for, too.
pub(super) fn passes_no_pause(moment: &Moment<'_>) -> Result<(), String> {
    let Some((before, after)) = moment.same() else { return Ok(()) };
    if rank(&after.stage).is_none() || moment.obeys(&[Verb::Resume, Verb::Promote]) {
        return Ok(());
    }
    let skips = after.skip || moment.policy().skip_analysis;
    let raised = is_raised(before, after) && rank(&after.stage) == Some(3);
    ensure(!(before.paused && raised), || "a paused release is raised".to_owned())?;
    let forgotten = before.paused && !after.paused && !skips;
    ensure(!forgotten, || "a pause is forgotten".to_owned())?;
    let later = rank(&after.stage) > rank(&before.stage) && rank(&before.stage) != Some(1);
    ensure(!(before.paused && later && !skips), || format!("a paused release goes on to {:?}", after.stage))?;
    if moment.history.edited {
        return Ok(());
    }
    let endless = passes(moment, before, after, |step| *step == PolicyStep::Pause(None));
    ensure(!endless, || "a pause without an end is passed".to_owned())?;
    let lasted = moment.history.step_since.map(|since| moment.world.now.duration_since(since));
    let short = passes(moment, before, after, |step| match step {
        PolicyStep::Pause(Some(pause)) => {
            lasted.is_none_or(|lasted| lasted < (*pause).try_into().expect("a short pause"))
        }
        PolicyStep::Pause(None)
        | PolicyStep::Route(_)
        | PolicyStep::Analyse
        | PolicyStep::Gate
        | PolicyStep::Size(_) => false,
    });
    ensure(!short, || format!("a pause ends after {lasted:?}"))
}

/// An abort turns the release round in the very step that answers it.
pub(super) fn an_abort_is_taken_at_once(moment: &Moment<'_>) -> Result<(), String> {
    let Some(before) = moment.before.release() else { return Ok(()) };
    let asked = moment.observed.request.as_ref().is_some_and(|request| {
        request.verb == Verb::Abort
            && request.subject == before.id.as_str()
            && moment.before.handled_request.as_ref() != Some(&request.raw)
    });
    let goes_on = moment.same().is_some_and(|(_, after)| rank(&after.stage).is_some());
    ensure(!(asked && goes_on), || format!("an aborted release goes on at {:?}", before.stage))
}

/// Suspended, nothing begins, nothing rises, no step is passed and no time runs out.
pub(super) fn a_suspension_keeps_everything(moment: &Moment<'_>) -> Result<(), String> {
    if !moment.is_suspended() {
        return resumed(moment);
    }
    let state = &moment.step.state;
    let begins = moment.before.release().map(|release| &release.id) != state.release().map(|release| &release.id);
    ensure(!(begins && state.release().is_some()), || "a release begins although suspended".to_owned())?;
    let changes = moment.step.actions.iter().find(|action| {
        matches!(action, Action::CreatePrimary { .. } | Action::CopyToPrimary { .. } | Action::SwitchStable { .. })
    });
    ensure(changes.is_none(), || format!("suspended, and yet {changes:?}"))?;
    let Some((before, after)) = moment.same() else { return Ok(()) };
    if moment.obeys(&[Verb::Abort]) {
        return Ok(());
    }
    if let Stage::Ending { end: End::Failed { cause: Cause { message } }, .. } = &after.stage {
        let ran_out = rank(&before.stage).is_some() && message.contains("not ready");
        return ensure(!ran_out, || format!("suspended, time runs out: {message}"));
    }
    let (Some(from), Some(to)) = (rank(&before.stage), rank(&after.stage)) else { return Ok(()) };
    ensure(to <= from, || format!("suspended, and yet {:?} becomes {:?}", before.stage, after.stage))?;
    ensure(!(to == 3 && is_raised(before, after)), || "suspended, and yet raised".to_owned())?;
    let waits = |step: &PolicyStep| !matches!(step, PolicyStep::Route(_));
    let goes_on = !moment.history.edited && !moment.obeys(&[Verb::Resume]) && passes(moment, before, after, waits);
    ensure(!goes_on, || format!("suspended, and yet step {} becomes {}", before.step, after.step))
}

/// Resumed, a release is where it was.
fn resumed(moment: &Moment<'_>) -> Result<(), String> {
    let Some(before) = moment.before.release().filter(|before| before.frozen) else { return Ok(()) };
    let Some((_, after)) = moment.same() else {
        let ended = moment.step.state.last_outcome.as_ref().is_some_and(|outcome| outcome.release == before.id);
        return ensure(ended, || format!("release {} is lost", before.id));
    };
    let same = after.revision == before.revision && after.started == before.started;
    ensure(same, || format!("{before:?} is resumed as {after:?}"))?;
    ensure(after.watch.round >= before.watch.round, || "rounds are forgotten".to_owned())?;
    let lost = before.skip && !after.skip || before.first_traffic.is_some() && after.first_traffic.is_none();
    ensure(!lost, || "what was asked or shown is forgotten".to_owned())
}

/// Numbers never go back, and a round counts once.
pub(super) fn counts_once(moment: &Moment<'_>) -> Result<(), String> {
    let (old, new) = (moment.before, &moment.step.state);
    ensure(new.next_seq >= old.next_seq, || "journal numbers went back".to_owned())?;
    ensure(new.releases >= old.releases, || "releases are counted backwards".to_owned())?;
    if let Some(release) = new.release() {
        let quarantined = new.quarantine.iter().any(|entry| entry.revision.digest == release.revision.digest);
        ensure(!quarantined, || "a quarantined revision is being released".to_owned())?;
    }
    let Some((before, after)) = moment.same() else { return Ok(()) };
    ensure(before.revision == after.revision, || "a release changes its revision".to_owned())?;
    let (before, after) = (&before.watch, &after.watch);
    ensure(after.round >= before.round, || "a round was judged twice".to_owned())?;
    let counted = after.failed().saturating_sub(before.failed());
    ensure(counted <= 1, || format!("a round counted {counted} times"))?;
    let ends = moment.same().is_some_and(|(_, after)| rank(&after.stage).is_none());
    ensure(counted == 0 || after.round > before.round || ends, || "a failed round is open".to_owned())
}

/// What is on its way out does not come back, and every release that is over has had its end.
pub(super) fn an_end_is_an_end(moment: &Moment<'_>) -> Result<(), String> {
    let Some(before) = moment.before.release() else { return Ok(()) };
    let Some((_, after)) = moment.same() else {
        let told = moment.step.state.last_outcome.as_ref().is_some_and(|outcome| outcome.release == before.id);
        let moved_on = moment.step.state.outbox.iter().any(|outcome| outcome.release == before.id);
        let goes = matches!(moment.step.state.phase, Phase::HandingBack(_));
        return ensure(told || moved_on || goes, || format!("release {} vanished without an end", before.id));
    };
    let returns = rank(&before.stage).is_none() && rank(&after.stage).is_some();
    ensure(!returns, || format!("{:?} comes back as {:?}", before.stage, after.stage))
}

/// What Git does not name any more is not released further.
pub(super) fn goes_on_with_what_is_wanted(moment: &Moment<'_>) -> Result<(), String> {
    let Some(release) = moment.step.state.release().filter(|_| !moment.is_suspended()) else { return Ok(()) };
    let under_way = rank(&release.stage).is_some_and(|rank| rank < 5);
    let other = moment.observed.pending.as_ref().filter(|pending| pending.digest != release.revision.digest);
    ensure(!under_way || other.is_none(), || {
        "a revision that is no longer wanted is still being released".to_owned()
    })
}
