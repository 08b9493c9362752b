//! Load that one side alone cannot carry, from users of the route and from users of the apex Service, who know nothing of it.
//!
//! A pod answers [`CAPACITY`] requests a second and refuses the rest. Primary's autoscaler follows the load; the target's minimum
//! is one pod. A second is so many requests, so a busy machine changes nothing.
//!
//! Each test first turns off the rule that it is about, one after the other if they are several, and sees users refused; then the
//! same cluster releases with all rules on, and nobody is.

use std::time::Duration;

use serde_json::{Value, json};
use serin::api::CanaryPhase;
use serin::release::Guards;
use serin::sandbox::repository::FileEdit;

use super::manifests::variant;
use super::world::{ALL, MESH, PATIENT, Waits, World};

/// Requests a second that a pod answers, of the 150 that a second is ([`super::world`]). A fourth of all is 37, and chance makes no
/// 65 of it; half of them is 75, and chance makes no 64 of that for long.
const CAPACITY: u32 = 64;
/// How busy the autoscaler wants pods to be, in percent.
const BUSY: i32 = 65;
/// Pods that it gives primary for that: 150 / (64 x 65 %) is 3.6, and 4 are busy near enough to what is wanted; for half of it, 2.
const PODS: i32 = 4;
/// How long a deleted pod still serves: longer than the mesh is late.
const GRACE: Duration = Duration::from_secs(2);
/// What a pod says that has no capacity left.
const OVERLOAD: &str = "simulated overload";
/// What the mesh says of a Service without a pod.
const NOBODY: &str = "no healthy upstream";
/// What users are told while pods go and come: there are too few of them, or none.
const GONE: &[&str] = &[NOBODY, OVERLOAD];

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

/// A world whose primary has the pods that all take.
async fn start(guards: Guards, manifests: Vec<FileEdit>, pods: i32) -> World {
    let mut world = World::start_with(MESH, GRACE, Waits { guards, ..PATIENT }, manifests).await;
    world.warmed_up(pods).await;
    world
}

/// Without a rule somebody is refused, for one of these reasons; the release ends well under all rules.
async fn is_refused(world: &mut World, guards: Guards, tag: &str, pods: i32, expected: &[&str]) {
    world.guard(guards).await;
    world.push(tag);
    world.assert_refuses(expected).await;
    world.guard(ALL).await;
    world.promoted(tag).await;
    world.warmed_up(pods).await;
}

/// With all rules nobody is.
async fn promotes(world: &World, tag: &str) {
    world.push(tag);
    world.promoted(tag).await;
    world.assert_no_failures("promotion").await;
}

/// No checks and no steps.
fn skipped() -> Value {
    json!({"skipAnalysis": true})
}

/// One step.
fn half() -> Value {
    json!({"analysis": {"stepWeight": null, "stepWeights": [50]}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_analysis_users_are_led_away_from_a_primary_that_is_recreated() {
    let relief = Guards { relief: false, ..ALL };
    let mut world = start(relief, loaded(&recreate(), &sluggish(), &skipped()), PODS).await;
    is_refused(&mut world, relief, "3.1.1", PODS, GONE).await;
    promotes(&world, "3.1.2").await;
    world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_of_the_service_are_led_away_too_to_pods_that_are_enough_for_all() {
    let apex = Guards { apex: false, ..ALL };
    let mut world = start(apex, loaded(&recreate(), &sluggish(), &half()), PODS).await;
    is_refused(&mut world, apex, "3.1.1", PODS, GONE).await;
    is_refused(&mut world, Guards { capacity: false, ..ALL }, "3.1.2", PODS, &[OVERLOAD]).await;
    promotes(&world, "3.1.3").await;
    world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_are_led_away_from_the_one_pod_of_a_primary() {
    let relief = Guards { relief: false, ..ALL };
    let mut world = start(relief, one_replica(), 1).await;
    is_refused(&mut world, relief, "3.1.1", 1, &[NOBODY]).await;
    promotes(&world, "3.1.2").await;
    world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_are_led_away_from_pods_that_are_replaced_all_at_once() {
    let relief = Guards { relief: false, ..ALL };
    let mut world = start(relief, loaded(&all_at_once(), &sluggish(), &half()), PODS).await;
    is_refused(&mut world, relief, "3.1.1", PODS, GONE).await;
    promotes(&world, "3.1.2").await;
    world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollback_from_half_finds_the_pods_that_it_needs() {
    // Half of the requests are on the canary for so long that primary's autoscaler takes half of its pods away, if it may. That is
    // three quarters of what comes by the route, as a third of all comes by the Service alone and stays on primary.
    let long = json!({"analysis": {"stepWeight": null, "stepWeights": [75], "maxWeight": 75, "interval": "10h"}});
    let floor = Guards { floor: false, ..ALL };
    let mut world = start(floor, loaded(&json!({}), &sluggish(), &long), PODS).await;
    world.push("3.1.1");
    world.weight(75).await;
    let asked = world.asked();
    world.eventually("fewer pods of primary", async || world.pods_of_primary().await <= PODS / 2).await;
    let taken = world.asked() - asked;
    world.abort().await;
    world.assert_refuses(&[OVERLOAD]).await;
    world.guard(ALL).await;
    world.phase(CanaryPhase::Failed).await;
    world.warmed_up(PODS).await;

    world.push("3.1.2");
    world.weight(75).await;
    world.goes_on(2 * taken).await;
    assert_eq!(world.pods_of_primary().await, PODS, "as many as before");
    world.abort().await;
    world.phase(CanaryPhase::Failed).await;
    world.assert_no_failures("rollback").await;
    world.shutdown().await;
}
