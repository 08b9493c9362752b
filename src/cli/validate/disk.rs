//! The files of a working copy, by the paths that they have in their repository.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::git::{Entry, Files, GitError};

/// A repository's working copy; without a repository the whole disk.
pub(super) struct Disk {
    top: PathBuf,
}

impl Disk {
    /// The working copy that holds a folder; `None` if there is no such folder.
    pub(super) fn around(folder: &Path) -> Option<Self> {
        let whole = folder.canonicalize().ok()?;
        let top = whole.ancestors().find(|above| above.join(".git").exists());
        let top = top.or_else(|| whole.ancestors().last())?;
        Some(Self { top: top.to_owned() })
    }

    /// Where a file or folder is from the top; `None` if it is not below it.
    pub(super) fn place(&self, path: &Path) -> Option<String> {
        let whole = path.canonicalize().ok()?;
        whole.strip_prefix(&self.top).ok().map(slashed)
    }
}

impl Files for Disk {
    fn entry(&self, path: &str, bytes_max: usize) -> Result<Entry, GitError> {
        Ok(entry(&self.top.join(path), bytes_max).unwrap_or_else(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => Entry::Missing,
            _ => Entry::Refused(error.to_string()),
        }))
    }
}

fn entry(path: &Path, bytes_max: usize) -> std::io::Result<Entry> {
    let found = std::fs::symlink_metadata(path)?;
    if found.is_symlink() {
        return Ok(Entry::Refused("a symlink is not followed".to_owned()));
    }
    if found.is_dir() {
        let names = std::fs::read_dir(path)?;
        let names = names.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        return Ok(Entry::Folder(names.collect::<std::io::Result<Vec<_>>>()?));
    }
    if usize::try_from(found.len()).is_ok_and(|bytes| bytes > bytes_max) {
        return Ok(Entry::Refused(format!("it is larger than {} MiB", bytes_max >> 20)));
    }
    Ok(Entry::File { oid: String::new(), bytes: std::fs::read(path)? })
}

/// A path as Git writes it.
pub(super) fn slashed(path: &Path) -> String {
    let parts: Vec<String> = path.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    parts.join("/")
}
