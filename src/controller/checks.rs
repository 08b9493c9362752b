//! What a Canary's metrics ask for.

use std::time::Duration;

use crate::analysis::{Condition, Range};
use crate::api::{CanarySpec, Metric, OnFewSamples, OnMissingValue};
use crate::model::NamespacedName;
use crate::release::{Check, CheckSource, OnMissing};

use super::caches::template_key;
use super::observe::router_for;
use super::policy::{PolicyError, SHORTEST, invalid};
use super::queries::{FindTemplate, has_own_window};
use super::settings::ControllerSettings;

/// Requests at the canary, by the router's own counters, from which on a metric without a value is a failed check, and a value of
/// them counts: enough for one scrape to have seen some; a version that fails half of them passes once in a thousand times.
pub(super) const MIN_SAMPLES: u64 = 10;
/// Most that may be asked for: at one request a second a day of waiting, which is a mistake.
const MIN_SAMPLES_MAX: i64 = 100_000;
/// Longest wait for a metric. Providers have shorter timeouts of their own; this is the backstop for an answer that got lost.
const METRIC_PATIENCE: Duration = Duration::from_secs(30);

/// What a metric asks for.
pub(super) fn check(
    canary: &NamespacedName,
    spec: &CanarySpec,
    (index, metric): (usize, &Metric),
    settings: &ControllerSettings,
    templates: FindTemplate<'_>,
) -> Result<Check, PolicyError> {
    let path = format!("spec.analysis.metrics[{index}]");
    let window = metric.window().map_err(|source| PolicyError::Duration {
        path: format!("{path}.interval"),
        what: format!("metric `{}`: interval", metric.name),
        source,
    })?;
    let source = match (template_key(&canary.namespace, metric), &metric.query, metric.name.as_str()) {
        (None, None, _) if metric.alerts.is_some() => CheckSource::Query(firing(metric, &path)?),
        (Some(template), _, _) => CheckSource::Template { template, variables: metric.template_variables.clone() },
        (None, Some(query), _) if !query.trim().is_empty() => CheckSource::Query(query.clone()),
        (None, _, "request-success-rate") => CheckSource::SuccessRate,
        (None, _, "request-duration") => CheckSource::Duration,
        (None, _, name) => {
            return Err(PolicyError::Invalid {
                path: format!("{path}.name"),
                message: format!("metric `{name}` is not built in and has neither templateRef nor query"),
            });
        }
    };
    let min_samples = min_samples(spec, metric, &path, &source)?;
    Ok(Check {
        name: metric.name.clone(),
        condition: Condition::Range(range(metric, &source)),
        // What fires, fires now.
        own_window: metric.alerts.is_none() && has_own_window(canary, spec, &source, templates),
        source,
        window: settings.sped(window).max(SHORTEST),
        patience: METRIC_PATIENCE,
        on_no_data: on_missing(metric.no_data),
        on_error: on_missing(metric.on_error),
        min_samples,
        on_few: match metric.on_few_samples {
            Some(OnFewSamples::Fail) => OnMissing::Fail,
            Some(OnFewSamples::Hold) | None => OnMissing::Hold,
        },
    })
}

/// How many of the alerts fire. Prometheus itself keeps them as series.
fn firing(metric: &Metric, path: &str) -> Result<String, PolicyError> {
    let matchers = metric.alerts.as_deref().map(str::trim).unwrap_or_default();
    if matchers.is_empty() || matchers.starts_with('{') && !matchers.starts_with("{{") {
        let message = "names no alerts: give it label matchers without braces, as severity=\"critical\"";
        return Err(invalid(&format!("{path}.alerts"), message));
    }
    Ok(format!("count(ALERTS{{alertstate=\"firing\", {matchers}}}) or vector(0)"))
}

/// No traffic and an outage of the metric system say nothing about the canary: wait, but not for ever.
fn on_missing(said: Option<OnMissingValue>) -> OnMissing {
    match said {
        Some(OnMissingValue::Hold) | None => OnMissing::Hold,
        Some(OnMissingValue::Fail) => OnMissing::Fail,
        Some(OnMissingValue::Pass) => OnMissing::Pass,
    }
}

/// Of how many requests a value has to be. Whose own query is asked knows best what it is made of.
fn min_samples(spec: &CanarySpec, metric: &Metric, path: &str, source: &CheckSource) -> Result<u64, PolicyError> {
    let is_counted = router_for(spec).built_in().requests.is_some();
    match (metric.min_samples, source) {
        (Some(count), _) if !(0..=MIN_SAMPLES_MAX).contains(&count) => {
            Err(invalid(&format!("{path}.minSamples"), &format!("must be between 0 and {MIN_SAMPLES_MAX}")))
        }
        _ if !is_counted => Ok(0),
        (Some(count), _) => Ok(u64::try_from(count).unwrap_or_default()),
        (None, CheckSource::SuccessRate | CheckSource::Duration) => Ok(MIN_SAMPLES),
        (None, CheckSource::Template { .. } | CheckSource::Query(_)) => Ok(0),
    }
}

/// `thresholdRange` wins; the deprecated `threshold` is a minimum for the success rate and a maximum for everything else.
fn range(metric: &Metric, source: &CheckSource) -> Range {
    match (&metric.threshold_range, metric.threshold) {
        (Some(range), _) => Range { min: range.min, max: range.max },
        (None, Some(threshold)) => match source {
            CheckSource::SuccessRate => Range { min: Some(threshold), max: None },
            CheckSource::Duration | CheckSource::Template { .. } | CheckSource::Query(_) => {
                Range { min: None, max: Some(threshold) }
            }
        },
        // None of the alerts may fire.
        (None, None) if metric.alerts.is_some() => Range { min: None, max: Some(0.0) },
        (None, None) => Range::default(),
    }
}
