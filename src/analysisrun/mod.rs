//! Argo Rollouts' analysis (argoproj.io/v1alpha1): what a template and a run say becomes checks by their own clocks
//! ([`Schedules`](crate::analysis::Schedules)), and what these come to becomes a run's status.
//!
//! Pure. Arguments are filled in ([`Args`]), templates merged ([`merge()`]), a spec becomes a [`Plan`], conditions are of Argo's
//! language ([`Language`]), and [`advance`] takes a run one look further. The status of a run is all that is kept of it: what Argo's
//! own controller has begun goes on from there, and the other way round.

mod args;
mod check;
mod course;
mod expression;
mod made;
mod merge;
mod plan;
mod words;

pub use args::{Args, SecretArg, field};
pub use check::{Fault, faults};
pub use course::{Given, Look, Next, Slot, Taken, advance, expires, failed};
pub use expression::{Language, Side};
pub use made::{Origin, Purpose, made, name};
pub use merge::{Merged, merge};
pub use plan::{Plan, Planned, Provider};

/// Label of a run's Jobs and of their pods: the run's uid.
pub const RUN_UID: &str = "analysisrun.argoproj.io/uid";
