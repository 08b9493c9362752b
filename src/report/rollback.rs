//! Whether a failed release is rolled back in Git, and with which commit. Pure.
//!
//! Restored is the target's `spec.template` in the file at the tip of the watched branch, by splicing the promoted
//! manifest's bytes; its digest must then be the promoted one. At most one such commit is made per target and digest.

use std::fmt::Write as _;

use crate::git::{CommitInfo, Snapshot};
use crate::manifest::{Manifest, ParseCache, Parsed};
use crate::manifest::{ManifestError, SpliceError, describe_change, restore, template_digest};
use crate::model::{CommitId, NamespacedName, ObjectRef, Revision};
use crate::release::{CheckResult, Outcome};

use super::record::{ManifestFile, named, template_in};

/// What a target's template is in a workload.
const TEMPLATE: [&str; 2] = ["spec", "template"];
/// Longest cause in a trailer, in characters: some hosts cut long lines.
const CAUSE_MAX: usize = 300;

/// Trailer: which Canary was rolled back.
pub const TRAILER_ROLLBACK: &str = "Serin-Rollback";
/// Trailer: the failed revision.
pub const TRAILER_FROM: &str = "Serin-From";
/// Trailer: the restored revision.
pub const TRAILER_TO: &str = "Serin-To";
/// Trailer: why, in one line.
pub const TRAILER_CAUSE: &str = "Serin-Cause";
/// Trailer: which cluster.
pub const TRAILER_CLUSTER: &str = "Serin-Cluster";

/// What is looked at.
#[derive(Debug)]
pub struct Case<'a> {
    /// `cluster.name`.
    pub cluster: &'a str,
    /// The Canary.
    pub canary: &'a NamespacedName,
    /// The workload.
    pub target: &'a ObjectRef,
    /// The failed release.
    pub failed: &'a Outcome,
    /// What primary runs now.
    pub promoted: Option<&'a Revision>,
    /// Its manifest, if it is still known.
    pub manifest: Option<&'a ManifestFile>,
    /// Another release of the same digest came after this one.
    pub released_again: bool,
    /// The tip of the watched branch.
    pub tip: &'a Snapshot,
    /// Commits of the watched branch, newest first, as far back as the failed one or a limit.
    pub history: &'a [CommitInfo],
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Make this commit on the tip.
    Commit(RollbackPlan),
    /// It was made.
    Done(CommitId),
    /// There is no rollback commit.
    None(NoRollback),
}

/// A rollback commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RollbackPlan {
    /// The file.
    pub path: String,
    /// Its new content.
    pub content: String,
    /// The message, trailers included.
    pub message: String,
}

/// Why there is no rollback commit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoRollback {
    /// A change made in the cluster.
    #[error("the failed revision did not come from Git")]
    CauseNotInGit,
    /// Nothing to go back to.
    #[error("nothing was promoted before")]
    NothingPromoted,
    /// The last good template was never in Git, or its commit is gone.
    #[error("the manifest of the promoted revision {0} is not in Git")]
    PromotedNotInGit(String),
    /// Somebody was faster.
    #[error("the branch has moved on: the target is at {tip} there, not at the failed {failed}")]
    MovedOn {
        /// Digest at the tip, or what is there instead.
        tip: String,
        /// The failed digest.
        failed: String,
    },
    /// Nothing at the tip names the target.
    #[error("the branch has moved on: the target is no longer there")]
    TargetGone,
    /// It was rolled back before and pushed again.
    #[error("this revision was rolled back before, in {0}, and pushed again; `serin retry` releases it again")]
    RolledBackBefore(CommitId),
    /// It was released again after this release.
    #[error("this revision was released again since")]
    ReleasedAgain,
    /// The file at the tip cannot be read.
    #[error("the manifest at the tip cannot be read: {0}")]
    Unreadable(String),
    /// The file cannot be edited safely.
    #[error(transparent)]
    NotSplicable(#[from] SpliceError),
    /// The edit would not give what was analysed.
    #[error("the restored manifest would have the digest {found}, not the promoted {wanted}")]
    OtherDigest {
        /// What the edit gives.
        found: String,
        /// What it should give.
        wanted: String,
    },
}

/// Decides about one failed release. `parsed` keeps files from being parsed at every decision.
pub fn decide(case: &Case<'_>, parsed: &mut ParseCache) -> Decision {
    match decided(case, parsed) {
        Ok(decision) => decision,
        Err(none) => Decision::None(none),
    }
}

fn decided(case: &Case<'_>, parsed: &mut ParseCache) -> Result<Decision, NoRollback> {
    let failed = &case.failed.revision.digest;
    if case.failed.revision.commit.is_none() {
        return Err(NoRollback::CauseNotInGit);
    }
    if case.released_again {
        return Err(NoRollback::ReleasedAgain);
    }
    let found = find(case.tip, case.target, parsed)?;
    let at_tip = template_digest(&found.template);
    if let Some(earlier) = case.history.iter().find(|commit| is_rollback(commit, case)) {
        // Ours, unless the failed manifest is there again: then somebody pushed it once more.
        if at_tip != *failed {
            return Ok(Decision::Done(earlier.id.clone()));
        }
        return Err(NoRollback::RolledBackBefore(earlier.id.clone()));
    }
    if at_tip != *failed {
        return Err(NoRollback::MovedOn { tip: at_tip.short().to_owned(), failed: failed.short().to_owned() });
    }
    let promoted = case.promoted.ok_or(NoRollback::NothingPromoted)?;
    let good = case.manifest.ok_or_else(|| NoRollback::PromotedNotInGit(promoted.digest.short().to_owned()))?;
    let content = restored(&found, case.target, &good.text)?;
    let template = template_in(&content, case.target);
    let result = template.as_ref().map(template_digest);
    if result.as_ref() != Some(&promoted.digest) {
        let found = result.map_or_else(|| "none".to_owned(), |digest| digest.to_string());
        return Err(NoRollback::OtherDigest { found, wanted: promoted.digest.to_string() });
    }
    let changes = template.map(|template| changes(&found.template, &template)).unwrap_or_default();
    let message = message(case, promoted, &changes);
    Ok(Decision::Commit(RollbackPlan { path: found.path, content, message }))
}

struct Found {
    path: String,
    text: std::sync::Arc<str>,
    object: ObjectRef,
    template: serde_json::Value,
}

fn find(tip: &Snapshot, target: &ObjectRef, parsed: &mut ParseCache) -> Result<Found, NoRollback> {
    let mut unreadable = None;
    for file in &tip.files {
        let parsed = parsed.parse(&file.path, &file.oid, &file.text);
        let Parsed { manifests, faults } = parsed.as_ref();
        if let Some(object) = named(manifests.iter(), target) {
            let template = template_of(manifests, &object);
            return Ok(Found { path: file.path.clone(), text: file.text.clone(), object, template });
        }
        let fault = faults.first().filter(|_| unreadable.is_none() && mentions(&file.text, target));
        unreadable = unreadable.or(fault.map(one_line));
    }
    Err(match unreadable {
        Some(reason) => NoRollback::Unreadable(reason),
        None => NoRollback::TargetGone,
    })
}

fn template_of(manifests: &[Manifest], object: &ObjectRef) -> serde_json::Value {
    let manifest = manifests.iter().find(|manifest| manifest.object_ref() == *object);
    manifest.and_then(|manifest| manifest.object.pointer("/spec/template")).cloned().unwrap_or_default()
}

fn mentions(text: &str, target: &ObjectRef) -> bool {
    text.contains(&target.kind) && text.contains(&target.name)
}

fn one_line(error: &ManifestError) -> String {
    error.to_string()
}

/// The promoted file may name the object with or without its namespace, whatever the tip does.
fn restored(found: &Found, target: &ObjectRef, good: &str) -> Result<String, NoRollback> {
    let written = super::record::as_written(good, target);
    if let Some(written) = written.filter(|written| *written != found.object) {
        let reason = format!("it is {written} in the promoted file and {} in the current one", found.object);
        let path = TEMPLATE.join(".");
        return Err(SpliceError::Entangled { object: target.to_string(), path, reason }.into());
    }
    Ok(restore(&found.text, &found.object, &TEMPLATE, good)?)
}

fn is_rollback(commit: &CommitInfo, case: &Case<'_>) -> bool {
    let digest = |text: &str| text.parse::<Revision>().ok().map(|revision| revision.digest);
    commit.trailer(TRAILER_ROLLBACK) == Some(case.canary.to_string().as_str())
        && commit.trailer(TRAILER_CLUSTER) == Some(case.cluster)
        && commit.trailer(TRAILER_FROM).and_then(digest).as_ref() == Some(&case.failed.revision.digest)
}

fn changes(from: &serde_json::Value, to: &serde_json::Value) -> Vec<String> {
    let object = |template: &serde_json::Value| serde_json::json!({"spec": {"template": template}});
    describe_change("", &object(from), &object(to))
}

fn message(case: &Case<'_>, promoted: &Revision, changes: &[String]) -> String {
    let Case { cluster, canary, target: _, failed, .. } = case;
    let cause = failed.cause.as_ref().map_or("the release failed", |cause| cause.message.as_str());
    let mut out = format!(
        "Roll back {canary} to {}\n\nRelease {} failed: {cause}\n",
        promoted.digest.short(),
        failed.release
    );
    // Writing to a string cannot fail.
    for change in changes {
        write!(out, "\n- {change}").unwrap_or_default();
    }
    if !failed.checks.is_empty() {
        out.push_str("\n\nChecks:\n");
        for CheckResult { name, verdict, value, limit } in &failed.checks {
            let value = value.map_or_else(|| "no value".to_owned(), |value| format!("{value:.2}"));
            write!(out, "\n- {name}: {value} (limit {limit}): {}", verdict.as_str()).unwrap_or_default();
        }
    }
    let cause: String = cause.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(CAUSE_MAX).collect();
    write!(
        out,
        "\n\n{TRAILER_ROLLBACK}: {canary}\n{TRAILER_FROM}: {}\n{TRAILER_TO}: {promoted}\n{TRAILER_CAUSE}: {cause}\n\
         {TRAILER_CLUSTER}: {cluster}\n",
        failed.revision
    )
    .unwrap_or_default();
    out
}

#[cfg(test)]
#[path = "rollback_tests.rs"]
mod tests;
