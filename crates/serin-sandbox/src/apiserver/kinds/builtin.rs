//! The table of built-in kinds.

use std::sync::Arc;

use serde_json::json;

use super::{Origin, Resource, ScalePaths, api_version, storage_name};

/// Which subresources a built-in kind has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sub {
    None,
    Status,
    StatusAndScale,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    Namespaced,
    Cluster,
}

/// A row: group, version, kind, plural, short names, scope, subresources, package of its type.
type Row =
    (&'static str, &'static str, &'static str, &'static str, &'static [&'static str], Scope, Sub, &'static str);

const ROWS: &[Row] = &[
    ("", "v1", "ConfigMap", "configmaps", &["cm"], Scope::Namespaced, Sub::None, "api.core.v1"),
    ("", "v1", "Endpoints", "endpoints", &["ep"], Scope::Namespaced, Sub::None, "api.core.v1"),
    ("", "v1", "Event", "events", &["ev"], Scope::Namespaced, Sub::None, "api.core.v1"),
    ("", "v1", "Namespace", "namespaces", &["ns"], Scope::Cluster, Sub::Status, "api.core.v1"),
    ("", "v1", "Node", "nodes", &["no"], Scope::Cluster, Sub::Status, "api.core.v1"),
    (
        "",
        "v1",
        "PersistentVolumeClaim",
        "persistentvolumeclaims",
        &["pvc"],
        Scope::Namespaced,
        Sub::Status,
        "api.core.v1",
    ),
    ("", "v1", "Pod", "pods", &["po"], Scope::Namespaced, Sub::Status, "api.core.v1"),
    ("", "v1", "Secret", "secrets", &[], Scope::Namespaced, Sub::None, "api.core.v1"),
    ("", "v1", "ServiceAccount", "serviceaccounts", &["sa"], Scope::Namespaced, Sub::None, "api.core.v1"),
    ("", "v1", "Service", "services", &["svc"], Scope::Namespaced, Sub::Status, "api.core.v1"),
    (
        "apiextensions.k8s.io",
        "v1",
        "CustomResourceDefinition",
        "customresourcedefinitions",
        &["crd", "crds"],
        Scope::Cluster,
        Sub::Status,
        "",
    ),
    ("apps", "v1", "ControllerRevision", "controllerrevisions", &[], Scope::Namespaced, Sub::None, "api.apps.v1"),
    ("apps", "v1", "DaemonSet", "daemonsets", &["ds"], Scope::Namespaced, Sub::Status, "api.apps.v1"),
    (
        "apps",
        "v1",
        "Deployment",
        "deployments",
        &["deploy"],
        Scope::Namespaced,
        Sub::StatusAndScale,
        "api.apps.v1",
    ),
    ("apps", "v1", "ReplicaSet", "replicasets", &["rs"], Scope::Namespaced, Sub::StatusAndScale, "api.apps.v1"),
    ("apps", "v1", "StatefulSet", "statefulsets", &["sts"], Scope::Namespaced, Sub::StatusAndScale, "api.apps.v1"),
    (
        "autoscaling",
        "v2",
        "HorizontalPodAutoscaler",
        "horizontalpodautoscalers",
        &["hpa"],
        Scope::Namespaced,
        Sub::Status,
        "api.autoscaling.v2",
    ),
    ("batch", "v1", "CronJob", "cronjobs", &["cj"], Scope::Namespaced, Sub::Status, "api.batch.v1"),
    ("batch", "v1", "Job", "jobs", &[], Scope::Namespaced, Sub::Status, "api.batch.v1"),
    ("coordination.k8s.io", "v1", "Lease", "leases", &[], Scope::Namespaced, Sub::None, "api.coordination.v1"),
    (
        "discovery.k8s.io",
        "v1",
        "EndpointSlice",
        "endpointslices",
        &[],
        Scope::Namespaced,
        Sub::None,
        "api.discovery.v1",
    ),
    ("events.k8s.io", "v1", "Event", "events", &["ev"], Scope::Namespaced, Sub::None, "api.events.v1"),
    (
        "networking.k8s.io",
        "v1",
        "Ingress",
        "ingresses",
        &["ing"],
        Scope::Namespaced,
        Sub::Status,
        "api.networking.v1",
    ),
    (
        "networking.k8s.io",
        "v1",
        "NetworkPolicy",
        "networkpolicies",
        &["netpol"],
        Scope::Namespaced,
        Sub::None,
        "api.networking.v1",
    ),
    (
        "policy",
        "v1",
        "PodDisruptionBudget",
        "poddisruptionbudgets",
        &["pdb"],
        Scope::Namespaced,
        Sub::Status,
        "api.policy.v1",
    ),
    (
        "rbac.authorization.k8s.io",
        "v1",
        "ClusterRole",
        "clusterroles",
        &[],
        Scope::Cluster,
        Sub::None,
        "api.rbac.v1",
    ),
    (
        "rbac.authorization.k8s.io",
        "v1",
        "ClusterRoleBinding",
        "clusterrolebindings",
        &[],
        Scope::Cluster,
        Sub::None,
        "api.rbac.v1",
    ),
    ("rbac.authorization.k8s.io", "v1", "Role", "roles", &[], Scope::Namespaced, Sub::None, "api.rbac.v1"),
    (
        "rbac.authorization.k8s.io",
        "v1",
        "RoleBinding",
        "rolebindings",
        &[],
        Scope::Namespaced,
        Sub::None,
        "api.rbac.v1",
    ),
];

/// Kinds that are answered and not stored.
const REVIEWS: &[Row] = &[
    (
        "authentication.k8s.io",
        "v1",
        "SelfSubjectReview",
        "selfsubjectreviews",
        &[],
        Scope::Cluster,
        Sub::None,
        "api.authentication.v1",
    ),
    (
        "authorization.k8s.io",
        "v1",
        "SelfSubjectAccessReview",
        "selfsubjectaccessreviews",
        &[],
        Scope::Cluster,
        Sub::None,
        "api.authorization.v1",
    ),
];

/// Kinds in kubectl's category `all`.
const ALL: &[&str] = &[
    "Pod",
    "Service",
    "Deployment",
    "ReplicaSet",
    "StatefulSet",
    "DaemonSet",
    "HorizontalPodAutoscaler",
    "Job",
    "CronJob",
];

/// All built-in resources.
pub(super) fn resources() -> impl Iterator<Item = Resource> {
    let stored = ROWS.iter().map(|row| resource(row, Origin::BuiltIn));
    stored.chain(REVIEWS.iter().map(|row| resource(row, Origin::Review)))
}

fn resource(row: &Row, origin: Origin) -> Resource {
    let (group, version, kind, plural, short_names, scope, sub, package) = *row;
    let package = if package.is_empty() { "apiextensions-apiserver.pkg.apis.apiextensions.v1" } else { package };
    // Both groups' events are one store, kept in the core form.
    let storage_group = if group == "events.k8s.io" { "" } else { group };
    let categories = if ALL.contains(&kind) { &["all"][..] } else { &[] };
    let extensions = if kind == "CustomResourceDefinition" { &["api-extensions"][..] } else { categories };
    Resource {
        group: group.to_owned(),
        version: version.to_owned(),
        plural: plural.to_owned(),
        singular: kind.to_lowercase(),
        kind: kind.to_owned(),
        short_names: short_names.iter().map(|name| (*name).to_owned()).collect(),
        categories: extensions.iter().map(|name| (*name).to_owned()).collect(),
        namespaced: scope == Scope::Namespaced,
        has_status: sub != Sub::None,
        scale: (sub == Sub::StatusAndScale).then(scale_paths),
        schema: Arc::new(json!({"$ref": format!("io.k8s.{package}.{kind}")})),
        storage: storage_name(storage_group, plural),
        storage_api_version: api_version(storage_group, version),
        origin,
    }
}

fn scale_paths() -> ScalePaths {
    let path = |names: [&str; 2]| names.iter().map(|name| (*name).to_owned()).collect();
    ScalePaths {
        spec_replicas: path(["spec", "replicas"]),
        status_replicas: path(["status", "replicas"]),
        // Built-in kinds write a label selector, from which the string is made.
        selector: None,
    }
}

#[cfg(test)]
mod tests {
    use crate::apiserver::schema::OBJECT_META;

    use super::*;

    #[test]
    fn every_kind_has_its_type() {
        for resource in resources() {
            let metadata = resource.schema().property_node("metadata");
            assert_eq!(
                metadata.map(|node| node["$ref"].clone()),
                Some(json!(OBJECT_META)),
                "{} {}",
                resource.group,
                resource.kind
            );
        }
    }

    #[test]
    fn removed_autoscaling_versions_are_not_served() {
        assert!(resources().all(|resource| resource.group != "autoscaling" || resource.version == "v2"));
    }
}
