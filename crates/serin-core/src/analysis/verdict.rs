//! What a reading means, held against its condition.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Reading;
use super::condition::Condition;

/// Inclusive limits. A value outside fails; NaN is never inside.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Range {
    /// Smallest passing value.
    pub min: Option<f64>,
    /// Largest passing value.
    pub max: Option<f64>,
}

impl fmt::Display for Range {
    /// `≥ 99`, `≤ 500`, `0 to 5`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.min, self.max) {
            (Some(min), Some(max)) => write!(f, "{min} to {max}"),
            (Some(min), None) => write!(f, "≥ {min}"),
            (None, Some(max)) => write!(f, "≤ {max}"),
            (None, None) => f.write_str("none"),
        }
    }
}

/// What one reading means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// The condition is met.
    #[serde(rename = "pass")]
    Pass,
    /// It is not.
    #[serde(rename = "fail")]
    Fail,
    /// No sample, an empty vector, NaN or infinity.
    #[serde(rename = "no data")]
    NoData,
    /// No sample yet: the traffic is younger than the metric's interval.
    #[serde(rename = "too early")]
    Early,
    /// A value of too few requests to mean anything.
    #[serde(rename = "too few samples")]
    Few,
    /// Several series where one number is needed.
    #[serde(rename = "several series")]
    Several,
    /// The provider could not be asked or refused, or the condition could not be evaluated.
    #[serde(rename = "error")]
    Error,
    /// The policy is at fault: nothing can be asked, or there is no limit to hold a value against.
    #[serde(rename = "misconfigured")]
    Misconfigured,
    /// A value that meets neither condition.
    #[serde(rename = "inconclusive")]
    Inconclusive,
}

impl Verdict {
    /// As status, record and CLI write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::NoData => "no data",
            Self::Early => "too early",
            Self::Few => "too few samples",
            Self::Several => "several series",
            Self::Error => "error",
            Self::Misconfigured => "misconfigured",
            Self::Inconclusive => "inconclusive",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which limit a value broke.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Breach {
    /// The value is below this minimum.
    Below(f64),
    /// The value is above this maximum.
    Above(f64),
}

/// Judges one reading; why, where the reading itself does not say it.
///
/// Nothing but a value that meets a condition passes. The one exception is the field's: an expression for failure alone
/// passes what it does not name, and a check without any condition that may be missing ([`Condition::Always`]) passes what
/// was measured. NaN and infinity are no values; only an expression may say otherwise.
pub fn judge(reading: &Reading, condition: &Condition) -> (Verdict, Option<String>) {
    match reading {
        Reading::NoData { .. } => (Verdict::NoData, None),
        Reading::Error { .. } => (Verdict::Error, None),
        Reading::Several { .. } => (Verdict::Several, None),
        Reading::Misconfigured { .. } => (Verdict::Misconfigured, None),
        Reading::Value { .. } | Reading::List { .. } | Reading::Json { .. } => condition.judge(reading),
    }
}

/// The limit that `value` broke, if any; the minimum is looked at first, as Flagger does.
pub fn breach(value: f64, range: Range) -> Option<Breach> {
    let below = range.min.filter(|min| value < *min).map(Breach::Below);
    below.or_else(|| range.max.filter(|max| value > *max).map(Breach::Above))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(value: f64) -> Reading {
        Reading::Value { value }
    }

    #[test]
    fn only_a_finite_number_inside_the_limits_passes() {
        let range = Condition::Range(Range { min: Some(0.0), max: Some(5.0) });
        let cases = [
            (value(0.0), Verdict::Pass),
            (value(5.0), Verdict::Pass),
            (value(5.01), Verdict::Fail),
            (value(-0.01), Verdict::Fail),
            (value(f64::NAN), Verdict::NoData),
            (value(f64::INFINITY), Verdict::NoData),
            (Reading::List { values: vec![1.0] }, Verdict::Error),
            (Reading::NoData { reason: "empty".into() }, Verdict::NoData),
            (Reading::Error { reason: "refused".into() }, Verdict::Error),
            (Reading::Several { reason: "2 series".into() }, Verdict::Several),
            (Reading::Misconfigured { reason: "no template".into() }, Verdict::Misconfigured),
        ];
        for (reading, verdict) in cases {
            assert_eq!(judge(&reading, &range).0, verdict, "{reading:?}");
        }
    }

    #[test]
    fn a_value_without_limits_proves_nothing() {
        assert_eq!(judge(&value(99.0), &Condition::Range(Range::default())).0, Verdict::Misconfigured);
    }
}
