//! Defects of Flagger's that only the executor could repeat, each by the id that it has in its teardown.

use std::sync::Arc;

use kube::api::{Patch, PatchParams};
use serde_json::json;
use serin::cluster::NoProbe;

use super::world::World;

#[tokio::test(start_paused = true)]
async fn d15_changed_autoscalers_reach_primary_without_a_promotion() {
    let world = World::new().await;
    let _serin = world.serin(Arc::new(NoProbe));
    world.reaches("Initialized").await;
    let api = world.api("autoscaling", "v2", "HorizontalPodAutoscaler").await;
    let patch = json!({"spec": {"maxReplicas": 7}});
    api.patch("podinfo", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    let follows = |object: Option<&kube::api::DynamicObject>| {
        object.is_some_and(|object| object.data["spec"]["maxReplicas"] == 7)
    };
    let waiting = kube::runtime::wait::await_condition(api, "podinfo-primary", follows);
    tokio::time::timeout(super::world::CAP, waiting).await.unwrap().unwrap();
}
