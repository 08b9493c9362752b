//! The folders of a snapshot, read by comparing with those of an earlier one.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use git2::{ObjectType, Oid, TreeEntry};

use super::error::GitError;
use super::ignore::{IGNORE_BYTES_MAX, IGNORE_FILE};
use super::limits::{ENTRIES_MAX, LINK_BYTES_MAX};
use super::objects::Objects;
use super::snapshot::{Limits, SkippedFile, SnapshotFile};
use crate::model::path::{folder_of, resolved, within};

/// Deepest folder: no repository of manifests goes there, and it bounds recursion.
const DEPTH_MAX: usize = 64;
/// How a file begins that Git LFS keeps elsewhere.
const LFS_POINTER: &str = "version https://git-lfs.github.com/spec/";
/// What kustomize looks for beside files that end as manifests do.
const KUSTOMIZATION: &str = "Kustomization";
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
    /// Their text in bytes.
    pub(super) bytes: usize,
}

/// Something in a folder.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) name: Box<[u8]>,
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
    /// Patterns of what is left out.
    Rules(Arc<str>),
}

/// One walk through a tree.
pub(super) struct Reading<'a> {
    objects: &'a Objects<'a>,
    /// The whole commit's tree: where links lead to.
    root: Oid,
    limits: Limits,
    /// Read anew: bounds a first walk, before anything can be counted.
    files: usize,
    bytes: usize,
    entries: usize,
    /// Folders in which nothing counts, wherever they are.
    barren: HashSet<Oid>,
    /// Texts by blob: one that has many names is read once.
    texts: HashMap<Oid, Arc<str>>,
}

/// What there is more of than is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TooMuch {
    Files,
    Bytes,
    Entries,
}

/// Why a walk ended early.
#[derive(Debug)]
pub(super) enum Stopped {
    At(TooMuch),
    Because(GitError),
}

impl From<GitError> for Stopped {
    fn from(error: GitError) -> Self {
        Self::Because(error)
    }
}

impl<'a> Reading<'a> {
    pub(super) fn new(objects: &'a Objects<'a>, root: Oid, limits: Limits) -> Self {
        let (barren, texts) = (HashSet::new(), HashMap::new());
        Self { objects, root, limits, files: 0, bytes: 0, entries: 0, barren, texts }
    }

    /// The folder `path`; what is as in `before` is taken from there.
    pub(super) fn folder(
        &mut self,
        id: Oid,
        path: &str,
        before: Option<&Arc<Folder>>,
    ) -> Result<Arc<Folder>, Stopped> {
        if let Some(same) = before.filter(|folder| folder.id == id) {
            return Ok(Arc::clone(same));
        }
        let known: HashMap<&[u8], &Item> =
            before.iter().flat_map(|folder| &folder.items).map(|item| (&*item.name, item)).collect();
        let tree = self.objects.tree(id)?;
        let mut items = Vec::new();
        for entry in &tree {
            self.entries += 1;
            if self.entries > ENTRIES_MAX {
                return Err(Stopped::At(TooMuch::Entries));
            }
            let known = known.get(entry.name_bytes()).copied();
            if let Some(found) = self.entry(&entry, path, known)? {
                items.push(Item {
                    name: entry.name_bytes().into(),
                    id: entry.id(),
                    mode: entry.filemode(),
                    found,
                });
            }
        }
        if items.is_empty() {
            self.barren.insert(id);
        }
        let files = items.iter().map(|item| item.found.files()).sum();
        let bytes = items.iter().map(|item| item.found.bytes()).fold(0, usize::saturating_add);
        Ok(Arc::new(Folder { id, items, files, bytes }))
    }

    /// `None` if it does not count.
    fn entry(
        &mut self,
        entry: &TreeEntry<'_>,
        folder: &str,
        known: Option<&Item>,
    ) -> Result<Option<Found>, Stopped> {
        let Some(name) = counts(entry) else { return Ok(None) };
        let path = |name: &str| within(folder, name);
        let name = match name {
            Ok(name) => name,
            Err(reason) => {
                let shown = String::from_utf8_lossy(entry.name_bytes()).escape_debug().to_string();
                return Ok(Some(skipped(path(&shown), reason.to_owned())));
            }
        };
        let path = path(name);
        if name == IGNORE_FILE {
            return self.rules(entry, path).map(Some);
        }
        // What a link leads to may have changed although the link has not.
        if is_link(entry) {
            let counts = is_manifest(name) || self.leads_to_folder(entry, &path)?;
            return Ok(counts.then(|| skipped(path, "a symlink is not followed".to_owned())));
        }
        if let Some(same) = known.filter(|item| item.id == entry.id() && item.mode == entry.filemode()) {
            return Ok(Some(same.found.clone()));
        }
        match entry.kind() {
            Some(ObjectType::Tree) if self.barren.contains(&entry.id()) => Ok(None),
            Some(ObjectType::Tree) if path.split('/').count() > DEPTH_MAX => {
                Ok(Some(skipped(path, format!("deeper than {DEPTH_MAX} folders"))))
            }
            Some(ObjectType::Tree) => {
                let before = known.and_then(|item| match &item.found {
                    Found::Folder(folder) => Some(folder),
                    Found::File(_) | Found::Skipped(_) | Found::Rules(_) => None,
                });
                let folder = self.folder(entry.id(), &path, before)?;
                Ok((!folder.items.is_empty()).then_some(Found::Folder(folder)))
            }
            Some(ObjectType::Commit) => {
                let reason =
                    "a submodule is not read; keep its manifests in this repository, or name a path beside it";
                Ok(Some(skipped(path, reason.to_owned())))
            }
            _ => self.blob(path, entry.id()).map(Some),
        }
    }

    /// Patterns of what is left out. Those that cannot be read leave out nothing, which has to be known.
    pub(super) fn rules(&self, entry: &TreeEntry<'_>, path: String) -> Result<Found, Stopped> {
        if entry.kind() != Some(ObjectType::Blob) || is_link(entry) {
            return Ok(skipped(path, "it is no plain file".to_owned()));
        }
        let (bytes, _) = self.objects.header(entry.id())?;
        if bytes > IGNORE_BYTES_MAX {
            return Ok(skipped(path, format!("{} are more than {}", size(bytes), size(IGNORE_BYTES_MAX))));
        }
        let blob = self.objects.blob(entry.id())?;
        Ok(match std::str::from_utf8(blob.content()) {
            Ok(text) => Found::Rules(Arc::from(text)),
            Err(_) => skipped(path, "it is not UTF-8 text".to_owned()),
        })
    }

    /// Whether a symlink leads to a folder of this commit: what is in there would be missed without a word.
    fn leads_to_folder(&self, link: &TreeEntry<'_>, path: &str) -> Result<bool, GitError> {
        let (bytes, _) = self.objects.header(link.id())?;
        if bytes > LINK_BYTES_MAX {
            return Ok(false);
        }
        let blob = self.objects.blob(link.id())?;
        let Some(to) = std::str::from_utf8(blob.content()).ok().and_then(|to| resolved(folder_of(path), to))
        else {
            return Ok(false);
        };
        let root = self.objects.tree(self.root)?;
        let found = root.get_path(std::path::Path::new(&to));
        Ok(to.is_empty() || found.is_ok_and(|entry| entry.kind() == Some(ObjectType::Tree)))
    }

    /// A file's content, whose size is known before it is inflated.
    pub(super) fn blob(&mut self, path: String, id: Oid) -> Result<Found, Stopped> {
        let (bytes, kind) = self.objects.header(id)?;
        if kind != ObjectType::Blob {
            return Ok(skipped(path, format!("it is said to be a file and is a {kind}")));
        }
        if bytes > self.limits.file_bytes {
            return Ok(skipped(path, format!("{} are more than {}", size(bytes), size(self.limits.file_bytes))));
        }
        self.files += 1;
        self.bytes += bytes;
        if self.files > self.limits.files {
            return Err(Stopped::At(TooMuch::Files));
        }
        if self.bytes > self.limits.bytes {
            return Err(Stopped::At(TooMuch::Bytes));
        }
        let text = match self.texts.get(&id) {
            Some(text) => Arc::clone(text),
            None => {
                let blob = self.objects.blob(id)?;
                let Ok(text) = std::str::from_utf8(blob.content()) else {
                    return Ok(skipped(path, "it is not UTF-8 text".to_owned()));
                };
                if text.starts_with(LFS_POINTER) {
                    let reason = "Git LFS keeps its content elsewhere; keep manifests out of LFS";
                    return Ok(skipped(path, reason.to_owned()));
                }
                let text: Arc<str> = Arc::from(text);
                self.texts.insert(id, Arc::clone(&text));
                text
            }
        };
        Ok(Found::File(Arc::new(SnapshotFile { path, oid: id.to_string(), text, rendered: false })))
    }
}

impl Found {
    fn files(&self) -> usize {
        match self {
            Self::Folder(folder) => folder.files,
            Self::File(_) => 1,
            Self::Skipped(_) | Self::Rules(_) => 0,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Folder(folder) => folder.bytes,
            Self::File(file) => file.text.len(),
            Self::Skipped(_) | Self::Rules(_) => 0,
        }
    }
}

/// A size as people read it.
pub(super) fn size(bytes: usize) -> String {
    const MIB: usize = 1 << 20;
    if bytes < MIB { format!("{bytes} bytes") } else { format!("{}.{} MiB", bytes / MIB, bytes % MIB * 10 / MIB) }
}

/// Whether an entry counts: folders and manifests, and what may hold some that are not read; nothing hidden. Its name, or why
/// that is none to work with.
fn counts<'e>(entry: &'e TreeEntry<'_>) -> Option<Result<&'e str, &'static str>> {
    let bytes = entry.name_bytes();
    if bytes == IGNORE_FILE.as_bytes() {
        return Some(Ok(IGNORE_FILE));
    }
    if bytes.starts_with(b".") {
        return None;
    }
    let counts = match entry.kind() {
        Some(ObjectType::Tree | ObjectType::Commit) => true,
        Some(ObjectType::Blob) => is_manifest(&String::from_utf8_lossy(bytes)) || is_link(entry),
        _ => false,
    };
    counts.then(|| match std::str::from_utf8(bytes) {
        Ok(name) if name.contains(char::is_control) => Err("its name holds a control character"),
        Ok(name) if name.contains(['/', '\\']) => Err("its name holds a slash"),
        Ok(name) => Ok(name),
        Err(_) => Err("its name is not UTF-8 text"),
    })
}

/// By its ending, in whatever case: somebody's `.YAML` is no less meant.
pub(super) fn is_manifest(name: &str) -> bool {
    let ends_with = |ending: &&str| {
        let start = name.len().checked_sub(ending.len());
        start.and_then(|start| name.get(start..)).is_some_and(|end| end.eq_ignore_ascii_case(ending))
    };
    ENDINGS.iter().any(ends_with) || name == KUSTOMIZATION
}

pub(super) fn is_link(entry: &TreeEntry<'_>) -> bool {
    entry.filemode() == i32::from(git2::FileMode::Link)
}

fn skipped(path: String, reason: String) -> Found {
    Found::Skipped(SkippedFile { path, reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_are_known_by_their_ending() {
        for name in ["a.yaml", "a.yml", "a.json", "A.YAML", "b.Json"] {
            assert!(is_manifest(name), "{name}");
        }
        for name in ["a.yaml.bak", "yaml", "éyaml", "", "README.md"] {
            assert!(!is_manifest(name), "{name}");
        }
    }

    #[test]
    fn sizes_are_said_as_people_read_them() {
        assert_eq!(
            [200, 5 << 20, 2 << 30, (3 << 20) / 2].map(size),
            ["200 bytes", "5.0 MiB", "2048.0 MiB", "1.5 MiB"]
        );
    }
}
