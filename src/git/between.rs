//! What lies between two commits of a branch: commit by commit, the manifests that each changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use git2::{ObjectType, Oid, Repository, Tree};

use super::error::GitError;
use super::folder::{is_link, is_manifest};
use super::objects::Objects;
use super::place::TreePath;
use super::snapshot::Limits;
use super::store::{Inner, LOCAL_DEADLINE, Store, commit_id, oid};
use super::trail::bounded_blob;
use crate::model::CommitId;

/// Entries of folders compared for one commit: what differs is small, or nobody can say anything about it.
const ENTRIES_MAX: usize = 100_000;
/// Manifests of one commit that are read.
const FILES_MAX: usize = 2_000;
/// Bytes of all of them, and of what they were.
const BYTES_MAX: usize = 32 << 20;
/// Deepest folder.
const DEPTH_MAX: usize = 64;

/// One commit of a branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The commit.
    pub commit: CommitId,
    /// Manifests that differ from the commit before.
    pub files: Vec<ChangedFile>,
    /// Whether these are all of them.
    pub whole: bool,
}

/// A manifest that a commit changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedFile {
    /// From the repository's root.
    pub path: String,
    /// What it was; `None` if it was not there, or is no text of a manifest's size.
    pub before: Option<Arc<str>>,
    /// What it is.
    pub after: Option<Arc<str>>,
}

impl Store {
    /// The commits that a branch went through from `known` to `tip`, oldest first, along first parents; the newest `limit` of
    /// them. What a merge brought is the merge's. Without `known`, or where history was rewritten, it is the part that is new.
    ///
    /// # Errors
    /// If the store is damaged, or what was pushed cannot be read.
    pub async fn between(
        &self,
        known: Option<&CommitId>,
        tip: &CommitId,
        path: &TreePath,
        limit: usize,
    ) -> Result<Vec<Step>, GitError> {
        let (known, tip, path) = (known.cloned(), tip.clone(), path.clone());
        self.run("reading git history", LOCAL_DEADLINE, move |inner, _| {
            inner.with(|repo| {
                let objects = Objects::new(inner, repo)?;
                Walk { inner, repo, objects, path: &path }.steps(known.as_ref(), &tip, limit)
            })
        })
        .await
    }
}

struct Walk<'a> {
    inner: &'a Inner,
    repo: &'a Repository,
    objects: Objects<'a>,
    path: &'a TreePath,
}

/// What is left of the limits, and what was found.
#[derive(Default)]
struct Found {
    entries: usize,
    files: Vec<(String, Option<Oid>, Option<Oid>)>,
    cut: bool,
}

impl Walk<'_> {
    fn steps(&self, known: Option<&CommitId>, tip: &CommitId, limit: usize) -> Result<Vec<Step>, GitError> {
        let ids = self.ids(known, oid(tip)?, limit)?;
        let mut steps = Vec::with_capacity(ids.len());
        for id in ids.into_iter().rev() {
            steps.push(self.step(id)?);
        }
        Ok(steps)
    }

    /// Newest first.
    fn ids(&self, known: Option<&CommitId>, tip: Oid, limit: usize) -> Result<Vec<Oid>, GitError> {
        let walk = || {
            let mut walk = self.repo.revwalk()?;
            walk.simplify_first_parent()?;
            walk.push(tip)?;
            if let Some(known) =
                known.and_then(|known| oid(known).ok()).filter(|known| self.repo.find_commit(*known).is_ok())
            {
                walk.hide(known)?;
            }
            walk.take(limit).collect::<Result<Vec<Oid>, git2::Error>>()
        };
        walk().map_err(|error| self.objects.unusable(tip, &error))
    }

    fn step(&self, id: Oid) -> Result<Step, GitError> {
        let commit = self.objects.commit(id)?;
        let after = self.below(self.objects.tree_of(&commit)?)?;
        // Where history was cut off, what was before is not known: then nothing is said to have changed.
        let before = match commit.parent_id(0) {
            Ok(parent) if self.repo.find_commit(parent).is_err() => {
                return Ok(Step { commit: commit_id(id)?, files: Vec::new(), whole: false });
            }
            Ok(parent) => self.below(self.objects.tree_of(&self.objects.commit(parent)?)?)?,
            Err(_) => None,
        };
        let mut found = Found::default();
        let prefix = if self.path.is_root() { String::new() } else { format!("{}/", self.path.as_str()) };
        self.compare(before.as_ref(), after.as_ref(), &prefix, 0, &mut found)?;
        let (mut files, mut bytes, mut whole) = (Vec::new(), 0, !found.cut);
        for (path, before, after) in found.files {
            let (before, after) = (self.text(before, &mut bytes)?, self.text(after, &mut bytes)?);
            if bytes > BYTES_MAX {
                whole = false;
                break;
            }
            files.push(ChangedFile { path, before, after });
        }
        Ok(Step { commit: commit_id(id)?, files, whole })
    }

    /// The folder that is released from.
    fn below<'t>(&'t self, root: Tree<'t>) -> Result<Option<Tree<'t>>, GitError> {
        let mut tree = root;
        for part in self.path.as_str().split('/').filter(|part| !part.is_empty()) {
            let entry = tree.get_name(part).filter(|entry| entry.kind() == Some(ObjectType::Tree));
            let Some(id) = entry.map(|entry| entry.id()) else { return Ok(None) };
            tree = self.objects.tree(id)?;
        }
        Ok(Some(tree))
    }

    fn compare(
        &self,
        before: Option<&Tree<'_>>,
        after: Option<&Tree<'_>>,
        prefix: &str,
        depth: usize,
        found: &mut Found,
    ) -> Result<(), GitError> {
        if depth > DEPTH_MAX {
            found.cut = true;
            return Ok(());
        }
        let mut names: BTreeMap<Vec<u8>, [Option<(Oid, ObjectType)>; 2]> = BTreeMap::new();
        for (side, tree) in [before, after].into_iter().enumerate() {
            for entry in tree.into_iter().flat_map(Tree::iter) {
                found.entries += 1;
                if found.entries > ENTRIES_MAX || found.files.len() >= FILES_MAX {
                    found.cut = true;
                    return Ok(());
                }
                let kind = entry.kind().filter(|kind| matches!(kind, ObjectType::Tree | ObjectType::Blob));
                // Links have no content of their own.
                let Some(kind) = kind.filter(|_| !is_link(&entry)) else { continue };
                if entry.name_bytes().first() != Some(&b'.') {
                    names.entry(entry.name_bytes().to_vec()).or_default()[side] = Some((entry.id(), kind));
                }
            }
        }
        for (name, [before, after]) in names {
            if before == after {
                continue;
            }
            let Ok(name) = String::from_utf8(name) else { continue };
            let path = format!("{prefix}{name}");
            let of = |side: Option<(Oid, ObjectType)>, wanted| {
                side.filter(|(_, kind)| *kind == wanted).map(|(id, _)| id)
            };
            let (tree_before, tree_after) = (of(before, ObjectType::Tree), of(after, ObjectType::Tree));
            if tree_before.is_some() || tree_after.is_some() {
                let read = |id: Option<Oid>| id.map(|id| self.objects.tree(id)).transpose();
                let (before, after) = (read(tree_before)?, read(tree_after)?);
                self.compare(before.as_ref(), after.as_ref(), &format!("{path}/"), depth + 1, found)?;
            }
            let (file_before, file_after) = (of(before, ObjectType::Blob), of(after, ObjectType::Blob));
            if is_manifest(&name) && file_before != file_after {
                found.files.push((path, file_before, file_after));
            }
        }
        Ok(())
    }

    fn text(&self, id: Option<Oid>, bytes: &mut usize) -> Result<Option<Arc<str>>, GitError> {
        let Some(id) = id else { return Ok(None) };
        let Some(content) = bounded_blob(self.inner, self.repo, id, Limits::default().file_bytes)? else {
            return Ok(None);
        };
        *bytes += content.len();
        Ok(String::from_utf8(content).ok().map(Arc::from))
    }
}
