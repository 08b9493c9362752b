//! Jobs that measure: how one is made of a metric, and what its end means.

use serde_json::{Map, Value, json};

use crate::analysisrun::RUN_UID;
use crate::api::argo::JobMetric;
use crate::api::{ARGO_GROUP, ARGO_VERSION};
use crate::model::NamespacedName;

/// Annotations of a Job: whose measurement it is.
const RUN_NAME: &str = "analysisrun.argoproj.io/name";
const RUN_NAMESPACE: &str = "analysisrun.argoproj.io/namespace";
const METRIC: &str = "analysisrun.argoproj.io/metric-name";
/// Longest name: it becomes a label of the Job's pods.
const NAME_MAX: usize = 63;
/// Why a pod waits without end. A pull that has failed once is tried again and may succeed.
const STUCK: [&str; 3] = ["ErrImagePull", "ImagePullBackOff", "InvalidImageName"];

/// A Job, reduced on arrival.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct JobView {
    pub(super) name: String,
    pub(super) resource_version: String,
    /// Uid of the run that it measures for.
    pub(super) run: String,
    pub(super) created: String,
    pub(super) end: Option<JobEnd>,
}

/// How a Job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct JobEnd {
    /// `Complete` or `Failed`.
    pub(super) condition: String,
    /// Why, where that is worth saying.
    pub(super) message: Option<String>,
}

impl JobView {
    pub(super) fn of(job: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let metadata = &job["metadata"];
        let conditions = job["status"]["conditions"].as_array().into_iter().flatten();
        let ended = |condition: &&Value| {
            condition["status"] == "True" && (condition["type"] == "Complete" || condition["type"] == "Failed")
        };
        let end = conditions.into_iter().find(ended).map(|condition| {
            let failed = condition["type"] == "Failed";
            let (reason, message) = (text(&condition["reason"]), text(&condition["message"]));
            let said = format!("Job {}: {reason}: {message}", text(&metadata["name"]));
            JobEnd { condition: text(&condition["type"]), message: failed.then_some(said) }
        });
        Self {
            name: text(&metadata["name"]),
            resource_version: text(&metadata["resourceVersion"]),
            run: text(&metadata["labels"][RUN_UID]),
            created: text(&metadata["creationTimestamp"]),
            end,
        }
    }
}

/// A pod of such a Job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PodView {
    pub(super) job: String,
    pub(super) run: String,
    /// Why it will never run, in words.
    pub(super) stuck: Option<String>,
}

impl PodView {
    pub(super) fn of(pod: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (metadata, status) = (&pod["metadata"], &pod["status"]);
        let owners = metadata["ownerReferences"].as_array().into_iter().flatten();
        let job = owners.into_iter().find(|owner| owner["kind"] == "Job").map(|owner| text(&owner["name"]));
        let containers = ["initContainerStatuses", "containerStatuses"].into_iter();
        let mut waiting = containers.filter_map(|key| status[key].as_array()).flatten();
        let stuck = waiting.find_map(|container| {
            let waiting = &container["state"]["waiting"];
            let reason = waiting["reason"].as_str().filter(|reason| STUCK.contains(reason))?;
            let (name, container) = (text(&metadata["name"]), text(&container["name"]));
            let message = text(&waiting["message"]);
            Some(format!("Pod {name}, container {container} has terminal error ({reason}): {message}"))
        });
        Self { job: job.unwrap_or_default(), run: text(&metadata["labels"][RUN_UID]), stuck }
    }
}

/// The name of a measurement's Job. `slot` counts from 0.
pub(super) fn job_name(uid: &str, metric: &str, slot: u32) -> String {
    let number = slot.saturating_add(1);
    let rest = format!("{uid}..{number}").len();
    let room = NAME_MAX.saturating_sub(rest);
    let metric: String = metric.chars().filter(char::is_ascii).take(room).collect();
    format!("{uid}.{metric}.{number}")
}

/// The Job of a measurement.
pub(super) fn job(run: &NamespacedName, uid: &str, metric: &str, slot: u32, written: &JobMetric) -> Value {
    let JobMetric { metadata, spec } = written;
    let given = |field: &str| {
        let found = metadata.as_ref().and_then(|metadata| metadata[field].as_object());
        found.cloned().unwrap_or_default()
    };
    let with = |mut map: Map<String, Value>, pairs: &[(&str, &str)]| {
        map.extend(pairs.iter().map(|(key, value)| ((*key).to_owned(), json!(value))));
        Value::Object(map)
    };
    let mut spec = spec.clone();
    if !spec["template"]["metadata"]["labels"].is_object() {
        spec["template"]["metadata"]["labels"] = json!({});
    }
    spec["template"]["metadata"]["labels"][RUN_UID] = json!(uid);
    let NamespacedName { namespace, name } = run;
    json!({
        "kind": "Job",
        "metadata": {
            "name": job_name(uid, metric, slot),
            "namespace": namespace,
            "labels": with(given("labels"), &[(RUN_UID, uid)]),
            "annotations": with(given("annotations"), &[(RUN_NAME, name), (RUN_NAMESPACE, namespace), (METRIC, metric)]),
            "ownerReferences": [{
                "apiVersion": format!("{ARGO_GROUP}/{ARGO_VERSION}"), "kind": "AnalysisRun", "name": name, "uid": uid,
                "controller": true, "blockOwnerDeletion": true,
            }],
        },
        "spec": spec,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "0f6b7a2e-3c1d-4b57-9a55-0123456789ab";

    #[test]
    fn a_job_is_named_by_its_slot_and_belongs_to_its_run() {
        assert_eq!(job_name(UID, "smoke", 0), format!("{UID}.smoke.1"));
        assert_eq!(job_name(UID, &"x".repeat(100), 9).len(), NAME_MAX);
        let written: JobMetric = serde_json::from_value(json!({
            "metadata": {"labels": {"team": "a"}}, "spec": {"backoffLimit": 0, "template": {"spec": {"containers": []}}},
        }))
        .unwrap();
        let job = job(&NamespacedName::new("demo", "web-1"), UID, "smoke", 0, &written);
        assert_eq!(job["metadata"]["labels"], json!({"team": "a", RUN_UID: UID}));
        assert_eq!(job["metadata"]["ownerReferences"][0]["name"], "web-1");
        assert_eq!(job["spec"]["template"]["metadata"]["labels"], json!({RUN_UID: UID}));
    }

    #[test]
    fn what_a_jobs_end_says() {
        let ended = |kind: &str| {
            let condition =
                json!({"type": kind, "status": "True", "reason": "DeadlineExceeded", "message": "too long"});
            JobView::of(&json!({"metadata": {"name": "j"}, "status": {"conditions": [condition]}})).end
        };
        assert_eq!(ended("Complete").unwrap().message, None);
        assert_eq!(ended("Failed").unwrap().message.as_deref(), Some("Job j: DeadlineExceeded: too long"));
        assert_eq!(ended("FailureTarget"), None);
        let pod = json!({
            "metadata": {"name": "p", "ownerReferences": [{"kind": "Job", "name": "j"}]},
            "status": {"containerStatuses": [{"name": "c", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}]},
        });
        let said = "Pod p, container c has terminal error (ImagePullBackOff): no such image";
        assert_eq!(PodView::of(&pod).stuck.as_deref(), Some(said));
    }
}
