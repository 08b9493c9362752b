//! A cluster of a test's own, and what its objects look like.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use futures::{StreamExt as _, pin_mut};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use serin::sandbox::apiserver::ApiServer;
use serin::sandbox::controllers::{self, ControllerOptions};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Far above what any wait here takes.
pub(super) const CAP: Duration = Duration::from_secs(30);

/// An API server with controllers, and a namespace of the test's own.
pub(super) struct World {
    pub(super) client: Client,
    pub(super) namespace: String,
    pub(super) _running: DropGuard,
}

impl World {
    pub(super) async fn start() -> Self {
        Self::with(ControllerOptions {
            readiness_delay: Duration::from_millis(50),
            max_grace: Duration::from_millis(200),
            autoscaler_delay: Duration::from_millis(20),
            ..ControllerOptions::default()
        })
        .await
    }

    pub(super) async fn with(options: ControllerOptions) -> Self {
        let client = api_server().await;
        let shutdown = CancellationToken::new();
        tokio::spawn(controllers::run(client.clone(), options, shutdown.clone()));
        let namespace: Namespace =
            serde_json::from_value(json!({"metadata": {"generateName": "sandbox-test-"}})).unwrap();
        let namespace = Api::all(client.clone()).create(&PostParams::default(), &namespace).await.unwrap();
        Self { client, namespace: namespace.name_any(), _running: shutdown.drop_guard() }
    }

    pub(super) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub(super) async fn create<K>(&self, object: Value) -> K
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
    pub(super) async fn change(&self, name: &str, spec: Value) {
        let patch = Patch::Merge(json!({"spec": spec}));
        self.api::<Deployment>().patch(name, &PatchParams::default(), &patch).await.unwrap();
    }

    /// Waits until the Deployment's newest spec is rolled out.
    pub(super) async fn rolled_out(&self, name: &str) -> Deployment {
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

    pub(super) async fn until<K>(&self, what: &str, name: &str, test: impl Fn(&K) -> bool) -> K
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
    pub(super) async fn pods_while<T>(
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

    pub(super) async fn gone<K>(&self, what: &str)
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
pub(super) fn tls() {
    let _already = rustls::crypto::ring::default_provider().install_default();
}

pub(super) async fn api_server() -> Client {
    tls();
    let Some(path) = std::env::var_os("SERIN_SANDBOX_KUBECONFIG") else { return ApiServer::new().client() };
    let config = kube::config::Kubeconfig::read_from(path).unwrap();
    let config = kube::Config::from_custom_kubeconfig(config, &Default::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

pub(super) fn deployment(name: &str, replicas: i32, tag: &str, strategy: Value) -> Value {
    json!({
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": name}}, "strategy": strategy,
            "template": template(name, tag),
        },
    })
}

pub(super) fn template(name: &str, tag: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": name}},
        "spec": {"containers": [{
            "name": name, "image": format!("example.com/{name}:{tag}"),
            "ports": [{"name": "http", "containerPort": 9898}],
        }]},
    })
}

pub(super) fn rolling(surge: i32, unavailable: i32) -> Value {
    json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}})
}

pub(super) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    pod.metadata.deletion_timestamp.is_none()
        && conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

pub(super) fn tag(pod: &Pod) -> String {
    let image = pod.spec.as_ref().and_then(|spec| spec.containers[0].image.clone()).unwrap_or_default();
    image.rsplit(':').next().unwrap_or_default().to_owned()
}

pub(super) fn progressing(deployment: &Deployment) -> Option<(String, String)> {
    let conditions = deployment.status.as_ref()?.conditions.as_ref()?;
    let condition = conditions.iter().find(|condition| condition.type_ == "Progressing")?;
    Some((condition.status.clone(), condition.reason.clone().unwrap_or_default()))
}

pub(super) fn replicas(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0)
}
