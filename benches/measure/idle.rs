//! A thousand targets from Git, initialized, then left alone: memory, processor time, requests.
//!
//! `SERIN_BENCH_TARGETS` (1,000), `SERIN_BENCH_IDLE_SECS` (300) shorten it.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use kube::Api;
use kube::runtime::{WatchStreamExt as _, watcher};
use serin::api::Canary;
use serin::sandbox::repository::FileEdit;
use serin::sandbox::world::{Sandbox, SandboxOptions};

use super::daemon::Daemon;
use super::figure::Figure;
use super::release::{apart, log, ours, served, settings};
use super::{Result, number, traffic};

const NAMESPACE: &str = "bench";
/// Longest time the initialization of all targets may take.
const INIT_MAX: Duration = Duration::from_secs(1800);
/// Time between two looks at the repository: the default.
const POLL: Duration = Duration::from_secs(30);
/// Records and their acknowledgement follow the initialization in batches of 15 s; after this they are done.
const SETTLE: Duration = Duration::from_secs(60);

pub(crate) async fn measure() -> Result<()> {
    let targets: usize = number("SERIN_BENCH_TARGETS", 1000)?;
    let idle = Duration::from_secs(number("SERIN_BENCH_IDLE_SECS", 300)?);
    let dir = tempfile::tempdir()?;
    let sandbox = Sandbox::start(SandboxOptions {
        dir: dir.path().to_owned(),
        traffic: traffic(),
        ..SandboxOptions::default()
    })
    .await?;
    sandbox.repository().commit("Add all", |_| Ok(files(targets)))?;
    let began = Instant::now();
    let daemon = Daemon::start(&settings(&sandbox, 1.0, POLL)?, &sandbox.dir().join("logs/serin.log"))?;
    served(&sandbox.client(), "canaries.flagger.app").await?;
    let initialized = tokio::time::timeout(INIT_MAX, all_initialized(&sandbox, targets)).await;
    if !matches!(initialized, Ok(Ok(()))) {
        std::fs::copy(sandbox.dir().join("logs/serin.log"), std::env::temp_dir().join("serin-measure.log"))?;
    }
    initialized??;
    let say = |what: &str, value: f64, unit, budget| {
        Figure { what: format!("{targets} targets: {what}"), value, unit, budget, bench: "idle" }.print();
    };
    say("first sync to all initialized", began.elapsed().as_secs_f64(), "s", None);
    tokio::time::sleep(SETTLE).await;

    let before = (log(&sandbox)?, daemon.cpu_seconds()?);
    // The measured condition is time itself.
    tokio::time::sleep(idle).await;
    let seen = log(&sandbox)?.since(&before.0);
    let cpu = daemon.cpu_seconds()? - before.1;
    let requests = |apart: bool| {
        #[expect(clippy::cast_precision_loss, reason = "small counts")]
        let count = seen.total(|key| ours(key) && self::apart(key) == apart) as f64;
        count
    };
    say(&format!("memory after {} s idle", idle.as_secs()), daemon.rss_mib()?, "MiB", Some(80.0));
    say("processor while idle", 100.0 * cpu / idle.as_secs_f64(), "%", Some(2.0));
    say("API requests while idle", requests(false), "", Some(0.0));
    say("lease renewals and watches while idle, apart", requests(true), "", None);
    drop(daemon);
    sandbox.shutdown().await;
    Ok(())
}

async fn all_initialized(sandbox: &Sandbox, targets: usize) -> Result<()> {
    let api: Api<Canary> = Api::namespaced(sandbox.client(), NAMESPACE);
    let mut done = HashSet::new();
    let mut changes = watcher(api, watcher::Config::default()).default_backoff().applied_objects().boxed();
    while done.len() < targets {
        let canary = match changes.next().await {
            Some(Ok(canary)) => canary,
            // An interrupted watch repairs itself.
            Some(Err(_)) => continue,
            None => return Err("the watch on Canaries ended".into()),
        };
        let phase = canary.status.map(|status| status.phase).unwrap_or_default();
        if phase.as_str() == "Initialized" {
            done.insert(canary.metadata.name.unwrap_or_default());
        }
    }
    Ok(())
}

fn files(targets: usize) -> Vec<FileEdit> {
    let namespace = format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {NAMESPACE}}}\n");
    let mut files = vec![FileEdit { path: "namespace.yaml".to_owned(), content: namespace }];
    files.extend((0..targets).map(|index| {
        let name = format!("app-{index:04}");
        FileEdit { path: format!("apps/{name}.yaml"), content: target(&name) }
    }));
    files
}

/// A Deployment, its autoscaler and its Canary; the rest of the fixture is what the daemon makes of them.
fn target(name: &str) -> String {
    format!(
        "\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {name}
  namespace: {NAMESPACE}
spec:
  selector:
    matchLabels: {{app: {name}}}
  template:
    metadata:
      labels: {{app: {name}}}
    spec:
      containers:
        - name: app
          image: stefanprodan/podinfo:3.1.0
          ports:
            - {{name: http, containerPort: 9898}}
          resources:
            requests: {{cpu: 100m}}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: {name}
  namespace: {NAMESPACE}
spec:
  scaleTargetRef: {{apiVersion: apps/v1, kind: Deployment, name: {name}}}
  minReplicas: 1
  maxReplicas: 2
  metrics:
    - type: Resource
      resource:
        name: cpu
        target: {{type: Utilization, averageUtilization: 99}}
---
apiVersion: flagger.app/v1beta1
kind: Canary
metadata:
  name: {name}
  namespace: {NAMESPACE}
spec:
  targetRef: {{apiVersion: apps/v1, kind: Deployment, name: {name}}}
  autoscalerRef: {{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, name: {name}}}
  service:
    port: 9898
  analysis:
    interval: 30s
    threshold: 5
    maxWeight: 50
    stepWeight: 10
    metrics:
      - name: request-success-rate
        thresholdRange: {{min: 99}}
        interval: 1m
"
    )
}
