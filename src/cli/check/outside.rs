//! Metrics and webhooks: what is asked from outside the cluster's own API.

use std::collections::BTreeMap;
use std::time::Duration;

use kube::ResourceExt as _;

use super::{Line, World};
use crate::analysis::Reading;
use crate::api::{Canary, Provider};
use crate::metrics::{Endpoint, PROMETHEUS};
use crate::router::DEFAULT_PROVIDER;

/// Longest wait for a webhook's host: it only has to answer anything.
const REACH: Duration = Duration::from_secs(5);
/// Targets that are asked about: the first ones show whether the mesh is measured.
const TARGETS_MAX: usize = 20;
/// Hosts of webhooks that are tried.
const HOSTS_MAX: usize = 20;

pub(super) async fn prometheus(world: &World, canaries: &[Canary]) -> Vec<Line> {
    const WHAT: &str = "metrics";
    let address = &world.settings.metrics_address;
    let endpoint = Endpoint { kind: PROMETHEUS.to_owned(), address: address.clone(), ..Endpoint::default() };
    let ask = |query: String| {
        let endpoint = endpoint.clone();
        async move { world.metrics.query(&endpoint, &query).await }
    };
    match ask("vector(1)".to_owned()).await {
        Reading::Value { .. } | Reading::List { .. } | Reading::Several { .. } | Reading::Json { .. } => {}
        Reading::NoData { reason } | Reading::Error { reason } | Reading::Misconfigured { reason } => {
            let words = format!("{address} cannot be asked: {reason}");
            return vec![Line::fail(
                WHAT,
                words,
                "metrics.address or --metrics-server has to name the mesh's Prometheus",
            )];
        }
    }
    let mut lines = vec![Line::pass(WHAT, format!("{address} answers queries"))];
    let istio = canaries.iter().filter(|it| it.spec.provider.unwrap_or(DEFAULT_PROVIDER) == Provider::Istio);
    for canary in istio.take(TARGETS_MAX) {
        let (namespace, target) = (canary.namespace().unwrap_or_default(), &canary.spec.target_ref.name);
        let query = format!(
            "sum(istio_requests_total{{destination_workload_namespace=\"{namespace}\",destination_workload=~\"{target}(-primary)?\"}})"
        );
        lines.push(match ask(query).await {
            Reading::Value { value } => {
                Line::pass(WHAT, format!("istio_requests_total of {namespace}/{target} arrives ({value} requests)"))
            }
            Reading::List { .. } | Reading::Json { .. } | Reading::NoData { .. } => Line::warn(
                WHAT,
                format!("there is no istio_requests_total of {namespace}/{target}: its checks would have no data"),
                format!(
                    "send it a request; then see that its pods have the sidecar (kubectl get ns {namespace} -L istio-injection) and \
                     that this Prometheus scrapes them"
                ),
            ),
            Reading::Several { reason } | Reading::Error { reason } | Reading::Misconfigured { reason } => {
                Line::fail(WHAT, format!("{namespace}/{target}: {reason}"), "see what Prometheus says to this query")
            }
        });
    }
    lines
}

/// Every host that webhooks are sent to, asked with a GET, which runs nothing.
pub(super) async fn webhooks(world: &World, canaries: &[Canary]) -> Vec<Line> {
    const WHAT: &str = "webhooks";
    let mut hosts: BTreeMap<String, (String, String)> = BTreeMap::new();
    for canary in canaries {
        for webhook in &canary.spec.analysis.webhooks {
            let Ok(url) = webhook.url.parse::<url::Url>() else { continue };
            let origin = url.origin().ascii_serialization();
            let owner =
                format!("{}/{} ({})", canary.namespace().unwrap_or_default(), canary.name_any(), webhook.name);
            hosts.entry(origin).or_insert((owner, webhook.url.clone()));
        }
    }
    let mut lines = Vec::new();
    for (origin, (owner, _)) in hosts.into_iter().take(HOSTS_MAX) {
        let request = world.clients.client(false).get(&origin).timeout(REACH).send().await;
        lines.push(match request {
            Ok(_) => Line::pass(WHAT, format!("{origin} answers")),
            Err(error) => Line::fail(
                WHAT,
                format!("{origin} does not answer: {}", crate::http::chain(error)),
                format!("Canary {owner} is sent there: see that it runs, and that a NetworkPolicy or a mesh lets the daemon in"),
            ),
        });
    }
    lines
}
