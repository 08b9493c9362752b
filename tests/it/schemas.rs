//! What routers write, held against the published definitions of Istio and Gateway API: they take every object as it is,
//! drop nothing of it and add nothing to it. A default that they filled in would be drift for ever.

use std::path::{Path, PathBuf};

use kube::Api;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use serde::Deserialize as _;
use serde_json::{Value, json};
use serin::api::{CanaryService, Provider};
use serin::model::{Affinity, Cookie, NamespacedName, Routing, Rule, Split, Sticky};
use serin::router::{Change, LiveRoutes, RouteAsk, RouteKind, RouteRequest, Seen, router_of};
use serin::sandbox::apiserver::ApiServer;
use serin::workload::Owner;

/// Nothing is there yet.
struct Nothing;

impl LiveRoutes for Nothing {
    fn get(&self, _kind: RouteKind, _name: &str) -> Option<Value> {
        None
    }

    fn find(&self, _kind: RouteKind, _key: &NamespacedName) -> Seen {
        Seen::Gone
    }
}

/// The definitions of a file; `None`, with a visible note, where it is not there.
fn published(file: &str) -> Option<Vec<Value>> {
    let data = std::env::var_os("SERIN_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"), PathBuf::from);
    let path = data.join("crds").join(file);
    let Ok(text) = std::fs::read_to_string(&path) else {
        eprintln!("skipped: no {} (set SERIN_DATA)", path.display());
        return None;
    };
    let documents =
        serde_yaml::Deserializer::from_str(&text).map(|document| Value::deserialize(document).unwrap());
    Some(documents.filter(|document| document["kind"] == "CustomResourceDefinition").collect())
}

fn resource(group: &str, version: &str, kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
}

/// An API server that serves them.
async fn serving(definitions: Vec<Value>) -> ApiServer {
    let server = ApiServer::new();
    let client = server.client();
    let kinds = resource("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions");
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &kinds);
    for definition in definitions {
        let name = definition["metadata"]["name"].clone();
        let created = api.create(&PostParams::default(), &serde_json::from_value(definition).unwrap()).await;
        created.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "test"}});
    let api: Api<DynamicObject> = Api::all_with(client, &resource("", "v1", "Namespace", "namespaces"));
    api.create(&PostParams::default(), &serde_json::from_value(namespace).unwrap()).await.unwrap();
    server
}

fn cookie(name: &str) -> Cookie {
    Cookie { name: name.into(), value: "qwertzuiop".into(), max_age: 60, attributes: "; Path=/; Secure".into() }
}

/// Routings of every kind; copies of a share only where a router has them.
fn routings(shares: bool) -> Vec<Routing> {
    let when = vec![
        json!({"headers": {"x-canary": {"exact": "insider"}, "cookie": {"regex": "^(.*?;)?(canary=always)(;.*)?$"}}}),
        json!({"queryParams": {"canary": {"exact": "yes"}}}),
    ];
    let rule = Rule { name: "podinfo-match".into(), when, split: Split::candidate_percent(100) };
    let affinity = Box::new(Affinity { candidate: cookie("side"), stable: Some(cookie("first-side")) });
    let percent = Routing::candidate_percent;
    vec![
        percent(0),
        percent(37),
        percent(100),
        Routing::all(Split::default().mirrored(if shares { 30 } else { 100 })),
        Routing { rules: vec![rule], ..percent(0) },
        Routing { sticky: Sticky::Issue(affinity), ..percent(20) },
        Routing { sticky: Sticky::Withdraw(cookie("side").over()), ..percent(0) },
    ]
}

/// Creates every object that a provider's router writes for these Services.
async fn takes(server: &ApiServer, provider: Provider, version: &str, shares: bool, services: &[Value]) {
    let router = router_of(provider).unwrap();
    let owner = Owner { name: "podinfo".into(), uid: "u1".into() };
    let mut number = 0;
    for service in services {
        let spec: CanaryService = serde_json::from_value(service.clone()).unwrap();
        router
            .check(&RouteAsk { namespace: "test", spec: &spec, rules: &[] })
            .unwrap_or_else(|why| panic!("{why:?}"));
        for routing in routings(shares) {
            number += 1;
            let name = format!("podinfo-{number}");
            let request = RouteRequest {
                namespace: "test",
                service: &name,
                spec: &spec,
                owner: &owner,
                target: "podinfo",
                predecessor: None,
                pods: None,
            };
            for change in router.write(&request, &Nothing, &routing) {
                let Change::Create { kind, object } = change else { panic!("{change:?}") };
                create(server, kind, version, object).await;
            }
            for (kind, mut object) in router.hand_back(&request) {
                object["metadata"]["name"] = json!(format!("{name}-left"));
                create(server, kind, version, object).await;
            }
        }
    }
}

async fn create(server: &ApiServer, kind: RouteKind, version: &str, mut object: Value) {
    let plural = format!("{}s", kind.kind.to_lowercase());
    let resource = resource(kind.group, version, kind.kind, &plural);
    object["apiVersion"] = json!(resource.api_version);
    let api: Api<DynamicObject> = Api::namespaced_with(server.client(), "test", &resource);
    let (name, strict) =
        (object["metadata"]["name"].as_str().unwrap(), PatchParams::apply("test").validation_strict());
    let created = api.patch(name, &strict, &Patch::Apply(&object)).await;
    let created = created.unwrap_or_else(|error| panic!("{object:#}: {error}"));
    assert_eq!(created.data["spec"], object["spec"], "the API server changes it");
}

#[tokio::test]
async fn istios_published_definitions_take_what_its_router_writes() {
    let Some(definitions) = published("istio.yaml") else { return };
    let server = serving(definitions).await;
    let services = [
        json!({"port": 9898}),
        json!({
            "port": 9898, "portDiscovery": true, "hosts": ["app.example.com"], "gateways": ["istio-system/public", "mesh"],
            "match": [{"uri": {"prefix": "/api"}, "method": {"exact": "GET"}, "sourceLabels": {"app": "x"}}],
            "rewrite": {"uri": "/", "authority": "a.example.com"}, "timeout": "15s",
            "retries": {"attempts": 3, "perTryTimeout": "1s", "retryOn": "gateway-error"},
            "headers": {"request": {"add": {"a": "1"}, "set": {"b": "2"}, "remove": ["c"]}, "response": {"add": {"d": "3"}}},
            "corsPolicy": {"allowOrigins": [{"exact": "https://example.com"}], "allowMethods": ["GET"], "maxAge": "24h"},
            "trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}, "loadBalancer": {"simple": "LEAST_REQUEST"},
                "connectionPool": {"http": {"http2MaxRequests": 10}}, "outlierDetection": {"consecutive5xxErrors": 5}},
        }),
        json!({"port": 9898, "delegation": true}),
    ];
    for version in ["v1", "v1beta1", "v1alpha3"] {
        let services = if version == "v1" { &services[..] } else { &services[1..2] };
        let server = if version == "v1" { &server } else { &serving(published("istio.yaml").unwrap()).await };
        takes(server, Provider::Istio, version, true, services).await;
    }
}

#[tokio::test]
async fn gateway_apis_published_definitions_take_what_its_routers_write() {
    let gateways = json!([
        {"name": "public", "namespace": "ingress", "sectionName": "http"},
        {"group": "", "kind": "Service", "name": "podinfo", "port": 9898},
    ]);
    let services = [
        json!({"port": 9898, "gatewayRefs": gateways, "hosts": ["*"]}),
        json!({
            "port": 9898, "gatewayRefs": gateways, "hosts": ["app.example.com", "*.example.org"],
            "match": [{"uri": {"prefix": "/api"}, "method": {"exact": "GET"}}],
            "rewrite": {"uri": "/v1", "authority": "inner.example.com"}, "timeout": "1m30s", "backendTimeout": "500ms",
            "headers": {"request": {"add": {"x-trace": "1"}, "remove": ["x-debug"]}, "response": {"set": {"x-served": "a"}}},
            "mirror": [{"backendRef": {"name": "audit"}}],
            "corsPolicy": {"allowOrigins": [{"exact": "https://example.com"}], "allowMethods": ["GET"],
                "allowHeaders": ["x-a"], "exposeHeaders": ["x-b"], "allowCredentials": true},
        }),
    ];
    for (provider, version) in [(Provider::GatewayApiV1, "v1"), (Provider::GatewayApiV1Beta1, "v1beta1")] {
        let Some(definitions) = published("gateway-api.yaml") else { return };
        takes(&serving(definitions).await, provider, version, false, &services).await;
    }
}
