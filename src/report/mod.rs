//! Projections of state: Git record, rollback commit, events.
//!
//! What is recorded ([`record`]) and whether and how a failed release is rolled back in Git ([`rollback`]) is decided by
//! pure functions from plain data; [`writer`] carries it out with compare and swap. Projections are level-triggered: they
//! compare what should be in Git with what is there, so a lost one is made up for and none is doubled.

pub mod events;
pub mod git;
pub mod record;
pub mod rollback;
pub mod writer;
