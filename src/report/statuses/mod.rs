//! Commit statuses: what became of every commit that touches a target, for its forge and for whoever asks.
//!
//! [`touched`] says which targets a commit touches, [`judge`] what there is to say of one (`words` in how many words), [`ledger`]
//! what is still to be told: all pure. [`run()`] carries it out. Nothing here delays a release: it only reads.

mod board;
mod judge;
mod ledger;
mod run;
mod store;
mod target;
#[cfg(test)]
mod tests;
mod touched;
mod words;

pub use board::{Board, Revision, RevisionTarget};
pub use run::{Context, Settings, run};
pub use target::{WatchedTarget, watched_sources, watched_targets};
