//! Decisions from plain objects.

use http::{HeaderMap, Method, Uri};
use serde_json::json;

use super::*;

fn service(name: &str, ports: &[u16]) -> Change {
    let ports: Vec<Value> = ports.iter().map(|port| json!({"name": format!("p{port}"), "port": port})).collect();
    let object = json!({"metadata": {"namespace": "test", "name": name}, "spec": {"ports": ports}});
    Change::Apply(Kind::Service, object)
}

fn virtual_service(spec: Value) -> Change {
    Change::Apply(
        Kind::VirtualService,
        json!({"metadata": {"namespace": "test", "name": "podinfo"}, "spec": spec}),
    )
}

fn gateway(hosts: &[&str]) -> Change {
    let object = json!({"metadata": {"namespace": "istio-system", "name": "public-gateway"}, "spec": {
        "servers": [{"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": hosts}]
    }});
    Change::Apply(Kind::Gateway, object)
}

/// As the router generates it, at a canary weight.
fn generated(canary: u32) -> Value {
    json!({
        "gateways": ["public-gateway.istio-system.svc.cluster.local"],
        "hosts": ["*", "podinfo"],
        "http": [{
            "retries": {"attempts": 3, "perTryTimeout": "1s", "retryOn": "gateway-error,connect-failure"},
            "timeout": "15s",
            "route": [
                {"destination": {"host": "podinfo-primary"}, "weight": 100 - canary},
                {"destination": {"host": "podinfo-canary"}, "weight": canary}
            ]
        }]
    })
}

fn world(spec: Value) -> Routes {
    let mut routes = Routes::default();
    for name in ["podinfo", "podinfo-primary", "podinfo-canary"] {
        routes.apply(service(name, &[9898]));
    }
    routes.apply(gateway(&["*"]));
    routes.apply(virtual_service(spec));
    routes
}

const MESH_TEST: Entry<'static> = Entry::Mesh { namespace: "test" };

fn ask(routes: &Routes, entry: Entry<'_>, authority: &str, uri: &str) -> Result<Route, NoRoute> {
    let (uri, headers): (Uri, _) = (uri.parse().unwrap(), HeaderMap::new());
    let head = Head { authority, method: &Method::GET, uri: &uri, headers: &headers };
    routes.route(entry, head, &mut fastrand::Rng::with_seed(1))
}

#[test]
fn weights_are_kept_in_proportion() {
    let routes = world(generated(30));
    let (uri, headers) = (Uri::from_static("/"), HeaderMap::new());
    let mut random = fastrand::Rng::with_seed(7);
    let canary = (0..10_000)
        .filter(|_| {
            let head = Head { authority: "app.example.com", method: &Method::GET, uri: &uri, headers: &headers };
            let route = routes.route(Entry::Ingress, head, &mut random).unwrap();
            assert_eq!((route.port, route.timeout), (9898, Some(Duration::from_secs(15))));
            route.service.name == "podinfo-canary"
        })
        .count();
    assert!((2_850..=3_150).contains(&canary), "30 % of 10,000 is {canary}");
    for (weight, side) in [(0, "podinfo-primary"), (100, "podinfo-canary")] {
        let route = ask(&world(generated(weight)), Entry::Ingress, "any", "/").unwrap();
        assert_eq!(route.service.name, side, "at weight {weight}");
    }
}

#[test]
fn rules_bind_to_gateways_and_mesh() {
    let routes = world(generated(100));
    let direct = ask(&routes, MESH_TEST, "podinfo:9898", "/").unwrap();
    assert_eq!(direct.service.name, "podinfo", "a rule of a Gateway does not bind the mesh");

    let mut spec = generated(100);
    spec["gateways"] = json!(["istio-system/public-gateway", "mesh"]);
    spec["hosts"] = json!(["app.example.com", "podinfo"]);
    let routes = world(spec);
    for host in ["podinfo:9898", "podinfo.test:9898", "podinfo.test.svc.cluster.local:9898"] {
        assert_eq!(ask(&routes, MESH_TEST, host, "/").unwrap().service.name, "podinfo-canary", "{host}");
    }
    let elsewhere = ask(&routes, Entry::Mesh { namespace: "other" }, "podinfo:9898", "/");
    assert_eq!(elsewhere, Err(NoRoute::NoService { service: NamespacedName::new("other", "podinfo") }));
    assert!(ask(&routes, Entry::Ingress, "app.example.com", "/").is_ok());
    assert!(matches!(ask(&routes, Entry::Ingress, "other.example.com", "/"), Err(NoRoute::Ingress { .. })));
}

#[test]
fn a_gateway_serves_its_hosts_only() {
    let mut routes = world(generated(100));
    routes.apply(gateway(&["./*.example.com"]));
    assert!(ask(&routes, Entry::Ingress, "a.example.com", "/").is_err(), "./ is the Gateway's own namespace");
    routes.apply(gateway(&["test/*.example.com"]));
    assert!(ask(&routes, Entry::Ingress, "a.example.com", "/").is_ok());
    assert!(ask(&routes, Entry::Ingress, "example.org", "/").is_err());
    routes.apply(Change::Delete(Kind::Gateway, NamespacedName::new("istio-system", "public-gateway")));
    assert!(ask(&routes, Entry::Ingress, "a.example.com", "/").is_err());
}

#[test]
fn the_first_matching_rule_wins_and_rewrites() {
    let routes = world(json!({
        "hosts": ["podinfo"],
        "http": [
            {"match": [{"uri": {"prefix": "/api/"}, "method": {"exact": "POST"}}],
             "route": [{"destination": {"host": "podinfo-primary"}}]},
            {"match": [{"uri": {"prefix": "/api/"}}, {"uri": {"regex": "/v[0-9]+"}}], "rewrite": {"uri": "/", "authority": "in"},
             "route": [{"destination": {"host": "podinfo-canary"}}]}
        ]
    }));
    let route = ask(&routes, MESH_TEST, "podinfo:9898", "/api/x?y=1").unwrap();
    assert_eq!((route.service.name.as_str(), route.path.as_str()), ("podinfo-canary", "/x?y=1"));
    assert_eq!(route.authority.as_deref(), Some("in"));
    assert_eq!(ask(&routes, MESH_TEST, "podinfo:9898", "/v12").unwrap().path, "/");
    assert!(matches!(ask(&routes, MESH_TEST, "podinfo:9898", "/v12/"), Err(NoRoute::Unmatched { .. })));
}

#[test]
fn what_cannot_be_obeyed_is_named() {
    let mut spec = generated(10);
    spec["http"][0]["fault"] = json!({"abort": {}});
    let error = ask(&world(spec), Entry::Ingress, "any", "/").unwrap_err().to_string();
    assert!(error.contains("test/podinfo") && error.contains("fault is not supported"), "{error}");

    let mut spec = generated(10);
    spec["http"][0]["route"][0]["destination"]["subset"] = json!("v1");
    let error = ask(&world(spec), Entry::Ingress, "any", "/").unwrap_err().to_string();
    assert!(error.contains("subset"), "{error}");
}

#[test]
fn ports_have_to_exist() {
    let mut routes = world(generated(10));
    assert!(matches!(ask(&routes, MESH_TEST, "podinfo", "/"), Err(NoRoute::NoPort { port: 80, .. })));
    assert!(matches!(ask(&routes, MESH_TEST, "example.com", "/"), Err(NoRoute::Unknown { .. })));
    routes.apply(service("podinfo-primary", &[9898, 9999]));
    routes.apply(virtual_service(generated(0)));
    assert!(matches!(ask(&routes, Entry::Ingress, "any", "/"), Err(NoRoute::AmbiguousPort { .. })));
}

#[test]
fn endpoints_are_the_ready_ones_of_the_port() {
    let mut routes = world(generated(10));
    let slice = |ready: bool| {
        Change::Apply(
            Kind::EndpointSlice,
            json!({
                "metadata": {"namespace": "test", "name": "s", "labels": {"kubernetes.io/service-name": "podinfo"}},
                "ports": [{"name": "other", "port": 1}, {"name": "p9898", "port": 8080}],
                "endpoints": [
                    {"addresses": ["10.0.0.1"], "conditions": {"ready": true}},
                    {"addresses": ["10.0.0.2"], "conditions": {"ready": ready}}
                ]
            }),
        )
    };
    let podinfo = NamespacedName::new("test", "podinfo");
    let endpoint = |ip: &str| Endpoint { ip: ip.to_owned(), port: 8080 };
    assert_eq!(routes.endpoints(&podinfo, 9898), []);
    routes.apply(slice(true));
    assert_eq!(routes.endpoints(&podinfo, 9898), [endpoint("10.0.0.1"), endpoint("10.0.0.2")]);
    routes.apply(slice(false));
    assert_eq!(routes.endpoints(&podinfo, 9898), [endpoint("10.0.0.1")]);
    routes.apply(Change::Replace(Kind::EndpointSlice, Vec::new()));
    assert_eq!(routes.endpoints(&podinfo, 9898), []);
}

#[test]
fn a_rule_may_leave_the_way_to_another_virtual_service() {
    let mut routes = world(json!({"http": generated(100)["http"]}));
    let root = |spec: Value| {
        let object = json!({"metadata": {"namespace": "test", "name": "root"}, "spec": spec});
        Change::Apply(Kind::VirtualService, object)
    };
    let delegating = |name: &str| {
        json!({
            "gateways": ["istio-system/public-gateway"], "hosts": ["*"],
            "http": [{"match": [{"uri": {"prefix": "/podinfo"}}], "rewrite": {"uri": "/"}, "delegate": {"name": name}}]
        })
    };
    routes.apply(root(delegating("podinfo")));
    let route = ask(&routes, Entry::Ingress, "any", "/podinfo").unwrap();
    assert_eq!((route.service.name.as_str(), route.path.as_str()), ("podinfo-canary", "/"));
    assert!(matches!(ask(&routes, Entry::Ingress, "any", "/else"), Err(NoRoute::Unmatched { .. })));
    for (name, reason) in [("gone", "test/gone does not exist"), ("root", "test/root delegates again")] {
        routes.apply(root(delegating(name)));
        let error = ask(&routes, Entry::Ingress, "any", "/podinfo").unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}
