//! One target: an idle interval, a weight step, a push.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::runtime::{WatchStreamExt as _, conditions, wait::await_condition, watcher};
use kube::{Api, Client};
use notify::event::{AccessKind, EventKind};
use notify::{RecursiveMode, Watcher as _};
use serin::api::Canary;
use serin::sandbox::apiserver::{RequestCounts, RequestKey};
use serin::sandbox::repository::{BRANCH, FileEdit, Repository};
use serin::sandbox::world::{Sandbox, SandboxOptions};

use super::daemon::Daemon;
use super::figure::Figure;
use super::{Result, traffic};

/// Divides the example's interval of a minute.
const SPEED: f64 = 6.0;
/// What that makes of the interval; the repository is polled as often.
const INTERVAL: Duration = Duration::from_secs(10);
/// Intervals without anything to do.
const IDLE_INTERVALS: u32 = 10;
/// What follows a release in Git and on the Canary is batched for 15 s; after this it is done.
const SETTLE: Duration = Duration::from_secs(40);
/// Longest wait for one state.
const WAIT_MAX: Duration = Duration::from_secs(180);
/// Pushes whose way into the cluster is timed.
const PUSHES: usize = 20;
const NAMESPACE: &str = "test";
const MARKER: &str = "measured";
const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/podinfo");

pub(crate) async fn measure() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let options = SandboxOptions {
        dir: dir.path().to_owned(),
        speed: SPEED,
        traffic: traffic(),
        ..SandboxOptions::default()
    };
    let sandbox = Sandbox::start(options).await?;
    let files = example()?;
    sandbox.repository().commit("Add podinfo 3.1.0", |_| Ok(files.clone()))?;
    let config = settings(&sandbox, SPEED, INTERVAL)?;
    let daemon = Daemon::start(&config, &sandbox.dir().join("logs/serin.log"))?;

    served(&sandbox.client(), "canaries.flagger.app").await?;
    let canaries: Api<Canary> = Api::namespaced(sandbox.client(), NAMESPACE);
    let changes = watcher(canaries, watcher::Config::default()).default_backoff().applied_objects().boxed();
    let mut seen = Seen { changes };
    seen.until("Initialized", |status| status.phase.as_str() == "Initialized").await?;
    tokio::time::sleep(SETTLE).await;
    idle(&sandbox, &daemon).await?;
    steps(&sandbox, &mut seen).await?;
    seen.until("Succeeded", |status| status.phase.as_str() == "Succeeded").await?;
    pushes(&sandbox).await?;
    drop(daemon);
    sandbox.shutdown().await;
    Ok(())
}

/// The settings that the sandbox proposes, with this poll interval.
pub(crate) fn settings(sandbox: &Sandbox, speed: f64, poll: Duration) -> Result<std::path::PathBuf> {
    let mut settings: serde_json::Value = serde_yaml::from_str(&sandbox.serin_yaml(speed))?;
    settings["git"]["pollInterval"] = format!("{}s", poll.as_secs()).into();
    let path = sandbox.dir().join("serin.yaml");
    std::fs::write(&path, settings.to_string())?;
    Ok(path)
}

/// Waits until a kind is served: the daemon installs it.
pub(crate) async fn served(client: &Client, definition: &str) -> Result<()> {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let established = await_condition(definitions, definition, conditions::is_crd_established());
    tokio::time::timeout(WAIT_MAX, established).await??;
    Ok(())
}

/// Requests of the daemon alone.
pub(crate) fn ours(key: &RequestKey) -> bool {
    key.user_agent.starts_with("serin/")
}

/// Lease renewals and watches go on whatever happens.
pub(crate) fn apart(key: &RequestKey) -> bool {
    key.is_watch || key.resource.starts_with("leases")
}

pub(crate) fn log(sandbox: &Sandbox) -> Result<RequestCounts> {
    Ok(sandbox.api().ok_or("no embedded API server")?.requests().snapshot())
}

async fn idle(sandbox: &Sandbox, daemon: &Daemon) -> Result<()> {
    let looked = Arc::new(Looked::default());
    let repository = sandbox.repository().path();
    let _watches = [watch(repository, &looked)?, watch(&sandbox.dir().join("state"), &looked)?];
    let before = (log(sandbox)?, daemon.written_bytes()?);
    // The measured condition is time itself.
    tokio::time::sleep(INTERVAL * IDLE_INTERVALS).await;
    let seen = log(sandbox)?.since(&before.0);
    let written = daemon.written_bytes()? - before.1;
    let requests = |apart: bool| seen.total(|key| ours(key) && self::apart(key) == apart);
    if requests(false) > 0 {
        eprintln!("{:#?}", seen.counts.iter().filter(|(key, _)| ours(key) && !apart(key)).collect::<Vec<_>>());
    }
    let probes = looked.probes.load(Ordering::Relaxed);
    let changed = looked.changed.load(Ordering::Relaxed);
    let intervals = f64::from(IDLE_INTERVALS);
    count("idle canary: API requests in 10 intervals", requests(false), Some(0.0));
    count("idle canary: lease renewals and watches in 10 intervals, apart", requests(true), None);
    // The interval is jittered by a tenth, so eleven may fall into ten.
    let figure = |what: &str, value: f64, unit, budget| Figure {
        what: what.to_owned(),
        value,
        unit,
        budget,
        bench: "release",
    };
    #[expect(clippy::cast_precision_loss, reason = "small counts")]
    figure("unchanged poll: ref probes an interval", probes as f64 / intervals, "", Some(1.1)).print();
    count("unchanged poll: files changed in cache and repository", changed, Some(0.0));
    figure("unchanged poll: bytes written to disk", written, "B", Some(0.0)).print();
    Ok(())
}

/// What the file system saw of the daemon.
#[derive(Default)]
struct Looked {
    probes: AtomicU64,
    changed: AtomicU64,
}

fn watch(folder: &Path, looked: &Arc<Looked>) -> Result<notify::RecommendedWatcher> {
    let looked = looked.clone();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| match event {
        Ok(event) if matches!(event.kind, EventKind::Access(AccessKind::Open(_))) => {
            let probed = event.paths.iter().any(|path| path.ends_with(Path::new("refs/heads").join(BRANCH)));
            looked.probes.fetch_add(u64::from(probed), Ordering::Relaxed);
        }
        Ok(event) if event.kind.is_create() || event.kind.is_modify() || event.kind.is_remove() => {
            looked.changed.fetch_add(1, Ordering::Relaxed);
        }
        Ok(_) | Err(_) => {}
    })?;
    watcher.watch(folder, RecursiveMode::Recursive)?;
    Ok(watcher)
}

async fn steps(
    sandbox: &Sandbox,
    seen: &mut Seen<impl Stream<Item = watcher::Result<Canary>> + Unpin>,
) -> Result<()> {
    set_tag(sandbox.repository(), "3.1.1")?;
    seen.until("weight 10", |status| status.canary_weight == 10).await?;
    // Counted in mid-interval, where a step is over and the next has not begun.
    tokio::time::sleep(INTERVAL / 2).await;
    let mut at = log(sandbox)?;
    let first = at.clone();
    let mut most = 0;
    for weight in [20, 30, 40, 50] {
        seen.until("the next weight", |status| status.canary_weight == weight).await?;
        tokio::time::sleep(INTERVAL / 2).await;
        let now = log(sandbox)?;
        most = most.max(now.since(&at).total(is_write));
        at = now;
    }
    let all = at.since(&first);
    let step = |what: &str, kind: &dyn Fn(&RequestKey) -> bool, budget: Option<f64>| {
        #[expect(clippy::cast_precision_loss, reason = "small counts")]
        let value = all.total(kind) as f64 / 4.0;
        Figure { what: format!("weight step: {what}"), value, unit: "", budget, bench: "release" }.print();
    };
    step("status writes", &|key| is_write(key) && key.resource.starts_with("canaries"), None);
    step("route writes", &|key| is_write(key) && key.resource.starts_with("virtualservices"), None);
    step("writes beside events, mean of 4", &is_write, Some(2.0));
    count("weight step: writes beside events, most of 4", most, Some(2.0));
    step("events", &|key| ours(key) && !apart(key) && key.resource.starts_with("events"), None);
    step("reads", &|key| ours(key) && !apart(key) && matches!(key.verb.as_str(), "get" | "list"), Some(0.0));
    Ok(())
}

fn is_write(key: &RequestKey) -> bool {
    let writes = matches!(key.verb.as_str(), "create" | "update" | "patch" | "delete" | "deletecollection");
    ours(key) && !apart(key) && writes && !key.resource.starts_with("events")
}

async fn pushes(sandbox: &Sandbox) -> Result<()> {
    let maps: Api<ConfigMap> = Api::namespaced(sandbox.client(), NAMESPACE);
    let config = watcher::Config::default().fields(&format!("metadata.name={MARKER}"));
    let mut changes = watcher(maps, config).default_backoff().applied_objects().boxed();
    let mut times = Vec::new();
    for push in 0..PUSHES {
        let content = format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {MARKER}, namespace: {NAMESPACE}}}\n\
             data: {{push: \"{push}\"}}\n"
        );
        let began = Instant::now();
        let edit = vec![FileEdit { path: "measured.yaml".to_owned(), content }];
        sandbox.repository().commit("Push", |_| Ok(edit.clone()))?;
        let written = async {
            while let Some(map) = changes.try_next().await? {
                let data = map.data.unwrap_or_default();
                if data.get("push").is_some_and(|found| *found == push.to_string()) {
                    return Ok::<_, watcher::Error>(());
                }
            }
            Ok(())
        };
        tokio::time::timeout(WAIT_MAX, written).await??;
        times.push(began.elapsed());
    }
    times.sort();
    let say = |what: &str, index: usize, budget| {
        let value = times.get(index).copied().unwrap_or_default().as_secs_f64() * 1000.0;
        Figure { what: what.to_owned(), value, unit: "ms", budget, bench: "release" }.print();
    };
    say("push to first write, local trigger: p50 of 20", PUSHES / 2 - 1, None);
    say("push to first write, local trigger: p95 of 20", PUSHES * 95 / 100 - 1, Some(1000.0));
    Ok(())
}

/// The Canary's changes.
struct Seen<S> {
    changes: S,
}

impl<S: Stream<Item = watcher::Result<Canary>> + Unpin> Seen<S> {
    /// Returns at the first status that is so.
    async fn until(&mut self, what: &str, so: impl Fn(&serin::api::CanaryStatus) -> bool) -> Result<()> {
        let reached = async {
            loop {
                match self.changes.next().await {
                    Some(Ok(canary)) if canary.status.as_ref().is_some_and(&so) => return Ok(()),
                    // An interrupted watch repairs itself.
                    Some(Ok(_) | Err(_)) => {}
                    None => return Err("the watch on Canaries ended"),
                }
            }
        };
        let reached = tokio::time::timeout(WAIT_MAX, reached).await;
        Ok(reached.map_err(|_| format!("{what} did not come within {} s", WAIT_MAX.as_secs()))??)
    }
}

fn set_tag(repository: &Repository, tag: &str) -> Result<()> {
    repository.commit(&format!("Release {tag}"), |repository| {
        let text = repository.read(BRANCH, "deployment.yaml")?;
        let content = text.replacen("podinfo:3.1.0", &format!("podinfo:{tag}"), 1);
        Ok(vec![FileEdit { path: "deployment.yaml".to_owned(), content }])
    })?;
    Ok(())
}

fn example() -> Result<Vec<FileEdit>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(EXAMPLE)? {
        let entry = entry?;
        let path = entry.file_name().to_string_lossy().into_owned();
        files.push(FileEdit { path, content: std::fs::read_to_string(entry.path())? });
    }
    Ok(files)
}

fn count(what: &str, value: u64, budget: Option<f64>) {
    #[expect(clippy::cast_precision_loss, reason = "small counts")]
    Figure { what: what.to_owned(), value: value as f64, unit: "", budget, bench: "release" }.print();
}
