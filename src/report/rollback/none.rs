//! Why there is no rollback commit.

use crate::manifest::SpliceError;
use crate::model::CommitId;

/// Why there is no rollback commit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoRollback {
    /// A change made in the cluster.
    #[error("the failed revision did not come from Git")]
    CauseNotInGit,
    /// Turned off.
    #[error("rollback commits are turned off (rollback: record); restore the manifest yourself")]
    TurnedOff,
    /// A tag is followed.
    #[error("{0} is followed and never moved; watch a branch instead")]
    NoBranch(String),
    /// Nobody allowed it in time.
    #[error("the push was denied for {0} hours; restore the manifest yourself")]
    Denied(u64),
    /// A person has closed the pull request.
    #[error("the pull request {0} was closed without being merged; restore the manifest yourself")]
    Declined(String),
    /// Nobody merged the pull request.
    #[error("its pull request was not merged for {0} days; merge it, or restore the manifest yourself")]
    NotMerged(u64),
    /// Nothing to go back to.
    #[error("nothing was promoted before")]
    NothingPromoted,
    /// The last good template was never on the branch, or its history is gone.
    #[error(
        "no commit of branch {branch} has the promoted revision {digest} (was it forced, or never in Git?); restore the \
         manifest yourself"
    )]
    PromotedNotInGit {
        /// The watched branch.
        branch: String,
        /// The promoted digest.
        digest: String,
    },
    /// Somebody was faster.
    #[error("the branch has moved on: the target is at {tip} there, not at the failed {failed}")]
    MovedOn {
        /// Digest at the tip, or what is there instead.
        tip: String,
        /// The failed digest.
        failed: String,
    },
    /// Somebody was faster and did the same.
    #[error("the branch names the promoted revision again")]
    PutRight,
    /// Nothing at the tip names the target.
    #[error("the branch has moved on: the target is no longer there")]
    TargetGone,
    /// The branch was deleted.
    #[error("{0} does not exist")]
    BranchGone(String),
    /// It was rolled back before and pushed again.
    #[error("this revision was rolled back before, in {0}, and pushed again; `serin retry` releases it again")]
    RolledBackBefore(CommitId),
    /// It was released again after this release.
    #[error("this revision was released again since")]
    ReleasedAgain,
    /// The file at the tip cannot be read.
    #[error("the manifest at the tip cannot be read: {0}")]
    Unreadable(String),
    /// It is nowhere as it is applied.
    #[error("the target is made by {file}, and {why}; restore what that is made of yourself")]
    Rendered {
        /// The kustomization.
        file: String,
        /// Why none of its files is edited.
        why: String,
    },
    /// A config that the promoted template reads is not in Git any more.
    #[error("{0}, which the promoted revision reads, is no longer there; restore it yourself")]
    ConfigGone(String),
    /// A config that has to go back is read by somebody else, too.
    #[error("{config} is read by {other}, too, and is not put back under it; restore it yourself")]
    Shared {
        /// The config.
        config: String,
        /// Who else reads it.
        other: String,
    },
    /// The file cannot be edited safely.
    #[error(transparent)]
    NotSplicable(#[from] SpliceError),
    /// The edit would not give what was analysed.
    #[error("the restored manifest would have the digest {found}, not the promoted {wanted}")]
    OtherDigest {
        /// What the edit gives.
        found: String,
        /// What it should give.
        wanted: String,
    },
}

impl NoRollback {
    /// In CamelCase, for a condition.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::CauseNotInGit => "CauseNotInGit",
            Self::TurnedOff => "RollbackTurnedOff",
            Self::NoBranch(_) => "NotABranch",
            Self::Denied(_) => "RollbackDenied",
            Self::Declined(_) => "RollbackDeclined",
            Self::NotMerged(_) => "RollbackNotMerged",
            Self::NothingPromoted => "NothingPromoted",
            Self::PromotedNotInGit { .. } => "PromotedNotInGit",
            Self::MovedOn { .. } => "MovedOn",
            Self::PutRight => "PutRight",
            Self::TargetGone => "TargetGone",
            Self::BranchGone(_) => "BranchGone",
            Self::RolledBackBefore(_) => "RolledBackBefore",
            Self::ReleasedAgain => "ReleasedAgain",
            Self::Unreadable(_) => "ManifestUnreadable",
            Self::Rendered { .. } => "Rendered",
            Self::ConfigGone(_) => "ConfigGone",
            Self::Shared { .. } => "ConfigShared",
            Self::NotSplicable(_) => "NotSplicable",
            Self::OtherDigest { .. } => "OtherDigest",
        }
    }

    /// Whether the branch goes on naming what failed: somebody has to do something.
    pub fn leaves_failed(&self) -> bool {
        match self {
            Self::CauseNotInGit
            | Self::MovedOn { .. }
            | Self::PutRight
            | Self::TargetGone
            | Self::ReleasedAgain => false,
            Self::TurnedOff
            | Self::NoBranch(_)
            | Self::Denied(_)
            | Self::Declined(_)
            | Self::NotMerged(_)
            | Self::NothingPromoted
            | Self::PromotedNotInGit { .. }
            | Self::BranchGone(_)
            | Self::RolledBackBefore(_)
            | Self::Unreadable(_)
            | Self::Rendered { .. }
            | Self::ConfigGone(_)
            | Self::Shared { .. }
            | Self::NotSplicable(_)
            | Self::OtherDigest { .. } => true,
        }
    }
}
