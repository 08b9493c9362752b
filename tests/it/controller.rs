//! The controller against the embedded API server and its controllers, with metrics and hooks that answer from memory.
//! Time is paused: it advances by itself whenever everybody waits.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::await_condition;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use serin::analysis::Reading;
use serin::cluster::{Claim, Cluster, EffectKind, EffectProbe, NoProbe, ProbeFuture, Writer};
use serin::controller::{self, Clock, ControllerContext, ControllerSettings, Telemetry};
use serin::hook::{HookCall, HookCaller};
use serin::metrics::{Endpoint, MetricProvider};
use serin::release::HookReply;
use serin::report::events;
use serin::sandbox::apiserver::ApiServer;
use serin::sandbox::controllers::{self, ControllerOptions};
use serin::sandbox::crds;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Longest virtual time anything here may take.
const CAP: Duration = Duration::from_secs(3600);
const START: &str = "2026-01-01T00:00:00Z";

/// Answers every query with one value and every hook with yes; remembers the calls.
#[derive(Default)]
struct Outside {
    failing: AtomicBool,
    hooks: Mutex<Vec<(String, String, String)>>,
}

impl MetricProvider for Outside {
    fn query<'a>(&'a self, _endpoint: &'a Endpoint, query: &'a str) -> BoxFuture<'a, Reading> {
        let value = if query.contains("histogram_quantile") {
            120.0
        } else if query == "1" {
            1.0
        } else if self.failing.load(Ordering::Relaxed) {
            69.17
        } else {
            100.0
        };
        Box::pin(std::future::ready(Reading::Value { value }))
    }
}

impl HookCaller for Outside {
    fn call<'a>(&'a self, call: &'a HookCall) -> BoxFuture<'a, HookReply> {
        let name = call.payload.metadata.get("type").cloned().unwrap_or_default();
        self.hooks.lock().unwrap().push((name, call.payload.phase.clone(), call.key.check.clone()));
        Box::pin(std::future::ready(HookReply { accepted: true, body: String::new() }))
    }
}

/// A cluster with its controllers, without Serin.
struct World {
    server: ApiServer,
    cluster: Cluster,
    clock: Clock,
    outside: Arc<Outside>,
    _controllers: DropGuard,
}

impl World {
    async fn new() -> Self {
        tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).with_test_writer().try_init().ok();
        let server = ApiServer::new();
        let cluster = Cluster::from_client(server.client());
        let shutdown = CancellationToken::new();
        tokio::spawn(controllers::run(server.client(), ControllerOptions::default(), shutdown.clone()));
        let clock = Clock::following(START.parse::<Timestamp>().unwrap());
        let world = Self { server, cluster, clock, outside: Arc::default(), _controllers: shutdown.drop_guard() };
        for definition in serin::api::crds().into_iter().chain(crds::istio().unwrap()) {
            Api::all(world.cluster.client()).create(&PostParams::default(), &definition).await.unwrap();
        }
        world.create("", "v1", "Namespace", json!({"metadata": {"name": "test"}})).await;
        world.create("apps", "v1", "Deployment", deployment()).await;
        world.create("autoscaling", "v2", "HorizontalPodAutoscaler", autoscaler()).await;
        world.create("flagger.app", "v1beta1", "Canary", canary()).await;
        world
    }

    async fn api(&self, group: &str, version: &str, kind: &str) -> Api<DynamicObject> {
        let resolved = self.cluster.resolve(group, version, kind).await.unwrap();
        self.cluster.objects(&resolved, Some("test"))
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

    async fn deployment(&self, name: &str) -> Value {
        self.get("apps", "v1", "Deployment", name).await
    }

    async fn image_of(&self, name: &str) -> String {
        let deployment = self.deployment(name).await;
        deployment["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap().to_owned()
    }

    /// Weights of primary and canary.
    async fn weights(&self) -> (u64, u64) {
        let route = self.get("networking.istio.io", "v1beta1", "VirtualService", "podinfo").await;
        let weight = |index: usize| route["spec"]["http"][0]["route"][index]["weight"].as_u64().unwrap();
        (weight(0), weight(1))
    }

    async fn set_image(&self, tag: &str) {
        let image = format!("stefanprodan/podinfo:{tag}");
        let patch = json!([{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": image}]);
        let patch = Patch::Json::<()>(serde_json::from_value(patch).unwrap());
        let api = self.api("apps", "v1", "Deployment").await;
        api.patch("podinfo", &PatchParams::default(), &patch).await.unwrap();
    }

    /// Waits until the Canary is in a phase.
    async fn reaches(&self, phase: &'static str) {
        let api = self.api("flagger.app", "v1beta1", "Canary").await;
        let in_phase = move |object: Option<&DynamicObject>| {
            object.is_some_and(|object| object.data["status"]["phase"] == phase)
        };
        let reached = tokio::time::timeout(CAP, await_condition(api.clone(), "podinfo", in_phase)).await;
        if reached.is_err() {
            let canary = api.get("podinfo").await.unwrap();
            let waiting_on = &canary.data["status"]["serin"]["waitingOn"];
            let (target, primary) = (self.deployment("podinfo").await, self.deployment("podinfo-primary").await);
            panic!("never reached {phase}: {waiting_on}\n{}\n{}", target["status"], primary["status"]);
        }
    }

    /// Messages of the Events in the order in which they first happened.
    async fn messages(&self) -> Vec<String> {
        let api = Api::<Event>::namespaced(self.cluster.client(), "test");
        let of_canary = ListParams::default().fields("involvedObject.kind=Canary");
        let mut events = api.list(&of_canary).await.unwrap().items;
        let seq = |event: &Event| -> u64 {
            let annotations = event.metadata.annotations.as_ref().unwrap();
            annotations["serin.dev/journal-seq"].parse().unwrap()
        };
        events.sort_by_key(seq);
        events.into_iter().filter_map(|event| event.message).collect()
    }

    fn serin(&self, probe: Arc<dyn EffectProbe>) -> DropGuard {
        let shutdown = CancellationToken::new();
        let writer = Writer::new(Claim::always()).with_probe(probe);
        let context = ControllerContext {
            cluster: self.cluster.clone(),
            writer: writer.clone(),
            settings: ControllerSettings {
                namespace: None,
                metrics_address: "http://prometheus".into(),
                speed: 1.0,
                drain: Duration::from_secs(5),
                selector_labels: vec!["app".into()],
            },
            metrics: self.outside.clone(),
            hooks: self.outside.clone(),
            clock: self.clock,
            telemetry: Telemetry::default(),
        };
        tokio::spawn(controller::run(context, shutdown.clone()));
        let clock = self.clock;
        let now: events::Now = Arc::new(move || clock.now());
        tokio::spawn(events::run(self.cluster.clone(), writer, None, now, shutdown.clone()));
        shutdown.drop_guard()
    }
}

fn deployment() -> Value {
    json!({
        "metadata": {"name": "podinfo", "namespace": "test"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "podinfo"}},
            "template": {
                "metadata": {"labels": {"app": "podinfo"}},
                "spec": {"containers": [{
                    "name": "podinfod", "image": "stefanprodan/podinfo:3.1.0",
                    "ports": [{"name": "http", "containerPort": 9898}]
                }]},
            },
        },
    })
}

fn autoscaler() -> Value {
    json!({
        "metadata": {"name": "podinfo", "namespace": "test"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "podinfo"},
            "minReplicas": 2, "maxReplicas": 4,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu",
                "target": {"type": "Utilization", "averageUtilization": 99}}}],
        },
    })
}

fn canary() -> Value {
    json!({
        "metadata": {"name": "podinfo", "namespace": "test"},
        "spec": {
            "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "podinfo"},
            "progressDeadlineSeconds": 60,
            "autoscalerRef": {"apiVersion": "autoscaling/v2beta2", "kind": "HorizontalPodAutoscaler", "name": "podinfo"},
            "service": {
                "port": 9898, "targetPort": 9898, "hosts": ["*"],
                "gateways": ["public-gateway.istio-system.svc.cluster.local"],
                "trafficPolicy": {"tls": {"mode": "DISABLE"}},
                "retries": {"attempts": 3, "perTryTimeout": "1s", "retryOn": "gateway-error,connect-failure,refused-stream"},
            },
            "analysis": {
                "interval": "1m", "threshold": 2, "maxWeight": 50, "stepWeight": 10,
                "metrics": [
                    {"name": "request-success-rate", "thresholdRange": {"min": 99}, "interval": "1m"},
                    {"name": "request-duration", "thresholdRange": {"max": 500}, "interval": "30s"},
                ],
                "webhooks": [
                    {"name": "acceptance-test", "type": "pre-rollout", "url": "http://lt/", "metadata": {"type": "bash"}},
                    {"name": "load-test", "url": "http://lt/", "metadata": {"cmd": "hey"}},
                ],
            },
        },
    })
}

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

    let api = world.api("flagger.app", "v1beta1", "Canary").await;
    let at = |weight: i64| {
        move |object: Option<&DynamicObject>| {
            object.is_some_and(|object| object.data["status"]["canaryWeight"] == weight)
        }
    };
    world.set_image("3.1.1").await;
    await_condition(api.clone(), "podinfo", at(20)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(30)).await;
    let before = world.server.requests().snapshot();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let step = world.server.requests().snapshot().since(&before);
    let counted = step.total(|key| !key.is_watch && !key.resource.starts_with("events"));
    assert!(counted <= 3, "{counted} requests: {step:#?}");
}

/// Stops the process (never returns) before or after its k-th effect.
struct Crash {
    left: AtomicU64,
    after: bool,
    crashed: CancellationToken,
}

impl Crash {
    fn hit<'a>(&'a self, counts: bool) -> ProbeFuture<'a> {
        let crash = counts && self.left.fetch_sub(1, Ordering::Relaxed) == 1;
        if crash {
            self.crashed.cancel();
            return Box::pin(std::future::pending());
        }
        Box::pin(std::future::ready(()))
    }
}

impl EffectProbe for Crash {
    fn before<'a>(&'a self, _kind: EffectKind, _key: &'a str) -> ProbeFuture<'a> {
        self.hit(!self.after)
    }
    fn after<'a>(&'a self, _kind: EffectKind, _key: &'a str) -> ProbeFuture<'a> {
        self.hit(self.after)
    }
}

/// What must be the same however often the process died.
async fn end_of(world: &World) -> Value {
    let mut canary = world.get("flagger.app", "v1beta1", "Canary", "podinfo").await["status"].take();
    canary["lastTransitionTime"].take();
    let state = &canary["serin"]["state"];
    json!({
        "phase": canary["phase"],
        "promoted": canary["lastPromotedSpec"],
        "releases": state["releases"],
        "primary": world.image_of("podinfo-primary").await,
        "generation": world.deployment("podinfo-primary").await["metadata"]["generation"],
        "replicas": world.deployment("podinfo").await["spec"]["replicas"],
        "weights": world.weights().await,
    })
}

/// Runs a release and dies once at the given effect; `None` if the release was over before.
async fn release_with_crash(phase: &'static str, failing: bool, at: u64, after: bool) -> (Value, bool) {
    let world = World::new().await;
    {
        let _serin = world.serin(Arc::new(NoProbe));
        world.reaches("Initialized").await;
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    world.outside.failing.store(failing, Ordering::Relaxed);
    world.set_image("3.1.1").await;
    let crashed = CancellationToken::new();
    let first = world.serin(Arc::new(Crash { left: AtomicU64::new(at), after, crashed: crashed.clone() }));
    let died = tokio::select! {
        () = crashed.cancelled() => true,
        () = world.reaches(phase) => false,
    };
    drop(first);
    let _second = world.serin(Arc::new(NoProbe));
    world.reaches(phase).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    (end_of(&world).await, died)
}

async fn survives_a_crash_everywhere(phase: &'static str, failing: bool) {
    let (expected, died) = release_with_crash(phase, failing, u64::MAX, false).await;
    assert!(!died);
    for after in [false, true] {
        for at in 1.. {
            let (end, died) = release_with_crash(phase, failing, at, after).await;
            assert_eq!(end, expected, "crash at effect {at}, after it: {after}");
            if !died {
                break;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_promotion_survives_a_crash_at_every_effect() {
    survives_a_crash_everywhere("Succeeded", false).await;
}

#[tokio::test(start_paused = true)]
async fn a_rollback_survives_a_crash_at_every_effect() {
    survives_a_crash_everywhere("Failed", true).await;
}
