//! What the daemon keeps of a Deployment in memory, and whether it is ready, in Flagger's words.

use std::time::Duration;

use serde_json::Value;

use crate::api::annotations::{
    COPIED_FROM, HEIR, PENDING, REBUILT, RECORD_FAILED, RECORD_PROMOTED, REPLACED, REPLICAS, REVISION, WRITTEN,
};
use crate::manifest::{images, template_digest};
use crate::model::{Digest, Quarantined, Remembered, Revision};
use crate::release::{Count, Limits, Readiness, Updates, WorkloadObserved};

use super::metadata::controller_of;
use super::selector::{Labels, SelectorError, Sides};

/// What `kubectl rollout restart` puts on a pod template.
const RESTARTED_AT: &str = "kubectl.kubernetes.io/restartedAt";
/// Containers whose ports are the mesh's business (Flagger's list).
const SIDECARS: [&str; 2] = ["istio-proxy", "envoy"];
/// Condition reason with which the Deployment controller gives up.
const DEADLINE_EXCEEDED: &str = "ProgressDeadlineExceeded";

/// A Deployment, reduced on arrival: thousands of them stay in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeploymentView {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.resourceVersion`.
    pub resource_version: String,
    /// Digest of its own pod template.
    pub digest: Digest,
    /// Annotation: the target's digest that was copied here.
    pub copied_from: Option<Digest>,
    /// Annotation: digest of the template that was written here, if it is generated.
    pub written: Option<Digest>,
    /// Digest of its own pod template without what `kubectl rollout restart` puts there, if it has.
    pub unrestarted: Option<Digest>,
    /// Annotation: what `sync` wrote.
    pub revision: Option<Revision>,
    /// Annotation: what `sync` holds back.
    pub pending: Option<Revision>,
    /// Annotation: what was replaced before it was taken up.
    pub replaced: Vec<Revision>,
    /// Annotations: what the record in Git says of a target that the cluster knew nothing of.
    pub remembered: Option<Remembered>,
    /// Annotation: the record that it was made from, in words.
    pub rebuilt: Option<String>,
    /// Annotation: the Canary that takes over the service that leads to its pods.
    pub heir: Option<String>,
    /// Annotation: the replica count that Git names.
    pub size: Option<i32>,
    /// What tells primary and canary pods apart, if it is a target.
    pub sides: Result<Sides, SelectorError>,
    /// Labels of the pods that it makes.
    pub pod_labels: Labels,
    /// Uid of the controlling owner.
    pub owner_uid: Option<String>,
    /// Name and number of the TCP ports of all containers.
    pub ports: Vec<(String, i32)>,
    /// The images of all containers.
    pub images: Vec<String>,
    /// `spec.replicas`.
    pub replicas: i32,
    /// `spec.minReadySeconds`.
    pub settling: Duration,
    /// `spec.strategy`.
    updates: Updates,
    generation: i64,
    observed_generation: i64,
    status_replicas: i32,
    updated: i32,
    available: i32,
    stalled: bool,
    failure: Option<String>,
}

/// An object that cannot be a Deployment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("deployment {0} has no pod template")]
pub struct ViewError(String);

impl DeploymentView {
    /// Reduces a full object; `selector_labels` may tell the sides apart, most wanted first.
    pub fn of(deployment: &Value, selector_labels: &[String]) -> Result<Self, ViewError> {
        let (metadata, spec, status) = (&deployment["metadata"], &deployment["spec"], &deployment["status"]);
        let name = metadata["name"].as_str().unwrap_or_default().to_owned();
        if !spec["template"].is_object() {
            return Err(ViewError(name));
        }
        let count = |value: &Value, default: i32| {
            value.as_i64().map_or(default, |number| i32::try_from(number).unwrap_or(i32::MAX))
        };
        let annotation = |key: &str| metadata["annotations"][key].as_str();
        Ok(Self {
            resource_version: metadata["resourceVersion"].as_str().unwrap_or_default().to_owned(),
            digest: template_digest(&spec["template"]),
            copied_from: annotation(COPIED_FROM).and_then(|text| text.parse().ok()),
            written: annotation(WRITTEN).and_then(|text| text.parse().ok()),
            unrestarted: unrestarted(&spec["template"]),
            revision: annotation(REVISION).and_then(|text| text.parse().ok()),
            pending: annotation(PENDING).and_then(|text| text.parse().ok()),
            replaced: annotation(REPLACED).map(Revision::list).unwrap_or_default(),
            remembered: annotation(RECORD_PROMOTED).and_then(|promoted| {
                let failed = annotation(RECORD_FAILED).map(Quarantined::list).unwrap_or_default();
                Some(Remembered { promoted: promoted.parse().ok()?, failed })
            }),
            rebuilt: annotation(REBUILT).map(str::to_owned),
            heir: annotation(HEIR).map(str::to_owned),
            size: annotation(REPLICAS).and_then(|text| text.parse().ok()),
            sides: Sides::of(deployment, selector_labels),
            pod_labels: Labels::of(&spec["template"]["metadata"]["labels"]),
            owner_uid: controller_of(deployment),
            ports: container_ports(&spec["template"]),
            images: images(&spec["template"]),
            replicas: count(&spec["replicas"], 1),
            settling: Duration::from_secs(spec["minReadySeconds"].as_u64().unwrap_or(0)),
            updates: updates(&spec["strategy"]),
            generation: metadata["generation"].as_i64().unwrap_or(0),
            observed_generation: status["observedGeneration"].as_i64().unwrap_or(0),
            status_replicas: count(&status["replicas"], 0),
            updated: count(&status["updatedReplicas"], 0),
            available: count(&status["availableReplicas"], 0),
            stalled: condition(status, "Progressing").is_some_and(|found| found["reason"] == DEADLINE_EXCEEDED),
            failure: condition(status, "ReplicaFailure")
                .filter(|found| found["status"] == "True")
                .and_then(|found| Some(found["message"].as_str()?.to_owned())),
            name,
        })
    }

    /// The target's digest that was copied here, unless somebody has changed the template since. Pods that somebody asked
    /// to be started anew run what was promoted all the same.
    pub fn carries(&self) -> Option<&Digest> {
        let is = |written: &Digest| *written == self.digest || self.unrestarted.as_ref() == Some(written);
        let untouched = self.written.as_ref().is_none_or(is);
        self.copied_from.as_ref().filter(|_| untouched)
    }

    /// [`Self::carries`] of a full object.
    pub fn carried_by(deployment: &Value) -> Option<Digest> {
        Self::of(deployment, &[]).ok()?.carries().cloned()
    }

    /// The target as the engine sees it; `limits` are its autoscaler's.
    pub fn as_target(&self, limits: Option<Limits>) -> WorkloadObserved {
        self.observed(self.digest.clone(), limits)
    }

    /// The primary as the engine sees it: in terms of the target's digest that was copied. One that somebody changed has
    /// the digest of its own template, which is nobody's.
    pub fn as_primary(&self, limits: Option<Limits>) -> WorkloadObserved {
        self.observed(self.carries().unwrap_or(&self.digest).clone(), limits)
    }

    fn observed(&self, digest: Digest, limits: Option<Limits>) -> WorkloadObserved {
        WorkloadObserved {
            digest,
            stamped: self.revision.clone(),
            generation: self.generation,
            replicas: self.replicas,
            limits,
            readiness: self.readiness(limits.map_or(1, |limits| limits.minimum.max(1))),
            available: self.available.min(self.updated),
            serving: self.available,
            updates: self.updates,
        }
    }

    fn readiness(&self, minimum: i32) -> Readiness {
        if self.observed_generation < self.generation {
            return self.waiting("observed deployment generation less than desired generation".to_owned());
        }
        if self.stalled {
            return Readiness::Stalled(format!("deployment \"{}\" exceeded its progress deadline", self.name));
        }
        // Scaled to zero is as wanted; otherwise the autoscaler's minimum counts even before it has acted.
        let wanted = if self.replicas == 0 { 0 } else { self.replicas.max(minimum) };
        if self.updated < self.replicas {
            self.waiting(format!("{} out of {} new replicas have been updated", self.updated, self.replicas))
        } else if self.status_replicas > self.updated {
            let old = self.status_replicas - self.updated;
            self.waiting(format!("{old} old replicas are pending termination"))
        } else if self.available < wanted {
            let (available, total) = (self.available, wanted.max(self.updated));
            self.waiting(format!("{available} of {total} (readyThreshold 100%) updated replicas are available"))
        } else {
            Readiness::Ready
        }
    }

    fn waiting(&self, reason: String) -> Readiness {
        match &self.failure {
            Some(failure) => Readiness::Waiting(format!("waiting for rollout to finish: {reason} ({failure})")),
            None => Readiness::Waiting(format!("waiting for rollout to finish: {reason}")),
        }
    }
}

fn condition<'a>(status: &'a Value, kind: &str) -> Option<&'a Value> {
    status["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

/// A Deployment's strategy. What Kubernetes would not have stored is read as its default.
fn updates(strategy: &Value) -> Updates {
    if strategy["type"] == "Recreate" {
        return Updates::Recreate;
    }
    let Updates::Rolling { missing, surge } = Updates::DEFAULT else { return Updates::DEFAULT };
    let rolling = &strategy["rollingUpdate"];
    Updates::Rolling {
        missing: count(&rolling["maxUnavailable"]).unwrap_or(missing),
        surge: count(&rolling["maxSurge"]).unwrap_or(surge),
    }
}

/// `3` or `"25%"`.
fn count(value: &Value) -> Option<Count> {
    let number = |number: i64| i32::try_from(number).unwrap_or(i32::MAX);
    match value {
        Value::Number(pods) => pods.as_i64().map(|pods| Count::Pods(number(pods))),
        Value::String(percent) => {
            percent.strip_suffix('%')?.parse().ok().map(|percent| Count::Percent(number(percent)))
        }
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Ports without a name get Flagger's: `tcp-<container>-<index>`.
fn container_ports(template: &Value) -> Vec<(String, i32)> {
    let containers = template["spec"]["containers"].as_array().into_iter().flatten();
    let containers = containers.filter(|container| !SIDECARS.iter().any(|name| container["name"] == *name));
    containers.flat_map(ports_of).collect()
}

fn ports_of(container: &Value) -> impl Iterator<Item = (String, i32)> {
    let ports = container["ports"].as_array().into_iter().flatten().enumerate();
    ports.filter_map(|(index, port)| {
        if port["protocol"].as_str().is_some_and(|protocol| protocol != "TCP") {
            return None;
        }
        let number = i32::try_from(port["containerPort"].as_i64()?).ok()?;
        let name = port["name"].as_str().map(str::to_owned);
        let container = container["name"].as_str().unwrap_or_default();
        Some((name.unwrap_or_else(|| format!("tcp-{container}-{index}")), number))
    })
}

/// The digest before `kubectl rollout restart`, if there was one.
fn unrestarted(template: &Value) -> Option<Digest> {
    template["metadata"]["annotations"].get(RESTARTED_AT)?;
    let mut template = template.clone();
    let metadata = template["metadata"].as_object_mut()?;
    let annotations = metadata.get_mut("annotations")?.as_object_mut()?;
    annotations.remove(RESTARTED_AT);
    if annotations.is_empty() {
        metadata.remove("annotations");
    }
    Some(template_digest(&template))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deployment(replicas: i64, status: Value) -> DeploymentView {
        DeploymentView::of(&json!({
            "metadata": {"name": "podinfo", "namespace": "test", "generation": 2},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "podinfo"}}, "template": {"spec": {}}},
            "status": status,
        }), &["app".to_owned()])
        .unwrap()
    }

    fn readiness(replicas: i64, minimum: i32, status: Value) -> String {
        let limits = Some(Limits { minimum, maximum: i32::MAX });
        match deployment(replicas, status).as_target(limits).readiness {
            Readiness::Ready => "ready".to_owned(),
            Readiness::Waiting(reason) => reason.trim_start_matches("waiting for rollout to finish: ").to_owned(),
            Readiness::Stalled(reason) => format!("stalled: {reason}"),
        }
    }

    #[test]
    fn judges_in_flaggers_words() {
        let status = |replicas: i64, updated: i64, available: i64| json!({"observedGeneration": 2, "replicas": replicas, "updatedReplicas": updated, "availableReplicas": available});
        let cases = [
            (
                2,
                1,
                json!({"observedGeneration": 1}),
                "observed deployment generation less than desired generation",
            ),
            (2, 1, status(2, 1, 1), "1 out of 2 new replicas have been updated"),
            (2, 1, status(3, 2, 3), "1 old replicas are pending termination"),
            (2, 1, status(2, 2, 1), "1 of 2 (readyThreshold 100%) updated replicas are available"),
            (1, 2, status(1, 1, 1), "1 of 2 (readyThreshold 100%) updated replicas are available"),
            (2, 2, status(2, 2, 2), "ready"),
            (0, 2, status(0, 0, 0), "ready"),
            (0, 2, status(1, 0, 1), "1 old replicas are pending termination"),
        ];
        for (replicas, minimum, status, expected) in cases {
            assert_eq!(readiness(replicas, minimum, status), expected);
        }
    }

    #[test]
    fn a_primary_that_was_restarted_still_carries_what_was_promoted() {
        let template = json!({"spec": {"containers": [{"name": "a", "image": "a:1"}]}});
        let promoted = template_digest(&template).to_string();
        let primary = |template: &Value| {
            let annotations = json!({COPIED_FROM: promoted, WRITTEN: promoted});
            let metadata = json!({"name": "a-primary", "annotations": annotations});
            let spec = json!({"template": template});
            DeploymentView::of(&json!({"metadata": metadata, "spec": spec}), &[]).unwrap()
        };
        let carries = |template: &Value| primary(template).carries().map(ToString::to_string);
        assert_eq!(carries(&template), Some(promoted.clone()));
        let mut restarted = template.clone();
        restarted["metadata"] = json!({"annotations": {RESTARTED_AT: "2026-01-02T03:04:05Z"}});
        assert_eq!(carries(&restarted), Some(promoted.clone()));
        restarted["spec"]["containers"][0]["image"] = json!("a:2");
        assert_eq!(carries(&restarted), None);
    }

    #[test]
    fn a_strategy_is_read_as_kubernetes_reads_it() {
        let rolling = |missing, surge| Updates::Rolling { missing, surge };
        let cases = [
            (json!({"type": "Recreate"}), Updates::Recreate),
            (json!(null), Updates::DEFAULT),
            (json!({"rollingUpdate": {"maxUnavailable": 0}}), rolling(Count::Pods(0), Count::Percent(25))),
            (
                json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "100%", "maxSurge": 1}}),
                rolling(Count::Percent(100), Count::Pods(1)),
            ),
        ];
        for (strategy, expected) in cases {
            assert_eq!(updates(&strategy), expected, "{strategy}");
        }
    }

    #[test]
    fn ports_are_named_as_flagger_names_them_and_sidecars_keep_theirs() {
        let template = json!({"spec": {"containers": [
            {"name": "app", "ports": [{"name": "http", "containerPort": 9898}, {"containerPort": 53, "protocol": "UDP"},
                {"containerPort": 9999, "protocol": "TCP"}]},
            {"name": "istio-proxy", "ports": [{"containerPort": 15090}]},
            {"name": "none"}]}});
        assert_eq!(container_ports(&template), [("http".to_owned(), 9898), ("tcp-app-2".to_owned(), 9999)]);
    }

    #[test]
    fn a_passed_deadline_stalls_and_a_replica_failure_is_told() {
        let stalled = json!({"observedGeneration": 2,
            "conditions": [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]});
        assert_eq!(readiness(1, 1, stalled), "stalled: deployment \"podinfo\" exceeded its progress deadline");
        let quota = json!({"observedGeneration": 2,
            "conditions": [{"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}]});
        assert_eq!(readiness(1, 1, quota), "0 out of 1 new replicas have been updated (exceeded quota)");
    }
}
