//! Moving a remote's ref from the commit we decided on to ours, or not at all.
//!
//! Over http and ssh libgit2 sends the old id and the server compares it. For local repositories libgit2 must not be used:
//! its local transport forces the ref and runs no hooks. There the `git` binary pushes with a lease, or, without one, the
//! objects are written and the ref is moved by comparison, unless hooks would have had a say.

mod binary;
mod library;
mod wire;

use std::time::Duration;

use super::error::GitError;
use super::remote::{Location, Remote};
use super::store::{Inner, NETWORK_DEADLINE, Store, Until};
use crate::model::CommitId;

/// Pauses before the same is tried again because of a lock: git itself waits 100 ms for one. Together as long as a slow hook
/// of somebody else's push holds it, and no more: a lock that stays is somebody's to remove.
const LOCKED_PAUSES: [Duration; 4] = [
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(800),
];

/// How local repositories are pushed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LocalPush {
    /// With the `git` binary if there is one, else with libgit2.
    #[default]
    Detect,
    /// With the `git` binary.
    Binary,
    /// With libgit2: objects, then the ref by comparison; refused where hooks exist.
    Library,
}

/// Why a ref was not moved.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PushError {
    /// The ref is no longer what we decided on: fetch, decide again, try again.
    #[error("{reference} has moved: {reason}")]
    Moved {
        /// The ref.
        reference: String,
        /// The remote's words.
        reason: String,
    },
    /// Somebody has to allow it: a protected branch, a hook, missing rights. Trying again at once does not help.
    #[error("pushing to {reference} was denied: {reason}")]
    Denied {
        /// The ref.
        reference: String,
        /// The remote's words.
        reason: String,
    },
    /// The remote could not be asked, or it broke off: the ref may have moved or not.
    #[error(transparent)]
    Failed(#[from] GitError),
}

/// One move of one ref.
pub(super) struct Move<'a> {
    pub(super) remote: &'a Remote,
    pub(super) reference: &'a str,
    pub(super) old: Option<&'a CommitId>,
    pub(super) new: &'a CommitId,
    pub(super) until: Until,
}

impl Store {
    /// Moves `reference` of the remote from `expected_old` (`None`: it must not exist) to `new`, whose objects are sent.
    ///
    /// # Errors
    /// See [`PushError`]. Whatever the error, the ref is either where it was or at `new`.
    pub async fn push(
        &self,
        remote: &Remote,
        reference: &str,
        expected_old: Option<&CommitId>,
        new: &CommitId,
    ) -> Result<(), PushError> {
        let (remote, reference) = (remote.clone(), reference.to_owned());
        let (old, new) = (expected_old.cloned(), new.clone());
        let guard = binary::Guard::default();
        let child = guard.slot();
        self.run("pushing to the git remote", NETWORK_DEADLINE, move |inner, until| {
            let step = Move { remote: &remote, reference: &reference, old: old.as_ref(), new: &new, until };
            let pushed = push(inner, &step, &child);
            inner.tidy();
            Ok(pushed)
        })
        .await?
    }
}

/// Why one try did not move the ref.
pub(super) enum Stopped {
    /// The remote refuses, in its words. Whether the ref has moved is not for words to say.
    Refused(String),
    /// Anything else is decided.
    Because(PushError),
}

impl<E: Into<PushError>> From<E> for Stopped {
    fn from(error: E) -> Self {
        Self::Because(error.into())
    }
}

/// Tries until the ref is moved, or the reason why not will last.
fn push(inner: &Inner, step: &Move<'_>, child: &binary::Slot) -> Result<(), PushError> {
    let mut pauses = LOCKED_PAUSES.iter();
    loop {
        let words = match send(inner, step, child) {
            Ok(()) => return Ok(()),
            Err(Stopped::Because(error)) => return Err(error),
            Err(Stopped::Refused(words)) => super::error::redact(&words),
        };
        let reference = step.reference.to_owned();
        let now = super::fetch::probe(inner, step.remote, step.reference, step.until)?;
        if now.as_ref() == Some(step.new) {
            return Ok(());
        }
        if now.as_ref() != step.old {
            return Err(PushError::Moved { reference, reason: words });
        }
        // Nobody has moved it. Another's push may hold its lock just now; whatever else it is, it is not that.
        match pauses.next().filter(|_| speaks_of_a_lock(&words)) {
            Some(pause) => std::thread::sleep(*pause),
            None => return Err(PushError::Denied { reference, reason: words }),
        }
    }
}

/// What `git` and libgit2 say where a ref's lock is in the way, or was when they wrote.
fn speaks_of_a_lock(words: &str) -> bool {
    let words = words.to_ascii_lowercase();
    ["lock", "failed to update ref", "stale info", "fetch first", "non-fast"]
        .iter()
        .any(|word| words.contains(word))
}

fn send(inner: &Inner, step: &Move<'_>, child: &binary::Slot) -> Result<(), Stopped> {
    let Location::Local(path) = step.remote.location() else {
        return wire::push(inner, step);
    };
    let with_binary = match inner.local_push {
        LocalPush::Detect => binary::is_there(),
        LocalPush::Binary => true,
        LocalPush::Library => false,
    };
    if with_binary { binary::push(inner, step, path, child) } else { library::push(inner, step, path) }
}
