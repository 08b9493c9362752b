//! The folder of a world: its own, and one world's at a time.

use std::fs::{self, File, TryLockError};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

/// Marks a folder as a world's, is locked while one runs, and holds the number of its process.
const MARKER: &str = ".serin-sandbox";
/// What a world writes into its folder: in one that is not marked it is somebody else's and would be lost.
const OWN: [&str; 4] = ["kubeconfig", "repo.git", "serin.yaml", "state"];
/// What keeps a world out of a clone that it lies in.
const IGNORE: &str = ".gitignore";
/// A process number has fewer digits.
const PID_BYTES_MAX: u64 = 32;

/// Why a folder cannot be a world's.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// There is a file that would be overwritten and that no world has made.
    #[error("{} holds a {entry} that is not a sandbox's", path.display())]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// Its name.
        entry: String,
    },
    /// Another world runs there.
    #[error("{} is in use by process {process}", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
        /// Number of the process.
        process: String,
    },
    /// The system refuses.
    #[error("failed to write {}", path.display())]
    Write {
        /// Which file or folder.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
}

/// Makes the folder if need be and marks it as a world's.
///
/// # Errors
/// When it holds somebody else's files of those names, or cannot be written.
pub fn mark(dir: &Path) -> Result<(), FolderError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| FolderError::Write { path, source }
    };
    fs::create_dir_all(dir).map_err(failed(dir))?;
    let marker = dir.join(MARKER);
    if marker.exists() {
        return Ok(());
    }
    if let Some(entry) = OWN.into_iter().find(|entry| dir.join(entry).exists()) {
        return Err(FolderError::Foreign { path: dir.to_owned(), entry: entry.to_owned() });
    }
    let is_empty = fs::read_dir(dir).map_err(failed(dir))?.next().is_none();
    if is_empty {
        // In somebody's clone a world is no part of what they commit.
        let ignore = dir.join(IGNORE);
        fs::write(&ignore, "*\n").map_err(failed(&ignore))?;
    }
    File::create(&marker).map(drop).map_err(failed(&marker))
}

/// A folder that is this world's until it is dropped.
#[derive(Debug)]
pub(super) struct Held {
    _marker: File,
}

/// Marks the folder and takes it for this process.
pub(super) fn take(dir: &Path) -> Result<Held, FolderError> {
    mark(dir)?;
    let path = dir.join(MARKER);
    let failed = |source| FolderError::Write { path: path.clone(), source };
    let mut marker = File::options().read(true).write(true).open(&path).map_err(failed)?;
    match marker.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut process = String::new();
            (&mut marker).take(PID_BYTES_MAX).read_to_string(&mut process).map_err(failed)?;
            let process = if process.trim().is_empty() { "?".to_owned() } else { process.trim().to_owned() };
            return Err(FolderError::InUse { path: dir.to_owned(), process });
        }
        Err(TryLockError::Error(source)) => return Err(failed(source)),
    }
    let written = marker.set_len(0).and_then(|()| marker.seek(SeekFrom::Start(0)));
    written.and_then(|_| write!(marker, "{}", std::process::id())).map_err(failed)?;
    Ok(Held { _marker: marker })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_one_worlds_at_a_time_and_nobody_elses() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("world");
        let held = take(&own).unwrap();
        let process = std::process::id().to_string();
        assert!(matches!(take(&own), Err(FolderError::InUse { process: it, .. }) if it == process));
        drop(held);
        fs::write(own.join("kubeconfig"), "x").unwrap();
        take(&own).unwrap();

        let foreign = dir.path().join("mine");
        fs::create_dir(&foreign).unwrap();
        fs::write(foreign.join("serin.yaml"), "mine").unwrap();
        assert_eq!(fs::read_to_string(own.join(".gitignore")).unwrap(), "*\n");
        assert!(matches!(take(&foreign), Err(FolderError::Foreign { entry, .. }) if entry == "serin.yaml"));
        assert_eq!(fs::read_to_string(foreign.join("serin.yaml")).unwrap(), "mine");

        let clone = dir.path().join("clone");
        fs::create_dir(&clone).unwrap();
        fs::write(clone.join("README"), "mine").unwrap();
        take(&clone).unwrap();
        assert!(!clone.join(".gitignore").exists(), "what else is there is not hidden from its owner");
    }
}
