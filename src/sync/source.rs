//! What sync needs of Git: the tip of the branch, and the documents at a commit.

use std::path::PathBuf;
use std::sync::Arc;

use futures::future::BoxFuture;
use serde_json::Value;

use crate::manifest::{Manifest, ParseCache, template_digest};
use crate::model::{CommitId, Digest, NamespacedName, Revision};

/// A repository, a branch and a path in it.
pub trait Source: Send + Sync {
    /// The commit the branch points at: one ref probe, nothing is fetched.
    fn tip(&self) -> BoxFuture<'_, Result<CommitId, SourceError>>;

    /// The documents at a commit, fetched if they are not here yet; of a newer one if the branch has moved meanwhile.
    fn content<'a>(&'a self, commit: &'a CommitId) -> BoxFuture<'a, Result<Arc<Content>, SourceError>>;

    /// The Git directory, if the repository is on this machine and can be watched.
    fn local_git_dir(&self) -> Option<PathBuf>;
}

/// Git could not be read.
#[derive(Debug, thiserror::Error)]
#[error("failed to read the repository")]
pub struct SourceError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// The manifests at one commit.
#[derive(Debug, Clone)]
pub struct Content {
    /// The commit.
    pub commit: CommitId,
    /// Every YAML document.
    pub documents: Vec<Document>,
    /// Documents whose object is not even known; while there are any, nothing is pruned.
    pub unreadable: Vec<Unreadable>,
}

impl Content {
    /// Parses a commit's files; `files` are path, blob id and text. An unchanged blob is not parsed again.
    pub fn parse<'a>(
        commit: CommitId,
        files: impl IntoIterator<Item = (&'a str, &'a str, &'a str)>,
        cache: &mut ParseCache,
    ) -> Self {
        let mut content = Self { commit, documents: Vec::new(), unreadable: Vec::new() };
        for (path, oid, text) in files {
            match cache.parse(path, oid, text).as_ref() {
                Ok(manifests) => content.documents.extend(manifests.iter().map(Document::of)),
                Err(error) => {
                    content.unreadable.push(Unreadable { file: path.to_owned(), message: error.render() })
                }
            }
        }
        cache.sweep();
        content
    }
}

/// One object as written in Git.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// The file.
    pub file: String,
    /// Line of the document's first line, from 1.
    pub line: u32,
    /// The object.
    pub object: Value,
    /// Digest of `spec.template`, if it has one.
    pub template: Option<Digest>,
}

impl Document {
    fn of(manifest: &Manifest) -> Self {
        let template = &manifest.object["spec"]["template"];
        let is_workload = manifest.api_version().starts_with("apps/") && template.is_object();
        Self {
            file: manifest.file.clone(),
            line: manifest.line,
            object: manifest.object.clone(),
            template: is_workload.then(|| template_digest(template)),
        }
    }
}

/// A document that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// The file.
    pub file: String,
    /// What is wrong, with line and caret where they are known.
    pub message: String,
}

/// The record in Git, asked when the cluster knows nothing of a target: after a rebuild its last promoted revision must
/// serve first, and Git's newer one follows as a release.
pub trait RecordSource: Send + Sync {
    /// The recorded revision of a Canary's target.
    ///
    /// # Errors
    /// When the record cannot be read; the target is not written then.
    fn recorded<'a>(&'a self, canary: &'a NamespacedName) -> BoxFuture<'a, Result<Option<Recorded>, String>>;
}

/// What the record says a target ran.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// The promoted revision.
    pub revision: Revision,
    /// Its pod template, as it was in Git.
    pub template: Value,
}

/// No record: for a cluster that is not rebuilt from one.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoRecord;

impl RecordSource for NoRecord {
    fn recorded<'a>(&'a self, _canary: &'a NamespacedName) -> BoxFuture<'a, Result<Option<Recorded>, String>> {
        Box::pin(std::future::ready(Ok(None)))
    }
}
