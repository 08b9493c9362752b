//! What a reading means, held against its limits.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Reading;

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
    /// Inside the limits.
    #[serde(rename = "pass")]
    Pass,
    /// Outside the limits.
    #[serde(rename = "fail")]
    Fail,
    /// No sample, an empty vector, NaN or infinity.
    #[serde(rename = "no data")]
    NoData,
    /// The provider could not be asked or refused.
    #[serde(rename = "error")]
    Error,
    /// A value, but no limit to hold it against.
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
            Self::Error => "error",
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

/// Judges one reading. Nothing but a finite number inside at least one limit passes.
pub fn judge(reading: &Reading, range: Range) -> Verdict {
    match reading {
        Reading::NoData { .. } => Verdict::NoData,
        Reading::Error { .. } => Verdict::Error,
        Reading::Value { value } if !value.is_finite() => Verdict::NoData,
        Reading::Value { .. } if range == Range::default() => Verdict::Inconclusive,
        Reading::Value { value } => match breach(*value, range) {
            Some(_) => Verdict::Fail,
            None => Verdict::Pass,
        },
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
        let range = Range { min: Some(0.0), max: Some(5.0) };
        let cases = [
            (value(0.0), Verdict::Pass),
            (value(5.0), Verdict::Pass),
            (value(5.01), Verdict::Fail),
            (value(-0.01), Verdict::Fail),
            (value(f64::NAN), Verdict::NoData),
            (value(f64::INFINITY), Verdict::NoData),
            (Reading::NoData { reason: "empty".into() }, Verdict::NoData),
            (Reading::Error { reason: "refused".into() }, Verdict::Error),
        ];
        for (reading, verdict) in cases {
            assert_eq!(judge(&reading, range), verdict, "{reading:?}");
        }
    }

    #[test]
    fn a_value_without_limits_proves_nothing() {
        assert_eq!(judge(&value(99.0), Range::default()), Verdict::Inconclusive);
    }
}
