//! Which hosts a Canary may take for itself in a mesh: a route for another namespace's Service would lead its clients here.

use crate::api::CanaryService;

use super::istio::MESH_GATEWAY;
use super::{FieldProblem, RouteAsk};

/// What a Service's full name has behind its namespace; the cluster's domain may follow.
const SERVICE_LABEL: &str = "svc";

/// The first host that belongs to somebody else.
pub(super) fn check(ask: &RouteAsk<'_>) -> Result<(), FieldProblem> {
    let RouteAsk { namespace, spec, rules: _ } = ask;
    let CanaryService { hosts, gateways, delegation, .. } = spec;
    let in_mesh = !delegation && (gateways.is_empty() || gateways.iter().any(|gateway| gateway == MESH_GATEWAY));
    let problem = |(index, host): (usize, &String)| {
        let why = if let Some(owner) = foreign(host, namespace) {
            format!(
                "`{host}` is {owner}: a Canary routes to Services of its own namespace {namespace} only; remove it, or put \
                 the Canary beside the Service"
            )
        } else if in_mesh && host == "*" {
            "`*` cannot be bound to the mesh: it would be every host of every client; name hosts, or remove the gateway mesh"
                .to_owned()
        } else {
            return None;
        };
        let path = format!("spec.service.hosts[{index}]");
        Some(FieldProblem { message: format!("{path} {why}"), path })
    };
    hosts.iter().enumerate().find_map(problem).map_or(Ok(()), Err)
}

/// Whose Service a host names, in words, if it is not one of `namespace`: in full, or with a wildcard that takes in more than
/// this namespace.
fn foreign(host: &str, namespace: &str) -> Option<String> {
    let host = host.to_ascii_lowercase();
    let labels: Vec<&str> = host.trim_end_matches('.').split('.').collect();
    match (labels.first(), labels.iter().position(|label| *label == SERVICE_LABEL)) {
        (Some(&"*"), Some(at)) if at < 2 => Some("the Services of all namespaces".to_owned()),
        (Some(&"*"), None) if is_cluster_domain(&labels[1..]) => Some("the Services of all namespaces".to_owned()),
        (Some(_), Some(at @ 1..)) if labels[at - 1] != namespace && at <= 2 => {
            Some(format!("a Service of namespace {}", labels[at - 1]))
        }
        _ => None,
    }
}

/// A wildcard above all Services.
fn is_cluster_domain(labels: &[&str]) -> bool {
    matches!(labels, ["cluster", "local"] | ["local"])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(hosts: &[&str], gateways: &[&str]) -> Option<String> {
        let spec: CanaryService =
            serde_json::from_value(json!({"port": 80, "hosts": hosts, "gateways": gateways})).unwrap();
        check(&RouteAsk { namespace: "shop", spec: &spec, rules: &[] }).err().map(|problem| problem.message)
    }

    #[test]
    fn hosts_of_other_namespaces_are_refused_by_name() {
        let foreign = [
            "bank.bank.svc.cluster.local",
            "bank.bank.svc",
            "BANK.bank.svc.cluster.local.",
            "*.bank.svc.cluster.local",
            "*.svc.cluster.local",
            "*.cluster.local",
            "*.local",
            "bank.bank.svc.my.domain",
        ];
        for host in foreign {
            for gateways in [&[][..], &["istio-system/public"], &["istio-system/public", "mesh"]] {
                let said = said(&["shop.example.com", host], gateways);
                assert!(
                    said.as_ref().is_some_and(|said| said.starts_with("spec.service.hosts[1] ")),
                    "{host}: {said:?}"
                );
            }
        }
        assert!(said(&["bank.bank.svc"], &[]).unwrap().contains("a Service of namespace bank"));
        let own =
            ["web", "web.shop.svc.cluster.local", "web.shop.svc", "*.shop.svc.cluster.local", "svc.example.com"];
        for host in own.into_iter().chain(["web.bank", "app.example.com", "*.example.com"]) {
            assert_eq!(said(&[host], &[]), None, "{host}");
        }
    }

    #[test]
    fn the_whole_mesh_is_nobodys() {
        assert_eq!(said(&["*"], &["istio-system/public"]), None);
        for gateways in [&[][..], &["mesh"], &["public", "mesh"]] {
            assert!(said(&["*"], gateways).unwrap().contains("cannot be bound to the mesh"));
        }
    }
}
