//! Reading objects: asked for their size before they are inflated, and when they cannot be read, told apart whether our copy is
//! damaged or they were pushed like that.

use git2::{Blob, Commit, ObjectType, Odb, Oid, Repository, Tree};

use super::error::GitError;
use super::limits::{CHECKED_BYTES_MAX, COMMIT_BYTES_MAX, TREE_BYTES_MAX};
use super::store::Inner;

/// The objects of the store.
pub(super) struct Objects<'r> {
    inner: &'r Inner,
    repo: &'r Repository,
    odb: Odb<'r>,
}

impl<'r> Objects<'r> {
    pub(super) fn new(inner: &'r Inner, repo: &'r Repository) -> Result<Self, GitError> {
        let odb = repo.odb().map_err(|error| inner.damaged(&error))?;
        Ok(Self { inner, repo, odb })
    }

    /// An object's size in bytes, and what it is.
    pub(super) fn header(&self, id: Oid) -> Result<(usize, ObjectType), GitError> {
        self.odb.read_header(id).map_err(|error| self.unusable(id, &error))
    }

    /// A commit.
    pub(super) fn commit(&self, id: Oid) -> Result<Commit<'r>, GitError> {
        self.at_most(id, COMMIT_BYTES_MAX)?;
        self.repo.find_commit(id).map_err(|error| self.unusable(id, &error))
    }

    /// A folder.
    pub(super) fn tree(&self, id: Oid) -> Result<Tree<'r>, GitError> {
        self.at_most(id, TREE_BYTES_MAX)?;
        self.repo.find_tree(id).map_err(|error| self.unusable(id, &error))
    }

    /// The folder at the top of a commit.
    pub(super) fn tree_of(&self, commit: &Commit<'_>) -> Result<Tree<'r>, GitError> {
        self.tree(commit.tree_id())
    }

    /// A file's content, whose size the caller has asked for.
    pub(super) fn blob(&self, id: Oid) -> Result<Blob<'r>, GitError> {
        self.repo.find_blob(id).map_err(|error| self.unusable(id, &error))
    }

    fn at_most(&self, id: Oid, limit: usize) -> Result<(), GitError> {
        let (bytes, kind) = self.header(id)?;
        if bytes <= limit {
            return Ok(());
        }
        Err(GitError::Malformed {
            id: id.to_string(),
            reason: format!("a {kind} of {bytes} bytes, more than {limit}"),
        })
    }

    /// What an error about an object means: damage if its bytes are not here or are not its own, else what was pushed.
    pub(super) fn unusable(&self, id: Oid, error: &git2::Error) -> GitError {
        // The store compares with the id what it reads.
        let small = self.odb.read_header(id).is_ok_and(|(bytes, _)| bytes <= CHECKED_BYTES_MAX);
        if small && self.odb.read(id).is_ok() {
            return GitError::Malformed { id: id.to_string(), reason: error.message().to_owned() };
        }
        self.inner.damaged(error)
    }
}
