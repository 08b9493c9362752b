//! The Node object, and the Lease and status by which a control plane knows that the node lives.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{KUBELET, NODE, NODE_ADDRESS};
use crate::clock::Clock;
use crate::controllers::{ControllerError, Heartbeat, RETRY_AFTER};

/// Where kubelets keep their Leases.
const LEASE_NAMESPACE: &str = "kube-node-lease";
/// How long a Lease holds (a kubelet's default).
const LEASE_SECONDS: u32 = 40;
/// How often it is renewed: a quarter of that.
const RENEW_EVERY: Duration = Duration::from_secs(10);
/// How many renewals lie between two status writes (a kubelet reports an unchanged status every 5 minutes).
const RENEWALS_PER_STATUS: u32 = 30;
/// Sizes of the node, far above what the sandbox is asked for.
const CPUS: &str = "64";
const MEMORY: &str = "256Gi";
const PODS: &str = "10000";

/// Creates the node and keeps it alive until shutdown.
pub(super) async fn run(client: Client, clock: Clock, heartbeat: Heartbeat, shutdown: CancellationToken) {
    let mut beat = 0_u32;
    loop {
        let wait = match write(&client, &clock, heartbeat, beat).await {
            Ok(()) => match heartbeat {
                Heartbeat::Once => return,
                Heartbeat::Renewed => {
                    beat = beat.wrapping_add(1);
                    RENEW_EVERY
                }
            },
            Err(error) => {
                warn!(
                    node = NODE,
                    error = &error as &dyn std::error::Error,
                    "could not report the node, will retry"
                );
                RETRY_AFTER
            }
        };
        if shutdown.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
            return;
        }
    }
}

async fn write(client: &Client, clock: &Clock, heartbeat: Heartbeat, beat: u32) -> Result<(), ControllerError> {
    if beat.is_multiple_of(RENEWALS_PER_STATUS) {
        write_node(client, clock).await?;
    }
    match heartbeat {
        Heartbeat::Once => Ok(()),
        Heartbeat::Renewed => renew(client, clock).await,
    }
}

async fn write_node(client: &Client, clock: &Clock) -> Result<(), ControllerError> {
    let api: Api<Node> = Api::all(client.clone());
    let params = PatchParams::apply(KUBELET).force();
    let node = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": NODE, "labels": {
            "kubernetes.io/hostname": NODE, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
        }},
    });
    api.patch(NODE, &params, &Patch::Apply(&node)).await?;
    let now = clock.stamp();
    let since = match api.get(NODE).await?.status.and_then(|status| status.conditions) {
        Some(conditions) => conditions.into_iter().find_map(|condition| condition.last_transition_time),
        None => None,
    };
    let since = since.unwrap_or_else(|| now.clone());
    let condition = |kind: &str, status: &str, reason: &str, message: &str| {
        json!({
            "type": kind, "status": status, "reason": reason, "message": message,
            "lastHeartbeatTime": now, "lastTransitionTime": since,
        })
    };
    let size = json!({"cpu": CPUS, "memory": MEMORY, "pods": PODS});
    let status = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}, "status": {
        "capacity": size, "allocatable": size,
        "addresses": [{"type": "InternalIP", "address": NODE_ADDRESS}, {"type": "Hostname", "address": NODE}],
        "conditions": [
            condition("MemoryPressure", "False", "KubeletHasSufficientMemory", "the sandbox has sufficient memory"),
            condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "the sandbox uses no disk"),
            condition("PIDPressure", "False", "KubeletHasSufficientPID", "the sandbox starts no processes"),
            condition("Ready", "True", "KubeletReady", "the sandbox is posting ready status"),
        ],
        "nodeInfo": {
            "architecture": "amd64", "operatingSystem": "linux", "osImage": "serin sandbox", "kernelVersion": "",
            "kubeletVersion": concat!("v", env!("CARGO_PKG_VERSION"), "+serin"), "kubeProxyVersion": "",
            "containerRuntimeVersion": concat!("serin://", env!("CARGO_PKG_VERSION")),
            "machineID": "", "systemUUID": "", "bootID": "",
        },
    }});
    api.patch_status(NODE, &params, &Patch::Apply(&status)).await?;
    Ok(())
}

async fn renew(client: &Client, clock: &Clock) -> Result<(), ControllerError> {
    let api: Api<Lease> = Api::namespaced(client.clone(), LEASE_NAMESPACE);
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": NODE},
        "spec": {
            "holderIdentity": NODE, "leaseDurationSeconds": LEASE_SECONDS,
            // MicroTime: six digits, as Go writes them.
            "renewTime": clock.now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string(),
        },
    });
    api.patch(NODE, &PatchParams::apply(KUBELET).force(), &Patch::Apply(&lease)).await?;
    Ok(())
}
