//! The Canary's `spec.analysis`.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::duration::{self, DurationError};
use super::schema::{number, numbers, open_object, word_or_switch};

/// Flagger's default of `analysis.interval`.
const INTERVAL_DEFAULT: Duration = Duration::from_secs(60);
/// Flagger's floor of `analysis.interval`: shorter ones measure noise.
const INTERVAL_FLOOR: Duration = Duration::from_secs(10);
/// Flagger's default query window.
const WINDOW_DEFAULT: Duration = Duration::from_secs(60);
/// Flagger's default webhook timeout.
const HOOK_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
/// Flagger's default of `maxWeight`.
const MAX_WEIGHT_DEFAULT: i64 = 100;

/// Steps, checks and hooks. Which strategy it is follows from the fields: `match` with `iterations` is A/B, `iterations`
/// alone Blue/Green, else weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CanaryAnalysis {
    /// Time between two steps; 60s when absent, at least 10s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<String>,
    /// Failed checks that end a release; at least 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "number")]
    pub threshold: Option<i64>,
    /// Checks to run for A/B and Blue/Green.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "number")]
    pub iterations: Option<i64>,
    /// Highest weight before promotion; 100 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "number")]
    pub max_weight: Option<i64>,
    /// Weight added per step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "number")]
    pub step_weight: Option<i64>,
    /// The weights themselves, instead of `stepWeight` and `maxWeight`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "numbers")]
    pub step_weights: Vec<i64>,
    /// Weight added per step while traffic goes back to primary; at once when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "number")]
    pub step_weight_promotion: Option<i64>,
    /// Mirror traffic to the canary before it gets any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<bool>,
    /// Percent of traffic to mirror.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "number")]
    pub mirror_weight: Option<i64>,
    /// Percent of primary pods that must be available; 100 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "number")]
    pub primary_ready_threshold: Option<i64>,
    /// Percent of canary pods that must be available; 100 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "number")]
    pub canary_ready_threshold: Option<i64>,
    /// A/B conditions.
    #[serde(default, rename = "match", skip_serializing_if = "Vec::is_empty")]
    pub match_: Vec<AnalysisMatch>,
    /// Metric checks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<Metric>,
    /// Alerts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alerts: Vec<Alert>,
    /// Webhooks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub webhooks: Vec<Webhook>,
    /// Keep a user on the side once chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_affinity: Option<SessionAffinity>,
    /// Serin: compare the canary's failed requests with primary's, between the checks: `off`, `advise` or `enforce`; `off` when
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "word_or_switch")]
    pub comparison: Option<ComparisonMode>,
    /// Serin: how much failures come together, at least 1; measured from primary's last six hours when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "number")]
    pub comparison_noise: Option<f64>,
}

/// Whether the canary is compared with primary, and what that may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ComparisonMode {
    /// It is not.
    Off,
    /// It is, and an Event says when it would roll back.
    Advise,
    /// It is, and rolls back.
    Enforce,
}

impl<'de> Deserialize<'de> for ComparisonMode {
    /// To YAML as kubectl reads it, `off` without quotes is no word but false.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let found = Value::deserialize(deserializer)?;
        match found.as_str() {
            Some("off") => Ok(Self::Off),
            Some("advise") => Ok(Self::Advise),
            Some("enforce") => Ok(Self::Enforce),
            None if found == Value::Bool(false) => Ok(Self::Off),
            Some(_) | None => {
                let why = format!("spec.analysis.comparison is off, advise or enforce, and not {found}");
                Err(serde::de::Error::custom(why))
            }
        }
    }
}

impl CanaryAnalysis {
    /// Time between two steps.
    ///
    /// # Errors
    /// When `interval` is not a duration.
    pub fn interval(&self) -> Result<Duration, DurationError> {
        duration::or_default(self.interval.as_deref(), INTERVAL_DEFAULT, INTERVAL_FLOOR)
    }

    /// Failed checks that end a release.
    pub fn threshold(&self) -> u32 {
        u32::try_from(self.threshold.unwrap_or(1)).unwrap_or(1).max(1)
    }

    /// The canary's weights in order: `stepWeights`, or multiples of `stepWeight` up to `maxWeight`, which is always the
    /// last. Empty when neither is given or the step is not positive.
    pub fn weights(&self) -> Vec<u8> {
        let percent = |weight: i64| u8::try_from(weight.clamp(0, 100)).unwrap_or(100);
        if !self.step_weights.is_empty() {
            return self.step_weights.iter().copied().map(percent).collect();
        }
        let max = percent(self.max_weight.unwrap_or(MAX_WEIGHT_DEFAULT));
        match self.step_weight.map(percent) {
            None | Some(0) => Vec::new(),
            Some(step) => {
                let mut weights: Vec<u8> =
                    (1..=u8::MAX).map(|n| n.saturating_mul(step)).take_while(|weight| *weight < max).collect();
                weights.push(max);
                weights
            }
        }
    }
}

/// An A/B condition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AnalysisMatch {
    /// Header name to `exact`, `prefix`, `suffix` or `regex`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "open_object")]
    pub headers: Option<Value>,
    /// Query parameter to `exact`, `prefix` or `regex`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "open_object")]
    pub query_params: Option<Value>,
    /// Labels of the calling pod.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub source_labels: BTreeMap<String, String>,
}

/// A metric check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Metric {
    /// `request-success-rate`, `request-duration`, or a name of one's own.
    pub name: String,
    /// Query window; 1m when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<String>,
    /// Deprecated limit: a minimum for the success rate, a maximum for everything else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    /// The allowed range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold_range: Option<ThresholdRange>,
    /// Deprecated inline PromQL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// The MetricTemplate to use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template_ref: Option<CrossNamespaceRef>,
    /// Values for `{{ variables.x }}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub template_variables: BTreeMap<String, String>,
    /// Serin: instead of a query, label matchers of Prometheus' alerts of which none may fire: `severity="critical"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alerts: Option<String>,
    /// Serin: requests at the canary, by the router's own counters, from which on a value counts. When absent 10 for the
    /// built-in metrics, 0 for others: any value counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "number")]
    pub min_samples: Option<i64>,
    /// Serin: what fewer requests mean; `hold` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_few_samples: Option<OnFewSamples>,
    /// Serin: what it means that there is no value; `hold` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_data: Option<OnMissingValue>,
    /// Serin: what it means that the provider cannot be asked, or does not answer with one number; `hold` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_error: Option<OnMissingValue>,
}

/// What too few requests mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OnFewSamples {
    /// Look again after the interval, over a longer window.
    Hold,
    /// Count as a failed check.
    Fail,
}

/// What a missing value means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OnMissingValue {
    /// Look again after the interval, ten times in a row at most; then the release ends.
    Hold,
    /// Count as a failed check, as with Flagger.
    Fail,
    /// Go on as if the check had passed.
    Pass,
}

impl Metric {
    /// The query window.
    ///
    /// # Errors
    /// When `interval` is not a duration.
    pub fn window(&self) -> Result<Duration, DurationError> {
        duration::or_default(self.interval.as_deref(), WINDOW_DEFAULT, Duration::from_secs(1))
    }
}

/// Inclusive limits.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ThresholdRange {
    /// Smallest passing value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "number")]
    pub min: Option<f64>,
    /// Largest passing value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "number")]
    pub max: Option<f64>,
}

/// A name, and a namespace that is the Canary's when absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CrossNamespaceRef {
    /// Name.
    pub name: String,
    /// Namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// An alert to send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Alert {
    /// Name.
    pub name: String,
    /// Least severity that is sent; info when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<AlertSeverity>,
    /// The AlertProvider.
    pub provider_ref: CrossNamespaceRef,
}

/// Severity of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AlertSeverity {
    /// Written as the empty string: info.
    #[serde(rename = "")]
    Unset,
    /// Everything.
    #[serde(rename = "info")]
    Info,
    /// Warnings and errors.
    #[serde(rename = "warn")]
    Warn,
    /// Errors.
    #[serde(rename = "error")]
    Error,
}

/// An outgoing webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Webhook {
    /// Name, used in events.
    pub name: String,
    /// When it is called; `rollout` when absent.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<WebhookType>,
    /// Where.
    pub url: String,
    /// Per attempt; 10s when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// Further attempts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "number")]
    pub retries: Option<i64>,
    /// No alerts about this webhook.
    #[serde(default)]
    pub mute_alert: bool,
    /// Skip certificate verification.
    #[serde(default, rename = "disableTLS")]
    pub disable_tls: bool,
    /// Sent along.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

impl Webhook {
    /// Timeout per attempt.
    ///
    /// # Errors
    /// When `timeout` is not a duration.
    pub fn timeout(&self) -> Result<Duration, DurationError> {
        duration::or_default(self.timeout.as_deref(), HOOK_TIMEOUT_DEFAULT, Duration::from_secs(1))
    }
}

/// When a webhook is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WebhookType {
    /// Written as the empty string: `rollout`.
    #[serde(rename = "")]
    Unset,
    /// Gate before scaling up.
    ConfirmRollout,
    /// Before the first traffic.
    PreRollout,
    /// At every check.
    Rollout,
    /// Gate before promotion.
    ConfirmPromotion,
    /// After the release ended.
    PostRollout,
    /// One call per event.
    Event,
    /// 2xx asks for a rollback.
    Rollback,
    /// Gate before each weight step.
    ConfirmTrafficIncrease,
}

/// Keep a user on the side once chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionAffinity {
    /// The canary's cookie.
    pub cookie_name: String,
    /// The primary's cookie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary_cookie_name: Option<String>,
    /// Cookie domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// Hidden from scripts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_only: Option<bool>,
    /// Lifetime in seconds; 86400 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "number")]
    pub max_age: Option<i64>,
    /// Partitioned storage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitioned: Option<bool>,
    /// Cookie path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// `Strict`, `Lax` or `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same_site: Option<String>,
    /// HTTPS only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secure: Option<bool>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn analysis(value: Value) -> CanaryAnalysis {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn weights_reach_max_weight_exactly() {
        let weights = |value| analysis(value).weights();
        assert_eq!(weights(json!({"stepWeight": 10, "maxWeight": 50})), [10, 20, 30, 40, 50]);
        assert_eq!(weights(json!({"stepWeight": 40, "maxWeight": 50})), [40, 50]);
        assert_eq!(weights(json!({"stepWeight": 60})), [60, 100]);
        assert_eq!(weights(json!({"stepWeights": [1, 5, 80]})), [1, 5, 80]);
        assert!(weights(json!({"stepWeight": 0})).is_empty());
        assert!(weights(json!({})).is_empty());
    }

    #[test]
    fn off_is_off_however_yaml_reads_it() {
        let mode = |value: Value| serde_json::from_value::<ComparisonMode>(value);
        assert_eq!(mode(json!("off")).unwrap(), ComparisonMode::Off);
        assert_eq!(mode(json!(false)).unwrap(), ComparisonMode::Off);
        assert_eq!(mode(json!("enforce")).unwrap(), ComparisonMode::Enforce);
        for wrong in [json!(true), json!("on"), json!(1)] {
            assert!(mode(wrong).unwrap_err().to_string().contains("is off, advise or enforce"));
        }
    }

    #[test]
    fn interval_and_threshold_follow_flaggers_floor() {
        let analysis = analysis(json!({"interval": "3s", "threshold": -1}));
        assert_eq!(analysis.interval(), Ok(INTERVAL_FLOOR));
        assert_eq!(analysis.threshold(), 1);
    }
}
