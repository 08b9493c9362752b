//! Deployments and their kin, jobs, autoscalers.

use serde_json::{Value, json};

use super::super::json::default;
use super::{each, pod};

/// `apps/v1` Deployment.
pub(super) fn deployment(object: &mut Value) {
    let spec = &mut object["spec"];
    default(spec, "replicas", 1);
    default(spec, "revisionHistoryLimit", 10);
    default(spec, "progressDeadlineSeconds", 600);
    default(spec, "strategy", json!({}));
    default(&mut spec["strategy"], "type", "RollingUpdate");
    if spec["strategy"]["type"] == "RollingUpdate" {
        default(&mut spec["strategy"], "rollingUpdate", json!({}));
        default(&mut spec["strategy"]["rollingUpdate"], "maxUnavailable", "25%");
        default(&mut spec["strategy"]["rollingUpdate"], "maxSurge", "25%");
    }
    fill_template(spec, "/template/spec");
}

/// `apps/v1` ReplicaSet.
pub(super) fn replica_set(object: &mut Value) {
    if object["metadata"]["labels"].is_null()
        && let Some(labels) = object["spec"]["template"]["metadata"].get("labels").cloned()
    {
        object["metadata"]["labels"] = labels;
    }
    default(&mut object["spec"], "replicas", 1);
    fill_template(&mut object["spec"], "/template/spec");
}

/// `apps/v1` DaemonSet.
pub(super) fn daemon_set(object: &mut Value) {
    let spec = &mut object["spec"];
    default(spec, "revisionHistoryLimit", 10);
    default(spec, "updateStrategy", json!({}));
    default(&mut spec["updateStrategy"], "type", "RollingUpdate");
    if spec["updateStrategy"]["type"] == "RollingUpdate" {
        default(&mut spec["updateStrategy"], "rollingUpdate", json!({}));
        default(&mut spec["updateStrategy"]["rollingUpdate"], "maxUnavailable", 1);
        default(&mut spec["updateStrategy"]["rollingUpdate"], "maxSurge", 0);
    }
    fill_template(spec, "/template/spec");
}

/// `apps/v1` StatefulSet.
pub(super) fn stateful_set(object: &mut Value) {
    let spec = &mut object["spec"];
    default(spec, "replicas", 1);
    default(spec, "revisionHistoryLimit", 10);
    default(spec, "podManagementPolicy", "OrderedReady");
    default(spec, "updateStrategy", json!({}));
    default(&mut spec["updateStrategy"], "type", "RollingUpdate");
    if spec["updateStrategy"]["type"] == "RollingUpdate" {
        default(&mut spec["updateStrategy"], "rollingUpdate", json!({}));
        default(&mut spec["updateStrategy"]["rollingUpdate"], "partition", 0);
    }
    default(spec, "persistentVolumeClaimRetentionPolicy", json!({}));
    for moment in ["whenDeleted", "whenScaled"] {
        default(&mut spec["persistentVolumeClaimRetentionPolicy"], moment, "Retain");
    }
    each(spec.get_mut("volumeClaimTemplates"), |claim| {
        default(claim, "apiVersion", "v1");
        default(claim, "kind", "PersistentVolumeClaim");
        default(&mut claim["spec"], "volumeMode", "Filesystem");
        default(claim, "status", json!({"phase": "Pending"}));
    });
    fill_template(spec, "/template/spec");
}

/// `batch/v1` Job.
pub(super) fn job(spec: &mut Value) {
    if spec["completions"].is_null() && spec["parallelism"].is_null() {
        default(spec, "completions", 1);
    }
    default(spec, "parallelism", 1);
    default(spec, "backoffLimit", 6);
    default(spec, "completionMode", "NonIndexed");
    default(spec, "suspend", false);
    default(spec, "podReplacementPolicy", "TerminatingOrFailed");
    fill_template(spec, "/template/spec");
}

/// `batch/v1` CronJob.
pub(super) fn cron_job(object: &mut Value) {
    let spec = &mut object["spec"];
    default(spec, "concurrencyPolicy", "Allow");
    default(spec, "suspend", false);
    default(spec, "successfulJobsHistoryLimit", 3);
    default(spec, "failedJobsHistoryLimit", 1);
    fill_template(spec, "/jobTemplate/spec/template/spec");
}

/// `autoscaling/v2` HorizontalPodAutoscaler.
pub(super) fn autoscaler(object: &mut Value) {
    let spec = &mut object["spec"];
    default(spec, "minReplicas", 1);
    let target = json!({"type": "Utilization", "averageUtilization": 80});
    default(spec, "metrics", json!([{"type": "Resource", "resource": {"name": "cpu", "target": target}}]));
    if !spec["behavior"].is_object() {
        return;
    }
    let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
    let pods = json!({"type": "Pods", "value": 4, "periodSeconds": 15});
    let up = &mut spec["behavior"]["scaleUp"];
    default(up, "stabilizationWindowSeconds", 0);
    default(up, "selectPolicy", "Max");
    default(up, "policies", json!([pods, percent]));
    let down = &mut spec["behavior"]["scaleDown"];
    default(down, "selectPolicy", "Max");
    default(down, "policies", json!([percent]));
}

/// Fills the pod template, if there is one; its absence is validation's business.
fn fill_template(spec: &mut Value, path: &str) {
    if let Some(template) = spec.pointer_mut(path) {
        pod::fill(template);
    }
}
