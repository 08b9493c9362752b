//! In which order kinds are applied, and, backwards, pruned. PURE.

use crate::api;
use crate::model::ObjectRef;

/// Applied together; later stages may need earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Stage {
    /// What other objects cannot exist without: definitions and namespaces.
    Foundations,
    /// What workloads read: accounts, permissions, configs, volumes.
    Configs,
    /// What runs, and what leads to it.
    Workloads,
    /// Custom resources: routes, metric templates, alert providers.
    Others,
    /// Canaries: everything they refer to is there by now.
    Canaries,
    /// What can refuse other objects.
    Webhooks,
}

impl Stage {
    /// All, in the order of applying.
    pub(super) const ALL: [Self; 6] =
        [Self::Foundations, Self::Configs, Self::Workloads, Self::Others, Self::Canaries, Self::Webhooks];

    /// Where an object belongs.
    pub(super) fn of(id: &ObjectRef) -> Self {
        match (id.group.as_str(), id.kind.as_str()) {
            ("apiextensions.k8s.io", "CustomResourceDefinition") | ("", "Namespace") => Self::Foundations,
            (api::GROUP, "Canary") => Self::Canaries,
            ("admissionregistration.k8s.io" | "apiregistration.k8s.io", _) => Self::Webhooks,
            ("", "Pod" | "Service" | "ReplicationController" | "Endpoints")
            | ("apps" | "batch" | "autoscaling" | "policy" | "networking.k8s.io", _) => Self::Workloads,
            ("" | "rbac.authorization.k8s.io" | "storage.k8s.io" | "scheduling.k8s.io" | "node.k8s.io", _) => {
                Self::Configs
            }
            _ => Self::Others,
        }
    }
}

/// Whether prune must be allowed to delete it by an annotation, because data or other people's objects go with it.
pub(super) fn is_precious(id: &ObjectRef) -> bool {
    matches!(
        (id.group.as_str(), id.kind.as_str()),
        ("", "Namespace" | "PersistentVolumeClaim" | "PersistentVolume")
            | ("apiextensions.k8s.io", "CustomResourceDefinition")
    )
}
