//! What the watched branch says, and said: the only place that is believed about manifests.
//!
//! Everything else in a repository may be written by somebody who may not write there. So a commit counts only if the tip of
//! the watched branch descends from it, and a file only as it was at such a commit, in the folder that is released from.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::configs::{self, ConfigFile};
use super::record::{ManifestFile, placed, template_in};
use crate::git::{FileChange, GitError, Limits, Reference, Remote, Snapshot, SnapshotFile, Step, Store, TreePath};
use crate::manifest::{ConfigName, FileCache, configs_read, is_kustomization, parse_each};
use crate::model::{CommitId, ObjectRef, Revision};
use crate::render::{PutRight, Renderer};

/// Commits looked through for what a file was, or became. Further back, what was promoted is not what runs any more.
const HISTORY_MAX: usize = 500;
/// Commits looked through for one that put several files back: more come between only where nobody looks for days.
const STEPS_MAX: usize = 100;

/// The watched branch.
#[derive(Debug)]
pub struct WatchedBranch {
    store: Store,
    remote: Remote,
    branch: Reference,
    path: String,
    renderer: Renderer,
    /// As last fetched.
    tip: Option<CommitId>,
    objects: FileCache<Vec<ObjectRef>>,
    index: Option<Index>,
}

/// Which file of a commit defines which object: many targets are promoted from one commit.
#[derive(Debug)]
struct Index {
    commit: CommitId,
    files: BTreeMap<ObjectRef, Arc<SnapshotFile>>,
}

impl WatchedBranch {
    /// `branch` of a repository, and the folder `path` in it.
    pub fn new(store: Store, remote: Remote, branch: Reference, path: &str) -> Self {
        let (path, renderer) = (path.to_owned(), Renderer::none(store.clone()));
        Self { store, remote, branch, path, renderer, tip: None, objects: FileCache::default(), index: None }
    }

    /// The same, with its kustomizations rendered.
    pub fn rendering(self, renderer: Renderer) -> Self {
        Self { renderer, ..self }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.branch.short()
    }

    /// The fully qualified ref.
    pub fn reference(&self) -> &str {
        self.branch.qualified()
    }

    /// Fetches the tip; `None` if the branch does not exist.
    ///
    /// # Errors
    /// If Git cannot be reached.
    pub async fn fetch(&mut self) -> Result<Option<CommitId>, GitError> {
        self.tip = self.store.fetch(&self.remote, self.branch.qualified()).await?;
        Ok(self.tip.clone())
    }

    /// The manifests at one of its commits; `None` if the folder was not there.
    ///
    /// # Errors
    /// If they cannot be read.
    pub async fn snapshot(&self, commit: &CommitId) -> Result<Option<Snapshot>, GitError> {
        match self.renderer.snapshot(commit, &self.path, Limits::default()).await {
            Ok(snapshot) => Ok(Some(snapshot)),
            Err(GitError::NoPath { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether a commit is, or was, its tip or lies behind it; fetches if that is not known here.
    ///
    /// # Errors
    /// If Git cannot be reached.
    pub async fn has(&mut self, commit: &CommitId) -> Result<bool, GitError> {
        if let Some(tip) = &self.tip
            && self.store.is_ancestor(commit, tip).await?
        {
            return Ok(true);
        }
        match self.fetch().await? {
            Some(tip) => self.store.is_ancestor(commit, &tip).await,
            None => Ok(false),
        }
    }

    /// Whether an object is named at the tip.
    ///
    /// # Errors
    /// If Git cannot be reached.
    pub async fn names(&mut self, commit: &CommitId, object: &ObjectRef) -> Result<bool, GitError> {
        let index = self.index_of(commit).await?;
        Ok(index.is_some_and(|index| index.files.contains_key(object)))
    }

    /// The file that defined `target` at one of the branch's commits; `None` if the commit is not the branch's.
    ///
    /// # Errors
    /// If Git cannot be reached.
    pub async fn manifest_at(
        &mut self,
        commit: &CommitId,
        target: &ObjectRef,
    ) -> Result<Option<ManifestFile>, GitError> {
        if !self.has(commit).await? {
            return Ok(None);
        }
        let Some(index) = self.index_of(commit).await? else { return Ok(None) };
        let Some(file) = index.files.get(target) else { return Ok(None) };
        let template = template_in(&file.text, target);
        let config = |name: ConfigName| {
            let file = index.files.get(&configs::id(&name, target))?;
            ConfigFile::find(&file.path, &file.text, &name, target)
        };
        let configs = template.iter().flat_map(configs_read).filter_map(config).collect();
        Ok(Some(ManifestFile { path: file.path.clone(), text: file.text.to_string(), configs }))
    }

    /// The manifest of a revision, from the commit that brought it.
    ///
    /// # Errors
    /// If Git cannot be reached.
    pub async fn manifest_of(
        &mut self,
        revision: &Revision,
        target: &ObjectRef,
    ) -> Result<Option<ManifestFile>, GitError> {
        let Some(commit) = &revision.commit else { return Ok(None) };
        let found = self.manifest_at(commit, target).await?;
        Ok(found.filter(|file| file.is_revision(target, &revision.digest)))
    }

    /// A manifest of a revision from what became of the file at `path`: for one whose commit is not known, or was forced away. One
    /// that reads copies of configs is not found so, as these may be in other files.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn manifest_before(
        &self,
        tip: &CommitId,
        path: &str,
        revision: &Revision,
        target: &ObjectRef,
    ) -> Result<Option<ManifestFile>, GitError> {
        let changes = self.store.changes(tip, path, Timestamp::MIN, HISTORY_MAX).await?;
        let texts = changes.iter().flat_map(|change| [&change.after, &change.before]).flatten();
        let mut files =
            texts.map(|text| ManifestFile { path: path.to_owned(), text: text.to_string(), configs: Vec::new() });
        Ok(files.find(|file| file.is_revision(target, &revision.digest)))
    }

    /// The commits that changed a file since then, newest first.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn changes(
        &self,
        tip: &CommitId,
        path: &str,
        since: Timestamp,
    ) -> Result<Vec<FileChange>, GitError> {
        self.store.changes(tip, path, since, HISTORY_MAX).await
    }

    /// The newest commit since another one that turned one thing into another and changed nothing but these files: it is known by
    /// what it did, whoever made it.
    ///
    /// # Errors
    /// If Git cannot be reached.
    pub async fn turned(
        &mut self,
        (since, tip): (&CommitId, &CommitId),
        target: &ObjectRef,
        files: &BTreeSet<&str>,
        (from, into): (impl Fn(&ManifestFile) -> bool, impl Fn(&ManifestFile) -> bool),
    ) -> Result<Option<CommitId>, GitError> {
        let Ok(path) = self.path.parse::<TreePath>() else { return Ok(None) };
        if !self.has(since).await? {
            return Ok(None);
        }
        let (mut found, mut before) = (None, since.clone());
        for Step { commit, files: changed, whole } in
            self.store.between(Some(since), tip, &path, STEPS_MAX).await?
        {
            if whole && !changed.is_empty() && changed.iter().all(|file| files.contains(file.path.as_str())) {
                let was = self.manifest_at(&before, target).await?;
                let is = self.manifest_at(&commit, target).await?;
                if was.is_some_and(|was| from(&was)) && is.is_some_and(|is| into(&is)) {
                    found = Some(commit.clone());
                }
            }
            before = commit;
        }
        Ok(found)
    }

    /// Whether the file at a commit, whoever wrote that, is exactly this; `false` if the commit is not here.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn is_file(&self, commit: &CommitId, path: &str, content: &[u8]) -> Result<bool, GitError> {
        if !self.store.has(commit).await? {
            return Ok(false);
        }
        if is_kustomization(path) {
            // What it makes is what was promoted.
            let snapshot = self.snapshot(commit).await?;
            let file = snapshot.as_ref().and_then(|snapshot| snapshot.file(path));
            return Ok(file.is_some_and(|file| file.text.as_bytes() == content));
        }
        match self.store.file(commit, path).await {
            Ok(file) => Ok(file.is_some_and(|file| file.text.as_bytes() == content)),
            // The path is what somebody wrote.
            Err(GitError::Path(_) | GitError::NoPath { .. } | GitError::NoFolder { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Edits after which the overlay at `file` makes something that is accepted: see [`Renderer::put_right`].
    ///
    /// # Errors
    /// If Git cannot be read.
    pub async fn put_right(
        &self,
        what: PutRight<'_>,
        accepts: &(dyn Fn(&str) -> bool + Sync),
    ) -> Result<Result<Vec<(String, String)>, String>, GitError> {
        self.renderer.put_right(what, accepts).await
    }

    async fn index_of(&mut self, commit: &CommitId) -> Result<Option<&Index>, GitError> {
        if self.index.as_ref().is_none_or(|index| index.commit != *commit) {
            let Some(snapshot) = self.snapshot(commit).await? else { return Ok(None) };
            let mut files = BTreeMap::new();
            for file in &snapshot.files {
                // Only names are kept: with many targets the objects themselves would fill the memory.
                let defined = self.objects.get(&file.path, &file.oid, || {
                    let parsed = parse_each(&file.path, &file.text);
                    parsed.manifests.iter().map(|manifest| placed(manifest.object_ref())).collect()
                });
                for object in defined.iter() {
                    files.insert(object.clone(), Arc::clone(file));
                }
            }
            self.objects.sweep();
            self.index = Some(Index { commit: commit.clone(), files });
        }
        Ok(self.index.as_ref())
    }
}
