//! `cargo bench --bench idle`: what a daemon costs while nothing happens.
//!
//! Starts the embedded API server and controllers, lets a real `serin run` initialize `SERIN_BENCH_TARGETS` (default 1,000)
//! Canaries with autoscalers, waits `SERIN_BENCH_IDLE_SECS` (default 300) and prints memory, processor time and API
//! requests as one JSON line. Lease renewals and watches are counted apart, as the budgets do.

use std::error::Error;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};
use kube::api::{Api, DynamicObject, PostParams};
use kube::core::GroupVersionKind;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, api::ApiResource};
use serde_json::{Value, json};
use serin::api::{Canary, CanaryPhase};
use serin::sandbox::apiserver::{ApiServer, RequestKey};
use serin::sandbox::controllers::{self, ControllerOptions};
use serin::sandbox::crds;
use serin::sandbox::repository::{FileEdit, Repository};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const NAMESPACE: &str = "bench";
/// Objects created at once.
const PARALLEL: usize = 16;
/// Longest time the initialization of all targets may take.
const INIT_MAX: Duration = Duration::from_secs(1800);
/// Ticks of /proc/<pid>/stat per second on every Linux that matters.
const TICKS_PER_SECOND: f64 = 100.0;

fn main() -> Result<()> {
    // `cargo test --benches` runs this too; measuring is only meant by `cargo bench`.
    if !std::env::args().any(|arg| arg == "--bench") {
        return Ok(());
    }
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(measure())
}

async fn measure() -> Result<()> {
    let targets: usize = number("SERIN_BENCH_TARGETS", 1000)?;
    let idle = Duration::from_secs(number("SERIN_BENCH_IDLE_SECS", 300)?);
    let dir = tempfile::tempdir()?;
    let stop = CancellationToken::new();
    let server = ApiServer::new();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let url = format!("http://{}", listener.local_addr()?);
    let serving = server.clone();
    let stop_serving = stop.clone();
    tokio::spawn(async move { serving.serve(listener, stop_serving).await });
    let client = server.client();
    tokio::spawn(controllers::run(client.clone(), ControllerOptions::default(), stop.clone()));
    crds::install(&client).await?;
    create(&client, namespace()).await?;

    let mut daemon = start_daemon(dir.path(), &url)?;
    wait_for_crds(&client).await?;
    let began = Instant::now();
    let objects = (0..targets).flat_map(|index| target(&format!("app-{index:04}")));
    futures::stream::iter(objects)
        .map(Ok)
        .try_for_each_concurrent(PARALLEL, |object| create(&client, object))
        .await?;
    tokio::time::timeout(INIT_MAX, all_initialized(&client, targets)).await??;
    let initialized = began.elapsed();

    let before = (server.requests().snapshot(), cpu_seconds(daemon.id())?);
    // The measured condition is time itself.
    tokio::time::sleep(idle).await;
    let after = (server.requests().snapshot(), cpu_seconds(daemon.id())?);
    let seen = after.0.since(&before.0);
    let ours = |key: &RequestKey| key.user_agent.starts_with("serin/");
    let apart = |key: &RequestKey| key.is_watch || key.resource.starts_with("leases");
    let report = json!({
        "targets": targets,
        "initializedSeconds": initialized.as_secs_f64(),
        "idleSeconds": idle.as_secs(),
        "rssMiB": rss_mib(daemon.id())?,
        "cpuPercentOfACore": 100.0 * (after.1 - before.1) / idle.as_secs_f64(),
        "requests": seen.total(|key| ours(key) && !apart(key)),
        "leaseAndWatchRequests": seen.total(|key| ours(key) && apart(key)),
    });
    println!("{report}");
    daemon.kill()?;
    daemon.wait()?;
    stop.cancel();
    Ok(())
}

fn number<T: std::str::FromStr<Err: Error + Send + Sync + 'static>>(name: &str, default: T) -> Result<T> {
    match std::env::var(name) {
        Ok(text) => Ok(text.parse()?),
        Err(_) => Ok(default),
    }
}

fn start_daemon(dir: &Path, url: &str) -> Result<Child> {
    let repository = Repository::open_or_init(&dir.join("repo.git"))?;
    let content = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: seed\n  namespace: default\n".to_owned();
    repository.commit("seed", |_| Ok(vec![FileEdit { path: "seed.yaml".into(), content: content.clone() }]))?;
    let kubeconfig = dir.join("kubeconfig");
    std::fs::write(&kubeconfig, ApiServer::kubeconfig(url))?;
    let config = dir.join("serin.yaml");
    let text = format!(
        "cluster:\n  name: bench\ngit:\n  url: {}\nkubeconfig: {}\nstateDir: {}\nhttp:\n  listen: 127.0.0.1:0\n\
         lease:\n  namespace: default\n  name: serin\n",
        repository.path().display(),
        kubeconfig.display(),
        dir.join("state").display()
    );
    std::fs::write(&config, text)?;
    let log = std::fs::File::create(dir.join("serin.log"))?;
    let child = Command::new(env!("CARGO_BIN_EXE_serin"))
        .args(["--log", "warn", "run", "--install-crds", "--config"])
        .arg(config)
        .stdin(Stdio::null())
        .stderr(log)
        .spawn()?;
    Ok(child)
}

async fn wait_for_crds(client: &Client) -> Result<()> {
    let api: Api<DynamicObject> = Api::all_with(
        client.clone(),
        &ApiResource::from_gvk(&GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition")),
    );
    let mut seen = watcher(api, watcher::Config::default()).applied_objects().boxed();
    while let Some(definition) = seen.try_next().await? {
        if definition.metadata.name.as_deref() == Some("canaries.flagger.app") {
            return Ok(());
        }
    }
    Err("the watch on definitions ended".into())
}

async fn all_initialized(client: &Client, targets: usize) -> Result<()> {
    let api: Api<Canary> = Api::namespaced(client.clone(), NAMESPACE);
    let mut done = std::collections::HashSet::new();
    let mut changes = watcher(api, watcher::Config::default()).default_backoff().applied_objects().boxed();
    while let Some(canary) = changes.try_next().await? {
        let phase = canary.status.map(|status| status.phase).unwrap_or_default();
        if phase == CanaryPhase::Initialized {
            done.insert(canary.metadata.name.unwrap_or_default());
        }
        if done.len() == targets {
            return Ok(());
        }
    }
    Err("the watch on Canaries ended".into())
}

async fn create(client: &Client, object: Value) -> Result<()> {
    let object: DynamicObject = serde_json::from_value(object)?;
    let types = object.types.clone().ok_or("an object without kind")?;
    let resource = ApiResource::from_gvk(&GroupVersionKind::try_from(&types)?);
    let api: Api<DynamicObject> = match &object.metadata.namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    api.create(&PostParams::default(), &object).await?;
    Ok(())
}

fn namespace() -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
}

/// A Deployment, its autoscaler and its Canary; the rest of the fixture is what the daemon makes of them.
fn target(name: &str) -> [Value; 3] {
    let metadata = json!({"name": name, "namespace": NAMESPACE});
    let reference = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": name});
    [
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{
                    "name": "app", "image": "stefanprodan/podinfo:3.1.0",
                    "ports": [{"name": "http", "containerPort": 9898}],
                    "resources": {"requests": {"cpu": "100m"}},
                }]},
            },
        }}),
        json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": metadata, "spec": {
            "scaleTargetRef": reference, "minReplicas": 1, "maxReplicas": 2,
            "metrics": [{"type": "Resource", "resource": {
                "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 99},
            }}],
        }}),
        json!({"apiVersion": "flagger.app/v1beta1", "kind": "Canary", "metadata": metadata, "spec": {
            "targetRef": reference,
            "autoscalerRef": {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "name": name},
            "service": {"port": 9898},
            "analysis": {
                "interval": "30s", "threshold": 5, "maxWeight": 50, "stepWeight": 10,
                "metrics": [{"name": "request-success-rate", "thresholdRange": {"min": 99}, "interval": "1m"}],
            },
        }}),
    ]
}

/// Resident memory of a process in MiB.
fn rss_mib(pid: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).ok_or("no VmRSS")?;
    let kib: f64 = line.split_whitespace().nth(1).ok_or("no value")?.parse()?;
    Ok(kib / 1024.0)
}

/// Processor time of a process so far, user and system.
fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().ok_or("no fields")?.split_whitespace().collect();
    let ticks = |index: usize| -> Result<f64> { Ok(fields.get(index).ok_or("too few fields")?.parse()?) };
    // Fields 14 and 15 of proc(5); the first two are before the closing parenthesis.
    Ok((ticks(11)? + ticks(12)?) / TICKS_PER_SECOND)
}
