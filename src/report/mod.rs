//! Projections of state: Git record, rollback commit, events.

pub mod events;
pub mod git;
