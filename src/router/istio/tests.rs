//! Rendered, written, read back.

use std::collections::BTreeMap;

use crate::model::{Affinity, Cookie, NamespacedName, Rule, Split, Sticky};
use crate::workload::Owner;

use super::super::Seen;
use super::*;

/// Objects that were "written", with a resourceVersion.
#[derive(Default)]
struct Live(BTreeMap<(RouteKind, String), Value>);

impl LiveRoutes for Live {
    fn get(&self, kind: RouteKind, name: &str) -> Option<Value> {
        self.0.get(&(kind, name.to_owned())).cloned()
    }

    fn find(&self, _kind: RouteKind, _key: &NamespacedName) -> Seen {
        Seen::Hidden
    }
}

impl Live {
    fn write(&mut self, kind: RouteKind, mut object: Value) {
        object["metadata"]["resourceVersion"] = json!("7");
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        self.0.insert((kind, name), object);
    }
}

fn owner() -> Owner {
    Owner { name: "podinfo".into(), uid: "u1".into() }
}

fn spec(extra: Value) -> CanaryService {
    let mut spec = json!({"port": 9898, "targetPort": 9898, "gateways": ["public-gateway.istio-system.svc.cluster.local"],
        "hosts": ["*"], "trafficPolicy": {"tls": {"mode": "DISABLE"}},
        "retries": {"attempts": 3, "perTryTimeout": "1s", "retryOn": "gateway-error"}});
    json_patch::merge(&mut spec, &extra);
    serde_json::from_value(spec).unwrap()
}

fn request<'a>(spec: &'a CanaryService, owner: &'a Owner) -> RouteRequest<'a> {
    let (namespace, service, target) = ("test", "podinfo", "podinfo");
    RouteRequest { namespace, service, spec, owner, target, predecessor: None, pods: None }
}

fn written(request: &RouteRequest<'_>, routing: &Routing) -> Live {
    let mut live = Live::default();
    for (kind, object) in render(request, routing) {
        live.write(kind, object);
    }
    live
}

#[test]
fn renders_the_seeds_canary_as_flagger_does() {
    let (spec, owner) = (spec(json!({})), owner());
    let objects = render(&request(&spec, &owner), &Routing::candidate_percent(10));
    assert_eq!(
        objects[0].1["spec"],
        json!({"host": "podinfo-primary", "trafficPolicy": {"tls": {"mode": "DISABLE"}}})
    );
    assert_eq!(
        objects[2].1["spec"],
        json!({
            "hosts": ["*"],
            "gateways": ["public-gateway.istio-system.svc.cluster.local"],
            "http": [{
                "retries": {"attempts": 3, "perTryTimeout": "1s", "retryOn": "gateway-error"},
                "route": [
                    {"destination": {"host": "podinfo-primary"}, "weight": 90},
                    {"destination": {"host": "podinfo-canary"}, "weight": 10},
                ],
            }],
        })
    );
}

#[test]
fn hosts_and_gateways_default_to_the_mesh() {
    let (spec, owner) = (spec(json!({"hosts": ["a.example"], "gateways": null, "portDiscovery": true})), owner());
    let objects = render(&request(&spec, &owner), &Routing::default());
    assert_eq!(objects[2].1["spec"]["hosts"], json!(["a.example", "podinfo"]));
    assert_eq!(objects[2].1["spec"]["gateways"], json!(["mesh"]));
    assert_eq!(objects[2].1["spec"]["http"][0]["route"][0]["destination"], json!({"host": "podinfo-primary"}));
}

#[test]
fn weights_are_read_back_and_drift_elsewhere_keeps_them() {
    let (first, owner) = (spec(json!({})), owner());
    let thirty = Routing::candidate_percent(30);
    let live = written(&request(&first, &owner), &thirty);
    assert_eq!(
        Istio.read(&request(&first, &owner), &live),
        RouteObserved::Present { routing: thirty.clone(), current: true, unaccepted: None }
    );
    let edited = spec(json!({"timeout": "15s"}));
    assert_eq!(
        Istio.read(&request(&edited, &owner), &live),
        RouteObserved::Present { routing: thirty, current: false, unaccepted: None }
    );
}

#[test]
fn a_missing_rule_or_destination_is_drift_and_a_foreign_route_is_not_touched() {
    let (spec, owner) = (spec(json!({})), owner());
    let request = request(&spec, &owner);
    assert_eq!(Istio.read(&request, &Live::default()), RouteObserved::Missing);
    let mut live = written(&request, &Routing::default());
    live.0.remove(&(DESTINATION_RULE, "podinfo-canary".to_owned()));
    assert_eq!(
        Istio.read(&request, &live),
        RouteObserved::Present { routing: Routing::default(), current: false, unaccepted: None }
    );
    let stranger = Owner { uid: "u2".into(), ..owner.clone() };
    let foreign = RouteRequest { owner: &stranger, ..request };
    assert!(matches!(Istio.read(&foreign, &live), RouteObserved::Unusable(_)));
}

#[test]
fn what_a_deleted_canary_left_is_taken_up_by_the_next_one() {
    let (spec, owner) = (spec(json!({})), owner());
    let request = request(&spec, &owner);
    let (kind, mut left) = Istio.hand_back(&request).remove(0);
    assert_eq!(left["spec"]["http"][0]["route"], json!([{"destination": {"host": "podinfo"}}]));
    let target = json!({"metadata": {"name": "podinfo", "uid": "d1"}});
    left["metadata"]["ownerReferences"] = json!([crate::workload::left_to(&target)]);
    let mut live = Live::default();
    live.write(kind, left);
    assert_eq!(Istio.read(&request, &live), RouteObserved::Missing);
    let other = RouteRequest { target: "backend", ..request };
    assert!(matches!(Istio.read(&other, &live), RouteObserved::Unusable(_)));
    let heir = RouteRequest { target: "backend", predecessor: Some("podinfo"), ..request };
    assert_eq!(Istio.read(&heir, &live), RouteObserved::Missing);
}

#[test]
fn a_change_brings_the_route_to_the_routing_and_is_guarded_by_what_it_was_based_on() {
    let (spec, owner) = (spec(json!({})), owner());
    let request = request(&spec, &owner);
    let live = written(&request, &Routing::default());
    assert_eq!(Istio.write(&request, &live, &Routing::default()), []);
    let changes = Istio.write(&request, &live, &Routing::candidate_percent(20));
    let [Change::Merge { kind, patch, .. }] = &changes[..] else { panic!("{changes:?}") };
    assert_eq!((*kind, &patch["metadata"]["resourceVersion"]), (VIRTUAL_SERVICE, &json!("7")));
    let mut object = live.get(VIRTUAL_SERVICE, "podinfo").unwrap();
    json_patch::merge(&mut object, patch);
    assert_eq!(rules::read(&request, &object["spec"]["http"]), Routing::candidate_percent(20));
}

fn cookie(name: &str) -> Cookie {
    Cookie { name: name.into(), value: "qwertzuiop".into(), max_age: 60, attributes: "; Path=/; Secure".into() }
}

/// Routings of every kind.
fn routings() -> Vec<Routing> {
    let rule = |name: &str, percent: u8| Rule {
        name: name.into(),
        when: vec![json!({"headers": {"x-canary": {"exact": "insider"}}, "uri": {"prefix": "/api"}})],
        split: Split::candidate_percent(percent),
    };
    let affinity = |stable| Box::new(Affinity { candidate: cookie("side"), stable });
    let percent = Routing::candidate_percent;
    vec![
        percent(0),
        percent(37),
        percent(100),
        Routing::all(Split::default().mirrored(100)),
        Routing::all(Split::candidate_percent(10).mirrored(25)),
        Routing { rules: vec![rule("podinfo-ab", 100)], ..percent(0) },
        Routing { rules: vec![rule("one", 100), rule("two", 30)], ..percent(5) },
        Routing { sticky: Sticky::Issue(affinity(None)), ..percent(20) },
        Routing { sticky: Sticky::Issue(affinity(Some(cookie("first-side")))), ..percent(20) },
        Routing { sticky: Sticky::Withdraw(cookie("side").over()), ..percent(0) },
        Routing::all(Split::candidate_percent(10).with_extra("experiment", 5)),
    ]
}

/// Services of every kind.
fn specs() -> Vec<CanaryService> {
    let headers = json!({"request": {"add": {"x-trace": "1"}}, "response": {"add": {"x-served": "mesh"}}});
    [
        json!({}),
        json!({"match": [{"uri": {"prefix": "/api"}}, {"uri": {"exact": "/"}, "method": {"exact": "GET"}}]}),
        json!({"headers": headers, "timeout": "15s", "rewrite": {"uri": "/"}, "corsPolicy": {"allowMethods": ["GET"]}}),
        json!({"portDiscovery": true}),
        json!({"delegation": true, "hosts": null, "gateways": null}),
    ]
    .map(spec)
    .into()
}

#[test]
fn every_routing_is_read_as_it_was_written() {
    let owner = owner();
    for spec in specs() {
        let request = request(&spec, &owner);
        for routing in routings() {
            let live = written(&request, &routing);
            let expected = RouteObserved::Present { routing: routing.clone(), current: true, unaccepted: None };
            assert_eq!(Istio.read(&request, &live), expected, "{routing}");
        }
    }
}

#[test]
fn d7_a_changed_spec_keeps_every_routing() {
    let (owner, before, after) = (owner(), spec(json!({})), spec(json!({"timeout": "15s"})));
    for routing in routings() {
        let live = written(&request(&before, &owner), &routing);
        let expected = RouteObserved::Present { routing: routing.clone(), current: false, unaccepted: None };
        assert_eq!(Istio.read(&request(&after, &owner), &live), expected, "{routing}");
    }
}

#[test]
fn a_bent_route_is_never_taken_for_a_wanted_one() {
    let (spec, owner) = (spec(json!({})), owner());
    let request = request(&spec, &owner);
    let primary = json!({"destination": {"host": "podinfo-primary"}, "weight": 100});
    let canary = |weight: u64| json!({"destination": {"host": "podinfo-canary"}, "weight": weight});
    let bends = [
        json!([]),
        json!([{"redirect": {"uri": "/elsewhere"}}]),
        json!([{"route": [{"destination": {"host": "podinfo-primary"}, "weight": 0}, canary(0)]}]),
        json!([{"route": [{"destination": {"host": "stranger.other.svc.cluster.local"}}]}]),
        json!([{"route": [{"destination": {"host": "podinfo-canary.other"}}]}]),
        json!([{"match": [{"uri": {"prefix": "/new"}}], "route": [canary(100)]}, {"route": [primary]}]),
        json!([{"route": [primary], "mirror": {"host": "podinfo-canary"}}]),
        json!([{"route": [primary], "mirrors": [{"destination": {"host": "podinfo-canary.test"}}]}]),
        json!([{"route": [primary, canary(1)]}]),
        json!([{"route": [canary(100)]}, {"route": [primary]}]),
        json!([{"name": "serin-sticky-canary", "match": [{"headers": {}}], "route": [canary(1)]}, {"route": [primary]}]),
    ];
    for bent in bends {
        let read = rules::read(&request, &bent);
        assert_ne!(read, Routing::default(), "{bent}");
        assert!(read.exposes(), "{bent} is read as {read}");
    }
    // Other ways to write the same.
    for same in [
        json!([{"route": [{"destination": {"host": "podinfo-primary.test.svc.cluster.local"}}]}]),
        json!([{"route": [{"destination": {"host": "podinfo-primary"}, "weight": 1}, canary(0)]}]),
        json!([{"route": [primary]}, {"match": [{"uri": {"prefix": "/never"}}], "route": [canary(100)]}]),
    ] {
        assert_eq!(rules::read(&request, &same), Routing::default(), "{same}");
    }
}

#[test]
fn cookies_pin_users_to_their_side_and_the_last_one_is_withdrawn() {
    let (spec, owner) = (spec(json!({"match": [{"uri": {"prefix": "/a"}}], "retries": null})), owner());
    let request = request(&spec, &owner);
    let affinity = Box::new(Affinity { candidate: cookie("s.de"), stable: None });
    let http =
        rules::write(&request, &Routing { sticky: Sticky::Issue(affinity), ..Routing::candidate_percent(10) });
    assert_eq!(
        json!(http),
        json!([
            {
                "name": "serin-sticky-canary",
                "match": [{"uri": {"prefix": "/a"}, "headers": {"cookie": {"regex": r"(.*;)? ?s\.de=qwertzuiop(;.*)?"}}}],
                "route": [
                    {"destination": {"host": "podinfo-primary"}, "weight": 0},
                    {"destination": {"host": "podinfo-canary"}, "weight": 100},
                ],
            },
            {
                "match": [{"uri": {"prefix": "/a"}}],
                "route": [
                    {"destination": {"host": "podinfo-primary"}, "weight": 90},
                    {"destination": {"host": "podinfo-canary"}, "weight": 10, "headers": {"response": {"add": {
                        "Set-Cookie": "s.de=qwertzuiop; Max-Age=60; Path=/; Secure"}}}},
                ],
            },
        ])
    );
    let over = Routing { sticky: Sticky::Withdraw(cookie("s.de").over()), ..Routing::default() };
    let http = rules::write(&request, &over);
    assert_eq!(
        http[0]["headers"],
        json!({"response": {"add": {"Set-Cookie": "s.de=qwertzuiop; Max-Age=-1; Path=/; Secure"}}})
    );
    assert!(http[0]["route"][1]["weight"] == 0 && http[1].get("headers").is_none());
}

#[test]
fn a_policy_of_somebody_else_is_not_taken_for_want_of_a_route() {
    let (spec, owner) = (spec(json!({})), owner());
    let request = request(&spec, &owner);
    let mut live = Live::default();
    assert_eq!(Istio.read(&request, &live), RouteObserved::Missing);
    let theirs = json!({"metadata": {"name": "podinfo-primary"}, "spec": {"host": "other"}});
    live.write(DESTINATION_RULE, theirs);
    let RouteObserved::Unusable(why) = Istio.read(&request, &live) else { panic!("it would be written") };
    assert!(why.starts_with("DestinationRule test/podinfo-primary is not owned by Canary podinfo"), "{why}");
}
