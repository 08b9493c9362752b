//! Gateway API: one HTTPRoute, attached to the Gateways that the Canary names.

mod fields;
mod matches;
mod rules;
mod status;

use serde_json::{Value, json};

use crate::metrics::{BuiltIn, HTTP};
use crate::model::{NamespacedName, Routing};
use crate::release::RouteObserved;

use super::metadata::generated;
use super::{
    Capabilities, Change, FieldProblem, LiveRoutes, Mirror, RouteAsk, RouteKind, RouteRequest, Router, bring,
    is_current,
};

/// The group of Gateway API's kinds.
const GROUP: &str = "gateway.networking.k8s.io";
/// The kind of parents that are watched.
const GATEWAY: &str = "Gateway";

/// The router for one version of Gateway API.
#[derive(Debug, Clone, Copy)]
pub(super) struct GatewayApi {
    name: &'static str,
    kinds: [RouteKind; 2],
    /// Whether its rules have timeouts and cross-origin policies.
    is_whole: bool,
}

/// The router for provider `gatewayapi:v1`.
pub(super) const GATEWAY_API_V1: GatewayApi =
    GatewayApi { name: "gatewayapi:v1", kinds: kinds(&["v1"]), is_whole: true };
/// The router for provider `gatewayapi:v1beta1`.
pub(super) const GATEWAY_API_V1BETA1: GatewayApi =
    GatewayApi { name: "gatewayapi:v1beta1", kinds: kinds(&["v1beta1"]), is_whole: false };

const fn kinds(versions: &'static [&'static str]) -> [RouteKind; 2] {
    [of(GATEWAY, versions), of("HTTPRoute", versions)]
}

const fn of(kind: &'static str, versions: &'static [&'static str]) -> RouteKind {
    RouteKind { group: GROUP, kind, versions, comes_with: "Gateway API", has_status: true }
}

impl GatewayApi {
    const fn gateway(&self) -> RouteKind {
        self.kinds[0]
    }

    const fn route(&self) -> RouteKind {
        self.kinds[1]
    }

    fn render(&self, request: &RouteRequest<'_>, routing: &Routing) -> Value {
        let mut route = self.http_route(request, rules::write(request, routing, self.is_whole));
        route["metadata"]["annotations"][rules::RULES] = Value::from(rules::remember(request, routing));
        route
    }

    fn http_route(&self, request: &RouteRequest<'_>, rules: Vec<Value>) -> Value {
        let spec = request.spec;
        let parents = spec.gateway_refs.iter().map(fields::parent).collect();
        let mut out = serde_json::Map::from_iter([
            ("parentRefs".to_owned(), Value::Array(parents)),
            ("rules".to_owned(), Value::Array(rules)),
        ]);
        // A route without names is for all that its listeners serve.
        if !spec.hosts.is_empty() && !spec.hosts.iter().any(|host| host == "*") {
            out.insert("hostnames".to_owned(), json!(spec.hosts));
        }
        let metadata = generated(request, request.service, serde_json::Map::new(), spec.apex.as_ref());
        json!({"kind": self.route().kind, "metadata": metadata, "spec": out})
    }
}

impl Router for GatewayApi {
    fn name(&self) -> &'static str {
        self.name
    }

    fn kinds(&self) -> &'static [RouteKind] {
        if self.is_whole { &GATEWAY_API_V1.kinds } else { &GATEWAY_API_V1BETA1.kinds }
    }

    fn needs(&self, request: &RouteRequest<'_>) -> Vec<NamespacedName> {
        let gateways = request.spec.gateway_refs.iter().filter(|parent| fields::is_gateway(parent));
        gateways.map(|parent| fields::key(parent, request.namespace)).collect()
    }

    fn check(&self, ask: &RouteAsk<'_>) -> Result<Capabilities, FieldProblem> {
        fields::check(self.name, ask)?;
        Ok(Capabilities { weights: true, rules: true, mirror: Mirror::All, sticky: true })
    }

    fn ignores(&self, ask: &RouteAsk<'_>) -> Vec<&'static str> {
        fields::ignored(ask.spec, self.is_whole)
    }

    fn read(&self, request: &RouteRequest<'_>, live: &dyn LiveRoutes) -> RouteObserved {
        let Some(route) = live.get(self.route(), request.service) else { return RouteObserved::Missing };
        if request.is_left(&route) {
            return RouteObserved::Missing;
        }
        if let Some(reason) = request.foreign(self.route(), request.service, &route) {
            return RouteObserved::Unusable(reason);
        }
        let routing = rules::read(request, &route);
        let current = is_current(live, self.route(), &self.render(request, &routing));
        let unaccepted = status::unaccepted(request, &route, |key| live.find(self.gateway(), key));
        RouteObserved::Present { routing, current, unaccepted }
    }

    fn write(&self, request: &RouteRequest<'_>, live: &dyn LiveRoutes, want: &Routing) -> Vec<Change> {
        bring(live, self.route(), self.render(request, want)).into_iter().collect()
    }

    fn hand_back(&self, request: &RouteRequest<'_>) -> Vec<(RouteKind, Value)> {
        let rule = rules::leading_to(request, request.service, self.is_whole);
        vec![(self.route(), self.http_route(request, vec![rule]))]
    }

    fn built_in(&self) -> &'static BuiltIn {
        &HTTP
    }
}

#[cfg(test)]
mod tests;
