//! The pure core of Serin: what decides, without anything that acts.
//!
//! [`model`] holds the nouns, [`analysis`] turns measurements into verdicts, [`release`] is the engine: from a policy, what
//! was observed, the state and the time it makes the next state and the actions that follow from it. Nothing here does I/O,
//! reads a clock or draws a random number; the crate's dependencies could not help it to.

pub mod analysis;
pub mod model;
pub mod release;
