//! AnalysisRuns that nobody but a person has made: their status, Jobs, Secrets, and how they end and go.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::await_condition;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use serin::analysis::Reading;
use serin::api::Canary;
use serin::cluster::{Claim, Clock, Cluster, NoProbe, SharedWatch, Writer};
use serin::controller::{self, Canaries, ControllerContext, ControllerSettings, Telemetry};
use serin::metrics::{Endpoint, MetricProvider, Sampled, Sampling};
use serin::release::Guards;
use serin::sandbox::apiserver::ApiServer;
use serin::sandbox::controllers::{self, ControllerOptions};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::world::{CAP, Outside as Hooks};

const START: &str = "2026-01-01T00:00:00Z";
const NAME: &str = "smoke";

/// Answers what its script says; remembers what it was asked.
#[derive(Default)]
struct Providers {
    answers: Mutex<Vec<Sampled>>,
    asked: Mutex<Vec<Sampling>>,
}

impl Providers {
    /// The answers in their order; the last one goes on.
    fn say(&self, answers: Vec<Sampled>) {
        *self.answers.lock().unwrap() = answers;
    }
}

impl MetricProvider for Providers {
    fn query<'a>(&'a self, _endpoint: &'a Endpoint, _query: &'a str) -> BoxFuture<'a, Reading> {
        Box::pin(std::future::ready(Reading::Value { value: 1.0 }))
    }

    fn sample<'a>(&'a self, asked: &'a Sampling) -> BoxFuture<'a, Sampled> {
        self.asked.lock().unwrap().push(asked.clone());
        let mut answers = self.answers.lock().unwrap();
        let answer = if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() };
        Box::pin(std::future::ready(answer))
    }
}

struct World {
    cluster: Cluster,
    providers: Arc<Providers>,
    _serin: DropGuard,
    _controllers: DropGuard,
}

impl World {
    async fn new() -> Self {
        let server = ApiServer::new();
        let cluster = Cluster::from_client(server.client());
        let controllers = CancellationToken::new();
        tokio::spawn(controllers::run(server.client(), ControllerOptions::default(), controllers.clone()));
        let rollouts = serin::sandbox::crds::argo_rollouts().unwrap();
        for definition in serin::api::crds().into_iter().chain(serin::api::argo_crds()).chain(rollouts) {
            Api::all(cluster.client()).create(&PostParams::default(), &definition).await.unwrap();
        }
        let providers = Arc::<Providers>::default();
        let serin = engine(&cluster, providers.clone());
        let world = Self { cluster, providers, _serin: serin, _controllers: controllers.drop_guard() };
        world.create("", "v1", "Namespace", json!({"metadata": {"name": "test"}})).await;
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

    async fn run(&self, spec: Value) {
        let object = json!({"metadata": {"name": NAME, "namespace": "test"}, "spec": spec});
        self.create("argoproj.io", "v1alpha1", "AnalysisRun", object).await;
    }

    async fn runs(&self) -> Api<DynamicObject> {
        self.api("argoproj.io", "v1alpha1", "AnalysisRun").await
    }

    async fn until(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let api = self.runs().await;
        let shows = |object: Option<&DynamicObject>| object.is_some_and(|object| fits(&object.data["status"]));
        let reached = tokio::time::timeout(CAP, await_condition(api.clone(), NAME, shows)).await;
        let found = api.get(NAME).await.map(|object| object.data["status"].clone());
        assert!(reached.is_ok(), "never {what}: {found:#?}");
        found.unwrap()
    }

    async fn ends(&self) -> Value {
        self.until("over", |status| !status["completedAt"].is_null()).await
    }
}

fn engine(cluster: &Cluster, metrics: Arc<Providers>) -> DropGuard {
    let shutdown = CancellationToken::new();
    let mut watch = SharedWatch::of::<Canary>(cluster, None);
    let context = ControllerContext {
        cluster: cluster.clone(),
        canaries: Canaries::of(&mut watch),
        writer: Writer::new(Claim::always()).with_probe(Arc::new(NoProbe)),
        settings: ControllerSettings {
            namespace: None,
            metrics_address: "http://prometheus".into(),
            own_namespace: "serin-system".into(),
            speed: 1.0,
            guards: Guards::default(),
            drain: Duration::from_secs(5),
            settle: Duration::from_secs(2),
            selector_labels: vec!["app".into()],
            loopback: true,
            rollouts: true,
            windows: Vec::new(),
            wait_for: Vec::new(),
            projections: Vec::new(),
        },
        metrics,
        hooks: Arc::<Hooks>::default(),
        clock: Clock::following(START.parse::<Timestamp>().unwrap()),
        telemetry: Telemetry::default(),
    };
    tokio::spawn(controller::run(context, shutdown.clone()));
    watch.start(shutdown.clone());
    shutdown.drop_guard()
}

fn rate(change: Value) -> Value {
    let mut metric = json!({
        "name": "success-rate", "interval": "20s", "count": 3, "successCondition": "result[0] > 0.90",
        "provider": {"prometheus": {"query": "up{service=\"{{args.service}}\"}"}},
    });
    metric.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    json!({"args": [{"name": "service", "value": "web"}], "metrics": [metric]})
}

#[tokio::test(start_paused = true)]
async fn a_run_is_measured_by_its_clock_and_tells_it_in_upstreams_fields() {
    let world = World::new().await;
    world.providers.say(vec![Sampled::numbers(vec![0.95])]);
    world.run(rate(json!({}))).await;
    let status = world.ends().await;
    assert_eq!((&status["phase"], &status["message"]), (&json!("Successful"), &Value::Null));
    assert_eq!(status["runSummary"], json!({"count": 1, "successful": 1}));
    assert_eq!(status["dryRunSummary"], json!({}));
    let result = &status["metricResults"][0];
    assert_eq!(
        (&result["count"], &result["successful"], &result["consecutiveSuccess"]),
        (&json!(3), &json!(3), &json!(3))
    );
    assert_eq!(result["metadata"], json!({"ResolvedPrometheusQuery": "up{service=\"web\"}"}));
    assert_eq!(result["measurements"][2]["value"], "[0.95]");
    let asked = world.providers.asked.lock().unwrap();
    let [Sampling::Prometheus { endpoint, query, timeout, .. }, _, _] = asked.as_slice() else {
        panic!("{asked:?}")
    };
    assert_eq!((endpoint.address.as_str(), query.as_str()), ("http://prometheus", "up{service=\"web\"}"));
    assert_eq!(*timeout, Duration::from_secs(30));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_fails_or_cannot_be_read_says_why() {
    let world = World::new().await;
    world.providers.say(vec![Sampled::numbers(vec![0.95]), Sampled::numbers(vec![0.5])]);
    world.run(rate(json!({"count": 0}))).await;
    let status = world.ends().await;
    let said = "Metric \"success-rate\" assessed Failed due to failed (1) > failureLimit (0)";
    assert_eq!((&status["phase"], &status["message"]), (&json!("Failed"), &json!(said)));

    world.runs().await.delete(NAME, &Default::default()).await.unwrap();
    world.run(json!({"metrics": [{"name": "a", "provider": {}}]})).await;
    let status = world.ends().await;
    let said = "Analysis spec invalid: metrics[0]: no provider specified";
    assert_eq!((&status["phase"], &status["message"]), (&json!("Error"), &json!(said)));
}

#[tokio::test(start_paused = true)]
async fn who_ends_a_run_ends_it_and_it_goes_when_its_time_has_come() {
    let world = World::new().await;
    world.providers.say(vec![Sampled::numbers(vec![0.95])]);
    let mut spec = rate(json!({"count": 0}));
    spec["ttlStrategy"] = json!({"secondsAfterCompletion": 60});
    world.run(spec).await;
    world.until("measured", |status| status["metricResults"][0]["count"] == 2).await;
    let patch = Patch::Merge(json!({"spec": {"terminate": true}}));
    world.runs().await.patch(NAME, &PatchParams::default(), &patch).await.unwrap();
    let status = world.ends().await;
    assert_eq!((&status["phase"], &status["message"]), (&json!("Successful"), &json!("Run Terminated")));
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(world.runs().await.get_opt(NAME).await.unwrap().is_some());
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(world.runs().await.get_opt(NAME).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_secret_is_sent_with_its_owners_consent_only_and_shown_to_nobody() {
    let world = World::new().await;
    world.providers.say(vec![Sampled::error("401 for Bearer T0PSECRET".to_owned()), Sampled::numbers(vec![0.95])]);
    let secret = json!({"metadata": {"name": "token", "namespace": "test"}, "stringData": {"key": "T0PSECRET"}});
    world.create("", "v1", "Secret", secret).await;
    let mut spec = rate(json!({"count": 1, "provider": {"prometheus": {
        "query": "up", "headers": [{"key": "Authorization", "value": "Bearer {{args.token}}"}],
    }}}));
    spec["args"] = json!([{"name": "token", "valueFrom": {"secretKeyRef": {"name": "token", "key": "key"}}}]);
    world.run(spec).await;
    let last =
        |status: &Value| status["metricResults"][0]["measurements"].as_array().and_then(|all| all.last().cloned());
    let said =
        |status: &Value| last(status).and_then(|it| it["message"].as_str().map(str::to_owned)).unwrap_or_default();
    let refused = world.until("refused", |status| said(status).contains("is not released to")).await;
    assert!(said(&refused).contains("kubectl annotate secret -n test token"), "{refused:#}");
    assert!(world.providers.asked.lock().unwrap().is_empty());

    let consent = Patch::Merge(json!({"metadata": {"annotations": {"serin.dev/send-to-metrics": "true"}}}));
    let secrets: Api<Secret> = Api::namespaced(world.cluster.client(), "test");
    secrets.patch("token", &PatchParams::default(), &consent).await.unwrap();
    let status = world.ends().await;
    assert_eq!(status["phase"], "Successful");
    assert!(!status.to_string().contains("T0PSECRET"), "{status:#}");
    assert!(status.to_string().contains("401 for Bearer *****"), "{status:#}");
    let asked = world.providers.asked.lock().unwrap();
    let Some(Sampling::Prometheus { endpoint, .. }) = asked.first() else { panic!("{asked:?}") };
    assert_eq!(endpoint.headers["Authorization"], ["Bearer T0PSECRET"]);
}

fn job(command: &str, image: &str) -> Value {
    json!({"metrics": [{"name": "smoke", "provider": {"job": {"spec": {
        "backoffLimit": 0,
        "template": {"spec": {"restartPolicy": "Never", "containers": [{
            "name": "main", "image": image, "command": ["sh", "-c", command],
        }]}},
    }}}}]})
}

#[tokio::test(start_paused = true)]
async fn a_jobs_end_is_the_measurement() {
    let world = World::new().await;
    world.run(job("true", "alpine:3")).await;
    let status = world.ends().await;
    assert_eq!(status["phase"], "Successful", "{status:#}");
    let jobs: Api<Job> = Api::namespaced(world.cluster.client(), "test");
    let made = jobs.list(&ListParams::default()).await.unwrap().items.remove(0);
    let measurement = &status["metricResults"][0]["measurements"][0];
    assert_eq!(measurement["metadata"], json!({"job-name": made.metadata.name, "job-namespace": "test"}));
    assert_eq!(made.metadata.owner_references.unwrap()[0].name, NAME);

    world.runs().await.delete(NAME, &Default::default()).await.unwrap();
    world.run(job("exit 3", "alpine:3")).await;
    let status = world.ends().await;
    assert_eq!(status["phase"], "Failed");
    assert!(
        status["message"].as_str().unwrap().contains("failed (1) > failureLimit (0): \"Error Message: Job "),
        "{status:#}"
    );

    world.runs().await.delete(NAME, &Default::default()).await.unwrap();
    world.run(job("true", "alpine:does-not-exist")).await;
    let status = world.ends().await;
    assert_eq!(status["phase"], "Inconclusive");
    assert!(status["message"].as_str().unwrap().contains("has terminal error"), "{status:#}");
}

#[tokio::test(start_paused = true)]
async fn a_job_of_a_run_that_is_ended_goes() {
    let world = World::new().await;
    world.run(job("sleep 600", "alpine:3")).await;
    world.until("running", |status| status["metricResults"][0]["measurements"][0]["phase"] == "Running").await;
    let jobs: Api<Job> = Api::namespaced(world.cluster.client(), "test");
    let name = |status: &Value| status["metricResults"][0]["measurements"][0]["metadata"]["job-name"].clone();
    let status = world.until("named", |status| name(status).is_string()).await;
    let name = name(&status).as_str().unwrap().to_owned();
    tokio::time::timeout(CAP, await_condition(jobs.clone(), &name, |job: Option<&Job>| job.is_some()))
        .await
        .unwrap()
        .unwrap();
    let patch = Patch::Merge(json!({"spec": {"terminate": true}}));
    world.runs().await.patch(NAME, &PatchParams::default(), &patch).await.unwrap();
    let status = world.ends().await;
    assert_eq!(status["phase"], "Inconclusive");
    assert_eq!(status["metricResults"][0]["measurements"][0]["message"], "Metric Terminated");
    tokio::time::timeout(CAP, await_condition(jobs, &name, |job: Option<&Job>| job.is_none()))
        .await
        .unwrap()
        .unwrap();
}
