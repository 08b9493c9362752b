//! What sync needs of Git: the tip of the branch, and the documents at a commit.

use std::path::PathBuf;
use std::sync::Arc;

use futures::future::BoxFuture;
use serde_json::Value;

use crate::manifest::{FileCache, Manifest, ManifestError, Parsed, parse_each, template_digest};
use crate::model::{CommitId, Digest, Frozen, NamespacedName, ObjectRef, Quarantined, Remembered, Revision};

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
#[error("the repository cannot be read")]
pub struct SourceError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// The manifests at one commit.
#[derive(Debug, Clone)]
pub struct Content {
    /// The commit.
    pub commit: CommitId,
    /// Every YAML document; shared with earlier commits as long as the file is the same.
    pub documents: Vec<Arc<KeptDocument>>,
    /// Documents whose object is not even known; while there are any, nothing is pruned.
    pub unreadable: Vec<Unreadable>,
    /// Objects that are known and not for a cluster as they are written: encrypted ones, ones that no store takes.
    pub unusable: Vec<Unusable>,
}

impl Content {
    /// Parses a commit's files; `files` are path, blob id and text. An unchanged blob is not parsed again.
    pub fn parse<'a>(
        commit: CommitId,
        files: impl IntoIterator<Item = (&'a str, &'a str, &'a str)>,
        cache: &mut DocumentCache,
    ) -> Self {
        let mut content = Self { commit, documents: Vec::new(), unreadable: Vec::new(), unusable: Vec::new() };
        for (path, oid, text) in files {
            let read = cache.get(path, oid, || FileDocuments::read(path, text));
            content.documents.extend(read.documents.iter().cloned());
            content.unreadable.extend(read.unreadable.iter().cloned());
            content.unusable.extend(read.unusable.iter().cloned());
        }
        cache.sweep();
        content
    }
}

/// The documents of files, by path and blob id.
pub type DocumentCache = FileCache<FileDocuments>;

/// What one file holds.
#[derive(Debug, Default)]
pub struct FileDocuments {
    documents: Vec<Arc<KeptDocument>>,
    unreadable: Vec<Unreadable>,
    unusable: Vec<Unusable>,
}

impl FileDocuments {
    fn read(path: &str, text: &str) -> Self {
        let Parsed { manifests, faults } = parse_each(path, text);
        let documents = manifests.into_iter().map(|manifest| Arc::new(Document::of(manifest).keep())).collect();
        let mut read = Self { documents, ..Self::default() };
        for fault in faults {
            match &fault.object {
                Some(object) => {
                    let ManifestError { file, line, message, .. } = &fault;
                    let message = format!("{file}:{line}: {object}: {message}");
                    read.unusable.push(Unusable { id: (**object).clone(), message });
                }
                None => read.unreadable.push(Unreadable { file: path.to_owned(), message: fault.render() }),
            }
        }
        read
    }
}

/// A document at rest: all of a repository's stay in memory between two passes.
#[derive(Debug, Clone, PartialEq)]
pub struct KeptDocument {
    file: String,
    line: u32,
    object: Frozen,
    template: Option<Digest>,
}

impl KeptDocument {
    /// The document.
    pub fn thaw(&self) -> Document {
        let Self { file, line, object, template } = self;
        Document { file: file.clone(), line: *line, object: object.thaw(), template: template.clone() }
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
    fn of(manifest: Manifest) -> Self {
        let template = &manifest.object["spec"]["template"];
        let is_workload = manifest.api_version().starts_with("apps/") && template.is_object();
        let template = is_workload.then(|| template_digest(template));
        Self { file: manifest.file, line: manifest.line, object: manifest.object, template }
    }

    /// Puts it at rest.
    pub fn keep(self) -> KeptDocument {
        let Self { file, line, object, template } = self;
        KeptDocument { file, line, object: Frozen::of(&object), template }
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

/// An object that Git names and that is not written. It holds itself and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unusable {
    /// The object, its namespace as it is written.
    pub id: ObjectRef,
    /// Where and why.
    pub message: String,
}

/// The record in Git, asked when the cluster knows nothing of a target: after a rebuild its last promoted revision must
/// serve first, and Git's newer one follows as a release.
pub trait RecordSource: Send + Sync {
    /// The recorded revision of a Canary's target.
    ///
    /// # Errors
    /// When the record cannot be read or believed; the target is not written then.
    fn recorded<'a>(
        &'a self,
        canary: &'a NamespacedName,
        target: &'a ObjectRef,
    ) -> BoxFuture<'a, Result<Option<Recorded>, String>>;
}

/// What the record says a target ran.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// The promoted revision.
    pub revision: Revision,
    /// Its pod template, as it was in Git and reading copies of its configs.
    pub template: Value,
    /// Those copies.
    pub copies: Vec<Value>,
    /// Revisions that failed and have not succeeded since.
    pub failed: Vec<Quarantined>,
    /// Which record says so and how far it can be trusted, in words.
    pub source: String,
}

impl Recorded {
    /// What the engine is told of it.
    pub(super) fn remembered(&self) -> Remembered {
        Remembered { promoted: self.revision.clone(), failed: self.failed.clone() }
    }

    /// Whether this digest failed.
    pub(super) fn has_failed(&self, digest: &Digest) -> bool {
        self.failed.iter().any(|entry| entry.revision.digest == *digest)
    }
}

/// No record: for a cluster that is not rebuilt from one.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoRecord;

impl RecordSource for NoRecord {
    fn recorded<'a>(
        &'a self,
        _canary: &'a NamespacedName,
        _target: &'a ObjectRef,
    ) -> BoxFuture<'a, Result<Option<Recorded>, String>> {
        Box::pin(std::future::ready(Ok(None)))
    }
}
