//! Blue/green: two whole sides, and an active Service that leads to one of them.

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::world::{NAME, World, rollout, steps};
use super::{A_WHILE, text};

/// A Rollout whose active Service is the seed's stable one, and whose preview Service is the canary one.
async fn world(mut strategy: Value, replicas: i32) -> World {
    let world = World::empty().await;
    strategy["activeService"] = json!(format!("{NAME}-stable"));
    strategy["previewService"] = json!(format!("{NAME}-canary"));
    let mut rollout = rollout(steps(), replicas);
    rollout["spec"]["strategy"] = json!({"blueGreen": strategy});
    world.create("argoproj.io", "v1alpha1", "Rollout", rollout).await;
    world.surroundings().await;
    world
}

async fn sizes(world: &World) -> Vec<i64> {
    world.sets().await.into_iter().map(|(_, size)| size).collect()
}

#[tokio::test(start_paused = true)]
async fn users_are_led_over_when_everything_is_there_and_what_served_is_kept_for_a_while() {
    let world = world(json!({}), 3).await;
    let _serin = world.serin();
    world.reaches("Healthy", "").await;
    let old = world.status().await["stableRS"].clone();
    assert_eq!((world.led("stable").await, world.led("canary").await), (old.clone(), old.clone()));
    world.set_image("yellow").await;
    let is_new = |status: &Value| status["phase"] == "Healthy" && status["stableRS"] != old;
    world.until("led over", is_new).await;
    let new = world.status().await["stableRS"].clone();
    assert_eq!((world.led("stable").await, world.led("canary").await), (new.clone(), new.clone()));
    let status = world.status().await;
    assert_eq!(status["blueGreen"]["activeSelector"], new);
    assert_eq!(status["selector"], format!("app={NAME},rollouts-pod-template-hash={}", text(&new)));
    assert_eq!((status["HPAReplicas"].clone(), status["currentStepIndex"].clone()), (json!(3), Value::Null));
    assert_eq!(sizes(&world).await, [3, 3]);
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(sizes(&world).await, [0, 3]);
}

#[tokio::test(start_paused = true)]
async fn it_is_promoted_when_somebody_asks_and_seen_with_as_few_pods_as_are_wanted() {
    let world = world(json!({"autoPromotionEnabled": false, "previewReplicaCount": 1}), 3).await;
    let _serin = world.serin();
    world.reaches("Healthy", "").await;
    let old = world.status().await["stableRS"].clone();
    world.set_image("yellow").await;
    world.reaches("Paused", "BlueGreenPause").await;
    let status = world.status().await;
    assert_eq!(status["pauseConditions"][0]["reason"], "BlueGreenPause");
    let new = status["currentPodHash"].clone();
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(sizes(&world).await, [3, 1]);
    assert_eq!((world.led("stable").await, world.led("canary").await), (old.clone(), new.clone()));
    assert_eq!(world.status().await["blueGreen"]["previewSelector"], new);
    world.patch_status(json!({"pauseConditions": null})).await;
    world.until("led over", |status| status["phase"] == "Healthy" && status["stableRS"] == new).await;
    assert_eq!(world.led("stable").await, new);
    assert_eq!(sizes(&world).await, [3, 3]);

    // What served a moment ago serves again at once.
    world.set_image("blue").await;
    world.until("back", |status| status["phase"] == "Healthy" && status["stableRS"] == old).await;
    assert_eq!(world.led("stable").await, old);
}

#[tokio::test(start_paused = true)]
async fn an_abort_leaves_users_where_they_are_and_full_promotion_waits_for_nothing_but_pods() {
    let world = world(json!({"autoPromotionSeconds": 3600, "abortScaleDownDelaySeconds": 20}), 2).await;
    let _serin = world.serin();
    world.reaches("Healthy", "").await;
    let old = world.status().await["stableRS"].clone();
    world.set_image("yellow").await;
    world.reaches("Paused", "BlueGreenPause").await;
    assert_eq!(sizes(&world).await, [2, 2]);
    world.patch_status(json!({"abort": true})).await;
    world.reaches("Degraded", "RolloutAborted: Rollout aborted update to revision 2").await;
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(sizes(&world).await, [2, 0]);
    assert_eq!((world.led("stable").await, world.led("canary").await), (old.clone(), old.clone()));

    world.set_image("green").await;
    world.reaches("Paused", "BlueGreenPause").await;
    world.patch_status(json!({"promoteFull": true})).await;
    world.until("promoted", |status| status["phase"] == "Healthy" && status["stableRS"] != old).await;
    assert_eq!(world.led("stable").await, world.status().await["stableRS"]);
}

#[tokio::test(start_paused = true)]
async fn of_what_is_kept_with_pods_there_are_as_many_as_the_limit_says() {
    let world = world(json!({"scaleDownDelaySeconds": 3600, "scaleDownDelayRevisionLimit": 1}), 1).await;
    let _serin = world.serin();
    world.reaches("Healthy", "").await;
    for tag in ["yellow", "green", "red"] {
        let before = world.status().await["stableRS"].clone();
        world.set_image(tag).await;
        world.until(tag, |status| status["phase"] == "Healthy" && status["stableRS"] != before).await;
    }
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(sizes(&world).await, [0, 0, 1, 1]);
}
