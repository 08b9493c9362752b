//! What has to be mended outside is said on the object, and leaves nobody alone who is in the middle of something.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kube::api::{DeleteParams, Patch, PatchParams};
use pretty_assertions::assert_eq;
use serde_json::json;
use serin::cluster::NoProbe;

use super::world::{self, World};

/// Makes the Canary one that cannot be carried out.
async fn spoil(world: &World) {
    world.patch_canary(json!({"spec": {"analysis": {"iterations": 5000}}})).await;
    let blocked = world.condition("Blocked").await;
    assert!(blocked["message"].as_str().unwrap().starts_with("spec.analysis.iterations"), "{blocked}");
}

async fn request(world: &World, verb: &str) -> String {
    let canary = world.get("flagger.app", "v1beta1", "Canary", "podinfo").await;
    let release = canary["status"]["serin"]["release"].as_str().unwrap_or("none").to_owned();
    let request = format!("{verb}/{release}/n1");
    world.patch_canary(json!({"metadata": {"annotations": {"serin.dev/request": request}}})).await;
    request
}

#[tokio::test(start_paused = true)]
async fn a_canary_made_invalid_in_mid_release_goes_on_being_checked_across_a_restart_too() {
    let world = World::new().await;
    let serin = world.serin(Arc::new(NoProbe));
    world.reaches("Initialized").await;
    world.set_image("3.1.1-errors-50").await;
    world.has_weight(20).await;
    spoil(&world).await;
    drop(serin);
    let _serin = world.serin(Arc::new(NoProbe));
    world.has_weight(30).await;
    world.outside.failing.store(true, Ordering::Relaxed);
    world.reaches("Failed").await;
    assert_eq!(world.weights().await, (100, 0));
    // Nothing new begins until it is mended.
    world.outside.failing.store(false, Ordering::Relaxed);
    world.set_image("3.1.2").await;
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(world.deployment("podinfo").await["spec"]["replicas"], 0);
    world.patch_canary(json!({"spec": {"analysis": {"iterations": null}}})).await;
    world.reaches("Succeeded").await;
    assert_eq!(world.image_of("podinfo-primary").await, "stefanprodan/podinfo:3.1.2");
}

#[tokio::test(start_paused = true)]
async fn an_autoscaler_of_primarys_name_that_is_somebody_elses_is_not_taken() {
    let world = World::new().await;
    let spec = json!({"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "other"},
        "minReplicas": 3, "maxReplicas": 6});
    let theirs = json!({"metadata": {"name": "podinfo-primary", "namespace": "test"}, "spec": spec});
    world.create("autoscaling", "v2", "HorizontalPodAutoscaler", theirs).await;
    let _serin = world.serin(Arc::new(NoProbe));
    let blocked = world.condition("Blocked").await;
    let words = "HorizontalPodAutoscaler test/podinfo-primary is not owned by Canary podinfo: it scales other";
    assert!(blocked["message"].as_str().unwrap().starts_with(words), "{blocked}");
    tokio::time::sleep(Duration::from_secs(300)).await;
    let live = world.get("autoscaling", "v2", "HorizontalPodAutoscaler", "podinfo-primary").await;
    assert_eq!(
        (&live["spec"]["scaleTargetRef"]["name"], &live["spec"]["minReplicas"]),
        (&json!("other"), &json!(3))
    );
    world
        .api("autoscaling", "v2", "HorizontalPodAutoscaler")
        .await
        .delete("podinfo-primary", &DeleteParams::default())
        .await
        .unwrap();
    world.reaches("Initialized").await;
}

#[tokio::test(start_paused = true)]
async fn a_query_that_nobody_can_answer_is_found_before_anybody_meets_the_revision() {
    let world = World::new().await;
    let _serin = world.serin(Arc::new(NoProbe));
    world.reaches("Initialized").await;
    world.outside.unreadable.store(true, Ordering::Relaxed);
    world.set_image("3.1.1").await;
    let blocked = world.condition("Blocked").await;
    let words = "metric `request-success-rate` cannot be checked: bad_data: unclosed left parenthesis";
    assert!(blocked["message"].as_str().unwrap().contains(words), "{blocked}");
    assert_eq!(world.weights().await, (100, 0));
    world.outside.unreadable.store(false, Ordering::Relaxed);
    world.reaches("Succeeded").await;
}

#[tokio::test(start_paused = true)]
async fn a_canary_made_invalid_in_mid_release_leaves_pods_that_are_gone_and_obeys_abort() {
    let world = World::new().await;
    let _serin = world.serin(Arc::new(NoProbe));
    world.reaches("Initialized").await;
    world.set_image("3.1.1").await;
    world.has_weight(20).await;
    spoil(&world).await;
    // Somebody changes the target to what never becomes ready: nobody is sent there.
    let strategy = json!({"spec": {"strategy": {"type": "Recreate", "rollingUpdate": null}}});
    let api = world.api("apps", "v1", "Deployment").await;
    api.patch("podinfo", &PatchParams::default(), &Patch::Merge(strategy)).await.unwrap();
    world.set_image("3.1.1-unready").await;
    world.has_weight(0).await;
    let request = request(&world, "abort").await;
    world.answers(&request).await;
}

#[tokio::test(start_paused = true)]
async fn a_canary_that_never_was_valid_answers_too() {
    let mut canary = world::canary();
    canary["spec"]["analysis"]["iterations"] = json!(5000);
    let world = World::with(canary).await;
    let _serin = world.serin(Arc::new(NoProbe));
    world.condition("Blocked").await;
    let request = request(&world, "pause").await;
    world.answers(&request).await;
}

#[tokio::test(start_paused = true)]
async fn a_target_that_does_not_exist_is_missed() {
    let mut canary = world::canary();
    canary["spec"]["targetRef"]["name"] = json!("gohst");
    let world = World::with(canary).await;
    let _serin = world.serin(Arc::new(NoProbe));
    let blocked = world.condition("Blocked").await;
    let reason = "gohst does not exist in namespace test: create it, or correct spec.targetRef";
    assert_eq!(blocked["message"], reason);
    world.says(&format!("gohst.test is blocked: {reason}")).await;
    let promoted = world.condition("Promoted").await;
    assert_eq!(promoted["message"], "The target does not exist yet.");
    world.patch_canary(json!({"spec": {"targetRef": {"name": "podinfo"}}})).await;
    world.reaches("Initialized").await;
}

#[tokio::test(start_paused = true)]
async fn an_app_that_git_scales_to_nothing_runs_nothing_and_releases_when_it_comes_back() {
    let mut canary = world::canary();
    canary["spec"].as_object_mut().unwrap().remove("autoscalerRef");
    let world = World::with(canary).await;
    let scalers = world.api("autoscaling", "v2", "HorizontalPodAutoscaler").await;
    scalers.delete("podinfo", &DeleteParams::default()).await.unwrap();
    let api = world.api("apps", "v1", "Deployment").await;
    let told = |count: &str| Patch::Merge(json!({"metadata": {"annotations": {"serin.dev/replicas": count}}}));
    api.patch("podinfo", &PatchParams::default(), &told("0")).await.unwrap();
    let _serin = world.serin(Arc::new(NoProbe));
    world.reaches("Initialized").await;
    assert_eq!(world.deployment("podinfo-primary").await["spec"]["replicas"], 0);
    world.set_image("3.1.1").await;
    tokio::time::sleep(Duration::from_secs(300)).await;
    let canary = world.get("flagger.app", "v1beta1", "Canary", "podinfo").await;
    assert_eq!(canary["status"]["serin"]["waitingOn"], "podinfo to have replicas: Git scales it to 0");
    api.patch("podinfo", &PatchParams::default(), &told("3")).await.unwrap();
    world.reaches("Succeeded").await;
    let primary = world.deployment("podinfo-primary").await;
    assert_eq!(primary["status"]["availableReplicas"], 3);
    assert_eq!(world.image_of("podinfo-primary").await, "stefanprodan/podinfo:3.1.1");
}
