//! Looking back: messages of earlier commits, ancestry, whole trees.

use std::collections::BTreeMap;

use git2::{ObjectType, Repository, Sort};
use jiff::Timestamp;

use super::error::GitError;
use super::limits::MESSAGE_BYTES_MAX;
use super::objects::Objects;
use super::snapshot::{commit_time, lossy};
use super::store::{Inner, LOCAL_DEADLINE, Store, commit_id, oid};
use super::trail::bounded_blob;
use crate::model::CommitId;

/// How much is taken of a whole tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeLimits {
    /// Files and folders.
    pub entries: usize,
    /// Bytes of one file.
    pub file_bytes: usize,
    /// Bytes of all files.
    pub bytes: usize,
}

/// A commit without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitInfo {
    /// Its id.
    pub id: CommitId,
    /// The whole message.
    pub message: String,
    /// Author's name.
    pub author: String,
    /// When it was committed.
    pub time: Timestamp,
}

impl Store {
    /// Up to `limit` commits from `tip` back, newest first, along all parents.
    ///
    /// # Errors
    /// If the store is damaged.
    pub async fn history(&self, tip: &CommitId, limit: usize) -> Result<Vec<CommitInfo>, GitError> {
        let tip = tip.clone();
        self.run("reading git history", LOCAL_DEADLINE, move |inner, _| {
            inner.with(|repo| history(inner, repo, &tip, limit))
        })
        .await?
        .into_iter()
        .map(|(id, message, author, time)| Ok(CommitInfo { id: commit_id(id)?, message, author, time }))
        .collect()
    }

    /// All files at a commit, by path.
    ///
    /// # Errors
    /// If there is more than `limits` allow, or the store is damaged.
    pub async fn tree(
        &self,
        commit: &CommitId,
        limits: TreeLimits,
    ) -> Result<BTreeMap<String, Vec<u8>>, GitError> {
        let commit = commit.clone();
        self.run("reading the git cache", LOCAL_DEADLINE, move |inner, _| {
            inner.with(|repo| tree(inner, repo, &commit, limits))
        })
        .await
    }

    /// How many commits lie behind `tip`, itself included, counting no further than `limit`.
    ///
    /// # Errors
    /// If the store is damaged.
    pub async fn depth(&self, tip: &CommitId, limit: usize) -> Result<usize, GitError> {
        let tip = tip.clone();
        self.run("reading git history", LOCAL_DEADLINE, move |inner, _| {
            inner.with(|repo| {
                let count = || {
                    let mut walk = repo.revwalk()?;
                    walk.push(git2::Oid::from_str(tip.as_str())?)?;
                    Ok(walk.take(limit).count())
                };
                count().map_err(|error: git2::Error| inner.damaged(&error))
            })
        })
        .await
    }
}

type Raw = (git2::Oid, String, String, Timestamp);

fn history(inner: &Inner, repo: &Repository, tip: &CommitId, limit: usize) -> Result<Vec<Raw>, GitError> {
    let tip = oid(tip)?;
    let objects = Objects::new(inner, repo)?;
    let walk = || {
        let mut walk = repo.revwalk()?;
        walk.set_sorting(Sort::TOPOLOGICAL | Sort::TIME)?;
        walk.push(tip)?;
        Ok(walk)
    };
    let walk = walk().map_err(|error| objects.unusable(tip, &error))?;
    let mut found = Vec::new();
    for id in walk.take(limit) {
        let id = id.map_err(|error| objects.unusable(tip, &error))?;
        let commit = objects.commit(id)?;
        let message = commit.message_bytes();
        let message = lossy(message.get(..MESSAGE_BYTES_MAX).unwrap_or(message));
        found.push((id, message, lossy(commit.author().name_bytes()), commit_time(&commit)));
    }
    Ok(found)
}

fn tree(
    inner: &Inner,
    repo: &Repository,
    commit: &CommitId,
    limits: TreeLimits,
) -> Result<BTreeMap<String, Vec<u8>>, GitError> {
    let too_much = |what: String| GitError::TooMuch { commit: commit.short().to_owned(), what };
    let objects = Objects::new(inner, repo)?;
    let root = objects.tree_of(&objects.commit(oid(commit)?)?)?;
    let (mut files, mut seen, mut bytes) = (BTreeMap::new(), 0, 0);
    let mut open = vec![(String::new(), root)];
    while let Some((folder, tree)) = open.pop() {
        for entry in &tree {
            // Folders count, too: a few trees that name each other are many folders.
            seen += 1;
            if seen > limits.entries {
                return Err(too_much(format!("more than {} files and folders", limits.entries)));
            }
            let Ok(name) = std::str::from_utf8(entry.name_bytes()) else { continue };
            match entry.kind() {
                Some(ObjectType::Blob) => {
                    let path = format!("{folder}{name}");
                    let Some(content) = bounded_blob(inner, repo, entry.id(), limits.file_bytes)? else {
                        return Err(too_much(format!(
                            "{path:?}, which is longer than {} bytes",
                            limits.file_bytes
                        )));
                    };
                    bytes += content.len();
                    if bytes > limits.bytes {
                        return Err(too_much(format!("more than {} bytes", limits.bytes)));
                    }
                    files.insert(path, content);
                }
                Some(ObjectType::Tree) => {
                    open.push((format!("{folder}{name}/"), objects.tree(entry.id())?));
                }
                _ => {}
            }
        }
    }
    Ok(files)
}
