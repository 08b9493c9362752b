//! Any file and folder of a commit, looked up by path: what rendering needs beside the manifests of a snapshot.

use git2::{ErrorCode, ObjectType, Oid};

use super::error::GitError;
use super::folder::{is_link, size};
use super::objects::Objects;
use super::store::{LOCAL_DEADLINE, Store, oid};
use crate::model::CommitId;

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// Nothing.
    Missing,
    /// A folder, with the names in it.
    Folder(Vec<String>),
    /// A file.
    File {
        /// The blob's id: equal ids are equal content.
        oid: String,
        /// The content.
        bytes: Vec<u8>,
    },
    /// Something that is not read, and why.
    Refused(String),
}

/// The files of one commit.
pub trait Files {
    /// What is at a path from the repository's root (empty: the root itself). A file of more than `bytes_max` is refused.
    ///
    /// # Errors
    /// If the store is damaged.
    fn entry(&self, path: &str, bytes_max: usize) -> Result<Entry, GitError>;
}

struct CommitFiles<'a> {
    objects: &'a Objects<'a>,
    root: Oid,
}

impl Files for CommitFiles<'_> {
    fn entry(&self, path: &str, bytes_max: usize) -> Result<Entry, GitError> {
        let root = self.objects.tree(self.root)?;
        if path.is_empty() {
            return Ok(folder(&root));
        }
        let entry = match root.get_path(std::path::Path::new(path)) {
            Ok(entry) => entry,
            Err(error) if error.code() == ErrorCode::NotFound => return Ok(Entry::Missing),
            Err(error) => return Err(self.objects.unusable(self.root, &error)),
        };
        if is_link(&entry) {
            return Ok(Entry::Refused("a symlink is not followed".to_owned()));
        }
        match entry.kind() {
            Some(ObjectType::Tree) => Ok(folder(&self.objects.tree(entry.id())?)),
            Some(ObjectType::Blob) => {
                let (bytes, _) = self.objects.header(entry.id())?;
                if bytes > bytes_max {
                    return Ok(Entry::Refused(format!("{} are more than {}", size(bytes), size(bytes_max))));
                }
                let blob = self.objects.blob(entry.id())?;
                Ok(Entry::File { oid: entry.id().to_string(), bytes: blob.content().to_vec() })
            }
            _ => Ok(Entry::Refused("a submodule is not read".to_owned())),
        }
    }
}

/// Names that are no text are nothing that a file could name.
fn folder(tree: &git2::Tree<'_>) -> Entry {
    Entry::Folder(
        tree.iter().filter_map(|entry| std::str::from_utf8(entry.name_bytes()).ok().map(str::to_owned)).collect(),
    )
}

impl Store {
    /// Runs `job` with the files of a commit that was fetched, on a thread for it.
    ///
    /// # Errors
    /// If the store is damaged, or what `job` says.
    pub async fn with_files<T, F>(&self, commit: &CommitId, job: F) -> Result<T, GitError>
    where
        T: Send + 'static,
        F: FnOnce(&dyn Files) -> Result<T, GitError> + Send + 'static,
    {
        let commit = commit.clone();
        self.run("reading the git cache", LOCAL_DEADLINE, move |inner, _| {
            inner.with(|repo| {
                let objects = Objects::new(inner, repo)?;
                let commit = objects.commit(oid(&commit)?)?;
                let root = objects.tree_of(&commit)?.id();
                job(&CommitFiles { objects: &objects, root })
            })
        })
        .await
    }
}
