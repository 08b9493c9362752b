//! Commit statuses, in words of our own.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::CommitId;

/// Longest description, in characters: GitHub refuses more, and refuses the status with it.
pub const DESCRIPTION_MAX: usize = 140;
/// Longest context: the shortest limit among the forges (GitHub's and Gitea's 255).
const CONTEXT_MAX: usize = 255;

/// What a commit's status says. Each forge has a word for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CommitState {
    /// Seen; its turn will come.
    Pending,
    /// It is being released.
    Running,
    /// What it wants is what runs.
    Success,
    /// It was released and failed.
    Failure,
    /// It cannot be released as it is, or is kept from it.
    Error,
    /// Another commit took its place.
    Cancelled,
}

impl CommitState {
    /// Whether something is still to come.
    pub fn is_open(self) -> bool {
        match self {
            Self::Pending | Self::Running => true,
            Self::Success | Self::Failure | Self::Error | Self::Cancelled => false,
        }
    }

    /// As the API and people read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Error => "error",
            Self::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for CommitState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One status of one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitStatus {
    /// The commit.
    pub commit: CommitId,
    /// What the status is about: the same words for the same thing at every commit.
    pub context: String,
    /// What it says.
    pub state: CommitState,
    /// One line for people.
    pub description: String,
    /// Where more is told; none if there is no such place.
    pub target_url: Option<String>,
    /// The branch that the commit is on.
    pub branch: String,
}

impl CommitStatus {
    /// The description as every forge takes it: one line, not longer than [`DESCRIPTION_MAX`].
    pub fn short_description(&self) -> String {
        let line: Vec<&str> = self.description.split_whitespace().collect();
        crate::model::told_chars(line.join(" "), DESCRIPTION_MAX)
    }

    /// The context as every forge takes it.
    pub fn short_context(&self) -> String {
        self.context.chars().take(CONTEXT_MAX).collect()
    }
}

/// A status that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Posted {
    /// What it is about.
    pub context: String,
    /// The forge's word for its state.
    pub state: String,
    /// Its description.
    pub description: String,
}
