//! The manifests at one commit, read from the object store.

use std::sync::{Arc, PoisonError};

use git2::{Commit, ErrorCode, ObjectType, Oid, Tree};
use jiff::Timestamp;

use super::error::GitError;
use super::folder::{Folder, Found, Item, Reading, Stopped, TooMuch, is_link, size};
use super::ignore::{IGNORE_FILE, Ignore};
use super::limits::ENTRIES_MAX;
use super::objects::Objects;
use super::place::TreePath;
use super::store::{Inner, LOCAL_DEADLINE, Store, oid};
use crate::model::CommitId;
use crate::model::path::within;

/// How much is taken from a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one file; bigger ones are skipped. etcd takes 1.5 MiB for an object, a file may hold several.
    pub file_bytes: usize,
    /// Manifests in one snapshot.
    pub files: usize,
    /// Bytes of all of them: they are in memory together.
    pub bytes: usize,
}

impl Default for Limits {
    /// 5 MiB a file, 100,000 files, 64 MiB in all.
    fn default() -> Self {
        Self { file_bytes: 5 << 20, files: 100_000, bytes: 64 << 20 }
    }
}

/// The manifests at one commit.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// The commit.
    pub commit: CommitId,
    /// YAML and JSON files, in Git's order; shared with earlier snapshots as long as they are the same.
    pub files: Vec<Arc<SnapshotFile>>,
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
    /// The content.
    pub text: Arc<str>,
    /// Made of several files: it is nowhere to be edited.
    pub rendered: bool,
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
        self.files.iter().find(|file| file.path == path).map(Arc::as_ref)
    }
}

/// The folders of the last snapshots: what has not changed since is not read again.
#[derive(Debug, Default)]
pub(super) struct Recent(Vec<(Root, Arc<Folder>)>);

/// Which part of a repository, and how much of it, a snapshot is of.
type Root = (String, Limits);

/// Snapshots that are remembered: two sources (sync's path, a promoted commit) take turns.
const RECENT: usize = 4;

impl Recent {
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// The newest folder of the same place.
    fn get(&self, root: &Root) -> Option<Arc<Folder>> {
        self.0.iter().rev().find(|(known, _)| known == root).map(|(_, folder)| Arc::clone(folder))
    }

    fn put(&mut self, root: Root, folder: Arc<Folder>) {
        self.0.retain(|(known, kept)| *known != root || kept.id != folder.id);
        self.0.push((root, folder));
        if self.0.len() > RECENT {
            self.0.remove(0);
        }
    }
}

impl Store {
    /// The YAML and JSON files below `path` (empty: everywhere) at a commit that was fetched.
    ///
    /// Names that start with a dot are left out, and what `.serinignore` files and the settings say; symlinks, submodules and what Git LFS keeps are not read, and said to be.
    /// Folders and files that are as in an earlier
    /// snapshot are not read again, so a small commit costs little in a large repository.
    ///
    /// # Errors
    /// If the path is none or not there, there are too many files, or the store is damaged (fetch again).
    pub async fn snapshot(&self, commit: &CommitId, path: &str, limits: Limits) -> Result<Snapshot, GitError> {
        let (commit, path, ignore) = (commit.clone(), place(path)?, self.ignore());
        self.run("reading the git cache", LOCAL_DEADLINE, move |inner, _| {
            inner.with(|repo| {
                let objects = Objects::new(inner, repo)?;
                Reader::new(inner, &objects, (&commit, path.as_str()), limits, &ignore).read()
            })
        })
        .await
    }

    /// One file at a commit; `None` if it is not there.
    ///
    /// # Errors
    /// If the store is damaged, or the file is not text.
    pub async fn file(&self, commit: &CommitId, path: &str) -> Result<Option<SnapshotFile>, GitError> {
        let (commit, path) = (commit.clone(), place(path)?);
        self.run("reading the git cache", LOCAL_DEADLINE, move |inner, _| {
            let path = path.as_str();
            let read = inner.with(|repo| {
                let objects = Objects::new(inner, repo)?;
                Reader::new(inner, &objects, (&commit, path), Limits::default(), &Ignore::default()).read()
            });
            match read {
                Ok(snapshot) => Ok(snapshot.file(path).cloned()),
                Err(GitError::NoPath { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        })
        .await
    }
}

/// Nobody reaches libgit2 with a path that it would refuse.
fn place(path: &str) -> Result<TreePath, GitError> {
    path.parse().map_err(GitError::Path)
}

pub(super) fn commit_time(commit: &Commit<'_>) -> Timestamp {
    Timestamp::from_second(commit.time().seconds()).unwrap_or(Timestamp::UNIX_EPOCH)
}

pub(super) fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

struct Reader<'a> {
    inner: &'a Inner,
    objects: &'a Objects<'a>,
    commit: &'a CommitId,
    path: &'a str,
    limits: Limits,
    /// What the settings leave out: they have the last word.
    ignore: &'a Ignore,
    /// What the files in force where we are leave out.
    rules: Ignore,
    files: Vec<Arc<SnapshotFile>>,
    skipped: Vec<SkippedFile>,
}

impl<'a> Reader<'a> {
    fn new(
        inner: &'a Inner,
        objects: &'a Objects<'a>,
        (commit, path): (&'a CommitId, &'a str),
        limits: Limits,
        ignore: &'a Ignore,
    ) -> Self {
        let (files, skipped) = (Vec::new(), Vec::new());
        Self { inner, objects, commit, path, limits, ignore, rules: Ignore::default(), files, skipped }
    }

    fn read(mut self) -> Result<Snapshot, GitError> {
        let commit = self.objects.commit(oid(self.commit)?)?;
        let tree = self.objects.tree_of(&commit)?;
        let mut reading = Reading::new(self.objects, tree.id(), self.limits);
        self.rules_above(&reading, &tree)?;
        if self.path.is_empty() {
            self.folder(&mut reading, tree.id())?;
        } else {
            let entry = match tree.get_path(std::path::Path::new(self.path)) {
                Ok(entry) => entry,
                Err(error) if error.code() == ErrorCode::NotFound => {
                    return Err(GitError::NoPath {
                        path: self.path.to_owned(),
                        commit: self.commit.short().to_owned(),
                    });
                }
                Err(error) => return Err(self.objects.unusable(tree.id(), &error)),
            };
            let not_read = |what| {
                let (path, commit) = (self.path.to_owned(), self.commit.short().to_owned());
                GitError::NoFolder { path, commit, what }
            };
            match entry.kind() {
                Some(ObjectType::Tree) => self.folder(&mut reading, entry.id())?,
                Some(ObjectType::Commit) => return Err(not_read("submodule")),
                _ if is_link(&entry) => return Err(not_read("symlink")),
                _ => {
                    // Named itself it is meant, whatever is left out elsewhere.
                    match reading.blob(self.path.to_owned(), entry.id()).map_err(|stopped| self.why(stopped))? {
                        Found::File(file) => self.files.push(file),
                        Found::Skipped(skipped) => self.skipped.push(skipped),
                        Found::Folder(_) | Found::Rules(_) => {}
                    }
                }
            }
        }
        let subject = commit.message_bytes().split(|byte| *byte == b'\n').next().map(lossy).unwrap_or_default();
        let author = lossy(commit.author().name_bytes());
        let (files, skipped) = (self.files, self.skipped);
        Ok(Snapshot { commit: self.commit.clone(), files, skipped, subject, author, time: commit_time(&commit) })
    }

    /// Everything below a folder, by what is known of it from before.
    fn folder(&mut self, reading: &mut Reading<'_>, id: Oid) -> Result<(), GitError> {
        let root = (self.path.to_owned(), self.limits);
        let recent = || self.inner.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let before = recent().get(&root);
        let folder = reading.folder(id, self.path, before.as_ref()).map_err(|stopped| self.why(stopped))?;
        if folder.files > self.limits.files {
            return Err(self.too_much(TooMuch::Files));
        }
        if folder.bytes > self.limits.bytes {
            return Err(self.too_much(TooMuch::Bytes));
        }
        recent().put(root, Arc::clone(&folder));
        self.files.reserve(folder.files);
        self.flatten(&folder, self.path);
        Ok(())
    }

    /// The patterns of the folders that `path` is in.
    fn rules_above(&mut self, reading: &Reading<'_>, root: &Tree<'_>) -> Result<(), GitError> {
        let ends = self.path.match_indices('/').map(|(at, _)| self.path.get(..at).unwrap_or_default());
        for folder in [""].into_iter().chain(ends).filter(|folder| *folder != self.path) {
            let file = within(folder, IGNORE_FILE);
            let Ok(entry) = root.get_path(std::path::Path::new(&file)) else { continue };
            match reading.rules(&entry, file).map_err(|stopped| self.why(stopped))? {
                Found::Rules(text) => self.rules.add(folder, &text),
                Found::Skipped(skipped) => self.skipped.push(skipped),
                Found::Folder(_) | Found::File(_) => {}
            }
        }
        Ok(())
    }

    fn flatten(&mut self, folder: &Folder, path: &str) {
        let before = self.rules.len();
        for Item { found, .. } in &folder.items {
            if let Found::Rules(text) = found {
                self.rules.add(path, text);
            }
        }
        for Item { name, found, .. } in &folder.items {
            match found {
                Found::Folder(folder) => {
                    let path = within(path, &String::from_utf8_lossy(name));
                    if !self.leaves_out(&path, true) {
                        self.flatten(folder, &path);
                    }
                }
                // Nobody knows whether what is not read is a folder.
                Found::Skipped(skipped) if self.leaves_out(&skipped.path, true) => {}
                Found::Skipped(skipped) => self.skipped.push(skipped.clone()),
                Found::File(file) if self.leaves_out(&file.path, false) => {}
                Found::File(file) => self.files.push(Arc::clone(file)),
                Found::Rules(_) => {}
            }
        }
        self.rules.forget(before);
    }

    fn leaves_out(&self, path: &str, is_folder: bool) -> bool {
        let of_settings = self.ignore.verdict(path, is_folder);
        of_settings.or_else(|| self.rules.verdict(path, is_folder)).unwrap_or(false)
    }

    fn why(&self, stopped: Stopped) -> GitError {
        match stopped {
            Stopped::At(what) => self.too_much(what),
            Stopped::Because(error) => error,
        }
    }

    fn too_much(&self, what: TooMuch) -> GitError {
        let (path, commit) = (self.path.to_owned(), self.commit.short().to_owned());
        let limit = match what {
            TooMuch::Files => format!("{} manifests", self.limits.files),
            TooMuch::Bytes => format!("{} of manifests", size(self.limits.bytes)),
            TooMuch::Entries => format!("{ENTRIES_MAX} files and folders"),
        };
        GitError::TooMany { path, commit, limit }
    }
}
