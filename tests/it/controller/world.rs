//! A cluster with its controllers and an outside that answers from memory.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::await_condition;
use serde_json::{Value, json};
use serin::analysis::Reading;
use serin::api::Canary;
use serin::cluster::{Claim, Clock, Cluster, EffectProbe, SharedWatch, Writer};
use serin::controller::{self, Canaries, ControllerContext, ControllerSettings, Telemetry};
use serin::hook::{HookCall, HookCaller};
use serin::metrics::{Endpoint, MetricProvider};
use serin::model::Projection;
use serin::release::{Guards, HookReply};
use serin::report::events;
use serin::sandbox::apiserver::ApiServer;
use serin::sandbox::controllers::{self, ControllerOptions};
use serin::sandbox::crds;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Longest virtual time anything here may take.
pub(crate) const CAP: Duration = Duration::from_secs(3600);
const START: &str = "2026-01-01T00:00:00Z";

/// Answers every query with one value and every hook with yes; remembers the calls.
#[derive(Default)]
pub(crate) struct Outside {
    pub(super) failing: AtomicBool,
    /// Queries of checks cannot be read, as whoever is asked says.
    pub(super) unreadable: AtomicBool,
    pub(super) hooks: Mutex<Vec<(String, String, String)>>,
}

impl MetricProvider for Outside {
    fn query<'a>(&'a self, _endpoint: &'a Endpoint, query: &'a str) -> BoxFuture<'a, Reading> {
        if query != "1" && self.unreadable.load(Ordering::Relaxed) {
            let reason = "bad_data: unclosed left parenthesis".to_owned();
            return Box::pin(std::future::ready(Reading::Misconfigured { reason }));
        }
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
        self.hooks.lock().unwrap().push((name, call.payload.phase.clone(), call.hook.name.clone()));
        Box::pin(std::future::ready(HookReply { accepted: true, body: String::new() }))
    }
}

/// A cluster with its controllers, without Serin.
pub(super) struct World {
    pub(super) server: ApiServer,
    pub(super) cluster: Cluster,
    pub(super) clock: Clock,
    pub(super) outside: Arc<Outside>,
    _controllers: DropGuard,
}

impl World {
    pub(super) async fn new() -> Self {
        Self::with(canary()).await
    }

    /// A world with this Canary.
    pub(super) async fn with(canary: Value) -> Self {
        let server = ApiServer::new();
        let cluster = Cluster::from_client(server.client());
        let shutdown = CancellationToken::new();
        tokio::spawn(controllers::run(server.client(), ControllerOptions::default(), shutdown.clone()));
        let clock = Clock::following(START.parse::<Timestamp>().unwrap());
        let world = Self { server, cluster, clock, outside: Arc::default(), _controllers: shutdown.drop_guard() };
        let routes = crds::istio().unwrap().into_iter().chain(crds::gateway_api().unwrap());
        for definition in serin::api::crds().into_iter().chain(routes) {
            Api::all(world.cluster.client()).create(&PostParams::default(), &definition).await.unwrap();
        }
        world.create("", "v1", "Namespace", json!({"metadata": {"name": "test"}})).await;
        world.create("apps", "v1", "Deployment", deployment()).await;
        world.create("autoscaling", "v2", "HorizontalPodAutoscaler", autoscaler()).await;
        world.create("flagger.app", "v1beta1", "Canary", canary).await;
        world
    }

    pub(super) async fn api(&self, group: &str, version: &str, kind: &str) -> Api<DynamicObject> {
        let resolved = self.cluster.resolve(group, version, kind).await.unwrap();
        self.cluster.objects(&resolved, Some("test"))
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

    pub(super) async fn deployment(&self, name: &str) -> Value {
        self.get("apps", "v1", "Deployment", name).await
    }

    pub(super) async fn image_of(&self, name: &str) -> String {
        let deployment = self.deployment(name).await;
        deployment["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap().to_owned()
    }

    /// Weights of primary and canary.
    pub(super) async fn weights(&self) -> (u64, u64) {
        let route = self.get("networking.istio.io", "v1beta1", "VirtualService", "podinfo").await;
        let weight = |index: usize| route["spec"]["http"][0]["route"][index]["weight"].as_u64().unwrap();
        (weight(0), weight(1))
    }

    /// The same while the route tells the sides apart.
    pub(super) async fn weights_if_split(&self) -> Option<(u64, u64)> {
        let route = self.get("networking.istio.io", "v1beta1", "VirtualService", "podinfo").await;
        let weight = |index: usize| route["spec"]["http"][0]["route"][index]["weight"].as_u64();
        Some((weight(0)?, weight(1)?))
    }

    /// Replaces our definition of Canaries by one that prunes the state, as Flagger's own does.
    pub(super) async fn flaggers_definition(&self) -> Value {
        let definitions = Api::<CustomResourceDefinition>::all(self.cluster.client());
        let mut flaggers = definitions.get("canaries.flagger.app").await.unwrap();
        let ours = serde_json::to_value(&flaggers.spec).unwrap();
        let mut spec = ours.clone();
        let status = "/versions/0/schema/openAPIV3Schema/properties/status/properties";
        spec.pointer_mut(status).unwrap().as_object_mut().unwrap().remove("serin");
        flaggers.spec = serde_json::from_value(spec).unwrap();
        definitions.replace("canaries.flagger.app", &Default::default(), &flaggers).await.unwrap();
        ours
    }

    /// Waits until the Canary has answered a request.
    pub(super) async fn answers(&self, request: &str) {
        let api = self.api("flagger.app", "v1beta1", "Canary").await;
        let answered = |object: Option<&DynamicObject>| {
            object.is_some_and(|object| object.data["status"]["serin"]["handledRequest"] == request)
        };
        let waited = tokio::time::timeout(CAP, await_condition(api, "podinfo", answered)).await;
        waited.unwrap_or_else(|_| panic!("no answer to {request}")).unwrap();
    }

    pub(super) async fn set_image(&self, tag: &str) {
        self.set_image_of("podinfo", tag).await;
    }

    pub(super) async fn set_image_of(&self, name: &str, tag: &str) {
        let image = format!("stefanprodan/podinfo:{tag}");
        let patch = json!([{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": image}]);
        let patch = Patch::Json::<()>(serde_json::from_value(patch).unwrap());
        let api = self.api("apps", "v1", "Deployment").await;
        api.patch(name, &PatchParams::default(), &patch).await.unwrap();
    }

    /// Waits until the Canary is in a phase.
    pub(super) async fn reaches(&self, phase: &'static str) {
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

    pub(super) async fn patch_canary(&self, patch: Value) {
        let api = self.api("flagger.app", "v1beta1", "Canary").await;
        api.patch("podinfo", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    /// Waits until the Canary has a condition of this type.
    pub(super) async fn condition(&self, kind: &'static str) -> Value {
        let find = move |object: &DynamicObject| {
            let conditions = object.data["status"]["conditions"].as_array()?;
            conditions.iter().find(|condition| condition["type"] == kind).cloned()
        };
        let api = self.api("flagger.app", "v1beta1", "Canary").await;
        let has = move |object: Option<&DynamicObject>| object.and_then(find).is_some();
        let found = tokio::time::timeout(CAP, await_condition(api, "podinfo", has)).await;
        found.unwrap_or_else(|_| panic!("no condition {kind}")).unwrap().as_ref().and_then(find).unwrap()
    }

    /// Waits until an Event has this message.
    pub(super) async fn says(&self, message: &str) {
        let heard = async {
            while !self.messages().await.iter().any(|said| said == message) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let heard = tokio::time::timeout(CAP, heard).await;
        assert!(heard.is_ok(), "nobody says {message}: {:#?}", self.messages().await);
    }

    /// Waits until the Canary's status shows a weight.
    pub(super) async fn has_weight(&self, weight: i64) {
        let api = self.api("flagger.app", "v1beta1", "Canary").await;
        let shows = move |object: Option<&DynamicObject>| {
            object.is_some_and(|object| object.data["status"]["canaryWeight"] == weight)
        };
        tokio::time::timeout(CAP, await_condition(api, "podinfo", shows)).await.unwrap().unwrap();
    }

    /// Messages of the Events in the order in which they first happened.
    pub(super) async fn messages(&self) -> Vec<String> {
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

    pub(super) fn serin(&self, probe: Arc<dyn EffectProbe>) -> DropGuard {
        engine(&self.cluster, self.clock.clone(), &self.outside, probe)
    }
}

/// The release engine with its Events.
pub(crate) fn engine(
    cluster: &Cluster,
    clock: Clock,
    outside: &Arc<Outside>,
    probe: Arc<dyn EffectProbe>,
) -> DropGuard {
    let shutdown = CancellationToken::new();
    let writer = Writer::new(Claim::always()).with_probe(probe);
    let mut watch = SharedWatch::of::<Canary>(cluster, None);
    let journals = events::Journals::of(&mut watch);
    let context = ControllerContext {
        cluster: cluster.clone(),
        canaries: Canaries::of(&mut watch),
        writer: writer.clone(),
        settings: ControllerSettings {
            namespace: None,
            metrics_address: "http://prometheus".into(),
            own_namespace: String::new(),
            speed: 1.0,
            drain: Duration::from_secs(5),
            settle: Duration::from_secs(2),
            guards: Guards::default(),
            selector_labels: vec!["app".into()],
            loopback: true,
            projections: Projection::GIT.to_vec(),
            windows: Vec::new(),
            wait_for: Vec::new(),
            rollouts: false,
        },
        metrics: outside.clone(),
        hooks: outside.clone(),
        clock: clock.clone(),
        telemetry: Telemetry::default(),
    };
    tokio::spawn(controller::run(context, shutdown.clone()));
    let clock = clock.clone();
    let now: events::Now = Arc::new(move || clock.now());
    watch.start(shutdown.clone());
    tokio::spawn(events::run(cluster.clone(), writer, None, journals, now, shutdown.clone()));
    shutdown.drop_guard()
}

pub(super) fn deployment() -> Value {
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

/// The seeds' Canary.
pub(super) fn canary() -> Value {
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
