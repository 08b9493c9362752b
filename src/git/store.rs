//! The store itself: opening, damage, and the bounded pool that everything runs on.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError, RwLock};
use std::time::{Duration, Instant};

use git2::{Oid, Repository};
use tokio::sync::Semaphore;

use super::error::{GitError, is_local_damage};
use super::ignore::Ignore;
use super::lsrefs::Asking;
use super::push::LocalPush;
use super::signature::SigningKey;
use super::snapshot::Recent;
use crate::model::CommitId;

/// Git operations of one store at a time: a push, a fetch and two readers; more only fight for the disk.
const JOBS_MAX: usize = 4;
/// Longest a local operation (read, commit) may take: a cold disk and a big tree.
pub(super) const LOCAL_DEADLINE: Duration = Duration::from_secs(60);
/// Longest a probe may take, connection included.
pub(super) const PROBE_DEADLINE: Duration = Duration::from_secs(30);
/// Longest a fetch or push may take: a first fetch of a big repository.
pub(super) const NETWORK_DEADLINE: Duration = Duration::from_secs(300);
/// Shortest time between two makings of the store: what is found damaged again at once is so where it comes from, and
/// fetching it over and over would only load the host.
const REMADE_EVERY: Duration = Duration::from_secs(600);
/// Longest that libgit2 waits for a connection, in milliseconds.
const CONNECT_TIMEOUT_MS: i32 = 10_000;
/// Longest that libgit2 waits for a server's next bytes, in milliseconds.
const SERVER_TIMEOUT_MS: i32 = 30_000;

/// A bare repository that caches what was fetched. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
    /// Signs what we commit.
    signer: Option<Arc<SigningKey>>,
    ignore: Arc<Ignore>,
}

/// What the blocking threads share.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) dir: PathBuf,
    pub(super) local_push: LocalPush,
    pub(super) recent: Mutex<Recent>,
    pub(super) asking: Asking,
    /// One fetch at a time: libgit2 writes down which commits are shallow, and two that do so at once get in each other's way.
    pub(super) fetching: tokio::sync::Mutex<()>,
    permits: Arc<Semaphore>,
    /// Readers use the folder; making it again needs it alone.
    pub(super) folder: RwLock<()>,
    broken: AtomicBool,
    /// When the store was last made again.
    remade: Mutex<Option<Instant>>,
}

impl Store {
    /// Opens the store in `dir`, making it (again) if it is missing or damaged. Blocks briefly.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, GitError> {
        Self::open_with(dir, LocalPush::Detect)
    }

    /// Like [`Store::open`], choosing how local repositories are pushed to.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn open_with(dir: impl Into<PathBuf>, local_push: LocalPush) -> Result<Self, GitError> {
        limit_waiting();
        let dir = dir.into();
        let healthy = Repository::open_bare(&dir).is_ok_and(|repo| is_healthy(&repo));
        if healthy {
            drop_locks(&dir);
            stay_on_site(&dir)?;
        } else {
            recreate(&dir)?;
        }
        Ok(Self {
            signer: None,
            inner: Arc::new(Inner {
                dir,
                local_push,
                recent: Mutex::default(),
                asking: Asking::default(),
                fetching: tokio::sync::Mutex::default(),
                permits: Arc::new(Semaphore::new(JOBS_MAX)),
                folder: RwLock::new(()),
                broken: AtomicBool::new(false),
                remade: Mutex::default(),
            }),
            ignore: Arc::default(),
        })
    }

    /// The same store, whose commits are signed.
    #[must_use]
    pub fn signing_with(mut self, key: Option<Arc<SigningKey>>) -> Self {
        self.signer = key;
        self
    }

    pub(super) fn signer(&self) -> Option<Arc<SigningKey>> {
        self.signer.clone()
    }

    /// The same store, of whose files these are left out wherever they are read.
    pub fn ignoring(self, ignore: Ignore) -> Self {
        Self { ignore: Arc::new(ignore), ..self }
    }

    pub(super) fn ignore(&self) -> Arc<Ignore> {
        Arc::clone(&self.ignore)
    }

    /// The store's folder.
    pub fn dir(&self) -> &Path {
        &self.inner.dir
    }

    pub(super) fn inner(&self) -> &Inner {
        &self.inner
    }

    /// Runs `job` on a blocking thread, at most [`JOBS_MAX`] at a time. After `limit` the caller goes on; the thread learns
    /// the same point of time, ends at its next step (at the latest by libgit2's own timeouts) and gives its place back.
    pub(super) async fn run<T, F>(&self, what: &'static str, limit: Duration, job: F) -> Result<T, GitError>
    where
        T: Send + 'static,
        F: FnOnce(&Inner, Until) -> Result<T, GitError> + Send + 'static,
    {
        let until = Until::after(limit);
        let work = async {
            let cancelled = |reason: String| GitError::Cancelled { what, reason };
            let permit = Arc::clone(&self.inner.permits).acquire_owned().await;
            let permit = permit.map_err(|error| cancelled(error.to_string()))?;
            let inner = Arc::clone(&self.inner);
            let task = tokio::task::spawn_blocking(move || {
                let result = job(&inner, until);
                drop(permit);
                result
            });
            task.await.unwrap_or_else(|error| Err(cancelled(error.to_string())))
        };
        tokio::time::timeout(limit, work).await.unwrap_or(Err(GitError::Deadline { what, limit }))
    }
}

/// When an operation must be over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Until(Instant);

impl Until {
    /// From now on.
    pub(super) fn after(limit: Duration) -> Self {
        Self(Instant::now() + limit)
    }

    /// Whether it is.
    pub(super) fn is_over(self) -> bool {
        Instant::now() >= self.0
    }
}

impl Inner {
    /// The repository, for one operation.
    pub(super) fn with<T>(&self, job: impl FnOnce(&Repository) -> Result<T, GitError>) -> Result<T, GitError> {
        let _guard = self.folder.read().unwrap_or_else(PoisonError::into_inner);
        let repo = Repository::open_bare(&self.dir).map_err(|error| self.damaged(&error))?;
        job(&repo)
    }

    /// An error about our own objects: remembered, so that the next fetch makes the store again.
    pub(super) fn damaged(&self, error: &git2::Error) -> GitError {
        self.damage(error.message().to_owned())
    }

    /// Like [`Inner::damaged`], in words of our own.
    pub(super) fn damage(&self, reason: String) -> GitError {
        self.abandon();
        GitError::Corrupt { dir: self.dir.clone(), reason }
    }

    /// Like [`Inner::damaged`] if it is damage, else what libgit2 says about the folder.
    pub(super) fn local(&self, error: &git2::Error) -> GitError {
        if is_local_damage(error) {
            return self.damaged(error);
        }
        GitError::Store { dir: self.dir.clone(), reason: error.message().to_owned() }
    }

    /// The next fetch makes the store again.
    pub(super) fn abandon(&self) {
        self.broken.store(true, Ordering::Relaxed);
    }

    /// Makes the store again if damage was seen, at most once in [`REMADE_EVERY`]. Other operations wait.
    pub(super) fn heal(&self) -> Result<(), GitError> {
        if !self.broken.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut remade = self.remade.lock().unwrap_or_else(PoisonError::into_inner);
        if remade.is_some_and(|at| at.elapsed() < REMADE_EVERY) {
            return Ok(());
        }
        *remade = Some(Instant::now());
        self.broken.store(false, Ordering::Relaxed);
        tracing::warn!(git.cache = %self.dir.display(), "making the damaged git cache again");
        let _guard = self.folder.write().unwrap_or_else(PoisonError::into_inner);
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).clear();
        recreate(&self.dir)
    }
}

/// A commit id of ours for libgit2.
pub(super) fn oid(commit: &CommitId) -> Result<Oid, GitError> {
    Oid::from_str(commit.as_str()).map_err(|error| GitError::Store {
        dir: PathBuf::new(),
        reason: format!("{commit} is no object id: {}", error.message()),
    })
}

/// A libgit2 id as ours.
pub(super) fn commit_id(oid: Oid) -> Result<CommitId, GitError> {
    oid.to_string().parse().map_err(|error: crate::model::CommitIdError| GitError::Store {
        dir: PathBuf::new(),
        reason: error.to_string(),
    })
}

fn is_healthy(repo: &Repository) -> bool {
    let Ok(references) = repo.references() else { return false };
    references
        .flatten()
        .all(|reference| reference.peel_to_commit().and_then(|commit| commit.tree().map(drop)).is_ok())
}

/// Locks that a process left which was killed: nobody else writes here, and with them every fetch would fail for ever.
fn drop_locks(dir: &Path) {
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            // Objects are written without locks, and are many.
            if path.is_dir() && !path.ends_with("objects") {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "lock") {
                tracing::info!(path = %path.display(), "removing a lock that a killed process left in the git cache");
                if let Err(error) = std::fs::remove_file(&path) {
                    tracing::warn!(path = %path.display(), %error, "failed to remove a lock from the git cache");
                }
            }
        }
    }
}

/// No redirect to another host is followed, at any stage of an exchange.
fn stay_on_site(dir: &Path) -> Result<(), GitError> {
    let set = Repository::open_bare(dir).and_then(|repo| {
        repo.config()?.open_level(git2::ConfigLevel::Local)?.set_bool("http.followRedirects", false)
    });
    set.map_err(|error| GitError::Store { dir: dir.to_owned(), reason: error.message().to_owned() })
}

fn recreate(dir: &Path) -> Result<(), GitError> {
    let fail = |reason: String| GitError::Store { dir: dir.to_owned(), reason };
    let foreign = dir.exists() && !looks_like_ours(dir);
    if foreign {
        return Err(fail("the folder holds something else; name an empty one".to_owned()));
    }
    if dir.exists() {
        std::fs::remove_dir_all(dir).map_err(|error| fail(error.to_string()))?;
    }
    std::fs::create_dir_all(dir).map_err(|error| fail(error.to_string()))?;
    Repository::init_bare(dir).map_err(|error| fail(error.message().to_owned()))?;
    stay_on_site(dir)?;
    std::fs::write(dir.join(MARKER), MARKER_TEXT).map_err(|error| fail(error.to_string()))
}

/// Tells our cache from a repository that somebody named by mistake, before it is deleted.
const MARKER: &str = "serin-cache";
const MARKER_TEXT: &str = "A cache of Serin's. It is deleted and made again at any time.\n";

fn looks_like_ours(dir: &Path) -> bool {
    dir.join(MARKER).exists() || std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none())
}

/// Process-wide limits of libgit2; without them a silent server blocks a thread for ever.
#[expect(
    unsafe_code,
    reason = "libgit2's options are process-wide globals; set once, before any connection is made"
)]
fn limit_waiting() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the options are plain integers in libgit2's global state. `Once` keeps other threads of ours from
        // writing them at the same time, and no remote of this process is connected before a store exists.
        let set = unsafe {
            git2::opts::set_server_connect_timeout_in_milliseconds(CONNECT_TIMEOUT_MS)
                .and_then(|()| git2::opts::set_server_timeout_in_milliseconds(SERVER_TIMEOUT_MS))
        };
        if let Err(error) = set {
            tracing::warn!(error = error.message(), "git timeouts could not be set");
        }
    });
}
