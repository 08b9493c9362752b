//! The Canary's spec.

// Clippy takes the equal types and priorities of two printer columns for one attribute given twice.
#![allow(clippy::duplicated_attributes)]

use std::collections::BTreeMap;
use std::time::Duration;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::analysis::CanaryAnalysis;
use super::environment::WaitFor;
use super::schema::number;
use super::service::CanaryService;
use super::status::CanaryStatus;
use super::window::ReleaseWindow;

/// Flagger's default of `spec.progressDeadlineSeconds`.
const PROGRESS_DEADLINE: Duration = Duration::from_secs(600);

/// How one workload is released.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "flagger.app",
    version = "v1beta1",
    kind = "Canary",
    plural = "canaries",
    namespaced,
    status = "CanaryStatus",
    derive = "PartialEq",
    category = "all",
    printcolumn(name = "Status", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Weight", type_ = "string", json_path = ".status.canaryWeight"),
    printcolumn(name = "Suspended", type_ = "boolean", json_path = ".spec.suspend", priority = 1),
    printcolumn(name = "FailedChecks", type_ = "string", json_path = ".status.failedChecks", priority = 1),
    printcolumn(name = "Interval", type_ = "string", json_path = ".spec.analysis.interval", priority = 1),
    printcolumn(name = "Mirror", type_ = "boolean", json_path = ".spec.analysis.mirror", priority = 1),
    printcolumn(name = "StepWeight", type_ = "string", json_path = ".spec.analysis.stepWeight", priority = 1),
    printcolumn(name = "StepWeights", type_ = "string", json_path = ".spec.analysis.stepWeights", priority = 1),
    printcolumn(name = "MaxWeight", type_ = "string", json_path = ".spec.analysis.maxWeight", priority = 1),
    printcolumn(name = "WaitingOn", type_ = "string", json_path = ".status.serin.waitingOn", priority = 1),
    printcolumn(name = "LastTransitionTime", type_ = "string", json_path = ".status.lastTransitionTime")
)]
#[serde(rename_all = "camelCase")]
pub struct CanarySpec {
    /// What shifts traffic; the daemon's default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<Provider>,
    /// Prometheus address for the built-in checks and inline queries; the daemon's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics_server: Option<String>,
    /// Longest time in seconds either side may take to become ready; 600 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "number")]
    pub progress_deadline_seconds: Option<i64>,
    /// The workload to release.
    pub target_ref: LocalObjectRef,
    /// The target's autoscaler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscaler_ref: Option<AutoscalerRef>,
    /// The Ingress, for ingress controllers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress_ref: Option<LocalObjectRef>,
    /// The ApisixRoute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route_ref: Option<LocalObjectRef>,
    /// The Gloo Upstream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream_ref: Option<NamespacedObjectRef>,
    /// The services and routes to generate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<CanaryService>,
    /// Promote without steps and checks.
    #[serde(default)]
    pub skip_analysis: bool,
    /// Hand the target back as it was when the Canary is deleted. Serin always does; kept for Flagger's manifests.
    #[serde(default)]
    pub revert_on_deletion: bool,
    /// Do nothing, keep everything as it is.
    #[serde(default)]
    pub suspend: bool,
    /// When releases of new revisions may begin, besides what serin.yaml says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub release_windows: Vec<ReleaseWindow>,
    /// Other environments that have to have run a new revision first, besides those of serin.yaml.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wait_for: Vec<WaitFor>,
    /// Steps, checks and hooks.
    pub analysis: CanaryAnalysis,
}

impl CanarySpec {
    /// The apex service's name: `service.name`, or the target's.
    pub fn service_name(&self) -> &str {
        self.service.as_ref().and_then(|service| service.name.as_deref()).unwrap_or(&self.target_ref.name)
    }

    /// Longest time either side may take to become ready.
    pub fn progress_deadline(&self) -> Duration {
        self.progress_deadline_seconds
            .and_then(|seconds| u64::try_from(seconds).ok())
            .filter(|seconds| *seconds > 0)
            .map_or(PROGRESS_DEADLINE, Duration::from_secs)
    }
}

/// What shifts traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Provider {
    /// Apache APISIX.
    #[serde(rename = "apisix")]
    Apisix,
    /// AWS App Mesh.
    #[serde(rename = "appmesh")]
    AppMesh,
    /// AWS App Mesh.
    #[serde(rename = "appmesh:v1beta2")]
    AppMeshV1Beta2,
    /// Contour.
    #[serde(rename = "contour")]
    Contour,
    /// Gateway API.
    #[serde(rename = "gatewayapi:v1")]
    GatewayApiV1,
    /// Gateway API.
    #[serde(rename = "gatewayapi:v1beta1")]
    GatewayApiV1Beta1,
    /// Gloo.
    #[serde(rename = "gloo")]
    Gloo,
    /// Istio.
    #[serde(rename = "istio")]
    Istio,
    /// Knative.
    #[serde(rename = "knative")]
    Knative,
    /// Plain Kubernetes services, no weights.
    #[serde(rename = "kubernetes")]
    Kubernetes,
    /// Kuma.
    #[serde(rename = "kuma")]
    Kuma,
    /// Linkerd.
    #[serde(rename = "linkerd")]
    Linkerd,
    /// ingress-nginx.
    #[serde(rename = "nginx")]
    Nginx,
    /// Open Service Mesh.
    #[serde(rename = "osm")]
    Osm,
    /// Skipper.
    #[serde(rename = "skipper")]
    Skipper,
    /// Service Mesh Interface.
    #[serde(rename = "smi:v1alpha1")]
    SmiV1Alpha1,
    /// Service Mesh Interface.
    #[serde(rename = "smi:v1alpha2")]
    SmiV1Alpha2,
    /// Service Mesh Interface.
    #[serde(rename = "smi:v1alpha3")]
    SmiV1Alpha3,
    /// Traefik.
    #[serde(rename = "traefik")]
    Traefik,
}

/// An object in the Canary's namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocalObjectRef {
    /// API version, as the user wrote it; it may be one the server no longer serves.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
}

impl LocalObjectRef {
    /// The API group that its kind is served in today: workloads have left `extensions`, which old manifests still name.
    pub fn group(&self) -> &str {
        let group = self.api_version.split_once('/').map_or("", |(group, _)| group);
        match (group, self.kind.as_str()) {
            ("extensions" | "", "Deployment" | "DaemonSet" | "StatefulSet" | "ReplicaSet") => "apps",
            (group, _) => group,
        }
    }
}

/// An object in a namespace, the Canary's when absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NamespacedObjectRef {
    /// API version.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
    /// Namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// The target's autoscaler. `autoscaling/v2beta2` and other versions of the past are accepted: only kind and name count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AutoscalerRef {
    /// API version, as the user wrote it.
    pub api_version: String,
    /// `HorizontalPodAutoscaler` or `ScaledObject`.
    #[schemars(extend("enum" = ["HorizontalPodAutoscaler", "ScaledObject"]))]
    pub kind: String,
    /// Name.
    pub name: String,
    /// KEDA: trigger name to the primary's query.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub primary_scaler_queries: BTreeMap<String, String>,
    /// Replicas of the primary's autoscaler when they differ from the target's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary_scaler_replicas: Option<ScalerReplicas>,
}

/// Replica limits of the primary's autoscaler.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScalerReplicas {
    /// Minimum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub min_replicas: Option<i32>,
    /// Maximum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_replicas: Option<i32>,
}
