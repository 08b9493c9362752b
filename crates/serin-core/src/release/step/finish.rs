//! The end of a release and what remains of it.

use crate::analysis::HookKind;
use crate::model::{Digest, Projection, Quarantined, ReleaseId, Remembered, Revision};
use crate::release::attempt::{Cause, End, Release};
use crate::release::observed::Observed;
use crate::release::outcome::{Outcome, OutcomeKind, PostRollout};
use crate::release::report::Event;
use crate::release::state::{Phase, Promoted, State};

use super::context::{Context, live};
use super::{ending, git};

/// Primary serves: the first revision is promoted.
pub(super) fn initialized(cx: &mut Context<'_>, state: &mut State, digest: Digest) {
    let commit = cx.observed.target.as_ref().map(live).filter(|live| live.digest == digest);
    let revision = commit.unwrap_or(Revision { digest: digest.clone(), commit: None });
    let since = match &state.phase {
        Phase::Initializing { since, .. } | Phase::Idle { since, .. } => *since,
        Phase::HandingBack(back) => back.since,
        Phase::Releasing(release) => release.started,
    };
    cx.say(Event::normal(format!("Initialization done! {}", cx.target())));
    cx.promoted = Some(revision.clone());
    state.promoted = Some(Promoted { revision: revision.clone(), at: cx.now });
    state.last_applied = Some(digest.clone());
    state.admitted = None;
    state.phase = Phase::Idle { last: OutcomeKind::Initialized, since: cx.now };
    git::rebuilt(cx, state);
    keep(
        state,
        Outcome {
            release: ReleaseId::new(0, &digest),
            kind: OutcomeKind::Initialized,
            revision: revision.clone(),
            promoted: Some(revision),
            cause: None,
            started: since,
            ended: cx.now,
            checks: Vec::new(),
            overrode: None,
        },
    );
}

/// The release under way is over.
pub(super) fn release(cx: &mut Context<'_>, state: &mut State, end: End) {
    let (kind, cause) = match end {
        End::Succeeded => (OutcomeKind::Succeeded, None),
        End::Failed { cause } => (OutcomeKind::Failed, Some(cause)),
        End::Superseded if ending::has_successor(cx) => (OutcomeKind::Superseded, None),
        End::Superseded => (OutcomeKind::Withdrawn, None),
    };
    let phase = std::mem::replace(&mut state.phase, Phase::Idle { last: kind, since: cx.now });
    let Phase::Releasing(release) = phase else { return };
    let checks = release.checks();
    let Release { id, revision, started, overrode, .. } = *release;
    match kind {
        OutcomeKind::Succeeded => {
            cx.promoted = Some(revision.clone());
            state.quarantine.retain(|entry| entry.revision.digest != revision.digest);
            state.promoted = Some(Promoted { revision: revision.clone(), at: cx.now });
        }
        OutcomeKind::Failed => {
            quarantine(state, Quarantined { revision: revision.clone(), release: id.clone(), rolled_back: None });
        }
        OutcomeKind::Initialized | OutcomeKind::Superseded | OutcomeKind::Withdrawn => {}
    }
    let has_post = cx.policy.has_hook(HookKind::PostRollout);
    if has_post && matches!(kind, OutcomeKind::Succeeded | OutcomeKind::Failed) {
        state.post_rollout = Some(PostRollout { release: id.clone(), kind, since: cx.now });
    }
    state.admitted = None;
    let promoted = state.promoted.as_ref().map(|promoted| promoted.revision.clone());
    let outcome =
        Outcome { release: id, kind, revision, promoted, cause, started, ended: cx.now, checks, overrode };
    state.last_outcome = Some(Box::new(outcome.clone()));
    keep(state, outcome);
}

/// A quarantined revision came again with another commit: that commit has failed, too.
pub(super) fn refuse(cx: &mut Context<'_>, state: &mut State, revision: &Revision) {
    let Some(entry) = state.quarantine.iter_mut().find(|entry| entry.revision.digest == revision.digest) else {
        return;
    };
    // It has its end, and that is all that is done about it.
    state.last_applied = Some(revision.digest.clone());
    if entry.revision.commit == revision.commit {
        return;
    }
    entry.revision = revision.clone();
    let message = entry.why();
    cx.say(Event::warning(format!("Not releasing {}: {message}", cx.target())));
    end_unreleased(cx, state, revision, OutcomeKind::Failed, Some(Cause { message }));
}

/// Revisions that a newer one replaced before their release began: their commits end, too.
pub(super) fn replaced(cx: &mut Context<'_>, state: &mut State) {
    let observed = cx.observed;
    let known = std::mem::replace(&mut state.replaced, observed.replaced.clone());
    for revision in observed.replaced.iter().filter(|revision| !known.contains(revision)) {
        if is_told(state, revision) || cx.wanted().as_ref() == Some(revision) {
            continue;
        }
        let digest = &revision.digest;
        let target = cx.target();
        cx.say(Event::normal(format!(
            "Revision {} of {target} was replaced before its release began",
            digest.short()
        )));
        end_unreleased(cx, state, revision, OutcomeKind::Superseded, None);
        if observed.target.as_ref().is_some_and(|target| target.digest == *digest) {
            state.last_applied = Some(digest.clone());
        }
    }
}

/// Whether a revision is being released, or has its end already.
fn is_told(state: &State, revision: &Revision) -> bool {
    state.release().is_some_and(|release| release.revision == *revision)
        || state.promoted.as_ref().is_some_and(|promoted| promoted.revision == *revision)
        || state.last_outcome.as_ref().is_some_and(|outcome| outcome.revision == *revision)
        || state.outbox.iter().any(|outcome| outcome.revision == *revision)
        || state.quarantine.iter().any(|entry| entry.revision == *revision)
}

/// The end of a commit whose revision is not released.
fn end_unreleased(
    cx: &Context<'_>,
    state: &mut State,
    revision: &Revision,
    kind: OutcomeKind,
    cause: Option<Cause>,
) {
    state.releases += 1;
    let outcome = Outcome {
        release: ReleaseId::new(state.releases, &revision.digest),
        kind,
        revision: revision.clone(),
        promoted: state.promoted.as_ref().map(|promoted| promoted.revision.clone()),
        cause,
        started: cx.now,
        ended: cx.now,
        checks: Vec::new(),
        overrode: None,
    };
    keep(state, outcome);
}

/// What every enabled projection has leaves the outbox: the slowest one counts.
pub(super) fn prune_outbox(state: &mut State, observed: &Observed) {
    let place = |release: &ReleaseId| state.outbox.iter().rposition(|outcome| outcome.release == *release);
    let recorded = observed.projected.iter().find(|(projection, _)| *projection == Projection::Record);
    // Only what is known here counts: an annotation is no proof.
    if let Some(release) =
        recorded.and_then(|(_, up_to)| up_to.as_ref()).filter(|release| place(release).is_some())
    {
        state.recorded = Some(release.clone());
    }
    let slowest = observed.projected.iter().map(|(_, up_to)| up_to.as_ref().and_then(place)).min();
    if let Some(newest) = slowest.flatten() {
        state.outbox.drain(..=newest);
        state.outbox_merged = 0;
    }
}

/// What the record says failed is not released by itself after a rebuild either.
pub(super) fn remember(state: &mut State, record: &Remembered) {
    for entry in &record.failed {
        if entry.revision.digest != record.promoted.digest {
            quarantine(state, entry.clone());
        }
    }
}

pub(super) fn quarantine(state: &mut State, entry: Quarantined) {
    state.quarantine.retain(|old| old.revision.digest != entry.revision.digest);
    state.quarantine.push(entry);
    // What a person refused outlasts what failed by itself.
    while state.quarantine.len() > State::QUARANTINE_MAX {
        let oldest = state.quarantine.iter().position(|entry| !entry.is_by_hand()).unwrap_or(0);
        state.quarantine.remove(oldest);
    }
}

fn keep(state: &mut State, outcome: Outcome) {
    state.outbox.push(outcome);
    let surplus = state.outbox.len().saturating_sub(State::OUTBOX_MAX);
    state.outbox.drain(..surplus);
    state.outbox_merged += surplus as u64;
}
