//! `spec.strategy.canary.trafficRouting.istio`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::SpecError;
use super::at::At;
use super::canary::differ;
use crate::release::Side;

/// What shifts a Rollout's traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shifted {
    /// The Service in front of what serves.
    pub stable_service: Option<String>,
    /// The Service in front of what is to serve.
    pub canary_service: Option<String>,
    /// The user's VirtualServices, of the Rollout's namespace.
    pub virtual_services: Vec<VirtualServiceRef>,
    /// The user's DestinationRule, where its subsets tell the sides apart.
    pub rule: Option<DestinationRuleRef>,
}

/// A VirtualService, and which of its routes are shifted: where none is named the only one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirtualServiceRef {
    /// Its name.
    pub name: String,
    /// HTTP routes, by their names.
    pub routes: Vec<String>,
    /// TLS routes, by what they match.
    pub tls: Vec<RouteMatch>,
    /// TCP routes, by what they match.
    pub tcp: Vec<RouteMatch>,
}

/// What a TLS or a TCP route matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteMatch {
    /// The port.
    pub port: Option<i64>,
    /// The names that clients ask for, all of them.
    pub sni_hosts: Vec<String>,
}

impl RouteMatch {
    /// Whether a route with this condition is meant.
    pub fn fits(&self, condition: &Value) -> bool {
        let hosts: BTreeSet<&str> =
            condition["sniHosts"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let wanted: BTreeSet<&str> = self.sni_hosts.iter().map(String::as_str).collect();
        self.port.is_none_or(|port| condition["port"] == port) && (wanted.is_empty() || wanted == hosts)
    }
}

/// A DestinationRule whose subsets are the sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DestinationRuleRef {
    /// Its name.
    pub name: String,
    /// The subset that serves.
    pub stable_subset: String,
    /// The subset that is to serve.
    pub canary_subset: String,
}

impl DestinationRuleRef {
    /// The subset of a side.
    pub fn subset(&self, side: Side) -> &str {
        match side {
            Side::Stable => &self.stable_subset,
            Side::Candidate => &self.canary_subset,
        }
    }
}

impl Shifted {
    /// The Service of a side.
    pub fn service(&self, side: Side) -> Option<&str> {
        match side {
            Side::Stable => self.stable_service.as_deref(),
            Side::Candidate => self.canary_service.as_deref(),
        }
    }

    /// What a Rollout names, whatever else it says.
    pub(super) fn named(spec: &Value) -> Option<Self> {
        let canary = At { value: &spec["strategy"]["canary"], path: "spec.strategy.canary".to_owned() };
        read(&canary, &canary.field("trafficRouting")).ok()
    }
}

pub(super) fn read(canary: &At<'_>, routing: &At<'_>) -> Result<Shifted, SpecError> {
    routing.object(&["istio"], &[])?;
    let istio = routing.field("istio");
    istio.object(&["virtualService", "virtualServices", "destinationRule"], &[])?;
    let (one, several, rule) =
        (istio.field("virtualService"), istio.field("virtualServices"), istio.field("destinationRule"));
    let rule = if rule.is_absent() { None } else { Some(destination_rule(&rule)?) };
    let virtual_services = match (one.is_absent(), several.items().as_slice()) {
        (true, []) => {
            return one.problem("Required value: either VirtualService or VirtualServices must be configured");
        }
        (false, []) => vec![virtual_service(&one)?],
        (true, several) => several.iter().map(virtual_service).collect::<Result<_, _>>()?,
        (false, _) => {
            return several.problem(
                "Invalid value: either VirtualService or VirtualServices must be configured, and not both",
            );
        }
    };
    let (stable, candidate) = (canary.field("stableService"), canary.field("canaryService"));
    // Subsets tell the sides apart without Services, too.
    let name = |field: &At<'_>| {
        if rule.is_some() && field.is_absent() { Ok(None) } else { field.text().map(Some) }
    };
    let (stable_service, canary_service) = (name(&stable)?, name(&candidate)?);
    differ(&stable, &candidate)?;
    Ok(Shifted { stable_service, canary_service, virtual_services, rule })
}

fn virtual_service(found: &At<'_>) -> Result<VirtualServiceRef, SpecError> {
    found.object(&["name", "routes", "tlsRoutes", "tcpRoutes"], &[])?;
    let field = found.field("name");
    let name = field.text()?;
    if name.contains('.') {
        return field.problem(format!(
            "Invalid value: \"{name}\": a VirtualService of another namespace is not shifted yet"
        ));
    }
    Ok(VirtualServiceRef {
        name,
        routes: found.field("routes").items().iter().map(At::text).collect::<Result<_, _>>()?,
        tls: found.field("tlsRoutes").items().iter().map(route_match).collect::<Result<_, _>>()?,
        tcp: found.field("tcpRoutes").items().iter().map(route_match).collect::<Result<_, _>>()?,
    })
}

fn route_match(found: &At<'_>) -> Result<RouteMatch, SpecError> {
    found.object(&["port", "sniHosts"], &[])?;
    let port = found.field("port").optional::<u32>()?.map(i64::from);
    let sni_hosts = found.field("sniHosts").items().iter().map(At::text).collect::<Result<_, _>>()?;
    Ok(RouteMatch { port, sni_hosts })
}

fn destination_rule(rule: &At<'_>) -> Result<DestinationRuleRef, SpecError> {
    // Of further subsets nothing is changed.
    rule.object(&["name", "canarySubsetName", "stableSubsetName"], &["additionalSubsetNames"])?;
    Ok(DestinationRuleRef {
        name: rule.field("name").text()?,
        stable_subset: rule.field("stableSubsetName").text()?,
        canary_subset: rule.field("canarySubsetName").text()?,
    })
}
