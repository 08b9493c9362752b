//! Kinds that no API server has, in groups of which all are known: Kubernetes' own and ours.

use crate::api::{GROUP, SOURCE_GROUP, SOURCE_VERSION, VERSION};
use crate::sync;

/// A group, a version that is served for good, and all of its kinds.
type Row = (&'static str, &'static str, &'static [&'static str]);

/// Kubernetes' groups with their stable versions, and ours. Versions that come and go (alpha, beta) are the cluster's to judge.
const KNOWN: &[Row] = &[
    (
        "",
        "v1",
        &[
            "Binding",
            "ConfigMap",
            "Endpoints",
            "Event",
            "LimitRange",
            "List",
            "Namespace",
            "Node",
            "PersistentVolume",
            "PersistentVolumeClaim",
            "Pod",
            "PodTemplate",
            "ReplicationController",
            "ResourceQuota",
            "Secret",
            "Service",
            "ServiceAccount",
        ],
    ),
    (
        "admissionregistration.k8s.io",
        "v1",
        &[
            "MutatingAdmissionPolicy",
            "MutatingAdmissionPolicyBinding",
            "MutatingWebhookConfiguration",
            "ValidatingAdmissionPolicy",
            "ValidatingAdmissionPolicyBinding",
            "ValidatingWebhookConfiguration",
        ],
    ),
    ("apiextensions.k8s.io", "v1", &["CustomResourceDefinition"]),
    ("apiregistration.k8s.io", "v1", &["APIService"]),
    ("apps", "v1", &["ControllerRevision", "DaemonSet", "Deployment", "ReplicaSet", "StatefulSet"]),
    ("autoscaling", "v1", &["HorizontalPodAutoscaler"]),
    ("autoscaling", "v2", &["HorizontalPodAutoscaler"]),
    ("batch", "v1", &["CronJob", "Job"]),
    ("certificates.k8s.io", "v1", &["CertificateSigningRequest"]),
    ("coordination.k8s.io", "v1", &["Lease"]),
    ("discovery.k8s.io", "v1", &["EndpointSlice"]),
    ("events.k8s.io", "v1", &["Event"]),
    ("flowcontrol.apiserver.k8s.io", "v1", &["FlowSchema", "PriorityLevelConfiguration"]),
    ("networking.k8s.io", "v1", &["IPAddress", "Ingress", "IngressClass", "NetworkPolicy", "ServiceCIDR"]),
    ("node.k8s.io", "v1", &["RuntimeClass"]),
    ("policy", "v1", &["PodDisruptionBudget"]),
    ("rbac.authorization.k8s.io", "v1", &["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"]),
    ("scheduling.k8s.io", "v1", &["PriorityClass"]),
    (
        "storage.k8s.io",
        "v1",
        &[
            "CSIDriver",
            "CSINode",
            "CSIStorageCapacity",
            "StorageClass",
            "VolumeAttachment",
            "VolumeAttributesClass",
        ],
    ),
    (GROUP, VERSION, &["AlertProvider", "Canary", "MetricTemplate"]),
    (SOURCE_GROUP, SOURCE_VERSION, &["Source"]),
];

/// Why no API server knows a kind, and what may be meant; `None` if one may. What is merely gone is told elsewhere.
pub(super) fn unknown(object: &serde_json::Value) -> Option<String> {
    let (api_version, kind) = (object["apiVersion"].as_str()?, object["kind"].as_str()?);
    if sync::gone_version(object).is_some() || sync::not_served(object).is_some() {
        return None;
    }
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let mut versions = KNOWN.iter().filter(|(known, ..)| *known == group).peekable();
    if versions.peek().is_none() {
        // A definition's group has a dot.
        return (!group.contains('.')).then(|| told(api_version, kind));
    }
    let ours = group == GROUP || group == SOURCE_GROUP;
    match versions.find(|(_, known, _)| *known == version) {
        Some((_, _, kinds)) => (!kinds.contains(&kind)).then(|| told(api_version, kind)),
        None if !ours && is_passing(version) => None,
        None => Some(told(api_version, kind)),
    }
}

/// Versions that a cluster may serve for a while.
fn is_passing(version: &str) -> bool {
    version.contains("alpha") || version.contains("beta")
}

fn told(api_version: &str, kind: &str) -> String {
    let meant = meant(kind).map(|meant| format!(", did you mean {meant}?")).unwrap_or_default();
    format!("no API server knows {kind} in {api_version}{meant}")
}

/// The kind of the same name, or one that differs in what people mistype: case, and an `s` at the end.
fn meant(kind: &str) -> Option<String> {
    let bare = |kind: &str| kind.to_lowercase().trim_end_matches('s').to_owned();
    let found = KNOWN.iter().rev().find_map(|(group, version, kinds)| {
        let kind = kinds.iter().find(|known| bare(known) == bare(kind))?;
        Some((group, version, kind))
    });
    let (group, version, kind) = found?;
    Some(if group.is_empty() { format!("{version} {kind}") } else { format!("{group}/{version} {kind}") })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_no_server_knows_is_told_with_what_was_meant() {
        for (version, kind, meant) in [
            ("v1", "Deployment", Some("apps/v1 Deployment")),
            ("apps/v1", "Service", Some("v1 Service")),
            ("apps/v1", "deployment", Some("apps/v1 Deployment")),
            ("v1", "Services", Some("v1 Service")),
            ("app/v1", "Deployment", Some("apps/v1 Deployment")),
            ("apps/v2", "Deployment", Some("apps/v1 Deployment")),
            ("flagger.app/v1beta1", "canary", Some("flagger.app/v1beta1 Canary")),
            ("flagger.app/v1alpha3", "Canary", Some("flagger.app/v1beta1 Canary")),
            ("autoscaling/v1", "Autoscaler", None),
        ] {
            let said = unknown(&json!({"apiVersion": version, "kind": kind})).unwrap();
            let hint = meant.map(|meant| format!(", did you mean {meant}?")).unwrap_or_default();
            assert_eq!(said, format!("no API server knows {kind} in {version}{hint}"));
        }
    }

    #[test]
    fn what_a_server_may_know_is_its_own_to_judge() {
        for (version, kind) in [
            ("apps/v1", "Deployment"),
            ("autoscaling/v2", "HorizontalPodAutoscaler"),
            ("networking.k8s.io/v1beta1", "IPAddress"),
            ("storage.k8s.io/v1alpha1", "VolumeAttributesClass"),
            ("gateway.networking.k8s.io/v1", "HTTPRoute"),
            ("example.com/v1", "Anything"),
            // Told elsewhere, in words of its own.
            ("extensions/v1beta1", "Ingress"),
            ("autoscaling/v2beta2", "HorizontalPodAutoscaler"),
        ] {
            assert_eq!(unknown(&json!({"apiVersion": version, "kind": kind})), None, "{version} {kind}");
        }
    }
}
