//! The cluster of these tests, the seed's objects, and an engine.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::await_condition;
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

use crate::controller::world::{CAP, Outside};

const START: &str = "2026-01-01T00:00:00Z";
pub(super) const NAME: &str = "istio-rollout";

pub(super) struct World {
    pub(super) server: ApiServer,
    pub(super) cluster: Cluster,
    pub(super) clock: Clock,
    _controllers: DropGuard,
}

impl World {
    /// A cluster with the definitions and nothing of the seed.
    pub(super) async fn empty() -> Self {
        let server = ApiServer::new();
        let cluster = Cluster::from_client(server.client());
        let shutdown = CancellationToken::new();
        tokio::spawn(controllers::run(server.client(), ControllerOptions::default(), shutdown.clone()));
        let clock = Clock::following(START.parse::<Timestamp>().unwrap());
        let world = Self { server, cluster, clock, _controllers: shutdown.drop_guard() };
        let routes = crds::istio()
            .unwrap()
            .into_iter()
            .chain(crds::argo_rollouts().unwrap())
            .chain(serin::api::argo_crds());
        for definition in serin::api::crds().into_iter().chain(routes) {
            Api::all(world.cluster.client()).create(&PostParams::default(), &definition).await.unwrap();
        }
        world.create("", "v1", "Namespace", json!({"metadata": {"name": "test"}})).await;
        world
    }

    /// The seed's objects, Rollout first.
    pub(super) async fn new(steps: Value, replicas: i32) -> Self {
        let world = Self::empty().await;
        world.create("argoproj.io", "v1alpha1", "Rollout", rollout(steps, replicas)).await;
        world.surroundings().await;
        world
    }

    pub(super) async fn surroundings(&self) {
        for side in ["canary", "stable"] {
            self.create("", "v1", "Service", service(side)).await;
        }
        self.create("networking.istio.io", "v1alpha3", "VirtualService", virtual_service()).await;
    }

    pub(super) async fn api(&self, group: &str, version: &str, kind: &str) -> Api<DynamicObject> {
        let resolved = self.cluster.resolve(group, version, kind).await.unwrap();
        self.cluster.objects(&resolved, Some("test"))
    }

    pub(super) async fn rollouts(&self) -> Api<DynamicObject> {
        self.api("argoproj.io", "v1alpha1", "Rollout").await
    }

    pub(super) async fn create(&self, group: &str, version: &str, kind: &str, mut object: Value) {
        let api = self.api(group, version, kind).await;
        object["apiVersion"] = if group.is_empty() { json!(version) } else { json!(format!("{group}/{version}")) };
        object["kind"] = json!(kind);
        api.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
    }

    pub(super) async fn get(&self, group: &str, version: &str, kind: &str, name: &str) -> Value {
        serde_json::to_value(self.api(group, version, kind).await.get(name).await.unwrap()).unwrap()
    }

    pub(super) async fn status(&self) -> Value {
        self.get("argoproj.io", "v1alpha1", "Rollout", NAME).await["status"].take()
    }

    pub(super) async fn route(&self) -> Value {
        self.get("networking.istio.io", "v1", "VirtualService", NAME).await
    }

    /// Weights of the stable and the canary Service.
    pub(super) async fn weights(&self) -> (i64, i64) {
        let route = self.route().await;
        let weight = |index: usize| route["spec"]["http"][0]["route"][index]["weight"].as_i64().unwrap_or(0);
        (weight(0), weight(1))
    }

    /// Hash and size of every ReplicaSet, oldest revision first.
    pub(super) async fn sets(&self) -> Vec<(String, i64)> {
        let of_rollouts = ListParams::default().labels(HASH);
        let sets = self.api("apps", "v1", "ReplicaSet").await.list(&of_rollouts).await.unwrap().items;
        let mut sets: Vec<Value> = sets.into_iter().map(|set| serde_json::to_value(set).unwrap()).collect();
        sets.sort_by_key(|set| {
            let revision = set["metadata"]["annotations"]["rollout.argoproj.io/revision"].as_str();
            revision.unwrap_or("0").parse::<u64>().unwrap()
        });
        let hash = |set: &Value| set["metadata"]["labels"][HASH].as_str().unwrap().to_owned();
        sets.iter().map(|set| (hash(set), set["spec"]["replicas"].as_i64().unwrap())).collect()
    }

    /// Where a Service leads.
    pub(super) async fn led(&self, side: &str) -> Value {
        self.get("", "v1", "Service", &format!("{NAME}-{side}")).await["spec"]["selector"][HASH].take()
    }

    pub(super) async fn set_image(&self, tag: &str) {
        let image = format!("argoproj/rollouts-demo:{tag}");
        let patch = json!([{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": image}]);
        let patch = Patch::Json::<()>(serde_json::from_value(patch).unwrap());
        self.rollouts().await.patch(NAME, &PatchParams::default(), &patch).await.unwrap();
    }

    pub(super) async fn patch(&self, patch: Value) {
        self.rollouts().await.patch(NAME, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    /// As Argo's plugin and Argo CD give commands.
    pub(super) async fn patch_status(&self, patch: Value) {
        let patch = Patch::Merge(json!({"status": patch}));
        self.rollouts().await.patch_status(NAME, &PatchParams::default(), &patch).await.unwrap();
    }

    /// Waits until the status fits.
    pub(super) async fn until(&self, what: &str, fits: impl Fn(&Value) -> bool) {
        let api = self.rollouts().await;
        let shows = |object: Option<&DynamicObject>| object.is_some_and(|object| fits(&object.data["status"]));
        let reached = tokio::time::timeout(CAP, await_condition(api, NAME, shows)).await;
        if reached.is_err() {
            let state = self.get("argoproj.io", "v1alpha1", "Rollout", NAME).await;
            panic!("never {what}: {:#}\n{:?}", state, self.sets().await);
        }
    }

    pub(super) async fn reaches(&self, phase: &'static str, message: &'static str) {
        let fits = |status: &Value| {
            status["phase"] == phase && status["message"].as_str().unwrap_or_default().starts_with(message)
        };
        self.until(&format!("{phase}: {message}"), fits).await;
    }

    pub(super) async fn at_step(&self, step: usize) {
        self.until(&format!("at step {step}"), |status| status["currentStepIndex"] == step).await;
    }

    pub(super) fn serin(&self) -> DropGuard {
        engine(&self.cluster, self.clock.clone(), Arc::new(NoProbe), true)
    }
}

pub(super) fn engine(cluster: &Cluster, clock: Clock, probe: Arc<dyn EffectProbe>, rollouts: bool) -> DropGuard {
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
            windows: Vec::new(),
            wait_for: Vec::new(),
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
pub(super) fn rollout(steps: Value, replicas: i32) -> Value {
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

pub(super) fn service(side: &str) -> Value {
    json!({
        "metadata": {"name": format!("{NAME}-{side}"), "namespace": "test"},
        "spec": {
            "ports": [{"port": 80, "targetPort": "http", "protocol": "TCP", "name": "http"}],
            "selector": {"app": NAME},
        },
    })
}

pub(super) fn virtual_service() -> Value {
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
pub(super) fn steps() -> Value {
    json!([
        {"setWeight": 10}, {"pause": {}},
        {"setWeight": 50}, {"pause": {"duration": "20s"}},
        {"setWeight": 90}, {"pause": {"duration": 20}},
    ])
}
