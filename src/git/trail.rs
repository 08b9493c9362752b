//! What became of one file, commit by commit.

use std::path::Path;
use std::sync::Arc;

use git2::{ErrorCode, ObjectType, Oid, Repository, Sort, Tree};
use jiff::Timestamp;

use super::error::GitError;
use super::snapshot::{Limits, commit_time};
use super::store::{Inner, LOCAL_DEADLINE, Store, commit_id, oid};
use crate::model::CommitId;

/// Bytes of all versions of a file that are read in one go: a manifest of the largest size, a few times over.
const BYTES_MAX: usize = 32 << 20;

/// A commit that changed a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileChange {
    /// The commit.
    pub commit: CommitId,
    /// When it was committed, as it says.
    pub time: Timestamp,
    /// The file before; `None` if it was not there or is no text of a manifest's size.
    pub before: Option<Arc<str>>,
    /// The file after.
    pub after: Option<Arc<str>>,
    /// Whether the commit changed nothing else.
    pub alone: bool,
}

impl Store {
    /// The commits that changed the file at `path`, newest first, among the `limit` commits from `tip` back. Merges are left
    /// out: what they bring was changed by another commit. `since` leaves out what says that it is older.
    ///
    /// # Errors
    /// If the store is damaged.
    pub async fn changes(
        &self,
        tip: &CommitId,
        path: &str,
        since: Timestamp,
        limit: usize,
    ) -> Result<Vec<FileChange>, GitError> {
        let (tip, path) = (tip.clone(), path.to_owned());
        self.run("reading git history", LOCAL_DEADLINE, move |inner, _| {
            inner.with(|repo| Trail { inner, repo, path: Path::new(&path), since, bytes: 0 }.walk(&tip, limit))
        })
        .await
    }
}

struct Trail<'a> {
    inner: &'a Inner,
    repo: &'a Repository,
    path: &'a Path,
    since: Timestamp,
    bytes: usize,
}

impl Trail<'_> {
    fn walk(&mut self, tip: &CommitId, limit: usize) -> Result<Vec<FileChange>, GitError> {
        let damaged = |error: git2::Error| self.inner.damaged(&error);
        let mut walk = self.repo.revwalk().map_err(damaged)?;
        walk.set_sorting(Sort::TOPOLOGICAL | Sort::TIME).map_err(damaged)?;
        walk.push(oid(tip)?).map_err(damaged)?;
        let mut found = Vec::new();
        for id in walk.take(limit) {
            let id = id.map_err(|error| self.inner.damaged(&error))?;
            if let Some(change) = self.change(id)? {
                found.push(change);
            }
            if self.bytes > BYTES_MAX {
                break;
            }
        }
        Ok(found)
    }

    fn change(&mut self, id: Oid) -> Result<Option<FileChange>, GitError> {
        let damaged = |error: git2::Error| self.inner.damaged(&error);
        let commit = self.repo.find_commit(id).map_err(damaged)?;
        let time = commit_time(&commit);
        if commit.parent_count() > 1 || time < self.since {
            return Ok(None);
        }
        let tree = commit.tree().map_err(damaged)?;
        // Where history was cut off, what was before is not known.
        let parent = commit.parent(0).and_then(|parent| parent.tree()).ok();
        let before = parent.as_ref().map(|tree| self.blob(tree)).transpose()?.flatten();
        let after = self.blob(&tree)?;
        if before == after {
            return Ok(None);
        }
        let alone = match &parent {
            Some(parent) => self.differ_there_only(parent, &tree)?,
            None => false,
        };
        let (before, after) = (self.text(before)?, self.text(after)?);
        Ok(Some(FileChange { commit: commit_id(id)?, time, before, after, alone }))
    }

    /// Whether two trees are equal but for the file: compared along its path only, since a whole tree may be endless.
    fn differ_there_only(&self, one: &Tree<'_>, other: &Tree<'_>) -> Result<bool, GitError> {
        let (mut one, mut other) = (one.clone(), other.clone());
        for part in self.path.iter() {
            let beside = |tree: &Tree<'_>| -> Vec<(Vec<u8>, Oid, i32)> {
                let beside = tree.iter().filter(|entry| entry.name_bytes() != part.as_encoded_bytes());
                beside.map(|entry| (entry.name_bytes().to_vec(), entry.id(), entry.filemode())).collect()
            };
            if beside(&one) != beside(&other) {
                return Ok(false);
            }
            let Some(name) = part.to_str() else { return Ok(false) };
            let below = |tree: &Tree<'_>| {
                let entry = tree.get_name(name).filter(|entry| entry.kind() == Some(ObjectType::Tree))?;
                self.repo.find_tree(entry.id()).ok()
            };
            match (below(&one), below(&other)) {
                (Some(below_one), Some(below_other)) => (one, other) = (below_one, below_other),
                // The file itself, or a folder that is new.
                _ => return Ok(self.path.iter().next_back() == Some(part)),
            }
        }
        Ok(false)
    }

    fn blob(&self, tree: &Tree<'_>) -> Result<Option<Oid>, GitError> {
        match tree.get_path(self.path) {
            Ok(entry) => Ok((entry.kind() == Some(ObjectType::Blob)).then(|| entry.id())),
            Err(error) if error.code() == ErrorCode::NotFound => Ok(None),
            Err(error) => Err(self.inner.damaged(&error)),
        }
    }

    fn text(&mut self, id: Option<Oid>) -> Result<Option<Arc<str>>, GitError> {
        let Some(id) = id else { return Ok(None) };
        let Some(bytes) = bounded_blob(self.inner, self.repo, id, Limits::default().file_bytes)? else {
            return Ok(None);
        };
        self.bytes += bytes.len();
        Ok(String::from_utf8(bytes).ok().map(Arc::from))
    }
}

/// A blob's content, unless it is longer than that: asked before it is read, since a small pack can hold a huge one.
pub(super) fn bounded_blob(
    inner: &Inner,
    repo: &Repository,
    id: Oid,
    bytes: usize,
) -> Result<Option<Vec<u8>>, GitError> {
    let damaged = |error: git2::Error| inner.damaged(&error);
    let (size, _) = repo.odb().and_then(|odb| odb.read_header(id)).map_err(damaged)?;
    if size > bytes {
        return Ok(None);
    }
    Ok(Some(repo.find_blob(id).map_err(damaged)?.content().to_vec()))
}
