//! Reading a record: for a rebuild, and to see what it says already.

use std::collections::BTreeMap;

use serde_json::Value;

use super::ledger::{self, Line};
use super::wire::{self, FinishedRecord, Header, ManifestPlace, TargetRecord};
use super::{Files, HEADER, VERSION, recorded_copy};
use crate::git::{GitError, Reference, Remote, Store, TreeLimits};
use crate::manifest::{Pin, template_digest, value_at, with_pins};
use crate::model::{CommitId, NamespacedName, ObjectRef, Quarantined, Revision};
use crate::release::OutcomeKind;

/// What a record may hold, read before anything else is known of it: ten thousand targets with their history and manifests of
/// the usual size; and one manifest no longer than the watched branch's.
const LIMITS: TreeLimits = TreeLimits { entries: 400_000, file_bytes: 4 << 20, bytes: 256 << 20 };

/// What a status branch says.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The branch's commit.
    pub commit: CommitId,
    /// Who wrote it.
    pub header: Header,
    /// Targets; one that cannot be read says why.
    pub targets: BTreeMap<NamespacedName, Result<TargetRecord, String>>,
    files: Files,
}

/// A target's promoted manifest, as recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct PromotedManifest {
    /// The promoted revision.
    pub revision: Revision,
    /// The workload.
    pub target: ObjectRef,
    /// Its path on the watched branch.
    pub path: String,
    /// The file's text.
    pub text: String,
    /// The pod template in it, reading the copies below; it has the revision's digest.
    pub template: Value,
    /// The copies of configs that it reads.
    pub pins: Vec<Pin>,
}

/// A record that cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RecordError {
    /// The branch could not be read.
    #[error("failed to read the record")]
    Git(#[from] GitError),
    /// `record.yaml` is missing or cannot be read: somebody else's branch, perhaps.
    #[error("branch {branch} is no record of ours: {reason}")]
    Foreign {
        /// The branch.
        branch: String,
        /// Why.
        reason: String,
    },
    /// More than any record of ours holds.
    #[error(
        "branch {branch} holds {what}, which no record does: somebody else has written there. Protect it like the watched \
         branch, and delete it: it is made anew from what this cluster knows"
    )]
    TooMuch {
        /// The branch.
        branch: String,
        /// Of what.
        what: String,
    },
    /// Written by a later Serin.
    #[error("branch {branch} has format {found}, this version reads up to {VERSION}; use a newer version")]
    Newer {
        /// The branch.
        branch: String,
        /// Its version.
        found: u32,
    },
    /// A target's record cannot be read, or its manifest is not what it says.
    #[error("record of {canary}: {reason}")]
    Target {
        /// The Canary.
        canary: NamespacedName,
        /// Why.
        reason: String,
    },
}

impl Record {
    /// Fetches and reads a status branch; `None` if it does not exist.
    ///
    /// # Errors
    /// If it cannot be fetched or is no record.
    pub async fn fetch(store: &Store, remote: &Remote, branch: &Reference) -> Result<Option<Self>, RecordError> {
        let Some(commit) = store.fetch(remote, branch.qualified()).await? else { return Ok(None) };
        Self::at(store, branch, commit).await.map(Some)
    }

    /// Reads a status branch at a commit that was fetched.
    ///
    /// # Errors
    /// If it is no record, or more than one can be.
    pub async fn at(store: &Store, branch: &Reference, commit: CommitId) -> Result<Self, RecordError> {
        let files = store.tree(&commit, LIMITS).await.map_err(|error| match error {
            GitError::TooMuch { commit: _, what } => RecordError::TooMuch { branch: branch.to_string(), what },
            other => RecordError::Git(other),
        })?;
        Self::read(branch.short(), commit, files)
    }

    /// Reads the files of a status branch.
    ///
    /// # Errors
    /// If they are no record.
    pub fn read(branch: &str, commit: CommitId, files: Files) -> Result<Self, RecordError> {
        let foreign = |reason: String| RecordError::Foreign { branch: branch.to_owned(), reason };
        let header = files.get(HEADER).ok_or_else(|| foreign(format!("{HEADER} is missing")))?;
        let header: Header = wire::read(header).map_err(foreign)?;
        if header.version > VERSION {
            return Err(RecordError::Newer { branch: branch.to_owned(), found: header.version });
        }
        Ok(Self { commit, header, targets: targets(&files), files })
    }

    /// The files as they are on the branch.
    pub fn into_files(self) -> Files {
        self.files
    }

    /// What a target ran when the record was written; `None` if it is not recorded or did not come from Git.
    ///
    /// # Errors
    /// If the record is damaged: a missing or changed manifest must not be taken for one that never was.
    pub fn promoted(&self, canary: &NamespacedName) -> Result<Option<PromotedManifest>, RecordError> {
        let fail = |reason: String| RecordError::Target { canary: canary.clone(), reason };
        let target = match self.targets.get(canary) {
            None => return Ok(None),
            Some(Err(reason)) => return Err(fail(reason.clone())),
            Some(Ok(target)) => target,
        };
        let Some(promoted) = &target.promoted else { return Ok(None) };
        let Some(place) = &promoted.manifest else { return Ok(None) };
        let digest = &promoted.revision.digest;
        let (place, bytes) = recorded_copy(&self.files, canary, digest)
            .ok_or_else(|| fail(format!("the copy {} of its manifest is missing", place.copy)))?;
        let text = String::from_utf8(bytes.to_vec()).map_err(|error| fail(error.to_string()))?;
        let template = super::template_in(&text, &target.target)
            .ok_or_else(|| fail(format!("{} holds no template of {}", place.copy, target.target)))?;
        let ManifestPlace { path, copy, pins } = place;
        let template = with_pins(&template, &pins);
        let found = template_digest(&template);
        if found != *digest {
            return Err(fail(format!("{copy} has the digest {found}, not the recorded {digest}")));
        }
        let (revision, target) = (promoted.revision.clone(), target.target.clone());
        Ok(Some(PromotedManifest { revision, target, path, text, template, pins }))
    }

    /// Revisions of a target that failed and have not succeeded since, oldest first, and what was refused by hand.
    pub fn failed(&self, canary: &NamespacedName) -> Vec<Quarantined> {
        let target = self.targets.get(canary).and_then(|target| target.as_ref().ok());
        let refused = target.into_iter().flat_map(|target| &target.quarantined).filter(|entry| entry.is_by_hand());
        let mut failed = failed(self.history(canary));
        failed.extend(refused.cloned());
        failed
    }

    /// A line for each finished release of a target, oldest first.
    pub fn lines(&self, canary: &NamespacedName) -> Vec<Line> {
        lines(&self.files, canary)
    }

    /// Finished releases of a target, oldest first; what cannot be read is left out.
    pub fn history(&self, canary: &NamespacedName) -> Vec<FinishedRecord> {
        let folder = super::history_folder(canary);
        let files = self.files.iter().filter(|(path, _)| path.starts_with(&folder));
        files.filter_map(|(_, bytes)| wire::read(bytes).ok()).collect()
    }
}

/// A line for each finished release, oldest first; what an earlier version recorded has its line in the history.
pub(super) fn lines(files: &Files, canary: &NamespacedName) -> Vec<Line> {
    match files.get(&super::ledger_path(canary)) {
        Some(bytes) => ledger::read(bytes),
        None => {
            let folder = super::history_folder(canary);
            let files = files.iter().filter(|(path, _)| path.starts_with(&folder));
            files.filter_map(|(_, bytes)| Some(Line::of_record(&wire::read(bytes).ok()?))).collect()
        }
    }
}

/// What failed and has not succeeded since, oldest first; `finished` likewise.
fn failed(finished: Vec<FinishedRecord>) -> Vec<Quarantined> {
    let mut failed: Vec<Quarantined> = Vec::new();
    for FinishedRecord { outcome, revision, release, .. } in finished {
        match outcome {
            OutcomeKind::Failed => {
                failed.retain(|entry| entry.revision.digest != revision.digest);
                failed.push(Quarantined { revision, release, rolled_back: None });
            }
            OutcomeKind::Initialized | OutcomeKind::Succeeded => {
                failed.retain(|entry| entry.revision.digest != revision.digest);
            }
            OutcomeKind::Superseded | OutcomeKind::Withdrawn => {}
        }
    }
    failed
}

/// The targets' records: `<namespace>/<name>.yaml`, two segments.
pub(super) fn targets(files: &Files) -> BTreeMap<NamespacedName, Result<TargetRecord, String>> {
    let target = |(path, bytes): (&String, &Vec<u8>)| {
        let (namespace, name) = path.strip_suffix(".yaml")?.split_once('/')?;
        (!name.contains('/')).then(|| (NamespacedName::new(namespace, name), wire::read(bytes)))
    };
    files.iter().filter_map(target).collect()
}

/// The pod template of a workload in a file. A manifest without a namespace means the default one.
pub(crate) fn template_in(text: &str, target: &ObjectRef) -> Option<Value> {
    let object = super::as_written(text, target)?;
    value_at(text, &object, &["spec", "template"])
}
