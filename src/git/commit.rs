//! Commits by editing trees: no index, no checkout.

use std::collections::BTreeMap;
use std::path::Path;

use git2::build::TreeUpdateBuilder;
use git2::{ErrorCode, FileMode, Repository, Signature, Time, Tree};
use jiff::Timestamp;

use super::error::GitError;
use super::objects::Objects;
use super::signature::{AllowedSigners, SignatureError, SigningKey};
use super::store::{Inner, LOCAL_DEADLINE, Store, commit_id, oid};
use crate::model::CommitId;

/// One change to a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// The file has this content; its mode stays.
    Write {
        /// From the repository's root.
        path: String,
        /// The content.
        content: Vec<u8>,
    },
    /// The file is gone; nothing happens if it is.
    Remove {
        /// From the repository's root.
        path: String,
    },
}

/// What a commit's tree is made from, and its parent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// The parent's tree.
    Parent(CommitId),
    /// An empty tree on top of a parent: the edits say everything.
    EmptyOn(CommitId),
    /// No parent, an empty tree.
    Orphan,
}

/// Who commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Name.
    pub name: String,
    /// E-mail address.
    pub email: String,
}

/// What a commit says. Equal input gives an equal commit id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitMeta {
    /// The message.
    pub message: String,
    /// Author and committer.
    pub author: Identity,
    /// Author's and committer's time, to the second.
    pub time: Timestamp,
}

impl Store {
    /// Makes a commit in the store. Nothing points at it until it is pushed.
    ///
    /// `None` if its tree would be the parent's: there is nothing to say.
    ///
    /// # Errors
    /// If the parent was not fetched, an edit's path cannot be, or the store cannot be written.
    pub async fn commit(
        &self,
        base: Base,
        edits: Vec<Edit>,
        meta: CommitMeta,
    ) -> Result<Option<CommitId>, GitError> {
        let signer = self.signer();
        self.run("committing", LOCAL_DEADLINE, move |inner, _| {
            inner.with(|repo| {
                let made =
                    commit(repo, &base, &edits, &meta, signer.as_deref()).map_err(|error| inner.local(&error))?;
                made.map(commit_id).transpose()
            })
        })
        .await
    }

    /// A commit with exactly these files; see [`Store::commit`].
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub async fn commit_files(
        &self,
        parent: Option<&CommitId>,
        files: BTreeMap<String, Vec<u8>>,
        meta: CommitMeta,
    ) -> Result<Option<CommitId>, GitError> {
        let base = parent.map_or(Base::Orphan, |parent| Base::EmptyOn(parent.clone()));
        let edits = files.into_iter().map(|(path, content)| Edit::Write { path, content }).collect();
        self.commit(base, edits, meta).await
    }

    /// Whether one of these signed a commit.
    ///
    /// # Errors
    /// When none did, or the store is damaged.
    pub async fn verify(&self, commit: &CommitId, allowed: &AllowedSigners) -> Result<(), GitError> {
        let (commit, allowed) = (commit.clone(), allowed.clone());
        self.run("verifying a commit", LOCAL_DEADLINE, move |inner, _| {
            inner.with(|repo| {
                let objects = Objects::new(inner, repo)?;
                let id = oid(&commit)?;
                // Asked for its size first.
                objects.commit(id)?;
                let verified = match repo.extract_signature(&id, None) {
                    Ok((signature, content)) => str::from_utf8(&signature)
                        .map_err(|_| SignatureError::OtherKind)
                        .and_then(|signature| allowed.verify(signature, &content)),
                    Err(error) if error.code() == ErrorCode::NotFound => Err(SignatureError::Unsigned),
                    Err(error) => return Err(objects.unusable(id, &error)),
                };
                verified.map_err(|reason| GitError::NotVerified { commit: commit.to_string(), reason })
            })
        })
        .await
    }

    /// Whether a commit is in the store.
    ///
    /// # Errors
    /// If the store is damaged.
    pub async fn has(&self, commit: &CommitId) -> Result<bool, GitError> {
        let commit = commit.clone();
        self.run("reading the git cache", LOCAL_DEADLINE, move |inner, _| {
            inner.with(|repo| match repo.find_commit(oid(&commit)?) {
                Ok(_) => Ok(true),
                Err(error) if error.code() == ErrorCode::NotFound => Ok(false),
                Err(error) => Err(inner.damaged(&error)),
            })
        })
        .await
    }

    /// Whether `ancestor` is `commit` or lies behind it.
    ///
    /// # Errors
    /// If the store is damaged.
    pub async fn is_ancestor(&self, ancestor: &CommitId, commit: &CommitId) -> Result<bool, GitError> {
        let (ancestor, commit) = (ancestor.clone(), commit.clone());
        self.run("reading git history", LOCAL_DEADLINE, move |inner, _| {
            inner.with(|repo| is_ancestor(inner, repo, &ancestor, &commit))
        })
        .await
    }
}

pub(super) fn is_ancestor(
    inner: &Inner,
    repo: &Repository,
    ancestor: &CommitId,
    commit: &CommitId,
) -> Result<bool, GitError> {
    if ancestor == commit {
        return Ok(true);
    }
    let ancestor = oid(ancestor)?;
    // A commit that we never fetched is none of ours' ancestors.
    if repo.find_commit(ancestor).is_err() {
        return Ok(false);
    }
    repo.graph_descendant_of(oid(commit)?, ancestor).map_err(|error| inner.damaged(&error))
}

fn commit(
    repo: &Repository,
    base: &Base,
    edits: &[Edit],
    meta: &CommitMeta,
    signer: Option<&SigningKey>,
) -> Result<Option<git2::Oid>, git2::Error> {
    let empty = || repo.treebuilder(None).and_then(|builder| repo.find_tree(builder.write()?));
    let find = |id: &CommitId| repo.find_commit(git2::Oid::from_str(id.as_str())?);
    let (parent, baseline) = match base {
        Base::Parent(id) => {
            let parent = find(id)?;
            let tree = parent.tree()?;
            (Some(parent), tree)
        }
        Base::EmptyOn(id) => (Some(find(id)?), empty()?),
        Base::Orphan => (None, empty()?),
    };
    let tree = edited(repo, &baseline, edits)?;
    if parent.as_ref().is_some_and(|parent| parent.tree_id() == tree.id()) {
        return Ok(None);
    }
    let CommitMeta { message, author: Identity { name, email }, time } = meta;
    let signature = Signature::new(name, email, &Time::new(time.as_second(), 0))?;
    let parents: Vec<_> = parent.iter().collect();
    let Some(signer) = signer else {
        return repo.commit(None, &signature, &signature, message, &tree, &parents).map(Some);
    };
    let content = repo.commit_create_buffer(&signature, &signature, message, &tree, &parents)?;
    let content = str::from_utf8(&content).map_err(|error| git2::Error::from_str(&error.to_string()))?;
    repo.commit_signed(content, &signer.sign(content.as_bytes()), None).map(Some)
}

fn edited<'a>(repo: &'a Repository, baseline: &Tree<'_>, edits: &[Edit]) -> Result<Tree<'a>, git2::Error> {
    let mut update = TreeUpdateBuilder::new();
    for edit in edits {
        match edit {
            Edit::Write { path, content } => {
                let mode = baseline.get_path(Path::new(path)).map_or(FileMode::Blob, |entry| {
                    let executable = entry.filemode() == i32::from(FileMode::BlobExecutable);
                    if executable { FileMode::BlobExecutable } else { FileMode::Blob }
                });
                update.upsert(path.as_str(), repo.blob(content)?, mode);
            }
            Edit::Remove { path } => {
                if baseline.get_path(Path::new(path)).is_ok() {
                    update.remove(path.as_str());
                }
            }
        }
    }
    let id = update.create_updated(repo, baseline)?;
    repo.find_tree(id)
}
