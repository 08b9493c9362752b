//! The record's files as YAML. Wire types, not domain types: fields may be added, none changes its meaning.

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{TargetReport, VERSION};
use crate::manifest::Pin;
use crate::model::{CommitId, NamespacedName, ObjectRef, Quarantined, ReleaseId, Revision};
use crate::release::{CheckResult, Outcome, OutcomeKind};

/// `record.yaml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Header {
    /// Version of the format.
    pub version: u32,
    /// The cluster's name.
    pub cluster: String,
    /// UID of its namespace kube-system.
    pub writer: String,
}

/// `<namespace>/<name>.yaml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetRecord {
    /// The Canary.
    pub canary: NamespacedName,
    /// The workload.
    pub target: ObjectRef,
    /// Flagger's phase string.
    pub phase: String,
    /// Since when.
    pub since: Timestamp,
    /// The release under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<ReleaseId>,
    /// What it releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<Revision>,
    /// Percent of traffic that goes to the canary.
    pub weight: u8,
    /// `3 of 6`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// What it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_on: Option<String>,
    /// What primary runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promoted: Option<PromotedRecord>,
    /// How it is released.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// The last value of every check.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<CheckResult>,
    /// Why the last release failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// Who approved, as claimed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved_by: Option<String>,
    /// Revisions that are not released by themselves: what failed, and what was refused by hand (release `0-…`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quarantined: Vec<Quarantined>,
    /// Finished releases that no file of the history tells about: there were too many while Git was away.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub untold: u64,
}

impl TargetRecord {
    /// One line: `Progressing a6fb26d2 (f4ae59b), weight 30, step 3 of 5`.
    pub(super) fn words(&self) -> String {
        let Self { phase, revision, weight, step, promoted, cause, .. } = self;
        if let Some(cause) = cause {
            return format!("{phase}: {cause}");
        }
        let weight = if *weight > 0 { format!(", weight {weight}") } else { String::new() };
        match (revision, promoted) {
            (Some(revision), _) => {
                let step = step.as_ref().map(|step| format!(", step {step}")).unwrap_or_default();
                format!("{phase} {}{weight}{step}", revision_words(revision))
            }
            (None, Some(promoted)) => format!("{phase}{weight}, runs {}", revision_words(&promoted.revision)),
            (None, None) => phase.clone(),
        }
    }
}

/// `a6fb26d2 (f4ae59b)`: digest and commit, shortened.
pub(super) fn revision_words(revision: &Revision) -> String {
    let Revision { digest, commit } = revision;
    match commit {
        Some(commit) => format!("{} ({})", digest.short(), commit.short()),
        None => digest.short().to_owned(),
    }
}

/// What primary runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PromotedRecord {
    /// Digest and commit.
    pub revision: Revision,
    /// Its manifest, if it came from Git.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<ManifestPlace>,
}

/// Where a promoted manifest is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ManifestPlace {
    /// On the watched branch.
    pub path: String,
    /// On the status branch.
    pub copy: String,
    /// The copies of configs that the promoted template reads.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pins: Vec<Pin>,
}

/// `history/<namespace>/<name>/….yaml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FinishedRecord {
    /// The Canary.
    pub canary: NamespacedName,
    /// The release.
    pub release: ReleaseId,
    /// How it ended.
    pub outcome: OutcomeKind,
    /// What was released.
    pub revision: Revision,
    /// What primary runs after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promoted: Option<Revision>,
    /// When what was released was committed, as the commit says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub committed: Option<Timestamp>,
    /// When it started.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// The last value of every check.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<CheckResult>,
    /// It began although it was held: what it would have waited for, and who asked not to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overrode: Option<String>,
    /// What became of it on the watched branch, if it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback: Option<RollbackRecord>,
}

/// A rollback commit, or why there is none (yet).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RollbackRecord {
    /// The commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<CommitId>,
    /// Why there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub none: Option<String>,
    /// Why there is none yet: the push was denied, and is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denied: Option<String>,
    /// There is none yet: this pull request would make it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proposed: Option<String>,
}

impl RollbackRecord {
    /// The commit was made.
    pub fn made(commit: &CommitId) -> Self {
        Self { commit: Some(commit.clone()), ..Self::default() }
    }

    /// There is none and there will be none.
    pub fn none(reason: impl Into<String>) -> Self {
        Self { none: Some(reason.into()), ..Self::default() }
    }

    /// The push was denied.
    pub fn denied(reason: impl Into<String>) -> Self {
        Self { denied: Some(reason.into()), ..Self::default() }
    }

    /// A pull request waits to be merged.
    pub fn proposed(url: impl Into<String>) -> Self {
        Self { proposed: Some(url.into()), ..Self::default() }
    }

    /// Whether something is still to come of it.
    pub fn is_open(&self) -> bool {
        self.denied.is_some() || self.proposed.is_some()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

pub(super) fn header(cluster: &str, writer: &str) -> String {
    yaml(&Header { version: VERSION, cluster: cluster.to_owned(), writer: writer.to_owned() })
}

pub(super) fn target(report: &TargetReport, promoted: Option<PromotedRecord>) -> String {
    let TargetReport {
        canary,
        target,
        phase,
        since,
        release,
        revision,
        weight,
        step,
        waiting_on,
        promoted: _,
        policy,
        checks,
        cause,
        approved_by,
        recorded: _,
        rolled_back: _,
        quarantined,
        outbox: _,
        outbox_merged,
    } = report.clone();
    let untold = outbox_merged;
    yaml(&TargetRecord {
        canary,
        target,
        phase,
        since,
        release,
        revision,
        weight,
        step,
        waiting_on,
        promoted,
        policy,
        checks,
        cause,
        approved_by,
        quarantined,
        untold,
    })
}

/// The record of a finished release with another word on its rollback.
pub(super) fn with_rollback(record: FinishedRecord, rollback: RollbackRecord) -> String {
    yaml(&FinishedRecord { rollback: Some(rollback), ..record })
}

pub(super) fn finished(
    canary: &NamespacedName,
    outcome: &Outcome,
    committed: Option<Timestamp>,
    rollback: Option<&RollbackRecord>,
) -> String {
    let Outcome { release, kind, revision, promoted, cause, started, ended, checks, overrode } = outcome.clone();
    yaml(&FinishedRecord {
        canary: canary.clone(),
        release,
        outcome: kind,
        revision,
        promoted,
        committed,
        started,
        ended,
        cause: cause.map(|cause| cause.message),
        checks,
        overrode,
        rollback: rollback.cloned(),
    })
}

/// These types always serialize; should one not, the file says why.
fn yaml(value: &impl Serialize) -> String {
    serde_saphyr::to_string(value).unwrap_or_else(|error| format!("# failed to write: {error}\n"))
}

/// Reads one of these types.
pub(super) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    serde_saphyr::from_slice(bytes).map_err(|error| error.to_string())
}
