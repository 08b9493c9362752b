//! Moving a remote's ref from the commit we decided on to ours, or not at all.
//!
//! Over http and ssh libgit2 sends the old id and the server compares it. For local repositories libgit2 must not be used:
//! its local transport forces the ref and runs no hooks. There the `git` binary pushes with a lease, or, without one, the
//! objects are written and the ref is moved by comparison, unless hooks would have had a say.

mod binary;
mod library;
mod wire;

use super::error::GitError;
use super::remote::{Location, Remote};
use super::store::{Inner, NETWORK_DEADLINE, Store};
use crate::model::CommitId;

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
        self.run("pushing to the git remote", NETWORK_DEADLINE, move |inner| {
            let step = Move { remote: &remote, reference: &reference, old: old.as_ref(), new: &new };
            let pushed = push(inner, &step, &child);
            inner.tidy();
            Ok(pushed)
        })
        .await?
    }
}

fn push(inner: &Inner, step: &Move<'_>, child: &binary::Slot) -> Result<(), PushError> {
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

impl Move<'_> {
    /// What a remote's refusal of one ref means.
    fn refused(&self, reason: &str) -> PushError {
        let lower = reason.to_ascii_lowercase();
        let moved = [
            "stale info",
            "non-fast-forward",
            "non-fastforward",
            "fetch first",
            "cannot lock ref",
            "failed to update ref",
            "incorrect old value",
            "reference already exists",
            "failed to lock",
            "unable to lock",
        ];
        let (reference, reason) = (self.reference.to_owned(), super::error::redact(reason));
        if moved.iter().any(|words| lower.contains(words)) {
            return PushError::Moved { reference, reason };
        }
        PushError::Denied { reference, reason }
    }
}
