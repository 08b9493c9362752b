use super::*;
use crate::workload::Owner;

/// What a set is made from.
struct Made {
    spec: CanaryService,
    owner: Owner,
    sides: Sides,
    target: Labels,
    ports: Vec<(String, i32)>,
}

impl Made {
    fn request(&self) -> RouteRequest<'_> {
        let Self { spec, owner, .. } = self;
        let (namespace, service, target, pods) = ("test", "web", "podinfo", Some(self.pods()));
        RouteRequest { namespace, service, spec, owner, target, predecessor: None, pods }
    }

    fn pods(&self) -> Pods<'_> {
        let Self { sides, target, ports, .. } = self;
        Pods { sides, target, primary: None, ports }
    }

    fn set(&self, live_apex: Option<&Value>) -> ServiceSet {
        services(&self.request(), self.pods(), live_apex, Leads::Stable)
    }

    fn update(&self, desired: &Value, live: &Value) -> Option<Update> {
        ServiceSet::update(&self.request(), self.pods(), desired, live)
    }
}

fn made(spec: Value) -> Made {
    made_of(spec, json!({"app": "podinfo"}), json!({"app": "podinfo", "tier": "web", "team": "a"}))
}

fn made_of(spec: Value, selector: Value, pods: Value) -> Made {
    let target = json!({"metadata": {"name": "podinfo"}, "spec": {"selector": {"matchLabels": selector}}});
    Made {
        spec: serde_json::from_value(spec).unwrap(),
        owner: Owner { name: "podinfo".into(), uid: "u".into() },
        sides: Sides::of(&target, &["app".to_owned()]).unwrap(),
        target: Labels::of(&pods),
        ports: Vec::new(),
    }
}

#[test]
fn each_service_selects_its_side_by_the_whole_selector() {
    let mut made =
        made(json!({"port": 80, "targetPort": "http", "portDiscovery": true, "apex": {"labels": {"team": "a"}}}));
    made.ports = vec![("http".to_owned(), 9898), ("grpc".to_owned(), 9999)];
    let ServiceSet { apex, primary, canary } = made.set(None);
    assert_eq!(apex["spec"]["selector"], json!({"app": "podinfo-primary"}));
    assert_eq!(primary["spec"]["selector"], json!({"app": "podinfo-primary"}));
    assert_eq!(canary["spec"]["selector"], json!({"app": "podinfo"}));
    assert_eq!(apex["metadata"]["labels"], json!({"app": "web", "team": "a"}));
    assert_eq!(
        canary["spec"]["ports"],
        json!([
            {"name": "http", "protocol": "TCP", "port": 80, "targetPort": "http"},
            {"name": "grpc", "protocol": "TCP", "port": 9999, "targetPort": 9999},
        ])
    );

    let both = json!({"app": "store", "part": "web"});
    let made = made_of(json!({"port": 80}), both.clone(), both);
    let ServiceSet { apex, canary, .. } = made.set(None);
    assert_eq!(apex["spec"]["selector"], json!({"app": "store-primary", "part": "web"}));
    assert_eq!(canary["spec"]["selector"], json!({"app": "store", "part": "web"}));
    // A primary that was made by its first label alone.
    let old = Labels::of(&json!({"app": "store-primary"}));
    let pods = Pods { primary: Some(&old), ..made.pods() };
    let apex = services(&made.request(), pods, None, Leads::Stable).apex;
    assert_eq!(apex["spec"]["selector"], json!({"app": "store-primary"}));
}

#[test]
fn discovered_ports_never_clash() {
    let mut made = made(json!({"port": 80, "targetPort": 8080, "portDiscovery": true}));
    let long = format!("tcp-{}-0", "a".repeat(63));
    let ports = [("http", 9898), ("admin", 80), ("web", 8080), ("grpc", 9999), ("again", 9999), (&long, 7777)];
    made.ports = ports.map(|(name, number)| (name.to_owned(), number)).to_vec();
    let apex = made.set(None).apex;
    let found = apex["spec"]["ports"].as_array().unwrap().iter();
    let found: Vec<_> =
        found.map(|port| (port["name"].as_str().unwrap(), port["port"].as_i64().unwrap())).collect();
    assert_eq!(found, [("http", 80), ("tcp-9898", 9898), ("grpc", 9999), ("tcp-7777", 7777)]);
}

#[test]
fn what_the_api_server_fills_in_is_no_drift() {
    let made = made(json!({"port": 9898}));
    let desired = made.set(None).apex;
    let mut live = desired.clone();
    json_patch::merge(
        &mut live,
        &json!({"metadata": {"resourceVersion": "3"}, "spec": {"clusterIP": "10.0.0.1",
        "sessionAffinity": "None", "ports": [{"name": "http", "port": 9898, "targetPort": 9898, "protocol": "TCP", "nodePort": 30001}]}}),
    );
    assert_eq!(made.update(&desired, &live), None);
}

#[test]
fn fields_that_come_and_go_later_reach_a_generated_service() {
    let plain = made(json!({"port": 9898}));
    let near = made(json!({"port": 9898, "trafficDistribution": "PreferClose"}));
    let mut live = plain.set(None).apex;
    live["metadata"]["resourceVersion"] = json!("3");
    for (wanted, becomes) in [(&near, json!("PreferClose")), (&plain, Value::Null)] {
        let desired = wanted.set(None).apex;
        let Some(Update::Merge(patch)) = wanted.update(&desired, &live) else { panic!("no patch") };
        json_patch::merge(&mut live, &patch);
        assert_eq!(live["spec"]["trafficDistribution"], becomes);
        assert_eq!(wanted.update(&desired, &live), None);
    }
    let headless = made(json!({"port": 9898, "headless": true}));
    assert!(ServiceSet::fixed(&headless.request(), &live).unwrap().contains("headless"));
    assert_eq!(ServiceSet::fixed(&plain.request(), &live), None);
}

#[test]
fn a_users_service_keeps_everything_but_selector_and_ports() {
    let made = made(json!({"port": 9898}));
    let live = json!({"metadata": {"name": "web", "resourceVersion": "3", "labels": {"own": "1"}},
        "spec": {"type": "NodePort", "selector": {"app": "podinfo", "tier": "web", "pod": "other"},
            "ports": [{"name": "web", "port": 9898, "nodePort": 30001}, {"name": "grpc", "port": 9999}]}});
    let set = made.set(Some(&live));
    let Some(Update::Apply(applied)) = made.update(&set.apex, &live) else { panic!("no apply") };
    assert_eq!(
        applied["spec"],
        json!({"selector": {"app": "podinfo-primary", "tier": "web"},
            "ports": [{"name": "web", "protocol": "TCP", "port": 9898, "targetPort": 9898}]}),
        "what primary's pods carry stays, the port keeps its name"
    );
    assert_eq!(applied["metadata"], json!({"name": "web", "namespace": "test", "resourceVersion": "3"}));
    // A client of the further port reaches both sides of a route.
    let further = json!({"name": "grpc", "port": 9999});
    for side in [&set.primary, &set.canary] {
        assert!(side["spec"]["ports"].as_array().unwrap().contains(&further), "{side}");
    }
    assert!(!set.apex["spec"]["ports"].as_array().unwrap().contains(&further), "it stays the user's");
}

#[test]
fn equal_values_are_taken_too_and_once() {
    let made = made(json!({"port": 9898}));
    let (request, pods) = (made.request(), made.pods());
    let desired = made.set(None).apex;
    let mut live = desired.clone();
    live["metadata"] = json!({"name": "web", "resourceVersion": "3"});
    assert_eq!(made.update(&desired, &live), None);
    assert!(ServiceSet::take(&request, pods, &desired, &live).is_some(), "nobody's");
    live["metadata"]["managedFields"] = json!([{"manager": "serin-engine", "operation": "Apply", "fieldsV1":
        {"f:spec": {"f:selector": {}, "f:ports": {r#"k:{"port":9898,"protocol":"TCP"}"#: {}}}}}]);
    assert_eq!(ServiceSet::take(&request, pods, &desired, &live), None);
}

#[test]
fn names_of_ports_never_clash_with_a_users() {
    let live = json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "podinfo"},
        "ports": [{"name": "http", "port": 80}, {"name": "dns", "port": 9898, "protocol": "UDP"}]}});
    for (spec, name) in [
        (json!({"port": 9898}), "http-9898"),
        (json!({"port": 9898, "portName": "dns"}), "dns-9898"),
        (json!({"port": 80, "portName": "web"}), "web"),
        (json!({"port": 80}), "http"),
    ] {
        let made = made(spec);
        let Some(Update::Apply(applied)) = made.update(&made.set(Some(&live)).apex, &live) else {
            panic!("no apply")
        };
        assert_eq!(applied["spec"]["ports"][0]["name"], name);
    }
}

#[test]
fn only_a_service_of_the_target_is_taken() {
    let made = made(json!({"port": 9898}));
    let refusal = |spec: Value| {
        let live = json!({"metadata": {"name": "web"}, "spec": spec});
        ServiceSet::refuse(&made.request(), made.pods(), &live)
    };
    let named = json!([{"name": "x", "port": 80}]);
    assert_eq!(refusal(json!({"selector": {"app": "podinfo"}, "ports": named})), None);
    assert_eq!(refusal(json!({"selector": {"tier": "web", "team": "a"}, "ports": named})), None);
    assert_eq!(
        refusal(json!({"selector": {"app": "podinfo-primary"}, "ports": named})),
        None,
        "as Flagger left it"
    );
    let others = refusal(json!({"selector": {"app": "payments"}, "ports": named})).unwrap();
    assert!(others.starts_with("Service test/web selects the pods with app=payments, not those of"), "{others}");
    assert!(refusal(json!({"selector": {"app": "podinfo", "tier": "db"}})).is_some());
    for none in [json!({"type": "ExternalName", "externalName": "x"}), json!({"selector": {}, "ports": named})] {
        assert!(refusal(none).unwrap().contains("selects no pods"));
    }
    let unnamed = json!({"selector": {"app": "podinfo"}, "ports": [{"port": 80}]});
    assert!(refusal(unnamed).unwrap().contains("port 80 without a name"));
    assert_eq!(refusal(json!({"selector": {"app": "podinfo"}, "ports": [{"port": 9898}]})), None, "the same port");
}

#[test]
fn handed_back_it_selects_the_targets_pods_by_the_whole_selector() {
    let both = json!({"app": "store", "part": "web"});
    let made = made_of(json!({"port": 80}), both.clone(), both.clone());
    let (request, pods) = (made.request(), made.pods());
    let mut live = made.set(None).apex;
    live["metadata"]["resourceVersion"] = json!("3");
    let Some(Update::Merge(patch)) = ServiceSet::hand_back(&request, pods, &live) else { panic!("no patch") };
    json_patch::merge(&mut live, &patch);
    assert_eq!(live["spec"]["selector"], both);
    assert_eq!(ServiceSet::hand_back(&request, pods, &live), None);

    live["metadata"] = json!({"name": "web"});
    live["spec"]["selector"] = json!({"app": "store-primary", "part": "web"});
    let Some(Update::Apply(applied)) = ServiceSet::hand_back(&request, pods, &live) else { panic!("no apply") };
    assert_eq!(applied["spec"]["selector"], both);
}
