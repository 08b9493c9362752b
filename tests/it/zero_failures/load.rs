//! Load that one side alone cannot carry, from users of the route and from users of the apex Service, who know nothing of it.
//!
//! A pod answers [`CAPACITY`] requests a second and refuses the rest. Primary's autoscaler follows the load; the target's minimum
//! is one pod.

use std::time::Duration;

use serde_json::{Value, json};
use serin::api::CanaryPhase;
use serin::release::Guards;
use serin::sandbox::repository::FileEdit;

use super::manifests::variant;
use super::world::{ALL, MESH, PATIENT, Waits, World};

/// Requests a second that a pod answers, of the 150 that a second is ([`super::world`]): chance gives a pod up to twice its part.
const CAPACITY: u32 = 40;
/// How busy the autoscaler wants pods to be, in percent.
const BUSY: i32 = 50;
/// Pods that it gives primary for that: 150 / (40 x 50 %), and a tenth less is near enough.
const PODS: i32 = 7;
/// Requests in ten seconds.
const A_WHILE: u64 = 1_500;
/// How long a deleted pod still serves: longer than the mesh is late.
const GRACE: Duration = Duration::from_secs(2);
/// What a pod says that has no capacity left.
const OVERLOAD: &str = "simulated overload";
/// What the mesh says of a Service without a pod.
const NOBODY: &str = "no healthy upstream";

/// The example with pods that have a capacity, with merge patches of the Deployment, of the autoscaler, and of the Canary.
fn loaded(deployment: &Value, autoscaler: &Value, canary: &Value) -> Vec<FileEdit> {
    let metrics = json!([{"type": "Resource", "resource": {
        "name": "cpu", "target": {"type": "Utilization", "averageUtilization": BUSY},
    }}]);
    let follows_load = json!({"spec": {"minReplicas": 1, "maxReplicas": 12, "metrics": metrics}});
    let mut files = variant(&[&patient(), canary]);
    edit(&mut files, "deployment.yaml", |object| {
        json_patch::merge(object, deployment);
        let capacity = json!([{"name": "SANDBOX_CAPACITY", "value": CAPACITY.to_string()}]);
        object["spec"]["template"]["spec"]["containers"][0]["env"] = capacity;
    });
    edit(&mut files, "hpa.yaml", |object| {
        json_patch::merge(object, &follows_load);
        json_patch::merge(object, autoscaler);
    });
    files
}

/// On a busy machine pods start late and answers take long, which is not what this is about.
fn patient() -> Value {
    json!({"progressDeadlineSeconds": 3600, "analysis": {"metrics": null}})
}

fn edit(files: &mut [FileEdit], path: &str, change: impl Fn(&mut Value)) {
    let file = files.iter_mut().find(|file| file.path == path).expect("a manifest");
    let mut object = serde_yaml::from_str(&file.content).unwrap();
    change(&mut object);
    file.content = serde_yaml::to_string(&object).unwrap();
}

fn replaced(strategy: &Value) -> Value {
    json!({"spec": {"strategy": strategy}})
}

/// All pods go before the first new one comes.
fn recreate() -> Value {
    replaced(&json!({"type": "Recreate", "rollingUpdate": null}))
}

/// The same in other words.
fn all_at_once() -> Value {
    replaced(&json!({"rollingUpdate": {"maxUnavailable": "100%", "maxSurge": 0}}))
}

/// One pod on either side, which is enough for all, and none while it is replaced.
fn one_replica() -> Vec<FileEdit> {
    let strategy = json!({"rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}});
    let one = json!({"spec": {"replicas": 1, "strategy": strategy}});
    let mut files = variant(&[&patient(), &json!({"autoscalerRef": null})]);
    files.retain(|file| file.path != "hpa.yaml");
    edit(&mut files, "deployment.yaml", |deployment| json_patch::merge(deployment, &one));
    files
}

/// An autoscaler that takes pods away soon and gives them back late.
fn sluggish() -> Value {
    json!({"spec": {"behavior": {
        "scaleDown": {"stabilizationWindowSeconds": 3},
        "scaleUp": {"stabilizationWindowSeconds": 20},
    }}})
}

async fn start(guards: Guards, manifests: Vec<FileEdit>) -> World {
    let has_capacity = manifests.iter().any(|file| file.path == "hpa.yaml");
    let world = World::start_with(MESH, GRACE, Waits { guards, ..PATIENT }, manifests).await;
    world.warmed_up(if has_capacity { PODS } else { 1 }).await;
    world
}

/// No checks and no steps.
fn skipped() -> Value {
    json!({"skipAnalysis": true})
}

async fn promotes(manifests: Vec<FileEdit>) {
    let world = start(ALL, manifests).await;
    world.push("3.1.1");
    world.phase(CanaryPhase::Succeeded).await;
    world.assert_no_failures("promotion").await;
    world.shutdown().await;
}

async fn refuses(guards: Guards, manifests: Vec<FileEdit>, expected: &[&str]) {
    let world = start(guards, manifests).await;
    world.push("3.1.1");
    world.assert_refuses(expected).await;
    world.shutdown().await;
}

#[ignore = "eight minutes of real time, and not yet certain: `cargo test --test it zero_failures::load -- --ignored`"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recreate_fails_no_request() {
    promotes(loaded(&recreate(), &sluggish(), &json!({}))).await;
}

#[ignore = "eight minutes of real time, and not yet certain: `cargo test --test it zero_failures::load -- --ignored`"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recreate_under_its_users_fails_requests() {
    let manifests = loaded(&recreate(), &sluggish(), &json!({}));
    refuses(Guards { relief: false, ..ALL }, manifests, &[NOBODY]).await;
}

#[ignore = "eight minutes of real time, and not yet certain: `cargo test --test it zero_failures::load -- --ignored`"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recreate_under_users_of_the_apex_service_fails_theirs() {
    let manifests = loaded(&recreate(), &sluggish(), &json!({}));
    refuses(Guards { apex: false, ..ALL }, manifests, &[NOBODY]).await;
}

#[ignore = "eight minutes of real time, and not yet certain: `cargo test --test it zero_failures::load -- --ignored`"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recreate_without_pods_for_all_on_the_canary_fails_requests() {
    let manifests = loaded(&recreate(), &sluggish(), &json!({}));
    refuses(Guards { capacity: false, ..ALL }, manifests, &[OVERLOAD]).await;
}

#[ignore = "eight minutes of real time, and not yet certain: `cargo test --test it zero_failures::load -- --ignored`"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_replica_fails_no_request() {
    promotes(one_replica()).await;
}

#[ignore = "eight minutes of real time, and not yet certain: `cargo test --test it zero_failures::load -- --ignored`"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_replica_under_its_users_fails_requests() {
    refuses(Guards { relief: false, ..ALL }, one_replica(), &[NOBODY]).await;
}

#[ignore = "eight minutes of real time, and not yet certain: `cargo test --test it zero_failures::load -- --ignored`"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_pods_at_once_fail_no_request() {
    promotes(loaded(&all_at_once(), &json!({}), &json!({}))).await;
}

#[ignore = "eight minutes of real time, and not yet certain: `cargo test --test it zero_failures::load -- --ignored`"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_pods_at_once_under_their_users_fail_requests() {
    let manifests = loaded(&all_at_once(), &json!({}), &json!({}));
    refuses(Guards { relief: false, ..ALL }, manifests, &[NOBODY]).await;
}

#[ignore = "eight minutes of real time, and not yet certain: `cargo test --test it zero_failures::load -- --ignored`"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn skipped_analysis_fails_no_request() {
    promotes(loaded(&recreate(), &json!({}), &skipped())).await;
}

#[ignore = "eight minutes of real time, and not yet certain: `cargo test --test it zero_failures::load -- --ignored`"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn skipped_analysis_under_its_users_fails_requests() {
    let manifests = loaded(&recreate(), &json!({}), &skipped());
    refuses(Guards { relief: false, ..ALL }, manifests, &[NOBODY]).await;
}

/// Half of the users are on the canary for so long that primary's autoscaler takes half of its pods away, if it may.
async fn rolled_back_from_half(guards: Guards) -> World {
    let half = json!({"analysis": {"stepWeight": null, "stepWeights": [50], "interval": "30m"}});
    let world = start(guards, loaded(&json!({}), &sluggish(), &half)).await;
    world.push("3.1.1");
    world.weight(50).await;
    world.goes_on(A_WHILE).await;
    if !guards.floor {
        world.eventually("fewer pods of primary", async || world.pods_of_primary().await <= PODS / 2 + 1).await;
    }
    world.abort().await;
    world.phase(CanaryPhase::Failed).await;
    world
}

#[ignore = "eight minutes of real time, and not yet certain: `cargo test --test it zero_failures::load -- --ignored`"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rollback_from_half_fails_no_request() {
    let world = rolled_back_from_half(ALL).await;
    world.assert_no_failures("rollback").await;
    world.shutdown().await;
}

#[ignore = "eight minutes of real time, and not yet certain: `cargo test --test it zero_failures::load -- --ignored`"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rollback_from_half_to_pods_that_are_gone_fails_requests() {
    let world = rolled_back_from_half(Guards { floor: false, ..ALL }).await;
    world.assert_refuses(&[OVERLOAD]).await;
    world.shutdown().await;
}
