//! Istio: one VirtualService and two DestinationRules.

mod rules;

use serde_json::{Map, Value, json};

use crate::api::CanaryService;
use crate::metrics::{BuiltIn, ISTIO};
use crate::model::Routing;
use crate::release::RouteObserved;

use super::metadata::generated;
use super::{
    Capabilities, Change, FieldProblem, LiveRoutes, Mirror, RouteAsk, RouteKind, RouteRequest, Router, bring,
    hosts, is_current, name_of,
};

/// Versions of Istio's kinds: the one that Flagger writes, then newer, then older.
const VERSIONS: &[&str] = &["v1beta1", "v1", "v1alpha3"];
/// The route.
pub const VIRTUAL_SERVICE: RouteKind = kind("VirtualService");
/// The policy of one destination.
/// Their subsets and policies.
pub const DESTINATION_RULE: RouteKind = kind("DestinationRule");
/// Istio's name for sidecars as a gateway.
pub(super) const MESH_GATEWAY: &str = "mesh";

const fn kind(kind: &'static str) -> RouteKind {
    RouteKind { group: "networking.istio.io", kind, versions: VERSIONS, comes_with: "Istio", has_status: false }
}

/// The router for provider `istio`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Istio;

impl Router for Istio {
    fn name(&self) -> &'static str {
        "istio"
    }

    fn kinds(&self) -> &'static [RouteKind] {
        &[DESTINATION_RULE, VIRTUAL_SERVICE]
    }

    fn check(&self, ask: &RouteAsk<'_>) -> Result<Capabilities, FieldProblem> {
        let CanaryService { app_protocol, delegation, hosts, gateways, .. } = ask.spec;
        let problem =
            |path: &str, message: &str| Err(FieldProblem { path: path.to_owned(), message: message.to_owned() });
        if app_protocol.as_deref().is_some_and(|protocol| protocol.eq_ignore_ascii_case("tcp")) {
            return problem(
                "spec.service.appProtocol",
                "spec.service.appProtocol tcp is not supported yet: only HTTP routes are generated",
            );
        }
        if *delegation && !(hosts.is_empty() && gateways.is_empty()) {
            return problem(
                "spec.service.delegation",
                "spec.service.delegation needs hosts and gateways empty: the delegating VirtualService has them",
            );
        }
        hosts::check(ask)?;
        let has_suffix = |when: &Value| {
            let named = ["headers", "queryParams"].iter().filter_map(|field| when[*field].as_object());
            named.flat_map(Map::values).any(|condition| condition.get("suffix").is_some())
        };
        if ask.rules.iter().flat_map(|rule| &rule.when).any(has_suffix) {
            return problem(
                "spec.analysis.match",
                "spec.analysis.match has a suffix, which Istio cannot match: use regex",
            );
        }
        Ok(Capabilities { weights: true, rules: true, mirror: Mirror::Share, sticky: true })
    }

    fn ignores(&self, ask: &RouteAsk<'_>) -> Vec<&'static str> {
        let service = ask.spec;
        let rewrite_type = service.rewrite.as_ref().is_some_and(|rewrite| rewrite.type_.is_some());
        let fields = [
            ("spec.service.gatewayRefs", !service.gateway_refs.is_empty()),
            ("spec.service.backendTimeout", service.backend_timeout.is_some()),
            ("spec.service.mirror", !service.mirror.is_empty()),
            ("spec.service.rewrite.type", rewrite_type),
        ];
        fields.into_iter().filter(|(_, is_set)| *is_set).map(|(path, _)| path).collect()
    }

    fn read(&self, request: &RouteRequest<'_>, live: &dyn LiveRoutes) -> RouteObserved {
        let route = live.get(VIRTUAL_SERVICE, request.service);
        let routing = route.as_ref().map(|route| rules::read(request, &route["spec"]["http"])).unwrap_or_default();
        let wanted = render(request, &routing);
        // Also one that is there before the route is: it would be written with it.
        let foreign = wanted.iter().find_map(|(kind, object)| {
            let name = name_of(object);
            request.foreign(*kind, name, &live.get(*kind, name)?)
        });
        if let Some(reason) = foreign {
            return RouteObserved::Unusable(reason);
        }
        if route.is_none_or(|route| request.is_left(&route)) {
            return RouteObserved::Missing;
        }
        let current = wanted.iter().all(|(kind, object)| is_current(live, *kind, object));
        RouteObserved::Present { routing, current, unaccepted: None }
    }

    fn write(&self, request: &RouteRequest<'_>, live: &dyn LiveRoutes, want: &Routing) -> Vec<Change> {
        render(request, want).into_iter().filter_map(|(kind, object)| bring(live, kind, object)).collect()
    }

    fn hand_back(&self, request: &RouteRequest<'_>) -> Vec<(RouteKind, Value)> {
        vec![(VIRTUAL_SERVICE, virtual_service(request, vec![rules::leading_to(request, request.service)]))]
    }

    fn built_in(&self) -> &'static BuiltIn {
        &ISTIO
    }
}

/// The generated objects, in the order in which they are written.
fn render(request: &RouteRequest<'_>, routing: &Routing) -> Vec<(RouteKind, Value)> {
    let rule = |side: &str| (DESTINATION_RULE, destination_rule(request, &request.side(side)));
    let route = virtual_service(request, rules::write(request, routing));
    vec![rule("primary"), rule("canary"), (VIRTUAL_SERVICE, route)]
}

fn destination_rule(request: &RouteRequest<'_>, host: &str) -> Value {
    let mut spec = Map::from_iter([("host".to_owned(), Value::from(host))]);
    if let Some(policy) = &request.spec.traffic_policy {
        spec.insert("trafficPolicy".to_owned(), policy.clone());
    }
    json!({"kind": DESTINATION_RULE.kind, "metadata": generated(request, host, Map::new(), None), "spec": spec})
}

fn virtual_service(request: &RouteRequest<'_>, rules: Vec<Value>) -> Value {
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
    out.insert("http".to_owned(), Value::Array(rules));
    let metadata = generated(request, request.service, Map::new(), spec.apex.as_ref());
    json!({"kind": VIRTUAL_SERVICE.kind, "metadata": metadata, "spec": out})
}

#[cfg(test)]
mod tests;
