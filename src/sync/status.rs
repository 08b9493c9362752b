//! What sync tells probes, metrics and the CLI.

use std::collections::BTreeMap;

use crate::api::{RefusedRemoval, SyncedCommit};
use crate::model::{CommitId, ObjectRef};

/// Where sync is. Sent through a watch channel at every change.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SyncStatus {
    /// The newest commit that was read.
    pub seen: Option<CommitId>,
    /// The last commit that was worked through.
    pub commit: Option<CommitId>,
    /// Whether a commit has been worked through since this process started.
    pub synced: bool,
    /// Why the repository or the cluster cannot be worked with at the moment.
    pub error: Option<String>,
    /// Objects that are not as Git wants them, and why.
    pub conditions: BTreeMap<ObjectRef, String>,
    /// What is wrong with no particular object: unreadable documents, a refused prune.
    pub problems: Vec<String>,
    /// Objects that wait for a release, and what for.
    pub waiting: BTreeMap<ObjectRef, String>,
    /// Objects that are gone from Git and stay for now, and why.
    pub kept: BTreeMap<ObjectRef, String>,
    /// Objects that are being deleted and that somebody has to let go.
    pub hanging: BTreeMap<ObjectRef, String>,
    /// Commits that drop more than is deleted without being asked for.
    pub refused_removals: Vec<RefusedRemoval>,
    /// What became of the commit.
    pub record: Option<SyncedCommit>,
    /// The last request to look now that has been answered.
    pub handled_request: Option<String>,
    /// What the last sync changed, in words.
    pub changes: Vec<String>,
}
