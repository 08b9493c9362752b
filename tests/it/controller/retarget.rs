//! A Canary whose target gets another name begins anew, and nobody who calls its service notices.

use std::sync::Arc;
use std::time::Duration;

use kube::api::DeleteParams;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use serin::cluster::NoProbe;
use tokio_util::sync::DropGuard;

use super::world::{self, CAP, World};

/// A world whose Canary has no autoscaler of its own.
async fn plain() -> World {
    let mut canary = world::canary();
    canary["spec"].as_object_mut().unwrap().remove("autoscalerRef");
    let world = World::with(canary).await;
    let scalers = world.api("autoscaling", "v2", "HorizontalPodAutoscaler").await;
    scalers.delete("podinfo", &DeleteParams::default()).await.unwrap();
    world
}

/// The same app as another Deployment, beside the old one.
async fn create(world: &World, name: &str, image: &str) {
    let mut deployment = world::deployment();
    deployment["metadata"]["name"] = json!(name);
    deployment["spec"]["selector"]["matchLabels"] = json!({"app": name});
    deployment["spec"]["template"]["metadata"]["labels"] = json!({"app": name});
    deployment["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image);
    world.create("apps", "v1", "Deployment", deployment).await;
}

async fn ready(world: &World, name: &str) -> i64 {
    let api = world.api("apps", "v1", "Deployment").await;
    let found = api.get_opt(name).await.unwrap();
    found.and_then(|found| found.data["status"]["availableReplicas"].as_i64()).unwrap_or(0)
}

/// Waits until a Deployment is gone.
async fn gone(world: &World, name: &str) {
    let api = world.api("apps", "v1", "Deployment").await;
    let looking = async {
        while api.get_opt(name).await.unwrap().is_some() {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    tokio::time::timeout(CAP, looking).await.unwrap_or_else(|_| panic!("{name} stays"));
}

/// Waits until the service leads to `app`; whom it leads to on the way is always able to answer.
async fn leads_to(world: &World, app: &str) {
    let looking = async {
        loop {
            let service = world.get("", "v1", "Service", "podinfo").await;
            let serving = service["spec"]["selector"]["app"].as_str().unwrap().to_owned();
            assert!(ready(world, &serving).await > 0, "the service leads to {serving}, which nobody can reach");
            if serving == app {
                return;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    tokio::time::timeout(CAP, looking).await.unwrap_or_else(|_| panic!("the service never leads to {app}"));
}

fn named(target: &str) -> Value {
    json!({"spec": {"targetRef": {"name": target}, "service": {"name": "podinfo"}}})
}

#[tokio::test(start_paused = true)]
async fn the_new_target_is_taken_up_while_the_old_primary_serves() {
    taken_up(plain().await).await;
}

#[tokio::test(start_paused = true)]
async fn a_service_of_somebody_follows_too() {
    let world = plain().await;
    let service = json!({"metadata": {"name": "podinfo"},
        "spec": {"selector": {"app": "podinfo"}, "ports": [{"name": "http", "port": 9898, "targetPort": 9898}]}});
    world.create("", "v1", "Service", service).await;
    taken_up(world).await;
}

async fn taken_up(world: World) {
    let _serin = world.serin(Arc::new(NoProbe));
    world.reaches("Initialized").await;
    create(&world, "later", "stefanprodan/podinfo:3.2.0").await;
    world.patch_canary(named("later")).await;
    world.api("apps", "v1", "Deployment").await.delete("podinfo", &DeleteParams::default()).await.unwrap();
    leads_to(&world, "later-primary").await;
    world
        .says(
            "podinfo.test is about later now and begins anew: podinfo-primary serves until later-primary does, and goes then",
        )
        .await;
    world.reaches("Initialized").await;
    assert_eq!(world.image_of("later-primary").await, "stefanprodan/podinfo:3.2.0");
    gone(&world, "podinfo-primary").await;
    // A release of the new one is a release as any other.
    world.set_image_of("later", "3.2.1").await;
    world.reaches("Succeeded").await;
    assert_eq!(world.image_of("later-primary").await, "stefanprodan/podinfo:3.2.1");
}

#[tokio::test(start_paused = true)]
async fn a_release_of_the_old_target_ends_first_and_deletion_does_not_hang() {
    let world = plain().await;
    let serin = world.serin(Arc::new(NoProbe));
    world.reaches("Initialized").await;
    world.set_image("3.1.1").await;
    world.has_weight(20).await;
    create(&world, "later", "stefanprodan/podinfo:3.2.0").await;
    world.patch_canary(named("later")).await;
    let blocked = world.condition("Blocked").await;
    assert_eq!(blocked["message"], "spec.targetRef names later, and the release of podinfo has to end first");
    drop(serin);
    let _serin = world.serin(Arc::new(NoProbe));
    leads_to(&world, "later-primary").await;
    assert_eq!(world.image_of("podinfo-primary").await, "stefanprodan/podinfo:3.1.1", "it was promoted");
    world.reaches("Initialized").await;
    world.patch_canary(named("podinfo")).await;
    let canaries = world.api("flagger.app", "v1beta1", "Canary").await;
    canaries.delete("podinfo", &DeleteParams::default()).await.unwrap();
    let gone = async {
        while canaries.get_opt("podinfo").await.unwrap().is_some() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::time::timeout(CAP, gone).await.expect("the Canary goes");
    let service = world.get("", "v1", "Service", "podinfo").await;
    assert_eq!(service["spec"]["selector"], json!({"app": "podinfo"}));
}

/// The first route of the VirtualService: where it leads, and how much of it.
async fn leads(world: &World) -> Vec<(String, u64)> {
    let route = world.get("networking.istio.io", "v1beta1", "VirtualService", "podinfo").await;
    let sides = route["spec"]["http"][0]["route"].as_array().unwrap();
    let side = |side: &Value| {
        let host = side["destination"]["host"].as_str().unwrap().to_owned();
        (host, side["weight"].as_u64().unwrap_or(100))
    };
    sides.iter().map(side).filter(|(_, weight)| *weight > 0).collect()
}

async fn moves_in_mid_release(patch: Value, words: &str) -> (World, DropGuard) {
    let world = plain().await;
    let serin = world.serin(Arc::new(NoProbe));
    world.reaches("Initialized").await;
    world.set_image("3.1.1").await;
    world.has_weight(20).await;
    world.patch_canary(patch).await;
    let blocked = world.condition("Blocked").await;
    assert_eq!(blocked["message"], format!("{words}, and the release that is under way has to end first"));
    assert_eq!(leads(&world).await.len(), 2, "the release goes on where it is");
    // A new process knows it by the status.
    drop(serin);
    let serin = world.serin(Arc::new(NoProbe));
    world.reaches("Succeeded").await;
    world
        .says("VirtualService test/podinfo of provider istio leads to primary from here on and is left alone: remove it when nobody comes by it")
        .await;
    assert_eq!(leads(&world).await, [("podinfo".to_owned(), 100)], "nobody is sent to a side that is gone");
    (world, serin)
}

#[tokio::test(start_paused = true)]
async fn a_route_of_another_provider_is_left_leading_to_primary_when_the_release_is_over() {
    let patch = json!({"spec": {"provider": "kubernetes", "service": {"hosts": null, "gateways": null}}});
    let (world, _serin) = moves_in_mid_release(patch, "spec.provider names kubernetes").await;
    world.set_image("3.1.2").await;
    world.reaches("Progressing").await;
    world.reaches("Succeeded").await;
    assert_eq!(world.image_of("podinfo-primary").await, "stefanprodan/podinfo:3.1.2");
}

#[tokio::test(start_paused = true)]
async fn a_service_of_another_name_waits_for_the_release_and_leaves_the_old_route_whole() {
    let (world, _serin) =
        moves_in_mid_release(json!({"spec": {"service": {"name": "shop"}}}), "spec.service.name names shop").await;
    let route = world.get("networking.istio.io", "v1beta1", "VirtualService", "shop").await;
    assert_eq!(route["spec"]["http"][0]["route"][0]["destination"]["host"], "shop-primary");
}

#[tokio::test(start_paused = true)]
async fn deleted_before_the_new_target_is_taken_up_nobody_is_led_to_the_former_ones_pods() {
    let world = plain().await;
    let _serin = world.serin(Arc::new(NoProbe));
    world.reaches("Initialized").await;
    create(&world, "later", "stefanprodan/podinfo:3.2.0").await;
    let mut patch = named("later");
    let scaler = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "name": "missing"});
    patch["spec"]["autoscalerRef"] = scaler;
    world.patch_canary(patch).await;
    world.condition("Blocked").await;
    let canaries = world.api("flagger.app", "v1beta1", "Canary").await;
    canaries.delete("podinfo", &DeleteParams::default()).await.unwrap();
    let gone = async {
        while canaries.get_opt("podinfo").await.unwrap().is_some() {
            if world.weights_if_split().await.is_some_and(|(_, canary)| canary > 0) {
                let service = world.get("", "v1", "Service", "podinfo-canary").await;
                let serving = service["spec"]["selector"]["app"].as_str().unwrap().to_owned();
                assert!(ready(&world, &serving).await > 0, "the route leads to {serving}, which nobody can reach");
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(CAP, gone).await.expect("the Canary goes");
    let service = world.get("", "v1", "Service", "podinfo").await;
    assert_eq!(service["spec"]["selector"], json!({"app": "later"}));
}
