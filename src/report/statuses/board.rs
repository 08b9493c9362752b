//! What became of a commit or a revision, for whoever asks over HTTP: `GET /api/v1/revisions/<commit or digest>`.

use std::collections::BTreeMap;

use serde::Serialize;

use super::ledger::Ledger;
use super::target::WatchedTarget;
use super::touched::What;
use super::words::WITHDRAWN;
use crate::api::{CommitResult, ObjectState, SourceStatus};
use crate::forge::CommitState;
use crate::model::NamespacedName;
use crate::release::OutcomeKind;

/// Shortest beginning of a commit or digest that is taken for it.
const PREFIX_MIN: usize = 7;

/// Everything that is known, as it was a moment ago.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Board {
    tip: Option<String>,
    applied: Option<String>,
    rows: Vec<RevisionTarget>,
    /// Why the forge is not told.
    trouble: Option<String>,
    /// What of the newest commit that was worked through was not applied, in words.
    partly: Option<String>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Revision {
    /// What was asked for.
    pub revision: String,
    /// All its targets together: the worst of theirs, and open as long as one is.
    pub state: &'static str,
    /// Nothing else will be said of it.
    #[serde(rename = "final")]
    pub is_final: bool,
    /// The newest commit that was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tip: Option<String>,
    /// The newest commit that was worked through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub applied: Option<String>,
    /// What of it is not applied, where no target tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Why the forge does not know it yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forge_trouble: Option<String>,
    /// The targets that it touches.
    pub targets: Vec<RevisionTarget>,
}

/// One target of a commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RevisionTarget {
    /// `<namespace>/<canary>`.
    pub canary: String,
    /// The commit; none where a revision did not come from Git.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// What should run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// `pending`, `running`, `success`, `failure`, `error` or `cancelled`.
    pub state: &'static str,
    /// In words.
    pub description: String,
    /// Nothing else will be said of it.
    #[serde(rename = "final")]
    pub is_final: bool,
}

impl Board {
    pub(super) fn new(
        ledger: &Ledger,
        targets: &BTreeMap<NamespacedName, WatchedTarget>,
        source: &SourceStatus,
        trouble: Option<String>,
    ) -> Self {
        let mut rows: Vec<RevisionTarget> = ledger
            .entries
            .iter()
            .map(|entry| RevisionTarget {
                canary: entry.canary.to_string(),
                commit: Some(entry.commit.to_string()),
                digest: match &entry.what {
                    What::New { digest } => Some(digest.to_string()),
                    What::Same | What::Removed | What::Unreadable { .. } => None,
                },
                state: entry.said.state.as_str(),
                description: entry.said.words.clone(),
                is_final: entry.said.is_final,
            })
            .collect();
        for (canary, target) in targets {
            rows.extend(past(canary, target));
        }
        let at = |commit: &Option<crate::api::CommitAt>| commit.as_ref().map(|it| it.commit.clone());
        let (tip, applied) = (at(&source.seen), at(&source.applied));
        let partly = applied.as_deref().and_then(|applied| partly(source, applied));
        Self { tip, applied, rows, trouble, partly }
    }

    /// The answer for a commit or a digest, or the beginning of one; `None` if nothing is known of it.
    pub fn find(&self, revision: &str) -> Option<Revision> {
        let wanted = revision.trim().to_ascii_lowercase();
        let hex = wanted.strip_prefix("v1:").unwrap_or(&wanted);
        if hex.len() < PREFIX_MIN || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let is_digest = |digest: &String| digest.strip_prefix("v1:").is_some_and(|digest| digest.starts_with(hex));
        let is_commit = |commit: &String| commit.starts_with(hex) && !wanted.starts_with("v1:");
        let mut targets: Vec<RevisionTarget> = Vec::new();
        for row in &self.rows {
            let fits = row.commit.as_ref().is_some_and(is_commit) || row.digest.as_ref().is_some_and(is_digest);
            // What is followed comes before what is remembered.
            let known = targets.iter().any(|it| it.canary == row.canary && it.commit == row.commit);
            if fits && !known {
                targets.push(row.clone());
            }
        }
        let at_tip = self.applied.as_ref().is_some_and(is_commit);
        if targets.is_empty() && !at_tip {
            return None;
        }
        // Of a commit without a target nothing else tells that some of it was refused.
        let partly = self.partly.as_ref().filter(|_| targets.is_empty());
        let alone = if partly.is_some() { CommitState::Error } else { CommitState::Success };
        let worst = ["failure", "error", "running", "pending", "cancelled", "success"];
        let open = targets.iter().any(|it| it.state == "running" || it.state == "pending");
        let state = worst.into_iter().find(|state| targets.iter().any(|it| it.state == *state));
        Some(Revision {
            revision: revision.to_owned(),
            state: state.unwrap_or(alone.as_str()),
            description: partly.cloned(),
            is_final: partly.is_none() && !open && targets.iter().all(|it| it.is_final),
            tip: self.tip.clone(),
            applied: self.applied.clone(),
            forge_trouble: self.trouble.clone(),
            targets,
        })
    }
}

/// What of a commit was not applied, in words.
fn partly(source: &SourceStatus, commit: &str) -> Option<String> {
    let record = source.commits.iter().rev().find(|record| record.commit.as_str() == commit)?;
    if record.result == CommitResult::Applied {
        return None;
    }
    let refused = source.objects.iter().filter(|object| object.state == ObjectState::Refused);
    let first =
        refused.map(|object| &object.message).chain(source.problems.iter().map(|note| &note.message)).next();
    Some(match first {
        Some(first) => format!("applied in part: {first}"),
        None => "applied in part".to_owned(),
    })
}

/// What a Canary itself remembers: for commits that are not followed any more.
fn past(canary: &NamespacedName, target: &WatchedTarget) -> Vec<RevisionTarget> {
    let row = |state: CommitState, commit: Option<String>, digest: String, description: String| RevisionTarget {
        canary: canary.to_string(),
        commit,
        digest: Some(digest),
        state: state.as_str(),
        description,
        is_final: !state.is_open(),
    };
    let mut rows = Vec::new();
    if let Some(running) = &target.running {
        let state = if running.failing { CommitState::Failure } else { CommitState::Running };
        let commit = running.commit.as_ref().map(ToString::to_string);
        rows.push(RevisionTarget {
            is_final: false,
            ..row(state, commit, running.digest.to_string(), running.words.clone())
        });
    }
    if let Some((digest, commit)) = &target.promoted {
        let (commit, words) =
            (commit.as_ref().map(ToString::to_string), "this revision is what serves".to_owned());
        rows.push(row(CommitState::Success, commit, digest.to_string(), words));
    }
    for end in target.ends.iter().rev() {
        let (state, words) = match end.kind {
            OutcomeKind::Initialized | OutcomeKind::Succeeded => {
                (CommitState::Success, format!("released in {}", end.release))
            }
            OutcomeKind::Failed => {
                (CommitState::Failure, format!("failed: {}", end.cause.as_deref().unwrap_or("the release failed")))
            }
            OutcomeKind::Superseded => (CommitState::Cancelled, "superseded before it was promoted".to_owned()),
            OutcomeKind::Withdrawn => (CommitState::Cancelled, WITHDRAWN.to_owned()),
        };
        rows.push(row(state, end.commit.as_ref().map(ToString::to_string), end.digest.to_string(), words));
    }
    rows
}
