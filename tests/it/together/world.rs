//! The embedded cluster with its controllers, a bare repository, and the whole daemon in this process.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{DeleteParams, DynamicObject, PostParams};
use kube::runtime::wait::await_condition;
use serde_json::{Value, json};
use serin::alert::Chats;
use serin::analysis::Reading;
use serin::cli::reload::SettingsHealth;
use serin::cli::run::{Backends, daemon_with};
use serin::cluster::{Clock, Cluster, NoProbe};
use serin::config::{RunArgs, Settings};
use serin::forge::Forge;
use serin::hook::{HookCall, HookCaller};
use serin::metrics::{Endpoint, MetricProvider};
use serin::model::CommitId;
use serin::release::{Guards, HookReply};
use serin::sandbox::apiserver::ApiServer;
use serin::sandbox::controllers::{self, ControllerOptions};
use serin::sandbox::crds;
use serin::sandbox::repository::{BRANCH, FileEdit, Repository};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::alerts::Room;

/// Longest virtual time anything here may take.
const CAP: Duration = Duration::from_secs(3600);
/// Virtual time between two looks at what has no watch.
const LOOK: Duration = Duration::from_millis(500);
/// Virtual time in which whatever follows has followed: more than a batch of the record and a poll of the branch.
pub(super) const QUIET: Duration = Duration::from_secs(60);
const START: &str = "2026-01-01T00:00:00Z";
/// The file that is pushed.
const DEPLOYMENT: &str = "deployment.yaml";

/// Whether a Canary says that it does not release what failed before.
pub(super) fn refuses(canary: &Value) -> bool {
    canary["status"]["serin"]["waitingOn"].as_str().is_some_and(|waits| waits.contains("failed before"))
}

/// Every check passes or, if told so, the success rate does not; every hook says yes, but gates while they are closed, and
/// those that would roll back.
#[derive(Default)]
struct Outside {
    failing: AtomicBool,
    closed: AtomicBool,
}

impl MetricProvider for Outside {
    fn query<'a>(&'a self, _endpoint: &'a Endpoint, query: &'a str) -> BoxFuture<'a, Reading> {
        let value = if query.contains("histogram_quantile") {
            120.0
        } else if query.contains("404") || query == "1" {
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
        let url = &call.hook.url;
        let gate = url.contains("/gate/") && self.closed.load(Ordering::Relaxed);
        Box::pin(std::future::ready(HookReply {
            accepted: !gate && !url.contains("/rollback/"),
            body: String::new(),
        }))
    }
}

/// What is peculiar about a world.
pub(super) struct Setup {
    pub(super) rollback: &'static str,
    pub(super) forge: Option<Arc<dyn Forge>>,
    pub(super) room: Option<Arc<Room>>,
    /// `cluster.name`.
    pub(super) name: &'static str,
    /// `git.path`: the folder that the manifests are in, with a `/` at its end, or nothing.
    pub(super) path: &'static str,
    /// What is in Git instead of `examples/podinfo`; nothing is waited for then.
    pub(super) files: Option<Vec<FileEdit>>,
    /// A repository that is there already.
    pub(super) repository: Option<PathBuf>,
    /// Further settings.
    pub(super) more: Value,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            rollback: "record",
            forge: None,
            room: None,
            name: "test",
            path: "",
            files: None,
            repository: None,
            more: json!({}),
        }
    }
}

/// All of it.
pub(super) struct World {
    pub(super) client: kube::Client,
    pub(super) repository: Repository,
    cluster: Cluster,
    clock: Clock,
    outside: Arc<Outside>,
    folder: tempfile::TempDir,
    rollback: &'static str,
    forge: Option<Arc<dyn Forge>>,
    /// Where alerts go.
    pub(super) room: Option<Arc<Room>>,
    name: &'static str,
    path: &'static str,
    more: Value,
    daemon: Option<DropGuard>,
    _controllers: DropGuard,
}

impl World {
    /// With `examples/podinfo` in Git, and running; `rollback` is the setting of that name.
    pub(super) async fn new(rollback: &'static str) -> Self {
        Self::set_up(Setup { rollback, ..Setup::default() }).await
    }

    /// With these files in Git, of which the folder `path` is watched, failures undone there, and a chat.
    pub(super) async fn of(files: Vec<FileEdit>, path: &'static str) -> Self {
        let room = Some(Arc::default());
        Self::set_up(Setup { rollback: "commit", path, room, files: Some(files), ..Setup::default() }).await
    }

    /// The same with a chat.
    pub(super) async fn with_chats() -> Self {
        Self::set_up(Setup { room: Some(Arc::default()), ..Setup::default() }).await
    }

    /// The same, whose commits get statuses at a forge.
    pub(super) async fn with_forge(rollback: &'static str, forge: Arc<dyn Forge>) -> Self {
        Self::set_up(Setup { rollback, forge: Some(forge), ..Setup::default() }).await
    }

    pub(super) async fn set_up(setup: Setup) -> Self {
        let Setup { rollback, forge, room, name, path, files, repository, more } = setup;
        let folder = tempfile::tempdir().unwrap();
        let client = ApiServer::new().client();
        let clock = Clock::following(START.parse().unwrap());
        let shutdown = CancellationToken::new();
        tokio::spawn(controllers::run(client.clone(), ControllerOptions::default(), shutdown.clone()));
        for definition in crds::istio().unwrap() {
            Api::all(client.clone()).create(&PostParams::default(), &definition).await.unwrap();
        }
        for name in ["istio-system", "serin-system"] {
            let mut namespace = Namespace::default();
            namespace.metadata.name = Some(name.to_owned());
            Api::all(client.clone()).create(&PostParams::default(), &namespace).await.unwrap();
        }
        let place = repository.unwrap_or_else(|| folder.path().join("repo.git"));
        let repository = Repository::open_or_init(&place).unwrap();
        let awaited = files.is_none();
        let files = files.unwrap_or_else(|| example(path));
        repository.commit("Add podinfo 3.1.0", |_| Ok(files.clone())).unwrap();
        let cluster = Cluster::from_client(client.clone());
        let mut world = Self {
            client,
            repository,
            cluster,
            clock,
            outside: Arc::default(),
            folder,
            rollback,
            forge,
            room,
            name,
            path,
            more,
            daemon: None,
            _controllers: shutdown.drop_guard(),
        };
        world.start();
        if awaited {
            world.reaches("Initialized").await;
        }
        world
    }

    /// Starts a daemon.
    pub(super) fn start(&mut self) {
        let mut text = json!({
            "cluster": {"name": self.name},
            "git": {"url": self.repository.path(), "path": if self.path.is_empty() { "." } else { self.path.trim_end_matches('/') },
                "pollInterval": "30s"},
            "rollback": self.rollback,
            "metrics": {"address": "http://prometheus"},
            "stateDir": self.state(),
        });
        json_patch::merge(&mut text, &self.more);
        let args = RunArgs { install_crds: true, no_lease: true, ..RunArgs::default() };
        let settings = Settings::from_text("serin.yaml", &text.to_string(), &args).unwrap();
        let backends = Backends {
            metrics: self.outside.clone(),
            hooks: self.outside.clone(),
            forge: self.forge.clone(),
            chats: self.room.clone().map(|room| -> Arc<dyn Chats> { room }),
            probe: Arc::new(NoProbe),
            clock: self.clock.clone(),
            listener: None,
            guards: Guards::default(),
            health: SettingsHealth::default(),
        };
        let stop = CancellationToken::new();
        let daemon = daemon_with(settings, Cluster::from_client(self.client.clone()), backends, stop.clone());
        tokio::spawn(async move { daemon.await.expect("the daemon runs") });
        self.daemon = Some(stop.drop_guard());
    }

    /// Stops it at once.
    pub(super) fn stop(&mut self) {
        self.daemon = None;
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// From here on the success rate is bad, or well again.
    pub(super) fn failing(&self, failing: bool) {
        self.outside.failing.store(failing, Ordering::Relaxed);
    }

    /// Pushes a version that fails, and waits until the record has it; after it everything is well again.
    pub(super) async fn fails(&self, tag: &str) {
        self.failing(true);
        self.push(tag);
        self.reaches("Failed").await;
        tokio::time::sleep(QUIET).await;
        self.failing(false);
    }

    /// From here on gates are closed, or open again.
    pub(super) fn closed(&self, closed: bool) {
        self.outside.closed.store(closed, Ordering::Relaxed);
    }

    /// Pushes another image tag.
    pub(super) fn push(&self, tag: &str) {
        let path = format!("{}{DEPLOYMENT}", self.path);
        let edit = |repository: &Repository| {
            let text = repository.read(BRANCH, &path)?;
            let old = text.split("podinfo:").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
            let content = text.replacen(&format!("podinfo:{old}"), &format!("podinfo:{tag}"), 1);
            Ok(vec![FileEdit { path: path.clone(), content }])
        };
        self.repository.commit(&format!("Release podinfo {tag}"), edit).unwrap();
    }

    /// The watched branch's commit.
    pub(super) fn tip(&self) -> CommitId {
        self.repository.tip(BRANCH).unwrap().unwrap().id
    }

    /// How far this world's clock is ahead of another's.
    pub(super) fn ahead_of(&self, other: &Self) -> SignedDuration {
        self.clock.now().duration_since(other.clock.now())
    }

    /// Waits until whatever follows has followed.
    pub(super) async fn quiet(&self) {
        tokio::time::sleep(QUIET).await;
    }

    pub(super) async fn api(&self, group: &str, version: &str, kind: &str) -> Api<DynamicObject> {
        loop {
            match self.cluster.resolve(group, version, kind).await {
                Ok(kind) => return self.cluster.objects(&kind, Some("test")),
                Err(_) => {
                    self.cluster.forget_discovery();
                    tokio::time::sleep(LOOK).await;
                }
            }
        }
    }

    /// Waits until the Canary is like that.
    pub(super) async fn canary(&self, what: &str, so: impl Fn(&Value) -> bool) -> Value {
        self.canary_called("podinfo", what, so).await
    }

    /// The same for one of another name.
    pub(super) async fn canary_called(&self, name: &str, what: &str, so: impl Fn(&Value) -> bool) -> Value {
        let api = self.api("flagger.app", "v1beta1", "Canary").await;
        let is = |object: Option<&DynamicObject>| object.is_some_and(|object| so(&object.data));
        match tokio::time::timeout(CAP, await_condition(api.clone(), name, is)).await {
            Ok(found) => found.unwrap().unwrap().data,
            Err(_elapsed) => {
                let canary = api.get_opt(name).await.unwrap().map(|canary| canary.data);
                panic!("{what} never came: {canary:#?}\n{:#?}", self.image(name).await)
            }
        }
    }

    pub(super) async fn reaches(&self, phase: &str) -> Value {
        self.canary(phase, |canary| canary["status"]["phase"] == phase).await
    }

    pub(super) async fn has_weight(&self, weight: i64) {
        self.canary("the weight", |canary| canary["status"]["canaryWeight"] == weight).await;
    }

    pub(super) async fn deployment(&self, name: &str) -> Option<Value> {
        let found = self.api("apps", "v1", "Deployment").await.get_opt(name).await.unwrap();
        found.map(|object| serde_json::to_value(object).unwrap())
    }

    /// The image's tag.
    pub(super) async fn image(&self, name: &str) -> Option<String> {
        let image = self.deployment(name).await?["spec"]["template"]["spec"]["containers"][0]["image"].take();
        Some(image.as_str()?.rsplit(':').next()?.to_owned())
    }

    /// Tags of the images that users are sent to: what is behind the route's weights and the Service in front of it.
    pub(super) async fn serving(&self) -> BTreeSet<String> {
        let route = self.api("networking.istio.io", "v1beta1", "VirtualService").await;
        let route = route.get_opt("podinfo").await.unwrap().map(|route| route.data);
        let backends = route.as_ref().and_then(|route| route["spec"]["http"][0]["route"].as_array().cloned());
        let shown: Vec<String> = backends.map_or_else(
            || vec!["podinfo".to_owned()],
            |all| {
                let with_traffic = all.iter().filter(|to| to["weight"].as_u64().unwrap_or(100) > 0);
                with_traffic.filter_map(|to| to["destination"]["host"].as_str().map(str::to_owned)).collect()
            },
        );
        let mut tags = BTreeSet::new();
        let services = self.api("", "v1", "Service").await;
        for name in shown {
            let Some(service) = services.get_opt(&name).await.unwrap() else { continue };
            let side = service.data["spec"]["selector"]["app"].as_str().unwrap_or_default().to_owned();
            let Some(deployment) = self.deployment(&side).await else { continue };
            if deployment["status"]["availableReplicas"].as_i64().unwrap_or(0) > 0 {
                tags.extend(self.image(&side).await);
            }
        }
        tags
    }

    /// Looks at what serves until dropped; all tags that were ever seen.
    pub(super) fn witness(self: &Arc<Self>) -> Witness {
        let seen = Arc::new(Mutex::new(BTreeSet::new()));
        let (world, all) = (self.clone(), seen.clone());
        let looking = tokio::spawn(async move {
            loop {
                let tags = world.serving().await;
                all.lock().unwrap().extend(tags);
                tokio::time::sleep(LOOK).await;
            }
        });
        Witness { seen, looking }
    }

    pub(super) async fn delete_namespace(&self) {
        let api: Api<Namespace> = Api::all(self.client.clone());
        let uid = api.get("test").await.unwrap().metadata.uid.unwrap();
        api.delete("test", &DeleteParams::default()).await.unwrap();
        let gone = kube::runtime::conditions::is_deleted(&uid);
        tokio::time::timeout(CAP, await_condition(api, "test", gone)).await.expect("it goes").unwrap();
    }

    /// Waits until it is so.
    pub(super) async fn eventually(&self, what: &str, mut is: impl AsyncFnMut() -> bool) {
        let looking = async {
            while !is().await {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(CAP, looking).await.unwrap_or_else(|_| panic!("never: {what}"));
    }
}

/// What served while it looked.
pub(super) struct Witness {
    seen: Arc<Mutex<BTreeSet<String>>>,
    looking: JoinHandle<()>,
}

impl Witness {
    pub(super) fn seen(&self) -> BTreeSet<String> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.looking.abort();
    }
}

/// `examples/podinfo`, shorter: two weights, and two failed checks are enough.
fn example(path: &str) -> Vec<FileEdit> {
    let into = path;
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/podinfo"));
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let manifests = files.filter(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    manifests
        .map(|path| {
            let content = std::fs::read_to_string(&path).unwrap();
            let content = content
                .replace("    maxWeight: 50\n", "")
                .replace("    stepWeight: 10\n", "    stepWeights: [30, 50]\n")
                .replace("    threshold: 5\n", "    threshold: 2\n");
            FileEdit { path: format!("{into}{}", path.file_name().unwrap().to_str().unwrap()), content }
        })
        .collect()
}
