//! Sandbox, daemon and users.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use kube::runtime::wait::await_condition;
use serde_json::json;
use serin::api::annotations::REQUEST;
use serin::api::{Canary, CanaryPhase, CanaryStatus};
use serin::cli::run::{self, Backends};
use serin::cluster::{Cluster, ConnectOptions};
use serin::config::{RunArgs, Settings};
use serin::release::Guards;
use serin::sandbox::load::Loads;
use serin::sandbox::repository::FileEdit;
use serin::sandbox::traffic::{Failure, RequestCounts, RetryMode, TrafficOptions};
use serin::sandbox::world::{Sandbox, SandboxOptions};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::manifests::manifests;
use super::users::{User, Users};

/// Longest wait for one state.
const WAIT_MAX: Duration = Duration::from_secs(300);
/// Between two looks at what has no watch.
const LOOK: Duration = Duration::from_millis(50);
/// How much faster than real time analysis runs.
const SPEED: f64 = 30.0;
/// How late a mesh is.
pub(super) const MESH: Mesh = Mesh { late: Duration::from_millis(500), seed: 7 };
/// A slower one.
pub(super) const SLOW_MESH: Mesh = Mesh { late: Duration::from_millis(1_000), seed: 19_873 };
/// One that learns at once, unless it is held.
pub(super) const PROMPT_MESH: Mesh = Mesh { late: Duration::ZERO, seed: 7 };
/// A drain that is long enough for both and for the slowest answer, and the time that endpoints get.
pub(super) const PATIENT: Waits = Waits { drain: "3s", settle: "2s", guards: ALL };
/// Every rule that keeps requests from failing for want of pods.
pub(super) const ALL: Guards = Guards { capacity: true, floor: true, relief: true, apex: true };
/// The same, so long that nothing goes on for the rest of a test.
pub(super) const FOR_EVER: &str = "1h";
/// Not at all.
pub(super) const NO_TIME: &str = "0s";
/// Clients of the ingress, and of the forward proxy.
const CLIENTS: (usize, usize) = (8, 4);
/// Time between two requests of a client.
const EVERY: Duration = Duration::from_millis(80);
/// The same of all of them, in a second.
const RATE: NonZeroU32 = NonZeroU32::new(150).unwrap();
/// Requests after the last write, in which what the mesh takes up late would show: about two seconds' worth.
const AFTERMATH: u64 = 300;
/// A mesh that takes changes up late.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mesh {
    late: Duration,
    seed: u64,
}

/// What the daemon is told to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Waits {
    pub(super) drain: &'static str,
    pub(super) settle: &'static str,
    pub(super) guards: Guards,
}
/// Sandbox, daemon and users.
pub(super) struct World {
    pub(super) sandbox: Sandbox,
    canaries: Api<Canary>,
    pub(super) users: Arc<Users>,
    before: RequestCounts,
    daemon: Option<Daemon>,
    /// What the daemon was told.
    waits: Waits,
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
        let Waits { drain, settle, guards } = waits;
        let text = sandbox.serin_yaml(SPEED);
        let written = text.lines().find(|line| line.starts_with("drain:")).expect("a drain").to_owned();
        let text = text.replace(&written, &format!("drain: {drain}\nsettle: {settle}"));
        let args = RunArgs { install_crds: true, ..RunArgs::default() };
        let settings = Settings::from_text("serin.yaml", &text, &args).unwrap();
        let stop = CancellationToken::new();
        let shutdown = stop.clone();
        let running = tokio::spawn(async move {
            while !shutdown.is_cancelled() {
                let options =
                    ConnectOptions { kubeconfig: settings.kubeconfig.clone(), context: settings.context.clone() };
                let cluster = Cluster::connect(&options).await.expect("the sandbox answers");
                let backends = Backends::over_http(&settings, &cluster).await.expect("a port is free");
                let backends = Backends { guards, ..backends };
                let ended = run::daemon_with(settings.clone(), cluster, backends, shutdown.clone()).await;
                // Who gets no time on a busy machine loses its lease and ends, and is started again, as in a pod.
                let is_lost = |error: &anyhow::Error| format!("{error:#}").contains("lease");
                assert!(ended.as_ref().err().is_none_or(is_lost), "{ended:?}");
            }
        });
        Self { running, stop: stop.drop_guard() }
    }

    pub(super) async fn shutdown(self) {
        drop(self.stop);
        self.running.await.unwrap();
    }
}

impl World {
    /// Initializes podinfo, starts a daemon that waits like this, and the load. `grace` is how long a deleted pod still
    /// serves.
    pub(super) async fn start(mesh: Mesh, grace: Duration, waits: Waits) -> Self {
        Self::start_with(mesh, grace, waits, manifests()).await
    }

    /// The same with other manifests.
    pub(super) async fn start_with(mesh: Mesh, grace: Duration, waits: Waits, manifests: Vec<FileEdit>) -> Self {
        let Mesh { late, seed } = mesh;
        // Another test of the process may have installed it already.
        drop(rustls::crypto::ring::default_provider().install_default());
        let dir = tempfile::tempdir().unwrap();
        let traffic = TrafficOptions {
            retries: RetryMode::Off,
            propagation_max: late,
            seed,
            programs: serin::loadtest::programs(),
            loads: Loads::counting(RATE),
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
            waits: PATIENT,
            tasks: JoinSet::new(),
            _stop: stop.clone().drop_guard(),
            _dir: dir,
        };
        world.eventually("the Canary", async || world.canaries.get("podinfo").await.is_ok()).await;
        world.phase(CanaryPhase::Initialized).await;
        world.restart(waits).await;
        world.load(&stop).await;
        world
    }

    /// Asks for a rollback, as `serin abort` does.
    pub(super) async fn abort(&self) {
        let canary = self.canaries.get("podinfo").await.unwrap();
        let release = canary.status.and_then(|status| status.serin?.release).expect("a release");
        let request = json!({"metadata": {"annotations": {REQUEST: format!("abort/{release}/1")}}});
        self.canaries.patch("podinfo", &PatchParams::default(), &Patch::Merge(request)).await.unwrap();
    }

    /// Another daemon, with these rules.
    pub(super) async fn guard(&mut self, guards: Guards) {
        self.restart(Waits { guards, ..PATIENT }).await;
    }

    /// Waits until primary runs a version and its release is over.
    pub(super) async fn promoted(&self, tag: &str) {
        let deployments: Api<Deployment> = Api::namespaced(self.sandbox.client(), "test");
        let runs = async || {
            let primary = deployments.get("podinfo-primary").await.unwrap();
            let image = primary.spec.and_then(|spec| spec.template.spec?.containers[0].image.clone());
            image.is_some_and(|image| image.ends_with(&format!(":{tag}")))
        };
        self.eventually(&format!("{tag} on primary"), runs).await;
        self.phase(CanaryPhase::Succeeded).await;
    }

    /// Ends the daemon and starts another one, unless it is as wanted.
    async fn restart(&mut self, waits: Waits) {
        if self.waits == waits {
            return;
        }
        self.waits = waits;
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

    pub(super) fn push(&self, tag: &str) {
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

    pub(super) async fn phase(&self, phase: CanaryPhase) {
        self.reaches(&format!("phase {phase:?}"), move |status| status.phase == phase).await;
    }

    /// Waits until a user gets an answer of a version.
    pub(super) async fn is_answered_by(&self, version: &str) {
        self.eventually(version, async || self.users.answered_by(version) > 0).await;
    }

    pub(super) async fn weight(&self, weight: i64) {
        self.reaches(&format!("weight {weight}"), move |status| status.canary_weight == weight).await;
    }

    /// Waits until the engine says that it waits for something whose words begin like this.
    pub(super) async fn waits_for(&self, words: &str) {
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

    pub(super) async fn eventually(&self, what: &str, is: impl AsyncFn() -> bool) {
        let looking = async {
            let mut looks = tokio::time::interval(LOOK);
            while !is().await {
                looks.tick().await;
            }
        };
        tokio::time::timeout(WAIT_MAX, looking).await.unwrap_or_else(|_| panic!("never: {what}"));
    }

    /// Failed attempts since the load began, the application's own 5xx left out.
    pub(super) fn failures(&self) -> BTreeMap<Failure, u64> {
        let counts = self.sandbox.traffic().counts();
        let failures = counts.failures.into_iter().filter(|(failure, _)| *failure != Failure::ServerError);
        failures
            .map(|(failure, count)| (failure, count - self.before.failures_of(failure)))
            .filter(|(_, count)| *count > 0)
            .collect()
    }

    /// Lets the users go on for so many requests.
    pub(super) async fn goes_on(&self, requests: u64) {
        let until = self.asked() + requests;
        self.eventually("more requests", async || self.asked() >= until).await;
    }

    /// Lets the users go on for a while, or until a request fails.
    async fn aftermath(&self) {
        let until = self.asked() + AFTERMATH;
        let over = async || self.asked() >= until || !self.failures().is_empty();
        self.eventually("more requests", over).await;
    }

    pub(super) async fn assert_no_failures(&self, after: &str) {
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
    pub(super) fn own_failures(&self) -> u64 {
        self.sandbox.traffic().counts().failures_of(Failure::ServerError)
            - self.before.failures_of(Failure::ServerError)
    }

    /// Requests that were made until now.
    pub(super) fn asked(&self) -> u64 {
        self.users.asked.load(Ordering::Relaxed)
    }

    /// Waits until so many of primary's pods serve: an autoscaler follows the load to there. What failed before is forgotten.
    pub(super) async fn warmed_up(&mut self, pods: i32) {
        self.eventually(&format!("{pods} pods of primary"), async || self.pods_of_primary().await >= pods).await;
        // The mesh learns of the last of them, too.
        self.goes_on(AFTERMATH).await;
        self.users.refused.lock().unwrap().clear();
        self.before = self.sandbox.traffic().counts();
    }

    pub(super) async fn pods_of_primary(&self) -> i32 {
        let deployments: Api<Deployment> = Api::namespaced(self.sandbox.client(), "test");
        let primary = deployments.get("podinfo-primary").await.unwrap();
        primary.status.and_then(|status| status.available_replicas).unwrap_or(0)
    }

    /// Waits until somebody is refused what enough pods would have answered.
    pub(super) async fn assert_refuses(&self, expected: &[&str]) {
        let refused = async || !self.users.refused.lock().unwrap().is_empty();
        self.eventually("a refused user", refused).await;
        let refused = self.users.refused.lock().unwrap();
        let is_expected = |said: &String| expected.iter().any(|words| said.contains(words));
        assert!(refused.iter().all(is_expected), "{refused:#?}");
    }

    /// Waits until some attempt fails that the healthy version would have answered; it is one of these.
    pub(super) async fn assert_fails(&self, expected: &[Failure]) {
        self.eventually("a failed request", async || !self.failures().is_empty()).await;
        let failures = self.failures();
        assert!(failures.keys().all(|failure| expected.contains(failure)), "{failures:?}");
    }

    pub(super) async fn canary_is_gone(&self) {
        let pods: Api<Pod> = Api::namespaced(self.sandbox.client(), "test");
        let canary = ListParams::default().labels("app=podinfo");
        self.eventually("the canary's pods to be gone", async || {
            pods.list(&canary).await.is_ok_and(|pods| pods.items.is_empty())
        })
        .await;
    }

    pub(super) async fn shutdown(mut self) {
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
