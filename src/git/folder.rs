//! The folders of a snapshot, read by comparing with those of an earlier one.

use std::collections::HashMap;
use std::sync::Arc;

use git2::{ObjectType, Oid, Repository, TreeEntry};

use super::error::GitError;
use super::snapshot::{Limits, SkippedFile, SnapshotFile};
use super::store::Inner;

/// Deepest folder: no repository of manifests goes there, and it bounds recursion.
const DEPTH_MAX: usize = 64;
/// How a file begins that Git LFS keeps elsewhere.
const LFS_POINTER: &str = "version https://git-lfs.github.com/spec/";
/// Endings of manifests.
const ENDINGS: [&str; 3] = [".yaml", ".yml", ".json"];

/// A folder and everything in it that counts.
#[derive(Debug)]
pub(super) struct Folder {
    /// The tree's id: equal ids at equal paths are equal folders.
    pub(super) id: Oid,
    /// In Git's order.
    pub(super) items: Vec<Item>,
    /// Manifests in it and below it.
    pub(super) files: usize,
}

/// Something in a folder.
#[derive(Debug, Clone)]
pub(super) struct Item {
    name: Box<str>,
    id: Oid,
    mode: i32,
    pub(super) found: Found,
}

/// What it is.
#[derive(Debug, Clone)]
pub(super) enum Found {
    /// A folder.
    Folder(Arc<Folder>),
    /// A manifest.
    File(Arc<SnapshotFile>),
    /// A manifest that is not taken.
    Skipped(SkippedFile),
}

/// One walk through a tree.
pub(super) struct Reading<'a> {
    inner: &'a Inner,
    repo: &'a Repository,
    /// The whole commit's tree: where links lead to.
    root: Oid,
    limits: Limits,
    /// Files read anew: bounds a first walk, before anything can be counted.
    read: usize,
}

impl<'a> Reading<'a> {
    pub(super) fn new(inner: &'a Inner, repo: &'a Repository, root: Oid, limits: Limits) -> Self {
        Self { inner, repo, root, limits, read: 0 }
    }

    /// The folder `path`; what is as in `before` is taken from there. `None` if more files than allowed were read.
    pub(super) fn folder(
        &mut self,
        id: Oid,
        path: &str,
        before: Option<&Arc<Folder>>,
    ) -> Result<Option<Arc<Folder>>, GitError> {
        if let Some(same) = before.filter(|folder| folder.id == id) {
            return Ok(Some(Arc::clone(same)));
        }
        let known: HashMap<&str, &Item> =
            before.iter().flat_map(|folder| &folder.items).map(|item| (&*item.name, item)).collect();
        let tree = self.repo.find_tree(id).map_err(|error| self.inner.damaged(&error))?;
        let mut items = Vec::with_capacity(tree.len());
        for entry in &tree {
            let Ok(name) = std::str::from_utf8(entry.name_bytes()) else { continue };
            if !counts(&entry, name) {
                continue;
            }
            let known = known.get(name).copied();
            let same = known.filter(|item| item.id == entry.id() && item.mode == entry.filemode());
            if let Some(same) = same {
                items.push(same.clone());
                continue;
            }
            let path = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
            if is_link(&entry) && !is_manifest(name) && !self.leads_to_folder(&entry, &path)? {
                continue;
            }
            let Some(found) = self.entry(&entry, path, known)? else { return Ok(None) };
            items.push(Item { name: name.into(), id: entry.id(), mode: entry.filemode(), found });
        }
        let files = items.iter().map(|item| item.found.files()).sum();
        Ok(Some(Arc::new(Folder { id, items, files })))
    }

    fn entry(
        &mut self,
        entry: &TreeEntry<'_>,
        path: String,
        known: Option<&Item>,
    ) -> Result<Option<Found>, GitError> {
        if entry.kind() == Some(ObjectType::Tree) {
            if path.split('/').count() > DEPTH_MAX {
                return Ok(Some(skipped(path, format!("deeper than {DEPTH_MAX} folders"))));
            }
            let before = known.and_then(|item| match &item.found {
                Found::Folder(folder) => Some(folder),
                Found::File(_) | Found::Skipped(_) => None,
            });
            return Ok(self.folder(entry.id(), &path, before)?.map(Found::Folder));
        }
        if is_link(entry) {
            return Ok(Some(skipped(path, "a symlink is not followed".to_owned())));
        }
        if entry.kind() == Some(ObjectType::Commit) {
            let reason =
                "a submodule is not read; keep its manifests in this repository, or name a path beside it";
            return Ok(Some(skipped(path, reason.to_owned())));
        }
        self.read += 1;
        if self.read > self.limits.files {
            return Ok(None);
        }
        self.blob(path, entry.id()).map(Some)
    }

    /// Whether a symlink leads to a folder of this commit: what is in there would be missed without a word.
    fn leads_to_folder(&self, link: &TreeEntry<'_>, path: &str) -> Result<bool, GitError> {
        let damaged = |error: git2::Error| self.inner.damaged(&error);
        let blob = self.repo.find_blob(link.id()).map_err(damaged)?;
        let Some(to) = std::str::from_utf8(blob.content()).ok().and_then(|to| resolved(path, to)) else {
            return Ok(false);
        };
        let root = self.repo.find_tree(self.root).map_err(damaged)?;
        let found = root.get_path(std::path::Path::new(&to));
        Ok(to.is_empty() || found.is_ok_and(|entry| entry.kind() == Some(ObjectType::Tree)))
    }

    /// A file's content.
    pub(super) fn blob(&self, path: String, id: Oid) -> Result<Found, GitError> {
        let blob = self.repo.find_blob(id).map_err(|error| self.inner.damaged(&error))?;
        if blob.size() > self.limits.file_bytes {
            let reason = format!("{} bytes are more than {}", blob.size(), self.limits.file_bytes);
            return Ok(skipped(path, reason));
        }
        Ok(match std::str::from_utf8(blob.content()) {
            Ok(text) if text.starts_with(LFS_POINTER) => {
                let reason = "Git LFS keeps its content elsewhere; keep manifests out of LFS";
                skipped(path, reason.to_owned())
            }
            Ok(text) => Found::File(Arc::new(SnapshotFile { path, oid: id.to_string(), text: Arc::from(text) })),
            Err(_) => skipped(path, "it is not UTF-8 text".to_owned()),
        })
    }
}

impl Found {
    fn files(&self) -> usize {
        match self {
            Self::Folder(folder) => folder.files,
            Self::File(_) => 1,
            Self::Skipped(_) => 0,
        }
    }
}

/// Folders and manifests, and what may hold some that are not read; nothing hidden.
fn counts(entry: &TreeEntry<'_>, name: &str) -> bool {
    if name.starts_with('.') {
        return false;
    }
    match entry.kind() {
        Some(ObjectType::Tree | ObjectType::Commit) => true,
        Some(ObjectType::Blob) => is_manifest(name) || is_link(entry),
        _ => false,
    }
}

fn is_manifest(name: &str) -> bool {
    ENDINGS.iter().any(|ending| name.ends_with(ending))
}

pub(super) fn is_link(entry: &TreeEntry<'_>) -> bool {
    entry.filemode() == i32::from(git2::FileMode::Link)
}

/// Where a link at `path` leads to, from the repository's root; `None` if it leads out of it.
fn resolved(path: &str, to: &str) -> Option<String> {
    if to.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = path.split('/').collect();
    parts.pop();
    for part in to.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

fn skipped(path: String, reason: String) -> Found {
    Found::Skipped(SkippedFile { path, reason })
}

#[cfg(test)]
mod tests {
    use super::resolved;

    #[test]
    fn links_lead_somewhere_in_the_repository_or_nowhere() {
        for (path, to, expected) in [
            ("deploy/base", "../shared", Some("shared")),
            ("base", "./deploy//prod/", Some("deploy/prod")),
            ("a/b", "..", Some("")),
            ("a", "../../etc", None),
            ("a", "/etc", None),
        ] {
            assert_eq!(resolved(path, to).as_deref(), expected, "{path} -> {to}");
        }
    }
}
