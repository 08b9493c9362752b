//! Sequential comparison: does the candidate fail more of its requests than what serves does, of the same requests at the same
//! time?
//!
//! Routed at random, equal versions share the failures as they share the requests, whatever the load is and whatever befalls both.
//! So given the counts of a cell (a stretch of time as one observer saw it) the split of its failures tests equality, cells
//! multiply, and one may look as often as one likes: the evidence of versions that are equal reaches 100 once in a hundred
//! releases at most. [`Evidence`] adds cells up, [`cells`] makes them of raw counters, [`noise`](mod@noise) says how much of the evidence is
//! to be believed because failures come together, and [`sight`] what can be seen at all.

mod cells;
mod evidence;
mod noise;
mod run;
mod share;
mod sight;
mod windows;

pub use cells::{Looked, OBSERVERS_MAX, Part, Series, paired};
pub use evidence::{Cell, Counts, Evidence, FAILURES_MIN, Guard, LIMIT, Reached};
pub use noise::{Block, GUESS, HISTORY, HISTORY_FAILURES, Noise, noise};
pub use run::{Comparing, Comparison, Counted, History, LookAt, Notes, Standing};
pub use share::Share;
pub use sight::{Stage, seen_from};
pub use windows::windowed;

#[cfg(test)]
mod simulation;
