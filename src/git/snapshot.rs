//! The manifests at one commit, read from the object store.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use git2::{Commit, ErrorCode, ObjectType, Oid, Repository, Tree};
use jiff::Timestamp;

use super::error::GitError;
use super::store::{Inner, LOCAL_DEADLINE, Store, oid};
use crate::model::CommitId;

/// Deepest folder: no repository of manifests goes there, and it bounds recursion.
const DEPTH_MAX: usize = 64;
/// Endings of manifests.
const ENDINGS: [&str; 3] = [".yaml", ".yml", ".json"];

/// How much is taken from a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one file; bigger ones are skipped. etcd takes 1.5 MiB for an object, a file may hold several.
    pub file_bytes: usize,
    /// Manifests in one snapshot.
    pub files: usize,
}

impl Default for Limits {
    /// 4 MiB a file, 100,000 files.
    fn default() -> Self {
        Self { file_bytes: 4 << 20, files: 100_000 }
    }
}

/// The manifests at one commit.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// The commit.
    pub commit: CommitId,
    /// YAML and JSON files, by path.
    pub files: Vec<SnapshotFile>,
    /// Manifests that were not taken, and why.
    pub skipped: Vec<SkippedFile>,
    /// First line of the commit's message.
    pub subject: String,
    /// Author's name.
    pub author: String,
    /// When it was committed.
    pub time: Timestamp,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotFile {
    /// From the repository's root, with `/`.
    pub path: String,
    /// The blob's id: equal ids are equal content.
    pub oid: String,
    /// The content; shared with earlier snapshots as long as the blob is the same.
    pub text: Arc<str>,
}

/// A file that was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkippedFile {
    /// From the repository's root.
    pub path: String,
    /// Why.
    pub reason: String,
}

impl Snapshot {
    /// The file at this path.
    pub fn file(&self, path: &str) -> Option<&SnapshotFile> {
        self.files.iter().find(|file| file.path == path)
    }
}

/// Blobs of the last snapshots; what two snapshots in a row did not use goes.
#[derive(Debug, Default)]
pub(super) struct BlobCache {
    blobs: HashMap<Oid, (Arc<str>, u64)>,
    round: u64,
}

/// Snapshots for which an unused blob is kept: two sources (sync's path, a promoted commit) take turns.
const CACHE_ROUNDS: u64 = 4;

impl BlobCache {
    pub(super) fn clear(&mut self) {
        self.blobs.clear();
    }

    fn next_round(&mut self) {
        self.round += 1;
        let oldest = self.round.saturating_sub(CACHE_ROUNDS);
        self.blobs.retain(|_, (_, used)| *used >= oldest);
    }

    fn get(&mut self, id: Oid) -> Option<Arc<str>> {
        let round = self.round;
        let (text, used) = self.blobs.get_mut(&id)?;
        *used = round;
        Some(Arc::clone(text))
    }

    fn put(&mut self, id: Oid, text: Arc<str>) {
        self.blobs.insert(id, (text, self.round));
    }
}

impl Store {
    /// The YAML and JSON files below `path` (empty: everywhere) at a commit that was fetched.
    ///
    /// Names that start with a dot, symlinks and submodules are left out. Blobs of earlier snapshots are not read again.
    ///
    /// # Errors
    /// If the path is not there, there are too many files, or the store is damaged (fetch again).
    pub async fn snapshot(&self, commit: &CommitId, path: &str, limits: Limits) -> Result<Snapshot, GitError> {
        let (commit, path) = (commit.clone(), clean(path));
        self.run("reading the git cache", LOCAL_DEADLINE, move |inner| {
            inner.with(|repo| Reader::new(inner, repo, &commit, &path, limits).read())
        })
        .await
    }

    /// One file at a commit; `None` if it is not there.
    ///
    /// # Errors
    /// If the store is damaged, or the file is not text.
    pub async fn file(&self, commit: &CommitId, path: &str) -> Result<Option<SnapshotFile>, GitError> {
        let (commit, path) = (commit.clone(), clean(path));
        self.run("reading the git cache", LOCAL_DEADLINE, move |inner| {
            let read = inner.with(|repo| Reader::new(inner, repo, &commit, &path, Limits::default()).read());
            match read {
                Ok(snapshot) => Ok(snapshot.files.into_iter().find(|file| file.path == path)),
                Err(GitError::NoPath { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        })
        .await
    }
}

/// `./a/b/` and `a/b` are one folder.
fn clean(path: &str) -> String {
    path.split('/').filter(|part| !part.is_empty() && *part != ".").collect::<Vec<_>>().join("/")
}

pub(super) fn commit_time(commit: &Commit<'_>) -> Timestamp {
    Timestamp::from_second(commit.time().seconds()).unwrap_or(Timestamp::UNIX_EPOCH)
}

pub(super) fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

struct Reader<'a> {
    inner: &'a Inner,
    repo: &'a Repository,
    commit: &'a CommitId,
    path: &'a str,
    limits: Limits,
    files: Vec<SnapshotFile>,
    skipped: Vec<SkippedFile>,
}

impl<'a> Reader<'a> {
    fn new(inner: &'a Inner, repo: &'a Repository, commit: &'a CommitId, path: &'a str, limits: Limits) -> Self {
        Self { inner, repo, commit, path, limits, files: Vec::new(), skipped: Vec::new() }
    }

    fn read(mut self) -> Result<Snapshot, GitError> {
        let damaged = |error: git2::Error| self.inner.damaged(&error);
        let commit = self.repo.find_commit(oid(self.commit)?).map_err(damaged)?;
        let tree = commit.tree().map_err(damaged)?;
        self.inner.blobs.lock().unwrap_or_else(PoisonError::into_inner).next_round();
        if self.path.is_empty() {
            self.folder(&tree, "", 0)?;
        } else {
            let entry = match tree.get_path(std::path::Path::new(self.path)) {
                Ok(entry) => entry,
                Err(error) if error.code() == ErrorCode::NotFound => {
                    return Err(GitError::NoPath {
                        path: self.path.to_owned(),
                        commit: self.commit.short().to_owned(),
                    });
                }
                Err(error) => return Err(self.inner.damaged(&error)),
            };
            match entry.kind() {
                Some(ObjectType::Tree) => {
                    let tree = self.repo.find_tree(entry.id()).map_err(damaged)?;
                    self.folder(&tree, self.path, 0)?;
                }
                _ => self.blob(self.path.to_owned(), entry.id())?,
            }
        }
        let subject = commit.message_bytes().split(|byte| *byte == b'\n').next().map(lossy).unwrap_or_default();
        let author = lossy(commit.author().name_bytes());
        let (files, skipped) = (self.files, self.skipped);
        Ok(Snapshot { commit: self.commit.clone(), files, skipped, subject, author, time: commit_time(&commit) })
    }

    fn folder(&mut self, tree: &Tree<'_>, below: &str, depth: usize) -> Result<(), GitError> {
        if depth > DEPTH_MAX {
            self.skip(below, format!("deeper than {DEPTH_MAX} folders"));
            return Ok(());
        }
        for entry in tree {
            let Ok(name) = std::str::from_utf8(entry.name_bytes()) else { continue };
            if name.starts_with('.') {
                continue;
            }
            let path = if below.is_empty() { name.to_owned() } else { format!("{below}/{name}") };
            match (entry.kind(), entry.filemode()) {
                (Some(ObjectType::Tree), _) => {
                    let tree = self.repo.find_tree(entry.id()).map_err(|error| self.inner.damaged(&error))?;
                    self.folder(&tree, &path, depth + 1)?;
                }
                (Some(ObjectType::Blob), mode) if ENDINGS.iter().any(|ending| name.ends_with(ending)) => {
                    if mode == i32::from(git2::FileMode::Link) {
                        self.skip(&path, "a symlink is not followed".to_owned());
                    } else {
                        self.blob(path, entry.id())?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn blob(&mut self, path: String, id: Oid) -> Result<(), GitError> {
        if self.files.len() >= self.limits.files {
            let (path, commit) = (self.path.to_owned(), self.commit.short().to_owned());
            return Err(GitError::TooMany { path, commit, limit: self.limits.files });
        }
        let cached = self.inner.blobs.lock().unwrap_or_else(PoisonError::into_inner).get(id);
        let text = match cached {
            Some(text) => text,
            None => {
                let blob = self.repo.find_blob(id).map_err(|error| self.inner.damaged(&error))?;
                if blob.size() > self.limits.file_bytes {
                    self.skip(&path, format!("{} bytes are more than {}", blob.size(), self.limits.file_bytes));
                    return Ok(());
                }
                let Ok(text) = std::str::from_utf8(blob.content()) else {
                    self.skip(&path, "it is not UTF-8 text".to_owned());
                    return Ok(());
                };
                let text: Arc<str> = Arc::from(text);
                self.inner.blobs.lock().unwrap_or_else(PoisonError::into_inner).put(id, Arc::clone(&text));
                text
            }
        };
        self.files.push(SnapshotFile { path, oid: id.to_string(), text });
        Ok(())
    }

    fn skip(&mut self, path: &str, reason: String) {
        self.skipped.push(SkippedFile { path: path.to_owned(), reason });
    }
}
