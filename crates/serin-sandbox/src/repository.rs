//! The bare Git repository that the demo pushes to and that a newcomer clones.
//!
//! Commits are made in the object store by tree edits, so that the demo needs no `git` binary. Refs move with compare and
//! swap: a push of the user's own that comes in between is kept, and the edit is made again on top of it.

use std::path::{Path, PathBuf};

use git2::build::TreeUpdateBuilder;
use git2::{DiffFormat, ErrorCode, FileMode, Oid, Repository as Bare, RepositoryInitOptions, Signature};

use serin_core::model::{CommitId, CommitIdError};

/// The branch that is watched.
pub const BRANCH: &str = "main";
/// Author of the commits that stand for the user's own.
pub const DEVELOPER: &str = "Dev";
/// Times that an edit is made again because the branch moved; only a busy pusher gets near.
const RETRIES_MAX: usize = 10;

/// Most commits that are told at once: between two looks there are a handful.
const SINCE_MAX: usize = 100;

/// Longest patch that is shown: a rollback is a few lines.
const PATCH_BYTES_MAX: usize = 16 * 1024;

/// A bare repository on disk.
#[derive(Debug, Clone)]
pub struct Repository {
    path: PathBuf,
}

/// Why something in the repository failed.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    /// Git said no.
    #[error("git repository {}", path.display())]
    Git {
        /// Where.
        path: PathBuf,
        /// What it said.
        #[source]
        source: git2::Error,
    },
    /// The branch kept moving.
    #[error("branch {BRANCH} moved {RETRIES_MAX} times while a commit was made")]
    Busy,
    /// A file is not there.
    #[error("{path} is not in the newest commit of {BRANCH}")]
    NoFile {
        /// Which.
        path: String,
    },
    /// An object id is not SHA-1.
    #[error(transparent)]
    Commit(#[from] CommitIdError),
}

/// A commit as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Its id.
    pub id: CommitId,
    /// First line of the message.
    pub subject: String,
    /// The whole message.
    pub message: String,
    /// The author's name.
    pub author: String,
}

/// A file to write.
#[derive(Debug, Clone)]
pub struct FileEdit {
    /// Path from the root.
    pub path: String,
    /// The whole new content.
    pub content: String,
}

impl Repository {
    /// Opens the repository at `path`, making a bare one whose HEAD is `main` if there is none.
    pub fn open_or_init(path: &Path) -> Result<Self, RepositoryError> {
        let this = Self { path: path.to_owned() };
        match Bare::open_bare(path) {
            Ok(_) => Ok(this),
            Err(error) if error.code() == ErrorCode::NotFound => {
                let mut options = RepositoryInitOptions::new();
                options.bare(true).mkpath(true).initial_head(BRANCH);
                Bare::init_opts(path, &options).map_err(|source| this.error(source))?;
                Ok(this)
            }
            Err(source) => Err(this.error(source)),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The newest commit of a branch; `None` while it has none.
    pub fn tip(&self, branch: &str) -> Result<Option<Commit>, RepositoryError> {
        let bare = self.bare()?;
        let Some(oid) = self.oid(&bare, branch)? else { return Ok(None) };
        self.shown(&bare, oid).map(Some)
    }

    /// The commits of a branch after `seen`, oldest first; all of them without it. At most [`SINCE_MAX`], the newest.
    pub fn since(&self, branch: &str, seen: Option<&CommitId>) -> Result<Vec<Commit>, RepositoryError> {
        let bare = self.bare()?;
        let Some(tip) = self.oid(&bare, branch)? else { return Ok(Vec::new()) };
        let new: Vec<Oid> = self.walk(&bare, tip, seen).map_err(|source| self.error(source))?;
        new.into_iter().rev().map(|oid| self.shown(&bare, oid)).collect()
    }

    fn walk(&self, bare: &Bare, tip: Oid, seen: Option<&CommitId>) -> Result<Vec<Oid>, git2::Error> {
        let mut walk = bare.revwalk()?;
        walk.set_sorting(git2::Sort::TOPOLOGICAL)?;
        walk.push(tip)?;
        if let Some(seen) = seen {
            walk.hide(Oid::from_str(seen.as_str())?)?;
        }
        walk.take(SINCE_MAX).collect()
    }

    fn shown(&self, bare: &Bare, oid: Oid) -> Result<Commit, RepositoryError> {
        let commit = bare.find_commit(oid).map_err(|source| self.error(source))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        let message = text(commit.message_bytes());
        let subject = message.lines().next().unwrap_or_default().to_owned();
        let author = text(commit.author().name_bytes());
        Ok(Commit { id: oid.to_string().parse()?, subject, message, author })
    }

    /// What a commit changed, as `git show` prints it; at most [`PATCH_BYTES_MAX`].
    pub fn patch(&self, commit: &CommitId) -> Result<String, RepositoryError> {
        let bare = self.bare()?;
        let text = self.diff(&bare, commit).map_err(|source| self.error(source))?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    fn diff(&self, bare: &Bare, commit: &CommitId) -> Result<Vec<u8>, git2::Error> {
        let commit = bare.find_commit(Oid::from_str(commit.as_str())?)?;
        let parent = commit.parents().next().map(|parent| parent.tree()).transpose()?;
        let diff = bare.diff_tree_to_tree(parent.as_ref(), Some(&commit.tree()?), None)?;
        let mut text = Vec::new();
        diff.print(DiffFormat::Patch, |_, _, line| {
            if matches!(line.origin(), '+' | '-' | ' ') {
                text.push(line.origin() as u8);
            }
            text.extend_from_slice(line.content());
            text.len() <= PATCH_BYTES_MAX
        })
        .or_else(|error| if text.len() > PATCH_BYTES_MAX { Ok(()) } else { Err(error) })?;
        Ok(text)
    }

    /// A file of the newest commit of a branch.
    pub fn read(&self, branch: &str, path: &str) -> Result<String, RepositoryError> {
        let bare = self.bare()?;
        let missing = || RepositoryError::NoFile { path: path.to_owned() };
        let oid = self.oid(&bare, branch)?.ok_or_else(missing)?;
        let tree = bare.find_commit(oid).and_then(|commit| commit.tree()).map_err(|source| self.error(source))?;
        let entry = tree.get_path(Path::new(path)).map_err(|_| missing())?;
        let blob = bare.find_blob(entry.id()).map_err(|source| self.error(source))?;
        Ok(String::from_utf8_lossy(blob.content()).into_owned())
    }

    /// Commits what `edit` makes of the newest state of `main`, like an edit, a commit and a push.
    pub fn commit(
        &self,
        message: &str,
        edit: impl Fn(&Self) -> Result<Vec<FileEdit>, RepositoryError>,
    ) -> Result<CommitId, RepositoryError> {
        for _ in 0..RETRIES_MAX {
            let bare = self.bare()?;
            let old = self.oid(&bare, BRANCH)?;
            let edits = edit(self)?;
            let new = self.write(&bare, old, &edits, message).map_err(|source| self.error(source))?;
            if self.swap(&bare, old, new)? {
                return Ok(new.to_string().parse()?);
            }
        }
        Err(RepositoryError::Busy)
    }

    fn write(
        &self,
        bare: &Bare,
        parent: Option<Oid>,
        edits: &[FileEdit],
        message: &str,
    ) -> Result<Oid, git2::Error> {
        let parent = parent.map(|oid| bare.find_commit(oid)).transpose()?;
        let base = match &parent {
            Some(parent) => parent.tree()?,
            None => bare.find_tree(bare.treebuilder(None)?.write()?)?,
        };
        let mut builder = TreeUpdateBuilder::new();
        for FileEdit { path, content } in edits {
            builder.upsert(path.as_str(), bare.blob(content.as_bytes())?, FileMode::Blob);
        }
        let tree = bare.find_tree(builder.create_updated(bare, &base)?)?;
        let author = Signature::now(DEVELOPER, "dev@example.com")?;
        let parents: Vec<_> = parent.iter().collect();
        bare.commit(None, &author, &author, message, &tree, &parents)
    }

    fn swap(&self, bare: &Bare, old: Option<Oid>, new: Oid) -> Result<bool, RepositoryError> {
        let name = format!("refs/heads/{BRANCH}");
        let moved = match old {
            Some(old) => bare.reference_matching(&name, new, true, old, "push"),
            None => bare.reference(&name, new, false, "push"),
        };
        match moved {
            Ok(_) => Ok(true),
            Err(error)
                if matches!(error.code(), ErrorCode::Modified | ErrorCode::Exists | ErrorCode::NotFound) =>
            {
                Ok(false)
            }
            Err(source) => Err(self.error(source)),
        }
    }

    fn oid(&self, bare: &Bare, branch: &str) -> Result<Option<Oid>, RepositoryError> {
        match bare.refname_to_id(&format!("refs/heads/{branch}")) {
            Ok(oid) => Ok(Some(oid)),
            Err(error) if error.code() == ErrorCode::NotFound => Ok(None),
            Err(source) => Err(self.error(source)),
        }
    }

    fn bare(&self) -> Result<Bare, RepositoryError> {
        Bare::open_bare(&self.path).map_err(|source| self.error(source))
    }

    fn error(&self, source: git2::Error) -> RepositoryError {
        RepositoryError::Git { path: self.path.clone(), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edit(content: &str) -> Vec<FileEdit> {
        vec![FileEdit { path: "a/b.yaml".into(), content: content.into() }]
    }

    #[test]
    fn commits_follow_each_other() -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let repository = Repository::open_or_init(&dir.path().join("repo.git"))?;
        assert_eq!(repository.tip(BRANCH)?, None);
        repository.commit("first", |_| Ok(edit("1")))?;
        let second = repository
            .commit("second\n\nbody", |repository| Ok(edit(&(repository.read(BRANCH, "a/b.yaml")? + "2"))))?;
        let tip = repository.tip(BRANCH)?.ok_or("no tip")?;
        assert_eq!((tip.id.clone(), tip.subject.as_str()), (second, "second"));
        assert_eq!(repository.read(BRANCH, "a/b.yaml")?, "12");
        assert!(repository.patch(&tip.id)?.contains("\n-1\n"), "{}", repository.patch(&tip.id)?);
        let third = repository.commit("third", |_| Ok(edit("3")))?;
        let first = repository.since(BRANCH, None)?.first().map(|commit| commit.id.clone()).ok_or("no commit")?;
        let ids: Vec<_> = repository.since(BRANCH, Some(&first))?.into_iter().map(|commit| commit.id).collect();
        assert_eq!(ids, [tip.id, third.clone()], "oldest first");
        assert!(repository.since(BRANCH, Some(&third))?.is_empty());
        assert!(repository.since("other", None)?.is_empty());
        Ok(())
    }
}
