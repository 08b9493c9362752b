//! A canary without a router: pods are the traffic.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::world::{World, rollout, steps};
use super::{A_WHILE, text};

/// The least pods that served since this was made.
struct Least {
    pods: Arc<AtomicI64>,
    watch: tokio::task::JoinHandle<()>,
}

impl Drop for Least {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

impl Least {
    async fn of(world: &World) -> Self {
        let pods = Arc::new(AtomicI64::new(i64::MAX));
        let (api, least) = (world.api("apps", "v1", "ReplicaSet").await, pods.clone());
        let watch = tokio::spawn(async move {
            loop {
                let sets = api.list(&kube::api::ListParams::default()).await.unwrap().items;
                let available = |set: &kube::api::DynamicObject| set.data["status"]["availableReplicas"].as_i64();
                least.fetch_min(sets.iter().filter_map(available).sum(), Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        });
        Self { pods, watch }
    }

    fn seen(&self) -> i64 {
        self.pods.load(Ordering::Relaxed)
    }
}

/// A Rollout without Services and route.
async fn plain(canary: Value, replicas: i32) -> World {
    let world = World::empty().await;
    let mut rollout = rollout(steps(), replicas);
    rollout["spec"]["strategy"] = json!({"canary": canary});
    world.create("argoproj.io", "v1alpha1", "Rollout", rollout).await;
    world
}

async fn sizes(world: &World) -> Vec<i64> {
    world.sets().await.into_iter().map(|(_, size)| size).collect()
}

#[tokio::test(start_paused = true)]
async fn pods_are_exchanged_step_by_step_and_never_fewer_serve() {
    let steps = json!([{"setWeight": 25}, {"pause": {}}, {"setWeight": 50}, {"pause": {"duration": "10s"}}]);
    let world = plain(json!({"maxSurge": 1, "maxUnavailable": 0, "steps": steps}), 4).await;
    let _serin = world.serin();
    world.reaches("Healthy", "").await;
    let old = world.status().await["stableRS"].clone();
    let least = Least::of(&world).await;
    world.set_image("yellow").await;
    world.reaches("Paused", "CanaryPauseStep").await;
    assert_eq!(sizes(&world).await, [3, 1]);
    let status = world.status().await;
    assert_eq!((status["currentStepIndex"].clone(), status["canary"]["weights"].clone()), (json!(1), Value::Null));
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(sizes(&world).await, [3, 1]);

    world.patch(json!({"spec": {"replicas": 8}})).await;
    world.until("eight pods", |status| status["availableReplicas"] == 8).await;
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(sizes(&world).await, [6, 2]);
    world.patch_status(json!({"pauseConditions": null})).await;
    world.at_step(3).await;
    assert_eq!(sizes(&world).await, [4, 4]);
    world.reaches("Healthy", "").await;
    assert_eq!(sizes(&world).await, [0, 8]);
    let status = world.status().await;
    assert_eq!((status["currentStepIndex"].clone(), status["replicas"].clone()), (json!(4), json!(8)));
    assert!(status["stableRS"] != old);
    assert_eq!(least.seen(), 4);
}

#[tokio::test(start_paused = true)]
async fn without_steps_it_is_a_rolling_update_and_with_a_pause_first_nothing_is_made() {
    let world = plain(json!({"maxSurge": "50%", "maxUnavailable": 1}), 4).await;
    let _serin = world.serin();
    world.reaches("Healthy", "").await;
    let blue = world.status().await["stableRS"].clone();
    let least = Least::of(&world).await;
    world.set_image("yellow").await;
    world.until("updated", |status| status["stableRS"] != blue && status["phase"] == "Healthy").await;
    assert_eq!(sizes(&world).await, [0, 4]);
    assert!(least.seen() >= 3, "{}", least.seen());

    world.patch(json!({"spec": {"strategy": {"canary": {"steps": [{"pause": {}}, {"setWeight": 40}]}}}})).await;
    world.set_image("green").await;
    world.reaches("Paused", "CanaryPauseStep").await;
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(sizes(&world).await, [0, 4, 0]);
    world.patch_status(json!({"pauseConditions": null})).await;
    world.until("updated", |status| status["updatedReplicas"] == 4 && status["phase"] == "Healthy").await;
    assert_eq!(sizes(&world).await, [0, 0, 4]);
}

#[tokio::test(start_paused = true)]
async fn an_abort_and_a_newer_revision_give_the_pods_back_first() {
    let steps = json!([{"setWeight": 50}, {"pause": {}}]);
    let world = plain(json!({"maxSurge": 1, "maxUnavailable": 0, "steps": steps}), 4).await;
    let _serin = world.serin();
    world.reaches("Healthy", "").await;
    let least = Least::of(&world).await;
    world.set_image("yellow").await;
    world.reaches("Paused", "CanaryPauseStep").await;
    assert_eq!(sizes(&world).await, [2, 2]);
    world.patch_status(json!({"abort": true})).await;
    world.reaches("Degraded", "RolloutAborted: Rollout aborted update to revision 2").await;
    world.until("back", |status| status["availableReplicas"] == 4 && status["updatedReplicas"] == 0).await;
    assert_eq!(sizes(&world).await, [4, 0]);

    world.set_image("green").await;
    world.reaches("Paused", "CanaryPauseStep").await;
    let green = world.status().await["currentPodHash"].clone();
    world.set_image("red").await;
    let on_red = |status: &Value| status["phase"] == "Paused" && status["currentPodHash"] != green;
    world.until("paused at red", on_red).await;
    assert_eq!(sizes(&world).await, [2, 0, 0, 2]);
    world.patch_status(json!({"promoteFull": true})).await;
    world.reaches("Healthy", "").await;
    let sizes = sizes(&world).await;
    assert_eq!((sizes.last(), sizes.iter().sum::<i64>()), (Some(&4), 4));
    assert_eq!(least.seen(), 4);
}

#[tokio::test(start_paused = true)]
async fn its_services_lead_to_a_side_that_has_pods_and_an_engine_that_begins_anew_goes_on() {
    let steps = json!([{"setWeight": 50}, {"pause": {}}, {"setWeight": 100}, {"pause": {}}]);
    let services = json!({"canaryService": "istio-rollout-canary", "stableService": "istio-rollout-stable"});
    let mut canary = json!({"maxSurge": 0, "maxUnavailable": 1, "steps": steps});
    canary.as_object_mut().unwrap().extend(services.as_object().unwrap().clone());
    let world = plain(canary, 2).await;
    world.surroundings().await;
    let serin = world.serin();
    world.reaches("Healthy", "").await;
    let old = world.status().await["stableRS"].clone();
    world.set_image("yellow").await;
    world.reaches("Paused", "CanaryPauseStep").await;
    let new = world.status().await["currentPodHash"].clone();
    assert_eq!((world.led("stable").await, world.led("canary").await), (old.clone(), new.clone()));
    drop(serin);
    world.patch(json!({"metadata": {"annotations": {"serin.dev/state": null}}})).await;
    let _serin = world.serin();
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(world.sets().await, [(text(&old), 1), (text(&new), 1)]);
    world.patch_status(json!({"pauseConditions": null})).await;
    world.at_step(3).await;
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(world.sets().await, [(text(&old), 0), (text(&new), 2)]);
    assert_eq!((world.led("stable").await, world.led("canary").await), (new.clone(), new.clone()));
    world.patch_status(json!({"pauseConditions": null})).await;
    world.reaches("Healthy", "").await;
    assert_eq!(world.status().await["stableRS"], new);
}

#[tokio::test(start_paused = true)]
async fn a_first_revision_that_cannot_start_is_replaced_by_the_next() {
    let world = plain(json!({"steps": [{"setWeight": 50}, {"pause": {}}]}), 2).await;
    world.set_image("blue-unready").await;
    let _serin = world.serin();
    world.reaches("Progressing", "").await;
    tokio::time::sleep(A_WHILE).await;
    world.set_image("yellow").await;
    world.reaches("Healthy", "").await;
    assert_eq!(sizes(&world).await.iter().sum::<i64>(), 2);
}

#[tokio::test(start_paused = true)]
async fn who_retries_before_the_abort_is_over_is_heard_and_what_happens_is_told() {
    let steps = json!([{"setWeight": 50}, {"pause": {}}]);
    let world = plain(json!({"maxSurge": 1, "maxUnavailable": 0, "steps": steps}), 2).await;
    let _serin = world.serin();
    world.reaches("Healthy", "").await;
    world.set_image("yellow").await;
    world.reaches("Paused", "CanaryPauseStep").await;
    world.patch_status(json!({"abort": true})).await;
    world.reaches("Degraded", "RolloutAborted").await;
    world.patch_status(json!({"abort": false})).await;
    world.reaches("Paused", "CanaryPauseStep").await;
    assert_eq!(sizes(&world).await, [1, 1]);
    let events = world.api("", "v1", "Event").await.list(&kube::api::ListParams::default()).await.unwrap().items;
    let told = |reason: &str| events.iter().filter(|event| event.data["reason"] == reason).count();
    let counts = ["RolloutUpdated", "RolloutCompleted", "RolloutPaused", "RolloutAborted"].map(told);
    assert_eq!(counts, [2, 1, 2, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_template_that_the_api_server_does_not_take_is_invalid_in_its_words() {
    let world = plain(json!({}), 1).await;
    let _serin = world.serin();
    world.reaches("Healthy", "").await;
    let old = world.status().await["stableRS"].clone();
    let restart = json!({"spec": {"template": {"spec": {"restartPolicy": "Sometimes"}}}});
    world.patch(restart).await;
    world.reaches("Degraded", "InvalidSpec: The Rollout \"istio-rollout\" is invalid: spec.template").await;
    world.patch(json!({"spec": {"template": {"spec": {"restartPolicy": null}}}})).await;
    world.reaches("Healthy", "").await;
    assert_eq!(world.status().await["stableRS"], old);
}
