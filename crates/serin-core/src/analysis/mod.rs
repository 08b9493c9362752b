//! Measurements become verdicts, and verdicts become the end of a run. PURE: no I/O, no clock, no async.
//!
//! Analysis owns its time: a run is advanced whenever somebody looks, whatever else goes on. It names the questions that are
//! due, judges them once they are answered, and says when to look again. There are two paces: [`Rounds`], all checks together,
//! and [`Schedules`], each by its own clock.
//!
//! Unknown, empty, NaN, too early, misconfigured and error are outcomes of their own; none of them passes as success.

mod check;
pub mod compare;
mod condition;
mod hook;
mod judged;
mod keyed;
mod rounds;
mod run;
mod schedules;
mod verdict;
pub mod words;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use check::{Check, CheckSource, OnMissing};
pub use condition::{Condition, Expression, Predicate};
pub use hook::{Hook, HookKind};
pub use judged::Judged;
pub use keyed::{Defined, Definition, Key, Keyed};
pub use rounds::{Known, Passed, Rounds, RoundsRun, Trouble};
pub use run::{Answered, Ask, End, Mode, News, Requests, Subject, Turn};
pub use schedules::{Because, CheckClock, Phase, Schedule, Scheduled, Schedules, SchedulesRun};
pub use verdict::{Breach, Range, Verdict, breach, judge};

/// What a provider answered to a query.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Measurement {
    /// What came back.
    pub reading: Reading,
    /// The query as sent.
    pub query: String,
    /// When it was asked.
    pub at: Timestamp,
}

/// A webhook's reply after its retries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookReply {
    /// Any 2xx.
    pub accepted: bool,
    /// The body, or the error in words; at most 1 KiB.
    pub body: String,
}

/// What came back: a sample, or why there is none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Reading {
    /// A finite number.
    Value {
        /// The number, in the check's unit.
        value: f64,
    },
    /// Several numbers, one of each series or moment.
    List {
        /// The numbers; NaN is possible.
        values: Vec<f64>,
    },
    /// Anything else.
    Json {
        /// As the provider answered.
        value: serde_json::Value,
    },
    /// No sample, an empty vector, NaN or infinity; why, in words.
    NoData {
        /// Why, in words.
        reason: String,
    },
    /// The provider could not be asked or refused; why, in words.
    Error {
        /// Why, in words.
        reason: String,
    },
    /// Several series where one number is needed: which of them counts nobody knows; in words.
    Several {
        /// How many, two of them, and what helps.
        reason: String,
    },
    /// The policy is at fault, not the version and not the provider: a template or a Secret that is not there, a query that
    /// does not render; in words.
    Misconfigured {
        /// What, and what helps.
        reason: String,
    },
}
