//! What Git's side tells of a target's releases, passed on to people on the Canary.

use crate::model::{Quarantined, ReleaseId, RollbackFate, RollbackNote};
use crate::release::report::Event;
use crate::release::state::{Rebuilt, State};

use super::context::Context;

/// Says each thing once, when it begins, changes or ends.
pub(super) fn tell(cx: &mut Context<'_>, state: &mut State) {
    unrecorded(cx, state);
    rolled_back(cx, state);
}

/// What keeps state from reaching Git.
fn unrecorded(cx: &mut Context<'_>, state: &mut State) {
    let unrecorded = cx.observed.unrecorded.as_ref();
    if state.unrecorded.as_ref() == unrecorded {
        return;
    }
    let target = cx.target();
    cx.say(match unrecorded {
        Some(reason) => Event::warning(format!("Git does not have everything of {target}: {reason}")),
        None => Event::normal(format!("Git has everything of {target} again")),
    });
    state.unrecorded = unrecorded.cloned();
}

/// What became of the watched branch after a failed release. Only of a release that is known here: the note is read from an
/// annotation.
fn rolled_back(cx: &mut Context<'_>, state: &mut State) {
    let Some(note) = cx.observed.rollback.as_ref().filter(|note| is_news(state, note)) else { return };
    let RollbackNote { release, branch, fate } = note;
    let target = cx.target();
    cx.say(match fate {
        RollbackFate::Made { commit } => {
            Event::normal(format!("Rolled {target} back in Git: commit {} on {branch}", commit.short()))
        }
        RollbackFate::Proposed { url } => {
            Event::warning(format!("Branch {branch} still names the failed revision of {target}: merge {url}"))
        }
        RollbackFate::Missing { reason: _, message } => {
            Event::warning(format!("Branch {branch} still names the failed revision of {target}: {message}"))
        }
        RollbackFate::Needless { message } => {
            Event::normal(format!("No rollback commit for {target} on {branch}: {message}"))
        }
    });
    if let RollbackFate::Made { commit } = fate {
        let mut ended = state.outbox.iter().chain(state.last_outcome.as_deref());
        let failed =
            ended.find(|outcome| outcome.release == *release).map(|outcome| outcome.revision.digest.clone());
        let about = |entry: &&mut Quarantined| {
            entry.release == *release || failed.as_ref() == Some(&entry.revision.digest)
        };
        if let Some(entry) = state.quarantine.iter_mut().find(about) {
            entry.rolled_back = Some(commit.clone());
        }
    }
    state.rollback = Some(note.clone());
}

fn is_news(state: &State, note: &RollbackNote) -> bool {
    let known = |release: &ReleaseId| *release == note.release;
    let is_known = state.outbox.iter().any(|outcome| known(&outcome.release))
        || state.last_outcome.as_ref().is_some_and(|outcome| known(&outcome.release))
        || state.quarantine.iter().any(|entry| known(&entry.release));
    is_known && state.rollback.as_ref() != Some(note)
}

/// The record that the first revision was taken from.
pub(super) fn rebuilt(cx: &mut Context<'_>, state: &mut State) {
    let (Some(source), Some(promoted)) = (&cx.observed.rebuilt, &state.promoted) else { return };
    let revision = promoted.revision.clone();
    cx.say(Event::warning(format!(
        "Primary of {} starts with revision {}: {source}",
        cx.target(),
        revision.digest.short()
    )));
    state.rebuilt = Some(Rebuilt { revision, source: source.clone() });
}
