//! One run of a story, from an image to its end.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{DynamicObject, PostParams};
use kube::runtime::wait::await_condition;
use serde_json::Value;
use serin::analysis::Reading;
use serin::cli::reload::SettingsHealth;
use serin::cli::run::{Backends, daemon_with};
use serin::cluster::{Cluster, NoProbe};
use serin::config::{RunArgs, Settings};
use serin::hook::{HookCall, HookCaller};
use serin::metrics::{Endpoint, MetricProvider};
use serin::release::{Guards, HookReply};
use serin::sandbox::controllers::{self, ControllerOptions};
use serin::sandbox::crds;
use serin::sandbox::repository::{BRANCH, FileEdit, Repository};
use tokio_util::sync::CancellationToken;

use super::end::End;
use super::image::{Calls, Image, Outside, Point, Recorder};

/// Longest virtual time a story may take: many times the longest.
const CAP: Duration = Duration::from_secs(3600);
/// Virtual time after the end in which something could still happen: more than a batch of the record.
const QUIET: Duration = Duration::from_secs(20);
/// The file that is pushed.
const DEPLOYMENT: &str = "deployment.yaml";
/// The config's file.
const SETTINGS: &str = "settings.yaml";

/// What is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Story {
    FirstSync,
    Promotion,
    Rollback,
    Supersede,
    /// A revision that reads a config, promoted.
    Reading,
    /// Another content of it alone, which fails.
    ConfigRollback,
}

/// What a run leaves.
pub(super) struct Played {
    pub(super) end: End,
    pub(super) effects: usize,
    pub(super) points: Vec<Point>,
    pub(super) last: Image,
}

/// Whether images are kept on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    Images,
    Nothing,
}

/// Plays a story from an image to its end, in a runtime of its own.
pub(super) fn play(story: Story, image: &Image, keep: Keep) -> Played {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let played = runtime.block_on(run(story, image, keep));
    // Git's threads end by themselves; what they hold is this run's alone.
    runtime.shutdown_background();
    played
}

/// The same clock for the sandbox's controllers.
fn world_clock(clock: &serin::cluster::Clock) -> serin::sandbox::clock::Clock {
    match clock {
        serin::cluster::Clock::Following { start, since } => {
            serin::sandbox::clock::Clock { start: *start, since: *since }
        }
        serin::cluster::Clock::System | serin::cluster::Clock::Server(_) => {
            serin::sandbox::clock::Clock::following(jiff::Timestamp::now())
        }
    }
}

async fn run(story: Story, image: &Image, keep: Keep) -> Played {
    // The same chance in every run from the same image, and another than in the run that made the image: uids are drawn from it.
    fastrand::seed(image.server.version());
    let world = Outside::from(image);
    let client = world.server.client();
    let options = ControllerOptions { clock: world_clock(&world.clock), ..ControllerOptions::default() };
    tokio::spawn(controllers::run(client.clone(), options, CancellationToken::new()));
    prepare(&client).await;
    let repository = Repository::open_or_init(&world.repository()).unwrap();
    let recorder = Arc::new(Recorder::new(world.clone()));
    let backend = Arc::new(Backend {
        failing: matches!(story, Story::Rollback | Story::ConfigRollback),
        calls: world.calls.clone(),
    });
    let backends = Backends {
        forge: None,
        metrics: backend.clone(),
        hooks: backend,
        chats: None,
        probe: match keep {
            Keep::Images => recorder.clone(),
            Keep::Nothing => Arc::new(NoProbe),
        },
        clock: world.clock.clone(),
        listener: None,
        guards: Guards::default(),
        health: SettingsHealth::default(),
    };
    story.begin(&repository);
    let daemon = daemon_with(
        settings(story, &world),
        Cluster::from_client(client.clone()),
        backends,
        CancellationToken::new(),
    );
    tokio::select! {
        ended = daemon => panic!("the daemon ended: {ended:?}"),
        () = story.drive(&client, &repository) => {}
    }
    let (effects, points) = recorder.take();
    let end = End::of(&client, &repository, &world.calls).await;
    Played { end, effects, points, last: world.image() }
}

/// What a cluster with Istio has, and `deploy/kustomize`'s namespace.
async fn prepare(client: &kube::Client) {
    let definitions = Api::all(client.clone());
    for definition in crds::istio().unwrap() {
        ignore_existing(definitions.create(&PostParams::default(), &definition).await);
    }
    for name in ["istio-system", "serin-system"] {
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some(name.to_owned());
        ignore_existing(Api::all(client.clone()).create(&PostParams::default(), &namespace).await);
    }
}

fn ignore_existing<T>(created: Result<T, kube::Error>) {
    match created {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.is_already_exists() => {}
        Err(error) => panic!("{error}"),
    }
}

/// The first sync installs our definitions and holds a lease; later the lease would only cost time.
fn settings(story: Story, world: &Outside) -> Settings {
    let first = story == Story::FirstSync;
    let text = serde_json::json!({
        "cluster": {"name": "test"},
        "git": {"url": world.repository(), "pollInterval": "30s"},
        "metrics": {"address": "http://prometheus"},
        "stateDir": world.state(),
    });
    let args = RunArgs { install_crds: first, no_lease: !first, ..RunArgs::default() };
    Settings::from_text("serin.yaml", &text.to_string(), &args).unwrap()
}

/// Answers every query with one value and every hook with yes; remembers the calls.
struct Backend {
    failing: bool,
    calls: Calls,
}

impl MetricProvider for Backend {
    fn query<'a>(&'a self, _endpoint: &'a Endpoint, query: &'a str) -> BoxFuture<'a, Reading> {
        let value = if query.contains("histogram_quantile") {
            120.0
        } else if query.contains("404") || query == "1" {
            1.0
        } else if self.failing {
            69.17
        } else {
            100.0
        };
        Box::pin(std::future::ready(Reading::Value { value }))
    }
}

impl HookCaller for Backend {
    fn call<'a>(&'a self, call: &'a HookCall) -> BoxFuture<'a, HookReply> {
        let key = &call.key;
        let (tick, kind) = (&key.tick, call.hook.kind.as_str());
        let name = format!("{} tick {} {kind} {}", tick.release, tick.number, call.hook.name);
        self.calls.lock().unwrap().push(name);
        Box::pin(std::future::ready(HookReply { accepted: true, body: String::new() }))
    }
}

impl Story {
    /// The first push, unless it was made before the crash.
    fn begin(self, repository: &Repository) {
        match self {
            Self::FirstSync => push(repository, "Add podinfo 3.1.0", |_| example()),
            Self::Promotion => release(repository, "3.1.1"),
            Self::Rollback => release(repository, "3.1.2"),
            Self::Supersede => release(repository, "3.1.3"),
            Self::Reading => push(repository, "Read settings", |repository| {
                let text = repository.read(BRANCH, DEPLOYMENT).unwrap();
                let (container, from) =
                    ("        - name: podinfod\n", "          envFrom: [{configMapRef: {name: settings}}]\n");
                let content = text.replacen(container, &format!("{container}{from}"), 1);
                vec![settings_of("blue"), FileEdit { path: DEPLOYMENT.to_owned(), content }]
            }),
            Self::ConfigRollback => push(repository, "Red settings", |_| vec![settings_of("red")]),
        }
    }

    /// What the developer does meanwhile, until the end.
    async fn drive(self, client: &kube::Client, repository: &Repository) {
        if self == Self::Supersede && !is_pushed(repository, &subject("3.1.4")) {
            until(client, "weight 30", |canary| canary["status"]["canaryWeight"] == 30).await;
            release(repository, "3.1.4");
        }
        let (phase, releases) = match self {
            Self::FirstSync => ("Initialized", 0),
            Self::Promotion => ("Succeeded", 1),
            Self::Rollback => ("Failed", 1),
            Self::Supersede => ("Succeeded", 2),
            Self::Reading => ("Succeeded", 1),
            Self::ConfigRollback => ("Failed", 2),
        };
        until(client, phase, move |canary| {
            let status = &canary["status"];
            let state = &status["serin"]["state"];
            // All that is over is in Git, and the engine knows.
            status["phase"] == phase && state["releases"] == releases && state["outbox"].is_null()
        })
        .await;
        tokio::time::sleep(QUIET).await;
    }

    /// What the end must be, besides being the same each time.
    pub(super) fn check(self, end: &End) {
        let (image, commits) = match self {
            Self::FirstSync => ("3.1.0", 1),
            Self::Promotion => ("3.1.1", 2),
            // The release and its rollback.
            Self::Rollback => ("3.1.0", 3),
            Self::Supersede => ("3.1.4", 3),
            Self::Reading => ("3.1.0", 2),
            Self::ConfigRollback => ("3.1.0", 4),
        };
        assert_eq!(end.image_of_primary(), format!("stefanprodan/podinfo:{image}"));
        assert_eq!(end.commits(), commits, "{self:?}");
    }
}

/// Waits until the Canary is like that.
async fn until(client: &kube::Client, what: &str, so: impl Fn(&Value) -> bool + Send + 'static) {
    let so = Arc::new(so);
    let wait = async {
        let cluster = Cluster::from_client(client.clone());
        loop {
            // The kind is served when the daemon has installed it, and may be watched a little later.
            if let Ok(kind) = cluster.resolve("flagger.app", "v1beta1", "Canary").await {
                let api = cluster.objects(&kind, Some("test"));
                let so = so.clone();
                let found = await_condition(api, "podinfo", move |object: Option<&DynamicObject>| {
                    object.is_some_and(|object| so(&object.data))
                });
                if found.await.is_ok() {
                    return;
                }
            }
            cluster.forget_discovery();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    if tokio::time::timeout(CAP, wait).await.is_err() {
        let cluster = Cluster::from_client(client.clone());
        let kind = cluster.resolve("flagger.app", "v1beta1", "Canary").await.unwrap();
        let canary = cluster.objects(&kind, Some("test")).get("podinfo").await;
        panic!("{what} never came: {:#?}", canary.map(|canary| canary.data));
    }
}

fn push(repository: &Repository, subject: &str, edit: impl Fn(&Repository) -> Vec<FileEdit>) {
    if !is_pushed(repository, subject) {
        repository.commit(subject, |repository| Ok(edit(repository))).unwrap();
    }
}

fn release(repository: &Repository, tag: &str) {
    push(repository, &subject(tag), |repository| {
        let text = repository.read(BRANCH, DEPLOYMENT).unwrap();
        let old = text.split("podinfo:").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
        let content = text.replacen(&format!("podinfo:{old}"), &format!("podinfo:{tag}"), 1);
        vec![FileEdit { path: DEPLOYMENT.to_owned(), content }]
    });
}

fn settings_of(color: &str) -> FileEdit {
    let metadata = "metadata: {name: settings, namespace: test}";
    let content = format!("apiVersion: v1\nkind: ConfigMap\n{metadata}\ndata:\n  color: {color}\n");
    FileEdit { path: SETTINGS.to_owned(), content }
}

fn subject(tag: &str) -> String {
    format!("Release podinfo {tag}")
}

fn is_pushed(repository: &Repository, subject: &str) -> bool {
    super::end::messages(repository, BRANCH).iter().any(|message| message.starts_with(subject))
}

/// `examples/podinfo`, shorter: two weights, and two failed checks are enough.
fn example() -> Vec<FileEdit> {
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
            FileEdit { path: path.file_name().unwrap().to_str().unwrap().to_owned(), content }
        })
        .collect()
}
