//! One judgement of a check, with everything that it was made of.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::{Digest, told};

use super::verdict::{Verdict, judge};
use super::{Check, Measurement, Reading};

/// Bytes kept of a sample that is not one number, and of a reason.
const TEXT_MAX: usize = 256;

/// A check with its last value and limit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Judged {
    /// The check's name.
    pub name: String,
    /// What the value means.
    pub verdict: Verdict,
    /// The value, if it was one number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// `≥ 99`, `≤ 500`, `0 to 5`.
    pub limit: String,
    /// Any other sample, shortened; or why there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Requests that the candidate had had by the router's counters, where they were asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<u64>,
    /// When it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// The query's window in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<u64>,
    /// Digest of the query as it was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<Digest>,
}

impl Judged {
    /// Judges what a provider answered, or that it did not.
    pub(crate) fn of(check: &Check, measured: Option<&Measurement>, window: Duration) -> (Self, Reading) {
        let seconds = check.patience.as_secs();
        let late = || Reading::Error { reason: format!("no answer within {seconds}s") };
        let reading = measured.map_or_else(late, |measured| measured.reading.clone());
        let (verdict, why) = judge(&reading, &check.condition);
        let judged = Self {
            name: check.name.clone(),
            verdict,
            value: number(&reading),
            limit: check.condition.to_string(),
            text: why.or_else(|| text(&reading)).map(shortened),
            samples: None,
            at: measured.map(|measured| measured.at),
            window: u64::try_from(window.as_millis()).ok(),
            query: measured
                .filter(|measured| !measured.query.is_empty())
                .map(|measured| Digest::of_canonical(measured.query.as_bytes())),
        };
        (judged, reading)
    }

    /// With another verdict, and why.
    pub(super) fn but(self, verdict: Verdict, why: String) -> Self {
        Self { verdict, text: Some(shortened(why)), ..self }
    }

    /// Without a measurement: nothing was asked.
    pub(super) fn unasked(check: &Check, verdict: Verdict, why: String) -> Self {
        let (name, limit) = (check.name.clone(), check.condition.to_string());
        let text = Some(shortened(why));
        Self { name, verdict, value: None, limit, text, samples: None, at: None, window: None, query: None }
    }
}

fn number(reading: &Reading) -> Option<f64> {
    match reading {
        Reading::Value { value } => Some(*value).filter(|value| value.is_finite()),
        Reading::List { .. }
        | Reading::Json { .. }
        | Reading::NoData { .. }
        | Reading::Error { .. }
        | Reading::Several { .. }
        | Reading::Misconfigured { .. } => None,
    }
}

fn text(reading: &Reading) -> Option<String> {
    match reading {
        Reading::Value { .. } => None,
        Reading::List { values } => Some(format!("{values:?}")),
        Reading::Json { value } => Some(value.to_string()),
        Reading::NoData { reason }
        | Reading::Error { reason }
        | Reading::Several { reason }
        | Reading::Misconfigured { reason } => Some(reason.clone()),
    }
}

fn shortened(text: String) -> String {
    let mut text = told(text);
    if text.len() > TEXT_MAX {
        let end = (0..=TEXT_MAX).rev().find(|index| text.is_char_boundary(*index)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}
