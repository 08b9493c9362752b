//! The sandbox's controllers against an API server: rollouts, autoscalers, endpoints, garbage, namespaces.
//!
//! The API server is the embedded one. `SERIN_SANDBOX_KUBECONFIG` names a real one without a controller manager instead
//! (run with `--test-threads=1` then: each test brings its own controllers).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use futures::{StreamExt as _, pin_mut};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace, Pod, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, PropagationPolicy};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use serin::sandbox::apiserver::ApiServer;
use serin::sandbox::controllers::{self, ControllerOptions};
use serin::sandbox::world::{Sandbox, SandboxOptions};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Far above what any wait here takes.
const CAP: Duration = Duration::from_secs(30);

/// An API server with controllers, and a namespace of the test's own.
struct World {
    client: Client,
    namespace: String,
    _running: DropGuard,
}

impl World {
    async fn start() -> Self {
        Self::with(ControllerOptions {
            readiness_delay: Duration::from_millis(50),
            max_grace: Duration::from_millis(200),
            autoscaler_delay: Duration::from_millis(20),
            ..ControllerOptions::default()
        })
        .await
    }

    async fn with(options: ControllerOptions) -> Self {
        let client = api_server().await;
        let shutdown = CancellationToken::new();
        tokio::spawn(controllers::run(client.clone(), options, shutdown.clone()));
        let namespace: Namespace =
            serde_json::from_value(json!({"metadata": {"generateName": "sandbox-test-"}})).unwrap();
        let namespace = Api::all(client.clone()).create(&PostParams::default(), &namespace).await.unwrap();
        Self { client, namespace: namespace.name_any(), _running: shutdown.drop_guard() }
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    async fn create<K>(&self, object: Value) -> K
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + serde::Serialize
            + DeserializeOwned,
    {
        self.api::<K>().create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap()
    }

    /// Merge-patches a Deployment's spec.
    async fn change(&self, name: &str, spec: Value) {
        let patch = Patch::Merge(json!({"spec": spec}));
        self.api::<Deployment>().patch(name, &PatchParams::default(), &patch).await.unwrap();
    }

    /// Waits until the Deployment's newest spec is rolled out.
    async fn rolled_out(&self, name: &str) -> Deployment {
        self.until::<Deployment>("be rolled out", name, |deployment| {
            let status = deployment.status.clone().unwrap_or_default();
            let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas);
            status.observed_generation == deployment.metadata.generation
                && status.updated_replicas.or(Some(0)) == wanted
                && status.replicas.or(Some(0)) == wanted
                && status.available_replicas.or(Some(0)) == wanted
        })
        .await
    }

    async fn until<K>(&self, what: &str, name: &str, test: impl Fn(&K) -> bool) -> K
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + Send
            + DeserializeOwned
            + 'static,
    {
        let events = watcher::watch_object(self.api::<K>(), name).default_backoff();
        let last = std::sync::Mutex::new(None);
        let wait = async {
            pin_mut!(events);
            while let Some(event) = events.next().await {
                if let Ok(Some(object)) = event {
                    if test(&object) {
                        return object;
                    }
                    *last.lock().unwrap() = Some(object);
                }
            }
            panic!("the watch ended")
        };
        match tokio::time::timeout(CAP, wait).await {
            Ok(object) => object,
            Err(_) => panic!("{name} did not {what}: {:#?}", last.lock().unwrap()),
        }
    }

    /// Watches all pods of the namespace and calls `test` with every state, until `done` is.
    async fn pods_while<T>(
        &self,
        done: impl Future<Output = T>,
        mut test: impl FnMut(&BTreeMap<String, Pod>),
    ) -> T {
        let events = watcher(self.api::<Pod>(), watcher::Config::default()).default_backoff();
        let mut pods = BTreeMap::new();
        pin_mut!(events, done);
        loop {
            tokio::select! {
                answer = &mut done => return answer,
                event = events.next() => match event {
                    Some(Ok(watcher::Event::Apply(pod))) => {
                        pods.insert(pod.name_any(), pod);
                        test(&pods);
                    }
                    Some(Ok(watcher::Event::InitApply(pod))) => {
                        pods.insert(pod.name_any(), pod);
                    }
                    Some(Ok(watcher::Event::Delete(pod))) => {
                        pods.remove(&pod.name_any());
                        test(&pods);
                    }
                    Some(Ok(watcher::Event::Init | watcher::Event::InitDone) | Err(_)) => {}
                    None => panic!("the watch ended"),
                },
            }
        }
    }

    async fn gone<K>(&self, what: &str)
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + Send
            + DeserializeOwned
            + 'static,
    {
        let events = watcher(self.api::<K>(), watcher::Config::default()).default_backoff();
        let wait = async {
            let mut left = BTreeSet::new();
            pin_mut!(events);
            while let Some(event) = events.next().await {
                match event {
                    Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => {
                        left.insert(object.name_any());
                    }
                    Ok(watcher::Event::Delete(object)) => {
                        left.remove(&object.name_any());
                        if left.is_empty() {
                            return;
                        }
                    }
                    Ok(watcher::Event::InitDone) if left.is_empty() => return,
                    Ok(watcher::Event::Init | watcher::Event::InitDone) | Err(_) => {}
                }
            }
        };
        tokio::time::timeout(CAP, wait).await.unwrap_or_else(|_| panic!("{what} are still there"));
    }
}

/// One TLS provider for the process; a second installation is refused and fine.
fn tls() {
    let _already = rustls::crypto::ring::default_provider().install_default();
}

async fn api_server() -> Client {
    tls();
    let Some(path) = std::env::var_os("SERIN_SANDBOX_KUBECONFIG") else { return ApiServer::new().client() };
    let config = kube::config::Kubeconfig::read_from(path).unwrap();
    let config = kube::Config::from_custom_kubeconfig(config, &Default::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

fn deployment(name: &str, replicas: i32, tag: &str, strategy: Value) -> Value {
    json!({
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": name}}, "strategy": strategy,
            "template": template(name, tag),
        },
    })
}

fn template(name: &str, tag: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": name}},
        "spec": {"containers": [{
            "name": name, "image": format!("example.com/{name}:{tag}"),
            "ports": [{"name": "http", "containerPort": 9898}],
        }]},
    })
}

fn rolling(surge: i32, unavailable: i32) -> Value {
    json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}})
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    pod.metadata.deletion_timestamp.is_none()
        && conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn tag(pod: &Pod) -> String {
    let image = pod.spec.as_ref().and_then(|spec| spec.containers[0].image.clone()).unwrap_or_default();
    image.rsplit(':').next().unwrap_or_default().to_owned()
}

fn progressing(deployment: &Deployment) -> Option<(String, String)> {
    let conditions = deployment.status.as_ref()?.conditions.as_ref()?;
    let condition = conditions.iter().find(|condition| condition.type_ == "Progressing")?;
    Some((condition.status.clone(), condition.reason.clone().unwrap_or_default()))
}

fn replicas(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0)
}

#[tokio::test]
async fn a_rolling_update_keeps_its_bounds() {
    let world = World::start().await;
    world.create::<Deployment>(deployment("podinfo", 4, "1", rolling(1, 1))).await;
    world.rolled_out("podinfo").await;
    let update = async {
        world.change("podinfo", json!({"template": template("podinfo", "2")})).await;
        world.rolled_out("podinfo").await
    };
    let (mut fewest, mut most) = (usize::MAX, 0);
    let done = world
        .pods_while(update, |pods| {
            let alive = pods.values().filter(|pod| pod.metadata.deletion_timestamp.is_none()).count();
            if pods.len() >= 4 {
                fewest = fewest.min(pods.values().filter(|pod| is_ready(pod)).count());
            }
            most = most.max(alive);
        })
        .await;
    assert!(fewest >= 3, "only {fewest} pods were ready at a time");
    assert!(most <= 5, "{most} pods at a time");
    assert_eq!(done.annotations().get("deployment.kubernetes.io/revision").map(String::as_str), Some("2"));
    assert_eq!(progressing(&done), Some(("True".to_owned(), "NewReplicaSetAvailable".to_owned())));
    let sets = world.api::<ReplicaSet>().list(&ListParams::default()).await.unwrap().items;
    let mut sizes: Vec<_> = sets.iter().map(replicas).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [0, 4]);
    for set in &sets {
        let hash = &set.labels()["pod-template-hash"];
        assert_eq!(set.name_any(), format!("podinfo-{hash}"));
    }
}

#[tokio::test]
async fn recreate_never_mixes_versions() {
    let world = World::start().await;
    world.create::<Deployment>(deployment("podinfo", 2, "1", json!({"type": "Recreate"}))).await;
    world.rolled_out("podinfo").await;
    let update = async {
        world.change("podinfo", json!({"template": template("podinfo", "2")})).await;
        world.rolled_out("podinfo").await
    };
    world
        .pods_while(update, |pods| {
            let tags: BTreeSet<_> = pods.values().map(tag).collect();
            assert!(tags.len() <= 1, "pods of {tags:?} at the same time");
        })
        .await;
}

#[tokio::test]
async fn a_rollout_that_never_gets_ready_misses_its_deadline_and_the_old_version_stays() {
    let world = World::start().await;
    let mut wanted = deployment("podinfo", 2, "1", rolling(1, 0));
    wanted["spec"]["progressDeadlineSeconds"] = json!(2);
    wanted["spec"]["minReadySeconds"] = json!(1);
    world.create::<Deployment>(wanted).await;
    world.rolled_out("podinfo").await;
    world.change("podinfo", json!({"template": template("podinfo", "2-unready")})).await;
    let late = world
        .until::<Deployment>("exceed its deadline", "podinfo", |deployment| {
            progressing(deployment) == Some(("False".to_owned(), "ProgressDeadlineExceeded".to_owned()))
        })
        .await;
    assert_eq!(late.status.and_then(|status| status.available_replicas), Some(2));
    world.change("podinfo", json!({"template": template("podinfo", "3")})).await;
    let done = world.rolled_out("podinfo").await;
    assert_eq!(progressing(&done), Some(("True".to_owned(), "NewReplicaSetAvailable".to_owned())));
}

#[tokio::test]
async fn a_paused_rollout_waits_and_a_scaled_one_keeps_its_shares() {
    let world = World::start().await;
    world.create::<Deployment>(deployment("podinfo", 2, "1", rolling(1, 0))).await;
    world.rolled_out("podinfo").await;
    world.change("podinfo", json!({"paused": true, "template": template("podinfo", "2")})).await;
    world
        .until::<Deployment>("be paused", "podinfo", |deployment| {
            progressing(deployment) == Some(("Unknown".to_owned(), "DeploymentPaused".to_owned()))
        })
        .await;
    world.change("podinfo", json!({"replicas": 3})).await;
    world
        .until::<Deployment>("be scaled", "podinfo", |deployment| {
            deployment.status.as_ref().and_then(|status| status.available_replicas) == Some(3)
        })
        .await;
    let pods = world.api::<Pod>().list(&ListParams::default()).await.unwrap().items;
    assert!(pods.iter().all(|pod| tag(pod) == "1"));
    world.change("podinfo", json!({"paused": false})).await;
    world.rolled_out("podinfo").await;
}

#[tokio::test]
async fn an_autoscaler_raises_to_its_minimum_unless_the_target_is_at_zero() {
    let world = World::start().await;
    world.create::<Deployment>(deployment("podinfo", 1, "1", rolling(1, 0))).await;
    world
        .create::<HorizontalPodAutoscaler>(json!({
            "metadata": {"name": "podinfo"},
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "podinfo"},
                "minReplicas": 2, "maxReplicas": 4,
                "metrics": [{"type": "Resource", "resource": {
                    "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 99}
                }}],
            },
        }))
        .await;
    let size = |wanted: i32| {
        move |deployment: &Deployment| {
            let status = deployment.status.clone().unwrap_or_default();
            deployment.spec.as_ref().and_then(|spec| spec.replicas) == Some(wanted)
                && status.available_replicas.unwrap_or(0) == wanted
                && status.replicas.unwrap_or(0) == wanted
        }
    };
    world.until::<Deployment>("have two replicas", "podinfo", size(2)).await;
    world.change("podinfo", json!({"replicas": 0})).await;
    world
        .until::<HorizontalPodAutoscaler>("be disabled", "podinfo", |scaler| {
            let conditions = scaler.status.iter().flat_map(|status| status.conditions.iter().flatten());
            conditions.into_iter().any(|condition| {
                condition.type_ == "ScalingActive" && condition.reason.as_deref() == Some("ScalingDisabled")
            })
        })
        .await;
    world.until::<Deployment>("stay at zero", "podinfo", size(0)).await;
    world.gone::<Pod>("pods").await;
    world.change("podinfo", json!({"replicas": 9})).await;
    world.until::<Deployment>("come down to four", "podinfo", size(4)).await;
}

#[tokio::test]
async fn endpoints_follow_readiness() {
    let world = World::with(ControllerOptions {
        readiness_delay: Duration::from_millis(300),
        max_grace: Duration::from_secs(1),
        ..ControllerOptions::default()
    })
    .await;
    world
        .create::<Service>(json!({
            "metadata": {"name": "podinfo"},
            "spec": {"selector": {"app": "podinfo"}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
        }))
        .await;
    world.create::<Deployment>(deployment("podinfo", 1, "1", rolling(1, 0))).await;
    let flags = endpoint_flags(&world, |flags| flags.len() == 1).await;
    assert_eq!(flags, [(false, false, false)], "an address is there before the pod is ready");
    world.rolled_out("podinfo").await;
    endpoint_flags(&world, |flags| flags == [(true, true, false)]).await;
    let pods = world.api::<Pod>().list(&ListParams::default()).await.unwrap().items;
    world.api::<Pod>().delete(&pods[0].name_any(), &DeleteParams::default()).await.unwrap();
    endpoint_flags(&world, |flags| flags.contains(&(false, true, true))).await;
    endpoint_flags(&world, |flags| flags == [(true, true, false)]).await;
}

/// Waits until the endpoints' (ready, serving, terminating) are as tested.
async fn endpoint_flags(world: &World, test: impl Fn(&[(bool, bool, bool)]) -> bool) -> Vec<(bool, bool, bool)> {
    let config = watcher::Config::default().labels("kubernetes.io/service-name=podinfo");
    let events = watcher(world.api::<EndpointSlice>(), config).default_backoff().applied_objects();
    let wait = async {
        pin_mut!(events);
        while let Some(event) = events.next().await {
            let Ok(slice) = event else { continue };
            let flag = |flag: Option<bool>| flag == Some(true);
            let conditions = slice.endpoints.iter().filter_map(|endpoint| endpoint.conditions.as_ref());
            let flags: Vec<_> = conditions
                .map(|conditions| (flag(conditions.ready), flag(conditions.serving), flag(conditions.terminating)))
                .collect();
            if test(&flags) {
                assert_eq!(slice.ports.unwrap()[0].port, Some(9898));
                return flags;
            }
        }
        panic!("the watch ended")
    };
    tokio::time::timeout(CAP, wait).await.unwrap()
}

#[tokio::test]
async fn dependents_go_with_their_owner_or_are_let_go() {
    let world = World::start().await;
    for (name, policy) in
        [("background", PropagationPolicy::Background), ("foreground", PropagationPolicy::Foreground)]
    {
        world.create::<Deployment>(deployment(name, 2, "1", rolling(1, 0))).await;
        world.rolled_out(name).await;
        let params = DeleteParams { propagation_policy: Some(policy), ..DeleteParams::default() };
        world.api::<Deployment>().delete(name, &params).await.unwrap();
        world.gone::<Pod>("pods").await;
        world.gone::<ReplicaSet>("replicasets").await;
        world.gone::<Deployment>("deployments").await;
    }
    world.create::<Deployment>(deployment("orphan", 1, "1", rolling(1, 0))).await;
    world.rolled_out("orphan").await;
    let params = DeleteParams { propagation_policy: Some(PropagationPolicy::Orphan), ..DeleteParams::default() };
    world.api::<Deployment>().delete("orphan", &params).await.unwrap();
    world.gone::<Deployment>("deployments").await;
    let sets = world.api::<ReplicaSet>().list(&ListParams::default()).await.unwrap().items;
    assert_eq!(sets.len(), 1);
    assert_eq!(sets[0].owner_references(), []);
    let pods = world.api::<Pod>().list(&ListParams::default()).await.unwrap().items;
    world.create::<Deployment>(deployment("orphan", 1, "1", rolling(1, 0))).await;
    world.rolled_out("orphan").await;
    let after = world.api::<Pod>().list(&ListParams::default()).await.unwrap().items;
    assert_eq!(pods[0].uid(), after[0].uid(), "the new owner adopts what is there");
    assert_eq!(after.len(), 1);
}

#[tokio::test]
async fn a_relabelled_pod_is_let_go_and_replaced() {
    let world = World::start().await;
    world.create::<Deployment>(deployment("podinfo", 1, "1", rolling(1, 0))).await;
    world.rolled_out("podinfo").await;
    let pods = world.api::<Pod>().list(&ListParams::default()).await.unwrap().items;
    let name = pods[0].name_any();
    let label = Patch::Merge(json!({"metadata": {"labels": {"app": "under-inspection"}}}));
    world.api::<Pod>().patch(&name, &PatchParams::default(), &label).await.unwrap();
    world.until::<Pod>("be let go", &name, |pod| pod.owner_references().is_empty()).await;
    world.rolled_out("podinfo").await;
    let pods = world.api::<Pod>().list(&ListParams::default()).await.unwrap().items;
    assert_eq!(pods.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn controllers_are_quiet_while_nothing_changes() {
    let server = ApiServer::new();
    let shutdown = CancellationToken::new();
    let _running = shutdown.clone().drop_guard();
    let client = server.client();
    tokio::spawn(controllers::run(client.clone(), ControllerOptions::default(), shutdown));
    let world = World { client, namespace: "default".to_owned(), _running: CancellationToken::new().drop_guard() };
    world.create::<Deployment>(deployment("podinfo", 2, "1", rolling(1, 0))).await;
    world.rolled_out("podinfo").await;
    // Time is paused: this is ten virtual minutes, in which timers fire and watches reconnect.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let before = server.requests().snapshot();
    tokio::time::sleep(Duration::from_secs(600)).await;
    let idle = server.requests().snapshot().since(&before);
    assert_eq!(idle.total(|key| !key.is_watch), 0, "{idle:?}");
}

#[tokio::test]
async fn a_namespace_goes_with_its_contents() {
    let world = World::start().await;
    world.until::<ServiceAccount>("exist", "default", |_| true).await;
    world.create::<Deployment>(deployment("podinfo", 2, "1", rolling(1, 0))).await;
    world.rolled_out("podinfo").await;
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    namespaces.delete(&world.namespace, &DeleteParams::default()).await.unwrap();
    let gone =
        kube::runtime::wait::await_condition(namespaces, &world.namespace, |namespace: Option<&Namespace>| {
            namespace.is_none()
        });
    tokio::time::timeout(CAP, gone).await.unwrap().unwrap();
    world.gone::<Pod>("pods").await;
}

fn job(name: &str, command: &str, backoff: i32) -> Value {
    json!({"metadata": {"name": name}, "spec": {"backoffLimit": backoff, "template": {"spec": {"restartPolicy": "Never",
        "containers": [{"name": "a", "image": "alpine:3", "command": ["sh", "-c", command]}]}}}})
}

#[tokio::test]
async fn jobs_end_as_their_commands_do() {
    let world = World::start().await;
    let over = |job: &Job, kind: &str| {
        let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
        conditions.into_iter().any(|condition| condition.type_ == kind && condition.status == "True")
    };
    world.create::<Job>(job("good", "sleep 0.1 && true", 0)).await;
    world.create::<Job>(job("bad", "exit 3", 1)).await;
    let good = world.until::<Job>("end well", "good", |job| over(job, "Complete")).await;
    assert_eq!(good.status.unwrap().succeeded, Some(1));
    let bad = world.until::<Job>("fail", "bad", |job| over(job, "Failed")).await;
    assert_eq!(bad.status.unwrap().failed, Some(2), "one try and one more");
    let pods = world.api::<Pod>().list(&ListParams::default().labels("job-name=bad")).await.unwrap();
    let ended =
        pods.items[0].status.as_ref().unwrap().container_statuses.as_ref().unwrap()[0].state.clone().unwrap();
    assert_eq!(ended.terminated.unwrap().exit_code, 3);
}

#[tokio::test]
async fn the_world_is_served_in_its_folder() {
    tls();
    let dir = tempfile::tempdir().unwrap();
    let options = SandboxOptions { dir: dir.path().join("world"), speed: 30.0, ..SandboxOptions::default() };
    let sandbox = Sandbox::start(options).await.unwrap();
    let kubeconfig = kube::config::Kubeconfig::read_from(sandbox.kubeconfig()).unwrap();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await.unwrap();
    let client = Client::try_from(config).unwrap();
    let service = Api::<Service>::namespaced(client.clone(), "istio-system").get("prometheus").await.unwrap();
    assert_eq!(service.spec.unwrap().ports.unwrap()[0].port, 9090);

    let kind = kube::core::GroupVersionKind::gvk("networking.istio.io", "v1beta1", "VirtualService");
    let (resource, _) = kube::discovery::pinned_kind(&client, &kind).await.unwrap();
    let routes: Api<DynamicObject> = Api::namespaced_with(client, "default", &resource);
    let route = |destination: Value| {
        DynamicObject::new("podinfo", &resource).data(json!({"spec": {
            "hosts": ["podinfo"], "http": [{"route": [{"destination": destination, "weight": 100}]}],
        }}))
    };
    let refused = routes.create(&PostParams::default(), &route(json!({"subset": "a"}))).await.unwrap_err();
    assert!(matches!(&refused, kube::Error::Api(status) if status.is_invalid()), "{refused}");
    let made = routes.create(&PostParams::default(), &route(json!({"host": "podinfo", "hots": 1}))).await.unwrap();
    assert_eq!(made.data["spec"]["http"][0]["route"][0]["destination"], json!({"host": "podinfo"}));

    assert!(std::fs::read_to_string(dir.path().join("world/serin.yaml")).unwrap().contains("speed: 30"));
    assert!(sandbox.repository().tip("main").unwrap().is_none());
    sandbox.shutdown().await;
}

#[tokio::test]
async fn the_proxy_reaches_pods_and_the_mesh_prometheus_by_name() {
    tls();
    let dir = tempfile::tempdir().unwrap();
    let options = SandboxOptions { dir: dir.path().to_owned(), ..SandboxOptions::default() };
    let sandbox = Sandbox::start(options).await.unwrap();
    let world = World {
        client: sandbox.client(),
        namespace: "default".to_owned(),
        _running: CancellationToken::new().drop_guard(),
    };
    world
        .create::<Service>(json!({
            "metadata": {"name": "podinfo"},
            "spec": {"selector": {"app": "podinfo"}, "ports": [{"name": "http", "port": 9898, "targetPort": "http"}]},
        }))
        .await;
    world.create::<Deployment>(deployment("podinfo", 2, "3.1.0", rolling(1, 0))).await;
    world.rolled_out("podinfo").await;
    let proxy = reqwest::Proxy::http(sandbox.proxy_url()).unwrap();
    let http = reqwest::Client::builder().proxy(proxy).build().unwrap();
    assert!(answer(&http, "http://podinfo.default:9898/version").await.contains("3.1.0"));
    let query = "http://prometheus.istio-system:9090/api/v1/query?query=istio_requests_total";
    assert!(answer(&http, query).await.contains("\"success\""));

    // The way in from outside, by name and by the address that scripts look up; no route leads on from there yet.
    let ingress =
        Api::<Service>::namespaced(sandbox.client(), "istio-system").get("istio-ingressgateway").await.unwrap();
    let points = ingress.status.unwrap().load_balancer.unwrap().ingress.unwrap();
    for host in ["istio-ingressgateway.istio-system", points[0].ip.as_deref().unwrap()] {
        let asked = async {
            while !http
                .get(format!("http://{host}/"))
                .send()
                .await
                .unwrap()
                .text()
                .await
                .unwrap()
                .contains("Gateway")
            {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(CAP, asked).await.unwrap_or_else(|_| panic!("the ingress never answered as {host}"));
    }
    sandbox.shutdown().await;
}

/// The proxy follows the cluster by watches: what is not routed yet is asked for again.
async fn answer(http: &reqwest::Client, url: &str) -> String {
    let asked = async {
        loop {
            let response = http.get(url).send().await.unwrap();
            if response.status().is_success() {
                return response.text().await.unwrap();
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(CAP, asked).await.unwrap_or_else(|_| panic!("{url} never answered 200"))
}
