//! What a check demands of a sample: a range, or expressions whose evaluator is handed in.

use std::fmt;
use std::sync::Arc;

use super::verdict::{Range, Verdict, breach};
use super::{Definition, Reading};

/// What a check demands of a sample.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// One number inside limits.
    Range(Range),
    /// Expressions over the sample; at least one of the two.
    Expressions {
        /// Holds for what passes.
        success: Option<Expression>,
        /// Holds for what fails; asked first.
        failure: Option<Expression>,
    },
    /// Whatever was measured passes.
    Always,
}

/// A condition in a language of its own, compiled by whoever knows that language.
#[derive(Clone)]
pub struct Expression(Arc<dyn Predicate>);

/// Decides about samples.
pub trait Predicate: Send + Sync {
    /// As the user wrote it.
    fn text(&self) -> &str;

    /// Whether it holds for the sample.
    ///
    /// # Errors
    /// With what cannot be evaluated and why, in words.
    fn holds(&self, sample: &Reading) -> Result<bool, String>;
}

impl Expression {
    /// An expression that `predicate` evaluates.
    pub fn new(predicate: impl Predicate + 'static) -> Self {
        Self(Arc::new(predicate))
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.0.text() == other.0.text()
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.0.text()).finish()
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.text())
    }
}

impl fmt::Display for Condition {
    /// `≥ 99`, `result[0] >= 0.95`, `not (result[0] < 0.9)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range(range) => range.fmt(f),
            Self::Expressions { success: Some(success), failure: Some(failure) } => {
                write!(f, "{success} and not ({failure})")
            }
            Self::Expressions { success: Some(success), failure: None } => success.fmt(f),
            Self::Expressions { success: None, failure: Some(failure) } => write!(f, "not ({failure})"),
            Self::Expressions { success: None, failure: None } | Self::Always => f.write_str("none"),
        }
    }
}

impl Condition {
    /// The limits, if these are limits.
    pub fn range(&self) -> Option<Range> {
        match self {
            Self::Range(range) => Some(*range),
            Self::Expressions { .. } | Self::Always => None,
        }
    }

    /// Why nothing can be held against it, in words.
    pub fn problem(&self) -> Option<String> {
        match self {
            Self::Range(range) if *range == Range::default() => {
                Some("it has no limit to be held against: give it a thresholdRange".to_owned())
            }
            Self::Range(range @ Range { min: Some(min), max: Some(max) }) if min > max => {
                Some(format!("no value is in {range}: min is the smallest that passes, max the largest"))
            }
            Self::Range(_) | Self::Expressions { .. } | Self::Always => None,
        }
    }

    pub(super) fn define(&self, definition: Definition) -> Definition {
        match self {
            Self::Range(range) => definition.with("range").with(range),
            Self::Expressions { success, failure } => {
                definition.with("expressions").with_option(success.as_ref()).with_option(failure.as_ref())
            }
            Self::Always => definition.with("always"),
        }
    }

    pub(super) fn judge(&self, sample: &Reading) -> (Verdict, Option<String>) {
        match (self, sample) {
            (Self::Range(_), _) if self.problem().is_some() => (Verdict::Misconfigured, self.problem()),
            (Self::Range(_) | Self::Always, Reading::Value { value }) if !value.is_finite() => {
                (Verdict::NoData, Some(format!("the value is {value}")))
            }
            (Self::Range(range), Reading::Value { value }) => match breach(*value, *range) {
                Some(_) => (Verdict::Fail, None),
                None => (Verdict::Pass, None),
            },
            (Self::Range(_), _) => {
                (Verdict::Error, Some("the answer is no single number to be held against a range".to_owned()))
            }
            (Self::Always, _) => (Verdict::Pass, None),
            (Self::Expressions { success, failure }, sample) => expressions(success, failure, sample),
        }
    }
}

/// Failure wins; with both and neither holding the sample says nothing.
fn expressions(
    success: &Option<Expression>,
    failure: &Option<Expression>,
    sample: &Reading,
) -> (Verdict, Option<String>) {
    let holds = |expression: &Option<Expression>| match expression {
        Some(expression) => expression.0.holds(sample).map(Some),
        None => Ok(None),
    };
    match (holds(failure), holds(success)) {
        (Err(error), _) | (_, Err(error)) => (Verdict::Error, Some(error)),
        (Ok(Some(true)), _) | (Ok(None), Ok(Some(false))) => (Verdict::Fail, None),
        (Ok(_), Ok(Some(true))) | (Ok(_), Ok(None)) => (Verdict::Pass, None),
        (Ok(Some(false)), Ok(Some(false))) => (Verdict::Inconclusive, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `< 5`: every number of the sample is below.
    struct Below(&'static str);

    impl Predicate for Below {
        fn text(&self) -> &str {
            self.0
        }

        fn holds(&self, sample: &Reading) -> Result<bool, String> {
            let limit: f64 = self.0.trim_start_matches("< ").parse().map_err(|_| "not a number".to_owned())?;
            match sample {
                Reading::List { values } => Ok(values.iter().all(|value| *value < limit)),
                Reading::Value { value } => Ok(*value < limit),
                _ => Err("no number".to_owned()),
            }
        }
    }

    fn below(text: &'static str) -> Option<Expression> {
        Some(Expression::new(Below(text)))
    }

    #[test]
    fn failure_wins_and_neither_of_both_is_inconclusive() {
        let list = |values: &[f64]| Reading::List { values: values.to_vec() };
        let cases = [
            (None, below("< 5"), list(&[1.0, 4.0]), Verdict::Pass),
            (None, below("< 5"), list(&[1.0, 6.0]), Verdict::Fail),
            (below("< 5"), None, list(&[1.0]), Verdict::Fail),
            (below("< 5"), None, list(&[9.0]), Verdict::Pass),
            (below("< 5"), below("< 9"), list(&[1.0]), Verdict::Fail),
            (below("< 5"), below("< 9"), list(&[7.0]), Verdict::Pass),
            (below("< 5"), below("< 9"), list(&[10.0]), Verdict::Inconclusive),
            (None, below("< x"), list(&[10.0]), Verdict::Error),
            (None, below("< 5"), Reading::Json { value: serde_json::json!({}) }, Verdict::Error),
        ];
        for (failure, success, sample, verdict) in cases {
            let condition = Condition::Expressions { success, failure };
            assert_eq!(condition.judge(&sample).0, verdict, "{condition} {sample:?}");
        }
        assert_eq!(Condition::Always.judge(&list(&[1.0])).0, Verdict::Pass);
    }
}
