//! What remains of a release after its end.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::{ReleaseId, Revision};

use super::attempt::{Cause, CheckResult};

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
    /// The last value of every check.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<CheckResult>,
    /// It began although it was held: what it would have waited for, and who asked not to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overrode: Option<String>,
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
    /// Replaced by a newer revision before it was promoted.
    Superseded,
    /// Not wanted any more before it was promoted: what primary runs is, or the Canary is being deleted.
    Withdrawn,
}

/// Post-rollout hooks still to be answered; the release is over whatever they say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PostRollout {
    /// The release.
    pub release: ReleaseId,
    /// How it ended.
    pub kind: OutcomeKind,
    /// When it ended; the time that answers may take counts from here.
    pub since: Timestamp,
}
