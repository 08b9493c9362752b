//! Istio: one VirtualService and two DestinationRules.

use serde_json::{Map, Value, json};

use crate::api::{CanaryService, Retries, Rewrite};
use crate::model::Routing;
use crate::release::RouteObserved;

use super::metadata::{generated, has_metadata_of};
use super::{LiveRoutes, RouteKind, RouteRequest, Router, Shift};

/// The route.
const VIRTUAL_SERVICE: RouteKind =
    RouteKind { group: "networking.istio.io", kind: "VirtualService", plural: "virtualservices" };
/// The policy of one destination.
const DESTINATION_RULE: RouteKind =
    RouteKind { group: "networking.istio.io", kind: "DestinationRule", plural: "destinationrules" };
/// Istio's name for sidecars as a gateway.
pub(super) const MESH_GATEWAY: &str = "mesh";

/// The router for provider `istio`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Istio;

impl Router for Istio {
    fn kinds(&self) -> &'static [RouteKind] {
        &[DESTINATION_RULE, VIRTUAL_SERVICE]
    }

    fn refuse(&self, request: &RouteRequest<'_>) -> Option<String> {
        let CanaryService { app_protocol, delegation, hosts, gateways, .. } = request.spec;
        if app_protocol.as_deref().is_some_and(|protocol| protocol.eq_ignore_ascii_case("tcp")) {
            return Some(
                "spec.service.appProtocol tcp is not supported yet: only HTTP routes are generated".to_owned(),
            );
        }
        if *delegation && !(hosts.is_empty() && gateways.is_empty()) {
            return Some(
                "spec.service.delegation needs hosts and gateways empty: the delegating VirtualService has them"
                    .to_owned(),
            );
        }
        None
    }

    fn render(&self, request: &RouteRequest<'_>, routing: &Routing) -> Vec<(RouteKind, Value)> {
        let rule =
            |side: &str| (DESTINATION_RULE, destination_rule(request, &format!("{}-{side}", request.service)));
        let side = |name: &str, weight: u8| json!({"destination": destination(request, &format!("{}-{name}", request.service)), "weight": weight});
        let base = &routing.base;
        let route = json!([side("primary", base.stable()), side("canary", base.candidate())]);
        vec![rule("primary"), rule("canary"), (VIRTUAL_SERVICE, virtual_service(request, &route))]
    }

    fn leave(&self, request: &RouteRequest<'_>) -> (RouteKind, Value) {
        let route = json!([{"destination": destination(request, request.service)}]);
        (VIRTUAL_SERVICE, virtual_service(request, &route))
    }

    fn observe(&self, request: &RouteRequest<'_>, live: &dyn LiveRoutes) -> RouteObserved {
        let Some(route) = live.get(VIRTUAL_SERVICE, request.service) else { return RouteObserved::Missing };
        if request.is_left(&route) {
            return RouteObserved::Missing;
        }
        if !request.owner.controls(&route) {
            return RouteObserved::Unusable(format!(
                "VirtualService {}/{} is not owned by Canary {}: taking over an existing route is not supported yet; \
                 remove it or give the Canary another spec.service.name",
                request.namespace, request.service, request.owner.name
            ));
        }
        let routing = live_routing(&route, request.service);
        let wanted = self.render(request, &routing.clone().unwrap_or_default());
        let current = routing.is_some()
            && wanted.iter().all(|(kind, object)| {
                let name = object["metadata"]["name"].as_str().unwrap_or_default();
                live.get(*kind, name)
                    .is_some_and(|live| live["spec"] == object["spec"] && has_metadata_of(&live, object))
            });
        RouteObserved::Present { routing: routing.unwrap_or_default(), current }
    }

    fn shift(&self, request: &RouteRequest<'_>, live: &dyn LiveRoutes, routing: &Routing) -> Option<Shift> {
        let route = live.get(VIRTUAL_SERVICE, request.service)?;
        if live_routing(&route, request.service).as_ref() == Some(routing) {
            return None;
        }
        let (rule, primary, canary) = destinations(&route, request.service)?;
        let mut patch = vec![json!({
            "op": "test", "path": "/metadata/resourceVersion", "value": route["metadata"]["resourceVersion"]
        })];
        for (index, weight) in [(primary, routing.base.stable()), (canary, routing.base.candidate())] {
            let base = format!("/spec/http/{rule}/route/{index}");
            let host = route.pointer(&format!("{base}/destination/host")).cloned().unwrap_or_default();
            patch.push(json!({"op": "test", "path": format!("{base}/destination/host"), "value": host}));
            patch.push(json!({"op": "add", "path": format!("{base}/weight"), "value": weight}));
        }
        Some(Shift { kind: VIRTUAL_SERVICE, name: request.service.to_owned(), patch: Value::Array(patch) })
    }
}

/// Index of the rule with both destinations, and theirs within it.
fn destinations(route: &Value, service: &str) -> Option<(usize, usize, usize)> {
    let rules = route["spec"]["http"].as_array()?;
    rules.iter().enumerate().find_map(|(index, rule)| {
        let position = |side: &str| {
            let host = format!("{service}-{side}");
            rule["route"].as_array()?.iter().position(|entry| entry["destination"]["host"] == host.as_str())
        };
        Some((index, position("primary")?, position("canary")?))
    })
}

/// What the route says, if both destinations are there and add up.
fn live_routing(route: &Value, service: &str) -> Option<Routing> {
    let (rule, primary, canary) = destinations(route, service)?;
    let weight = |index: usize| route["spec"]["http"][rule]["route"][index]["weight"].as_u64().unwrap_or(0);
    let canary = u8::try_from(weight(canary)).ok()?;
    let routing = Routing::candidate_percent(canary);
    let adds_up = routing.base.candidate() == canary && u64::from(routing.base.stable()) == weight(primary);
    adds_up.then_some(routing)
}

fn destination_rule(request: &RouteRequest<'_>, host: &str) -> Value {
    let mut spec = Map::from_iter([("host".to_owned(), Value::from(host))]);
    if let Some(policy) = &request.spec.traffic_policy {
        spec.insert("trafficPolicy".to_owned(), policy.clone());
    }
    json!({"kind": DESTINATION_RULE.kind, "metadata": generated(request, host, Map::new(), None), "spec": spec})
}

fn virtual_service(request: &RouteRequest<'_>, route: &Value) -> Value {
    let spec = request.spec;
    let mut out = Map::new();
    if !spec.delegation {
        let mut hosts = spec.hosts.clone();
        if !hosts.iter().any(|host| host == request.service || host == "*") {
            hosts.push(request.service.to_owned());
        }
        out.insert("hosts".to_owned(), json!(hosts));
        let mesh = [MESH_GATEWAY.to_owned()];
        out.insert(
            "gateways".to_owned(),
            json!(if spec.gateways.is_empty() { &mesh[..] } else { &spec.gateways }),
        );
    }
    out.insert("http".to_owned(), json!([http_route(request, route)]));
    let metadata = generated(request, request.service, Map::new(), spec.apex.as_ref());
    json!({"kind": VIRTUAL_SERVICE.kind, "metadata": metadata, "spec": out})
}

fn http_route(request: &RouteRequest<'_>, route: &Value) -> Map<String, Value> {
    let CanaryService { match_, rewrite, timeout, retries, cors_policy, headers, .. } = request.spec;
    let mut rule = Map::new();
    let mut set = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            rule.insert(key.to_owned(), value);
        }
    };
    set("match", (!match_.is_empty()).then(|| Value::Array(match_.clone())));
    set("rewrite", rewrite.as_ref().map(istio_rewrite));
    set("timeout", timeout.clone().map(Value::from));
    set("retries", retries.as_ref().map(istio_retries));
    set("corsPolicy", cors_policy.clone());
    set("headers", headers.clone());
    set("route", Some(route.clone()));
    rule
}

/// The port is named only where Istio cannot guess it: behind a gateway when the service has several ports.
fn destination(request: &RouteRequest<'_>, host: &str) -> Value {
    let CanaryService { port, port_discovery, .. } = request.spec;
    if *port_discovery && request.is_behind_gateway() {
        json!({"host": host, "port": {"number": port}})
    } else {
        json!({"host": host})
    }
}

fn istio_rewrite(Rewrite { uri, authority, type_: _ }: &Rewrite) -> Value {
    pruned([("uri", uri.clone().map(Value::from)), ("authority", authority.clone().map(Value::from))])
}

fn istio_retries(Retries { attempts, per_try_timeout, retry_on }: &Retries) -> Value {
    pruned([
        ("attempts", attempts.map(Value::from)),
        ("perTryTimeout", per_try_timeout.clone().map(Value::from)),
        ("retryOn", retry_on.clone().map(Value::from)),
    ])
}

fn pruned<const N: usize>(fields: [(&str, Option<Value>); N]) -> Value {
    Value::Object(fields.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::workload::Owner;

    use super::*;

    /// Objects that were "written", with a resourceVersion.
    #[derive(Default)]
    struct Live(BTreeMap<(RouteKind, String), Value>);

    impl LiveRoutes for Live {
        fn get(&self, kind: RouteKind, name: &str) -> Option<Value> {
            self.0.get(&(kind, name.to_owned())).cloned()
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
        RouteRequest { namespace: "test", service: "podinfo", spec, owner, target: "podinfo" }
    }

    fn written(request: &RouteRequest<'_>, routing: &Routing) -> Live {
        let mut live = Live::default();
        for (kind, object) in Istio.render(request, routing) {
            live.write(kind, object);
        }
        live
    }

    #[test]
    fn renders_the_seeds_canary_as_flagger_does() {
        let (spec, owner) = (spec(json!({})), owner());
        let objects = Istio.render(&request(&spec, &owner), &Routing::candidate_percent(10));
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
        let (spec, owner) =
            (spec(json!({"hosts": ["a.example"], "gateways": null, "portDiscovery": true})), owner());
        let objects = Istio.render(&request(&spec, &owner), &Routing::default());
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
            Istio.observe(&request(&first, &owner), &live),
            RouteObserved::Present { routing: thirty.clone(), current: true }
        );
        let edited = spec(json!({"timeout": "15s"}));
        assert_eq!(
            Istio.observe(&request(&edited, &owner), &live),
            RouteObserved::Present { routing: thirty, current: false }
        );
    }

    #[test]
    fn a_missing_rule_or_destination_is_drift_and_a_foreign_route_is_not_touched() {
        let (spec, owner) = (spec(json!({})), owner());
        let request = request(&spec, &owner);
        assert_eq!(Istio.observe(&request, &Live::default()), RouteObserved::Missing);
        let mut live = written(&request, &Routing::default());
        live.0.remove(&(DESTINATION_RULE, "podinfo-canary".to_owned()));
        assert_eq!(
            Istio.observe(&request, &live),
            RouteObserved::Present { routing: Routing::default(), current: false }
        );
        let stranger = Owner { uid: "u2".into(), ..owner.clone() };
        let foreign = RouteRequest { owner: &stranger, ..request };
        assert!(matches!(Istio.observe(&foreign, &live), RouteObserved::Unusable(_)));
    }

    #[test]
    fn what_a_deleted_canary_left_is_taken_up_by_the_next_one() {
        let (spec, owner) = (spec(json!({})), owner());
        let request = request(&spec, &owner);
        let (kind, mut left) = Istio.leave(&request);
        assert_eq!(left["spec"]["http"][0]["route"], json!([{"destination": {"host": "podinfo"}}]));
        let target = json!({"metadata": {"name": "podinfo", "uid": "d1"}});
        left["metadata"]["ownerReferences"] = json!([crate::workload::left_to(&target)]);
        let mut live = Live::default();
        live.write(kind, left);
        assert_eq!(Istio.observe(&request, &live), RouteObserved::Missing);
        let other = RouteRequest { target: "backend", ..request };
        assert!(matches!(Istio.observe(&other, &live), RouteObserved::Unusable(_)));
    }

    #[test]
    fn a_shift_changes_weights_only_and_tests_what_it_expects() {
        let (spec, owner) = (spec(json!({})), owner());
        let request = request(&spec, &owner);
        let live = written(&request, &Routing::default());
        assert_eq!(Istio.shift(&request, &live, &Routing::default()), None);
        let shift = Istio.shift(&request, &live, &Routing::candidate_percent(20)).unwrap();
        let mut object = live.get(VIRTUAL_SERVICE, "podinfo").unwrap();
        let patch: json_patch::Patch = serde_json::from_value(shift.patch.clone()).unwrap();
        json_patch::patch(&mut object, &patch).unwrap();
        assert_eq!(live_routing(&object, "podinfo"), Some(Routing::candidate_percent(20)));
        object["metadata"]["resourceVersion"] = json!("8");
        assert!(json_patch::patch(&mut object, &patch).is_err());
    }
}
