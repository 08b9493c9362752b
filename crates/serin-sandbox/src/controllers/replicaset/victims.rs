//! Which pods go first when a ReplicaSet shrinks: those that serve least. Pure.

use std::cmp::Reverse;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;

use crate::controllers::objects::{phase, ready_since};

/// A user's say in the order: pods of lower cost go first.
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// The `count` pods to delete: without a node, not running, not ready, cheap, ready for the shortest time, restarted most
/// often, youngest.
pub(super) fn choose(pods: &[Arc<Pod>], count: usize) -> Vec<Arc<Pod>> {
    let mut ranked = pods.to_vec();
    ranked.sort_by_cached_key(|pod| {
        let assigned = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
        let phase = match phase(pod) {
            "Running" => 2,
            "Unknown" => 1,
            _ => 0,
        };
        let ready = ready_since(pod);
        let cost: i32 = pod.annotations().get(DELETION_COST).and_then(|cost| cost.parse().ok()).unwrap_or(0);
        (
            assigned,
            phase,
            ready.is_some(),
            cost,
            Reverse(ready),
            Reverse(restarts(pod)),
            Reverse(pod.creation_timestamp().map(|at| at.0)),
        )
    });
    ranked.truncate(count);
    ranked
}

fn restarts(pod: &Pod) -> i32 {
    let containers = pod.status.iter().filter_map(|status| status.container_statuses.as_ref()).flatten();
    containers.map(|container| container.restart_count).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, phase: &str, ready_at: Option<&str>) -> Arc<Pod> {
        let status = if ready_at.is_some() { "True" } else { "False" };
        let value = json!({
            "metadata": {"name": name}, "spec": {"nodeName": "sandbox", "containers": []},
            "status": {"phase": phase, "conditions": [{"type": "Ready", "status": status, "lastTransitionTime": ready_at}]}
        });
        Arc::new(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn pods_that_serve_least_go_first() {
        let pods = [
            pod("old", "Running", Some("2026-01-01T00:00:00Z")),
            pod("young", "Running", Some("2026-01-02T00:00:00Z")),
            pod("unready", "Running", None),
            pod("pending", "Pending", None),
        ];
        let names: Vec<_> = choose(&pods, 3).iter().map(|pod| pod.name_any()).collect();
        assert_eq!(names, ["pending", "unready", "young"]);
    }
}
