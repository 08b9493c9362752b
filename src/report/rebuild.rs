//! What a record may say to a cluster that knows nothing: which revision of the watched branch served last.
//!
//! Whoever may push to the status branch can write a record, so it is believed in one thing only, which of the revisions that
//! the watched branch had is to serve first. Everything about that revision is read from the watched branch.

use serde_json::Value;

use super::configs;
use super::record::{PromotedManifest, Record, RecordError, template_in};
use super::watched::WatchedBranch;
use crate::git::{GitError, Reference, Remote, Store};
use crate::manifest::template_digest;
use crate::model::{CommitId, NamespacedName, ObjectRef, Quarantined};

/// A promoted revision that the record names, proved to be the watched branch's.
#[derive(Debug, Clone, PartialEq)]
pub struct Proved {
    /// Revision, place and template.
    pub manifest: PromotedManifest,
    /// The copies of configs that its template reads, as the commit has them that brought it.
    pub copies: Vec<Value>,
    /// Revisions that failed and have not succeeded since, as the record says.
    pub failed: Vec<Quarantined>,
    /// Commit of the status branch.
    pub record: CommitId,
}

/// Why the record is not followed.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// It cannot be read, or contradicts itself.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The watched branch cannot be read.
    #[error("the watched branch cannot be read")]
    Git(#[from] GitError),
    /// It names something that the watched branch never had.
    #[error(
        "branch {status} says that {canary} ran {revision}, and {reason}: that is not followed. If the history of {branch} \
         was cut off or rewritten, bring it back; if the record is wrong, remove {canary}.yaml from branch {status}, and \
         what {branch} names now starts. Whoever may push to {status} can write this: protect it like {branch}"
    )]
    Unproved {
        /// The Canary, as `<namespace>/<name>`.
        canary: NamespacedName,
        /// The revision, shortened.
        revision: String,
        /// What is wrong with it.
        reason: String,
        /// The status branch.
        status: String,
        /// The watched branch.
        branch: String,
    },
}

/// What a target ran when its record was written; `None` if it is not recorded, not as this target, or did not
/// come from Git.
///
/// # Errors
/// If the record cannot be read, or names what the watched branch did not have: a person has to decide.
pub async fn promoted(
    store: &Store,
    remote: &Remote,
    watched: &mut WatchedBranch,
    status: &Reference,
    canary: &NamespacedName,
    target: &ObjectRef,
) -> Result<Option<Proved>, RebuildError> {
    let Some(record) = Record::fetch(store, remote, status).await? else { return Ok(None) };
    // What another target ran says nothing of this one: the Canary has been given another since.
    let Some(manifest) = record.promoted(canary)?.filter(|manifest| manifest.target == *target) else {
        return Ok(None);
    };
    // As it is now: what was forced away counts no more.
    watched.fetch().await?;
    match prove(watched, &manifest, target).await? {
        Ok(copies) => Ok(Some(Proved { manifest, copies, failed: record.failed(canary), record: record.commit })),
        Err(reason) => Err(RebuildError::Unproved {
            canary: canary.clone(),
            revision: manifest.revision.digest.short().to_owned(),
            reason,
            status: status.to_string(),
            branch: watched.name().to_owned(),
        }),
    }
}

/// The copies of configs that a recorded manifest reads, or what speaks against it.
async fn prove(
    watched: &mut WatchedBranch,
    recorded: &PromotedManifest,
    target: &ObjectRef,
) -> Result<Result<Vec<Value>, String>, GitError> {
    let Some(commit) = &recorded.revision.commit else {
        return Ok(Err("no commit is named that brought it".to_owned()));
    };
    let short = commit.short();
    if !watched.has(commit).await? {
        return Ok(Err(format!("commit {short} is not in the history of {}", watched.name())));
    }
    let Some(file) = watched.manifest_at(commit, target).await? else {
        return Ok(Err(format!("commit {short} names no {target}")));
    };
    if file.path != recorded.path || file.text != recorded.text {
        return Ok(Err(format!("its manifest is not the one at commit {short} ({})", file.path)));
    }
    let template = template_in(&file.text, target).unwrap_or_default();
    if !configs::is_revision(&template, &file.configs, &recorded.revision.digest) {
        let found = template_digest(&template);
        return Ok(Err(format!("the manifest has the digest {}", found.short())));
    }
    let reads_copies = template_digest(&template) != recorded.revision.digest;
    Ok(Ok(if reads_copies { configs::copies(&template, &file.configs) } else { Vec::new() }))
}
