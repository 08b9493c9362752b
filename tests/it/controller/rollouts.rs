//! Rollouts of Argo Rollouts, led by the same engine: seed 004's story without Git.

mod crash;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::await_condition;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use serin::api::Canary;
use serin::cluster::{Claim, Clock, Cluster, EffectProbe, NoProbe, SharedWatch, Writer};
use serin::controller::{self, Canaries, ControllerContext, ControllerSettings, Telemetry};
use serin::release::Guards;
use serin::rollout::keys::HASH;
use serin::sandbox::apiserver::ApiServer;
use serin::sandbox::controllers::{self, ControllerOptions};
use serin::sandbox::crds;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::world::{CAP, Outside};

const START: &str = "2026-01-01T00:00:00Z";
const NAME: &str = "istio-rollout";
/// Longer than anything that is only on its way.
const A_WHILE: Duration = Duration::from_secs(300);

struct World {
    server: ApiServer,
    cluster: Cluster,
    clock: Clock,
    _controllers: DropGuard,
}

impl World {
    /// A cluster with the definitions and nothing of the seed.
    async fn empty() -> Self {
        let server = ApiServer::new();
        let cluster = Cluster::from_client(server.client());
        let shutdown = CancellationToken::new();
        tokio::spawn(controllers::run(server.client(), ControllerOptions::default(), shutdown.clone()));
        let clock = Clock::following(START.parse::<Timestamp>().unwrap());
        let world = Self { server, cluster, clock, _controllers: shutdown.drop_guard() };
        let routes = crds::istio().unwrap().into_iter().chain(crds::argo_rollouts().unwrap());
        for definition in serin::api::crds().into_iter().chain(routes) {
            Api::all(world.cluster.client()).create(&PostParams::default(), &definition).await.unwrap();
        }
        world.create("", "v1", "Namespace", json!({"metadata": {"name": "test"}})).await;
        world
    }

    /// The seed's objects, Rollout first.
    async fn new(steps: Value, replicas: i32) -> Self {
        let world = Self::empty().await;
        world.create("argoproj.io", "v1alpha1", "Rollout", rollout(steps, replicas)).await;
        world.surroundings().await;
        world
    }

    async fn surroundings(&self) {
        for side in ["canary", "stable"] {
            self.create("", "v1", "Service", service(side)).await;
        }
        self.create("networking.istio.io", "v1alpha3", "VirtualService", virtual_service()).await;
    }

    async fn api(&self, group: &str, version: &str, kind: &str) -> Api<DynamicObject> {
        let resolved = self.cluster.resolve(group, version, kind).await.unwrap();
        self.cluster.objects(&resolved, Some("test"))
    }

    async fn rollouts(&self) -> Api<DynamicObject> {
        self.api("argoproj.io", "v1alpha1", "Rollout").await
    }

    async fn create(&self, group: &str, version: &str, kind: &str, mut object: Value) {
        let api = self.api(group, version, kind).await;
        object["apiVersion"] = if group.is_empty() { json!(version) } else { json!(format!("{group}/{version}")) };
        object["kind"] = json!(kind);
        api.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
    }

    async fn get(&self, group: &str, version: &str, kind: &str, name: &str) -> Value {
        serde_json::to_value(self.api(group, version, kind).await.get(name).await.unwrap()).unwrap()
    }

    async fn status(&self) -> Value {
        self.get("argoproj.io", "v1alpha1", "Rollout", NAME).await["status"].take()
    }

    async fn route(&self) -> Value {
        self.get("networking.istio.io", "v1", "VirtualService", NAME).await
    }

    /// Weights of the stable and the canary Service.
    async fn weights(&self) -> (i64, i64) {
        let route = self.route().await;
        let weight = |index: usize| route["spec"]["http"][0]["route"][index]["weight"].as_i64().unwrap_or(0);
        (weight(0), weight(1))
    }

    /// Hash and size of every ReplicaSet, oldest revision first.
    async fn sets(&self) -> Vec<(String, i64)> {
        let sets = self.api("apps", "v1", "ReplicaSet").await.list(&ListParams::default()).await.unwrap().items;
        let mut sets: Vec<Value> = sets.into_iter().map(|set| serde_json::to_value(set).unwrap()).collect();
        sets.sort_by_key(|set| {
            let revision = set["metadata"]["annotations"]["rollout.argoproj.io/revision"].as_str();
            revision.unwrap_or("0").parse::<u64>().unwrap()
        });
        let hash = |set: &Value| set["metadata"]["labels"][HASH].as_str().unwrap().to_owned();
        sets.iter().map(|set| (hash(set), set["spec"]["replicas"].as_i64().unwrap())).collect()
    }

    /// Where a Service leads.
    async fn led(&self, side: &str) -> Value {
        self.get("", "v1", "Service", &format!("{NAME}-{side}")).await["spec"]["selector"][HASH].take()
    }

    async fn set_image(&self, tag: &str) {
        let image = format!("argoproj/rollouts-demo:{tag}");
        let patch = json!([{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": image}]);
        let patch = Patch::Json::<()>(serde_json::from_value(patch).unwrap());
        self.rollouts().await.patch(NAME, &PatchParams::default(), &patch).await.unwrap();
    }

    async fn patch(&self, patch: Value) {
        self.rollouts().await.patch(NAME, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    /// As Argo's plugin and Argo CD give commands.
    async fn patch_status(&self, patch: Value) {
        let patch = Patch::Merge(json!({"status": patch}));
        self.rollouts().await.patch_status(NAME, &PatchParams::default(), &patch).await.unwrap();
    }

    /// Waits until the status fits.
    async fn until(&self, what: &str, fits: impl Fn(&Value) -> bool) {
        let api = self.rollouts().await;
        let shows = |object: Option<&DynamicObject>| object.is_some_and(|object| fits(&object.data["status"]));
        let reached = tokio::time::timeout(CAP, await_condition(api, NAME, shows)).await;
        if reached.is_err() {
            let state = self.get("argoproj.io", "v1alpha1", "Rollout", NAME).await;
            panic!("never {what}: {:#}\n{:?}", state, self.sets().await);
        }
    }

    async fn reaches(&self, phase: &'static str, message: &'static str) {
        let fits = |status: &Value| {
            status["phase"] == phase && status["message"].as_str().unwrap_or_default().starts_with(message)
        };
        self.until(&format!("{phase}: {message}"), fits).await;
    }

    async fn at_step(&self, step: usize) {
        self.until(&format!("at step {step}"), |status| status["currentStepIndex"] == step).await;
    }

    fn serin(&self) -> DropGuard {
        engine(&self.cluster, self.clock.clone(), Arc::new(NoProbe), true)
    }
}

fn engine(cluster: &Cluster, clock: Clock, probe: Arc<dyn EffectProbe>, rollouts: bool) -> DropGuard {
    let (shutdown, outside) = (CancellationToken::new(), Arc::<Outside>::default());
    let mut watch = SharedWatch::of::<Canary>(cluster, None);
    let context = ControllerContext {
        cluster: cluster.clone(),
        canaries: Canaries::of(&mut watch),
        writer: Writer::new(Claim::always()).with_probe(probe),
        settings: ControllerSettings {
            namespace: None,
            metrics_address: "http://prometheus".into(),
            own_namespace: String::new(),
            speed: 1.0,
            guards: Guards::default(),
            drain: Duration::from_secs(5),
            settle: Duration::from_secs(2),
            selector_labels: vec!["app".into()],
            loopback: true,
            rollouts,
            projections: Vec::new(),
        },
        metrics: outside.clone(),
        hooks: outside,
        clock,
        telemetry: Telemetry::default(),
    };
    tokio::spawn(controller::run(context, shutdown.clone()));
    watch.start(shutdown.clone());
    shutdown.drop_guard()
}

/// The seed's Rollout.
fn rollout(steps: Value, replicas: i32) -> Value {
    json!({
        "metadata": {"name": NAME, "namespace": "test"},
        "spec": {
            "replicas": replicas,
            "revisionHistoryLimit": 2,
            "selector": {"matchLabels": {"app": NAME}},
            "template": {
                "metadata": {"labels": {"app": NAME}},
                "spec": {"containers": [{
                    "name": NAME, "image": "argoproj/rollouts-demo:blue",
                    "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
                }]},
            },
            "strategy": {"canary": {
                "canaryService": format!("{NAME}-canary"), "stableService": format!("{NAME}-stable"),
                "trafficRouting": {"istio": {"virtualService": {"name": NAME, "routes": ["primary"]}}},
                "steps": steps,
            }},
        },
    })
}

fn service(side: &str) -> Value {
    json!({
        "metadata": {"name": format!("{NAME}-{side}"), "namespace": "test"},
        "spec": {
            "ports": [{"port": 80, "targetPort": "http", "protocol": "TCP", "name": "http"}],
            "selector": {"app": NAME},
        },
    })
}

fn virtual_service() -> Value {
    json!({
        "metadata": {"name": NAME, "namespace": "test"},
        "spec": {
            "gateways": ["istio-rollout-gateway"], "hosts": ["*"],
            "http": [{"name": "primary", "route": [
                {"destination": {"host": format!("{NAME}-stable")}, "weight": 100},
                {"destination": {"host": format!("{NAME}-canary")}},
            ]}],
        },
    })
}

/// The seed's steps, fewer of them.
fn steps() -> Value {
    json!([
        {"setWeight": 10}, {"pause": {}},
        {"setWeight": 50}, {"pause": {"duration": "20s"}},
        {"setWeight": 90}, {"pause": {"duration": 20}},
    ])
}

#[tokio::test(start_paused = true)]
async fn a_rollout_before_its_services_and_route_mends_itself_and_leaves_the_route_as_it_was() {
    let world = World::empty().await;
    let _serin = world.serin();
    world.create("argoproj.io", "v1alpha1", "Rollout", rollout(steps(), 2)).await;
    world.reaches("Degraded", "InvalidSpec: The Rollout \"istio-rollout\" is invalid: spec.strategy.canary").await;
    assert_eq!(world.sets().await, []);
    world.surroundings().await;
    let before = world.route().await;
    world.reaches("Healthy", "").await;
    let status = world.status().await;
    assert_eq!(status["currentStepIndex"], 6);
    assert_eq!(status["canary"]["weights"]["stable"]["weight"], 100);
    assert_eq!(status["observedGeneration"], "1");
    assert_eq!(status["selector"], "app=istio-rollout");
    tokio::time::sleep(A_WHILE).await;
    let hash = status["stableRS"].clone();
    assert_eq!((world.led("stable").await, world.led("canary").await), (hash.clone(), hash));
    assert_eq!(world.route().await["metadata"]["resourceVersion"], before["metadata"]["resourceVersion"]);
}

#[tokio::test(start_paused = true)]
async fn the_seeds_update_pauses_is_promoted_and_walks_its_steps() {
    let world = World::new(steps(), 4).await;
    let _serin = world.serin();
    world.reaches("Healthy", "").await;
    let old = world.status().await["stableRS"].clone();
    world.set_image("yellow").await;
    world.reaches("Paused", "CanaryPauseStep").await;
    let status = world.status().await;
    assert_eq!((status["currentStepIndex"].clone(), status["controllerPause"].clone()), (json!(1), json!(true)));
    assert_eq!(status["pauseConditions"][0]["reason"], "CanaryPauseStep");
    assert_eq!(world.weights().await, (90, 10));
    let new = status["currentPodHash"].clone();
    assert_eq!(world.sets().await, [(text(&old), 4), (text(&new), 1)]);
    assert_eq!((world.led("stable").await, world.led("canary").await), (old.clone(), new.clone()));
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(world.weights().await, (90, 10));

    world.patch_status(json!({"pauseConditions": null})).await;
    world.at_step(3).await;
    assert_eq!(world.weights().await, (50, 50));
    world.at_step(5).await;
    assert_eq!(world.weights().await, (10, 90));
    world.reaches("Healthy", "").await;
    let status = world.status().await;
    assert_eq!((status["stableRS"].clone(), status["currentStepIndex"].clone()), (new.clone(), json!(6)));
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(world.weights().await, (100, 0));
    assert_eq!((world.led("stable").await, world.led("canary").await), (new.clone(), new.clone()));
    assert_eq!(world.sets().await, [(text(&old), 0), (text(&new), 4)]);
}

#[tokio::test(start_paused = true)]
async fn who_aborts_and_retries_with_argos_plugin_is_understood() {
    let world = World::new(steps(), 2).await;
    let _serin = world.serin();
    world.reaches("Healthy", "").await;
    world.set_image("yellow").await;
    world.reaches("Paused", "CanaryPauseStep").await;
    world.patch_status(json!({"abort": true})).await;
    world.reaches("Degraded", "RolloutAborted: Rollout aborted update to revision 2").await;
    world.until("at rest", |status| status["canary"]["weights"]["canary"]["weight"] == 0).await;
    assert_eq!(world.weights().await, (100, 0));
    tokio::time::sleep(A_WHILE).await;
    let status = world.status().await;
    assert_eq!((status["phase"].clone(), status["abort"].clone()), (json!("Degraded"), json!(true)));
    assert_eq!(world.led("canary").await, status["stableRS"]);
    assert_eq!(world.sets().await.iter().map(|(_, size)| *size).collect::<Vec<_>>(), [2, 0]);

    world.patch_status(json!({"abort": false})).await;
    world.reaches("Paused", "CanaryPauseStep").await;
    assert_eq!(world.status().await["abort"], Value::Null);
    world.patch_status(json!({"promoteFull": true})).await;
    world.reaches("Healthy", "").await;
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(world.weights().await, (100, 0));
    assert_eq!(world.sets().await.iter().map(|(_, size)| *size).collect::<Vec<_>>(), [0, 2]);
    assert_eq!(world.status().await["promoteFull"], Value::Null);
}

#[tokio::test(start_paused = true)]
async fn going_back_to_what_serves_skips_all_steps_and_a_newer_revision_replaces_one() {
    let world = World::new(steps(), 2).await;
    let _serin = world.serin();
    world.reaches("Healthy", "").await;
    let stable = world.status().await["stableRS"].clone();
    world.set_image("yellow").await;
    world.reaches("Paused", "CanaryPauseStep").await;
    let yellow = world.status().await["currentPodHash"].clone();
    world.set_image("green").await;
    let on_green = |status: &Value| status["phase"] == "Paused" && status["currentPodHash"] != yellow;
    world.until("paused at green", on_green).await;
    assert_eq!(world.led("canary").await, world.status().await["currentPodHash"]);
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(world.sets().await.iter().map(|(_, size)| *size).collect::<Vec<_>>(), [2, 0, 1]);
    world.set_image("blue").await;
    world.reaches("Healthy", "").await;
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(world.status().await["stableRS"], stable);
    assert_eq!(world.weights().await, (100, 0));
    assert_eq!(world.sets().await.iter().map(|(_, size)| *size).collect::<Vec<_>>(), [2, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn sets_that_argo_made_are_taken_as_they_are_whatever_their_hash() {
    let world = World::empty().await;
    world.create("argoproj.io", "v1alpha1", "Rollout", rollout(steps(), 2)).await;
    let live = world.get("argoproj.io", "v1alpha1", "Rollout", NAME).await;
    let labels = json!({"app": NAME, HASH: "7d5cb8f6b9"});
    let mut template = live["spec"]["template"].clone();
    template["metadata"]["labels"] = labels.clone();
    let set = json!({
        "metadata": {
            "name": format!("{NAME}-7d5cb8f6b9"), "namespace": "test", "labels": labels,
            "annotations": {"rollout.argoproj.io/revision": "3"},
            "ownerReferences": [{"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "name": NAME,
                "uid": live["metadata"]["uid"], "controller": true, "blockOwnerDeletion": true}],
        },
        "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": template},
    });
    world.create("apps", "v1", "ReplicaSet", set).await;
    world.patch_status(json!({"stableRS": "7d5cb8f6b9", "currentPodHash": "7d5cb8f6b9"})).await;
    world.surroundings().await;
    let _serin = world.serin();
    world.reaches("Healthy", "").await;
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(world.sets().await, [("7d5cb8f6b9".to_owned(), 2)]);
    assert_eq!(world.led("stable").await, "7d5cb8f6b9");

    world.patch(json!({"spec": {"replicas": 3}})).await;
    world.until("three", |status| status["availableReplicas"] == 3).await;
    assert_eq!(world.sets().await, [("7d5cb8f6b9".to_owned(), 3)]);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_carried_out_is_named_and_nothing_is_done() {
    let world = World::new(json!([{"setWeight": 20}, {"analysis": {"templates": []}}]), 1).await;
    let _serin = world.serin();
    let message = "InvalidSpec: The Rollout \"istio-rollout\" is invalid: spec.strategy.canary.steps[1].analysis";
    world.reaches("Degraded", message).await;
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(world.sets().await, []);
    assert_eq!(world.led("stable").await, Value::Null);
}

#[tokio::test(start_paused = true)]
async fn while_argos_own_controller_is_alive_nothing_is_done() {
    let world = World::new(steps(), 1).await;
    let lease = |renewed: &Clock| {
        json!({
            "metadata": {"name": "argo-rollouts-controller-lock", "namespace": "test"},
            "spec": {"holderIdentity": "argo-rollouts-0", "leaseDurationSeconds": 15,
                "renewTime": format!("{:.6}", renewed.now())},
        })
    };
    world.create("coordination.k8s.io", "v1", "Lease", lease(&world.clock)).await;
    let _serin = world.serin();
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!((world.sets().await, world.status().await), (Vec::new(), Value::Null));
    // It is not renewed any more.
    world.reaches("Healthy", "").await;
}

#[tokio::test(start_paused = true)]
async fn rollouts_are_off_unless_they_are_switched_on() {
    let world = World::new(steps(), 1).await;
    let _serin = engine(&world.cluster, world.clock.clone(), Arc::new(NoProbe), false);
    tokio::time::sleep(A_WHILE).await;
    assert_eq!((world.sets().await, world.status().await), (Vec::new(), Value::Null));
}

#[tokio::test(start_paused = true)]
async fn a_rollout_that_is_gone_leaves_its_services_as_they_were() {
    let world = World::new(steps(), 1).await;
    let _serin = world.serin();
    world.reaches("Healthy", "").await;
    world.rollouts().await.delete(NAME, &DeleteParams::background()).await.unwrap();
    tokio::time::sleep(A_WHILE).await;
    assert_eq!((world.led("stable").await, world.led("canary").await), (Value::Null, Value::Null));
    assert_eq!(world.sets().await, []);
    drop(world.server);
}

#[tokio::test(start_paused = true)]
async fn what_is_made_invalid_in_mid_release_is_said_and_the_release_can_still_be_aborted() {
    let world = World::new(steps(), 2).await;
    let _serin = world.serin();
    world.reaches("Healthy", "").await;
    world.set_image("yellow").await;
    world.reaches("Paused", "CanaryPauseStep").await;
    world.patch(json!({"spec": {"strategy": {"canary": {"dynamicStableScale": true}}}})).await;
    let message = "InvalidSpec: The Rollout \"istio-rollout\" is invalid: spec.strategy.canary.dynamicStableScale";
    world.reaches("Degraded", message).await;
    assert_eq!(world.weights().await, (90, 10));
    world.patch_status(json!({"abort": true})).await;
    world.until("aborted", |status| status["abortedAt"].is_string()).await;
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(world.weights().await, (100, 0));
    world.patch(json!({"spec": {"strategy": {"canary": {"dynamicStableScale": null}}}})).await;
    world.reaches("Degraded", "RolloutAborted").await;
}

#[tokio::test(start_paused = true)]
async fn both_sides_are_sized_with_the_rollout_also_while_it_is_paused() {
    let world = World::new(json!([{"setWeight": 50}, {"pause": {}}]), 2).await;
    let _serin = world.serin();
    world.reaches("Healthy", "").await;
    world.set_image("yellow").await;
    world.reaches("Paused", "CanaryPauseStep").await;
    let sizes = async || world.sets().await.iter().map(|(_, size)| *size).collect::<Vec<_>>();
    assert_eq!(sizes().await, [2, 1]);
    world.patch(json!({"spec": {"replicas": 6, "paused": true}})).await;
    world.until("nine pods", |status| status["availableReplicas"] == 9).await;
    assert_eq!(sizes().await, [6, 3]);
    world.reaches("Paused", "manually paused").await;
}

#[tokio::test(start_paused = true)]
async fn what_argos_controller_was_doing_goes_on_without_a_pod_that_starts_anew() {
    let world = World::new(steps(), 4).await;
    let serin = world.serin();
    world.reaches("Healthy", "").await;
    world.set_image("yellow").await;
    world.reaches("Paused", "CanaryPauseStep").await;
    // Argo's own status, and nothing of ours.
    drop(serin);
    let forget = json!({"metadata": {"annotations": {"serin.dev/state": null}}});
    world.patch(forget.clone()).await;
    let pods = async || {
        let pods = world.api("", "v1", "Pod").await.list(&ListParams::default()).await.unwrap().items;
        let mut names: Vec<String> = pods.into_iter().filter_map(|pod| pod.metadata.name).collect();
        names.sort();
        names
    };
    let before = pods().await;
    let serin = world.serin();
    tokio::time::sleep(A_WHILE).await;
    assert_eq!((world.weights().await, pods().await), ((90, 10), before));
    world.reaches("Paused", "CanaryPauseStep").await;
    world.patch_status(json!({"pauseConditions": null})).await;
    world.reaches("Healthy", "").await;

    world.set_image("green").await;
    world.reaches("Paused", "CanaryPauseStep").await;
    world.patch_status(json!({"abort": true})).await;
    world.until("put away", |status| status["replicas"] == 4 && status["abort"] == true).await;
    drop(serin);
    world.patch(forget).await;
    let _serin = world.serin();
    tokio::time::sleep(A_WHILE).await;
    world.reaches("Degraded", "RolloutAborted: Rollout aborted update to revision 3").await;
    assert_eq!(world.weights().await, (100, 0));
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}
