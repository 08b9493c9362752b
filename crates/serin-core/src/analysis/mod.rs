//! Measurements become verdicts. PURE: no I/O, no clock, no async.
//!
//! Unknown, empty, NaN and error are outcomes of their own; none of them passes as success.

mod check;
mod hook;
mod keyed;
mod verdict;
pub mod words;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use check::{Check, CheckSource, OnMissing};
pub use hook::{Hook, HookKind};
pub use keyed::{Defined, Definition, Key, Keyed};
pub use verdict::{Breach, Range, Verdict, breach, judge};

/// One metric value with the query that gave it.
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

/// What a provider answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Reading {
    /// A finite number.
    Value {
        /// The number, in the check's unit.
        value: f64,
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
}
