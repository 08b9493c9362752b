//! The primary's HorizontalPodAutoscaler. Read and written as `autoscaling/v2`, whatever version the Canary names.

use serde_json::{Map, Value, json};

use crate::model::Frozen;
use crate::release::Limits;

use super::metadata::{Owner, annotations, controller_of, set};

/// Part of the keys of labels with which Flux marks what it applied.
const TOOLKIT: &str = "toolkit.fluxcd.io";

/// What the daemon keeps of an autoscaler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AutoscalerView {
    /// `spec.minReplicas`, at least 1.
    pub minimum: i32,
    /// `spec.maxReplicas`.
    pub maximum: i32,
    /// `spec.scaleTargetRef.name`.
    pub scales: String,
    /// `spec`, to compare the two sides.
    pub spec: Frozen,
    /// `metadata.labels`, less those of Flux: an object that it does not know must not look like its own. Null without any.
    pub labels: Frozen,
    /// Uid of the controlling owner.
    pub owner_uid: Option<String>,
    /// `metadata.resourceVersion`.
    pub resource_version: String,
}

impl AutoscalerView {
    /// What it may do.
    pub fn limits(&self) -> Limits {
        Limits { minimum: self.minimum, maximum: self.maximum }
    }

    /// Keeps what matters of a full object.
    pub fn of(autoscaler: &Value) -> Self {
        let minimum = autoscaler["spec"]["minReplicas"].as_i64().unwrap_or(1).max(1);
        Self {
            minimum: i32::try_from(minimum).unwrap_or(i32::MAX),
            maximum: autoscaler["spec"]["maxReplicas"]
                .as_i64()
                .map_or(i32::MAX, |maximum| i32::try_from(maximum).unwrap_or(i32::MAX)),
            scales: autoscaler["spec"]["scaleTargetRef"]["name"].as_str().unwrap_or_default().to_owned(),
            spec: Frozen::of(&autoscaler["spec"]),
            labels: Frozen::of(&labels(&autoscaler["metadata"]["labels"])),
            owner_uid: controller_of(autoscaler),
            resource_version: autoscaler["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned(),
        }
    }
}

fn labels(labels: &Value) -> Value {
    let labels = labels.as_object().into_iter().flatten();
    let kept = labels.filter(|(key, _)| !key.contains(TOOLKIT));
    let kept: Map<String, Value> = kept.map(|(key, value)| (key.clone(), value.clone())).collect();
    if kept.is_empty() { Value::Null } else { Value::Object(kept) }
}

/// `autoscalerRef.primaryScalerReplicas`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AutoscalerOverrides {
    /// Minimum.
    pub min_replicas: Option<i32>,
    /// Maximum.
    pub max_replicas: Option<i32>,
}

impl AutoscalerOverrides {
    /// The same with at least `floor` as minimum, as far as the maximum allows.
    #[must_use]
    pub fn with_floor(self, source: &AutoscalerView, floor: i32) -> Self {
        let minimum = self.min_replicas.unwrap_or(source.minimum);
        let floor = floor.min(self.max_replicas.unwrap_or(source.maximum));
        if floor > minimum { Self { min_replicas: Some(floor), ..self } } else { self }
    }
}

/// `<autoscaler>-primary`, with spec and labels of the target's autoscaler.
pub fn primary_autoscaler(
    source_name: &str,
    source: &AutoscalerView,
    namespace: &str,
    primary: &str,
    overrides: AutoscalerOverrides,
    owner: &Owner,
) -> Value {
    let mut spec = source.spec.thaw();
    set(&mut spec, "scaleTargetRef", json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": primary}));
    let AutoscalerOverrides { min_replicas, max_replicas } = overrides;
    if let Some(min) = min_replicas {
        set(&mut spec, "minReplicas", Value::from(min));
    }
    if let Some(max) = max_replicas {
        set(&mut spec, "maxReplicas", Value::from(max));
    }
    let mut metadata = json!({
        "name": format!("{source_name}-primary"),
        "namespace": namespace,
        "annotations": annotations([]),
        "ownerReferences": [owner.reference()],
    });
    let labels = source.labels.thaw();
    if !labels.is_null() {
        set(&mut metadata, "labels", labels);
    }
    json!({
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": metadata,
        "spec": spec,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn primary_scales_primary_within_its_own_limits() {
        let spec = json!({
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "podinfo"},
            "minReplicas": 2, "maxReplicas": 4, "metrics": [{"type": "Resource"}], "behavior": {"scaleDown": {}}
        });
        let source = AutoscalerView::of(&json!({"spec": spec, "metadata": {
            "labels": {"app": "podinfo", "kustomize.toolkit.fluxcd.io/name": "apps"}}}));
        let overrides = AutoscalerOverrides { min_replicas: Some(3), max_replicas: None };
        let owner = Owner { name: "podinfo".into(), uid: "u".into() };
        let made = primary_autoscaler("podinfo", &source, "test", "podinfo-primary", overrides, &owner);
        assert_eq!(made["metadata"]["name"], "podinfo-primary");
        assert_eq!(made["metadata"]["labels"], json!({"app": "podinfo"}));
        assert_eq!(made["spec"]["scaleTargetRef"]["name"], "podinfo-primary");
        assert_eq!((&made["spec"]["minReplicas"], &made["spec"]["maxReplicas"]), (&json!(3), &json!(4)));
        assert_eq!(made["spec"]["behavior"], spec["behavior"]);
        assert_eq!(AutoscalerView::of(&made).minimum, 3);
        for (floor, minimum) in [(0, 3), (2, 3), (4, 4), (9, 4)] {
            let held = overrides.with_floor(&source, floor);
            assert_eq!(held.min_replicas, Some(minimum), "held at {floor}");
        }
    }
}
