//! The state of a target's releases: an enum moved by value, persisted as JSON in `status.serin.state`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::{Digest, ReleaseId, Revision, Weights};

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
    /// The last events, with a running number, so that they can be emitted again after a crash.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub journal: Vec<JournalEntry>,
    /// Number of the next journal entry.
    #[serde(default)]
    pub next_seq: u64,
    /// Terminal outcomes not yet seen in Git; at most [`State::OUTBOX_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outbox: Vec<Outcome>,
    /// The last answered `serin.dev/request`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handled_request: Option<String>,
    /// What the last step waited on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_on: Option<WaitingOn>,
}

impl State {
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
}

/// One attempt to bring the target from one revision to another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Release {
    /// Its id.
    pub id: ReleaseId,
    /// Where to.
    pub revision: Revision,
    /// When it started.
    pub started: Timestamp,
    /// How far it is.
    pub stage: Stage,
    /// Index into [`super::Policy::steps`].
    pub step: u32,
    /// Judgements so far; part of every question's key.
    pub tick: u32,
    /// Failed checks so far, against the threshold.
    pub failed_checks: u32,
    /// Held ticks in a row.
    pub held: u32,
    /// Intended weights; repair may lower the live ones to it, never raise them.
    pub weights: Weights,
    /// When the current weights were first seen on the router: windows start here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights_since: Option<Timestamp>,
    /// When this revision first had traffic; no query window reaches before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_traffic: Option<Timestamp>,
    /// Values of the last judged tick, for status, record and CLI.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<FailedCheck>,
}

/// How far a release is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "camelCase")]
pub enum Stage {
    /// The canary scales up and becomes ready.
    ScalingUp {
        /// Since when; the progress deadline counts from here.
        since: Timestamp,
    },
    /// Steps and checks.
    Analysing,
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

/// A revision that failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Quarantined {
    /// Which.
    pub revision: Revision,
    /// In which release.
    pub release: ReleaseId,
}

/// A terminal outcome on its way to Git.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// The release.
    pub release: ReleaseId,
    /// How it ended.
    pub kind: OutcomeKind,
    /// What was released.
    pub revision: Revision,
    /// What primary runs after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promoted: Option<Revision>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// When it started.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// The checks of the last judged tick.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<FailedCheck>,
}

/// How a release, or the initialization, ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OutcomeKind {
    /// Primary was made from the first revision.
    Initialized,
    /// Promoted.
    Succeeded,
    /// Rolled back.
    Failed,
    /// Replaced by a newer revision.
    Superseded,
}

/// Why a release failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cause {
    /// One sentence with value, limit and unit, for the rollback commit, the record and the status.
    pub message: String,
}

/// A check with its value and limit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailedCheck {
    /// The check's name.
    pub name: String,
    /// `pass`, `fail`, `no data`, `error`.
    pub verdict: String,
    /// The value, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// `≥ 99`, `≤ 500`, `0 to 5`.
    pub limit: String,
}

/// One event of the past.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JournalEntry {
    /// Running number within this target.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// What.
    #[serde(flatten)]
    pub event: Event,
}
