//! What comes of the objects of one pass.

use std::collections::{BTreeMap, BTreeSet};

use super::super::apply::{Outcome, Settled};
use super::super::desired::{Desired, Gvk, Role};
use super::super::preview::{Action, Planned, PlannedRelease};
use super::super::status::SyncStatus;
use crate::api::{Owned, Presence, TargetResult};
use crate::model::{CommitId, Digest, NamespacedName, ObjectRef, told_within};

/// Something that goes on when a Canary changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::sync) struct Waiting {
    pub(in crate::sync) canary: NamespacedName,
    pub(in crate::sync) until: Until,
}

/// What must become of the Canary first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::sync) enum Until {
    /// It admits this digest.
    Admits(Digest),
    /// Nothing is being released.
    Idle,
    /// Its primary runs this digest.
    Promoted(Digest),
    /// Its target's template may be put right.
    Correctable,
    /// It is there.
    There,
    /// Its primary serves.
    Serves,
    /// It is gone.
    Gone,
}

/// What a pass leaves.
#[derive(Debug, Default)]
pub(in crate::sync) struct Passed {
    pub(in crate::sync) status: SyncStatus,
    pub(in crate::sync) waiting: Vec<Waiting>,
    /// Kinds that are not served.
    pub(in crate::sync) unserved: BTreeSet<Gvk>,
    /// Objects that go on by themselves in a moment: they are being deleted, or the API server did not answer for them.
    pub(in crate::sync) soon: BTreeSet<ObjectRef>,
    /// What was done, or would be.
    pub(in crate::sync) planned: Vec<Planned>,
}

/// What has come of the objects so far.
#[derive(Debug, Default)]
pub(in crate::sync) struct Results {
    pub(in crate::sync) owned: BTreeMap<ObjectRef, Owned>,
    pub(super) targets: BTreeMap<String, TargetResult>,
    /// Objects that are not written because the API server refuses a Canary, and why.
    pub(super) held: BTreeMap<ObjectRef, String>,
    pub(in crate::sync) passed: Passed,
}

impl Results {
    /// What is not written yet came with this commit, unless it was there before.
    pub(super) fn date(&mut self, commit: &CommitId) {
        for owned in self.owned.values_mut().filter(|owned| owned.presence != Presence::Written) {
            owned.since.get_or_insert_with(|| commit.clone());
        }
    }

    pub(super) fn note(&mut self, object: &Desired, outcome: Outcome) {
        let Outcome { state, change, target, reason, copies } = outcome;
        for id in copies {
            let owned = Owned { version: "v1".to_owned(), copy: true, ..Owned::default() };
            self.owned.entry(id).or_insert(owned);
        }
        self.passed.planned.extend(change.as_ref().map(|change| {
            let release = target.clone().zip(reason);
            let release = release.map(|((canary, result), reason)| PlannedRelease { canary, result, reason });
            let action = match &release {
                Some(_) => Action::Release,
                None if change == "create" => Action::Create,
                None => Action::Configure,
            };
            let (id, origin) = (object.id.clone(), Some(object.origin.clone()));
            Planned { id, action, words: change.clone(), origin, release }
        }));
        let status = &mut self.passed.status;
        status.changes.extend(change.map(|change| format!("{}: {change}", object.id)));
        let (before, since) =
            self.owned.get(&object.id).map_or((Presence::Ahead, None), |it| (it.presence, it.since.clone()));
        let (version, copy) = (object.version.clone(), object.role == Role::ConfigCopy);
        let mut owned = Owned { version, presence: before, since, copy, ..Owned::default() };
        match state {
            Settled::Applied => {
                owned.digest = Some(object.digest.clone());
                owned.presence = Presence::Written;
                owned.since = None;
            }
            Settled::Shared => {
                owned.presence = Presence::Written;
                owned.since = None;
            }
            Settled::Deleting(reason) => {
                status.waiting.insert(object.id.clone(), format!("{reason}; it is made anew when that is done"));
                self.passed.soon.insert(object.id.clone());
            }
            Settled::Waiting { canary, until, reason } => {
                status.waiting.insert(object.id.clone(), reason);
                self.passed.waiting.push(Waiting { canary, until });
            }
            // It may have been written, or not.
            Settled::Unanswered(message) => {
                status.conditions.insert(object.id.clone(), message.clone());
                self.passed.soon.insert(object.id.clone());
                owned.condition = Some(noted(&message));
            }
            Settled::Problem(message) => {
                status.conditions.insert(object.id.clone(), message.clone());
                if let Role::Target { canary, .. } = &object.role {
                    self.targets.insert(canary.to_string(), TargetResult::Invalid { message: message.clone() });
                }
                owned.condition = Some(noted(&message));
                if before == Presence::Ahead {
                    owned.presence = Presence::Never;
                }
            }
        }
        if let Some((canary, result)) = target {
            self.targets.insert(canary.to_string(), result);
        }
        self.owned.insert(object.id.clone(), owned);
    }
}

/// A condition as the inventory keeps it: API servers repeat whole values in their words.
pub(in crate::sync) fn noted(message: &str) -> String {
    /// In characters; enough to recognise it.
    const NOTED_MAX: usize = 300;
    told_within(message, NOTED_MAX)
}
