//! Rendered, written, read back.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::api::CanaryService;
use crate::model::{Affinity, Cookie, NamespacedName, Routing, Rule, Split, Sticky};
use crate::release::{RouteObserved, Unaccepted};
use crate::workload::Owner;

use super::super::{Change, LiveRoutes, RouteAsk, RouteKind, RouteRequest, Router, Seen};
use super::{GATEWAY_API_V1, GATEWAY_API_V1BETA1, rules};

/// Objects by kind and name; Gateways of any namespace.
#[derive(Default)]
struct Live(BTreeMap<(&'static str, String), Value>);

impl LiveRoutes for Live {
    fn get(&self, kind: RouteKind, name: &str) -> Option<Value> {
        self.0.get(&(kind.kind, name.to_owned())).cloned()
    }

    fn find(&self, kind: RouteKind, key: &NamespacedName) -> Seen {
        self.0.get(&(kind.kind, key.to_string())).cloned().map_or(Seen::Gone, Seen::There)
    }
}

impl Live {
    /// A route that was written and taken by its parent, whose Gateway is programmed.
    fn taken(request: &RouteRequest<'_>, routing: &Routing) -> Self {
        let mut route = GATEWAY_API_V1.render(request, routing);
        route["metadata"]["resourceVersion"] = json!("7");
        route["metadata"]["generation"] = json!(3);
        let said = |kind: &str| json!({"type": kind, "status": "True", "reason": kind, "observedGeneration": 3});
        let parent = json!({"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "public", "namespace": "ingress"});
        route["status"] = json!({"parents": [
            {"parentRef": parent, "controllerName": "x", "conditions": [said("Accepted"), said("ResolvedRefs")]}
        ]});
        let mut live = Self::default();
        live.0.insert(("HTTPRoute", "podinfo".to_owned()), route);
        let gateway = json!({"metadata": {"generation": 2}, "status": {"conditions": [
            {"type": "Programmed", "status": "True", "reason": "Programmed", "observedGeneration": 2}
        ]}});
        live.0.insert(("Gateway", "ingress/public".to_owned()), gateway);
        live
    }

    fn route(&mut self) -> &mut Value {
        self.0.get_mut(&("HTTPRoute", "podinfo".to_owned())).unwrap()
    }

    fn gateway(&mut self) -> &mut Value {
        self.0.get_mut(&("Gateway", "ingress/public".to_owned())).unwrap()
    }
}

fn owner() -> Owner {
    Owner { name: "podinfo".into(), uid: "u1".into() }
}

fn spec(extra: Value) -> CanaryService {
    let mut spec = json!({"port": 9898, "gatewayRefs": [{"name": "public", "namespace": "ingress"}], "hosts": ["app.example.com"]});
    json_patch::merge(&mut spec, &extra);
    serde_json::from_value(spec).unwrap()
}

fn request<'a>(spec: &'a CanaryService, owner: &'a Owner) -> RouteRequest<'a> {
    let (namespace, service, target) = ("test", "podinfo", "podinfo");
    RouteRequest { namespace, service, spec, owner, target, predecessor: None, pods: None }
}

fn observed(routing: Routing, current: bool) -> RouteObserved {
    RouteObserved::Present { routing, current, unaccepted: None }
}

#[test]
fn renders_a_weighted_canary_with_all_that_flagger_maps() {
    let owner = owner();
    let spec = spec(json!({
        "hosts": ["app.example.com", "*.example.org"], "timeout": "15s", "backendTimeout": "5s",
        "match": [{"uri": {"prefix": "/api"}}],
        "rewrite": {"uri": "/v1", "authority": "inner.example.com", "type": "ReplacePrefixMatch"},
        "headers": {"request": {"add": {"x-trace": "1"}, "remove": ["x-debug"]}, "response": {"set": {"x-served": "a"}}},
        "mirror": [{"backendRef": {"name": "audit", "port": 80}}],
        "corsPolicy": {"allowOrigins": [{"exact": "https://example.com"}], "allowMethods": ["GET"], "allowCredentials": true, "maxAge": "24h"},
    }));
    let request = request(&spec, &owner);
    GATEWAY_API_V1.check(&RouteAsk { namespace: "test", spec: &spec, rules: &[] }).unwrap();
    let route = GATEWAY_API_V1.render(&request, &Routing::candidate_percent(10));
    let side = |name: &str, weight: u8| json!({"group": "", "kind": "Service", "name": name, "port": 9898, "weight": weight});
    let matches = json!([{"path": {"type": "PathPrefix", "value": "/api"}}]);
    let backends = json!([side("podinfo-primary", 90), side("podinfo-canary", 10)]);
    assert_eq!(
        route["spec"],
        json!({
            "parentRefs": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "public", "namespace": "ingress"}],
            "hostnames": ["app.example.com", "*.example.org"],
            "rules": [{
                "matches": matches,
                "filters": [
                    {"type": "RequestHeaderModifier", "requestHeaderModifier": {"add": [{"name": "x-trace", "value": "1"}], "remove": ["x-debug"]}},
                    {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"set": [{"name": "x-served", "value": "a"}]}},
                    {"type": "URLRewrite", "urlRewrite": {"hostname": "inner.example.com",
                        "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/v1"}}},
                    {"type": "RequestMirror", "requestMirror": {"backendRef": {"group": "", "kind": "Service", "name": "audit", "port": 80}}},
                    {"type": "CORS", "cors": {"allowOrigins": ["https://example.com"], "allowMethods": ["GET"],
                        "allowCredentials": true, "maxAge": 86400}},
                ],
                "backendRefs": backends,
                "timeouts": {"request": "15s", "backendRequest": "5s"},
            }],
        })
    );
    let old = GATEWAY_API_V1BETA1.render(&request, &Routing::candidate_percent(10));
    let rule = &old["spec"]["rules"][0];
    assert!(rule.get("timeouts").is_none() && !rule.to_string().contains("CORS"), "{rule}");
    let ignored = GATEWAY_API_V1BETA1.ignores(&RouteAsk { namespace: "test", spec: &spec, rules: &[] });
    assert_eq!(ignored, ["spec.service.timeout", "spec.service.backendTimeout", "spec.service.corsPolicy"]);
}

#[test]
fn every_host_is_no_host() {
    let (owner, spec) = (owner(), spec(json!({"hosts": ["*"]})));
    let route = GATEWAY_API_V1.render(&request(&spec, &owner), &Routing::default());
    assert!(route["spec"].get("hostnames").is_none());
    assert_eq!(route["spec"]["rules"][0]["matches"], json!([{"path": {"type": "PathPrefix", "value": "/"}}]));
}

fn cookie(name: &str) -> Cookie {
    Cookie { name: name.into(), value: "qwertzuiop".into(), max_age: 60, attributes: "; Path=/; Secure".into() }
}

/// Routings of every kind.
fn routings() -> Vec<Routing> {
    let rule = |name: &str, percent: u8| Rule {
        name: name.into(),
        when: vec![
            json!({"headers": {"x-canary": {"prefix": "insider"}}, "uri": {"prefix": "/api"}}),
            json!({"queryParams": {"canary": {"exact": "yes"}}}),
        ],
        split: Split::candidate_percent(percent),
    };
    let affinity = |stable| Box::new(Affinity { candidate: cookie("side"), stable });
    let percent = Routing::candidate_percent;
    vec![
        percent(0),
        percent(37),
        percent(100),
        Routing::all(Split::default().mirrored(100)),
        Routing { rules: vec![rule("podinfo-ab", 100)], ..percent(0) },
        Routing { rules: vec![rule("one", 100), rule("two", 30)], ..percent(5) },
        Routing { sticky: Sticky::Issue(affinity(None)), ..percent(20) },
        Routing { sticky: Sticky::Issue(affinity(Some(cookie("first-side")))), ..percent(20) },
        Routing { sticky: Sticky::Withdraw(cookie("side").over()), ..percent(0) },
        Routing { rules: vec![rule("ab", 100)], sticky: Sticky::Withdraw(cookie("side").over()), ..percent(0) },
        Routing::all(Split::candidate_percent(10).with_extra("experiment", 5)),
    ]
}

#[test]
fn d7_every_routing_is_read_as_it_was_written_and_a_changed_spec_keeps_it() {
    let owner = owner();
    let specs = [
        json!({}),
        json!({"match": [{"uri": {"prefix": "/api"}}, {"uri": {"exact": "/"}, "method": {"exact": "GET"}}]}),
        json!({"headers": {"response": {"add": {"x-served": "mesh"}}}, "mirror": [{"backendRef": {"name": "audit", "port": 80}}]}),
    ];
    for extra in specs {
        let (spec, edited) = (
            spec(extra.clone()),
            spec({
                let mut edited = extra;
                edited["timeout"] = json!("15s");
                edited
            }),
        );
        for routing in routings() {
            let live = Live::taken(&request(&spec, &owner), &routing);
            assert_eq!(
                GATEWAY_API_V1.read(&request(&spec, &owner), &live),
                observed(routing.clone(), true),
                "{routing}"
            );
            let after = GATEWAY_API_V1.read(&request(&edited, &owner), &live);
            assert_eq!(after, observed(routing.clone(), false), "{routing}");
        }
    }
}

#[test]
fn a_bent_route_is_never_taken_for_a_wanted_one() {
    let (spec, owner) = (spec(json!({})), owner());
    let request = request(&spec, &owner);
    let to = |name: &str, weight: u64| json!({"name": name, "port": 9898, "weight": weight});
    let mirror = json!({"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "podinfo-canary", "port": 9898}}});
    let bends = [
        json!([]),
        json!([{"filters": [{"type": "RequestRedirect"}]}]),
        json!([{"backendRefs": [to("podinfo-primary", 0), to("podinfo-canary", 0)]}]),
        json!([{"backendRefs": [to("stranger", 1)]}]),
        json!([{"backendRefs": [{"name": "podinfo-primary", "namespace": "other", "port": 9898}]}]),
        json!([{"backendRefs": [{"name": "podinfo-primary", "kind": "ServiceImport", "port": 9898}]}]),
        json!([{"backendRefs": [to("podinfo-primary", 100)], "filters": [mirror]}]),
        json!([{"backendRefs": [to("podinfo-primary", 100), to("podinfo-canary", 1)]}]),
        json!([{"backendRefs": [to("podinfo-canary", 100)]}, {"backendRefs": [to("podinfo-primary", 1)]}]),
    ];
    for bent in bends {
        let read = rules::read(&request, &json!({"spec": {"rules": bent}}));
        assert_ne!(read, Routing::default(), "{bent}");
        assert!(read.exposes(), "{bent} is read as {read}");
    }
    // Another way to write the same.
    let same = json!({"spec": {"rules": [{"backendRefs": [{"name": "podinfo-primary", "namespace": "test", "port": 9898}]}]}});
    assert_eq!(rules::read(&request, &same), Routing::default());
}

#[test]
fn conditions_that_somebody_changed_are_not_taken_from_memory() {
    let (spec, owner) = (spec(json!({})), owner());
    let request = request(&spec, &owner);
    let rule = Rule {
        name: "ab".into(),
        when: vec![json!({"headers": {"x": {"exact": "1"}}})],
        split: Split::candidate_percent(100),
    };
    let wanted = Routing { rules: vec![rule], ..Routing::default() };
    let mut live = Live::taken(&request, &wanted);
    live.route()["spec"]["rules"][0]["matches"][0]["headers"][0]["value"] = json!("2");
    let RouteObserved::Present { routing, .. } = GATEWAY_API_V1.read(&request, &live) else { panic!("no route") };
    assert_eq!(routing.rules[0].when, [json!({"headers": {"x": {"exact": "2"}}})]);
    assert!(routing.exposes_more_than(&wanted));
}

#[test]
fn a_route_counts_when_its_parents_say_so_of_this_very_one() {
    let (spec, owner) = (spec(json!({})), owner());
    let request = request(&spec, &owner);
    let said = |change: &dyn Fn(&mut Live)| {
        let mut live = Live::taken(&request, &Routing::default());
        change(&mut live);
        match GATEWAY_API_V1.read(&request, &live) {
            RouteObserved::Present { unaccepted, .. } => unaccepted,
            other => panic!("{other:?}"),
        }
    };
    let condition = |index: usize, field: &'static str, value: Value| {
        move |live: &mut Live| live.route()["status"]["parents"][0]["conditions"][index][field] = value.clone()
    };
    assert_eq!(said(&|_| {}), None);
    // Some controllers do not say which one they mean.
    assert_eq!(said(&condition(0, "observedGeneration", Value::Null)), None);
    let pending: [&dyn Fn(&mut Live); 6] = [
        &condition(0, "observedGeneration", json!(2)),
        &condition(1, "observedGeneration", json!(2)),
        &condition(0, "status", json!("Unknown")),
        &|live| live.route()["status"] = Value::Null,
        &|live| live.route()["status"]["parents"][0]["parentRef"]["name"] = json!("other"),
        &|live| live.gateway()["status"]["conditions"][0]["status"] = json!("False"),
    ];
    for change in pending {
        assert!(matches!(said(change), Some(Unaccepted::Pending(_))), "{:?}", said(change));
    }
    let refused = said(&|live| {
        let accepted = &mut live.route()["status"]["parents"][0]["conditions"][0];
        accepted["status"] = json!("False");
        accepted["reason"] = json!("NotAllowedByListeners");
        accepted["message"] = json!("no listener takes routes of namespace test");
    });
    assert_eq!(
        refused,
        Some(Unaccepted::Refused(
            "Gateway ingress/public does not take HTTPRoute test/podinfo: Accepted is False (NotAllowedByListeners): no \
             listener takes routes of namespace test"
                .to_owned()
        ))
    );
    let gone = said(&|live| live.0.retain(|(kind, _), _| *kind != "Gateway"));
    assert!(
        matches!(&gone, Some(Unaccepted::Refused(why)) if why.contains("ingress/public does not exist")),
        "{gone:?}"
    );
}

#[test]
fn a_foreign_route_is_named_and_not_touched() {
    let (spec, owner) = (spec(json!({})), owner());
    let live = Live::taken(&request(&spec, &owner), &Routing::default());
    let stranger = Owner { uid: "u2".into(), ..owner.clone() };
    let foreign = RouteRequest { owner: &stranger, ..request(&spec, &owner) };
    let RouteObserved::Unusable(why) = GATEWAY_API_V1.read(&foreign, &live) else { panic!("usable") };
    assert!(why.starts_with("HTTPRoute test/podinfo is not owned by Canary podinfo"), "{why}");
}

#[test]
fn a_change_is_one_write_and_guarded_by_what_it_was_based_on() {
    let (spec, owner) = (spec(json!({})), owner());
    let request = request(&spec, &owner);
    let live = Live::taken(&request, &Routing::default());
    assert_eq!(GATEWAY_API_V1.write(&request, &live, &Routing::default()), []);
    let changes = GATEWAY_API_V1.write(&request, &live, &Routing::candidate_percent(20));
    let [Change::Merge { patch, .. }] = &changes[..] else { panic!("{changes:?}") };
    assert_eq!(patch["metadata"]["resourceVersion"], json!("7"));
    let [(_, left)] = &GATEWAY_API_V1.hand_back(&request)[..] else { panic!("one route") };
    assert_eq!(left["spec"]["rules"][0]["backendRefs"][0]["name"], "podinfo");
}

#[test]
fn what_cannot_be_carried_out_is_refused_by_field() {
    let refusal = |extra: Value| {
        let spec = spec(extra);
        let refused = GATEWAY_API_V1.check(&RouteAsk { namespace: "test", spec: &spec, rules: &[] });
        refused.err().map(|problem| problem.path).unwrap_or_default()
    };
    let cases = [
        (json!({"gatewayRefs": null}), "spec.service.gatewayRefs"),
        (json!({"appProtocol": "TCP"}), "spec.service.appProtocol"),
        (json!({"delegation": true}), "spec.service.delegation"),
        (json!({"hosts": ["a", "App"]}), "spec.service.hosts[1]"),
        (json!({"timeout": "1.5s"}), "spec.service.timeout"),
        (json!({"timeout": "1s", "backendTimeout": "2s"}), "spec.service.backendTimeout"),
        (json!({"match": [{"withoutHeaders": {"a": {"exact": "b"}}}]}), "spec.service.match[0].withoutHeaders"),
        (json!({"match": [{"sourceLabels": {"a": "b"}}]}), "spec.service.match[0].sourceLabels"),
        (json!({"rewrite": {"uri": "/", "type": "ReplacePrefixMatch"}}), "spec.service.rewrite.type"),
        (json!({"mirror": [{}]}), "spec.service.mirror[0].backendRef"),
        (json!({"corsPolicy": {"allowOrigins": [{"regex": ".*"}]}}), "spec.service.corsPolicy.allowOrigins[0]"),
        (json!({"corsPolicy": {"maxAge": "soon"}}), "spec.service.corsPolicy.maxAge"),
    ];
    for (extra, path) in cases {
        assert_eq!(refusal(extra.clone()), path, "{extra}");
    }
    assert_eq!(refusal(json!({"timeout": "0s", "backendTimeout": "2s"})), "");
}
