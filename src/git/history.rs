//! Looking back: messages of earlier commits, ancestry, whole trees.

use std::collections::BTreeMap;

use git2::{ObjectType, Repository, Sort, TreeWalkMode, TreeWalkResult};
use jiff::Timestamp;

use super::error::GitError;
use super::snapshot::{commit_time, lossy};
use super::store::{Inner, LOCAL_DEADLINE, Store, commit_id, oid};
use crate::model::CommitId;

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

impl CommitInfo {
    /// The value of a trailer (`Serin-From: …`) in the message's last paragraph.
    pub fn trailer(&self, key: &str) -> Option<&str> {
        let last = self.message.trim_end().rsplit("\n\n").next().unwrap_or("");
        last.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).map(str::trim)
    }
}

impl Store {
    /// Up to `limit` commits from `tip` back, newest first, along all parents.
    ///
    /// # Errors
    /// If the store is damaged.
    pub async fn history(&self, tip: &CommitId, limit: usize) -> Result<Vec<CommitInfo>, GitError> {
        let tip = tip.clone();
        self.run("reading git history", LOCAL_DEADLINE, move |inner| {
            inner.with(|repo| history(repo, &tip, limit).map_err(|error| inner.damaged(&error)))
        })
        .await?
        .into_iter()
        .map(|(id, message, author, time)| Ok(CommitInfo { id: commit_id(id)?, message, author, time }))
        .collect()
    }

    /// All files at a commit, by path.
    ///
    /// # Errors
    /// If the store is damaged.
    pub async fn tree(&self, commit: &CommitId) -> Result<BTreeMap<String, Vec<u8>>, GitError> {
        let commit = commit.clone();
        self.run("reading the git cache", LOCAL_DEADLINE, move |inner| {
            inner.with(|repo| tree(inner, repo, &commit))
        })
        .await
    }

    /// How many commits lie behind `tip`, itself included, counting no further than `limit`.
    ///
    /// # Errors
    /// If the store is damaged.
    pub async fn depth(&self, tip: &CommitId, limit: usize) -> Result<usize, GitError> {
        let tip = tip.clone();
        self.run("reading git history", LOCAL_DEADLINE, move |inner| {
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

fn history(repo: &Repository, tip: &CommitId, limit: usize) -> Result<Vec<Raw>, git2::Error> {
    let mut walk = repo.revwalk()?;
    walk.set_sorting(Sort::TOPOLOGICAL | Sort::TIME)?;
    walk.push(git2::Oid::from_str(tip.as_str())?)?;
    let mut found = Vec::new();
    for id in walk.take(limit) {
        let commit = repo.find_commit(id?)?;
        let author = lossy(commit.author().name_bytes());
        found.push((commit.id(), lossy(commit.message_bytes()), author, commit_time(&commit)));
    }
    Ok(found)
}

fn tree(inner: &Inner, repo: &Repository, commit: &CommitId) -> Result<BTreeMap<String, Vec<u8>>, GitError> {
    let damaged = |error: git2::Error| inner.damaged(&error);
    let tree = repo.find_commit(oid(commit)?).and_then(|commit| commit.tree()).map_err(damaged)?;
    let mut ids = Vec::new();
    tree.walk(TreeWalkMode::PreOrder, |folder, entry| {
        if let (Some(ObjectType::Blob), Ok(name)) = (entry.kind(), std::str::from_utf8(entry.name_bytes())) {
            ids.push((format!("{folder}{name}"), entry.id()));
        }
        TreeWalkResult::Ok
    })
    .map_err(damaged)?;
    let mut files = BTreeMap::new();
    for (path, id) in ids {
        let blob = repo.find_blob(id).map_err(damaged)?;
        files.insert(path, blob.content().to_vec());
    }
    Ok(files)
}
