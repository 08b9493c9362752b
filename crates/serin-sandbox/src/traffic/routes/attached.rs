//! Which HTTPRoutes take a request, and what a gateway controller says of them.

use serde_json::{Value, json};

use serin_core::model::NamespacedName;

use super::gateway_route::{Backend, Fitting, GatewayRoute, Parent, ParentKind};
use super::listeners::{Attaching, Listener, Refusal};
use super::{Entry, Head, Kind, NoRoute, Retries, Route, Routes, hosts};

/// Who says it.
const CONTROLLER: &str = "serin.dev/sandbox";

/// What a controller says of an object: its status, without times.
#[derive(Debug)]
pub(in crate::traffic) struct Said {
    pub(in crate::traffic) kind: Kind,
    pub(in crate::traffic) key: NamespacedName,
    pub(in crate::traffic) status: Value,
    /// What is there.
    pub(in crate::traffic) live: Value,
}

impl Routes {
    /// Where a request goes by HTTPRoutes; `None` if none of them is for its host.
    pub(super) fn by_gateway_route(
        &self,
        entry: Entry<'_>,
        head: Head<'_>,
        random: &mut fastrand::Rng,
    ) -> Option<Result<Route, NoRoute>> {
        let (host, port) = hosts::split(head.authority);
        let fit = |(key, route): (&NamespacedName, &GatewayRoute)| self.fit(entry, host, port, key, route);
        let all = self.gateway_routes.iter();
        let all: Vec<_> = all.filter_map(|found| Some((fit(found)?, found.0, found.1))).collect();
        let closest = all.iter().map(|(fit, _, _)| *fit).max()?;
        let all = all.into_iter().filter(|(fit, _, _)| *fit == closest);
        let (mut best, mut first): (Option<(Fitting<'_>, &NamespacedName, &GatewayRoute)>, _) = (None, None);
        for (_, key, route) in all {
            if let Err(reason) = &route.rules {
                return Some(Err(NoRoute::Unsupported { virtual_service: key.clone(), reason: reason.clone() }));
            }
            first.get_or_insert(key);
            let Some(fitting) = route.fitting(head) else { continue };
            let is_better = best.as_ref().is_none_or(|(known, _, older)| {
                (fitting.closeness, older.created()) > (known.closeness, route.created())
            });
            if is_better {
                best = Some((fitting, key, route));
            }
        }
        Some(match best {
            Some((fitting, key, _)) => self.along_gateway_route(head, random, key, &fitting),
            None => Err(NoRoute::Unmatched { virtual_service: first?.clone(), path: head.uri.path().to_owned() }),
        })
    }

    /// How closely a route is for a host that comes in at `entry`.
    fn fit(
        &self,
        entry: Entry<'_>,
        host: &str,
        port: u16,
        key: &NamespacedName,
        route: &GatewayRoute,
    ) -> Option<usize> {
        match entry {
            Entry::Ingress => {
                let listeners = route.parents.iter().filter_map(|parent| self.taking(key, route, parent)?.ok());
                let serves = listeners.flatten().any(|listener| listener.serves(host));
                route.host_fit(host).filter(|_| serves)
            }
            Entry::Mesh { namespace, .. } => {
                let wanted = hosts::service(host, namespace)?;
                let of_service = |parent: &Parent| {
                    parent.kind == ParentKind::Service
                        && parent.key == wanted
                        && key.namespace == wanted.namespace
                        && parent.port.is_none_or(|wanted| wanted == port)
                };
                route.parents.iter().any(of_service).then_some(usize::MAX)
            }
        }
    }

    /// The listeners of a parent that take a route; `None` if the parent is no Gateway that is there.
    fn taking(
        &self,
        key: &NamespacedName,
        route: &GatewayRoute,
        parent: &Parent,
    ) -> Option<Result<Vec<&Listener>, Refusal>> {
        if parent.kind != ParentKind::Gateway {
            return None;
        }
        let attaching = Attaching {
            namespace: &key.namespace,
            section: parent.section.as_deref(),
            port: parent.port,
            hostnames: &route.hostnames,
        };
        Some(self.listeners.get(&parent.key)?.taking(&parent.key.namespace, attaching))
    }

    fn along_gateway_route(
        &self,
        head: Head<'_>,
        random: &mut fastrand::Rng,
        key: &NamespacedName,
        fitting: &Fitting<'_>,
    ) -> Result<Route, NoRoute> {
        let unsupported = |reason: String| NoRoute::Unsupported { virtual_service: key.clone(), reason };
        let rule = fitting.rule;
        let (backend, headers) =
            rule.pick(random).ok_or_else(|| unsupported("the rule has no backend with a weight".to_owned()))?;
        let resolve = |backend: &Backend| {
            if let Some((_, message)) = self.unresolved(key, backend) {
                return Err(unsupported(message));
            }
            let (Some(service), Some(port)) = (&backend.service, backend.port) else {
                return Err(unsupported("a backend names no port".to_owned()));
            };
            Ok((service.clone(), self.port(service, port, true)?))
        };
        let (service, port) = resolve(backend)?;
        let mirrors = rule.mirrors.iter().map(resolve).collect::<Result<_, _>>()?;
        let (path, authority) = fitting.rewritten(head.uri);
        // Nothing is tried again unless a route says so, and these cannot.
        let retries = Retries { attempts: 0, per_try_timeout: rule.backend_timeout, on: Vec::new() };
        Ok(Route { service, port, path, authority, timeout: rule.timeout, retries, mirrors, headers })
    }

    /// Why a backend cannot be reached: reason and message of the condition.
    fn unresolved(&self, route: &NamespacedName, backend: &Backend) -> Option<Refusal> {
        let Some(service) = &backend.service else {
            return Some(("InvalidKind", format!("a backend is a {}, not a Service", backend.kind)));
        };
        if service.namespace != route.namespace {
            return Some(("RefNotPermitted", format!("no ReferenceGrant lends Service {service} to this route")));
        }
        (!self.services.contains_key(service))
            .then(|| ("BackendNotFound", format!("Service {service} does not exist")))
    }

    /// What a gateway controller says of all Gateways and HTTPRoutes.
    pub(in crate::traffic) fn said(&self) -> Vec<Said> {
        let routes = self.gateway_routes.iter().map(|(key, route)| Said {
            kind: Kind::HttpRoute,
            key: key.clone(),
            status: json!({"parents": self.said_of_route(key, route)}),
            live: route.status.clone(),
        });
        let gateways = self.listeners.iter().map(|(key, gateway)| Said {
            kind: Kind::Listeners,
            key: key.clone(),
            status: json!({
                "conditions": [
                    condition("Accepted", Ok(()), gateway.generation),
                    condition("Programmed", Ok(()), gateway.generation),
                ],
                "listeners": gateway.all().iter().map(|listener| self.said_of_listener(key, listener, gateway.generation)).collect::<Vec<_>>(),
            }),
            live: gateway.status.clone(),
        });
        gateways.chain(routes).collect()
    }

    fn said_of_listener(&self, key: &NamespacedName, listener: &Listener, generation: i64) -> Value {
        let attached = self.gateway_routes.iter().filter(|(route_key, route)| {
            let of_this = route.parents.iter().filter(|parent| parent.key == *key);
            let taking = of_this.filter_map(|parent| self.taking(route_key, route, parent)?.ok()).flatten();
            taking.into_iter().any(|taking| std::ptr::eq(taking, listener))
        });
        json!({
            "name": listener.name,
            "attachedRoutes": attached.count(),
            "supportedKinds": [{"group": super::gateway_route::GROUP, "kind": "HTTPRoute"}],
            "conditions": [
                condition("Accepted", Ok(()), generation),
                condition("Programmed", Ok(()), generation),
                condition("ResolvedRefs", Ok(()), generation),
            ],
        })
    }

    fn said_of_route(&self, key: &NamespacedName, route: &GatewayRoute) -> Vec<Value> {
        let of_rules = route.rules.as_ref().map(|_| ()).map_err(|reason| ("UnsupportedValue", reason.clone()));
        let resolved = route.rules.as_ref().map_or(Ok(()), |rules| {
            let backends = rules
                .iter()
                .flat_map(|rule| rule.backends.iter().map(|(backend, _, _)| backend).chain(&rule.mirrors));
            backends.into_iter().find_map(|backend| self.unresolved(key, backend)).map_or(Ok(()), Err)
        });
        let of_parent = |parent: &Parent| {
            let taken = match parent.kind {
                ParentKind::Gateway => self.taking(key, route, parent)?.map(|_| ()),
                ParentKind::Service if self.services.contains_key(&parent.key) => Ok(()),
                // It is nobody's whom the sandbox stands for.
                ParentKind::Service | ParentKind::Other => return None,
            };
            Some(json!({
                "parentRef": parent.reference,
                "controllerName": CONTROLLER,
                "conditions": [
                    condition("Accepted", taken.and_then(|()| of_rules.clone()), route.generation),
                    condition("ResolvedRefs", resolved.clone(), route.generation),
                ],
            }))
        };
        route.parents.iter().filter_map(of_parent).collect()
    }
}

fn condition(kind: &str, holds: Result<(), Refusal>, generation: i64) -> Value {
    let (status, reason, message) = match holds {
        Ok(()) => ("True", kind.to_owned(), String::new()),
        Err((reason, message)) => ("False", reason.to_owned(), message),
    };
    json!({"type": kind, "status": status, "reason": reason, "message": message, "observedGeneration": generation})
}
