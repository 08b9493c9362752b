//! Whether a failed release is rolled back in Git, and with which commit. Pure.
//!
//! Restored is the target's `spec.template` in the file at the tip of the watched branch, by splicing the promoted
//! manifest's bytes; its digest must then be the promoted one. At most one such commit is made per target and digest: an
//! earlier one is known from the Canary's status, or, should the process have died before that was written, by what it did
//! on the branch. What a commit says about itself decides nothing: anybody can write trailers.

use std::fmt::Write as _;

use crate::git::{FileChange, Snapshot};
use crate::manifest::{Manifest, ParseCache, Parsed};
use crate::manifest::{ManifestError, SpliceError, describe_change, parse_each, restore, template_digest};
use crate::model::{CommitId, Digest, NamespacedName, ObjectRef, Revision};
use crate::release::{CheckResult, Outcome};

use super::record::{ManifestFile, named, placed, template_in};

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

/// Where a target is at the tip of the watched branch.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The file.
    pub path: String,
    text: std::sync::Arc<str>,
    /// It is made of several files.
    rendered: bool,
    object: ObjectRef,
    template: serde_json::Value,
}

/// What is looked at.
#[derive(Debug)]
pub struct Case<'a> {
    /// `cluster.name`.
    pub cluster: &'a str,
    /// The watched branch.
    pub branch: &'a str,
    /// The Canary.
    pub canary: &'a NamespacedName,
    /// The workload.
    pub target: &'a ObjectRef,
    /// The failed release.
    pub failed: &'a Outcome,
    /// What primary runs now.
    pub promoted: Option<&'a Revision>,
    /// Its manifest, if the watched branch has it.
    pub manifest: Option<&'a ManifestFile>,
    /// Another release of the same digest came after this one.
    pub released_again: bool,
    /// The commit that rolled this revision back before, as the Canary's status knows.
    pub rolled_back: Option<&'a CommitId>,
    /// Where the target is at the tip.
    pub tip: &'a Found,
    /// Commits that changed that file since the release failed, newest first.
    pub changes: &'a [FileChange],
    /// For a target that is rendered: edits that were proved to make the promoted revision and nothing else, or why there are
    /// none. `None` before that was looked for.
    pub edits: Option<&'a Result<Vec<(String, String)>, String>>,
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
    /// Each file and its new content; more than one only where the target is made of several.
    pub files: Vec<(String, String)>,
    /// The message, trailers included.
    pub message: String,
}

/// Why there is no rollback commit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoRollback {
    /// A change made in the cluster.
    #[error("the failed revision did not come from Git")]
    CauseNotInGit,
    /// Turned off.
    #[error("rollback commits are turned off (rollback: record); restore the manifest yourself")]
    TurnedOff,
    /// A tag is followed.
    #[error("{0} is followed and never moved; watch a branch instead")]
    NoBranch(String),
    /// Nobody allowed it in time.
    #[error("the push was denied for {0} hours; restore the manifest yourself")]
    Denied(u64),
    /// A person has closed the pull request.
    #[error("the pull request {0} was closed without being merged; restore the manifest yourself")]
    Declined(String),
    /// Nobody merged the pull request.
    #[error("its pull request was not merged for {0} days; merge it, or restore the manifest yourself")]
    NotMerged(u64),
    /// Nothing to go back to.
    #[error("nothing was promoted before")]
    NothingPromoted,
    /// The last good template was never on the branch, or its history is gone.
    #[error(
        "no commit of branch {branch} has the promoted revision {digest} (was it forced, or never in Git?); restore the \
         manifest yourself"
    )]
    PromotedNotInGit {
        /// The watched branch.
        branch: String,
        /// The promoted digest.
        digest: String,
    },
    /// Somebody was faster.
    #[error("the branch has moved on: the target is at {tip} there, not at the failed {failed}")]
    MovedOn {
        /// Digest at the tip, or what is there instead.
        tip: String,
        /// The failed digest.
        failed: String,
    },
    /// Somebody was faster and did the same.
    #[error("the branch names the promoted revision again")]
    PutRight,
    /// Nothing at the tip names the target.
    #[error("the branch has moved on: the target is no longer there")]
    TargetGone,
    /// The branch was deleted.
    #[error("{0} does not exist")]
    BranchGone(String),
    /// It was rolled back before and pushed again.
    #[error("this revision was rolled back before, in {0}, and pushed again; `serin retry` releases it again")]
    RolledBackBefore(CommitId),
    /// It was released again after this release.
    #[error("this revision was released again since")]
    ReleasedAgain,
    /// The file at the tip cannot be read.
    #[error("the manifest at the tip cannot be read: {0}")]
    Unreadable(String),
    /// It is nowhere as it is applied.
    #[error("the target is made by {file}, and {why}; restore what that is made of yourself")]
    Rendered {
        /// The kustomization.
        file: String,
        /// Why none of its files is edited.
        why: String,
    },
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

impl NoRollback {
    /// In CamelCase, for a condition.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::CauseNotInGit => "CauseNotInGit",
            Self::TurnedOff => "RollbackTurnedOff",
            Self::NoBranch(_) => "NotABranch",
            Self::Denied(_) => "RollbackDenied",
            Self::Declined(_) => "RollbackDeclined",
            Self::NotMerged(_) => "RollbackNotMerged",
            Self::NothingPromoted => "NothingPromoted",
            Self::PromotedNotInGit { .. } => "PromotedNotInGit",
            Self::MovedOn { .. } => "MovedOn",
            Self::PutRight => "PutRight",
            Self::TargetGone => "TargetGone",
            Self::BranchGone(_) => "BranchGone",
            Self::RolledBackBefore(_) => "RolledBackBefore",
            Self::ReleasedAgain => "ReleasedAgain",
            Self::Unreadable(_) => "ManifestUnreadable",
            Self::Rendered { .. } => "Rendered",
            Self::NotSplicable(_) => "NotSplicable",
            Self::OtherDigest { .. } => "OtherDigest",
        }
    }

    /// Whether the branch goes on naming what failed: somebody has to do something.
    pub fn leaves_failed(&self) -> bool {
        match self {
            Self::CauseNotInGit
            | Self::MovedOn { .. }
            | Self::PutRight
            | Self::TargetGone
            | Self::ReleasedAgain => false,
            Self::TurnedOff
            | Self::NoBranch(_)
            | Self::Denied(_)
            | Self::Declined(_)
            | Self::NotMerged(_)
            | Self::NothingPromoted
            | Self::PromotedNotInGit { .. }
            | Self::BranchGone(_)
            | Self::RolledBackBefore(_)
            | Self::Unreadable(_)
            | Self::Rendered { .. }
            | Self::NotSplicable(_)
            | Self::OtherDigest { .. } => true,
        }
    }
}

impl Found {
    /// Whether it is made of several files.
    pub fn is_rendered(&self) -> bool {
        self.rendered
    }

    /// Whether its template is this revision's.
    pub fn has(&self, digest: &Digest) -> bool {
        template_digest(&self.template) == *digest
    }
}

/// Decides about one failed release.
pub fn decide(case: &Case<'_>) -> Decision {
    match decided(case) {
        Ok(decision) => decision,
        Err(none) => Decision::None(none),
    }
}

fn decided(case: &Case<'_>) -> Result<Decision, NoRollback> {
    let failed = &case.failed.revision.digest;
    if case.failed.revision.commit.is_none() {
        return Err(NoRollback::CauseNotInGit);
    }
    if case.released_again {
        return Err(NoRollback::ReleasedAgain);
    }
    let at_tip = template_digest(&case.tip.template);
    let earlier = case.changes.iter().find(|change| is_rollback(change, case)).map(|change| &change.commit);
    if at_tip != *failed {
        return match earlier {
            Some(commit) => Ok(Decision::Done(commit.clone())),
            None if case.promoted.is_some_and(|promoted| promoted.digest == at_tip) => Err(NoRollback::PutRight),
            None => Err(NoRollback::MovedOn { tip: at_tip.short().to_owned(), failed: failed.short().to_owned() }),
        };
    }
    if let Some(commit) = case.rolled_back.or(earlier) {
        return Err(NoRollback::RolledBackBefore(commit.clone()));
    }
    let promoted = case.promoted.ok_or(NoRollback::NothingPromoted)?;
    let good = case.manifest.ok_or_else(|| NoRollback::PromotedNotInGit {
        branch: case.branch.to_owned(),
        digest: promoted.digest.short().to_owned(),
    })?;
    if case.tip.rendered {
        return rendered(case, promoted, &good.text);
    }
    let content = restored(case.tip, case.target, &good.text)?;
    let template = template_in(&content, case.target);
    let result = template.as_ref().map(template_digest);
    if result.as_ref() != Some(&promoted.digest) {
        let found = result.map_or_else(|| "none".to_owned(), |digest| digest.to_string());
        return Err(NoRollback::OtherDigest { found, wanted: promoted.digest.to_string() });
    }
    let changes = template.map(|template| changes(&case.tip.template, &template)).unwrap_or_default();
    let message = message(case, promoted, &changes);
    Ok(Decision::Commit(RollbackPlan { files: vec![(case.tip.path.clone(), content)], message }))
}

/// A target that is made of several files: those are edited that hold what changed.
fn rendered(case: &Case<'_>, promoted: &Revision, good: &str) -> Result<Decision, NoRollback> {
    let file = || case.tip.path.clone();
    let files = match case.edits {
        Some(Ok(files)) => files.clone(),
        Some(Err(why)) => return Err(NoRollback::Rendered { file: file(), why: why.clone() }),
        None => {
            let why = "which of its files to edit has not been looked for".to_owned();
            return Err(NoRollback::Rendered { file: file(), why });
        }
    };
    let template = template_in(good, case.target);
    let changes = template.map(|template| changes(&case.tip.template, &template)).unwrap_or_default();
    Ok(Decision::Commit(RollbackPlan { files, message: message(case, promoted, &changes) }))
}

/// Whether what an edited overlay makes is the promoted revision of the target, and otherwise what it makes now. Configs that
/// only one of the two templates names come and go with it.
pub fn proves(now: &Found, made: &str, target: &ObjectRef, promoted: &Revision) -> bool {
    let objects = |text: &str| {
        let Parsed { manifests, faults } = parse_each(&now.path, text);
        let all = manifests.into_iter().map(|manifest| (placed(manifest.object_ref()), manifest.object));
        faults.is_empty().then(|| all.collect::<std::collections::BTreeMap<_, _>>())
    };
    let (Some(mut before), Some(mut after)) = (objects(&now.text), objects(made)) else { return false };
    let (Some(mut old), Some(mut new)) = (before.remove(target), after.remove(target)) else { return false };
    let template = new.pointer("/spec/template").cloned().unwrap_or_default();
    if template_digest(&template) != promoted.digest {
        return false;
    }
    let read_by = |object: &serde_json::Value, id: &ObjectRef| {
        let is_config = matches!(id.kind.as_str(), "ConfigMap" | "Secret");
        is_config && object["spec"]["template"].to_string().contains(&format!("\"{}\"", id.name))
    };
    before.retain(|id, _| after.contains_key(id) || !read_by(&old, id) || read_by(&new, id));
    after.retain(|id, _| before.contains_key(id) || !read_by(&new, id) || read_by(&old, id));
    for object in [&mut old, &mut new] {
        object["spec"]["template"] = serde_json::Value::Null;
    }
    old == new && before == after
}

/// Where the target is at the tip. `parsed` keeps files from being parsed at every decision.
///
/// # Errors
/// If it is nowhere, or its file cannot be read.
pub fn find(tip: &Snapshot, target: &ObjectRef, parsed: &mut ParseCache) -> Result<Found, NoRollback> {
    let mut unreadable = None;
    for file in &tip.files {
        let parsed = parsed.parse(&file.path, &file.oid, &file.text);
        let Parsed { manifests, faults } = parsed.as_ref();
        if let Some(object) = named(manifests.iter(), target) {
            let template = template_of(manifests, &object);
            return Ok(Found {
                path: file.path.clone(),
                text: file.text.clone(),
                rendered: file.rendered,
                object,
                template,
            });
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

/// A rollback commit is known by what it does, whatever it says and whoever made it: it changed this file only, which had the
/// failed revision and has the promoted one.
fn is_rollback(change: &FileChange, case: &Case<'_>) -> bool {
    let digest = |text: &Option<std::sync::Arc<str>>| {
        template_in(text.as_deref()?, case.target).map(|template| template_digest(&template))
    };
    let Some(promoted) = case.promoted else { return false };
    change.alone
        && digest(&change.before).as_ref() == Some(&case.failed.revision.digest)
        && digest(&change.after).as_ref() == Some(&promoted.digest)
}

fn changes(from: &serde_json::Value, to: &serde_json::Value) -> Vec<String> {
    let object = |template: &serde_json::Value| serde_json::json!({"spec": {"template": template}});
    describe_change("", &object(from), &object(to))
}

fn message(case: &Case<'_>, promoted: &Revision, changes: &[String]) -> String {
    let Case { cluster, canary, failed, .. } = case;
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
