//! Which pod a request goes to: a pure snapshot of VirtualServices and their Gateways, HTTPRoutes and theirs, Services and
//! EndpointSlices.
//!
//! Objects go in as JSON with [`Routes::apply`]; [`Routes::route`] decides as Istio's proxies do. No I/O, no clock;
//! randomness is an argument.

mod attached;
mod gateway;
mod gateway_route;
mod headers;
mod hosts;
mod listeners;
mod matching;
mod services;
#[cfg(test)]
mod tests;
mod virtual_service;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use serin_core::model::NamespacedName;

pub(super) use attached::Said;
pub(super) use headers::Headers;
pub(super) use hosts::{full as full_name, split as split_authority};
pub(super) use services::Endpoint;
pub(super) use virtual_service::Retries;

use gateway::Gateway;
use gateway_route::GatewayRoute;
use listeners::Listeners;
use matching::Matched;
use services::{EndpointSlice, Service};
use virtual_service::{HttpRoute, VirtualService};

/// The name under which VirtualServices bind to the sidecars instead of a Gateway.
const MESH: &str = "mesh";

/// Kinds that routes are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    VirtualService,
    /// Istio's.
    Gateway,
    HttpRoute,
    /// Gateway API's Gateway.
    Listeners,
    Service,
    EndpointSlice,
}

/// A change of the snapshot.
#[derive(Debug)]
pub(super) enum Change {
    /// An object is new or differs.
    Apply(Kind, Value),
    /// An object is gone.
    Delete(Kind, NamespacedName),
    /// These are all objects of a kind.
    Replace(Kind, Vec<Value>),
}

/// Where a request came in.
#[derive(Debug, Clone, Copy)]
pub(super) enum Entry<'a> {
    /// The ingress gateway.
    Ingress,
    /// A client in a namespace; its labels, if it is a pod.
    Mesh { namespace: &'a str, labels: Option<&'a BTreeMap<String, String>> },
}

/// What of a request decides about its way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head<'a> {
    /// Host and port as the client wrote them.
    pub(super) authority: &'a str,
    pub(super) method: &'a http::Method,
    pub(super) uri: &'a http::Uri,
    pub(super) headers: &'a http::HeaderMap,
}

/// Where a request goes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Route {
    /// The Service that answers.
    pub(super) service: NamespacedName,
    /// Its port.
    pub(super) port: u16,
    /// Path and query to send.
    pub(super) path: String,
    /// Host header to send, when it is rewritten.
    pub(super) authority: Option<String>,
    pub(super) timeout: Option<Duration>,
    pub(super) retries: Retries,
    /// Services that get a copy.
    pub(super) mirrors: Vec<(NamespacedName, u16)>,
    /// What is done to headers on the way.
    pub(super) headers: Headers,
}

/// Why a request goes nowhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoRoute {
    #[error("no route for host {host}: no VirtualService or HTTPRoute is bound to a Gateway that serves it")]
    Ingress { host: String },
    #[error("route {virtual_service} has no rule for {path}")]
    Unmatched { virtual_service: NamespacedName, path: String },
    #[error("route {virtual_service} cannot be obeyed by the sandbox: {reason}")]
    Unsupported { virtual_service: NamespacedName, reason: String },
    #[error("Service {service} does not exist")]
    NoService { service: NamespacedName },
    #[error("Service {service} has no port {port}; it has {known}")]
    NoPort { service: NamespacedName, port: u16, known: String },
    #[error("Service {service} has several ports: name one in the destination")]
    AmbiguousPort { service: NamespacedName },
    #[error("{host} is no Service of this cluster: use <service>, <service>.<namespace> or its full name")]
    Unknown { host: String },
}

/// The snapshot.
#[derive(Debug, Default)]
pub(super) struct Routes {
    virtual_services: BTreeMap<NamespacedName, VirtualService>,
    gateways: BTreeMap<NamespacedName, Gateway>,
    gateway_routes: BTreeMap<NamespacedName, GatewayRoute>,
    listeners: BTreeMap<NamespacedName, Listeners>,
    services: BTreeMap<NamespacedName, Service>,
    endpoint_slices: BTreeMap<NamespacedName, EndpointSlice>,
}

impl Routes {
    /// Takes a change in.
    pub(super) fn apply(&mut self, change: Change) {
        match change {
            Change::Apply(kind, object) => self.insert(kind, &object),
            Change::Delete(kind, name) => self.remove(kind, &name),
            Change::Replace(kind, objects) => {
                match kind {
                    Kind::VirtualService => self.virtual_services.clear(),
                    Kind::Gateway => self.gateways.clear(),
                    Kind::HttpRoute => self.gateway_routes.clear(),
                    Kind::Listeners => self.listeners.clear(),
                    Kind::Service => self.services.clear(),
                    Kind::EndpointSlice => self.endpoint_slices.clear(),
                }
                for object in &objects {
                    self.insert(kind, object);
                }
            }
        }
    }

    fn insert(&mut self, kind: Kind, object: &Value) {
        let Some(name) = name_of(object) else { return };
        match kind {
            Kind::VirtualService => {
                self.virtual_services.insert(name, VirtualService::read(object));
            }
            Kind::Gateway => {
                self.gateways.insert(name, Gateway::read(object));
            }
            Kind::HttpRoute => {
                self.gateway_routes.insert(name, GatewayRoute::read(object));
            }
            Kind::Listeners => {
                self.listeners.insert(name, Listeners::read(object));
            }
            Kind::Service => {
                self.services.insert(name, Service::read(object));
            }
            Kind::EndpointSlice => {
                self.endpoint_slices.insert(name, EndpointSlice::read(object));
            }
        }
    }

    fn remove(&mut self, kind: Kind, name: &NamespacedName) {
        match kind {
            Kind::VirtualService => drop(self.virtual_services.remove(name)),
            Kind::Gateway => drop(self.gateways.remove(name)),
            Kind::HttpRoute => drop(self.gateway_routes.remove(name)),
            Kind::Listeners => drop(self.listeners.remove(name)),
            Kind::Service => drop(self.services.remove(name)),
            Kind::EndpointSlice => drop(self.endpoint_slices.remove(name)),
        }
    }

    /// Decides where a request goes. `random` chooses among weighted destinations.
    pub(super) fn route(
        &self,
        entry: Entry<'_>,
        head: Head<'_>,
        random: &mut fastrand::Rng,
    ) -> Result<Route, NoRoute> {
        let (host, port) = hosts::split(head.authority);
        if let Some((name, virtual_service)) = self.virtual_service_for(entry, host) {
            return self.by_rules(entry, head, random, name, virtual_service);
        }
        match (entry, self.by_gateway_route(entry, head, random)) {
            (_, Some(found)) => found,
            (Entry::Ingress, None) => Err(NoRoute::Ingress { host: host.to_owned() }),
            (Entry::Mesh { namespace, .. }, None) => {
                let unknown = || NoRoute::Unknown { host: host.to_owned() };
                let service = hosts::service(host, namespace).ok_or_else(unknown)?;
                let port = self.port(&service, port, true).map_err(|error| match error {
                    // A name with one dot may be any host of the internet.
                    NoRoute::NoService { .. } if host.contains('.') && !host.contains(".svc") => unknown(),
                    other => other,
                })?;
                Ok(Route {
                    service,
                    port,
                    path: matching::path_and_query(head.uri).to_owned(),
                    authority: None,
                    timeout: None,
                    retries: Retries::default(),
                    mirrors: Vec::new(),
                    headers: Headers::default(),
                })
            }
        }
    }

    /// The VirtualService with the most specific host that matches; of equal ones the first by name.
    fn virtual_service_for(&self, entry: Entry<'_>, host: &str) -> Option<(&NamespacedName, &VirtualService)> {
        let mut best: Option<(usize, (&NamespacedName, &VirtualService))> = None;
        for (name, virtual_service) in &self.virtual_services {
            let specificity = match entry {
                Entry::Mesh { namespace, .. } if virtual_service.is_bound_to_mesh() => {
                    virtual_service.mesh_match(&name.namespace, host, namespace)
                }
                Entry::Mesh { .. } => None,
                Entry::Ingress => self
                    .serves(name, virtual_service, host)
                    .then(|| virtual_service.ingress_match(&name.namespace, host))
                    .flatten(),
            };
            if let Some(specificity) = specificity
                && best.as_ref().is_none_or(|(highest, _)| specificity > *highest)
            {
                best = Some((specificity, (name, virtual_service)));
            }
        }
        best.map(|(_, found)| found)
    }

    /// Whether one of the VirtualService's Gateways has a server for the host.
    fn serves(&self, name: &NamespacedName, virtual_service: &VirtualService, host: &str) -> bool {
        virtual_service
            .gateways
            .iter()
            .filter_map(|gateway| hosts::gateway(gateway, &name.namespace))
            .filter_map(|gateway| Some((self.gateways.get(&gateway)?, gateway.namespace)))
            .any(|(gateway, namespace)| gateway.serves(host, &namespace, &name.namespace))
    }

    fn by_rules(
        &self,
        entry: Entry<'_>,
        head: Head<'_>,
        random: &mut fastrand::Rng,
        name: &NamespacedName,
        virtual_service: &VirtualService,
    ) -> Result<Route, NoRoute> {
        let (rule, matched) = rule_of(entry, head, name, virtual_service)?;
        let Some(delegate) = rule.delegate(&name.namespace) else {
            return self.along(entry, head, random, name, rule, rule.rewritten(head.uri, matched));
        };
        let unsupported = |reason| NoRoute::Unsupported { virtual_service: name.clone(), reason };
        let found = self.virtual_services.get(&delegate);
        let found = found.ok_or_else(|| unsupported(format!("its delegate {delegate} does not exist")))?;
        let (inner, inner_matched) = rule_of(entry, head, &delegate, found)?;
        if inner.delegate(&delegate.namespace).is_some() {
            return Err(unsupported(format!("its delegate {delegate} delegates again")));
        }
        // What the delegate says itself comes first.
        let sent = if inner.rewrites() {
            inner.rewritten(head.uri, inner_matched)
        } else {
            rule.rewritten(head.uri, matched)
        };
        self.along(entry, head, random, &delegate, inner, sent)
    }

    /// Along a rule to a Service; `sent` are path and host as they are sent on.
    fn along(
        &self,
        entry: Entry<'_>,
        head: Head<'_>,
        random: &mut fastrand::Rng,
        name: &NamespacedName,
        rule: &HttpRoute,
        sent: (String, Option<String>),
    ) -> Result<Route, NoRoute> {
        let (_, port) = hosts::split(head.authority);
        let (destination, headers) = rule.pick(random).ok_or_else(|| NoRoute::Unsupported {
            virtual_service: name.clone(),
            reason: "the rule has no destination with a weight".to_owned(),
        })?;
        let (service, port) = self.destination(destination, port, entry, &name.namespace)?;
        let mirrored = rule.mirrored(random).into_iter();
        let mirrors = mirrored.map(|mirror| self.destination(mirror, port, entry, &name.namespace));
        let mirrors = mirrors.collect::<Result<_, _>>()?;
        let HttpRoute { timeout, retries, .. } = rule;
        let (path, authority) = sent;
        Ok(Route { service, port, path, authority, timeout: *timeout, retries: retries.clone(), mirrors, headers })
    }

    fn destination(
        &self,
        destination: &virtual_service::Destination,
        requested: u16,
        entry: Entry<'_>,
        namespace: &str,
    ) -> Result<(NamespacedName, u16), NoRoute> {
        let unknown = || NoRoute::Unknown { host: destination.host.clone() };
        let service = hosts::service(&destination.host, namespace).ok_or_else(unknown)?;
        let port = match destination.port {
            Some(port) => self.port(&service, port, true)?,
            // A sidecar listens on the Service's own port; a gateway's port says nothing about it.
            None => self.port(&service, requested, matches!(entry, Entry::Mesh { .. }))?,
        };
        Ok((service, port))
    }

    /// The Service's port: the one asked for, or the only one when it need not be that.
    fn port(&self, name: &NamespacedName, port: u16, exact: bool) -> Result<u16, NoRoute> {
        let service = self.services.get(name).ok_or_else(|| NoRoute::NoService { service: name.clone() })?;
        match service.ports.as_slice() {
            ports if ports.iter().any(|known| known.port == port) => Ok(port),
            [only] if !exact => Ok(only.port),
            ports if exact => {
                let known: Vec<String> = ports.iter().map(|known| known.port.to_string()).collect();
                Err(NoRoute::NoPort { service: name.clone(), port, known: known.join(", ") })
            }
            _ => Err(NoRoute::AmbiguousPort { service: name.clone() }),
        }
    }

    /// The ready endpoints of a Service's port.
    pub(super) fn endpoints(&self, service: &NamespacedName, port: u16) -> Vec<Endpoint> {
        let Some(found) = self.services.get(service) else { return Vec::new() };
        let Some(name) = found.ports.iter().find(|known| known.port == port).map(|known| known.name.as_str())
        else {
            return Vec::new();
        };
        let slices = self
            .endpoint_slices
            .iter()
            .filter(|(slice_name, slice)| {
                slice_name.namespace == service.namespace && slice.service == service.name
            })
            .map(|(_, slice)| slice);
        let mut endpoints: Vec<Endpoint> = slices.flat_map(|slice| slice.ready(name)).collect();
        endpoints.sort();
        // A pod may be in two slices while they are re-balanced.
        endpoints.dedup();
        endpoints
    }
}

/// The rule of a VirtualService that applies to a request.
fn rule_of<'a>(
    entry: Entry<'_>,
    head: Head<'_>,
    name: &NamespacedName,
    virtual_service: &'a VirtualService,
) -> Result<(&'a HttpRoute, Matched), NoRoute> {
    let rules = virtual_service
        .rules
        .as_ref()
        .map_err(|reason| NoRoute::Unsupported { virtual_service: name.clone(), reason: reason.clone() })?;
    let (_, port) = hosts::split(head.authority);
    let found = rules.iter().find_map(|rule| Some((rule, rule.matches(entry, head, port, &name.namespace)?)));
    found.ok_or_else(|| NoRoute::Unmatched { virtual_service: name.clone(), path: head.uri.path().to_owned() })
}

/// Namespace and name of an object.
pub(super) fn name_of(object: &Value) -> Option<NamespacedName> {
    let metadata = &object["metadata"];
    Some(NamespacedName::new(metadata["namespace"].as_str()?, metadata["name"].as_str()?))
}
