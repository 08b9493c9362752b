//! Gateway API: an HTTPRoute counts when the Gateways that it is attached to say so.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams};
use kube::runtime::wait::await_condition;
use serde_json::{Value, json};
use serin::cluster::NoProbe;
use serin::sandbox::traffic::gateway_controller;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::world::{CAP, World, canary};

const GROUP: &str = "gateway.networking.k8s.io";

/// The seeds' Canary, attached to a Gateway.
fn attached(service: Value) -> Value {
    let mut canary = canary();
    canary["spec"]["provider"] = json!("gatewayapi:v1");
    canary["spec"]["service"] =
        json!({"port": 9898, "hosts": ["app.example.com"], "gatewayRefs": [{"name": "public"}]});
    json_patch::merge(&mut canary["spec"]["service"], &service);
    canary
}

async fn world(service: Value) -> World {
    World::with(attached(service)).await
}

/// A Gateway with one listener.
async fn gateway(world: &World, from: &str) {
    let listener =
        json!({"name": "http", "port": 80, "protocol": "HTTP", "allowedRoutes": {"namespaces": {"from": from}}});
    let spec = json!({"gatewayClassName": "any", "listeners": [listener]});
    let object = json!({"metadata": {"name": "public", "namespace": "test"}, "spec": spec});
    world.create(GROUP, "v1", "Gateway", object).await;
}

fn controller(world: &World) -> DropGuard {
    let stop = CancellationToken::new();
    tokio::spawn(gateway_controller(world.server.client(), stop.clone()));
    stop.drop_guard()
}

async fn route(world: &World) -> Value {
    world.get(GROUP, "v1", "HTTPRoute", "podinfo").await
}

/// Weights of primary and canary.
async fn weights(world: &World) -> (u64, u64) {
    let route = route(world).await;
    let weight = |index: usize| route["spec"]["rules"][0]["backendRefs"][index]["weight"].as_u64().unwrap();
    (weight(0), weight(1))
}

/// Waits until the Canary says what it waits for.
async fn waits_for(world: &World, words: &'static str) {
    let api = world.api("flagger.app", "v1beta1", "Canary").await;
    let waits = move |object: Option<&DynamicObject>| {
        object
            .and_then(|object| object.data["status"]["serin"]["waitingOn"].as_str())
            .is_some_and(|it| it.contains(words))
    };
    let found = tokio::time::timeout(CAP, await_condition(api.clone(), "podinfo", waits)).await;
    assert!(found.is_ok(), "never waits for {words}: {}", api.get("podinfo").await.unwrap().data["status"]);
}

#[tokio::test(start_paused = true)]
async fn a_revision_is_released_and_the_next_rolled_back_along_an_http_route() {
    let world = world(json!({})).await;
    gateway(&world, "Same").await;
    let _controller = controller(&world);
    let _serin = world.serin(Arc::new(NoProbe));
    world.reaches("Initialized").await;
    let live = route(&world).await;
    assert_eq!(live["spec"]["hostnames"], json!(["app.example.com"]));
    assert_eq!(weights(&world).await, (100, 0));

    world.set_image("3.1.1").await;
    for weight in [10, 20, 30, 40, 50] {
        world.has_weight(weight).await;
    }
    world.reaches("Succeeded").await;
    assert_eq!(world.image_of("podinfo-primary").await, "stefanprodan/podinfo:3.1.1");

    world.outside.failing.store(true, Ordering::Relaxed);
    world.set_image("3.1.2-errors-50").await;
    world.reaches("Failed").await;
    assert_eq!(world.image_of("podinfo-primary").await, "stefanprodan/podinfo:3.1.1");
    assert_eq!(weights(&world).await, (100, 0));
    assert_eq!(world.deployment("podinfo").await["spec"]["replicas"], 0);
}

#[tokio::test(start_paused = true)]
async fn no_step_counts_before_the_parents_have_taken_it() {
    let world = world(json!({})).await;
    gateway(&world, "Same").await;
    let _serin = world.serin(Arc::new(NoProbe));
    // Nobody speaks for the Gateway: nothing was begun, however long that is.
    waits_for(&world, "no controller says whether Gateway test/public takes HTTPRoute test/podinfo").await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(world.deployment("podinfo").await["spec"]["replicas"], 2, "the target serves on");

    let one = controller(&world);
    world.reaches("Initialized").await;
    world.set_image("3.1.1").await;
    world.has_weight(10).await;
    // The controller dies: what it said was of an older route.
    drop(one);
    waits_for(&world, "has not taken HTTPRoute test/podinfo up yet").await;
    let shown = weights(&world).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(weights(&world).await, shown, "no further step");
    assert!(!world.messages().await.iter().any(|said| said.ends_with("canary weight 50")));
    let _other = controller(&world);
    world.reaches("Succeeded").await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_route_is_a_condition_by_name_and_goes_on_once_it_is_mended() {
    let world = world(json!({})).await;
    let _controller = controller(&world);
    let _serin = world.serin(Arc::new(NoProbe));
    let missing = world.condition("Blocked").await;
    assert_eq!(
        missing["message"],
        "Gateway test/public does not exist: create it or correct spec.service.gatewayRefs"
    );
    gateway(&world, "Same").await;
    world.reaches("Initialized").await;

    // A Canary whose listener is not there, repaired by an edit of its spec.
    world
        .patch_canary(json!({"spec": {"service": {"gatewayRefs": [{"name": "public", "sectionName": "https"}]}}}))
        .await;
    let refused = world.condition("Blocked").await;
    let said = refused["message"].as_str().unwrap();
    assert!(
        said.starts_with("Gateway test/public does not take HTTPRoute test/podinfo: Accepted is False"),
        "{said}"
    );
    world
        .patch_canary(json!({"spec": {"service": {"gatewayRefs": [{"name": "public", "sectionName": "http"}]}}}))
        .await;
    world.set_image("3.1.1").await;
    world.reaches("Succeeded").await;
}

#[tokio::test(start_paused = true)]
async fn somebodys_route_is_named_and_left_alone() {
    let world = world(json!({})).await;
    gateway(&world, "Same").await;
    let rules = json!([{"backendRefs": [{"name": "podinfo", "port": 9898}]}]);
    let theirs = json!({"metadata": {"name": "podinfo", "namespace": "test"},
        "spec": {"parentRefs": [{"name": "public"}], "rules": rules}});
    world.create(GROUP, "v1", "HTTPRoute", theirs).await;
    let _controller = controller(&world);
    let _serin = world.serin(Arc::new(NoProbe));
    let blocked = world.condition("Blocked").await;
    let said = blocked["message"].as_str().unwrap();
    assert!(said.starts_with("HTTPRoute test/podinfo is not owned by Canary podinfo"), "{said}");
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(route(&world).await["spec"]["rules"][0]["backendRefs"][0]["name"], "podinfo");
    assert_eq!(world.deployment("podinfo").await["spec"]["replicas"], 2);
}

#[tokio::test(start_paused = true)]
async fn a_deleted_canary_leaves_a_route_to_the_target() {
    let world = world(json!({})).await;
    gateway(&world, "Same").await;
    let _controller = controller(&world);
    let _serin = world.serin(Arc::new(NoProbe));
    world.reaches("Initialized").await;
    let canaries = world.api("flagger.app", "v1beta1", "Canary").await;
    canaries.delete("podinfo", &DeleteParams::default()).await.unwrap();
    let gone = await_condition(canaries, "podinfo", |object: Option<&DynamicObject>| object.is_none());
    tokio::time::timeout(CAP, gone).await.unwrap().unwrap();
    let left = route(&world).await;
    let backends = &left["spec"]["rules"][0]["backendRefs"];
    assert_eq!(backends[0]["name"], "podinfo");
    assert_eq!(backends.as_array().unwrap().len(), 1);
    let service = world.get("", "v1", "Service", "podinfo").await;
    assert_eq!(service["spec"]["selector"], json!({"app": "podinfo"}));
}

#[tokio::test(start_paused = true)]
async fn weights_that_somebody_changed_are_put_right() {
    let world = world(json!({})).await;
    gateway(&world, "Same").await;
    let _controller = controller(&world);
    let _serin = world.serin(Arc::new(NoProbe));
    world.reaches("Initialized").await;
    let patch = json!([{"op": "replace", "path": "/spec/rules/0/backendRefs/1/weight", "value": 50}]);
    let patch = Patch::Json::<()>(serde_json::from_value(patch).unwrap());
    let api = world.api(GROUP, "v1", "HTTPRoute").await;
    api.patch("podinfo", &PatchParams::default(), &patch).await.unwrap();
    let is_right = |object: Option<&DynamicObject>| {
        object.is_some_and(|object| object.data["spec"]["rules"][0]["backendRefs"][1]["weight"] == 0)
    };
    tokio::time::timeout(CAP, await_condition(api, "podinfo", is_right)).await.unwrap().unwrap();
}

/// The Gateway's controller refuses the route as it is now.
async fn refuse(world: &World) {
    let mut status = route(world).await["status"].take();
    let generation = route(world).await["metadata"]["generation"].clone();
    for condition in status["parents"][0]["conditions"].as_array_mut().unwrap() {
        if condition["type"] == "Accepted" {
            json_patch::merge(
                condition,
                &json!({"status": "False", "reason": "UnsupportedValue", "message": "no such match", "observedGeneration": generation}),
            );
        }
    }
    let patch = Patch::Merge(json!({ "status": status }));
    let api = world.api(GROUP, "v1", "HTTPRoute").await;
    api.patch_status("podinfo", &PatchParams::default(), &patch).await.unwrap();
}

async fn weights_are(world: &World, wanted: (u64, u64)) {
    let shown = async {
        while weights(world).await != wanted {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(60), shown).await.is_ok(), "{:?}", weights(world).await);
}

#[tokio::test(start_paused = true)]
async fn what_a_gateway_refuses_as_it_is_written_is_taken_back_at_once_and_not_tried_again() {
    let world = world(json!({})).await;
    gateway(&world, "Same").await;
    let one = controller(&world);
    let serin = world.serin(Arc::new(NoProbe));
    world.reaches("Initialized").await;
    drop(one);
    world.set_image("3.1.1").await;
    weights_are(&world, (90, 10)).await;
    refuse(&world).await;
    weights_are(&world, (100, 0)).await;
    let _controller = controller(&world);
    waits_for(&world, "no such match; until it is another one all requests go to primary").await;
    drop(serin);
    let _serin = world.serin(Arc::new(NoProbe));
    tokio::time::sleep(Duration::from_secs(900)).await;
    assert_eq!(weights(&world).await, (100, 0), "not tried again");
    waits_for(&world, "no such match").await;

    world.patch_canary(json!({"spec": {"analysis": {"stepWeight": 25}}})).await;
    world.reaches("Succeeded").await;
    assert_eq!(world.image_of("podinfo-primary").await, "stefanprodan/podinfo:3.1.1");
}

#[tokio::test(start_paused = true)]
async fn a_release_goes_on_when_a_gateway_that_was_gone_comes_back() {
    let world = world(json!({})).await;
    gateway(&world, "Same").await;
    let _controller = controller(&world);
    let _serin = world.serin(Arc::new(NoProbe));
    world.reaches("Initialized").await;
    world.set_image("3.1.1").await;
    world.has_weight(20).await;
    world.api(GROUP, "v1", "Gateway").await.delete("public", &DeleteParams::default()).await.unwrap();
    waits_for(&world, "Gateway test/public does not exist").await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    gateway(&world, "Same").await;
    world.reaches("Succeeded").await;
}
