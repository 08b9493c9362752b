//! Argo Rollouts' words on objects.

/// Label of ReplicaSets and pods, and key of Services' selectors: the identity of a revision.
pub const HASH: &str = "rollouts-pod-template-hash";
/// Annotation of a Service: the Rollout that points it.
pub const MANAGED_BY: &str = "argo-rollouts.argoproj.io/managed-by-rollouts";
/// Annotation of a ReplicaSet and of its Rollout: the revision's number.
pub const REVISION: &str = "rollout.argoproj.io/revision";
/// Annotation of a ReplicaSet: the Rollout's replica count that it was scaled by.
pub const DESIRED: &str = "rollout.argoproj.io/desired-replicas";
/// Annotation of a ReplicaSet: when one that serves nobody any more goes to zero, in RFC 3339.
pub const DEADLINE: &str = "scale-down-deadline";
/// Of the kind.
pub const GROUP: &str = "argoproj.io";
/// Of the kind.
pub const VERSION: &str = "v1alpha1";
/// The kind.
pub const KIND: &str = "Rollout";
