//! Samples that need not be one number: what Argo Rollouts' conditions are held against.

use std::time::Duration;

use jiff::Timestamp;

use crate::analysis::Reading;

use super::Endpoint;
use super::web::WebRequest;

/// What is asked.
#[derive(Debug, Clone, PartialEq)]
pub enum Sampling {
    /// A PromQL query.
    Prometheus {
        /// Whom.
        endpoint: Endpoint,
        /// The query.
        query: String,
        /// At which moments; now without.
        moments: Option<Moments>,
        /// Longest wait for the answer.
        timeout: Duration,
    },
    /// A request.
    Web(WebRequest),
}

/// The moments of a range query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moments {
    /// The first.
    pub start: Timestamp,
    /// The last.
    pub end: Timestamp,
    /// Between two.
    pub step: Duration,
}

/// What was answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampled {
    /// The sample, whatever numbers it holds; or why there is none.
    pub reading: Reading,
    /// The same in words, as Argo Rollouts writes them.
    pub value: Option<String>,
    /// What the provider warns of.
    pub warnings: Vec<String>,
    /// Why there is nothing, as far as that can be found out.
    pub note: Option<String>,
}

impl Sampled {
    /// One number.
    pub fn number(value: f64) -> Self {
        Self { value: Some(text(value)), reading: Reading::Value { value }, warnings: Vec::new(), note: None }
    }

    /// Several numbers.
    pub fn numbers(values: Vec<f64>) -> Self {
        let texts: Vec<String> = values.iter().copied().map(text).collect();
        let value = Some(format!("[{}]", texts.join(",")));
        Self { reading: Reading::List { values }, value, warnings: Vec::new(), note: None }
    }

    /// Nothing, and why.
    pub fn error(reason: String) -> Self {
        Self { reading: Reading::Error { reason }, value: None, warnings: Vec::new(), note: None }
    }

    /// Whether nothing was selected.
    pub(super) fn is_empty(&self) -> bool {
        matches!(&self.reading, Reading::List { values } if values.is_empty())
    }

    pub(super) fn warned(self, warnings: Vec<String>) -> Self {
        Self { warnings, ..self }
    }
}

/// A number as Prometheus writes it.
fn text(value: f64) -> String {
    match value {
        value if value.is_infinite() && value > 0.0 => "+Inf".to_owned(),
        value if value.is_infinite() => "-Inf".to_owned(),
        value => value.to_string(),
    }
}
