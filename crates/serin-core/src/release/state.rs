//! The state of a target's releases: an enum moved by value, persisted as JSON in `status.serin.state` ([`super::wire`]).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::{Cookie, Digest, Quarantined, ReleaseId, Remembered, Revision, RollbackNote};

use super::attempt::Release;
use super::outcome::{Outcome, OutcomeKind, PostRollout};
use super::report::{Event, WaitingOn};

/// Everything that survives a restart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Where the target is.
    pub phase: Phase,
    /// Digest of the target that was last taken up (Flagger's `lastAppliedSpec`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_applied: Option<Digest>,
    /// `metadata.generation` of the target when that digest was last seen on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// What primary runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promoted: Option<Promoted>,
    /// Revisions that failed and are not released again by themselves; at most [`State::QUARANTINE_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quarantine: Vec<Quarantined>,
    /// Releases started so far; the next id's number minus one.
    #[serde(default)]
    pub releases: u64,
    /// A revision that `sync` may write to the target now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admitted: Option<Revision>,
    /// Revisions that were replaced before they were taken up and have had their end; those that the target still names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaced: Vec<Revision>,
    /// The last events, with a running number, so that they can be emitted again after a crash.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub journal: Vec<JournalEntry>,
    /// Number of the next journal entry.
    #[serde(default)]
    pub next_seq: u64,
    /// Terminal outcomes not yet seen in Git; at most [`State::OUTBOX_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outbox: Vec<Outcome>,
    /// Outcomes that did not fit into the outbox.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub outbox_merged: u64,
    /// The outcome of the last finished release, for status, record and CLI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_outcome: Option<Box<Outcome>>,
    /// Post-rollout hooks of the last release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub post_rollout: Option<PostRollout>,
    /// Somebody asked for the release of a revision that was held, before it has begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unheld: Option<Unheld>,
    /// The last answered `serin.dev/request`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handled_request: Option<String>,
    /// What has to be mended outside, as people were told last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub obstacle: Option<String>,
    /// Since when the target has not been there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_since: Option<Timestamp>,
    /// What keeps state from reaching Git, as people were told last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unrecorded: Option<String>,
    /// The newest release that the record in Git was seen to have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded: Option<ReleaseId>,
    /// What became of the watched branch after the last failed release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback: Option<RollbackNote>,
    /// The first revision was taken from the record in Git, because the cluster knew nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebuilt: Option<Rebuilt>,
    /// What the last step waited on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_on: Option<WaitingOn>,
    /// The minimum that the target's autoscaler is kept at while its pods wait for what a release is to send them, and the one to
    /// be given back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_minimum: Option<HeldMinimum>,
    /// How far the release under way is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<StepProgress>,
    /// The cookie that users were last given to stay on the candidate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie: Option<Cookie>,
}

/// A revision that is released although it was held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unheld {
    /// Which.
    pub digest: Digest,
    /// What it would have waited for, and who asked not to, in words.
    pub why: String,
}

/// An autoscaler's minimum that was raised for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldMinimum {
    /// What it was, and will be.
    pub before: i32,
    /// What it is.
    pub at: i32,
    /// What it is until that has arrived, if it was raised before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<i32>,
}

impl HeldMinimum {
    /// Whether a minimum that is found may be the engine's doing, or what it began with.
    pub(super) fn is_ours(&self, found: i32) -> bool {
        found == self.at || found == self.before || self.from == Some(found)
    }
}

/// How far a release is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepProgress {
    /// The step that it is at, from 1.
    pub step: u32,
    /// How many there are.
    pub of: u32,
    /// Flagger's `status.iterations`; 0 where weights are counted.
    #[serde(default, skip_serializing_if = "is_none")]
    pub iterations: u32,
}

impl State {
    /// The state of a target at first sight.
    pub fn new(now: Timestamp) -> Self {
        Self {
            phase: Phase::Initializing {
                since: now,
                ready: None,
                routed: None,
                providers: false,
                remembered: None,
            },
            last_applied: None,
            generation: None,
            promoted: None,
            quarantine: Vec::new(),
            releases: 0,
            admitted: None,
            replaced: Vec::new(),
            journal: Vec::new(),
            next_seq: 0,
            outbox: Vec::new(),
            outbox_merged: 0,
            last_outcome: None,
            post_rollout: None,
            unheld: None,
            handled_request: None,
            obstacle: None,
            missing_since: None,
            unrecorded: None,
            recorded: None,
            rollback: None,
            rebuilt: None,
            waiting_on: None,
            held_minimum: None,
            progress: None,
            cookie: None,
        }
    }

    /// Adds news that no step has: what keeps steps from being taken.
    pub fn announce(&mut self, event: Event, now: Timestamp) {
        self.journal.push(JournalEntry { seq: self.next_seq, at: now, release: self.releases, event });
        self.next_seq += 1;
        let surplus = self.journal.len().saturating_sub(Self::JOURNAL_MAX);
        self.journal.drain(..surplus);
    }

    /// Kept quarantined revisions; older ones could only return through a very old commit.
    pub const QUARANTINE_MAX: usize = 10;
    /// Kept terminal outcomes; more are merged into a count (DESIGN: outbox).
    pub const OUTBOX_MAX: usize = 20;
    /// Kept journal entries: more than one release's worth of distinct events between two projections.
    pub const JOURNAL_MAX: usize = 30;
}

/// Where a target is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "camelCase")]
pub enum Phase {
    /// First sight: primary, services and route are being made.
    Initializing {
        /// Since when.
        since: Timestamp,
        /// When primary was first seen ready; its services are made from here on, the route a little later.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ready: Option<Timestamp>,
        /// When the route was first seen to lead to primary; the target drains from here.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        routed: Option<Timestamp>,
        /// The metric providers were asked and have answered.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        providers: bool,
        /// The record in Git knows the target: it begins with what was promoted last and with nothing else.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        remembered: Option<Remembered>,
    },
    /// Primary serves, nothing is being released.
    Idle {
        /// How it came to be idle.
        last: OutcomeKind,
        /// Since when.
        since: Timestamp,
    },
    /// A release is under way.
    Releasing(Box<Release>),
    /// The Canary is being deleted: the target takes over from primary.
    HandingBack(HandBack),
}

/// How far the hand-back of a deleted Canary is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HandBack {
    /// Since when.
    pub since: Timestamp,
    /// What was served without the canary last: when the target may be changed counts from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rested: Option<Timestamp>,
    /// Since when the target has been ready with the promoted revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<Timestamp>,
    /// Since when all requests have been led to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub led: Option<Timestamp>,
    /// Since when service and route have been its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<Timestamp>,
}

/// What primary runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Promoted {
    /// The revision.
    pub revision: Revision,
    /// Since when.
    pub at: Timestamp,
}

/// What a rebuilt cluster started with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rebuilt {
    /// The revision that the record named.
    pub revision: Revision,
    /// Which record, and how far it can be trusted, in words.
    pub source: String,
}

/// One event of the past.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JournalEntry {
    /// Running number within this target.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// Number of the release that was the newest one then: what came again in another one is another event.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub release: u64,
    /// What.
    #[serde(flatten)]
    pub event: Event,
}

fn is_none(count: &u32) -> bool {
    *count == 0
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}
