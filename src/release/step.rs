//! The decision: what happens next.

use jiff::Timestamp;

use super::action::Action;
use super::observed::Observed;
use super::policy::Policy;
use super::report::Report;
use super::state::State;

/// What a step decided.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// The new state; persisted before the actions are carried out, if it differs from the old one.
    pub state: State,
    /// What to do; repeated by the next step until its effect is observed.
    pub actions: Vec<Action>,
    /// What to tell people.
    pub report: Report,
    /// When to look again even if nothing wakes us; `None` means only when something changes.
    pub wake: Option<Timestamp>,
}
