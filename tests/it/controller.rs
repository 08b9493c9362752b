//! The controller against the embedded API server and its controllers, with metrics and hooks that answer from memory.
//! Time is paused: it advances by itself whenever everybody waits.

mod world;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams};
use kube::runtime::conditions::is_deleted;
use kube::runtime::wait::await_condition;
use pretty_assertions::assert_eq;
use serde_json::json;
use serin::cluster::NoProbe;

use world::World;

#[tokio::test(start_paused = true)]
async fn first_sight_makes_primary_services_and_route() {
    let world = World::new().await;
    let _serin = world.serin(Arc::new(NoProbe));
    world.reaches("Initialized").await;
    assert_eq!(world.image_of("podinfo-primary").await, "stefanprodan/podinfo:3.1.0");
    assert_eq!(world.deployment("podinfo-primary").await["status"]["availableReplicas"], 2);
    assert_eq!(world.deployment("podinfo").await["spec"]["replicas"], 0);
    assert_eq!(world.weights().await, (100, 0));
    let scaler = world.get("autoscaling", "v2", "HorizontalPodAutoscaler", "podinfo-primary").await;
    assert_eq!(scaler["spec"]["scaleTargetRef"]["name"], "podinfo-primary");
    for (service, selects) in
        [("podinfo", "podinfo-primary"), ("podinfo-primary", "podinfo-primary"), ("podinfo-canary", "podinfo")]
    {
        assert_eq!(world.get("", "v1", "Service", service).await["spec"]["selector"], json!({"app": selects}));
    }
    let canary = world.get("flagger.app", "v1beta1", "Canary", "podinfo").await;
    assert_eq!(canary["metadata"]["finalizers"], json!(["serin.dev/finalizer"]));
}

#[tokio::test(start_paused = true)]
async fn a_healthy_revision_is_promoted_with_the_seeds_events() {
    let world = World::new().await;
    let _serin = world.serin(Arc::new(NoProbe));
    world.reaches("Initialized").await;
    world.set_image("3.1.1").await;
    world.reaches("Succeeded").await;
    assert_eq!(world.image_of("podinfo-primary").await, "stefanprodan/podinfo:3.1.1");
    assert_eq!(world.weights().await, (100, 0));
    assert_eq!(world.deployment("podinfo").await["spec"]["replicas"], 0);
    let hooks = world.outside.hooks.lock().unwrap().clone();
    assert_eq!(hooks[0], ("bash".into(), "Progressing".into(), "hook/pre-rollout/acceptance-test".into()));

    // The last status is written before its events; wait for the last of them.
    let last = "Promotion completed! Scaling down podinfo.test";
    let mut messages = world.messages().await;
    while !messages.iter().any(|message| message == last) {
        tokio::time::sleep(Duration::from_millis(10)).await;
        messages = world.messages().await;
    }
    messages.retain(|message| !message.contains("not ready"));
    assert_eq!(
        messages,
        [
            "all the metrics providers are available!",
            "Initialization done! podinfo.test",
            "New revision detected! Scaling up podinfo.test",
            "Starting canary analysis for podinfo.test",
            "Pre-rollout check acceptance-test passed",
            "Advance podinfo.test canary weight 10",
            "Advance podinfo.test canary weight 20",
            "Advance podinfo.test canary weight 30",
            "Advance podinfo.test canary weight 40",
            "Advance podinfo.test canary weight 50",
            "Copying podinfo.test template spec to podinfo-primary.test",
            "Routing all traffic to primary",
            last,
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_failing_revision_is_rolled_back() {
    let world = World::new().await;
    let _serin = world.serin(Arc::new(NoProbe));
    world.reaches("Initialized").await;
    world.outside.failing.store(true, Ordering::Relaxed);
    world.set_image("3.1.2-errors-50").await;
    world.reaches("Failed").await;
    assert_eq!(world.image_of("podinfo-primary").await, "stefanprodan/podinfo:3.1.0");
    assert_eq!(world.weights().await, (100, 0));
    assert_eq!(world.deployment("podinfo").await["spec"]["replicas"], 0);
    let canary = world.get("flagger.app", "v1beta1", "Canary", "podinfo").await;
    let message = canary["status"]["conditions"][0]["message"].as_str().unwrap();
    assert!(message.contains("69.17"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn idle_costs_nothing_and_a_weight_step_three_writes() {
    let world = World::new().await;
    let _serin = world.serin(Arc::new(NoProbe));
    world.reaches("Initialized").await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let before = world.server.requests().snapshot();
    tokio::time::sleep(Duration::from_secs(600)).await;
    let idle = world.server.requests().snapshot().since(&before);
    assert_eq!(idle.total(|key| !key.is_watch && !key.resource.starts_with("leases")), 0, "{idle:?}");

    world.set_image("3.1.1").await;
    world.has_weight(20).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    let before = world.server.requests().snapshot();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let step = world.server.requests().snapshot().since(&before);
    let counted = step.total(|key| !key.is_watch && !key.resource.starts_with("events"));
    assert!(counted <= 3, "{counted} requests: {step:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_new_revision_supersedes_the_one_under_way() {
    let world = World::new().await;
    let _serin = world.serin(Arc::new(NoProbe));
    world.reaches("Initialized").await;
    world.set_image("3.1.1").await;
    world.has_weight(30).await;
    world.set_image("3.1.2").await;
    world.reaches("Succeeded").await;
    assert_eq!(world.image_of("podinfo-primary").await, "stefanprodan/podinfo:3.1.2");
    let canary = world.get("flagger.app", "v1beta1", "Canary", "podinfo").await;
    assert_eq!(canary["status"]["serin"]["state"]["releases"], 2);
}

#[tokio::test(start_paused = true)]
async fn a_canary_that_never_becomes_ready_fails_with_its_reason() {
    let world = World::new().await;
    let _serin = world.serin(Arc::new(NoProbe));
    world.reaches("Initialized").await;
    world.set_image("3.1.1-unready").await;
    world.reaches("Failed").await;
    let canary = world.get("flagger.app", "v1beta1", "Canary", "podinfo").await;
    let message = canary["status"]["conditions"][0]["message"].as_str().unwrap();
    assert!(message.contains("0 of 2 (readyThreshold 100%) updated replicas are available"), "{message}");
    assert_eq!(world.weights().await, (100, 0));
}

#[tokio::test(start_paused = true)]
async fn an_abort_is_answered_and_rolls_back() {
    let world = World::new().await;
    let _serin = world.serin(Arc::new(NoProbe));
    world.reaches("Initialized").await;
    world.set_image("3.1.1").await;
    world.has_weight(20).await;
    let release =
        world.get("flagger.app", "v1beta1", "Canary", "podinfo").await["status"]["serin"]["release"].take();
    let request = format!("abort/{}/n1", release.as_str().unwrap());
    let patch = Patch::Merge(json!({"metadata": {"annotations": {"serin.dev/request": request}}}));
    let api = world.api("flagger.app", "v1beta1", "Canary").await;
    api.patch("podinfo", &PatchParams::default(), &patch).await.unwrap();
    world.reaches("Failed").await;
    let canary = api.get("podinfo").await.unwrap();
    assert_eq!(canary.data["status"]["serin"]["handledRequest"], request);
    assert_eq!(world.image_of("podinfo-primary").await, "stefanprodan/podinfo:3.1.0");
}

#[tokio::test(start_paused = true)]
async fn a_deleted_canary_hands_its_target_back() {
    let world = World::new().await;
    let _serin = world.serin(Arc::new(NoProbe));
    world.reaches("Initialized").await;
    let api = world.api("flagger.app", "v1beta1", "Canary").await;
    let uid = api.get("podinfo").await.unwrap().metadata.uid.unwrap();
    api.delete("podinfo", &DeleteParams::default()).await.unwrap();
    world.reaches("Terminating").await;
    assert_eq!(world.image_of("podinfo-primary").await, "stefanprodan/podinfo:3.1.0", "primary serves until then");
    tokio::time::timeout(world::CAP, await_condition(api, "podinfo", is_deleted(&uid))).await.unwrap().unwrap();
    let target = world.deployment("podinfo").await;
    assert_eq!(target["status"]["availableReplicas"], 2);
    let primary = world.api("apps", "v1", "Deployment").await;
    let gone = |object: Option<&DynamicObject>| object.is_none();
    let primary_gone = await_condition(primary, "podinfo-primary", gone);
    tokio::time::timeout(world::CAP, primary_gone).await.unwrap().unwrap();

    // Whoever calls the service, from inside or through the gateway, still reaches the target's pods.
    let service = world.get("", "v1", "Service", "podinfo").await;
    assert_eq!(service["spec"]["selector"], json!({"app": "podinfo"}));
    let route = world.get("networking.istio.io", "v1beta1", "VirtualService", "podinfo").await;
    assert_eq!(route["spec"]["http"][0]["route"], json!([{"destination": {"host": "podinfo"}}]));
    assert_eq!(route["metadata"]["ownerReferences"][0]["uid"], target["metadata"]["uid"], "they go with it");

    // Another Canary takes both up again.
    world.create("flagger.app", "v1beta1", "Canary", world::canary()).await;
    world.reaches("Initialized").await;
    assert_eq!(world.weights().await, (100, 0));
    let route = world.get("networking.istio.io", "v1beta1", "VirtualService", "podinfo").await;
    assert_eq!(route["metadata"]["ownerReferences"][0]["kind"], "Canary");
}

#[tokio::test(start_paused = true)]
async fn nothing_starts_on_a_definition_that_prunes_the_state() {
    let world = World::new().await;
    let definitions = Api::<CustomResourceDefinition>::all(world.cluster.client());
    let mut flaggers = definitions.get("canaries.flagger.app").await.unwrap();
    let ours = serde_json::to_value(&flaggers.spec).unwrap();
    let mut spec = ours.clone();
    let status = "/versions/0/schema/openAPIV3Schema/properties/status/properties";
    spec.pointer_mut(status).unwrap().as_object_mut().unwrap().remove("serin");
    flaggers.spec = serde_json::from_value(spec).unwrap();
    definitions.replace("canaries.flagger.app", &Default::default(), &flaggers).await.unwrap();

    let _serin = world.serin(Arc::new(NoProbe));
    let api = world.api("flagger.app", "v1beta1", "Canary").await;
    let blocked = |object: Option<&DynamicObject>| {
        object.is_some_and(|object| object.data["status"]["conditions"][0]["type"] == "Blocked")
    };
    tokio::time::timeout(world::CAP, await_condition(api.clone(), "podinfo", blocked)).await.unwrap().unwrap();
    let canary = api.get("podinfo").await.unwrap();
    let message = canary.data["status"]["conditions"][0]["message"].as_str().unwrap();
    assert!(message.contains("serin crds | kubectl apply"), "{message}");

    let patch = Patch::Merge(json!({"spec": ours}));
    definitions.patch("canaries.flagger.app", &PatchParams::default(), &patch).await.unwrap();
    world.reaches("Initialized").await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_carried_out_is_said_on_the_object_and_mended_there() {
    let mut canary = world::canary();
    canary["spec"]["analysis"]["mirror"] = json!(true);
    let world = World::with(canary).await;
    let _serin = world.serin(Arc::new(NoProbe));
    let api = world.api("flagger.app", "v1beta1", "Canary").await;
    let blocked = |object: Option<&DynamicObject>| {
        object.is_some_and(|object| object.data["status"]["conditions"][0]["type"] == "Blocked")
    };
    tokio::time::timeout(world::CAP, await_condition(api.clone(), "podinfo", blocked)).await.unwrap().unwrap();
    let patch = Patch::Merge(json!({"spec": {"analysis": {"mirror": null}}}));
    api.patch("podinfo", &PatchParams::default(), &patch).await.unwrap();
    world.reaches("Initialized").await;
    let canary = api.get("podinfo").await.unwrap();
    assert_eq!(canary.data["status"]["conditions"][0]["type"], "Promoted");
}
