//! Rollouts of Argo Rollouts, led by the same engine: seed 004's story without Git.

mod blue_green;
mod crash;
mod pods;
mod subsets;
mod workload;
mod world;

use std::sync::Arc;
use std::time::Duration;

use kube::api::{DeleteParams, ListParams};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use serin::cluster::{Clock, NoProbe};
use serin::rollout::keys::HASH;

use super::writes::Written;
use world::{NAME, World, engine, rollout, steps};

/// Longer than anything that is only on its way.
const A_WHILE: Duration = Duration::from_secs(300);

#[tokio::test(start_paused = true)]
async fn a_rollout_before_its_services_and_route_mends_itself_and_leaves_the_route_as_it_was() {
    let world = World::empty().await;
    let _serin = world.serin();
    world.create("argoproj.io", "v1alpha1", "Rollout", rollout(steps(), 2)).await;
    world.reaches("Degraded", "InvalidSpec: The Rollout \"istio-rollout\" is invalid: spec.strategy.canary").await;
    assert_eq!(world.sets().await, []);
    world.surroundings().await;
    let before = world.route().await;
    world.reaches("Healthy", "").await;
    let status = world.status().await;
    assert_eq!(status["currentStepIndex"], 6);
    assert_eq!(status["canary"]["weights"]["stable"]["weight"], 100);
    assert_eq!(status["observedGeneration"], "1");
    assert_eq!(status["selector"], "app=istio-rollout");
    tokio::time::sleep(A_WHILE).await;
    let hash = status["stableRS"].clone();
    assert_eq!((world.led("stable").await, world.led("canary").await), (hash.clone(), hash));
    assert_eq!(world.route().await["metadata"]["resourceVersion"], before["metadata"]["resourceVersion"]);
}

#[tokio::test(start_paused = true)]
async fn the_seeds_update_pauses_is_promoted_and_walks_its_steps() {
    let world = World::new(steps(), 4).await;
    let _serin = world.serin();
    world.reaches("Healthy", "").await;
    let old = world.status().await["stableRS"].clone();
    world.set_image("yellow").await;
    world.reaches("Paused", "CanaryPauseStep").await;
    let status = world.status().await;
    assert_eq!((status["currentStepIndex"].clone(), status["controllerPause"].clone()), (json!(1), json!(true)));
    assert_eq!(status["pauseConditions"][0]["reason"], "CanaryPauseStep");
    assert_eq!(world.weights().await, (90, 10));
    let new = status["currentPodHash"].clone();
    assert_eq!(world.sets().await, [(text(&old), 4), (text(&new), 1)]);
    assert_eq!((world.led("stable").await, world.led("canary").await), (old.clone(), new.clone()));
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(world.weights().await, (90, 10));

    world.patch_status(json!({"pauseConditions": null})).await;
    world.at_step(3).await;
    assert_eq!(world.weights().await, (50, 50));
    world.at_step(5).await;
    assert_eq!(world.weights().await, (10, 90));
    world.reaches("Healthy", "").await;
    let status = world.status().await;
    assert_eq!((status["stableRS"].clone(), status["currentStepIndex"].clone()), (new.clone(), json!(6)));
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(world.weights().await, (100, 0));
    assert_eq!((world.led("stable").await, world.led("canary").await), (new.clone(), new.clone()));
    assert_eq!(world.sets().await, [(text(&old), 0), (text(&new), 4)]);
}

/// Writes of a release of five steps and pauses. The state is an annotation and the status a part of its own, so what is told of a
/// weight, and of a pause, is two writes, and a step five with its route.
const RELEASE_MAX: usize = 51;

#[tokio::test(start_paused = true)]
async fn an_idle_rollout_costs_nothing_and_a_release_few_writes() {
    let pause = json!({"pause": {"duration": "60s"}});
    let steps: Vec<Value> =
        [10, 20, 30, 40, 50].iter().flat_map(|weight| [json!({"setWeight": weight}), pause.clone()]).collect();
    let world = World::new(json!(steps), 2).await;
    let written = Arc::new(Written::default());
    let _serin = engine(&world.cluster, world.clock.clone(), written.clone(), true);
    world.reaches("Healthy", "").await;
    tokio::time::sleep(A_WHILE).await;
    let (before, requests) = (written.count(), world.server.requests().snapshot());
    tokio::time::sleep(A_WHILE).await;
    let idle = world.server.requests().snapshot().since(&requests);
    assert_eq!(idle.total(|key| !key.is_watch && !key.resource.starts_with("leases")), 0, "{idle:?}");
    world.set_image("yellow").await;
    world.reaches("Paused", "").await;
    world.reaches("Healthy", "").await;
    tokio::time::sleep(A_WHILE).await;
    let release = written.since(before);
    assert!(release.len() <= RELEASE_MAX, "{} writes: {release:#?}", release.len());
}

#[tokio::test(start_paused = true)]
async fn who_aborts_and_retries_with_argos_plugin_is_understood() {
    let world = World::new(steps(), 2).await;
    let _serin = world.serin();
    world.reaches("Healthy", "").await;
    world.set_image("yellow").await;
    world.reaches("Paused", "CanaryPauseStep").await;
    world.patch_status(json!({"abort": true})).await;
    world.reaches("Degraded", "RolloutAborted: Rollout aborted update to revision 2").await;
    world.until("at rest", |status| status["canary"]["weights"]["canary"]["weight"] == 0).await;
    assert_eq!(world.weights().await, (100, 0));
    tokio::time::sleep(A_WHILE).await;
    let status = world.status().await;
    assert_eq!((status["phase"].clone(), status["abort"].clone()), (json!("Degraded"), json!(true)));
    assert_eq!(world.led("canary").await, status["stableRS"]);
    assert_eq!(world.sets().await.iter().map(|(_, size)| *size).collect::<Vec<_>>(), [2, 0]);

    world.patch_status(json!({"abort": false})).await;
    world.reaches("Paused", "CanaryPauseStep").await;
    assert_eq!(world.status().await["abort"], Value::Null);
    world.patch_status(json!({"promoteFull": true})).await;
    world.reaches("Healthy", "").await;
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(world.weights().await, (100, 0));
    assert_eq!(world.sets().await.iter().map(|(_, size)| *size).collect::<Vec<_>>(), [0, 2]);
    assert_eq!(world.status().await["promoteFull"], Value::Null);
}

#[tokio::test(start_paused = true)]
async fn going_back_to_what_serves_skips_all_steps_and_a_newer_revision_replaces_one() {
    let world = World::new(steps(), 2).await;
    let _serin = world.serin();
    world.reaches("Healthy", "").await;
    let stable = world.status().await["stableRS"].clone();
    world.set_image("yellow").await;
    world.reaches("Paused", "CanaryPauseStep").await;
    let yellow = world.status().await["currentPodHash"].clone();
    world.set_image("green").await;
    let on_green = |status: &Value| status["phase"] == "Paused" && status["currentPodHash"] != yellow;
    world.until("paused at green", on_green).await;
    assert_eq!(world.led("canary").await, world.status().await["currentPodHash"]);
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(world.sets().await.iter().map(|(_, size)| *size).collect::<Vec<_>>(), [2, 0, 1]);
    world.set_image("blue").await;
    world.reaches("Healthy", "").await;
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(world.status().await["stableRS"], stable);
    assert_eq!(world.weights().await, (100, 0));
    assert_eq!(world.sets().await.iter().map(|(_, size)| *size).collect::<Vec<_>>(), [2, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn sets_that_argo_made_are_taken_as_they_are_whatever_their_hash() {
    let world = World::empty().await;
    world.create("argoproj.io", "v1alpha1", "Rollout", rollout(steps(), 2)).await;
    let live = world.get("argoproj.io", "v1alpha1", "Rollout", NAME).await;
    let labels = json!({"app": NAME, HASH: "7d5cb8f6b9"});
    let mut template = live["spec"]["template"].clone();
    template["metadata"]["labels"] = labels.clone();
    let set = json!({
        "metadata": {
            "name": format!("{NAME}-7d5cb8f6b9"), "namespace": "test", "labels": labels,
            "annotations": {"rollout.argoproj.io/revision": "3"},
            "ownerReferences": [{"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "name": NAME,
                "uid": live["metadata"]["uid"], "controller": true, "blockOwnerDeletion": true}],
        },
        "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": template},
    });
    world.create("apps", "v1", "ReplicaSet", set).await;
    world.patch_status(json!({"stableRS": "7d5cb8f6b9", "currentPodHash": "7d5cb8f6b9"})).await;
    world.surroundings().await;
    let _serin = world.serin();
    world.reaches("Healthy", "").await;
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(world.sets().await, [("7d5cb8f6b9".to_owned(), 2)]);
    assert_eq!(world.led("stable").await, "7d5cb8f6b9");

    world.patch(json!({"spec": {"replicas": 3}})).await;
    world.until("three", |status| status["availableReplicas"] == 3).await;
    assert_eq!(world.sets().await, [("7d5cb8f6b9".to_owned(), 3)]);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_carried_out_is_named_and_nothing_is_done() {
    let world = World::new(json!([{"setWeight": 20}, {"analysis": {"templates": []}}]), 1).await;
    let _serin = world.serin();
    let message = "InvalidSpec: The Rollout \"istio-rollout\" is invalid: spec.strategy.canary.steps[1].analysis";
    world.reaches("Degraded", message).await;
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(world.sets().await, []);
    assert_eq!(world.led("stable").await, Value::Null);
}

#[tokio::test(start_paused = true)]
async fn while_argos_own_controller_is_alive_nothing_is_done() {
    let world = World::new(steps(), 1).await;
    let lease = |renewed: &Clock| {
        json!({
            "metadata": {"name": "argo-rollouts-controller-lock", "namespace": "test"},
            "spec": {"holderIdentity": "argo-rollouts-0", "leaseDurationSeconds": 15,
                "renewTime": format!("{:.6}", renewed.now())},
        })
    };
    world.create("coordination.k8s.io", "v1", "Lease", lease(&world.clock)).await;
    let _serin = world.serin();
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!((world.sets().await, world.status().await), (Vec::new(), Value::Null));
    // It is not renewed any more.
    world.reaches("Healthy", "").await;
}

#[tokio::test(start_paused = true)]
async fn rollouts_are_off_unless_they_are_switched_on() {
    let world = World::new(steps(), 1).await;
    let _serin = engine(&world.cluster, world.clock.clone(), Arc::new(NoProbe), false);
    tokio::time::sleep(A_WHILE).await;
    assert_eq!((world.sets().await, world.status().await), (Vec::new(), Value::Null));
}

#[tokio::test(start_paused = true)]
async fn a_rollout_that_is_gone_leaves_its_services_as_they_were() {
    let world = World::new(steps(), 1).await;
    let _serin = world.serin();
    world.reaches("Healthy", "").await;
    world.rollouts().await.delete(NAME, &DeleteParams::background()).await.unwrap();
    tokio::time::sleep(A_WHILE).await;
    assert_eq!((world.led("stable").await, world.led("canary").await), (Value::Null, Value::Null));
    assert_eq!(world.sets().await, []);
    drop(world.server);
}

#[tokio::test(start_paused = true)]
async fn what_is_made_invalid_in_mid_release_is_said_and_the_release_can_still_be_aborted() {
    let world = World::new(steps(), 2).await;
    let _serin = world.serin();
    world.reaches("Healthy", "").await;
    world.set_image("yellow").await;
    world.reaches("Paused", "CanaryPauseStep").await;
    world.patch(json!({"spec": {"strategy": {"canary": {"dynamicStableScale": true}}}})).await;
    let message = "InvalidSpec: The Rollout \"istio-rollout\" is invalid: spec.strategy.canary.dynamicStableScale";
    world.reaches("Degraded", message).await;
    assert_eq!(world.weights().await, (90, 10));
    world.patch_status(json!({"abort": true})).await;
    world.until("aborted", |status| status["abortedAt"].is_string()).await;
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(world.weights().await, (100, 0));
    world.patch(json!({"spec": {"strategy": {"canary": {"dynamicStableScale": null}}}})).await;
    world.reaches("Degraded", "RolloutAborted").await;
}

#[tokio::test(start_paused = true)]
async fn both_sides_are_sized_with_the_rollout_also_while_it_is_paused() {
    let world = World::new(json!([{"setWeight": 50}, {"pause": {}}]), 2).await;
    let _serin = world.serin();
    world.reaches("Healthy", "").await;
    world.set_image("yellow").await;
    world.reaches("Paused", "CanaryPauseStep").await;
    let sizes = async || world.sets().await.iter().map(|(_, size)| *size).collect::<Vec<_>>();
    assert_eq!(sizes().await, [2, 1]);
    world.patch(json!({"spec": {"replicas": 6, "paused": true}})).await;
    world.until("nine pods", |status| status["availableReplicas"] == 9).await;
    assert_eq!(sizes().await, [6, 3]);
    world.reaches("Paused", "manually paused").await;
}

#[tokio::test(start_paused = true)]
async fn what_argos_controller_was_doing_goes_on_without_a_pod_that_starts_anew() {
    let world = World::new(steps(), 4).await;
    let serin = world.serin();
    world.reaches("Healthy", "").await;
    world.set_image("yellow").await;
    world.reaches("Paused", "CanaryPauseStep").await;
    // Argo's own status, and nothing of ours.
    drop(serin);
    let forget = json!({"metadata": {"annotations": {"serin.dev/state": null}}});
    world.patch(forget.clone()).await;
    let pods = async || {
        let pods = world.api("", "v1", "Pod").await.list(&ListParams::default()).await.unwrap().items;
        let mut names: Vec<String> = pods.into_iter().filter_map(|pod| pod.metadata.name).collect();
        names.sort();
        names
    };
    let before = pods().await;
    let serin = world.serin();
    tokio::time::sleep(A_WHILE).await;
    assert_eq!((world.weights().await, pods().await), ((90, 10), before));
    world.reaches("Paused", "CanaryPauseStep").await;
    world.patch_status(json!({"pauseConditions": null})).await;
    world.reaches("Healthy", "").await;

    world.set_image("green").await;
    world.reaches("Paused", "CanaryPauseStep").await;
    world.patch_status(json!({"abort": true})).await;
    world.until("put away", |status| status["replicas"] == 4 && status["abort"] == true).await;
    drop(serin);
    world.patch(forget).await;
    let _serin = world.serin();
    tokio::time::sleep(A_WHILE).await;
    world.reaches("Degraded", "RolloutAborted: Rollout aborted update to revision 3").await;
    assert_eq!(world.weights().await, (100, 0));
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}
