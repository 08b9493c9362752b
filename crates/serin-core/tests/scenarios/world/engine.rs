//! The engine as the world plays it: two functions, so that a mutant may stand in for them.

use jiff::Timestamp;
use serin_core::release::{Observed, Policy, Question, State, Step, ask, step};

/// What decides.
#[derive(Clone, Copy)]
pub(crate) struct Engine {
    pub(crate) step: fn(&Policy, &Observed, State, Timestamp) -> Step,
    pub(crate) ask: fn(&Policy, &Observed, &State, Timestamp) -> Vec<Question>,
}

impl Engine {
    /// The real one.
    pub(crate) const REAL: Self = Self { step, ask };
}
