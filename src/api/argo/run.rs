//! AnalysisRun.

// Clippy takes the equal types of two printer columns for one attribute given twice.
#![allow(clippy::duplicated_attributes)]

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::metric::{DryRun, MeasurementRetention, Metric};
use super::template::Argument;
use crate::api::schema::date_time;

/// One run of metrics, with all that it needs to know.
#[derive(CustomResource, Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "argoproj.io",
    version = "v1alpha1",
    kind = "AnalysisRun",
    namespaced,
    shortname = "ar",
    status = "AnalysisRunStatus",
    derive = "PartialEq",
    printcolumn(name = "Status", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct AnalysisRunSpec {
    /// What is measured.
    pub metrics: Vec<Metric>,
    /// What metrics leave open.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<Argument>,
    /// Somebody wants it to end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminate: Option<bool>,
    /// Metrics that end nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dry_run: Vec<DryRun>,
    /// How many measurements are kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub measurement_retention: Vec<MeasurementRetention>,
    /// When it is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_strategy: Option<TtlStrategy>,
}

/// When a run that is over is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TtlStrategy {
    /// After its end, however it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds_after_completion: Option<i32>,
    /// After it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds_after_failure: Option<i32>,
    /// After it was successful.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds_after_success: Option<i32>,
}

/// Where a run, a metric or a measurement is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum RunPhase {
    /// Nobody has looked at it yet.
    #[default]
    #[serde(alias = "")]
    Pending,
    /// Something is still to be measured.
    Running,
    /// All is well.
    Successful,
    /// Too much failed.
    Failed,
    /// It could not be measured.
    Error,
    /// What was measured says nothing.
    Inconclusive,
}

impl RunPhase {
    /// Whether nothing follows.
    pub fn is_over(self) -> bool {
        match self {
            Self::Pending | Self::Running => false,
            Self::Successful | Self::Failed | Self::Error | Self::Inconclusive => true,
        }
    }
}

impl fmt::Display for RunPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Successful => "Successful",
            Self::Failed => "Failed",
            Self::Error => "Error",
            Self::Inconclusive => "Inconclusive",
        })
    }
}

/// Where a run is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct AnalysisRunStatus {
    /// Where it is.
    #[schemars(with = "String")]
    pub phase: RunPhase,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What was measured.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub metric_results: Vec<MetricResult>,
    /// When it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "date_time")]
    pub started_at: Option<Timestamp>,
    /// How many metrics came to what.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_summary: Option<RunSummary>,
    /// The same of those that end nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dry_run_summary: Option<RunSummary>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "date_time")]
    pub completed_at: Option<Timestamp>,
}

/// How many metrics came to what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RunSummary {
    /// How many there are.
    #[serde(skip_serializing_if = "is_zero")]
    pub count: i32,
    /// Were successful.
    #[serde(skip_serializing_if = "is_zero")]
    pub successful: i32,
    /// Failed.
    #[serde(skip_serializing_if = "is_zero")]
    pub failed: i32,
    /// Said nothing.
    #[serde(skip_serializing_if = "is_zero")]
    pub inconclusive: i32,
    /// Could not be measured.
    #[serde(skip_serializing_if = "is_zero")]
    pub error: i32,
}

/// What came of a metric.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MetricResult {
    /// Its name.
    pub name: String,
    /// Where it is.
    #[schemars(with = "String")]
    pub phase: RunPhase,
    /// The last measurements.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub measurements: Vec<Measurement>,
    /// What the last one said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Measurements that were made.
    #[serde(skip_serializing_if = "is_zero")]
    pub count: i32,
    /// That passed.
    #[serde(skip_serializing_if = "is_zero")]
    pub successful: i32,
    /// That failed.
    #[serde(skip_serializing_if = "is_zero")]
    pub failed: i32,
    /// That said nothing.
    #[serde(skip_serializing_if = "is_zero")]
    pub inconclusive: i32,
    /// That could not be made.
    #[serde(skip_serializing_if = "is_zero")]
    pub error: i32,
    /// Errors in a row.
    #[serde(skip_serializing_if = "is_zero")]
    pub consecutive_error: i32,
    /// Passes in a row.
    #[serde(skip_serializing_if = "is_zero")]
    pub consecutive_success: i32,
    /// It ends nothing.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// What its provider says of it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

/// One measurement.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Measurement {
    /// What it means.
    #[schemars(with = "String")]
    pub phase: RunPhase,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "date_time")]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "date_time")]
    pub finished_at: Option<Timestamp>,
    /// The value in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// What its provider says of it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// When Argo's controller looks at it again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "date_time")]
    pub resume_at: Option<Timestamp>,
}

fn is_zero(count: &i32) -> bool {
    *count == 0
}
