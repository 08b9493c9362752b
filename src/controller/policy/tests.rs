use std::sync::Arc;

use serde_json::{Value, json};

use crate::analysis::{Condition, Range};
use crate::api::MetricTemplateSpec;
use crate::model::Routing;
use crate::release::{CheckSource, Guards, Keyed, OnMissing, PolicyStep};

use super::*;

fn settings(speed: f64) -> ControllerSettings {
    ControllerSettings {
        namespace: None,
        metrics_address: "http://prometheus:9090".into(),
        own_namespace: String::new(),
        speed,
        drain: Duration::from_secs(5),
        settle: Duration::from_secs(2),
        guards: Guards::default(),
        selector_labels: vec!["app".into()],
        loopback: false,
        projections: Vec::new(),
        rollouts: false,
        windows: Vec::new(),
        wait_for: Vec::new(),
    }
}

fn nth<T>(keyed: &Keyed<T>, index: usize) -> &T {
    keyed.values().nth(index).unwrap()
}

fn compiled(patch: Value, speed: f64) -> Result<Policy, PolicyError> {
    let mut spec = json!({
        "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "podinfo"},
        "progressDeadlineSeconds": 60,
        "service": {"port": 9898},
        "analysis": {"interval": "1m", "threshold": 5, "maxWeight": 50, "stepWeight": 10,
            "metrics": [
                {"name": "request-success-rate", "thresholdRange": {"min": 99}, "interval": "1m"},
                {"name": "request-duration", "threshold": 500, "interval": "30s"},
                {"name": "404s", "templateRef": {"name": "nf", "namespace": "istio-system"}, "thresholdRange": {"max": 5}}],
            "webhooks": [{"name": "load", "url": "http://lt/", "timeout": "5s"}]}
    });
    json_patch::merge(&mut spec, &patch);
    let spec: CanarySpec = serde_json::from_value(spec).unwrap();
    let template = |query: &str| -> MetricTemplateSpec {
        let spec = json!({"provider": {"type": "prometheus", "address": "http://p"}, "query": query});
        serde_json::from_value(spec).unwrap()
    };
    let find = |key: &NamespacedName| match key.name.as_str() {
        "nf" => Ok(Arc::new(template("sum(rate(a[{{ interval }}]))"))),
        "fixed" => Ok(Arc::new(template("sum(rate(a{b=\"{{ target }}\"}[1m]))"))),
        _ => Err(format!("MetricTemplate {key} does not exist")),
    };
    compile(&NamespacedName::new("test", "podinfo"), &spec, &settings(speed), &find)
}

#[test]
fn the_seeds_canary_has_five_weights_each_followed_by_an_analysis() {
    let policy = compiled(json!({}), 1.0).unwrap();
    assert_eq!(policy.steps.len(), 10);
    assert_eq!(policy.steps[8], PolicyStep::Route(Routing::candidate_percent(50)));
    assert_eq!(policy.steps[9], PolicyStep::Analyse);
    assert_eq!(nth(&policy.watch.checks, 0).condition, Condition::Range(Range { min: Some(99.0), max: None }));
    assert_eq!(nth(&policy.watch.checks, 1).condition, Condition::Range(Range { min: None, max: Some(500.0) }));
    assert!(
        matches!(&nth(&policy.watch.checks, 2).source, CheckSource::Template { template, .. } if template.namespace == "istio-system")
    );
    assert_eq!(
        (nth(&policy.watch.hooks, 0).kind, nth(&policy.watch.hooks, 0).timeout),
        (HookKind::Rollout, Duration::from_secs(5))
    );
}

#[test]
fn a_query_that_does_not_use_its_window_has_one_of_its_own() {
    let metrics = json!([
        {"name": "request-duration", "thresholdRange": {"max": 500}},
        {"name": "a", "query": "sum(rate(a[{{ interval }}]))", "thresholdRange": {"max": 1}},
        {"name": "b", "query": "sum(rate(a[1m]))", "thresholdRange": {"max": 1}},
        {"name": "c", "templateRef": {"name": "nf"}, "thresholdRange": {"max": 1}},
        {"name": "d", "templateRef": {"name": "fixed"}, "thresholdRange": {"max": 1}},
        {"name": "e", "templateRef": {"name": "gone"}, "thresholdRange": {"max": 1}}
    ]);
    let policy = compiled(json!({"analysis": {"metrics": metrics}}), 1.0).unwrap();
    let own: Vec<bool> = policy.watch.checks.values().map(|check| check.own_window).collect();
    assert_eq!(own, [false, false, true, false, true, false]);
}

#[test]
fn built_in_metrics_want_ten_requests_and_others_what_they_say() {
    let metrics = json!([
        {"name": "request-success-rate", "thresholdRange": {"min": 99}},
        {"name": "request-duration", "thresholdRange": {"max": 500}, "minSamples": 50, "onFewSamples": "fail"},
        {"name": "404s", "templateRef": {"name": "nf"}, "thresholdRange": {"max": 5}},
        {"name": "own", "query": "vector(1)", "thresholdRange": {"max": 5}, "minSamples": 3, "noData": "fail",
            "onError": "pass"}
    ]);
    let policy = compiled(json!({"analysis": {"metrics": metrics}}), 1.0).unwrap();
    let wanted: Vec<_> = policy.watch.checks.values().map(|check| (check.min_samples, check.on_few)).collect();
    let hold = OnMissing::Hold;
    assert_eq!(wanted, [(10, hold), (50, OnMissing::Fail), (0, hold), (3, hold)]);
    let own = nth(&policy.watch.checks, 3);
    assert_eq!((own.on_no_data, own.on_error), (OnMissing::Fail, OnMissing::Pass));
    let first = nth(&policy.watch.checks, 0);
    assert_eq!((first.on_no_data, first.on_error), (hold, hold));
    let metrics = json!([{"name": "request-duration", "thresholdRange": {"max": 500}, "minSamples": -1}]);
    let error = compiled(json!({"analysis": {"metrics": metrics}}), 1.0).unwrap_err().to_string();
    assert_eq!(error, "spec.analysis.metrics[0].minSamples must be between 0 and 100000");
}

#[test]
fn alerts_are_a_check_that_none_of_them_fires() {
    let metrics = |alerts: &str| json!({"analysis": {"metrics": [{"name": "calm", "alerts": alerts}]}});
    let policy = compiled(metrics("severity=\"critical\", namespace=\"{{ namespace }}\""), 1.0).unwrap();
    let check = nth(&policy.watch.checks, 0);
    let matchers = "severity=\"critical\", namespace=\"{{ namespace }}\"";
    let query = format!("count(ALERTS{{alertstate=\"firing\", {matchers}}}) or vector(0)");
    assert_eq!(check.source, CheckSource::Query(query));
    assert_eq!(check.condition, Condition::Range(Range { min: None, max: Some(0.0) }));
    assert!(!check.own_window);
    for wrong in ["", "{severity=\"critical\"}"] {
        let error = compiled(metrics(wrong), 1.0).unwrap_err().to_string();
        assert!(error.starts_with("spec.analysis.metrics[0].alerts names no alerts"), "{error}");
    }
}

#[test]
fn a_target_is_the_same_by_whatever_version_it_was_served() {
    for version in ["apps/v1", "apps/v1beta2", "extensions/v1beta1"] {
        compiled(json!({"targetRef": {"apiVersion": version}}), 1.0).unwrap();
    }
}

#[test]
fn d17_every_metric_has_a_window() {
    let metrics = json!([
        {"name": "404s", "templateRef": {"name": "nf"}, "thresholdRange": {"max": 5}},
        {"name": "own", "query": "vector(1)", "thresholdRange": {"max": 5}},
        {"name": "request-success-rate", "thresholdRange": {"min": 99}},
    ]);
    let policy = compiled(json!({"analysis": {"metrics": metrics}}), 1.0).unwrap();
    for index in 0..3 {
        assert_eq!(nth(&policy.watch.checks, index).window, Duration::from_secs(60));
    }
}

#[test]
fn speed_divides_interval_windows_and_deadline_but_not_the_drain() {
    let policy = compiled(json!({}), 60.0).unwrap();
    assert_eq!(policy.interval, Duration::from_secs(1));
    assert_eq!(nth(&policy.watch.checks, 1).window, Duration::from_millis(500));
    assert_eq!(policy.progress_deadline, Duration::from_secs(1));
    assert_eq!(policy.drain, Duration::from_secs(5));
}

#[test]
fn what_is_not_there_yet_is_refused_in_words() {
    let cases = [
        (json!({"analysis": {"primaryReadyThreshold": 75}}), "spec.analysis.primaryReadyThreshold"),
        (json!({"analysis": {"canaryReadyThreshold": 75}}), "spec.analysis.canaryReadyThreshold"),
        (
            json!({"autoscalerRef": {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "name": "a"}}),
            "autoscalerRef.kind ScaledObject is not supported yet",
        ),
        (json!({"service": null}), "spec.service is missing"),
        (json!({"provider": "nginx"}), "spec.provider is not supported yet"),
        (
            json!({"ingressRef": {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "a"}}),
            "spec.ingressRef has no effect with the default provider istio",
        ),
        (
            json!({"service": {"gatewayRefs": [{"name": "a"}]}}),
            "spec.service.gatewayRefs has no effect with the default provider istio: say spec.provider: gatewayapi:v1",
        ),
        (
            json!({"releaseWindows": [{"schedule": "0 9 * * 8", "duration": "8h"}]}),
            "spec.releaseWindows[0].schedule: `0 9 * * 8` is no cron line: the weekday `8`",
        ),
        (
            json!({"releaseWindows": [{"schedule": "0 9 * * *", "duration": "1 day"}]}),
            "spec.releaseWindows[0].duration: `1 day` is not a duration",
        ),
        (
            json!({"waitFor": [{"environment": "staging", "bake": "1 day"}]}),
            "spec.waitFor[0].bake: `1 day` is not a duration",
        ),
        (json!({"targetRef": {"kind": "DaemonSet"}}), "targetRef.kind DaemonSet"),
        (json!({"targetRef": {"apiVersion": "other.io/v1"}}), "targetRef.apiVersion other.io/v1"),
        (json!({"analysis": {"stepWeight": null}}), "spec.analysis needs"),
        (json!({"analysis": {"metrics": [{"name": "x"}]}}), "metric `x` is not built in"),
        (
            json!({"analysis": {"webhooks": [{"name": "h", "url": "http://h", "timeout": "soon"}]}}),
            "webhook `h`: timeout",
        ),
        (
            json!({"analysis": {"webhooks": [{"name": "h", "url": "http://h", "timeout": "24h1s"}]}}),
            "webhook `h`: timeout is longer than 24 h",
        ),
    ];
    let hook = |url: &str| json!({"analysis": {"webhooks": [{"name": "h", "url": url}]}});
    let of_places = [
        (hook("loadtester.test"), "webhook `h`: url: the address is not an http:// or https:// URL"),
        (hook("loadtester:8080/x"), "webhook `h`: url: the address is not"),
        (hook("http://169.254.169.254/"), "webhook `h`: url: the address leads to this machine"),
        (hook("http://localhost:8080/"), "webhook `h`: url: the address leads to this machine"),
        (json!({"metricsServer": "prometheus:9090"}), "spec.metricsServer the address is not"),
        (json!({"service": {"port": 99_999}}), "spec.service.port must be between 1 and 65535"),
        (json!({"service": {"targetPort": 70_000}}), "spec.service.targetPort must be between"),
    ];
    for (patch, expected) in cases.into_iter().chain(of_places) {
        let error = compiled(patch, 1.0).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
    assert!(
        compiled(json!({"skipAnalysis": true, "analysis": {"stepWeight": null}}), 1.0).unwrap().steps.is_empty()
    );
}

#[test]
fn what_only_other_routers_read_is_named_once_istio_is_meant() {
    let patch = json!({"provider": "istio", "service": {"gatewayRefs": [{"name": "a"}], "backendTimeout": "2s"}});
    let mut spec = json!({"targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "a"},
        "service": {"port": 80}, "analysis": {"stepWeight": 10}});
    json_patch::merge(&mut spec, &patch);
    let spec: CanarySpec = serde_json::from_value(spec).unwrap();
    let notices = check_policy(&NamespacedName::new("test", "a"), &spec).unwrap();
    let paths: Vec<_> = notices.iter().map(|notice| notice.path.as_str()).collect();
    let unchecked = "spec.analysis.metrics";
    assert_eq!(paths, ["spec.service.gatewayRefs", "spec.service.backendTimeout", unchecked]);
}
