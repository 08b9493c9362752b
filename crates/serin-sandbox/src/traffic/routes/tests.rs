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

const MESH_TEST: Entry<'static> = Entry::Mesh { namespace: "test", labels: None };

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
    let elsewhere = ask(&routes, Entry::Mesh { namespace: "other", labels: None }, "podinfo:9898", "/");
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

/// A Gateway API Gateway with one listener.
fn listeners(from: &str, hostname: Option<&str>) -> Change {
    let listener = json!({"name": "http", "port": 80, "protocol": "HTTP", "hostname": hostname,
        "allowedRoutes": {"namespaces": {"from": from}}});
    let object = json!({"metadata": {"namespace": "ingress", "name": "public", "generation": 2},
        "spec": {"listeners": [listener]}});
    Change::Apply(Kind::Listeners, object)
}

fn http_route(name: &str, spec: Value) -> Change {
    let metadata =
        json!({"namespace": "test", "name": name, "generation": 3, "creationTimestamp": "2026-01-01T00:00:00Z"});
    let mut object =
        json!({"metadata": metadata, "spec": {"parentRefs": [{"name": "public", "namespace": "ingress"}]}});
    json_patch::merge(&mut object["spec"], &spec);
    Change::Apply(Kind::HttpRoute, object)
}

fn to(name: &str) -> Value {
    json!([{"name": name, "port": 9898}])
}

fn attached(changes: Vec<Change>) -> Routes {
    let mut routes = Routes::default();
    for name in ["podinfo", "podinfo-primary", "podinfo-canary"] {
        routes.apply(service(name, &[9898]));
    }
    for change in changes {
        routes.apply(change);
    }
    routes
}

/// The Service that a request with these headers reaches.
fn reached(
    routes: &Routes,
    authority: &str,
    uri: &str,
    headers: &[(&'static str, &str)],
) -> Result<Route, NoRoute> {
    let uri: Uri = uri.parse().unwrap();
    let headers: HeaderMap = headers
        .iter()
        .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()))
        .collect();
    let head = Head { authority, method: &Method::GET, uri: &uri, headers: &headers };
    routes.route(Entry::Ingress, head, &mut fastrand::Rng::with_seed(1))
}

#[test]
fn the_rule_of_an_http_route_that_matches_most_closely_decides() {
    let path = |kind: &str, value: &str| json!({"path": {"type": kind, "value": value}});
    let with_header = json!({"path": {"value": "/"}, "headers": [{"name": "x-canary", "value": "insider"}]});
    let cookie =
        json!({"headers": [{"name": "cookie", "type": "RegularExpression", "value": "(.*;)? ?side=a(;.*)?"}]});
    let rules = json!([
        {"backendRefs": to("podinfo-primary")},
        {"matches": [with_header, cookie], "backendRefs": to("podinfo-canary")},
        {"matches": [path("PathPrefix", "/api")], "backendRefs": to("podinfo")},
        {"matches": [path("Exact", "/api/v1")], "backendRefs": to("podinfo-canary")},
    ]);
    let routes = attached(vec![listeners("All", None), http_route("podinfo", json!({"rules": rules}))]);
    for (uri, headers, service) in [
        ("/", &[][..], "podinfo-primary"),
        ("/apis", &[], "podinfo-primary"),
        ("/api", &[], "podinfo"),
        ("/api/v2", &[], "podinfo"),
        ("/api/v1", &[], "podinfo-canary"),
        ("/", &[("x-canary", "insider")], "podinfo-canary"),
        ("/", &[("x-canary", "other")], "podinfo-primary"),
        ("/", &[("cookie", "other=1; side=a")], "podinfo-canary"),
        ("/", &[("cookie", "aside=a")], "podinfo-primary"),
        ("/api", &[("x-canary", "insider")], "podinfo"),
    ] {
        let route = reached(&routes, "any.example.com", uri, headers).unwrap();
        assert_eq!(route.service.name, service, "{uri} {headers:?}");
    }
}

#[test]
fn filters_of_an_http_route_are_obeyed() {
    let cookie = json!({"type": "ResponseHeaderModifier", "responseHeaderModifier": {"add": [{"name": "Set-Cookie", "value": "a=1"}]}});
    let rule = json!({
        "matches": [{"path": {"type": "PathPrefix", "value": "/api"}}],
        "filters": [
            {"type": "URLRewrite", "urlRewrite": {"hostname": "inner", "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/v1"}}},
            {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "podinfo-canary", "port": 9898}}},
            {"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "x", "value": "1"}]}},
        ],
        "backendRefs": [{"name": "podinfo-primary", "port": 9898, "filters": [cookie]}],
        "timeouts": {"request": "2s", "backendRequest": "1s"},
    });
    let routes = attached(vec![listeners("All", None), http_route("podinfo", json!({"rules": [rule]}))]);
    let route = reached(&routes, "any", "/api/a?b=c", &[]).unwrap();
    assert_eq!((route.path.as_str(), route.authority.as_deref()), ("/v1/a?b=c", Some("inner")));
    assert_eq!(route.mirrors, [(NamespacedName::new("test", "podinfo-canary"), 9898)]);
    assert_eq!((route.timeout, route.retries.attempts), (Some(Duration::from_secs(2)), 0));
    let mut headers = HeaderMap::new();
    route.headers.response.apply(&mut headers);
    assert_eq!(headers["set-cookie"], "a=1");
    route.headers.request.apply(&mut headers);
    assert_eq!(headers["x"], "1");
    assert!(matches!(reached(&routes, "any", "/", &[]), Err(NoRoute::Unmatched { .. })));
}

#[test]
fn the_closest_host_name_decides_and_a_listener_only_takes_its_own() {
    let named = |host: &str, service: &str| json!({"hostnames": [host], "rules": [{"backendRefs": to(service)}]});
    let routes = attached(vec![
        listeners("All", Some("*.example.com")),
        http_route("any", named("*.example.com", "podinfo")),
        http_route("one", named("app.example.com", "podinfo-canary")),
        http_route("other", named("app.example.org", "podinfo-primary")),
    ]);
    let service = |host: &str| reached(&routes, host, "/", &[]).map(|route| route.service.name);
    assert_eq!(service("app.example.com").unwrap(), "podinfo-canary");
    assert_eq!(service("web.example.com").unwrap(), "podinfo");
    assert!(matches!(service("app.example.org"), Err(NoRoute::Ingress { .. })));
}

#[test]
fn an_http_route_of_a_service_is_for_its_clients() {
    let spec = json!({"parentRefs": [{"group": "", "kind": "Service", "name": "podinfo", "port": 9898}],
        "rules": [{"backendRefs": to("podinfo-canary")}]});
    let mut routes = attached(vec![http_route("podinfo", Value::Null)]);
    routes.apply(http_route("podinfo", spec));
    let service = |host: &str| ask(&routes, MESH_TEST, host, "/").unwrap().service.name;
    assert_eq!(service("podinfo:9898"), "podinfo-canary");
    assert_eq!(service("podinfo-primary:9898"), "podinfo-primary");
}

#[test]
fn a_gateway_controller_says_what_becomes_of_a_route() {
    /// Status and reason of the two conditions of a route's parents.
    fn said(changes: Vec<Change>) -> Vec<[(String, String); 2]> {
        let said = attached(changes).said().into_iter().find(|said| said.kind == Kind::HttpRoute).unwrap();
        let parents = said.status["parents"].as_array().unwrap().clone();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let of = |parent: &Value, index: usize| {
            let condition = &parent["conditions"][index];
            assert_eq!(condition["observedGeneration"], 3);
            (text(&condition["status"]), text(&condition["reason"]))
        };
        parents.iter().map(|parent| [of(parent, 0), of(parent, 1)]).collect()
    }
    let rules = json!([{"backendRefs": to("podinfo-primary")}]);
    let good = json!({"rules": rules});
    let accepted = || ("True".to_owned(), "Accepted".to_owned());
    let resolved = || ("True".to_owned(), "ResolvedRefs".to_owned());
    let no = |reason: &str| ("False".to_owned(), reason.to_owned());
    assert_eq!(said(vec![listeners("All", None), http_route("a", good.clone())]), [[accepted(), resolved()]]);
    assert!(said(vec![http_route("a", good.clone())]).is_empty(), "nobody's Gateway");
    let refused = [
        (listeners("Same", None), good.clone(), "NotAllowedByListeners"),
        (
            listeners("All", Some("a.example.com")),
            json!({"rules": rules, "hostnames": ["b.example.com"]}),
            "NoMatchingListenerHostname",
        ),
        (
            listeners("All", None),
            json!({"rules": rules, "parentRefs": [{"name": "public", "namespace": "ingress", "sectionName": "x"}]}),
            "NoMatchingParent",
        ),
        (
            listeners("All", None),
            json!({"rules": [{"filters": [{"type": "RequestRedirect"}]}]}),
            "UnsupportedValue",
        ),
    ];
    for (gateway, route, reason) in refused {
        assert_eq!(said(vec![gateway, http_route("a", route)])[0][0], no(reason));
    }
    for (backends, reason) in [
        (to("nobody"), "BackendNotFound"),
        (json!([{"name": "podinfo", "namespace": "other", "port": 9898}]), "RefNotPermitted"),
        (json!([{"name": "podinfo", "kind": "ServiceImport"}]), "InvalidKind"),
    ] {
        let route = http_route("a", json!({"rules": [{"backendRefs": backends}]}));
        assert_eq!(said(vec![listeners("All", None), route]), [[accepted(), no(reason)]]);
    }
}

#[test]
fn cookies_that_a_virtual_service_sets_are_those_of_the_chosen_side() {
    let mut spec = generated(100);
    let set = |value: &str| json!({"response": {"add": {"Set-Cookie": value}}});
    spec["http"][0]["headers"] = set("rule=1");
    spec["http"][0]["route"][1]["headers"] = set("side=canary");
    let route = ask(&world(spec), Entry::Ingress, "any", "/").unwrap();
    let mut headers = HeaderMap::new();
    route.headers.response.apply(&mut headers);
    assert_eq!(headers.get_all("set-cookie").iter().collect::<Vec<_>>(), ["rule=1", "side=canary"]);
}

#[test]
fn labels_and_namespace_of_the_calling_pod_are_conditions() {
    let side = |name: &str| json!([{"destination": {"host": name}}]);
    let spec = json!({"hosts": ["podinfo"], "http": [
        {"match": [{"sourceLabels": {"app": "tester", "tier": "x"}}], "route": side("podinfo-canary")},
        {"match": [{"sourceNamespace": "other"}], "route": side("podinfo")},
        {"route": side("podinfo-primary")},
    ]});
    let routes = world(spec);
    let labels = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    let (tester, other) =
        (labels(&[("app", "tester"), ("tier", "x"), ("more", "1")]), labels(&[("app", "tester")]));
    for (labels, service) in
        [(Some(&tester), "podinfo-canary"), (Some(&other), "podinfo-primary"), (None, "podinfo-primary")]
    {
        let entry = Entry::Mesh { namespace: "test", labels };
        assert_eq!(ask(&routes, entry, "podinfo:9898", "/").unwrap().service.name, service);
    }
    let elsewhere = Entry::Mesh { namespace: "other", labels: None };
    assert_eq!(ask(&routes, elsewhere, "podinfo.test:9898", "/").unwrap().service.name, "podinfo");
}
