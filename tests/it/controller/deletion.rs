//! A deleted Canary hands back what primary serves, whatever its target carries at the moment.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams};
use kube::runtime::conditions::is_deleted;
use kube::runtime::wait::await_condition;
use pretty_assertions::assert_eq;
use serde_json::json;
use serin::cluster::NoProbe;

use super::world::{self, CAP, World};

const GOOD: &str = "stefanprodan/podinfo:3.1.0";

/// Deletes the Canary and waits until it is gone; no look on the way finds users led to another image than `GOOD`.
async fn delete(world: &World) {
    let api = world.api("flagger.app", "v1beta1", "Canary").await;
    let uid = api.get("podinfo").await.unwrap().metadata.uid.unwrap();
    api.delete("podinfo", &DeleteParams::default()).await.unwrap();
    let gone = await_condition(api, "podinfo", is_deleted(&uid));
    let looking = async {
        loop {
            let service = world.get("", "v1", "Service", "podinfo").await;
            let leads_to = service["spec"]["selector"]["app"].as_str().unwrap().to_owned();
            assert_eq!(world.image_of(&leads_to).await, GOOD, "the service leads to what nobody promoted");
            if leads_to == "podinfo" || world.weights_if_split().await.is_some_and(|(_, canary)| canary == 100) {
                assert_eq!(world.image_of("podinfo").await, GOOD, "the route leads to what nobody promoted");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        gone = tokio::time::timeout(CAP, gone) => gone.unwrap().map(|_| ()).unwrap(),
        () = looking => {}
    }
}

async fn assert_handed_back(world: &World) {
    assert_eq!(world.image_of("podinfo").await, GOOD);
    let target = world.deployment("podinfo").await;
    assert_eq!(target["status"]["availableReplicas"], 2, "{target:#}");
    let service = world.get("", "v1", "Service", "podinfo").await;
    assert_eq!(service["spec"]["selector"], json!({"app": "podinfo"}));
    let route = world.get("networking.istio.io", "v1beta1", "VirtualService", "podinfo").await;
    assert_eq!(route["spec"]["http"][0]["route"], json!([{"destination": {"host": "podinfo"}}]));
}

#[tokio::test(start_paused = true)]
async fn in_mid_release_the_promoted_template_comes_back() {
    let world = World::new().await;
    let _serin = world.serin(Arc::new(NoProbe));
    world.reaches("Initialized").await;
    world.set_image("3.1.1-errors-50").await;
    world.has_weight(20).await;
    delete(&world).await;
    assert_handed_back(&world).await;
}

#[tokio::test(start_paused = true)]
async fn after_a_failure_what_failed_never_serves_even_if_the_daemon_dies_on_the_way() {
    let world = World::new().await;
    let serin = world.serin(Arc::new(NoProbe));
    world.reaches("Initialized").await;
    world.outside.failing.store(true, Ordering::Relaxed);
    world.set_image("3.1.1-errors-50").await;
    world.reaches("Failed").await;
    // What is stored is lost: primary's own template is enough.
    let revisions = world.api("apps", "v1", "ControllerRevision").await;
    revisions.delete_collection(&DeleteParams::default(), &Default::default()).await.unwrap();

    let canaries = world.api("flagger.app", "v1beta1", "Canary").await;
    canaries.delete("podinfo", &DeleteParams::default()).await.unwrap();
    world.reaches("Terminating").await;
    drop(serin);
    tokio::time::sleep(Duration::from_secs(30)).await;
    let _serin = world.serin(Arc::new(NoProbe));
    delete(&world).await;
    assert_handed_back(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_spec_that_became_unreadable_does_not_keep_the_target_from_taking_over() {
    let world = World::new().await;
    let _serin = world.serin(Arc::new(NoProbe));
    world.reaches("Initialized").await;
    world.patch_canary(json!({"spec": {"service": null}})).await;
    world.condition("Blocked").await;
    delete(&world).await;
    assert_handed_back(&world).await;
}

#[tokio::test(start_paused = true)]
async fn in_a_namespace_that_is_being_deleted_it_only_goes() {
    let world = World::new().await;
    let _serin = world.serin(Arc::new(NoProbe));
    world.reaches("Initialized").await;
    world.set_image("3.1.1").await;
    world.has_weight(20).await;
    let namespaces = kube::Api::<k8s_openapi::api::core::v1::Namespace>::all(world.cluster.client());
    let uid = namespaces.get("test").await.unwrap().metadata.uid.unwrap();
    let began = world.clock.now();
    namespaces.delete("test", &DeleteParams::default()).await.unwrap();
    tokio::time::timeout(CAP, await_condition(namespaces, "test", is_deleted(&uid))).await.unwrap().unwrap();
    let took = world.clock.now().duration_since(began).as_secs();
    assert!(took < 60, "{took} s: nobody is left to hand anything back to");
}

#[tokio::test(start_paused = true)]
async fn on_a_definition_that_keeps_no_state_it_goes_all_the_same() {
    let world = World::new().await;
    let _serin = world.serin(Arc::new(NoProbe));
    world.reaches("Initialized").await;
    world.flaggers_definition().await;
    // Whatever writes the status next finds that out.
    let note = Patch::Merge(json!({"spec": {"analysis": {"threshold": 7}}}));
    let api = world.api("flagger.app", "v1beta1", "Canary").await;
    api.patch("podinfo", &PatchParams::default(), &note).await.unwrap();
    let blocked = |object: Option<&DynamicObject>| {
        object.is_some_and(|object| object.data["status"]["conditions"].to_string().contains("serin crds"))
    };
    tokio::time::timeout(CAP, await_condition(api, "podinfo", blocked)).await.unwrap().unwrap();
    delete(&world).await;
    assert_handed_back(&world).await;
}

#[tokio::test(start_paused = true)]
async fn one_that_was_blocked_by_anothers_service_goes_and_leaves_that_alone() {
    let world = World::new().await;
    let _serin = world.serin(Arc::new(NoProbe));
    world.reaches("Initialized").await;
    let mut deployment = world::deployment();
    deployment["metadata"]["name"] = json!("other");
    deployment["spec"]["selector"]["matchLabels"] = json!({"app": "other"});
    deployment["spec"]["template"]["metadata"]["labels"] = json!({"app": "other"});
    world.create("apps", "v1", "Deployment", deployment).await;
    let mut canary = world::canary();
    canary["metadata"]["name"] = json!("other");
    canary["spec"]["targetRef"]["name"] = json!("other");
    canary["spec"]["service"]["name"] = json!("podinfo");
    canary["spec"].as_object_mut().unwrap().remove("autoscalerRef");
    world.create("flagger.app", "v1beta1", "Canary", canary).await;
    let api = world.api("flagger.app", "v1beta1", "Canary").await;
    let blocked = |object: Option<&DynamicObject>| {
        object.is_some_and(|object| object.data["status"]["conditions"].to_string().contains("Blocked"))
    };
    tokio::time::timeout(CAP, await_condition(api.clone(), "other", blocked)).await.unwrap().unwrap();
    let before = world.get("", "v1", "Service", "podinfo").await;
    let uid = api.get("other").await.unwrap().metadata.uid.unwrap();
    api.delete("other", &DeleteParams::default()).await.unwrap();
    let gone = await_condition(api, "other", is_deleted(&uid));
    tokio::time::timeout(Duration::from_secs(120), gone).await.expect("it goes").unwrap();
    assert_eq!(world.get("", "v1", "Service", "podinfo").await, before, "nobody wrote it");
}
