//! What is still to be told of which commit. Pure; what has to survive a restart is text.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::judge::{Facts, Said, judge};
use super::target::WatchedTarget;
use super::touched::{Touch, What};
use crate::api::{SourceStatus, SyncedCommit, TargetResult};
use crate::forge::CommitState;
use crate::model::{CommitId, NamespacedName, after};

/// Shape of the stored text.
const VERSION: u32 = 1;
/// Commits and targets that are followed: what is not final, and the newest of every target. 250 bytes each, of the megabyte that
/// an object may hold.
pub(super) const ENTRIES_MAX: usize = 2_000;
/// Time between two statuses of one commit and target that only tell how far it is.
pub(super) const GAP: Duration = Duration::from_secs(15);
/// Statuses of one commit and target that tell how far it is. GitHub takes a thousand of one commit and context, and then none.
pub(super) const PROGRESS_MAX: u32 = 80;
/// All statuses of one commit and target: a tenth of what GitHub takes.
pub(super) const POSTS_MAX: u32 = 100;

/// One commit and one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) commit: CommitId,
    pub(super) canary: NamespacedName,
    pub(super) what: What,
    /// When it was seen first.
    pub(super) seen: Timestamp,
    /// Its place among all: later commits have greater ones.
    pub(super) order: u64,
    /// What there is to say of it.
    pub(super) said: Said,
    /// What the forge was told last; `None`: nothing, or nobody knows.
    pub(super) told: Option<Told>,
    /// How often it was told.
    pub(super) posts: u32,
}

/// What the forge was told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Told {
    pub(super) state: CommitState,
    pub(super) words: String,
    pub(super) at: Timestamp,
}

/// All of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ledger {
    /// Up to where the branch is known.
    pub(super) tip: Option<CommitId>,
    /// Up to which order sync has worked through.
    pub(super) applied: u64,
    next: u64,
    pub(super) entries: Vec<Entry>,
}

/// The stored text cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum LedgerError {
    #[error("it has version {0}, this build knows {VERSION}: it was written by a newer serin")]
    Newer(u32),
    #[error("it cannot be read")]
    Json(#[from] serde_json::Error),
}

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tip: Option<CommitId>,
    applied: u64,
    next: u64,
    entries: Vec<StoredEntry>,
}

/// What is open is judged again after a restart, and what the forge was told of it is asked there: so that progress costs no
/// write in the cluster.
#[derive(Serialize, Deserialize)]
struct StoredEntry {
    commit: CommitId,
    canary: String,
    #[serde(flatten)]
    what: What,
    seen: Timestamp,
    order: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    said: Option<Said>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    told: Option<Told>,
}

impl Entry {
    /// Whether nothing is left to be told.
    fn is_told(&self) -> bool {
        let said = &self.said;
        self.posts >= POSTS_MAX
            || self.told.as_ref().is_some_and(|told| told.state == said.state && told.words == said.words)
    }

    /// When it is to be told; `None`: not at all, as things are.
    pub(super) fn due(&self, shows_progress: bool, scarce: bool) -> Option<Timestamp> {
        if self.is_told() {
            return None;
        }
        let Some(told) = &self.told else { return Some(Timestamp::MIN) };
        let progress = told.state.is_open() && self.said.state.is_open();
        if !progress {
            // A final word, another one, or a final one that was taken back.
            return (told.state != self.said.state || shows_progress).then_some(Timestamp::MIN);
        }
        let moved = told.state != self.said.state;
        let wanted = (shows_progress && !scarce) || moved;
        (wanted && self.posts < PROGRESS_MAX).then(|| after(told.at, GAP))
    }
}

impl Ledger {
    /// Reads the text.
    pub(super) fn parse(text: &str) -> Result<Self, LedgerError> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let Version { version } = serde_json::from_str(text)?;
        if version > VERSION {
            return Err(LedgerError::Newer(version));
        }
        let Stored { version: _, tip, applied, next, entries } = serde_json::from_str(text)?;
        let entry = |stored: StoredEntry| {
            let StoredEntry { commit, canary, what, seen, order, said, told } = stored;
            let (namespace, name) = canary.split_once('/')?;
            let (canary, said) = (NamespacedName::new(namespace, name), said.unwrap_or_else(Said::seen));
            Some(Entry { commit, canary, what, seen, order, said, told, posts: 0 })
        };
        Ok(Self { tip, applied, next, entries: entries.into_iter().filter_map(entry).collect() })
    }

    /// The text.
    pub(super) fn text(&self) -> Result<String, serde_json::Error> {
        let entry = |entry: &Entry| StoredEntry {
            commit: entry.commit.clone(),
            canary: entry.canary.to_string(),
            what: entry.what.clone(),
            seen: entry.seen,
            order: entry.order,
            said: Some(&entry.said).filter(|said| !said.state.is_open()).cloned(),
            told: entry.told.as_ref().filter(|told| !told.state.is_open()).cloned(),
        };
        let entries = self.entries.iter().map(entry).collect();
        let Self { tip, applied, next, .. } = self;
        serde_json::to_string(&Stored {
            version: VERSION,
            tip: tip.clone(),
            applied: *applied,
            next: *next,
            entries,
        })
    }

    /// Takes in what the branch went through up to `tip`.
    pub(super) fn fold(&mut self, tip: CommitId, touches: Vec<Touch>, now: Timestamp) {
        let mut last: Option<CommitId> = None;
        for Touch { commit, canary, what } in touches {
            if last.as_ref() != Some(&commit) {
                self.next += 1;
                last = Some(commit.clone());
            }
            // A branch that went back and forth comes by the same commit again.
            self.entries.retain(|entry| entry.commit != commit || entry.canary != canary);
            let (said, order) = (Said::seen(), self.next);
            self.entries.push(Entry { commit, canary, what, seen: now, order, said, told: None, posts: 0 });
        }
        self.next += 1;
        self.tip = Some(tip);
    }

    /// Sync has worked through the tip.
    pub(super) fn applied(&mut self) {
        self.applied = self.next;
    }

    /// Takes in what sync made of commits. Only that knows which revision a commit is for a target: it may read copies of configs
    /// that are in other files, or be what an overlay makes.
    pub(super) fn learn(&mut self, source: &SourceStatus, now: Timestamp) {
        for SyncedCommit { commit, targets, result: _ } in &source.commits {
            for (canary, result) in targets {
                let (TargetResult::Written { revision } | TargetResult::Announced { revision }) = result else {
                    continue;
                };
                let Some((namespace, name)) = canary.split_once('/') else { continue };
                // It came with an earlier commit.
                if revision.commit.as_ref() != Some(commit) {
                    continue;
                }
                let (canary, what) =
                    (NamespacedName::new(namespace, name), What::New { digest: revision.digest.clone() });
                let mut entries = self.entries.iter_mut();
                match entries.find(|entry| entry.commit == *commit && entry.canary == canary) {
                    Some(entry) if entry.what == what => {}
                    Some(entry) => (entry.what, entry.said) = (what, Said::seen()),
                    None if self.tip.as_ref() == Some(commit) => {
                        let (commit, said, order) = (commit.clone(), Said::seen(), self.next);
                        self.entries.push(Entry {
                            commit,
                            canary,
                            what,
                            seen: now,
                            order,
                            said,
                            told: None,
                            posts: 0,
                        });
                    }
                    None => {}
                }
            }
        }
    }

    /// Judges all of them.
    pub(super) fn judge<'t>(
        &mut self,
        target: impl Fn(&NamespacedName) -> Option<&'t WatchedTarget>,
        source: &SourceStatus,
        now: Timestamp,
    ) {
        let newest = self.newest();
        let entries = std::mem::take(&mut self.entries);
        let judged: Vec<Option<Said>> = entries
            .iter()
            .map(|entry| {
                if entry.said.is_final {
                    return None;
                }
                let later = newest.get(&entry.canary).and_then(|at| entries.get(*at));
                let later = later.filter(|later| later.order > entry.order && wants_else(entry, later));
                let facts = Facts {
                    target: target(&entry.canary),
                    source,
                    applied: entry.order <= self.applied,
                    later: later.map(|later| (later, later.order <= self.applied)),
                    now,
                };
                Some(judge(entry, &facts))
            })
            .collect();
        self.entries = entries;
        for (entry, said) in self.entries.iter_mut().zip(judged) {
            if let Some(said) = said {
                entry.said = said;
            }
        }
    }

    /// The last entry of every target that says what should run there.
    fn newest(&self) -> BTreeMap<NamespacedName, usize> {
        let mut newest: BTreeMap<NamespacedName, usize> = BTreeMap::new();
        for (at, entry) in self.entries.iter().enumerate() {
            let decides = matches!(entry.what, What::New { .. } | What::Removed);
            let order = |at: &usize| self.entries.get(*at).map(|entry| entry.order);
            if decides && newest.get(&entry.canary).is_none_or(|known| order(known) < Some(entry.order)) {
                newest.insert(entry.canary.clone(), at);
            }
        }
        newest
    }

    /// Forgets what is told for good and no target's newest, and what is too much.
    pub(super) fn trim(&mut self, is_told_to_somebody: bool) {
        let newest: Vec<(NamespacedName, u64)> = self
            .newest()
            .into_iter()
            .filter_map(|(canary, at)| Some((canary, self.entries.get(at)?.order)))
            .collect();
        let is_newest =
            |entry: &Entry| newest.iter().any(|(canary, order)| *canary == entry.canary && *order == entry.order);
        if is_told_to_somebody {
            self.entries.retain(|entry| !(entry.said.is_final && entry.is_told()) || is_newest(entry));
        }
        let surplus = self.entries.len().saturating_sub(ENTRIES_MAX);
        if surplus > 0 {
            // Final ones first, then the oldest.
            self.entries.sort_by_key(|entry| (!entry.said.is_final, entry.order));
            self.entries.drain(..surplus);
            self.entries.sort_by_key(|entry| entry.order);
        }
    }

    /// What is to be told now, final words first; and when the next is due.
    pub(super) fn due(
        &self,
        now: Timestamp,
        shows_progress: bool,
        scarce: bool,
    ) -> (Vec<usize>, Option<Timestamp>) {
        let all = self.entries.iter().enumerate();
        let due = all.filter_map(|(at, entry)| Some((entry.due(shows_progress, scarce)?, at)));
        let (mut ready, mut next) = (Vec::new(), None::<Timestamp>);
        for (when, at) in due {
            match when <= now {
                true => ready.push(at),
                false => next = Some(next.map_or(when, |next| next.min(when))),
            }
        }
        let order = |at: &usize| self.entries.get(*at).map(|entry| (entry.said.state.is_open(), entry.order));
        ready.sort_by_key(order);
        (ready, next)
    }
}

/// Whether a later commit wants something else of the target.
fn wants_else(entry: &Entry, later: &Entry) -> bool {
    match (&entry.what, &later.what) {
        (What::New { digest }, What::New { digest: other }) => digest != other,
        (What::New { .. }, What::Removed) => true,
        (What::Same | What::Removed | What::Unreadable { .. }, _)
        | (What::New { .. }, What::Same | What::Unreadable { .. }) => false,
    }
}
