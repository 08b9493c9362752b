//! Plain Kubernetes: all users move by the selector of the apex Service, and back.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use futures::StreamExt as _;
use kube::api::{DeleteParams, DynamicObject};
use kube::runtime::wait::await_condition;
use kube::runtime::{WatchStreamExt as _, watcher};
use serde_json::{Value, json};
use serin::cluster::NoProbe;

use super::world::{CAP, World, canary};

/// Blue/green with plain Services.
fn blue_green(iterations: u32) -> Value {
    let mut canary = canary();
    canary["spec"]["provider"] = json!("kubernetes");
    canary["spec"]["service"] = json!({"port": 9898});
    let analysis = &mut canary["spec"]["analysis"];
    analysis["iterations"] = json!(iterations);
    for weight in ["maxWeight", "stepWeight"] {
        analysis.as_object_mut().unwrap().remove(weight);
    }
    canary
}

/// What the apex Service has selected so far, and how many pods of that were available then.
type Seen = Arc<Mutex<Vec<(String, i64)>>>;

/// Notes every change of the apex Service's selector.
async fn observe(world: &World) -> Seen {
    let seen = Seen::default();
    let services = world.api("", "v1", "Service").await;
    let deployments = world.api("apps", "v1", "Deployment").await;
    let noted = seen.clone();
    let watching = async move {
        let config = watcher::Config::default().fields("metadata.name=podinfo");
        let mut changes = Box::pin(watcher(services, config).applied_objects());
        while let Some(Ok(service)) = changes.next().await {
            let Some(selects) = service.data["spec"]["selector"]["app"].as_str() else { continue };
            if noted.lock().unwrap().last().is_some_and(|(last, _)| last == selects) {
                continue;
            }
            let available = deployments.get(selects).await.ok();
            let available = available.and_then(|it| it.data["status"]["availableReplicas"].as_i64()).unwrap_or(0);
            noted.lock().unwrap().push((selects.to_owned(), available));
        }
    };
    tokio::spawn(watching);
    seen
}

#[tokio::test(start_paused = true)]
async fn users_move_to_the_ready_canary_before_promotion_and_back_to_a_ready_primary() {
    let world = World::with(blue_green(3)).await;
    let seen = observe(&world).await;
    let _serin = world.serin(Arc::new(NoProbe));
    world.reaches("Initialized").await;
    world.set_image("3.1.1").await;
    world.reaches("Succeeded").await;
    let sides: Vec<String> = seen.lock().unwrap().iter().map(|(side, _)| side.clone()).collect();
    assert_eq!(sides, ["podinfo-primary", "podinfo", "podinfo-primary"]);
    for (side, available) in seen.lock().unwrap().iter() {
        assert!(*available > 0, "{side} was given all users with {available} pods available");
    }
    let said = world.messages().await;
    let at = |message: &str| said.iter().position(|said| said == message).unwrap_or_else(|| panic!("{said:#?}"));
    let order = [
        at("Advance podinfo.test canary iteration 1/3"),
        at("Advance podinfo.test canary iteration 3/3"),
        at("Routing all traffic to canary"),
        at("Copying podinfo.test template spec to podinfo-primary.test"),
        at("Routing all traffic to primary"),
    ];
    assert!(order.is_sorted(), "{said:#?}");
    assert_eq!(world.image_of("podinfo-primary").await, "stefanprodan/podinfo:3.1.1");
    assert_eq!(world.deployment("podinfo").await["spec"]["replicas"], 0);
}

#[tokio::test(start_paused = true)]
async fn a_failing_revision_gets_no_user() {
    let world = World::with(blue_green(3)).await;
    let seen = observe(&world).await;
    let _serin = world.serin(Arc::new(NoProbe));
    world.reaches("Initialized").await;
    world.outside.failing.store(true, Ordering::Relaxed);
    world.set_image("3.1.2-errors-50").await;
    world.reaches("Failed").await;
    let sides: Vec<String> = seen.lock().unwrap().iter().map(|(side, _)| side.clone()).collect();
    assert_eq!(sides, ["podinfo-primary"]);
}

#[tokio::test(start_paused = true)]
async fn a_users_service_leads_to_the_target_until_primary_is_ready_and_is_handed_back() {
    let mut canary = blue_green(1);
    canary["metadata"]["name"] = json!("podinfo");
    let world = World::with(canary).await;
    let ports = json!([{"name": "web", "port": 9898}, {"name": "metrics", "port": 9797}]);
    let service = json!({"metadata": {"name": "podinfo", "namespace": "test", "labels": {"team": "a"}},
        "spec": {"selector": {"app": "podinfo"}, "ports": ports}});
    world.create("", "v1", "Service", service).await;
    let seen = observe(&world).await;
    let _serin = world.serin(Arc::new(NoProbe));
    world.reaches("Initialized").await;
    world.set_image("3.1.1").await;
    world.reaches("Succeeded").await;
    let sides: Vec<String> = seen.lock().unwrap().iter().map(|(side, _)| side.clone()).collect();
    assert_eq!(sides, ["podinfo", "podinfo-primary", "podinfo", "podinfo-primary"]);
    let live = world.get("", "v1", "Service", "podinfo").await;
    assert_eq!(live["spec"]["ports"].as_array().unwrap().len(), 2, "the user's further port stays");

    let canaries = world.api("flagger.app", "v1beta1", "Canary").await;
    canaries.delete("podinfo", &DeleteParams::default()).await.unwrap();
    let gone = await_condition(canaries, "podinfo", |object: Option<&DynamicObject>| object.is_none());
    tokio::time::timeout(CAP, gone).await.unwrap().unwrap();
    assert_eq!(world.get("", "v1", "Service", "podinfo").await["spec"]["selector"], json!({"app": "podinfo"}));
}
