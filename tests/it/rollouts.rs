//! Seed 004's story through the whole daemon: a Rollout, its Services and its VirtualService come from Git, a push is promoted step
//! by step, another one is aborted, with the commands that Argo's plugin sends; and no request fails.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kube::Api;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use kube::runtime::wait::await_condition;
use serde_json::{Value, json};
use serin::cli::run;
use serin::config::{RunArgs, Settings};
use serin::rollout::keys::HASH;
use serin::sandbox::repository::FileEdit;
use serin::sandbox::traffic::{Failure, RetryMode, TrafficOptions};
use serin::sandbox::world::{Sandbox, SandboxOptions};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::{CancellationToken, DropGuard};

const NAME: &str = "istio-rollout";
/// Longest wait for one state.
const WAIT_MAX: Duration = Duration::from_secs(150);
/// How late the mesh learns of routes and endpoints.
const LATE: Duration = Duration::from_millis(500);
/// Clients of the ingress, and the time between two requests of one.
const CLIENTS: usize = 8;
const EVERY: Duration = Duration::from_millis(80);
/// Requests after the last write.
const AFTERMATH: u64 = 300;

struct World {
    sandbox: Sandbox,
    asked: Arc<AtomicU64>,
    refused: Arc<Mutex<Vec<String>>>,
    before: u64,
    daemon: JoinHandle<()>,
    stop: DropGuard,
    tasks: JoinSet<()>,
    _dir: tempfile::TempDir,
}

impl World {
    async fn start() -> Self {
        drop(rustls::crypto::ring::default_provider().install_default());
        let dir = tempfile::tempdir().unwrap();
        let traffic = TrafficOptions {
            retries: RetryMode::Off,
            propagation_max: LATE,
            seed: 7,
            programs: serin::loadtest::programs(),
            ..TrafficOptions::default()
        };
        let dir_path = dir.path().to_owned();
        let options = SandboxOptions { dir: dir_path, traffic, rollouts: true, ..SandboxOptions::default() };
        let sandbox = Sandbox::start(options).await.unwrap();
        sandbox.repository().commit("Add the demo", |_| Ok(manifests())).unwrap();
        let text = sandbox.serin_yaml(1.0).replace("drain: 5s", "drain: 3s");
        let args = RunArgs { install_crds: true, ..RunArgs::default() };
        let settings = Settings::from_text("serin.yaml", &text, &args).unwrap();
        assert!(settings.rollouts);
        let stop = CancellationToken::new();
        let shutdown = stop.clone();
        let daemon = tokio::spawn(async move { run::daemon(settings, shutdown).await.expect("the daemon runs") });
        let mut world = Self {
            sandbox,
            asked: Arc::default(),
            refused: Arc::default(),
            before: 0,
            daemon,
            stop: stop.drop_guard(),
            tasks: JoinSet::new(),
            _dir: dir,
        };
        world.reaches("Healthy", |status| status["phase"] == "Healthy").await;
        world.load().await;
        world
    }

    fn api(&self, group: &str, version: &str, kind: &str) -> Api<DynamicObject> {
        let kind = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        Api::namespaced_with(self.sandbox.client(), "demo", &kind)
    }

    fn rollouts(&self) -> Api<DynamicObject> {
        self.api("argoproj.io", "v1alpha1", "Rollout")
    }

    async fn reaches(&self, what: &str, is: impl Fn(&Value) -> bool) {
        let shows = |object: Option<&DynamicObject>| object.is_some_and(|object| is(&object.data["status"]));
        // Before its kind and its namespace are there the watch only begins anew.
        let reached = await_condition(self.rollouts(), NAME, shows);
        if tokio::time::timeout(WAIT_MAX, reached).await.is_err() {
            let found = self.rollouts().get(NAME).await;
            panic!("never {what}: {:#?}", found.map(|object| object.data["status"].clone()));
        }
    }

    async fn paused_at(&self, hash: Option<&str>) -> String {
        let fits = |status: &Value| {
            status["message"] == "CanaryPauseStep" && hash.is_none_or(|old| status["currentPodHash"] != old)
        };
        self.reaches("paused", fits).await;
        let rollout = self.rollouts().get(NAME).await.unwrap();
        rollout.data["status"]["currentPodHash"].as_str().unwrap().to_owned()
    }

    /// As Argo's plugin gives commands.
    async fn command(&self, patch: Value) {
        let patch = Patch::Merge(json!({"status": patch}));
        self.rollouts().patch_status(NAME, &PatchParams::default(), &patch).await.unwrap();
    }

    fn push(&self, old: &str, new: &str) {
        let edit = |repository: &serin::sandbox::repository::Repository| {
            let content = repository.read("main", "rollout.yaml")?.replace(&format!(":{old}"), &format!(":{new}"));
            Ok(vec![FileEdit { path: "rollout.yaml".to_owned(), content }])
        };
        self.sandbox.repository().commit(&format!("Release {new}"), edit).unwrap();
    }

    async fn weights(&self) -> (i64, i64) {
        let route = self.api("networking.istio.io", "v1", "VirtualService").get(NAME).await.unwrap();
        let weight = |index: usize| route.data["spec"]["http"][0]["route"][index]["weight"].as_i64().unwrap_or(0);
        (weight(0), weight(1))
    }

    async fn led(&self, side: &str) -> String {
        let service = self.api("", "v1", "Service").get(&format!("{NAME}-{side}")).await.unwrap();
        service.data["spec"]["selector"][HASH].as_str().unwrap_or_default().to_owned()
    }

    async fn load(&mut self) {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = format!("{}/", self.sandbox.ingress_url());
        self.eventually("an answer", async || {
            client.get(&url).send().await.is_ok_and(|answer| answer.status() == 200)
        })
        .await;
        self.before = self.failures();
        for _ in 0..CLIENTS {
            let (client, url) = (client.clone(), url.clone());
            let (asked, refused) = (self.asked.clone(), self.refused.clone());
            self.tasks.spawn(async move {
                let mut ticks = tokio::time::interval(EVERY);
                loop {
                    ticks.tick().await;
                    let said = match client.get(&url).send().await {
                        Ok(answer) if answer.status() == 200 => None,
                        Ok(answer) => Some(answer.status().to_string()),
                        Err(error) => Some(error.to_string()),
                    };
                    asked.fetch_add(1, Ordering::Relaxed);
                    refused.lock().unwrap().extend(said);
                }
            });
        }
    }

    /// Failed attempts to reach a pod.
    fn failures(&self) -> u64 {
        let counts = self.sandbox.traffic().counts();
        let failures = counts.failures.into_iter().filter(|(failure, _)| *failure != Failure::ServerError);
        failures.map(|(_, count)| count).sum()
    }

    async fn eventually(&self, what: &str, is: impl AsyncFn() -> bool) {
        let looking = async {
            let mut looks = tokio::time::interval(Duration::from_millis(50));
            while !is().await {
                looks.tick().await;
            }
        };
        tokio::time::timeout(WAIT_MAX, looking).await.unwrap_or_else(|_| panic!("never: {what}"));
    }

    async fn assert_no_failures(&self, after: &str) {
        let until = self.asked.load(Ordering::Relaxed) + AFTERMATH;
        self.eventually("more requests", async || self.asked.load(Ordering::Relaxed) >= until).await;
        let refused = self.refused.lock().unwrap();
        let failed = self.failures() - self.before;
        let newest = self.sandbox.traffic().counts().failed;
        assert!(failed == 0 && refused.is_empty(), "after {after}: {failed}, users saw {refused:?}, {newest:?}");
    }

    async fn shutdown(mut self) {
        self.tasks.shutdown().await;
        drop(self.stop);
        self.daemon.await.unwrap();
        self.sandbox.shutdown().await;
    }
}

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/rollouts")
}

/// The example with fewer and shorter steps.
fn manifests() -> Vec<FileEdit> {
    let read = |name: &str| std::fs::read_to_string(example().join(name)).unwrap();
    let mut rollout: Value = serde_yaml::from_str(&read("rollout.yaml")).unwrap();
    rollout["spec"]["strategy"]["canary"]["steps"] = json!([
        {"setWeight": 20}, {"pause": {}}, {"setWeight": 60}, {"pause": {"duration": "2s"}}, {"setWeight": 90}, {"pause": {"duration": 1}}
    ]);
    rollout["spec"]["strategy"]["canary"]["scaleDownDelaySeconds"] = json!(3);
    rollout["spec"]["strategy"]["canary"]["abortScaleDownDelaySeconds"] = json!(3);
    rollout["spec"]["replicas"] = json!(2);
    let names = ["namespace.yaml", "services.yaml", "virtualservice.yaml"];
    let files = names.map(|name| FileEdit { path: name.to_owned(), content: read(name) });
    let rollout = FileEdit { path: "rollout.yaml".to_owned(), content: serde_yaml::to_string(&rollout).unwrap() };
    files.into_iter().chain([rollout]).collect()
}

#[tokio::test]
async fn a_push_is_promoted_step_by_step_and_an_aborted_one_goes_back_without_a_failed_request() {
    let world = World::start().await;
    assert_eq!(world.weights().await, (100, 0));
    let blue = world.led("stable").await;
    assert!(!blue.is_empty());

    world.push("blue", "yellow");
    let yellow = world.paused_at(None).await;
    assert_eq!(world.weights().await, (80, 20));
    assert_eq!((world.led("stable").await, world.led("canary").await), (blue.clone(), yellow.clone()));
    // A commit in the middle brings Services and route anew: what is the engine's stays.
    let relabel = |repository: &serin::sandbox::repository::Repository| {
        let labelled = |path: &str| {
            let content = repository
                .read("main", path)?
                .replace("  namespace: demo\n", "  namespace: demo\n  labels: {team: demo}\n");
            Ok::<_, serin::sandbox::repository::RepositoryError>(FileEdit { path: path.to_owned(), content })
        };
        Ok(vec![labelled("services.yaml")?, labelled("virtualservice.yaml")?])
    };
    world.sandbox.repository().commit("Label them", relabel).unwrap();
    world
        .eventually("the label", async || {
            let route = world.api("networking.istio.io", "v1", "VirtualService").get(NAME).await.unwrap();
            route.metadata.labels.is_some_and(|labels| labels.contains_key("team"))
        })
        .await;
    assert_eq!(world.weights().await, (80, 20));
    assert_eq!((world.led("stable").await, world.led("canary").await), (blue, yellow.clone()));

    world.command(json!({"pauseConditions": null})).await;
    world.reaches("Healthy", |status| status["phase"] == "Healthy" && status["stableRS"] == yellow.as_str()).await;
    world.eventually("the route at rest", async || world.weights().await == (100, 0)).await;
    world.eventually("one set", async || replicas(&world).await == [0, 2]).await;
    world.assert_no_failures("the promotion").await;

    world.push("yellow", "green");
    world.paused_at(Some(&yellow)).await;
    assert_eq!(world.weights().await, (80, 20));
    world.command(json!({"abort": true})).await;
    world.reaches("aborted", |status| status["phase"] == "Degraded" && status["abort"] == true).await;
    world.eventually("the route at rest", async || world.weights().await == (100, 0)).await;
    world.eventually("one set", async || replicas(&world).await == [0, 2, 0]).await;
    assert_eq!(world.led("stable").await, yellow);
    world.assert_no_failures("the abort").await;

    // It is put right in Git, too, and does not begin by itself when it is pushed again.
    let says = |tag: &str| {
        let text = world.sandbox.repository().read("main", "rollout.yaml");
        text.is_ok_and(|text| text.contains(&format!(":{tag}")))
    };
    world.eventually("the rollback commit", async || says("yellow")).await;
    world.reaches("Healthy again", |status| status["phase"] == "Healthy").await;
    world.push("yellow", "green");
    let is_refused = |status: &Value| {
        let message = status["message"].as_str().unwrap_or_default();
        status["phase"] == "Degraded" && message.starts_with("RolloutAborted")
    };
    world.reaches("refused", is_refused).await;
    assert_eq!((replicas(&world).await, world.led("stable").await), (vec![0, 2, 0], yellow));
    assert!(says("green"));
    world.shutdown().await;
}

/// Sizes of the sets, oldest revision first.
async fn replicas(world: &World) -> Vec<i64> {
    let sets = world.api("apps", "v1", "ReplicaSet").list(&Default::default()).await.unwrap().items;
    let mut sets: Vec<(u64, i64)> = sets
        .into_iter()
        .map(|set| {
            let revision =
                set.metadata.annotations.as_ref().unwrap()["rollout.argoproj.io/revision"].parse().unwrap();
            (revision, set.data["spec"]["replicas"].as_i64().unwrap())
        })
        .collect();
    sets.sort_unstable();
    sets.into_iter().map(|(_, replicas)| replicas).collect()
}
