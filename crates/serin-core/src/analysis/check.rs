//! Metric checks as a policy has them.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::NamespacedName;

use super::condition::Condition;
use super::keyed::{Defined, Definition};

/// One metric check.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    /// `request-success-rate`, `request-duration`, or the user's name for it; to be shown, it identifies nothing.
    pub name: String,
    /// Where the value comes from.
    pub source: CheckSource,
    /// What it demands.
    pub condition: Condition,
    /// The metric's interval: the longest window of a query (`{{ interval }}`).
    pub window: Duration,
    /// The query does not use `{{ interval }}`: it looks back as far as it was written to.
    pub own_window: bool,
    /// Longest wait for an answer. Providers have shorter timeouts of their own; this is the backstop for one that got lost.
    pub patience: Duration,
    /// No sample, NaN or an empty vector.
    pub on_no_data: OnMissing,
    /// The provider could not be asked, or answered with what is not one number.
    pub on_error: OnMissing,
    /// Requests at the candidate, by the router's own counters, from which on a value means something; 0 if any does.
    pub min_samples: u64,
    /// The candidate has had fewer.
    pub on_few: OnMissing,
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
    /// Go on as if the check had passed: only where the user says so.
    Pass,
}

impl OnMissing {
    fn as_str(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Fail => "fail",
            Self::Pass => "pass",
        }
    }
}

impl Check {
    /// Whether its value is made of the candidate's requests, of which there may be too few.
    pub(super) fn counts(&self) -> bool {
        self.min_samples > 0 && self.on_few != OnMissing::Pass
    }
}

impl Defined for Check {
    fn definition(&self) -> Definition {
        let Self {
            name,
            source,
            condition,
            window,
            own_window,
            patience,
            on_no_data,
            on_error,
            min_samples,
            on_few,
        } = self;
        let start = Definition::default().with(name).with(window.as_millis()).with(own_window);
        let start = condition.define(start).with(patience.as_millis());
        let start = start.with(on_no_data.as_str()).with(on_error.as_str());
        // One that counts nothing is what it was before anything was counted.
        let start = if self.counts() { start.with(min_samples).with(on_few.as_str()) } else { start };
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
