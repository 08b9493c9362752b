//! What there is to say of one commit and one target. Pure.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::ledger::Entry;
use super::target::{End, WatchedTarget};
use super::touched::What;
use super::words::WITHDRAWN;
use crate::api::{ObjectState, SourceStatus, TargetResult};
use crate::forge::CommitState;
use crate::model::{Digest, NamespacedName, ObjectRef};
use crate::release::OutcomeKind;

/// Time that a Canary may take to appear in the cluster, before it is said that there is none.
const APPEARS: SignedDuration = SignedDuration::from_secs(120);

/// What is said of a commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Said {
    pub(super) state: CommitState,
    pub(super) words: String,
    /// Nothing else will be said of it.
    pub(super) is_final: bool,
}

impl Said {
    fn of(state: CommitState, words: impl Into<String>) -> Self {
        Self { state, words: words.into(), is_final: false }
    }

    fn finally(state: CommitState, words: impl Into<String>) -> Self {
        Self { state, words: words.into(), is_final: true }
    }

    /// What is said before anything is known.
    pub(super) fn seen() -> Self {
        Self::of(CommitState::Pending, "seen; its turn comes")
    }
}

/// What is known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts<'a> {
    /// The target; `None` while the engine has not seen its Canary.
    pub(super) target: Option<&'a WatchedTarget>,
    /// Where sync is.
    pub(super) source: &'a SourceStatus,
    /// Whether sync has worked through this commit, or one after it.
    pub(super) applied: bool,
    /// A later commit that wants something else, and whether that one has been worked through.
    pub(super) later: Option<(&'a Entry, bool)>,
    pub(super) now: Timestamp,
}

/// What there is to say.
pub(super) fn judge(entry: &Entry, facts: &Facts<'_>) -> Said {
    match &entry.what {
        What::Unreadable { fault } => Said::finally(CommitState::Error, format!("not readable: {fault}")),
        What::Removed if facts.applied => Said::finally(CommitState::Success, "removed; nothing to release"),
        What::Same if facts.applied => Said::finally(CommitState::Success, "no new revision; nothing to release"),
        What::Removed | What::Same => not_yet(entry, facts),
        What::New { digest } => match facts.target {
            Some(target) => of_revision(entry, digest, target, facts),
            None => without_canary(entry, facts),
        },
    }
}

fn of_revision(entry: &Entry, digest: &Digest, target: &WatchedTarget, facts: &Facts<'_>) -> Said {
    if let Some(running) = target.running.as_ref().filter(|running| running.digest == *digest) {
        return match (running.failing, target.suspended) {
            // Users are safe; what is still to come is cleaning up.
            (true, _) => Said::of(CommitState::Failure, &*running.words),
            (false, true) => Said::of(CommitState::Error, format!("suspended: {}", running.words)),
            (false, false) => Said::of(CommitState::Running, &*running.words),
        };
    }
    let is_head = facts.later.is_none();
    let ends = target.ends.iter().rev().filter(|end| end.digest == *digest);
    if let Some(end) =
        ends.into_iter().find(|end| end.ended >= entry.seen || end.commit.as_ref() == Some(&entry.commit))
    {
        return ended(end, is_head, facts);
    }
    if target.promoted.as_ref().is_some_and(|(promoted, _)| promoted == digest) {
        return Said::finally(CommitState::Success, "this revision is what serves");
    }
    if let Some((later, true)) = facts.later {
        return superseded(later);
    }
    let failed = target.quarantined.iter().find(|(failed, _)| failed == digest);
    if let Some((_, release)) = failed.filter(|_| is_head) {
        let words = format!("failed before, in release {release}; `serin retry` releases it again");
        return Said::of(CommitState::Failure, words);
    }
    if let Some((_, words)) = target.held.as_ref().filter(|(held, _)| is_head && held == digest) {
        return Said::of(CommitState::Pending, words);
    }
    if let Some(words) = kept_away(entry, target, facts) {
        return Said::of(CommitState::Error, words);
    }
    not_yet(entry, facts)
}

fn ended(end: &End, is_head: bool, facts: &Facts<'_>) -> Said {
    let End { release, cause, .. } = end;
    match end.kind {
        OutcomeKind::Initialized => Said::finally(CommitState::Success, "the first revision serves"),
        OutcomeKind::Succeeded => Said::finally(CommitState::Success, format!("released in {release}")),
        OutcomeKind::Failed => {
            let words = format!("failed: {}", cause.as_deref().unwrap_or("the release failed"));
            // `serin retry` may come, as long as the branch names it.
            Said { state: CommitState::Failure, words, is_final: !is_head }
        }
        OutcomeKind::Withdrawn => Said::finally(
            CommitState::Cancelled,
            match facts.later {
                Some((later, _)) => {
                    format!("withdrawn by {}: what served before is wanted again", later.commit.short())
                }
                None => WITHDRAWN.to_owned(),
            },
        ),
        OutcomeKind::Superseded => match facts.later {
            Some((later, _)) => superseded(later),
            None => Said::finally(CommitState::Cancelled, "superseded before it was promoted"),
        },
    }
}

fn superseded(later: &Entry) -> Said {
    Said::finally(CommitState::Cancelled, format!("superseded by {}", later.commit.short()))
}

/// What keeps it from being released until somebody does something.
fn kept_away(entry: &Entry, target: &WatchedTarget, facts: &Facts<'_>) -> Option<String> {
    if facts.later.is_some() {
        return None;
    }
    if let Some(words) = invalid(&entry.canary, facts.source) {
        return Some(format!("invalid: {words}"));
    }
    if let Some(words) = held(&entry.canary, Some(&target.target), facts.source) {
        return Some(format!("held: {words}"));
    }
    if target.suspended {
        return Some("suspended: spec.suspend keeps it from being released".to_owned());
    }
    target.obstacle.as_ref().map(|words| format!("blocked: {words}"))
}

/// What sync says is wrong with the target at the newest commit that it worked through.
fn invalid<'a>(canary: &NamespacedName, source: &'a SourceStatus) -> Option<&'a str> {
    let applied = source.applied.as_ref()?;
    let newest = source.commits.iter().rev().find(|it| it.commit.as_str() == applied.commit)?;
    match newest.targets.get(&canary.to_string())? {
        TargetResult::Invalid { message } => Some(message),
        TargetResult::Written { .. } | TargetResult::Announced { .. } => None,
    }
}

/// What the API server, or we, refuse.
fn held<'a>(canary: &NamespacedName, target: Option<&ObjectRef>, source: &'a SourceStatus) -> Option<&'a str> {
    let refused = source.objects.iter().filter(|object| object.state == ObjectState::Refused);
    let concerns = |object: &&crate::api::ObjectNote| {
        object.namespace.as_deref() == Some(canary.namespace.as_str())
            && ((object.kind == "Canary" && object.name == canary.name)
                || target.is_some_and(|target| object.kind == target.kind && object.name == target.name))
    };
    refused.into_iter().find(concerns).map(|object| object.message.as_str())
}

fn without_canary(entry: &Entry, facts: &Facts<'_>) -> Said {
    if let Some((later, true)) = facts.later {
        return superseded(later);
    }
    if let Some(words) = invalid(&entry.canary, facts.source) {
        return Said::of(CommitState::Error, format!("invalid: {words}"));
    }
    if let Some(words) = held(&entry.canary, None, facts.source) {
        return Said::of(CommitState::Error, format!("held: {words}"));
    }
    let late = facts.now.duration_since(entry.seen) > APPEARS;
    match facts.applied && late {
        true => Said::of(CommitState::Error, format!("Canary {} is not in the cluster", entry.canary)),
        false => not_yet(entry, facts),
    }
}

/// Nothing has come of it yet: what it waits for.
fn not_yet(entry: &Entry, facts: &Facts<'_>) -> Said {
    if facts.applied {
        let waiting = facts.source.objects.iter().find(|object| {
            object.state == ObjectState::Waiting
                && object.namespace.as_deref() == Some(entry.canary.namespace.as_str())
                && facts.target.is_some_and(|it| it.target.name == object.name && it.target.kind == object.kind)
        });
        if let Some(object) = waiting {
            return Said::of(CommitState::Pending, format!("waits: {}", object.message));
        }
    } else if let Some(error) = &facts.source.error {
        return Said::of(CommitState::Pending, format!("not applied yet: {}", error.message));
    }
    Said::seen()
}
