//! No request fails because of a release. Constant load goes through ingress and forward proxy while revisions are
//! promoted, superseded and rolled back; every attempt to reach a pod counts, and nobody retries.
//!
//! The mesh takes changed routes and endpoints up to half a second late or a whole one, answers take long enough to span
//! every switch, and pods of the canary refuse connections the moment they are deleted.
//!
//! That a test which sees no failed request is not blind is shown by turning off what prevents them, the drain and the
//! time that a canary's endpoints get before they are sent traffic, and by a mesh that learns of the switch only when all
//! is done: then requests fail, every time.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use kube::runtime::wait::await_condition;
use serde_json::{Value, json};
use serin::api::annotations::REQUEST;
use serin::api::{Canary, CanaryPhase, CanaryStatus};
use serin::cli::run;
use serin::config::{RunArgs, Settings};
use serin::sandbox::repository::FileEdit;
use serin::sandbox::traffic::{Failure, Hold, Part, RequestCounts, RetryMode, TrafficOptions};
use serin::sandbox::world::{Sandbox, SandboxOptions};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::support::world::{example, patient};

/// Longest wait for one state.
const WAIT_MAX: Duration = Duration::from_secs(150);
/// Between two looks at what has no watch.
const LOOK: Duration = Duration::from_millis(50);
/// How much faster than real time analysis runs.
const SPEED: f64 = 30.0;
/// How late a mesh is.
const MESH: Mesh = Mesh { late: Duration::from_millis(500), seed: 7 };
/// A slower one.
const SLOW_MESH: Mesh = Mesh { late: Duration::from_millis(1_000), seed: 19_873 };
/// One that learns at once, unless it is held.
const PROMPT_MESH: Mesh = Mesh { late: Duration::ZERO, seed: 7 };
/// A drain that is long enough for both and for the slowest answer, and the time that endpoints get.
const PATIENT: Waits = Waits { drain: "3s", settle: "2s" };
/// The same, so long that nothing goes on for the rest of a test.
const FOR_EVER: &str = "1h";
/// Not at all.
const NO_TIME: &str = "0s";
/// Clients of the ingress, and of the forward proxy.
const CLIENTS: (usize, usize) = (8, 4);
/// Time between two requests of a client.
const EVERY: Duration = Duration::from_millis(80);
/// Requests after the last write, in which what the mesh takes up late would show: about two seconds' worth.
const AFTERMATH: u64 = 300;
/// The header by which A/B testing knows its users.
const INSIDER: (&str, &str) = ("x-canary", "insider");
/// The cookie by which users of the canary are known.
const CANARY_COOKIE: &str = "side";
/// Most answers that are remembered in words.
const WORDS_MAX: usize = 20;

/// A mesh that takes changes up late.
#[derive(Debug, Clone, Copy)]
struct Mesh {
    late: Duration,
    seed: u64,
}

/// What the daemon is told to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Waits {
    drain: &'static str,
    settle: &'static str,
}

/// Answers of the application to its users are its own affair; everything else that is not 200 is the release's.
#[derive(Debug, Default)]
struct Users {
    asked: AtomicU64,
    refused: Mutex<Vec<String>>,
    /// How often each version answered.
    versions: Mutex<BTreeMap<String, u64>>,
    /// The version that answers whoever brings the canary's cookie.
    pinned: Mutex<Option<String>>,
}

/// One of them.
#[derive(Debug, Clone)]
struct User {
    client: reqwest::Client,
    url: String,
    /// Whether A/B testing means it.
    insider: bool,
    /// Whether each request is somebody's first. Of a few users who stay, all may be pinned to primary by chance, and then
    /// nobody meets the canary.
    newcomer: bool,
    /// Cookies as a browser keeps them.
    cookies: BTreeMap<String, String>,
}

impl User {
    fn new(proxy: Option<&str>, url: String) -> Self {
        Self { client: client(proxy), url, insider: false, newcomer: false, cookies: BTreeMap::new() }
    }

    fn keep(&mut self, set_cookie: &str) {
        let mut parts = set_cookie.split("; ");
        let Some((name, value)) = parts.next().and_then(|pair| pair.split_once('=')) else { return };
        if parts.any(|attribute| attribute.starts_with("Max-Age=-")) {
            self.cookies.remove(name);
        } else {
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
    }

    /// Status and text of the answer.
    async fn ask(&mut self) -> Result<(u16, String), reqwest::Error> {
        let mut request = self.client.get(&self.url);
        if self.insider {
            request = request.header(INSIDER.0, INSIDER.1);
        }
        if !self.cookies.is_empty() {
            let pairs: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            request = request.header("Cookie", pairs.join("; "));
        }
        let response = request.send().await?;
        let set: Vec<String> = response
            .headers()
            .get_all("set-cookie")
            .iter()
            .filter_map(|cookie| cookie.to_str().ok().map(str::to_owned))
            .collect();
        for cookie in &set {
            self.keep(cookie);
        }
        Ok((response.status().as_u16(), response.text().await?))
    }
}

impl Users {
    async fn ask(&self, user: &mut User) {
        if user.newcomer {
            user.cookies.clear();
        }
        let brings_cookie = user.cookies.contains_key(CANARY_COOKIE);
        let said = match user.ask().await {
            Ok((200, text)) => self.note(brings_cookie, &text),
            Ok((_, text)) if text.contains("simulated error") => None,
            Ok((status, text)) => Some(format!("{status}: {}", text.trim())),
            Err(error) => Some(error.to_string()),
        };
        self.asked.fetch_add(1, Ordering::Relaxed);
        if let Some(said) = said {
            let mut refused = self.refused.lock().unwrap();
            if refused.len() < WORDS_MAX {
                refused.push(format!("{}: {said}", user.url));
            }
        }
    }

    /// Notes which version answered; what is wrong with that.
    fn note(&self, brings_cookie: bool, text: &str) -> Option<String> {
        let answer: Value = serde_json::from_str(text).ok()?;
        let version = answer["version"].as_str()?.to_owned();
        let pinned = self.pinned.lock().unwrap().clone().filter(|pinned| brings_cookie && *pinned != version);
        *self.versions.lock().unwrap().entry(version.clone()).or_default() += 1;
        pinned.map(|pinned| format!("a user of {pinned} was answered by {version}"))
    }

    fn answered_by(&self, version: &str) -> u64 {
        self.versions.lock().unwrap().get(version).copied().unwrap_or(0)
    }
}

/// Sandbox, daemon and users.
struct World {
    sandbox: Sandbox,
    canaries: Api<Canary>,
    users: Arc<Users>,
    before: RequestCounts,
    daemon: Option<Daemon>,
    tasks: JoinSet<()>,
    _stop: DropGuard,
    _dir: tempfile::TempDir,
}

/// A daemon in this process.
struct Daemon {
    running: JoinHandle<()>,
    stop: DropGuard,
}

impl Daemon {
    fn start(sandbox: &Sandbox, waits: Waits) -> Self {
        let Waits { drain, settle } = waits;
        let text = sandbox.serin_yaml(SPEED);
        let written = text.lines().find(|line| line.starts_with("drain:")).expect("a drain").to_owned();
        let text = text.replace(&written, &format!("drain: {drain}\nsettle: {settle}"));
        let args = RunArgs { install_crds: true, ..RunArgs::default() };
        let settings = Settings::from_text("serin.yaml", &text, &args).unwrap();
        let stop = CancellationToken::new();
        let shutdown = stop.clone();
        let running = tokio::spawn(async move { run::daemon(settings, shutdown).await.expect("the daemon runs") });
        Self { running, stop: stop.drop_guard() }
    }

    async fn shutdown(self) {
        drop(self.stop);
        self.running.await.unwrap();
    }
}

impl World {
    /// Initializes podinfo, starts a daemon that waits like this, and the load. `grace` is how long a deleted pod still
    /// serves.
    async fn start(mesh: Mesh, grace: Duration, waits: Waits) -> Self {
        Self::start_with(mesh, grace, waits, manifests()).await
    }

    /// The same with other manifests.
    async fn start_with(mesh: Mesh, grace: Duration, waits: Waits, manifests: Vec<FileEdit>) -> Self {
        let Mesh { late, seed } = mesh;
        // Another test of the process may have installed it already.
        drop(rustls::crypto::ring::default_provider().install_default());
        let dir = tempfile::tempdir().unwrap();
        let traffic = TrafficOptions {
            retries: RetryMode::Off,
            propagation_max: late,
            seed,
            programs: serin::loadtest::programs(),
            ..TrafficOptions::default()
        };
        let dir_path = dir.path().to_owned();
        let options =
            SandboxOptions { dir: dir_path, speed: SPEED, max_grace: grace, traffic, ..SandboxOptions::default() };
        let sandbox = Sandbox::start(options).await.unwrap();
        // Whatever follows: the hand-over to primary is over, and known to the mesh, before the users come.
        let daemon = Daemon::start(&sandbox, PATIENT);
        let stop = CancellationToken::new();
        sandbox.repository().commit("Add podinfo 3.1.0", |_| Ok(manifests.clone())).unwrap();
        let canaries = Api::namespaced(sandbox.client(), "test");
        let mut world = Self {
            canaries,
            sandbox,
            users: Arc::default(),
            before: RequestCounts::default(),
            daemon: Some(daemon),
            tasks: JoinSet::new(),
            _stop: stop.clone().drop_guard(),
            _dir: dir,
        };
        world.eventually("the Canary", async || world.canaries.get("podinfo").await.is_ok()).await;
        world.phase(CanaryPhase::Initialized).await;
        if waits != PATIENT {
            world.restart(waits).await;
        }
        world.load(&stop).await;
        world
    }

    /// Asks for a rollback, as `serin abort` does.
    async fn abort(&self) {
        let canary = self.canaries.get("podinfo").await.unwrap();
        let release = canary.status.and_then(|status| status.serin?.release).expect("a release");
        let request = json!({"metadata": {"annotations": {REQUEST: format!("abort/{release}/1")}}});
        self.canaries.patch("podinfo", &PatchParams::default(), &Patch::Merge(request)).await.unwrap();
    }

    /// Ends the daemon and starts another one.
    async fn restart(&mut self, waits: Waits) {
        self.daemon.take().expect("a daemon runs").shutdown().await;
        self.daemon = Some(Daemon::start(&self.sandbox, waits));
    }

    /// Users come when the first of them is served.
    async fn load(&mut self, stop: &CancellationToken) {
        let ingress = User::new(None, format!("{}/", self.sandbox.ingress_url()));
        let proxied = User::new(Some(self.sandbox.proxy_url()), "http://podinfo.test:9898/".to_owned());
        for user in [&ingress, &proxied] {
            let url = &user.url;
            self.eventually(url, async || {
                user.client.get(url).send().await.is_ok_and(|answer| answer.status() == 200)
            })
            .await;
        }
        self.before = self.sandbox.traffic().counts();
        let users = std::iter::repeat_n(&ingress, CLIENTS.0).chain(std::iter::repeat_n(&proxied, CLIENTS.1));
        for (index, user) in users.enumerate() {
            let mut user = User { insider: index % 2 == 0, newcomer: index % 4 == 1, ..user.clone() };
            let (users, stop) = (self.users.clone(), stop.clone());
            self.tasks.spawn(async move {
                let mut ticks = tokio::time::interval(EVERY);
                ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
                while stop.run_until_cancelled(ticks.tick()).await.is_some() {
                    users.ask(&mut user).await;
                }
            });
        }
    }

    fn push(&self, tag: &str) {
        let repository = self.sandbox.repository();
        let edit = |repository: &serin::sandbox::repository::Repository| {
            let text = repository.read("main", "deployment.yaml")?;
            let old =
                text.split("podinfo:").nth(1).and_then(|rest| rest.split_whitespace().next()).expect("a tag");
            let content = text.replacen(&format!("podinfo:{old}"), &format!("podinfo:{tag}"), 1);
            Ok(vec![FileEdit { path: "deployment.yaml".to_owned(), content }])
        };
        repository.commit(&format!("Release {tag}"), edit).unwrap();
    }

    async fn phase(&self, phase: CanaryPhase) {
        self.reaches(&format!("phase {phase:?}"), move |status| status.phase == phase).await;
    }

    /// Waits until a user gets an answer of a version.
    async fn is_answered_by(&self, version: &str) {
        self.eventually(version, async || self.users.answered_by(version) > 0).await;
    }

    async fn weight(&self, weight: i64) {
        self.reaches(&format!("weight {weight}"), move |status| status.canary_weight == weight).await;
    }

    /// Waits until the engine says that it waits for something whose words begin like this.
    async fn waits_for(&self, words: &str) {
        let waits = |status: &CanaryStatus| {
            let waiting = status.serin.as_ref().and_then(|serin| serin.waiting_on.as_ref());
            waiting.is_some_and(|waiting| waiting.starts_with(words))
        };
        self.reaches(words, waits).await;
    }

    async fn reaches(&self, what: &str, is: impl Fn(&CanaryStatus) -> bool) {
        let reached = |canary: Option<&Canary>| canary.and_then(|canary| canary.status.as_ref()).is_some_and(&is);
        let waiting = await_condition(self.canaries.clone(), "podinfo", reached);
        match tokio::time::timeout(WAIT_MAX, waiting).await {
            Ok(found) => drop(found.unwrap()),
            Err(_) => panic!("never {what}: {:?}", self.canaries.get("podinfo").await.map(|canary| canary.status)),
        }
    }

    async fn eventually(&self, what: &str, is: impl AsyncFn() -> bool) {
        let looking = async {
            let mut looks = tokio::time::interval(LOOK);
            while !is().await {
                looks.tick().await;
            }
        };
        tokio::time::timeout(WAIT_MAX, looking).await.unwrap_or_else(|_| panic!("never: {what}"));
    }

    /// Failed attempts since the load began, the application's own 5xx left out.
    fn failures(&self) -> BTreeMap<Failure, u64> {
        let counts = self.sandbox.traffic().counts();
        let failures = counts.failures.into_iter().filter(|(failure, _)| *failure != Failure::ServerError);
        failures
            .map(|(failure, count)| (failure, count - self.before.failures_of(failure)))
            .filter(|(_, count)| *count > 0)
            .collect()
    }

    /// Lets the users go on for a while, or until a request fails.
    async fn aftermath(&self) {
        let until = self.users.asked.load(Ordering::Relaxed) + AFTERMATH;
        let over = async || self.users.asked.load(Ordering::Relaxed) >= until || !self.failures().is_empty();
        self.eventually("more requests", over).await;
    }

    async fn assert_no_failures(&self, after: &str) {
        self.aftermath().await;
        let counts = self.sandbox.traffic().counts();
        let refused = self.users.refused.lock().unwrap();
        assert!(
            self.failures().is_empty() && refused.is_empty(),
            "after {after}: {:?}, users saw {refused:#?}, the newest {:?}",
            self.failures(),
            counts
                .failed
                .iter()
                .rev()
                .filter(|one| one.failure != Failure::ServerError)
                .take(5)
                .collect::<Vec<_>>()
        );
    }

    /// Failed attempts of the application itself since the load began.
    fn own_failures(&self) -> u64 {
        self.sandbox.traffic().counts().failures_of(Failure::ServerError)
            - self.before.failures_of(Failure::ServerError)
    }

    /// Waits until some attempt fails that the healthy version would have answered; it is one of these.
    async fn assert_fails(&self, expected: &[Failure]) {
        self.eventually("a failed request", async || !self.failures().is_empty()).await;
        let failures = self.failures();
        assert!(failures.keys().all(|failure| expected.contains(failure)), "{failures:?}");
    }

    async fn canary_is_gone(&self) {
        let pods: Api<Pod> = Api::namespaced(self.sandbox.client(), "test");
        let canary = ListParams::default().labels("app=podinfo");
        self.eventually("the canary's pods to be gone", async || {
            pods.list(&canary).await.is_ok_and(|pods| pods.items.is_empty())
        })
        .await;
    }

    async fn shutdown(mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.shutdown().await;
        }
        drop(self._stop);
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
        self.sandbox.shutdown().await;
    }
}

fn client(proxy: Option<&str>) -> reqwest::Client {
    let builder = reqwest::Client::builder().no_proxy();
    let builder = match proxy {
        Some(proxy) => builder.proxy(reqwest::Proxy::http(proxy).unwrap()),
        None => builder,
    };
    builder.build().unwrap()
}

/// The example with two steps and without webhooks: users are the load, and a load test that goes on while the canary
/// leaves would be refused by right.
fn manifests() -> Vec<FileEdit> {
    variant(&[])
}

/// The same with merge patches of the Canary's spec, one after the other: one patch in another would lose what it takes away.
fn variant(patches: &[&Value]) -> Vec<FileEdit> {
    let read = |name: &str| std::fs::read_to_string(Path::new(example()).join(name)).unwrap();
    let canary = patient(&read("canary.yaml"))
        .replace("stepWeight: 10", "stepWeight: 25")
        // A second is not much on a busy machine.
        .replace("perTryTimeout: 1s", "perTryTimeout: 15s");
    let canary = canary.split("    webhooks:").next().unwrap_or_default();
    let mut canary: Value = serde_yaml::from_str(canary).unwrap();
    for patch in patches {
        json_patch::merge(&mut canary["spec"], patch);
    }
    let names = ["namespace.yaml", "deployment.yaml", "hpa.yaml", "public-gateway.yaml", "metric-template.yaml"];
    let mut files: Vec<FileEdit> =
        names.iter().map(|name| FileEdit { path: (*name).to_owned(), content: read(name) }).collect();
    files.push(FileEdit { path: "canary.yaml".to_owned(), content: serde_yaml::to_string(&canary).unwrap() });
    files
}

/// Along an HTTPRoute of a Gateway instead.
fn by_gateway_api(patch: &Value) -> Vec<FileEdit> {
    let attached = json!({
        "provider": "gatewayapi:v1",
        "service": {
            "gatewayRefs": [{"name": "public", "namespace": "istio-system"}],
            "gateways": null, "trafficPolicy": null, "retries": null,
        },
    });
    let listener =
        json!({"name": "http", "port": 80, "protocol": "HTTP", "allowedRoutes": {"namespaces": {"from": "All"}}});
    let gateway = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
        "metadata": {"name": "public", "namespace": "istio-system"},
        "spec": {"gatewayClassName": "sandbox", "listeners": [listener]},
    });
    let mut files = variant(&[&attached, patch]);
    files.retain(|file| file.path != "public-gateway.yaml");
    files.push(FileEdit { path: "gateway.yaml".to_owned(), content: serde_yaml::to_string(&gateway).unwrap() });
    files
}

/// With plain Services; whoever comes from outside comes by a route of the user's own.
fn by_services(patch: &Value) -> Vec<FileEdit> {
    let plain = json!({
        "provider": "kubernetes",
        "service": {"gateways": null, "hosts": null, "trafficPolicy": null, "retries": null},
    });
    let route = json!({
        "apiVersion": "networking.istio.io/v1beta1", "kind": "VirtualService",
        "metadata": {"name": "outside", "namespace": "test"},
        "spec": {
            "hosts": ["*"], "gateways": ["istio-system/public-gateway"],
            "http": [{"route": [{"destination": {"host": "podinfo"}}]}],
        },
    });
    let mut files = variant(&[&plain, patch]);
    files.push(FileEdit { path: "outside.yaml".to_owned(), content: serde_yaml::to_string(&route).unwrap() });
    files
}

/// All users at once, after a round of checks. Nobody asks the canary before, so there is nothing to measure; the rounds are
/// long enough for a person to say no.
fn blue_green() -> Value {
    json!({"analysis": {"iterations": 1, "stepWeight": null, "maxWeight": null, "interval": "5m", "metrics": null}})
}

/// The same, with copies of their requests until then.
fn mirrored() -> Value {
    let mut patch = blue_green();
    patch["analysis"]["mirror"] = json!(true);
    patch
}

/// Some users, for two rounds.
fn ab() -> Value {
    let mut patch = blue_green();
    let (header, value) = INSIDER;
    patch["analysis"]["match"] = json!([{"headers": {header: {"exact": value}}}]);
    patch
}

/// Shares of the users, who stay where they were answered first, and go back step by step.
fn sticky() -> Value {
    json!({"analysis": {
        "stepWeightPromotion": 25,
        "sessionAffinity": {"cookieName": CANARY_COOKIE, "primaryCookieName": "first-side", "maxAge": 3600},
    }})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promotion_fails_no_request() {
    // Replaced pods of primary serve on for longer than the mesh is late; how long is the application's affair.
    let world = World::start(MESH, Duration::from_secs(2), PATIENT).await;
    world.push("3.1.1-slow-200");
    world.weight(25).await;
    world.phase(CanaryPhase::Succeeded).await;
    world.assert_no_failures("promotion").await;
    // From a slow revision back to a quick one: answers of the replaced pods are under way at every switch.
    world.push("3.1.2");
    world.weight(50).await;
    world.phase(CanaryPhase::Succeeded).await;
    world.assert_no_failures("promotion of the next revision").await;
    assert_eq!(world.own_failures(), 0, "none of the revisions answers 5xx");
    world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn supersede_and_rollback_fail_no_request_but_the_applications_own() {
    let world = World::start(SLOW_MESH, Duration::ZERO, PATIENT).await;
    world.push("3.1.1-slow-200");
    world.weight(50).await;
    world.push("3.1.2-errors-50-slow-200");
    world.weight(0).await;
    world.weight(25).await;
    world.assert_no_failures("supersede").await;
    world.phase(CanaryPhase::Failed).await;
    world.assert_no_failures("rollback").await;
    assert!(world.own_failures() > 0, "the bad revision served users");
    world.shutdown().await;
}

/// A rollback of which the mesh learns nothing: it goes on sending a quarter of the users to the canary.
async fn rollback_behind_the_meshs_back(drain: &'static str) -> (World, Hold) {
    let world = World::start(PROMPT_MESH, Duration::ZERO, Waits { drain, ..PATIENT }).await;
    world.push("3.1.1-errors-50");
    world.weight(25).await;
    world.eventually("users on the canary", async || world.own_failures() > 0).await;
    assert_eq!(world.failures(), BTreeMap::new());
    let hold = world.sandbox.traffic().hold(Part::Routes);
    world.abort().await;
    (world, hold)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_drain_a_rollback_fails_requests() {
    let (world, _hold) = rollback_behind_the_meshs_back(NO_TIME).await;
    world.phase(CanaryPhase::Failed).await;
    world.canary_is_gone().await;
    world.assert_fails(&[Failure::ConnectionRefused, Failure::ConnectionReset, Failure::NoHealthyUpstream]).await;
    world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_canary_drains_a_mesh_that_knows_nothing_fails_no_request() {
    let (world, _hold) = rollback_behind_the_meshs_back(FOR_EVER).await;
    world.waits_for("the canary to drain").await;
    let before = world.own_failures();
    world.assert_no_failures("weight 0, of which the mesh knows nothing").await;
    assert!(world.own_failures() > before, "users still reach the canary");
    world.shutdown().await;
}

/// A canary that becomes ready, and a mesh that knows none of its pods.
async fn canary_behind_the_meshs_back(settle: &'static str) -> (World, Hold) {
    let world = World::start(PROMPT_MESH, Duration::ZERO, Waits { settle, ..PATIENT }).await;
    let hold = world.sandbox.traffic().hold(Part::Endpoints);
    world.push("3.1.1");
    (world, hold)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weight_before_endpoints_fails_requests() {
    let (world, _hold) = canary_behind_the_meshs_back(NO_TIME).await;
    world.weight(25).await;
    world.assert_fails(&[Failure::NoHealthyUpstream]).await;
    world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_weight_before_endpoints_have_had_their_time() {
    let (world, _hold) = canary_behind_the_meshs_back(FOR_EVER).await;
    world.waits_for("proxies to learn of podinfo's pods").await;
    world.assert_no_failures("the canary became ready, of which the mesh knows nothing").await;
    world.shutdown().await;
}

/// A release and the rollback of the next one; nobody notices either.
async fn fails_no_request(manifests: Vec<FileEdit>) {
    let world = World::start_with(MESH, Duration::from_secs(2), PATIENT, manifests).await;
    *world.users.pinned.lock().unwrap() = Some("3.1.1-slow-200".to_owned());
    world.push("3.1.1-slow-200");
    world.phase(CanaryPhase::Succeeded).await;
    world.assert_no_failures("promotion").await;
    *world.users.pinned.lock().unwrap() = None;
    world.push("3.1.2-slow-200");
    world.is_answered_by("3.1.2-slow-200").await;
    world.abort().await;
    world.phase(CanaryPhase::Failed).await;
    world.assert_no_failures("rollback").await;
    world.shutdown().await;
}

/// That the one above is not blind: the mesh learns nothing of the way back, and nothing drains.
async fn fails_without_a_drain(manifests: Vec<FileEdit>, held: Part) {
    let waits = Waits { drain: NO_TIME, ..PATIENT };
    let world = World::start_with(PROMPT_MESH, Duration::ZERO, waits, manifests).await;
    world.push("3.1.1");
    world.is_answered_by("3.1.1").await;
    assert_eq!(world.failures(), BTreeMap::new());
    let _hold = world.sandbox.traffic().hold(held);
    world.abort().await;
    world.phase(CanaryPhase::Failed).await;
    world.canary_is_gone().await;
    world.assert_fails(&[Failure::ConnectionRefused, Failure::ConnectionReset, Failure::NoHealthyUpstream]).await;
    world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateway_api_fails_no_request() {
    fails_no_request(by_gateway_api(&json!({}))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateway_api_without_a_drain_fails_requests() {
    fails_without_a_drain(by_gateway_api(&json!({})), Part::Routes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blue_green_with_plain_services_fails_no_request() {
    fails_no_request(by_services(&blue_green())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blue_green_with_plain_services_without_a_drain_fails_requests() {
    fails_without_a_drain(by_services(&blue_green()), Part::Endpoints).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mirrored_blue_green_fails_no_request() {
    fails_no_request(variant(&[&mirrored()])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mirrored_blue_green_without_a_drain_fails_requests() {
    fails_without_a_drain(variant(&[&mirrored()]), Part::Routes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ab_testing_fails_no_request() {
    fails_no_request(by_gateway_api(&ab())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ab_testing_without_a_drain_fails_requests() {
    fails_without_a_drain(by_gateway_api(&ab()), Part::Routes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sticky_users_fail_no_request() {
    fails_no_request(variant(&[&sticky()])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sticky_users_without_a_drain_fail_requests() {
    fails_without_a_drain(variant(&[&sticky()]), Part::Routes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sticky_users_of_gateway_api_fail_no_request() {
    fails_no_request(by_gateway_api(&sticky())).await;
}
