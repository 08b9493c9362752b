//! The real repository as a [`Source`].

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;

use super::source::{Content, DocumentCache, Source, SourceError, Unreadable};
use crate::git::{Limits, Remote, Store};
use crate::model::CommitId;

/// A branch and a path of a repository, read through the bare store.
#[derive(Debug)]
pub struct GitSource {
    store: Store,
    remote: Remote,
    /// Fully qualified, so that no tag of the same name is taken for it.
    reference: String,
    path: String,
    cache: Mutex<DocumentCache>,
}

impl GitSource {
    /// Manifests below `path` on `branch`.
    pub fn new(store: Store, remote: Remote, branch: &str, path: &str) -> Self {
        let reference =
            if branch.starts_with("refs/") { branch.to_owned() } else { format!("refs/heads/{branch}") };
        Self { store, remote, reference, path: path.to_owned(), cache: Mutex::default() }
    }

    fn missing(&self) -> SourceError {
        let branch = self.reference.strip_prefix("refs/heads/").unwrap_or(&self.reference);
        let url = self.remote.url();
        SourceError(format!("{url} has no branch `{branch}`; push it, or name another in git.branch").into())
    }

    async fn read(&self) -> Result<Arc<Content>, SourceError> {
        let fail = |error: crate::git::GitError| SourceError(Box::new(error));
        let fetched = self.store.fetch(&self.remote, &self.reference).await.map_err(fail)?;
        let commit = fetched.ok_or_else(|| self.missing())?;
        let snapshot = self.store.snapshot(&commit, &self.path, Limits::default()).await.map_err(fail)?;
        let files = snapshot.files.iter().map(|file| (file.path.as_str(), file.oid.as_str(), &*file.text));
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let mut content = Content::parse(snapshot.commit.clone(), files, &mut cache);
        content.unreadable.extend(snapshot.skipped.iter().map(|skipped| Unreadable {
            file: skipped.path.clone(),
            message: format!("{}: not read: {}", skipped.path, skipped.reason),
        }));
        Ok(Arc::new(content))
    }
}

impl Source for GitSource {
    fn tip(&self) -> BoxFuture<'_, Result<CommitId, SourceError>> {
        Box::pin(async {
            let tip = self.store.probe(&self.remote, &self.reference).await;
            tip.map_err(|error| SourceError(Box::new(error)))?.ok_or_else(|| self.missing())
        })
    }

    fn content<'a>(&'a self, _commit: &'a CommitId) -> BoxFuture<'a, Result<Arc<Content>, SourceError>> {
        Box::pin(self.read())
    }

    fn local_git_dir(&self) -> Option<PathBuf> {
        let path: &Path = self.remote.local_path()?;
        let inside = path.join(".git");
        Some(if inside.is_dir() { inside } else { path.to_owned() })
    }
}
