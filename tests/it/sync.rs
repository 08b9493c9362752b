//! Git -> cluster, against the embedded API server: real requests, a repository in memory.

mod adoption;
mod branch;
mod canaries;
mod faults;
mod first;
mod objects;
mod onboarding;
mod preview;
mod prune;
mod recovery;
mod refused;
mod sources;
mod upkeep;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use serin::api::annotations::{
    COPIED_FROM, MANAGER_ENGINE, PENDING, REBUILT, RECORD_FAILED, RECORD_PROMOTED, REPLICAS, REVISION,
};
use serin::api::{self, Canary, Inventory, ObjectState, SourceStatus};
use serin::cluster::{Claim, Cluster, EffectKind, EffectProbe, ProbeFuture, SharedWatch, Wake, Writer};
use serin::git::{Credentials, Remote, Store};
use serin::manifest::template_digest;
use serin::model::{CommitId, NamespacedName, ObjectRef, Quarantined, ReleaseId, Revision};
use serin::sandbox::apiserver::ApiServer;
use serin::sync::{
    self, About, Content, DocumentCache, GitSource, PushTrigger, RecordSource, Recorded, Requests, Source,
    SourceError, SyncContext, SyncSettings, SyncStatus, watched_canaries,
};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use faults::{Answer, Fault, Faults};
use objects::{CANARY, HPA, NAMESPACE, WIDGET, WIDGETS, config, deployment};

/// Longest wait for anything: generous for a loaded machine, and only ever spent on a failure.
const PATIENCE: Duration = Duration::from_secs(20);

/// A repository with one branch.
#[derive(Default)]
struct Repository {
    state: Mutex<(u32, BTreeMap<String, String>)>,
}

fn commit(number: u32) -> CommitId {
    format!("{number:040}").parse().unwrap()
}

impl Repository {
    /// Replaces (or, with an empty text, removes) files in one commit.
    fn push(&self, files: &[(&str, &str)]) -> CommitId {
        let mut state = self.state.lock().unwrap();
        for (path, text) in files {
            if text.is_empty() {
                state.1.remove(*path)
            } else {
                state.1.insert((*path).into(), (*text).into())
            };
        }
        state.0 += 1;
        commit(state.0)
    }
}

impl Source for Repository {
    fn tip(&self) -> BoxFuture<'_, Result<CommitId, SourceError>> {
        let number = self.state.lock().unwrap().0;
        Box::pin(async move { Ok(commit(number)) })
    }

    fn content<'a>(&'a self, commit: &'a CommitId) -> BoxFuture<'a, Result<Arc<Content>, SourceError>> {
        let files = self.state.lock().unwrap().1.clone();
        Box::pin(async move {
            let files = files.iter().map(|(path, text)| (path.as_str(), text.as_str(), text.as_str()));
            Ok(Arc::new(Content::parse(commit.clone(), files, &mut DocumentCache::default())))
        })
    }

    fn local_git_dir(&self) -> Option<PathBuf> {
        None
    }
}

/// Remembers effects in order, and stops the world at one of them.
#[derive(Default)]
struct Effects {
    seen: Mutex<Vec<String>>,
    /// Hooks until the stop: two per effect, before and after.
    left: Mutex<Option<usize>>,
    stopped: Wake,
}

impl Effects {
    fn take(&self) -> Vec<String> {
        let seen = std::mem::take(&mut *self.seen.lock().unwrap());
        // What is told of it is no part of what is done.
        seen.into_iter().filter(|effect| !effect.contains(" Source ")).collect()
    }

    fn hook(&self) -> ProbeFuture<'_> {
        match &mut *self.left.lock().unwrap() {
            Some(0) => {
                self.stopped.ring();
                Box::pin(std::future::pending())
            }
            Some(left) => {
                *left -= 1;
                Box::pin(std::future::ready(()))
            }
            None => Box::pin(std::future::ready(())),
        }
    }
}

impl EffectProbe for Effects {
    fn before<'a>(&'a self, kind: EffectKind, key: &'a str) -> ProbeFuture<'a> {
        self.seen.lock().unwrap().push(format!("{kind:?} {key}"));
        self.hook()
    }
    fn after<'a>(&'a self, _kind: EffectKind, _key: &'a str) -> ProbeFuture<'a> {
        self.hook()
    }
}

/// What the record says.
#[derive(Default)]
struct Records(Mutex<Option<Result<Recorded, String>>>);

impl RecordSource for Records {
    fn recorded<'a>(
        &'a self,
        _canary: &'a NamespacedName,
        _target: &'a ObjectRef,
    ) -> BoxFuture<'a, Result<Option<Recorded>, String>> {
        Box::pin(async { self.0.lock().unwrap().clone().transpose() })
    }
}

/// An API server with a daemon's sync loop.
struct World {
    server: ApiServer,
    /// The daemon's way to the server, with what goes wrong on it.
    cluster: Cluster,
    faults: Faults,
    /// The tests' own.
    direct: Cluster,
    repository: Arc<Repository>,
    /// Another source than `repository`.
    source: Option<Arc<dyn Source>>,
    effects: Arc<Effects>,
    records: Arc<Records>,
    wake: Wake,
    resync: Wake,
    status: watch::Receiver<SyncStatus>,
    shutdown: CancellationToken,
    running: Option<JoinHandle<()>>,
    /// The source's name, and the lease it tells of.
    name: &'static str,
    lease: Option<&'static str>,
}

impl World {
    /// A cluster that serves our kinds and has the namespace of the inventory.
    async fn new() -> Self {
        let server = ApiServer::new();
        let crds: Api<DynamicObject> = Api::all_with(server.client(), &crd_resource());
        for crd in api::crds() {
            let crd = serde_json::from_value(serde_json::to_value(crd).unwrap()).unwrap();
            crds.create(&PostParams::default(), &crd).await.unwrap();
        }
        Self::on(server, "test")
    }

    /// A daemon on this server, with a source of this name, a repository of its own, and its way to the server.
    fn on(server: ApiServer, name: &'static str) -> Self {
        let faults = Faults::default();
        Self {
            cluster: Cluster::from_client(faults.client(&server)),
            faults,
            direct: Cluster::from_client(server.client()),
            server,
            repository: Arc::default(),
            source: None,
            effects: Arc::default(),
            records: Arc::default(),
            wake: Wake::default(),
            resync: Wake::default(),
            status: watch::channel(SyncStatus::default()).1,
            shutdown: CancellationToken::new(),
            running: None,
            name,
            lease: None,
        }
    }

    fn start(&mut self) {
        let mut watch = SharedWatch::of::<Canary>(&self.cluster, None);
        let canaries = watched_canaries(&mut watch);
        watch.start(self.shutdown.clone());
        let (status, receiver) = watch::channel(SyncStatus::default());
        self.status = receiver;
        let context = SyncContext {
            cluster: self.cluster.clone(),
            writer: Writer::new(Claim::always()).with_probe(self.effects.clone()),
            source: self.source.clone().unwrap_or_else(|| self.repository.clone()),
            records: self.records.clone(),
            canaries,
            judge: |_, spec| spec.analysis.iterations.map(|count| format!("{count} iterations are too many")),
            settings: SyncSettings {
                cluster_name: self.name.into(),
                namespace: "default".into(),
                // The tests ring the bell themselves.
                poll_interval: Duration::from_secs(3600),
                only_namespace: None,
                selector_labels: vec!["app".into()],
                about: About { branch: "main".into(), lease: self.lease.map(str::to_owned), ..About::default() },
            },
            wake: self.wake.clone(),
            requests: Requests::default(),
            pushes: PushTrigger::default(),
            resync: self.resync.clone(),
            telemetry: sync::Telemetry::default(),
            status,
            shutdown: self.shutdown.clone(),
        };
        self.running = Some(tokio::spawn(sync::run(context)));
    }

    /// Kills the loop.
    fn stop(&mut self) {
        self.shutdown.cancel();
        self.running.take().unwrap().abort();
        self.shutdown = CancellationToken::new();
    }

    /// Kills the loop and starts another one, as a restart of the daemon does.
    fn restart(&mut self) {
        self.stop();
        self.start();
    }

    async fn until(&mut self, what: &str, condition: impl Fn(&SyncStatus) -> bool) -> SyncStatus {
        let waited = tokio::time::timeout(PATIENCE, self.status.wait_for(|status| condition(status)));
        if let Ok(status) = waited.await.map(|status| status.unwrap().clone()) {
            return status;
        }
        panic!("{what} did not happen: {:#?}", *self.status.borrow())
    }

    /// Pushes and waits until the commit is worked through.
    async fn push(&mut self, files: &[(&str, &str)]) -> SyncStatus {
        let commit = self.repository.push(files);
        self.wake.ring();
        self.until("the sync of the commit", |status| status.commit.as_ref() == Some(&commit)).await
    }

    async fn resource(&self, group: &str, version: &str, kind: &str, namespace: &str) -> Api<DynamicObject> {
        let resolved = self.direct.resolve(group, version, kind).await.unwrap();
        self.direct.objects(&resolved, Some(namespace))
    }

    async fn get(&self, kind: &str, name: &str) -> Option<Value> {
        let (group, version) = match kind {
            "Deployment" => ("apps", "v1"),
            "Canary" => ("flagger.app", "v1beta1"),
            "HorizontalPodAutoscaler" => ("autoscaling", "v2"),
            "Widget" => ("example.com", "v1"),
            _ => ("", "v1"),
        };
        let api = self.resource(group, version, kind, "test").await;
        api.get_opt(name).await.unwrap().map(|object| serde_json::to_value(object).unwrap())
    }

    async fn annotation(&self, key: &str) -> Option<String> {
        let target = self.get("Deployment", "podinfo").await?;
        target["metadata"]["annotations"][key].as_str().map(str::to_owned)
    }

    async fn image(&self) -> String {
        let target = self.get("Deployment", "podinfo").await.unwrap();
        target["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap().to_owned()
    }

    /// What the release engine writes.
    async fn canary_status(&self, status: Value) {
        let api = self.resource("flagger.app", "v1beta1", "Canary", "test").await;
        let patch = Patch::Merge(json!({ "status": status }));
        api.patch_status("podinfo", &PatchParams::default(), &patch).await.unwrap();
    }

    async fn told(&self) -> SourceStatus {
        let api: Api<api::Source> = Api::namespaced(self.direct.client(), "default");
        api.get("test").await.unwrap().status.unwrap()
    }

    async fn inventory(&self) -> Inventory {
        let api: Api<k8s_openapi::api::core::v1::ConfigMap> = Api::namespaced(self.cluster.client(), "default");
        Inventory::from_config_map(&api.get("serin-inventory-test").await.unwrap()).unwrap()
    }
}

fn crd_resource() -> ApiResource {
    ApiResource {
        group: "apiextensions.k8s.io".into(),
        version: "v1".into(),
        api_version: "apiextensions.k8s.io/v1".into(),
        kind: "CustomResourceDefinition".into(),
        plural: "customresourcedefinitions".into(),
    }
}

#[tokio::test]
async fn only_what_was_changed_in_the_cluster_is_written_again() {
    let mut world = World::new().await;
    let all = [NAMESPACE, &config("a", "1"), &config("b", "1"), &config("c", "1")].join("---\n");
    world.repository.push(&[("app.yaml", &all)]);
    world.start();
    world.until("the first sync", |status| status.synced).await;

    let api = world.resource("", "v1", "ConfigMap", "test").await;
    let patch = Patch::Merge(json!({"data": {"key": "edited"}}));
    api.patch("b", &PatchParams::default(), &patch).await.unwrap();
    api.delete("c", &kube::api::DeleteParams::default()).await.unwrap();
    world.effects.take();
    world.resync.ring();
    world.until("the repair", |status| status.changes.len() == 2).await;
    let written = ["Apply ConfigMap test/b", "Apply ConfigMap test/c"];
    assert_eq!(world.effects.take(), written);
    assert_eq!(world.get("ConfigMap", "b").await.unwrap()["data"]["key"], "1");
}

#[tokio::test]
async fn prune_takes_what_is_owned_and_nothing_precious() {
    let mut world = World::new().await;
    let volume = "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data, namespace: test}\nspec: \
        {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}\n";
    let kept = config("kept", "1")
        .replace("namespace: test", "namespace: test, annotations: {serin.dev/prune: disabled}");
    let files = [
        ("base.yaml", [NAMESPACE, &config("stays", "1")].join("---\n")),
        ("more.yaml", [&config("goes", "1"), &kept, volume].join("---\n")),
    ];
    world.repository.push(&[(files[0].0, &files[0].1), (files[1].0, &files[1].1)]);
    world.start();
    world.until("the first sync", |status| status.synced).await;
    let api = world.resource("", "v1", "ConfigMap", "test").await;
    let foreign =
        serde_json::from_value(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "foreign"}}))
            .unwrap();
    api.create(&PostParams::default(), &foreign).await.unwrap();

    // A file that cannot be read may hold anything: nothing is deleted.
    let status = world.push(&[("more.yaml", "a: b: c\n")]).await;
    assert_eq!(status.problems.len(), 2, "{:?}", status.problems);
    assert!(world.get("ConfigMap", "goes").await.is_some());

    let status = world.push(&[("more.yaml", "")]).await;
    assert_eq!(status.changes, ["ConfigMap test/goes: delete"]);
    for name in ["stays", "kept", "foreign"] {
        assert!(world.get("ConfigMap", name).await.is_some(), "{name}");
    }
    assert!(world.get("ConfigMap", "goes").await.is_none());
    assert!(world.get("PersistentVolumeClaim", "data").await.is_some());
    let owned: Vec<String> = world.inventory().await.objects.keys().map(ToString::to_string).collect();
    assert_eq!(owned, ["ConfigMap test/stays", "Namespace test"]);
}

#[tokio::test]
async fn a_new_revision_is_announced_while_a_release_is_under_way_and_written_when_admitted() {
    let mut world = World::new().await;
    world.repository.push(&[("base.yaml", &[NAMESPACE, CANARY].join("---\n")), ("app.yaml", &deployment("1"))]);
    world.start();
    world.until("the first sync", |status| status.synced).await;
    let first: Revision = world.annotation(REVISION).await.unwrap().parse().unwrap();
    assert_eq!(first.commit, Some(commit(1)));

    // Nothing is being released: written at once, with its stamp.
    world.canary_status(json!({"phase": "Initialized", "canaryWeight": 0})).await;
    let status = world.push(&[("app.yaml", &deployment("2"))]).await;
    assert_eq!(status.changes, ["Deployment test/podinfo: image 1 -> 2: progressive release"]);
    let second: Revision = world.annotation(REVISION).await.unwrap().parse().unwrap();
    assert_eq!((world.image().await.as_str(), &second.commit), ("podinfo:2", &Some(commit(2))));

    // At weight 30 the third is only announced.
    world.canary_status(json!({"phase": "Progressing", "canaryWeight": 30})).await;
    let status = world.push(&[("app.yaml", &deployment("3"))]).await;
    assert_eq!(status.waiting.len(), 1, "{status:?}");
    let pending: Revision = world.annotation(PENDING).await.unwrap().parse().unwrap();
    assert_eq!(pending.commit, Some(commit(3)));
    assert_eq!(world.image().await, "podinfo:2", "nothing unanalysed serves");
    assert_eq!(world.annotation(REVISION).await, Some(second.to_string()));

    // A status change that admits nothing costs no request of ours.
    world.effects.take();
    world.canary_status(json!({"phase": "Progressing", "canaryWeight": 0})).await;
    world.canary_status(json!({"serin": {"handover": {"version": 1, "admitted": pending.to_string()}}})).await;
    world.until("the write", |status| status.waiting.is_empty()).await;
    assert_eq!(
        world.effects.take(),
        [
            "Apply Deployment test/podinfo",
            "Apply announcement on Deployment test/podinfo",
            "Inventory ConfigMap default/serin-inventory-test"
        ]
    );
    assert_eq!(world.image().await, "podinfo:3");
    assert_eq!(world.annotation(REVISION).await, Some(pending.to_string()));
    assert_eq!(world.annotation(PENDING).await, None);
}

#[tokio::test]
async fn the_engines_fields_stay_the_engines() {
    let mut world = World::new().await;
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: podinfo, namespace: test, labels: {a: b}}\nspec: \
        {selector: {app: podinfo}, ports: [{port: 9898}]}\n";
    let all = [NAMESPACE, CANARY, service, &deployment("1")].join("---\n");
    world.repository.push(&[("app.yaml", &all)]);
    world.start();
    world.until("the first sync", |status| status.synced).await;

    let engine = PatchParams::apply(MANAGER_ENGINE).force();
    let taken = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "podinfo"},
        "spec": {"selector": {"app": "podinfo-primary"}, "ports": [{"port": 9898, "name": "http"}]}});
    let services = world.resource("", "v1", "Service", "test").await;
    services.patch("podinfo", &engine, &Patch::Apply(&taken)).await.unwrap();
    let deployments = world.resource("apps", "v1", "Deployment", "test").await;
    let scaled = Patch::Merge(json!({"spec": {"replicas": 0}}));
    deployments.patch_scale("podinfo", &PatchParams::default(), &scaled).await.unwrap();

    let status = world.push(&[("app.yaml", &all.replace("a: b", "a: c"))]).await;
    assert_eq!(status.changes.len(), 1, "{status:?}");
    let service = world.get("Service", "podinfo").await.unwrap();
    assert_eq!(service["metadata"]["labels"]["a"], "c");
    assert_eq!(service["spec"]["selector"], json!({"app": "podinfo-primary"}));
    assert_eq!(service["spec"]["ports"][0]["name"], "http");
    world.effects.take();
    world.resync.ring();
    world.push(&[("b.yaml", "# a look at everything\n")]).await;
    assert_eq!(world.get("Deployment", "podinfo").await.unwrap()["spec"]["replicas"], 0);
}

/// Commits one file on `main` of a bare repository, as a push does.
fn commit_file(repository: &git2::Repository, text: &str) -> CommitId {
    let blob = repository.blob(text.as_bytes()).unwrap();
    let mut tree = repository.treebuilder(None).unwrap();
    tree.insert("app.yaml", blob, 0o100_644).unwrap();
    let tree = repository.find_tree(tree.write().unwrap()).unwrap();
    let author = git2::Signature::now("someone", "someone@example.com").unwrap();
    let parent = repository.find_reference("refs/heads/main").ok().map(|main| main.peel_to_commit().unwrap());
    let parents: Vec<&git2::Commit<'_>> = parent.iter().collect();
    let id = repository.commit(Some("refs/heads/main"), &author, &author, "change", &tree, &parents).unwrap();
    id.to_string().parse().unwrap()
}

#[tokio::test]
async fn a_push_to_a_local_repository_is_seen_without_polling() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("repo.git");
    let repository = git2::Repository::init_bare(&path).unwrap();
    let first = commit_file(&repository, &[NAMESPACE, &config("a", "1")].join("---\n"));
    let mut world = World::new().await;
    let store = Store::open(folder.path().join("cache")).unwrap();
    let remote = Remote::new(path.to_str().unwrap(), Credentials::None).unwrap();
    world.source = Some(Arc::new(GitSource::new(store, remote, "main".parse().unwrap(), ".".parse().unwrap())));
    world.start();
    let status = world.until("the first sync", |status| status.synced).await;
    assert_eq!(status.commit, Some(first));

    let second = commit_file(&repository, &[NAMESPACE, &config("a", "2")].join("---\n"));
    let status = world.until("the second sync", |status| status.commit.as_ref() == Some(&second)).await;
    assert_eq!(status.changes, ["ConfigMap test/a: data.key 1 -> 2"]);
}

#[tokio::test]
async fn a_canary_goes_before_its_target() {
    let mut world = World::new().await;
    let keep = [NAMESPACE, &config("stays", "1")].join("---\n");
    world.repository.push(&[("base.yaml", &keep), ("app.yaml", &[CANARY, &deployment("1")].join("---\n"))]);
    world.start();
    world.until("the first sync", |status| status.synced).await;
    let api = world.resource("flagger.app", "v1beta1", "Canary", "test").await;
    let finalizers = |list: Value| Patch::Merge(json!({"metadata": {"finalizers": list}}));
    api.patch("podinfo", &PatchParams::default(), &finalizers(json!(["serin.dev/finalizer"]))).await.unwrap();

    let status = world.push(&[("app.yaml", "")]).await;
    assert_eq!(status.changes, ["Canary test/podinfo: delete"]);
    assert!(world.get("Deployment", "podinfo").await.is_some(), "its Canary is still being finalized");
    api.patch("podinfo", &PatchParams::default(), &finalizers(json!(null))).await.unwrap();
    let status = world.until("the target's deletion", |status| status.waiting.is_empty()).await;
    assert_eq!(status.changes, ["Deployment test/podinfo: delete"]);
}
