use serde_json::json;

use super::*;

fn owned(kind: &str, name: &str, owner: &str, more: Value) -> Value {
    let mut object = json!({
        "kind": kind,
        "metadata": {
            "name": name, "uid": name, "creationTimestamp": "2026-01-01T00:00:00Z",
            "ownerReferences": [{"uid": owner, "controller": true}],
        },
    });
    json_patch::merge(&mut object, &more);
    object
}

fn set(hash: &str, revision: u64, replicas: i64, image: &str) -> Value {
    let more = json!({
        "metadata": {"labels": {HASH: hash}, "annotations": {REVISION: revision.to_string()}},
        "spec": {"replicas": replicas, "template": {"spec": {"containers": [{"image": image}]}}},
        "status": {"availableReplicas": replicas},
    });
    owned("ReplicaSet", &format!("web-{hash}"), "web", more)
}

fn shown() -> Shown {
    let rollout = json!({
        "metadata": {
            "name": "web", "namespace": "demo", "uid": "web", "generation": 2,
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {"replicas": 2, "strategy": {"canary": {"steps": [
            {"setWeight": 20}, {"pause": {}}, {"setWeight": 60}
        ]}}},
        "status": {
            "observedGeneration": "2", "phase": "Paused", "message": "CanaryPauseStep",
            "currentStepIndex": 1, "controllerPause": true, "pauseConditions": [{"reason": "CanaryPauseStep"}],
            "stableRS": "aaa", "currentPodHash": "bbb", "replicas": 3, "updatedReplicas": 1, "readyReplicas": 2,
            "availableReplicas": 2, "canary": {"weights": {"canary": {"weight": 20}}},
        },
    });
    let ready = json!({
        "spec": {"containers": [{}]},
        "status": {"phase": "Running", "containerStatuses": [{"ready": true, "restartCount": 1}]},
    });
    let pulls = json!({
        "spec": {"containers": [{}]},
        "status": {"phase": "Pending", "containerStatuses": [
            {"ready": false, "restartCount": 0, "state": {"waiting": {"reason": "ImagePullBackOff"}}}
        ]},
    });
    let mut old = set("ccc", 1, 1, "web:0");
    old["metadata"]["annotations"][DEADLINE] = json!("2026-01-01T00:01:15Z");
    Shown {
        rollout,
        sets: vec![set("aaa", 2, 2, "web:1"), set("bbb", 3, 1, "web:2"), old],
        pods: vec![owned("Pod", "web-bbb-1", "web-bbb", pulls), owned("Pod", "web-aaa-1", "web-aaa", ready)],
        runs: Vec::new(),
    }
}

#[test]
fn a_rollout_is_shown_as_argos_plugin_shows_it() {
    let now: Timestamp = "2026-01-01T00:00:45Z".parse().unwrap();
    let text = render(&shown(), now);
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    let expected = "\
Name:            web
Namespace:       demo
Status:          ॥ Paused
Message:         CanaryPauseStep
Strategy:        Canary
  Step:          1/3
  SetWeight:     20
  ActualWeight:  20
Images:          web:0
                 web:1 (stable)
                 web:2 (canary)
Replicas:
  Desired:       2
  Current:       3
  Updated:       1
  Ready:         2
  Available:     2

NAME                  KIND        STATUS              AGE  INFO
⟳ web                 Rollout     ॥ Paused            45s
├──# revision:3
│  └──⧉ web-bbb       ReplicaSet  ✔ Healthy           45s  canary
│     └──□ web-bbb-1  Pod         ⚠ ImagePullBackOff  45s  ready:0/1
├──# revision:2
│  └──⧉ web-aaa       ReplicaSet  ✔ Healthy           45s  stable
│     └──□ web-aaa-1  Pod         ✔ Running           45s  ready:1/1,restarts:1
└──# revision:1
   └──⧉ web-ccc       ReplicaSet  ✔ Healthy           45s  delay:30s";
    assert_eq!(lines.join("\n"), expected);
}

#[test]
fn runs_are_shown_in_their_revision_with_their_counts_and_jobs() {
    let mut shown = shown();
    let run = |name: &str, revision: &str, status: Value| {
        let more = json!({"metadata": {"annotations": {REVISION: revision}}, "status": status});
        owned("AnalysisRun", name, "web", more)
    };
    let job =
        json!({"phase": "Running", "startedAt": "2026-01-01T00:00:30Z", "metadata": {"job-name": "uid.smoke.1"}});
    let counted = json!({"name": "rate", "successful": 4, "failed": 2, "inconclusive": 1, "error": 3});
    let measured = json!({"name": "smoke", "measurements": [job]});
    shown.runs = vec![
        run("web-bbb-3", "3", json!({"phase": "Error", "metricResults": [counted]})),
        run("web-bbb-3-1", "3", json!({"phase": "Running", "metricResults": [measured]})),
        run("web-ccc-1", "1", json!({"phase": "Inconclusive"})),
    ];
    let text = render(&shown, "2026-01-01T00:00:45Z".parse().unwrap());
    let tree = text.lines().map(str::trim_end).skip_while(|line| !line.starts_with("NAME"));
    let expected = "\
NAME                    KIND         STATUS              AGE  INFO
⟳ web                   Rollout      ॥ Paused            45s
├──# revision:3
│  ├──⧉ web-bbb         ReplicaSet   ✔ Healthy           45s  canary
│  │  └──□ web-bbb-1    Pod          ⚠ ImagePullBackOff  45s  ready:0/1
│  ├──α web-bbb-3       AnalysisRun  ⚠ Error             45s  ✔ 4,✖ 2,? 1,⚠ 3
│  └──α web-bbb-3-1     AnalysisRun  ◌ Running           45s
│     └──⊞ uid.smoke.1  Job          ◌ Running           15s
├──# revision:2
│  └──⧉ web-aaa         ReplicaSet   ✔ Healthy           45s  stable
│     └──□ web-aaa-1    Pod          ✔ Running           45s  ready:1/1,restarts:1
└──# revision:1
   ├──⧉ web-ccc         ReplicaSet   ✔ Healthy           45s  delay:30s
   └──α web-ccc-1       AnalysisRun  ? Inconclusive      45s";
    assert_eq!(tree.collect::<Vec<_>>().join("\n"), expected);
}

#[test]
fn what_is_not_observed_yet_is_said() {
    let mut shown = shown();
    shown.rollout["status"]["pauseConditions"] = Value::Null;
    assert_eq!(phase(&shown.rollout).1, "waiting for rollout to unpause");
    shown.rollout["metadata"]["generation"] = json!(3);
    assert_eq!(phase(&shown.rollout).1, "waiting for rollout spec update to be observed");
}

#[test]
fn rollouts_are_listed() {
    let text = list(&[shown().rollout], true);
    let cells: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(cells[1], ["demo", "web", "Canary", "Paused", "1/3", "20", "2/3", "2", "1", "2"]);
}
