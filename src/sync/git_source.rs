//! The real repository as a [`Source`].

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;

use super::source::{Content, DocumentCache, Source, SourceError, Unreadable};
use crate::git::{AllowedSigners, Limits, Reference, Remote, Snapshot, Store, TreePath};
use crate::model::CommitId;
use crate::render::Renderer;

/// A branch and a path of a repository, read through the bare store.
#[derive(Debug)]
pub struct GitSource {
    store: Store,
    remote: Remote,
    watched: Reference,
    path: TreePath,
    renderer: Renderer,
    cache: Arc<Mutex<DocumentCache>>,
    /// Whose commits are believed: a file, read anew so that keys can be exchanged. `None`: everybody's.
    signers: Option<PathBuf>,
}

impl GitSource {
    /// Manifests below `path` at what is watched.
    pub fn new(store: Store, remote: Remote, watched: Reference, path: TreePath) -> Self {
        let renderer = Renderer::none(store.clone());
        Self { store, remote, watched, path, renderer, cache: Arc::default(), signers: None }
    }

    /// Only commits signed by a key in this file are read.
    #[must_use]
    pub fn signed_by(mut self, signers: Option<PathBuf>) -> Self {
        self.signers = signers;
        self
    }

    async fn verify(&self, commit: &CommitId) -> Result<(), SourceError> {
        let Some(path) = &self.signers else { return Ok(()) };
        let unusable =
            |reason: String| SourceError(format!("git.allowedSignersFile {}: {reason}", path.display()).into());
        let text = tokio::fs::read_to_string(path).await.map_err(|error| unusable(error.to_string()))?;
        let allowed = AllowedSigners::parse(&text).map_err(unusable)?;
        self.store.verify(commit, &allowed).await.map_err(|error| SourceError(Box::new(error)))
    }

    /// The same, with its kustomizations rendered.
    pub fn rendering(self, renderer: Renderer) -> Self {
        Self { renderer, ..self }
    }

    fn missing(&self) -> SourceError {
        let Self { remote, watched, .. } = self;
        let tag =
            if watched.is_branch() { format!(" (a tag is refs/tags/{})", watched.short()) } else { String::new() };
        SourceError(format!("{remote} has no {watched}; push it, or name another in git.branch{tag}").into())
    }

    async fn read(&self) -> Result<Arc<Content>, SourceError> {
        let fail = |error: crate::git::GitError| SourceError(Box::new(error));
        let fetched = self.store.fetch(&self.remote, self.watched.qualified()).await.map_err(fail)?;
        let commit = fetched.ok_or_else(|| self.missing())?;
        self.verify(&commit).await?;
        let snapshot =
            self.renderer.snapshot(&commit, self.path.as_str(), Limits::default()).await.map_err(fail)?;
        let cache = Arc::clone(&self.cache);
        // Others' files are read beside the threads that answer, however many and large they are.
        let read = tokio::task::spawn_blocking(move || documents(&snapshot, &cache)).await;
        read.map(Arc::new).map_err(|error| SourceError(Box::new(error)))
    }
}

fn documents(snapshot: &Snapshot, cache: &Mutex<DocumentCache>) -> Content {
    let files = snapshot.files.iter().map(|file| (file.path.as_str(), file.oid.as_str(), &*file.text));
    let mut cache = cache.lock().unwrap_or_else(PoisonError::into_inner);
    let mut content = Content::parse(snapshot.commit.clone(), files, &mut cache);
    content.unreadable.extend(snapshot.skipped.iter().map(|skipped| Unreadable {
        file: skipped.path.clone(),
        message: format!("{}: not read: {}", skipped.path, skipped.reason),
    }));
    content
}

impl Source for GitSource {
    fn tip(&self) -> BoxFuture<'_, Result<CommitId, SourceError>> {
        Box::pin(async {
            let tip = self.store.probe(&self.remote, self.watched.qualified()).await;
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
