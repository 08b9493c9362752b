//! A Rollout that takes the template of a Deployment, and takes over from it.

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::A_WHILE;
use super::world::{World, rollout};

async fn world(scale_down: &str) -> World {
    let world = World::empty().await;
    let mut rollout = rollout(json!([]), 3);
    let deployment = json!({
        "metadata": {"name": "web", "namespace": "test"},
        "spec": {"replicas": 3, "selector": rollout["spec"]["selector"], "template": rollout["spec"]["template"]},
    });
    rollout["spec"].as_object_mut().unwrap().remove("template");
    rollout["spec"]["workloadRef"] =
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "scaleDown": scale_down});
    rollout["spec"]["strategy"] = json!({"canary": {"maxSurge": 1, "maxUnavailable": 0}});
    world.create("argoproj.io", "v1alpha1", "Rollout", rollout).await;
    let serin = world.serin();
    world
        .reaches("Degraded", "InvalidSpec: The Rollout \"istio-rollout\" is invalid: spec.workloadRef.name")
        .await;
    drop(serin);
    world.create("apps", "v1", "Deployment", deployment).await;
    world
}

async fn replicas(world: &World) -> Value {
    world.get("apps", "v1", "Deployment", "web").await["spec"]["replicas"].take()
}

#[tokio::test(start_paused = true)]
async fn the_pods_of_a_deployment_go_when_the_rollout_serves_and_its_template_is_released() {
    let world = world("onsuccess").await;
    let _serin = world.serin();
    world.reaches("Healthy", "").await;
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(replicas(&world).await, 0);
    assert_eq!(world.sets().await.len(), 1);
    let blue = world.status().await["stableRS"].clone();
    let image =
        json!([{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "demo:yellow"}]);
    let patch = kube::api::Patch::Json::<()>(serde_json::from_value(image).unwrap());
    world.api("apps", "v1", "Deployment").await.patch("web", &Default::default(), &patch).await.unwrap();
    world.until("two sets", |status| status["stableRS"] != blue && status["phase"] == "Healthy").await;
    tokio::time::sleep(A_WHILE).await;
    let sizes: Vec<i64> = world.sets().await.into_iter().map(|(_, size)| size).collect();
    assert_eq!(sizes, [0, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_deployment_is_left_alone_where_nothing_says_that_its_pods_go() {
    let world = world("never").await;
    let _serin = world.serin();
    world.reaches("Healthy", "").await;
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(replicas(&world).await, 3);
}
