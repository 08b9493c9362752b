//! No request fails because of a release. Constant load goes through ingress and forward proxy while revisions are
//! promoted, superseded and rolled back; every attempt to reach a pod counts, and nobody retries.
//!
//! The mesh takes changed routes and endpoints up to half a second late or a whole one, answers take long enough to span every switch,
//! and pods of the canary refuse connections the moment they are deleted. A release without a drain fails requests here,
//! so a test that sees none is not blind.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kube::Api;
use kube::runtime::wait::await_condition;
use serin::api::{Canary, CanaryPhase};
use serin::cli::run;
use serin::config::{RunArgs, Settings};
use serin::sandbox::repository::FileEdit;
use serin::sandbox::traffic::{Failure, RequestCounts, RetryMode, TrafficOptions};
use serin::sandbox::world::{Sandbox, SandboxOptions};
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::support::world::{example, patient};

/// Longest wait for one state.
const WAIT_MAX: Duration = Duration::from_secs(150);
/// Between two looks at what has no watch.
const LOOK: Duration = Duration::from_millis(50);
/// How much faster than real time analysis runs.
const SPEED: f64 = 30.0;
/// How late a mesh is, and the drain that is long enough for it and for the slowest answer.
const MESH: Mesh = Mesh { late: Duration::from_millis(500), seed: 7, drain: "2s" };
/// A slower one. With this seed it learns of each of the first routes at least 780 ms late: a canary that is scaled down
/// without a drain is gone by then, however busy the machine.
const SLOW_MESH: Mesh = Mesh { late: Duration::from_millis(1_000), seed: 19_873, drain: "3s" };
/// Rollbacks in which a missing drain has to show.
const ATTEMPTS_MAX: u32 = 8;
/// Clients of the ingress, and of the forward proxy.
const CLIENTS: (usize, usize) = (8, 4);
/// Time between two requests of a client.
const EVERY: Duration = Duration::from_millis(80);
/// Requests after the last write, in which what the mesh takes up late would show: about two seconds' worth.
const AFTERMATH: u64 = 300;
/// Most answers that are remembered in words.
const WORDS_MAX: usize = 20;

/// A mesh that takes changes up late, and what the daemon is told to do about it.
#[derive(Debug, Clone, Copy)]
struct Mesh {
    late: Duration,
    seed: u64,
    drain: &'static str,
}

/// Answers of the application to its users are its own affair; everything else that is not 200 is the release's.
#[derive(Debug, Default)]
struct Users {
    asked: AtomicU64,
    refused: Mutex<Vec<String>>,
}

impl Users {
    async fn ask(&self, client: &reqwest::Client, url: &str) {
        let said = match client.get(url).send().await {
            Ok(response) => {
                let status = response.status();
                let text = response.text().await.unwrap_or_else(|error| error.to_string());
                (status != 200 && !text.contains("simulated error")).then(|| format!("{status}: {}", text.trim()))
            }
            Err(error) => Some(error.to_string()),
        };
        self.asked.fetch_add(1, Ordering::Relaxed);
        if let Some(said) = said {
            let mut refused = self.refused.lock().unwrap();
            if refused.len() < WORDS_MAX {
                refused.push(format!("{url}: {said}"));
            }
        }
    }
}

/// Sandbox, daemon and users.
struct World {
    sandbox: Sandbox,
    canaries: Api<Canary>,
    users: Arc<Users>,
    before: RequestCounts,
    tasks: JoinSet<()>,
    _stop: DropGuard,
    _dir: tempfile::TempDir,
}

impl World {
    /// Initializes podinfo and starts the load. `grace` is how long a deleted pod still serves.
    async fn start(mesh: Mesh, grace: Duration) -> Self {
        let Mesh { late, seed, drain } = mesh;
        // Another test of the process may have installed it already.
        drop(rustls::crypto::ring::default_provider().install_default());
        let dir = tempfile::tempdir().unwrap();
        let traffic =
            TrafficOptions { retries: RetryMode::Off, propagation_max: late, seed, ..TrafficOptions::default() };
        let dir_path = dir.path().to_owned();
        let options =
            SandboxOptions { dir: dir_path, speed: SPEED, max_grace: grace, traffic, ..SandboxOptions::default() };
        let sandbox = Sandbox::start(options).await.unwrap();
        let text = sandbox.serin_yaml(SPEED);
        let written = text.lines().find(|line| line.starts_with("drain:")).expect("a drain").to_owned();
        let text = text.replace(&written, &format!("drain: {drain}"));
        let args = RunArgs { install_crds: true, ..RunArgs::default() };
        let settings = Settings::from_text("serin.yaml", &text, &args).unwrap();
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let shutdown = stop.clone();
        tasks.spawn(async move { run::daemon(settings, shutdown).await.expect("the daemon runs") });
        sandbox.repository().commit("Add podinfo 3.1.0", |_| Ok(manifests())).unwrap();
        let canaries = Api::namespaced(sandbox.client(), "test");
        let mut world = Self {
            canaries,
            sandbox,
            users: Arc::default(),
            before: RequestCounts::default(),
            tasks,
            _stop: stop.clone().drop_guard(),
            _dir: dir,
        };
        world.eventually("the Canary", async || world.canaries.get("podinfo").await.is_ok()).await;
        world.phase(CanaryPhase::Initialized).await;
        world.load(&stop).await;
        world
    }

    /// Users come when the first of them is served.
    async fn load(&mut self, stop: &CancellationToken) {
        let ingress = (client(None), format!("{}/", self.sandbox.ingress_url()));
        let proxied = (client(Some(self.sandbox.proxy_url())), "http://podinfo.test:9898/".to_owned());
        for (client, url) in [&ingress, &proxied] {
            self.eventually(url, async || client.get(url).send().await.is_ok_and(|answer| answer.status() == 200))
                .await;
        }
        self.before = self.sandbox.traffic().counts();
        let clients =
            std::iter::repeat_n(&ingress, CLIENTS.0).chain(std::iter::repeat_n(&proxied, CLIENTS.1)).cloned();
        for (client, url) in clients {
            let (users, stop) = (self.users.clone(), stop.clone());
            self.tasks.spawn(async move {
                let mut ticks = tokio::time::interval(EVERY);
                ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
                while stop.run_until_cancelled(ticks.tick()).await.is_some() {
                    users.ask(&client, &url).await;
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
        self.reaches(&format!("phase {phase:?}"), move |found, _| found == phase).await;
    }

    async fn weight(&self, weight: i64) {
        self.reaches(&format!("weight {weight}"), move |_, found| found == weight).await;
    }

    async fn reaches(&self, what: &str, is: impl Fn(CanaryPhase, i64) -> bool) {
        let reached = |canary: Option<&Canary>| {
            let status = canary.and_then(|canary| canary.status.as_ref());
            status.is_some_and(|status| is(status.phase, status.canary_weight))
        };
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

    async fn shutdown(mut self) {
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
    let read = |name: &str| std::fs::read_to_string(Path::new(example()).join(name)).unwrap();
    let canary = patient(&read("canary.yaml"))
        .replace("stepWeight: 10", "stepWeight: 25")
        // A second is not much on a busy machine.
        .replace("perTryTimeout: 1s", "perTryTimeout: 15s");
    let canary = canary.split("    webhooks:").next().unwrap_or_default().to_owned();
    let names = ["namespace.yaml", "deployment.yaml", "hpa.yaml", "public-gateway.yaml", "metric-template.yaml"];
    let mut files: Vec<FileEdit> =
        names.iter().map(|name| FileEdit { path: (*name).to_owned(), content: read(name) }).collect();
    files.push(FileEdit { path: "canary.yaml".to_owned(), content: canary });
    files
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promotion_fails_no_request() {
    // Replaced pods of primary serve on for longer than the mesh is late; how long is the application's affair.
    let world = World::start(MESH, Duration::from_secs(2)).await;
    world.push("3.1.1-slow-200");
    world.weight(25).await;
    world.phase(CanaryPhase::Succeeded).await;
    world.assert_no_failures("promotion").await;
    // From a slow revision back to a quick one: answers of the replaced pods are under way at every switch.
    world.push("3.1.2");
    world.weight(50).await;
    world.phase(CanaryPhase::Succeeded).await;
    world.assert_no_failures("promotion of the next revision").await;
    world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn supersede_and_rollback_fail_no_request_but_the_applications_own() {
    let world = World::start(SLOW_MESH, Duration::ZERO).await;
    world.push("3.1.1-slow-200");
    world.weight(50).await;
    world.push("3.1.2-errors-50-slow-200");
    world.weight(0).await;
    world.weight(25).await;
    world.assert_no_failures("supersede").await;
    world.phase(CanaryPhase::Failed).await;
    world.assert_no_failures("rollback").await;
    let own = world.sandbox.traffic().counts().failures_of(Failure::ServerError);
    assert!(own > 0, "the bad revision served users");
    world.shutdown().await;
}

#[ignore = "proves that the tests above can fail, but by chance (up to 8 attempts): run with --ignored"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_drain_a_rollback_fails_requests() {
    let world = World::start(Mesh { drain: "0s", ..SLOW_MESH }, Duration::ZERO).await;
    for attempt in 1..=ATTEMPTS_MAX {
        world.push(&format!("3.1.{attempt}-errors-50"));
        world.weight(25).await;
        world.phase(CanaryPhase::Failed).await;
        world.aftermath().await;
        if !world.failures().is_empty() {
            break;
        }
    }
    let failures = world.failures();
    let of = |failure| failures.get(&failure).copied().unwrap_or(0);
    assert!(of(Failure::ConnectionRefused) + of(Failure::NoHealthyUpstream) > 0, "{failures:?}");
    world.shutdown().await;
}
