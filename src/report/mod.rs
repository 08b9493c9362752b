//! Projections of state: Git record, rollback commit, commit statuses, events.
//!
//! What is recorded ([`record`]) and whether and how a failed release is rolled back in Git ([`rollback`]) is decided by
//! pure functions from plain data; [`writer`] carries it out with compare and swap, [`git`] is the loop around it.
//! Projections are level-triggered: they compare what should be there with what is, so a lost one is made up for and none
//! is doubled.

pub mod alerts;
pub mod configs;
pub mod environments;
pub mod events;
pub mod git;
pub mod history;
pub mod rebuild;
pub mod record;
pub mod rollback;
#[cfg(test)]
mod samples;
pub mod statuses;
mod target;
mod watched;
pub mod writer;

pub use record::TargetReport;
pub use watched::WatchedBranch;
pub use writer::{Condition, GitReporter, Projection, ReporterSettings, RollbackCommits};
