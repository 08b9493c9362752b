//! Git as a [`Source`]: the branch's tip by a ref probe, documents from the bare store, parsed once per blob.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt as _;
use futures::future::BoxFuture;

use super::source::{Content, Document, Source, SourceError, Unreadable};
use crate::git::{GitError, Limits, Remote, Snapshot, Store};
use crate::manifest::{Manifest, ParseCache, template_digest};
use crate::model::CommitId;

/// A branch and a folder of a repository.
pub struct GitSource {
    store: Store,
    remote: Remote,
    /// Fully qualified, so that a tag of the same name is never meant.
    reference: String,
    path: String,
    parsed: Mutex<ParseCache>,
}

/// The watched branch is not there.
#[derive(Debug, thiserror::Error)]
#[error("{reference} does not exist in {url}; push a commit to it")]
struct NoBranch {
    reference: String,
    url: String,
}

impl GitSource {
    /// The manifests below `path` on `branch`.
    pub fn new(store: Store, remote: Remote, branch: &str, path: &str) -> Self {
        let path = path.trim_matches('/').trim_start_matches("./");
        Self {
            store,
            remote,
            reference: format!("refs/heads/{branch}"),
            path: if path == "." { String::new() } else { path.to_owned() },
            parsed: Mutex::default(),
        }
    }

    fn found(&self, commit: Option<CommitId>) -> Result<CommitId, SourceError> {
        commit.ok_or_else(|| {
            let (reference, url) = (self.reference.clone(), self.remote.url().to_owned());
            SourceError(Box::new(NoBranch { reference, url }))
        })
    }

    fn content_of(&self, snapshot: Snapshot) -> Content {
        let mut documents = Vec::new();
        let mut unreadable: Vec<Unreadable> = snapshot
            .skipped
            .into_iter()
            .map(|skipped| Unreadable { file: skipped.path, message: skipped.reason })
            .collect();
        let mut parsed = self.parsed.lock().unwrap_or_else(PoisonError::into_inner);
        for file in &snapshot.files {
            match parsed.parse(&file.path, &file.oid, &file.text).as_ref() {
                Ok(manifests) => documents.extend(manifests.iter().map(document)),
                Err(error) => {
                    unreadable.push(Unreadable { file: file.path.clone(), message: error.render() });
                }
            }
        }
        parsed.sweep();
        Content { commit: snapshot.commit, documents, unreadable }
    }
}

fn document(manifest: &Manifest) -> Document {
    let template = manifest.object.pointer("/spec/template").map(template_digest);
    Document {
        file: manifest.file.clone(),
        line: manifest.line as usize,
        object: manifest.object.clone(),
        template,
    }
}

fn failed(error: GitError) -> SourceError {
    SourceError(Box::new(error))
}

impl Source for GitSource {
    fn tip(&self) -> BoxFuture<'_, Result<CommitId, SourceError>> {
        async { self.found(self.store.probe(&self.remote, &self.reference).await.map_err(failed)?) }.boxed()
    }

    /// The branch may have moved on between probe and fetch; what was fetched is what counts.
    fn content<'a>(&'a self, _commit: &'a CommitId) -> BoxFuture<'a, Result<Arc<Content>, SourceError>> {
        async {
            let fetched = self.found(self.store.fetch(&self.remote, &self.reference).await.map_err(failed)?)?;
            let snapshot = self.store.snapshot(&fetched, &self.path, Limits::default()).await.map_err(failed)?;
            Ok(Arc::new(self.content_of(snapshot)))
        }
        .boxed()
    }

    fn local_git_dir(&self) -> Option<PathBuf> {
        let path = self.remote.local_path()?;
        // A clone with a work tree keeps its refs one level down.
        let nested = path.join(".git");
        Some(if nested.is_dir() { nested } else { path.to_owned() })
    }
}
