//! What a release rests on: rounds that watch, checks that passed, the template that was analysed.

use std::time::Duration;

use jiff::SignedDuration;
use serin_core::release::{Action, HookKind, OutcomeKind, Phase, PolicyStep, Promotion, Release, Stage};

use super::{Moment, ensure, patience};

/// What is asked a moment late is not late: a look takes no time here, but two may lie between.
const SLACK: Duration = Duration::from_secs(60);

/// Whenever users meet the candidate of a release that is analysed, a round is open.
pub(super) fn a_round_is_open(moment: &Moment<'_>) -> Result<(), String> {
    let Some(release) = watched(moment) else { return Ok(()) };
    ensure(release.watch.is_open(), || format!("nobody watches {} at {:?}", release.routing, release.stage))
}

/// Every check is asked again and again while users meet the candidate, whatever the release waits for.
pub(super) fn every_check_is_asked_in_time(moment: &Moment<'_>) -> Result<(), String> {
    let Some(_) = watched(moment) else { return Ok(()) };
    let (history, policy) = (moment.history, moment.policy());
    let Some(exposed) = history.exposed_since.filter(|_| !history.edited) else { return Ok(()) };
    let shown = history.shown_since.max(history.edited_at).unwrap_or(exposed);
    for (key, check) in policy.watch.checks.iter() {
        let last = history.asked.get(key).copied().map_or(shown, |asked| asked.max(shown));
        // It may be asked only when the window is as old as it looks back.
        let most = 2 * history.longest + check.window + patience(policy) + SLACK;
        let most = SignedDuration::try_from(most).expect("a short time");
        let waited = moment.world.now.duration_since(last);
        ensure(waited <= most, || format!("{} has not been asked for {waited:?}", check.name))?;
    }
    Ok(())
}

/// The release, if users meet its candidate and it is not on its way out.
fn watched<'a>(moment: &'a Moment<'_>) -> Option<&'a Release> {
    let release = moment.step.state.release()?;
    let leaves = matches!(release.stage, Stage::Ending { .. } | Stage::Restoring { .. });
    (release.is_exposed() && !leaves && !moment.history.skipped && !release.skip).then_some(release)
}

/// Who meets more of the candidate does so because it did well with who met it before.
pub(super) fn a_raise_is_proven(moment: &Moment<'_>) -> Result<(), String> {
    let Some((before, after)) = moment.walking() else { return Ok(()) };
    let raised = after.stage == Stage::Analysing && after.routing.exposes_more_than(&before.routing);
    if !raised || !before.routing.exposes() || !after.routing.exposes() {
        return Ok(());
    }
    let failed = before.watch.failed() < after.watch.failed();
    ensure(!failed, || format!("{} after a failed check", after.routing))?;
    proven(moment, true).map_err(|why| format!("raised from {} to {}: {why}", before.routing, after.routing))
}

/// A step that waits for a round is done when one has passed.
pub(super) fn a_step_of_analysis_is_proven(moment: &Moment<'_>) -> Result<(), String> {
    let Some((before, after)) = moment.walking().filter(|_| !moment.history.edited) else { return Ok(()) };
    let steps = &moment.policy().steps;
    let analyses = steps.get(before.step as usize) == Some(&PolicyStep::Analyse);
    let passed = before.stage == Stage::Analysing && analyses && after.step > before.step;
    if !passed || after.recheck || moment.history.skipped {
        return Ok(());
    }
    proven(moment, false).map_err(|why| format!("step {} is passed: {why}", before.step))
}

/// To promote is to expose everybody.
pub(super) fn a_promotion_is_proven(moment: &Moment<'_>) -> Result<(), String> {
    let Some((before, after)) = moment.same() else { return Ok(()) };
    let begins =
        matches!(after.stage, Stage::Promoting { .. }) && !matches!(before.stage, Stage::Promoting { .. });
    let skips = moment.history.skipped || after.skip || moment.policy().skip_analysis;
    if !begins || skips {
        return Ok(());
    }
    let exposes = moment.policy().steps.iter().any(|step| matches!(step, PolicyStep::Route(it) if it.exposes()));
    let must = exposes && moment.history.whole && !moment.history.edited;
    let met = moment.history.met.contains(&after.revision.digest);
    ensure(!must || met, || format!("{} is promoted, and nobody has met it", after.revision))?;
    if !before.routing.exposes() {
        return Ok(());
    }
    let all = (before.step as usize) >= moment.policy().steps.len() || after.step > before.step;
    ensure(all, || format!("promoted at step {} of {}", before.step, moment.policy().steps.len()))?;
    proven(moment, true).map_err(|why| format!("promoted from {}: {why}", before.routing))
}

/// Whether everything that watches has passed since the routing was shown; `lately`: at most an interval ago.
fn proven(moment: &Moment<'_>, lately: bool) -> Result<(), String> {
    let (history, policy, now) = (moment.history, moment.policy(), moment.world.now);
    // What somebody else has shown meanwhile is nobody's proof.
    if policy.watch.is_empty() && lately || moment.world.meddled {
        return Ok(());
    }
    let Some(shown) = history.shown_since else { return Err("nothing is shown".to_owned()) };
    let signed = |time: Duration| SignedDuration::try_from(time).expect("a short time");
    let since = now.duration_since(shown);
    ensure(since >= signed(history.shortest), || format!("it was shown {since:?} ago"))?;
    let oldest = signed(2 * history.longest + patience(policy));
    for (key, check) in policy.watch.checks.iter() {
        let heard = history.checks.get(key);
        // The round that is open may know worse already; it has not been judged.
        let passed = heard
            .and_then(|heard| heard.good_at)
            .is_some_and(|at| at >= shown && (!lately || now.duration_since(at) <= oldest));
        ensure(passed, || format!("{} has not passed since {shown}: {heard:?}", check.name))?;
    }
    for (key, hook) in policy.watch.hooks.iter().filter(|(_, hook)| hook.kind == HookKind::Rollout) {
        let heard = history.hooks.get(key);
        let accepted = heard.is_some_and(|heard| heard.good_at.is_some());
        ensure(accepted, || format!("{} has not accepted: {heard:?}", hook.name))?;
    }
    Ok(())
}

/// Primary gets the template that users met, and no other.
pub(super) fn ships_what_was_analysed(moment: &Moment<'_>) -> Result<(), String> {
    let Some(release) = moment.step.state.release() else { return Ok(()) };
    let ships = moment.step.actions.iter().find_map(|action| match action {
        Action::CopyToPrimary { expect } | Action::SwitchStable { expect } => Some(expect),
        _ => None,
    });
    let Some(ships) = ships else { return Ok(()) };
    if !matches!(release.stage, Stage::Promoting { .. }) {
        let promoted = moment.step.state.promoted.as_ref().map(|promoted| &promoted.revision.digest);
        return ensure(promoted == Some(&ships.digest), || format!("{ships} is shipped at {:?}", release.stage));
    }
    ensure(*ships == release.revision, || format!("{ships} is shipped by the release of {}", release.revision))?;
    let target = moment.observed.target.as_ref().map(|target| &target.digest);
    ensure(target == Some(&ships.digest), || format!("{ships} is shipped, the target is {target:?}"))?;
    let other = moment.history.met.iter().find(|met| **met != ships.digest);
    ensure(other.is_none(), || format!("{ships} is shipped, users met {other:?}"))
}

/// What is noted as promoted is what was released, and what primary runs.
pub(super) fn promotes_what_primary_runs(moment: &Moment<'_>) -> Result<(), String> {
    let (before, state) = (moment.before, &moment.step.state);
    let promoted = state.promoted.as_ref().map(|promoted| &promoted.revision);
    let unchanged = before.promoted.as_ref().map(|promoted| &promoted.revision) == promoted;
    let Some(release) = before.release() else { return Ok(()) };
    let ended = state.last_outcome.as_ref().filter(|outcome| outcome.release == release.id);
    let succeeded = ended.is_some_and(|outcome| outcome.kind == OutcomeKind::Succeeded)
        && !matches!(state.phase, Phase::Releasing(ref now) if now.id == release.id);
    if !succeeded {
        return ensure(unchanged, || format!("{promoted:?} was not released"));
    }
    ensure(promoted == Some(&release.revision), || {
        format!("{} succeeded, noted is {promoted:?}", release.revision)
    })?;
    let primary = moment.observed.primary.as_ref().map(|primary| &primary.digest);
    let copies = moment.policy().promotion == Promotion::CopyToPrimary;
    ensure(!copies || primary == Some(&release.revision.digest), || {
        format!("{} succeeded, primary runs {primary:?}", release.revision)
    })
}
