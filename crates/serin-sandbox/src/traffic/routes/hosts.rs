//! Names of hosts, Services and Gateways.

use serin_core::model::NamespacedName;

/// Port of plain HTTP.
const HTTP_PORT: u16 = 80;
const CLUSTER_DOMAIN: &str = ".svc.cluster.local";

/// Host and port of an authority.
pub(in crate::traffic) fn split(authority: &str) -> (&str, u16) {
    match authority.rsplit_once(':').map(|(host, port)| (host, port.parse())) {
        Some((host, Ok(port))) => (host, port),
        Some((_, Err(_))) | None => (authority, HTTP_PORT),
    }
}

/// The Service that a host names: short in `namespace`, with a namespace, or in full.
pub(super) fn service(host: &str, namespace: &str) -> Option<NamespacedName> {
    let host = host.strip_suffix('.').unwrap_or(host);
    let host = host.strip_suffix(CLUSTER_DOMAIN).or_else(|| host.strip_suffix(".svc")).unwrap_or(host);
    let mut labels = host.split('.');
    match (labels.next(), labels.next(), labels.next()) {
        (Some(name), None, None) if !name.is_empty() => Some(NamespacedName::new(namespace, name)),
        (Some(name), Some(namespace), None) => Some(NamespacedName::new(namespace, name)),
        _ => None,
    }
}

/// A Service's full name.
pub(in crate::traffic) fn full(service: &NamespacedName) -> String {
    format!("{}.{}{CLUSTER_DOMAIN}", service.name, service.namespace)
}

/// The Gateway that a VirtualService names: `namespace/name`, `name`, or a name in full.
pub(super) fn gateway(reference: &str, namespace: &str) -> Option<NamespacedName> {
    match reference.split_once('/') {
        Some((".", name)) => Some(NamespacedName::new(namespace, name)),
        Some((namespace, name)) => Some(NamespacedName::new(namespace, name)),
        None => service(reference, namespace),
    }
}

/// How closely a pattern (`*`, `*.suffix` or a name) matches a host: more is closer.
pub(super) fn specificity(pattern: &str, host: &str) -> Option<usize> {
    match pattern.strip_prefix('*') {
        Some(suffix) if host.len() >= suffix.len() && ends_with(host, suffix) => Some(suffix.len()),
        Some(_) => None,
        // An exact name beats any wildcard.
        None => pattern.eq_ignore_ascii_case(host).then_some(usize::MAX),
    }
}

fn ends_with(host: &str, suffix: &str) -> bool {
    host.get(host.len() - suffix.len()..).is_some_and(|tail| tail.eq_ignore_ascii_case(suffix))
}
