//! Argo Rollouts' kinds of analysis (`argoproj.io/v1alpha1`): supersets of its published schema, so that its templates and runs
//! apply unchanged. What they mean is decided in the room `analysisrun`.

mod metric;
mod provider;
mod rollout;
mod run;
mod template;

pub use metric::{DryRun, MeasurementRetention, Metric};
pub use provider::{
    Authentication, BasicAuth, Header, JobMetric, MetricProvider, OAuth2, PrometheusMetric, PrometheusRange,
    Sigv4, WebMetric,
};
pub use rollout::{RolloutAnalysis, RolloutArgument, RolloutValueFrom, RunMetadata};
pub use run::{
    AnalysisRun, AnalysisRunSpec, AnalysisRunStatus, Measurement, MetricResult, RunPhase, RunSummary, TtlStrategy,
};
pub use template::{
    AnalysisTemplate, AnalysisTemplateSpec, Argument, FieldRef, SecretKeyRef, TemplateRef, ValueFrom,
};
