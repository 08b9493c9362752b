//! What kube-controller-manager, the scheduler and a kubelet do, for the kinds in use: Deployment, ReplicaSet,
//! HorizontalPodAutoscaler, EndpointSlice, Namespace, ServiceAccount, garbage collection and one node.
//!
//! All are ordinary clients of the Kubernetes API: they watch, decide and write with `resourceVersion`, never reach into
//! a store, and do nothing while nothing changes. Each kind is watched once; changes wake the controllers that care.

mod claim;
mod deployment;
mod endpoints;
mod garbage;
mod hpa;
mod job;
mod namespace;
mod node;
mod objects;
mod replicaset;
mod runner;
mod watch;

pub(crate) use node::NODE;

use std::time::Duration;

use jiff::Timestamp;
use kube::Client;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::load::Loads;

/// Who the controllers say they are in `managedFields`.
const MANAGER: &str = "kube-controller-manager";

/// Longest wait before an unsuccessful pass is repeated without anything having changed.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Which controllers run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parts {
    /// Everything a control plane needs besides its API server.
    All,
    /// The node alone, for a control plane that has its own controllers.
    Node,
}

/// How the controllers behave; the times are those of the simulated pods.
#[derive(Debug, Clone, PartialEq)]
pub struct ControllerOptions {
    /// Which controllers run.
    pub parts: Parts,
    /// From a pod's creation to its being ready.
    pub readiness_delay: Duration,
    /// Longest a deleted pod lingers, whatever its `terminationGracePeriodSeconds`.
    pub max_grace: Duration,
    /// How long after a change an autoscaler looks at its target (a real one looks every 15 s).
    pub autoscaler_delay: Duration,
    /// What time it is for them: it follows tokio's clock, so that tests with paused time see deadlines pass.
    pub clock: Clock,
    /// Keep the node's Lease and status fresh, as a control plane with a node lifecycle controller wants it.
    pub heartbeat: Heartbeat,
    /// Divides the times that pods' specs give: probes' delays, hooks and commands that sleep.
    pub speed: f64,
    /// How busy pods are, where somebody says so: what a metrics server tells the autoscalers.
    pub loads: Loads,
}

/// Whether the node proves that it is alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heartbeat {
    /// It is written once: nobody doubts it and the cluster stays quiet.
    Once,
    /// It is renewed as a kubelet does.
    Renewed,
}

impl Default for ControllerOptions {
    fn default() -> Self {
        Self {
            parts: Parts::All,
            readiness_delay: Duration::from_millis(300),
            max_grace: Duration::from_secs(2),
            autoscaler_delay: Duration::from_millis(500),
            clock: Clock::following(Timestamp::now()),
            heartbeat: Heartbeat::Once,
            speed: 1.0,
            loads: Loads::default(),
        }
    }
}

/// Why a pass of a controller failed; it is repeated.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ControllerError {
    /// The API server refused or could not be reached; a conflict means that a newer version is on its way.
    #[error("request to the API server failed")]
    Api(#[from] kube::Error),
    /// An object could not be written as JSON.
    #[error("failed to serialise an object")]
    Json(#[from] serde_json::Error),
    /// An object lacks what the API server always sets.
    #[error("{object} has no {field}")]
    Incomplete {
        /// Kind and name.
        object: String,
        /// The absent field.
        field: &'static str,
    },
    /// Every address of the pod network is in use.
    #[error("no pod address is free in {network}")]
    NoAddress {
        /// The pod network.
        network: &'static str,
    },
}

/// Runs the controllers until shutdown.
pub async fn run(client: Client, options: ControllerOptions, shutdown: CancellationToken) {
    let mut tasks = JoinSet::new();
    runner::spawn(&mut tasks, client, options, &shutdown);
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a sandbox controller ended unexpectedly");
        }
    }
}
