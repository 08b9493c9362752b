//! Deployments roll out, wait and give up.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::ListParams;
use serde_json::json;

use super::world::{World, deployment, is_ready, progressing, replicas, rolling, tag, template};

#[tokio::test]
async fn a_rolling_update_keeps_its_bounds() {
    let world = World::start().await;
    world.create::<Deployment>(deployment("podinfo", 4, "1", rolling(1, 1))).await;
    world.rolled_out("podinfo").await;
    let update = async {
        world.change("podinfo", json!({"template": template("podinfo", "2")})).await;
        world.rolled_out("podinfo").await
    };
    let (mut fewest, mut most) = (usize::MAX, 0);
    let done = world
        .pods_while(update, |pods| {
            let alive = pods.values().filter(|pod| pod.metadata.deletion_timestamp.is_none()).count();
            if pods.len() >= 4 {
                fewest = fewest.min(pods.values().filter(|pod| is_ready(pod)).count());
            }
            most = most.max(alive);
        })
        .await;
    assert!(fewest >= 3, "only {fewest} pods were ready at a time");
    assert!(most <= 5, "{most} pods at a time");
    assert_eq!(done.annotations().get("deployment.kubernetes.io/revision").map(String::as_str), Some("2"));
    assert_eq!(progressing(&done), Some(("True".to_owned(), "NewReplicaSetAvailable".to_owned())));
    let sets = world.api::<ReplicaSet>().list(&ListParams::default()).await.unwrap().items;
    let mut sizes: Vec<_> = sets.iter().map(replicas).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [0, 4]);
    for set in &sets {
        let hash = &set.labels()["pod-template-hash"];
        assert_eq!(set.name_any(), format!("podinfo-{hash}"));
    }
}

#[tokio::test]
async fn recreate_never_mixes_versions() {
    let world = World::start().await;
    world.create::<Deployment>(deployment("podinfo", 2, "1", json!({"type": "Recreate"}))).await;
    world.rolled_out("podinfo").await;
    let update = async {
        world.change("podinfo", json!({"template": template("podinfo", "2")})).await;
        world.rolled_out("podinfo").await
    };
    world
        .pods_while(update, |pods| {
            let tags: BTreeSet<_> = pods.values().map(tag).collect();
            assert!(tags.len() <= 1, "pods of {tags:?} at the same time");
        })
        .await;
}

#[tokio::test]
async fn a_rollout_that_never_gets_ready_misses_its_deadline_and_the_old_version_stays() {
    let world = World::start().await;
    let mut wanted = deployment("podinfo", 2, "1", rolling(1, 0));
    wanted["spec"]["progressDeadlineSeconds"] = json!(2);
    wanted["spec"]["minReadySeconds"] = json!(1);
    world.create::<Deployment>(wanted).await;
    world.rolled_out("podinfo").await;
    world.change("podinfo", json!({"template": template("podinfo", "2-unready")})).await;
    let late = world
        .until::<Deployment>("exceed its deadline", "podinfo", |deployment| {
            progressing(deployment) == Some(("False".to_owned(), "ProgressDeadlineExceeded".to_owned()))
        })
        .await;
    assert_eq!(late.status.and_then(|status| status.available_replicas), Some(2));
    world.change("podinfo", json!({"template": template("podinfo", "3")})).await;
    let done = world.rolled_out("podinfo").await;
    assert_eq!(progressing(&done), Some(("True".to_owned(), "NewReplicaSetAvailable".to_owned())));
}

#[tokio::test]
async fn a_paused_rollout_waits_and_a_scaled_one_keeps_its_shares() {
    let world = World::start().await;
    world.create::<Deployment>(deployment("podinfo", 2, "1", rolling(1, 0))).await;
    world.rolled_out("podinfo").await;
    world.change("podinfo", json!({"paused": true, "template": template("podinfo", "2")})).await;
    world
        .until::<Deployment>("be paused", "podinfo", |deployment| {
            progressing(deployment) == Some(("Unknown".to_owned(), "DeploymentPaused".to_owned()))
        })
        .await;
    world.change("podinfo", json!({"replicas": 3})).await;
    world
        .until::<Deployment>("be scaled", "podinfo", |deployment| {
            deployment.status.as_ref().and_then(|status| status.available_replicas) == Some(3)
        })
        .await;
    let pods = world.api::<Pod>().list(&ListParams::default()).await.unwrap().items;
    assert!(pods.iter().all(|pod| tag(pod) == "1"));
    world.change("podinfo", json!({"paused": false})).await;
    world.rolled_out("podinfo").await;
}
