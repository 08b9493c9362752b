//! A run's spec becomes checks by their own clocks, and what each of them asks.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use regex::Regex;
use serde_json::Value;

use crate::analysis::{
    Check, CheckSource, Condition, Expression, Key, Keyed, OnMissing, Predicate, Reading, Schedule, Scheduled,
    Schedules,
};
use crate::api::argo::{
    AnalysisRunSpec, Authentication, JobMetric, Metric, MetricProvider, PrometheusMetric, WebMetric,
};
use crate::api::duration;

use super::args::Args;
use super::expression::{Language, Side};

/// Most metrics of a run: each is a clock, and ten measurements of each are kept in one object.
const METRICS_MAX: usize = 64;
/// Measurements that are kept of a metric (Argo Rollouts' `DefaultMeasurementHistoryLimit`).
const KEPT: usize = 10;
/// Most that are kept: the object holds them all.
const KEPT_MAX: usize = 100;
/// Shortest interval: each measurement is a write to the API server.
const INTERVAL_MIN: Duration = Duration::from_secs(1);
/// Longest wait for Prometheus and for the web, unless the metric says another (Argo Rollouts' values).
const PROMETHEUS_TIMEOUT: Duration = Duration::from_secs(30);
const WEB_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest such wait.
const TIMEOUT_MAX: Duration = Duration::from_secs(600);
/// Beyond a provider's own timeout: the answer waits for a place among all that are asked.
const QUEUED: Duration = Duration::from_secs(60);
/// How long a Job may take that has no deadline of its own.
const JOB_PATIENCE: Duration = Duration::from_secs(366 * 24 * 3600);

/// What a run measures.
#[derive(Debug, Clone)]
pub struct Plan {
    /// In the spec's order.
    pub metrics: Vec<Planned>,
    /// Their clocks.
    pub schedules: Schedules,
    /// Their arguments.
    pub args: Args,
}

/// One metric.
#[derive(Debug, Clone)]
pub struct Planned {
    /// Its name.
    pub name: String,
    /// Its check.
    pub key: Key,
    /// When it is measured, and how much of what is too much.
    pub schedule: Schedule,
    /// It ends nothing.
    pub dry_run: bool,
    /// How many measurements are kept.
    pub keep: usize,
    /// That a measurement has begun is written down before it does: asking twice would do something twice.
    pub recorded: bool,
    /// Whether a measurement is a Job.
    pub is_job: bool,
    /// As it is written.
    provider: Value,
}

/// Whom a metric asks, with all arguments filled in.
#[derive(Debug, Clone, PartialEq)]
pub enum Provider {
    /// Prometheus.
    Prometheus(PrometheusMetric, Duration),
    /// Any address.
    Web(WebMetric, Duration),
    /// A Job.
    Job(JobMetric),
}

impl Plan {
    /// Reads a run's spec.
    ///
    /// # Errors
    /// With what upstream would end the run for, in its words where it has some.
    pub fn of(spec: &Value, language: &Language) -> Result<Self, String> {
        let unresolved = |why: String| format!("Unable to resolve metric arguments: {why}");
        let invalid = |why: String| format!("Analysis spec invalid: {why}");
        let read: AnalysisRunSpec =
            serde_json::from_value(spec.clone()).map_err(|error| invalid(error.to_string()))?;
        let args = Args::of(&read.args).map_err(unresolved)?;
        let shown = args.without_secrets();
        let written = spec["metrics"].as_array().map(Vec::as_slice).unwrap_or_default();
        let count = written.len();
        if count == 0 || count > METRICS_MAX {
            let why = if count == 0 { "no metrics specified" } else { "more than 64 metrics" };
            return Err(invalid(why.to_owned()));
        }
        let mut names = BTreeSet::new();
        let mut checks = Keyed::default();
        let mut metrics = Vec::new();
        for (index, written) in written.iter().enumerate() {
            let filled = shown.fill(written).map_err(unresolved)?;
            let at = |why: String| invalid(format!("metrics[{index}]: {why}"));
            let metric: Metric = serde_json::from_value(filled).map_err(|error| at(error.to_string()))?;
            if !names.insert(metric.name.clone()) {
                return Err(at(format!("duplicate name '{}'", metric.name)));
            }
            let mut hidden = written.clone();
            if let Some(map) = hidden.as_object_mut() {
                map.remove("provider");
            }
            if args.reads_secret(&hidden) {
                return Err(at("only its provider may hold what is in a Secret".to_owned()));
            }
            let dry_run = matches(&read.dry_run, |rule| &rule.metric_name, &metric.name).is_some();
            let kept = matches(&read.measurement_retention, |rule| &rule.metric_name, &metric.name);
            let keep = kept.map_or(KEPT, |rule| usize::try_from(rule.limit).unwrap_or(1)).clamp(1, KEPT_MAX);
            let (schedule, check) = read_metric(&metric, language).map_err(at)?;
            let is_job = metric.provider.job.is_some();
            let writes = metric.provider.web.as_ref().is_some_and(|web| !is_get(web));
            checks.push(Scheduled { check, schedule, dry_run });
            let provider = written["provider"].clone();
            metrics.push((metric.name, schedule, dry_run, keep, is_job, is_job || writes, provider));
        }
        check_rules(read.dry_run.iter().map(|rule| &rule.metric_name), &names, "dryRun").map_err(invalid)?;
        let rules = read.measurement_retention.iter().map(|rule| &rule.metric_name);
        check_rules(rules, &names, "measurementRetention").map_err(invalid)?;
        let keys: Vec<Key> = checks.iter().map(|(key, _)| key.clone()).collect();
        let metrics = metrics.into_iter().zip(keys).map(|(metric, key)| {
            let (name, schedule, dry_run, keep, is_job, recorded, provider) = metric;
            Planned { name, key, schedule, dry_run, keep, recorded, is_job, provider }
        });
        Ok(Self { metrics: metrics.collect(), schedules: Schedules { checks }, args })
    }
}

impl Planned {
    /// Whom it asks.
    ///
    /// # Errors
    /// When arguments do not fit, in words.
    pub fn provider(&self, args: &Args) -> Result<Provider, String> {
        let filled: MetricProvider =
            serde_json::from_value(args.fill(&self.provider)?).map_err(|error| error.to_string())?;
        provider(filled)
    }

    /// What its provider is asked, without what is in Secrets: upstream shows the query that arguments were filled in.
    pub fn resolved_query(&self, args: &Args) -> Option<String> {
        let query = &self.provider["prometheus"]["query"];
        let has_arguments = query.as_str().is_some_and(|query| query.contains("{{"));
        let filled = args.without_secrets().fill(query).ok().filter(|_| has_arguments)?;
        filled.as_str().map(str::to_owned)
    }
}

/// The rule of a list that matches a metric's name; the last one wins.
fn matches<'a, R>(rules: &'a [R], pattern: impl Fn(&R) -> &String, name: &str) -> Option<&'a R> {
    let fits = |rule: &&R| Regex::new(pattern(rule)).is_ok_and(|pattern| pattern.is_match(name));
    rules.iter().rev().find(fits)
}

fn check_rules<'a>(
    rules: impl Iterator<Item = &'a String>,
    names: &BTreeSet<String>,
    field: &str,
) -> Result<(), String> {
    for (index, rule) in rules.enumerate() {
        let pattern =
            Regex::new(rule).map_err(|_| format!("{field}[{index}]: `{rule}` is no regular expression"))?;
        if !names.iter().any(|name| pattern.is_match(name)) {
            return Err(format!("{field}[{index}]: Rule didn't match any metric name(s)"));
        }
    }
    Ok(())
}

fn read_metric(metric: &Metric, language: &Language) -> Result<(Schedule, Check), String> {
    let schedule = schedule(metric)?;
    let provider = provider(metric.provider.clone())?;
    let patience = match &provider {
        Provider::Prometheus(_, timeout) | Provider::Web(_, timeout) => timeout.saturating_add(QUEUED),
        Provider::Job(_) => JOB_PATIENCE,
    };
    let condition = match &provider {
        Provider::Job(_) => Condition::Expressions {
            success: Some(Expression::new(JobEnded("Complete"))),
            failure: Some(Expression::new(JobEnded("Failed"))),
        },
        Provider::Prometheus(..) | Provider::Web(..) => conditions(metric, language)?,
    };
    let source = serde_json::to_string(&metric.provider).unwrap_or_default();
    let check = Check {
        name: metric.name.clone(),
        source: CheckSource::Query(source),
        condition,
        window: Duration::ZERO,
        own_window: true,
        patience,
        on_no_data: OnMissing::Hold,
        on_error: OnMissing::Hold,
        min_samples: 0,
        on_few: OnMissing::Pass,
    };
    Ok((schedule, check))
}

fn conditions(metric: &Metric, language: &Language) -> Result<Condition, String> {
    let read = |side: Side, text: &Option<String>| match text.as_deref().map(str::trim) {
        None | Some("") => Ok(None),
        Some(text) => language.condition(side, text).map(Some),
    };
    let (success, failure) =
        (read(Side::Success, &metric.success_condition)?, read(Side::Failure, &metric.failure_condition)?);
    Ok(match (&success, &failure) {
        (None, None) => Condition::Always,
        (Some(_), _) | (_, Some(_)) => Condition::Expressions { success, failure },
    })
}

/// How a Job ended.
struct JobEnded(&'static str);

impl Predicate for JobEnded {
    fn text(&self) -> &str {
        self.0
    }

    fn holds(&self, sample: &Reading) -> Result<bool, String> {
        match sample {
            Reading::Json { value } => Ok(*value == self.0),
            other => Err(format!("{other:?} is no end of a Job")),
        }
    }
}

/// Upstream's rules, in its words.
fn schedule(metric: &Metric) -> Result<Schedule, String> {
    let count = number("count", metric.count.as_ref(), 0)?;
    let failure_limit = number("failureLimit", metric.failure_limit.as_ref(), 0)?;
    let success_limit = number("consecutiveSuccessLimit", metric.consecutive_success_limit.as_ref(), 0)?;
    let inconclusive_limit = number("inconclusiveLimit", metric.inconclusive_limit.as_ref(), 0)?;
    let error_limit = number("consecutiveErrorLimit", metric.consecutive_error_limit.as_ref(), 4)?;
    let refuse = |why: &str| Err(why.to_owned());
    match () {
        () if success_limit < 0 => return refuse("consecutiveSuccessLimit must be >= 0"),
        () if failure_limit < -1 => return refuse("failureLimit must be >= 0, or -1 to be disabled"),
        () if success_limit == 0 && failure_limit == -1 => {
            return refuse("failureLimit and consecutiveSuccessLimit cannot both be disabled");
        }
        () if inconclusive_limit < 0 => return refuse("inconclusiveLimit must be >= 0"),
        () if error_limit < 0 => return refuse("consecutiveErrorLimit must be >= 0"),
        () if count < 0 => return refuse("count must be >= 0"),
        () => {}
    }
    if count > 0 {
        if failure_limit >= 0 && count < failure_limit + success_limit {
            return Err(format!(
                "count ({count}) must be >= failureLimit + consecutiveSuccessLimit ({failure_limit} + {success_limit}) if both >= 0"
            ));
        }
        if count < success_limit {
            return refuse("count must be >= consecutiveSuccessLimit");
        }
        if count < inconclusive_limit {
            return refuse("count must be >= inconclusiveLimit");
        }
    }
    let interval = wait("interval", metric.interval.as_deref())?.map(|interval| interval.max(INTERVAL_MIN));
    if count > 1 && interval.is_none() {
        return refuse("interval must be specified when count > 1");
    }
    let limit = |number: i64| u32::try_from(number).ok();
    Ok(Schedule {
        delay: wait("startDelay", metric.initial_delay.as_deref())?.unwrap_or_default(),
        interval,
        count: limit(count).filter(|count| *count > 0),
        failure_limit: limit(failure_limit),
        inconclusive_limit: limit(inconclusive_limit).unwrap_or(u32::MAX),
        error_limit: limit(error_limit).unwrap_or(u32::MAX),
        success_limit: limit(success_limit).unwrap_or(u32::MAX),
    })
}

fn wait(field: &str, text: Option<&str>) -> Result<Option<Duration>, String> {
    match text {
        None | Some("") => Ok(None),
        Some(text) => duration::parse(text).map(Some).map_err(|error| format!("invalid {field} string: {error}")),
    }
}

fn number(field: &str, value: Option<&IntOrString>, default: i64) -> Result<i64, String> {
    match value {
        None => Ok(default),
        Some(IntOrString::Int(number)) => Ok(i64::from(*number)),
        Some(IntOrString::String(text)) => match text.trim().parse::<i32>() {
            Ok(number) => Ok(i64::from(number)),
            Err(_) => Err(format!("{field}: `{text}` is no number")),
        },
    }
}

fn is_get(web: &WebMetric) -> bool {
    web.method.as_deref().is_none_or(|method| method.is_empty() || method == "GET")
}

/// Exactly one provider, and one that can be asked.
fn provider(provider: MetricProvider) -> Result<Provider, String> {
    let written = serde_json::to_value(&provider).unwrap_or_default();
    let named: Vec<&String> = written.as_object().into_iter().flatten().map(|(name, _)| name).collect();
    match (named.as_slice(), provider) {
        ([], _) => Err("no provider specified".to_owned()),
        ([_, _, ..], _) => Err("multiple providers specified".to_owned()),
        (_, MetricProvider { prometheus: Some(prometheus), .. }) => {
            identified(prometheus.authentication.as_ref())?;
            if prometheus.query.as_deref().is_none_or(|query| query.trim().is_empty()) {
                return Err("prometheus: no query specified".to_owned());
            }
            if prometheus.timeout.is_some_and(|timeout| timeout < 0) {
                return Err("prometheus timeout should not be negative".to_owned());
            }
            let timeout = timeout(prometheus.timeout, PROMETHEUS_TIMEOUT);
            Ok(Provider::Prometheus(prometheus, timeout))
        }
        (_, MetricProvider { web: Some(web), .. }) => {
            identified(web.authentication.as_ref())?;
            check_web(&web)?;
            let timeout = timeout(web.timeout_seconds, WEB_TIMEOUT);
            Ok(Provider::Web(web, timeout))
        }
        (_, MetricProvider { job: Some(job), .. }) => Ok(Provider::Job(job)),
        ([name], _) => Err(format!("provider {name} is not asked yet: this version asks prometheus, web and job")),
    }
}

fn timeout(seconds: Option<i64>, default: Duration) -> Duration {
    let seconds = seconds.and_then(|seconds| u64::try_from(seconds).ok()).filter(|seconds| *seconds > 0);
    seconds.map_or(default, Duration::from_secs).min(TIMEOUT_MAX)
}

fn check_web(web: &WebMetric) -> Result<(), String> {
    let method = web.method.as_deref().unwrap_or_default();
    if !["", "GET", "POST", "PUT"].contains(&method) {
        return Err(format!("web.method: `{method}` is none of GET, POST and PUT"));
    }
    match (web.body.as_deref().unwrap_or_default().is_empty(), web.json_body.is_none(), is_get(web)) {
        (false, false, _) => {
            Err("use either Body or JSONBody; both cannot exists for WebMetric payload".to_owned())
        }
        (false, _, true) | (_, false, true) => {
            Err("Body/JSONBody can only be used with POST or PUT WebMetric Method types".to_owned())
        }
        (true, true, _) | (_, _, false) => Ok(()),
    }
}

fn identified(authentication: Option<&Authentication>) -> Result<(), String> {
    let Some(Authentication { sigv4, oauth2, basic_auth }) = authentication else { return Ok(()) };
    let written = |value: Option<serde_json::Value>| {
        value.is_some_and(|value| value.as_object().is_some_and(|it| !it.is_empty()))
    };
    if written(serde_json::to_value(sigv4).ok()) {
        return Err("authentication.sigv4 is not carried out yet".to_owned());
    }
    if written(serde_json::to_value(oauth2).ok()) {
        return Err("authentication.oauth2 is not carried out yet".to_owned());
    }
    let Some(basic) = basic_auth else { return Ok(()) };
    let given = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
    match (given(&basic.username), given(&basic.password)) {
        (true, false) => Err("missing mandatory parameter in metric for basic auth setup: password".to_owned()),
        (false, true) => Err("missing mandatory parameter in metric for basic auth setup: username".to_owned()),
        (true, true) | (false, false) => Ok(()),
    }
}

#[cfg(test)]
mod tests;
