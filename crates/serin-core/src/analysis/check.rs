//! Metric checks as a policy has them.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::NamespacedName;

use super::keyed::{Defined, Definition};
use super::verdict::Range;

/// One metric check.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    /// `request-success-rate`, `request-duration`, or the user's name for it; to be shown, it identifies nothing.
    pub name: String,
    /// Where the value comes from.
    pub source: CheckSource,
    /// The allowed range.
    pub range: Range,
    /// Query window (`{{ interval }}`).
    pub window: Duration,
    /// Time between two judgements of this check; `None` means every tick (Flagger: all checks on one cadence).
    pub every: Option<Duration>,
    /// Failures of this check alone that end the release; `None` means the shared threshold.
    pub failure_limit: Option<u32>,
    /// No sample, NaN or an empty vector.
    pub on_no_data: OnMissing,
    /// The provider could not be asked.
    pub on_error: OnMissing,
}

/// Where a check's value comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum CheckSource {
    /// Flagger's built-in success rate in percent (range default: min 99… as given).
    SuccessRate,
    /// Flagger's built-in p99 duration in milliseconds.
    Duration,
    /// A MetricTemplate by namespace and name, with its variables.
    Template {
        /// The MetricTemplate.
        template: NamespacedName,
        /// `{{ variables.x }}`.
        variables: BTreeMap<String, String>,
    },
    /// Flagger's deprecated inline PromQL.
    Query(String),
}

/// What a missing value means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnMissing {
    /// Judge again after the interval, up to a number of times in a row, then the release fails.
    Hold,
    /// Count as a failed check (Flagger's behaviour).
    Fail,
}

impl OnMissing {
    fn as_str(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Fail => "fail",
        }
    }
}

impl Defined for Check {
    fn definition(&self) -> Definition {
        let Self { name, source, range, window, every, failure_limit, on_no_data, on_error } = self;
        let start = Definition::default().with(name).with(range).with(window.as_millis());
        let start = start.with_option(every.map(|every| every.as_millis())).with_option(*failure_limit);
        let start = start.with(on_no_data.as_str()).with(on_error.as_str());
        match source {
            CheckSource::SuccessRate => start.with("success rate"),
            CheckSource::Duration => start.with("duration"),
            CheckSource::Template { template, variables } => {
                let pairs = variables.iter().flat_map(|(key, value)| [key, value]);
                start.with("template").with(template).with_all(pairs)
            }
            CheckSource::Query(query) => start.with("query").with(query),
        }
    }
}
