//! Canaries of each strategy, and combinations that make no sense.

use serde_json::json;

use crate::api::Provider;
use crate::router::{Istio, router_of};

use super::*;

fn compiled(patch: Value) -> Result<Strategy, PolicyError> {
    let mut spec = json!({
        "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "podinfo"},
        "service": {"port": 9898},
        "analysis": {"interval": "30s", "threshold": 5}
    });
    json_patch::merge(&mut spec, &patch);
    let spec: CanarySpec = serde_json::from_value(spec).unwrap();
    compile("test", &spec, &Istio, Duration::from_secs(30))
}

fn analysis(patch: Value) -> Result<Strategy, PolicyError> {
    compiled(json!({"analysis": patch}))
}

/// The steps in the words of the scenarios.
fn words(strategy: &Strategy) -> Vec<String> {
    let word = |step: &PolicyStep| match step {
        PolicyStep::Route(routing) => routing.to_string(),
        PolicyStep::Analyse => "analyse".to_owned(),
        PolicyStep::Gate => "gate".to_owned(),
        PolicyStep::Pause(_) => "pause".to_owned(),
        PolicyStep::Size(_) => "size".to_owned(),
    };
    strategy.steps.iter().map(word).collect()
}

#[test]
fn blue_green_checks_then_moves_everybody_and_checks_again() {
    let strategy = analysis(json!({"iterations": 2})).unwrap();
    assert_eq!(words(&strategy), ["analyse", "analyse", "gate", "primary 0 %, canary 100 %", "analyse"]);
    assert_eq!(strategy.iterations, Some(2));
    let strategy = analysis(json!({"iterations": 1, "mirror": true, "mirrorWeight": 30})).unwrap();
    assert_eq!(
        words(&strategy),
        [
            "primary 100 %, canary 0 %, 30 % mirrored to the canary",
            "analyse",
            "gate",
            "primary 0 %, canary 100 %",
            "analyse"
        ]
    );
}

#[test]
fn ab_testing_sends_some_users_and_joins_their_conditions_with_the_services() {
    let header = json!({"headers": {"x-canary": {"exact": "insider"}}});
    let strategy = compiled(json!({
        "service": {"match": [{"uri": {"prefix": "/api"}}]}, "analysis": {"iterations": 2, "match": [header]}
    }))
    .unwrap();
    let rest = "podinfo-match: primary 0 %, canary 100 %; primary 100 %, canary 0 %";
    assert_eq!(words(&strategy), [rest, "analyse", "analyse"]);
    let PolicyStep::Route(routing) = &strategy.steps[0] else { panic!("no route") };
    let both = json!({"uri": {"prefix": "/api"}, "headers": {"x-canary": {"exact": "insider"}}});
    assert_eq!(routing.rules[0].when, [both]);
}

#[test]
fn weights_may_be_of_some_users_and_copies_come_first() {
    let header = json!({"headers": {"x-canary": {"exact": "insider"}}});
    let strategy =
        analysis(json!({"stepWeights": [20, 60], "match": [header], "stepWeightPromotion": 25})).unwrap();
    assert_eq!(
        words(&strategy),
        [
            "podinfo-match: primary 80 %, canary 20 %; primary 100 %, canary 0 %",
            "analyse",
            "podinfo-match: primary 40 %, canary 60 %; primary 100 %, canary 0 %",
            "analyse"
        ]
    );
    let back: Vec<u8> = strategy.way_back.iter().map(|routing| routing.rules[0].split.candidate()).collect();
    assert_eq!(back, [35, 10]);
    let strategy = analysis(json!({"stepWeight": 50, "mirror": true, "stepWeightPromotion": 40})).unwrap();
    assert_eq!(words(&strategy)[0], "primary 100 %, canary 0 %, 100 % mirrored to the canary");
    let back: Vec<u8> = strategy.way_back.iter().map(|routing| routing.base.candidate()).collect();
    assert_eq!(back, [60, 20]);
}

#[test]
fn iterations_win_over_weights_as_with_flagger_and_say_so() {
    let header = json!({"headers": {"x-canary": {"exact": "insider"}}});
    for (patch, instead) in [(json!({}), "blue/green"), (json!({"match": [header]}), "A/B testing")] {
        let alone = |mut weights: Value| {
            json_patch::merge(&mut weights, &json!({"iterations": 3}));
            json_patch::merge(&mut weights, &patch);
            weights
        };
        let both = alone(json!({"stepWeight": 25, "maxWeight": 50}));
        assert_eq!(analysis(both.clone()).unwrap(), analysis(alone(json!({}))).unwrap(), "{instead}");
        let spec: CanarySpec = serde_json::from_value(json!({
            "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "a"}, "service": {"port": 80}, "analysis": both
        }))
        .unwrap();
        let told: Vec<String> = notices(&spec, &Istio).into_iter().map(|notice| notice.message).collect();
        let words = format!("spec.analysis.stepWeight has no effect with iterations, which ask for {instead}");
        assert!(told.contains(&words), "{told:?}");
    }
}

#[test]
fn cookies_have_the_attributes_that_were_asked_for() {
    let affinity = json!({"cookieName": "side", "primaryCookieName": "first", "maxAge": 60, "domain": "a.example",
        "path": "/", "httpOnly": true, "secure": true, "partitioned": true, "sameSite": "None"});
    let stickiness = analysis(json!({"stepWeight": 50, "sessionAffinity": affinity})).unwrap().stickiness.unwrap();
    assert_eq!(
        stickiness.candidate.attributes,
        "; Domain=a.example; Path=/; HttpOnly; Secure; Partitioned; SameSite=None"
    );
    assert_eq!((stickiness.candidate.max_age, stickiness.stable.unwrap().max_age), (60, 30));
    let plain = analysis(json!({"iterations": 1, "sessionAffinity": {"cookieName": "side"}})).unwrap();
    let plain = plain.stickiness.unwrap();
    assert_eq!((plain.candidate.max_age, plain.candidate.attributes.as_str(), plain.stable), (86_400, "", None));
}

#[test]
fn what_conflicts_is_refused_by_field_and_remedy() {
    let header = json!({"headers": {"x-canary": {"exact": "insider"}}});
    let affinity = |extra: Value| {
        let mut affinity = json!({"cookieName": "side"});
        json_patch::merge(&mut affinity, &extra);
        json!({"stepWeight": 50, "sessionAffinity": affinity})
    };
    let cases = [
        (
            json!({"iterations": 3, "match": [{"headers": {"user-agent": {"regex": "(?!x)Firefox"}}}]}),
            "spec.analysis.match",
            "none in RE2's syntax",
        ),
        (json!({"iterations": 2_000_000}), "spec.analysis.iterations", "more than 1000"),
        (json!({"match": [header]}), "spec.analysis", "needs a positive stepWeight"),
        (json!({"iterations": 3, "match": [{}]}), "spec.analysis.match", "name a header"),
        (
            json!({"iterations": 3, "match": [{"headers": {"x": {"suffix": "a"}}}]}),
            "spec.analysis.match",
            "use regex",
        ),
        (
            json!({"iterations": 3, "mirror": true, "mirrorWeight": 130}),
            "spec.analysis.mirrorWeight",
            "between 1 and 100",
        ),
        (
            affinity(json!({"primaryCookieName": "side"})),
            "spec.analysis.sessionAffinity.primaryCookieName",
            "another name",
        ),
        (
            affinity(json!({"cookieName": "a b"})),
            "spec.analysis.sessionAffinity.cookieName",
            "no name of a cookie",
        ),
        (affinity(json!({"cookieName": ""})), "spec.analysis.sessionAffinity.cookieName", "no name of a cookie"),
        (affinity(json!({"maxAge": 0})), "spec.analysis.sessionAffinity.maxAge", "positive"),
        (affinity(json!({"path": "/; Secure"})), "spec.analysis.sessionAffinity.path", "semicolon"),
    ];
    for (patch, path, words) in cases {
        let error = analysis(patch.clone()).unwrap_err();
        assert_eq!(error.path(), path, "{patch}: {error}");
        assert!(error.to_string().contains(words), "{error}");
    }
}

/// With another provider.
fn with(provider: Provider, patch: Value) -> Result<Strategy, PolicyError> {
    let mut spec = json!({
        "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "podinfo"},
        "service": {"port": 9898, "gatewayRefs": [{"name": "public"}]},
        "analysis": {"interval": "30s", "threshold": 5}
    });
    json_patch::merge(&mut spec["analysis"], &patch);
    let spec: CanarySpec = serde_json::from_value(spec).unwrap();
    compile("test", &spec, router_of(provider).unwrap(), Duration::from_secs(30))
}

#[test]
fn d19_weights_with_copies_go_on_with_every_provider_that_can_copy() {
    for provider in [Provider::Istio, Provider::GatewayApiV1, Provider::GatewayApiV1Beta1] {
        let strategy = with(provider, json!({"stepWeights": [10, 20], "mirror": true})).unwrap();
        assert_eq!(
            words(&strategy),
            [
                "primary 100 %, canary 0 %, 100 % mirrored to the canary",
                "analyse",
                "primary 90 %, canary 10 %",
                "analyse",
                "primary 80 %, canary 20 %",
                "analyse",
            ]
        );
    }
    let refused = with(Provider::Kubernetes, json!({"iterations": 2, "mirror": true})).unwrap_err();
    assert_eq!(refused.path(), "spec.analysis.mirror");
    let refused =
        with(Provider::GatewayApiV1, json!({"iterations": 2, "mirror": true, "mirrorWeight": 30})).unwrap_err();
    assert_eq!(refused.path(), "spec.analysis.mirrorWeight");
}

#[test]
fn plain_services_move_everybody_at_once_whatever_is_asked_for() {
    let blue_green = with(Provider::Kubernetes, json!({"iterations": 1})).unwrap();
    assert_eq!(words(&blue_green), ["analyse", "gate", "primary 0 %, canary 100 %", "analyse"]);
    let instead = with(Provider::Kubernetes, json!({"stepWeight": 10, "maxWeight": 50})).unwrap();
    assert_eq!(instead.iterations, Some(10));
    let without_match =
        with(Provider::Kubernetes, json!({"iterations": 1, "match": [{"headers": {"x": {"exact": "1"}}}]}));
    assert_eq!(words(&without_match.unwrap()), words(&blue_green));
    let refused = with(Provider::Kubernetes, json!({"iterations": 1, "sessionAffinity": {"cookieName": "a"}}));
    assert_eq!(refused.unwrap_err().path(), "spec.analysis.sessionAffinity");
}
