//! A metric of a template or a run.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::provider::MetricProvider;
use crate::api::schema::int_or_string;

/// What is measured, when, and what is too much.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Metric {
    /// Its name, unique within a run.
    pub name: String,
    /// From the end of one measurement to the next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<String>,
    /// From the run's start to the first measurement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial_delay: Option<String>,
    /// Measurements in all; 1 without an interval, else without end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "int_or_string")]
    pub count: Option<IntOrString>,
    /// Holds for what passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success_condition: Option<String>,
    /// Holds for what fails; it wins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_condition: Option<String>,
    /// Failures that are still allowed; 0 when absent, -1 allows all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "int_or_string")]
    pub failure_limit: Option<IntOrString>,
    /// Inconclusive measurements that are still allowed; 0 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "int_or_string")]
    pub inconclusive_limit: Option<IntOrString>,
    /// Errors in a row that are still allowed; 4 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "int_or_string")]
    pub consecutive_error_limit: Option<IntOrString>,
    /// Passes in a row that end the metric; off when absent or 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "int_or_string")]
    pub consecutive_success_limit: Option<IntOrString>,
    /// Whom to ask.
    pub provider: MetricProvider,
}

/// Metrics that are measured and end nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DryRun {
    /// A name, or a regular expression.
    pub metric_name: String,
}

/// How many measurements are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MeasurementRetention {
    /// Of which metrics: a name, or a regular expression.
    pub metric_name: String,
    /// How many.
    pub limit: i32,
}
