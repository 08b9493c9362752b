use serde_json::{Value, json};

use super::*;

fn plan(spec: Value) -> Result<Plan, String> {
    Plan::of(&spec, &Language::at("2026-01-01T00:00:00Z".parse().unwrap()))
}

fn metric(change: Value) -> Value {
    let mut metric = json!({"name": "a", "provider": {"prometheus": {"address": "http://p", "query": "up"}}});
    let (fields, change) = (metric.as_object_mut().unwrap(), change.as_object().unwrap().clone());
    fields.extend(change);
    json!({"metrics": [metric]})
}

#[test]
fn what_upstream_refuses_is_refused_in_its_words() {
    let web = |change: Value| {
        let mut web = json!({"url": "http://x"});
        web.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        metric(json!({"provider": {"web": web}}))
    };
    for (spec, said) in [
        (json!({"metrics": []}), "no metrics specified"),
        (
            json!({"metrics": [metric(json!({}))["metrics"][0], metric(json!({}))["metrics"][0]]}),
            "metrics[1]: duplicate name 'a'",
        ),
        (metric(json!({"provider": {}})), "metrics[0]: no provider specified"),
        (
            metric(json!({"provider": {"web": {"url": "http://x"}, "prometheus": {"query": "up"}}})),
            "metrics[0]: multiple providers specified",
        ),
        (
            metric(json!({"provider": {"datadog": {"query": "x"}}})),
            "metrics[0]: provider datadog is not asked yet: this version asks prometheus, web and job",
        ),
        (metric(json!({"count": 3})), "metrics[0]: interval must be specified when count > 1"),
        (metric(json!({"failureLimit": -2})), "metrics[0]: failureLimit must be >= 0, or -1 to be disabled"),
        (
            metric(json!({"failureLimit": -1})),
            "metrics[0]: failureLimit and consecutiveSuccessLimit cannot both be disabled",
        ),
        (
            metric(json!({"count": 3, "interval": "5s", "failureLimit": 2, "consecutiveSuccessLimit": "2"})),
            "metrics[0]: count (3) must be >= failureLimit + consecutiveSuccessLimit (2 + 2) if both >= 0",
        ),
        (metric(json!({"consecutiveErrorLimit": -1})), "metrics[0]: consecutiveErrorLimit must be >= 0"),
        (metric(json!({"inconclusiveLimit": -1})), "metrics[0]: inconclusiveLimit must be >= 0"),
        (metric(json!({"count": "many"})), "metrics[0]: count: `many` is no number"),
        (metric(json!({"interval": "5"})), "metrics[0]: invalid interval string"),
        (metric(json!({"successCondition": "result[0] >"})), "metrics[0]: successCondition"),
        (web(json!({"body": "x"})), "metrics[0]: Body/JSONBody can only be used with POST or PUT"),
        (web(json!({"method": "POST", "body": "x", "jsonBody": {}})), "metrics[0]: use either Body or JSONBody"),
        (web(json!({"method": "DELETE"})), "metrics[0]: web.method: `DELETE`"),
        (
            web(json!({"authentication": {"oauth2": {"tokenUrl": "http://t"}}})),
            "metrics[0]: authentication.oauth2 is not carried out yet",
        ),
    ] {
        let error = plan(spec.clone()).unwrap_err();
        assert!(error.starts_with(&format!("Analysis spec invalid: {said}")), "{spec}: {error}");
    }
}

#[test]
fn rules_match_by_regular_expressions_and_one_that_matches_nothing_is_an_error() {
    let mut spec = metric(json!({}));
    spec["dryRun"] = json!([{"metricName": "^a$"}]);
    spec["measurementRetention"] = json!([{"metricName": ".*", "limit": 3}]);
    let planned = plan(spec.clone()).unwrap().metrics.remove(0);
    assert_eq!((planned.dry_run, planned.keep), (true, 3));
    spec["dryRun"] = json!([{"metricName": "b"}]);
    let said = "Analysis spec invalid: dryRun[0]: Rule didn't match any metric name(s)";
    assert_eq!(plan(spec.clone()).unwrap_err(), said);
    spec["dryRun"] = json!([{"metricName": "("}]);
    assert!(plan(spec).unwrap_err().ends_with("dryRun[0]: `(` is no regular expression"));
}

#[test]
fn arguments_are_filled_in_everywhere_and_secrets_only_where_they_are_sent() {
    let mut spec = metric(json!({
        "count": "{{args.count}}", "interval": "{{args.every}}", "successCondition": "result[0] > {{args.least}}",
        "provider": {"prometheus": {"query": "up{s=\"{{args.service}}\"}", "headers": [{"key": "a", "value": "{{args.token}}"}]}},
    }));
    spec["args"] = json!([
        {"name": "count", "value": "4"}, {"name": "every", "value": "20s"}, {"name": "least", "value": "0.9"},
        {"name": "service", "value": "web"}, {"name": "token", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
    ]);
    let read = plan(spec.clone()).unwrap();
    let planned = &read.metrics[0];
    assert_eq!((planned.schedule.count, planned.schedule.interval), (Some(4), Some(Duration::from_secs(20))));
    assert_eq!(planned.resolved_query(&read.args).as_deref(), Some("up{s=\"web\"}"));
    assert!(planned.provider(&read.args).is_err(), "the Secret has not been read");
    let args = read.args.clone().with([("token".to_owned(), "T0KEN".to_owned())].into());
    let Ok(Provider::Prometheus(asked, timeout)) = planned.provider(&args) else { panic!("no prometheus") };
    assert_eq!((asked.headers[0].value.as_str(), timeout), ("T0KEN", PROMETHEUS_TIMEOUT));

    spec["metrics"][0]["failureCondition"] = json!("result[0] == '{{args.token}}'");
    let said = "Analysis spec invalid: metrics[0]: only its provider may hold what is in a Secret";
    assert_eq!(plan(spec.clone()).unwrap_err(), said);
    spec["args"].as_array_mut().unwrap().remove(0);
    assert_eq!(plan(spec).unwrap_err(), "Unable to resolve metric arguments: failed to resolve {{args.count}}");
}

#[test]
fn what_may_be_made_once_only_is_told() {
    let of = |provider: Value| {
        let planned = plan(metric(json!({"provider": provider}))).unwrap().metrics.remove(0);
        (planned.recorded, planned.is_job)
    };
    assert_eq!(of(json!({"web": {"url": "http://x"}})), (false, false));
    assert_eq!(of(json!({"web": {"url": "http://x", "method": "POST", "jsonBody": {"a": 1}}})), (true, false));
    assert_eq!(of(json!({"job": {"spec": {"template": {}}}})), (true, true));
}
