//! The cluster room against the embedded API server: caches that survive bad objects, and the lease.

mod bad_server;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{ApiResource, DeleteParams, DynamicObject, ObjectMeta, Patch, PatchParams, PostParams};
use kube::runtime::watcher;
use serde_json::json;
use serin::cluster::{Claim, Cluster, Lease, LeaseConfig, LeaseError, Reflected};
use serin::model::NamespacedName;
use serin::sandbox::apiserver::ApiServer;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Longest wait for anything: generous for a loaded machine, and only ever spent on a failure.
const PATIENCE: Duration = Duration::from_secs(20);

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what} did not happen"),
    }
}

fn config(name: &str, value: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() },
        data: Some([("number".to_owned(), value.to_owned())].into()),
        ..ConfigMap::default()
    }
}

#[tokio::test]
async fn one_bad_object_never_ends_a_watch() {
    let server = ApiServer::new();
    let configs: Api<ConfigMap> = Api::namespaced(server.client(), "default");
    configs.create(&PostParams::default(), &config("bad", "many")).await.unwrap();
    configs.create(&PostParams::default(), &config("good", "1")).await.unwrap();

    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = told.clone();
    let resource = ApiResource::erase::<ConfigMap>(&());
    let cache: Reflected<u32> = Reflected::start(
        Api::namespaced_with(server.client(), "default", &resource),
        watcher::Config::default(),
        CancellationToken::new(),
        |object: DynamicObject| {
            let number = object.data["data"]["number"].as_str().unwrap_or_default();
            number.parse().map_err(|_| format!("{number} is not a number"))
        },
        move |key| heard.lock().unwrap().push(key.name.clone()),
    );
    let mut changes = cache.changes();
    within("the first list", cache.ready()).await;
    let key = |name: &str| NamespacedName::new("default", name);
    assert_eq!(cache.get(&key("good")).as_deref(), Some(&1));
    assert_eq!(cache.problem(&key("bad")).as_deref(), Some("many is not a number"));

    let patch = Patch::Merge(json!({"data": {"number": "2"}}));
    configs.patch("bad", &PatchParams::default(), &patch).await.unwrap();
    configs.delete("good", &DeleteParams::default()).await.unwrap();
    within("the changes", async {
        while cache.get(&key("bad")).is_none() || cache.get(&key("good")).is_some() {
            changes.heard().await;
        }
    })
    .await;
    assert_eq!(cache.get(&key("bad")).as_deref(), Some(&2));
    let mut told = told.lock().unwrap().clone();
    told.retain(|name| ["good", "bad"].contains(&name.as_str()));
    assert_eq!(told.len(), 4, "each object once at first and once when it changed: {told:?}");
}

fn lease(cluster: &Cluster, identity: &str) -> (Claim, CancellationToken, JoinHandle<Result<(), LeaseError>>) {
    let config = LeaseConfig { namespace: "default".into(), name: "serin".into() };
    let lease = Lease::with_identity(cluster, config, identity.into());
    let (claim, stop) = (lease.claim(), CancellationToken::new());
    (claim, stop.clone(), tokio::spawn(lease.run(stop)))
}

#[tokio::test(start_paused = true)]
async fn one_daemon_writes_and_the_next_takes_over_at_once_when_it_leaves() {
    let cluster = Cluster::from_client(ApiServer::new().client());
    let (first, stop_first, ended) = lease(&cluster, "first");
    within("the first claim", first.acquired()).await;
    let (second, _stop, _task) = lease(&cluster, "second");
    // Far beyond the lease's duration: it is renewed all the time.
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(first.is_held() && !second.is_held());

    stop_first.cancel();
    ended.await.unwrap().unwrap();
    assert!(!first.is_held());
    within("the second claim", second.acquired()).await;
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_is_not_renewed_expires_and_is_taken_over() {
    let cluster = Cluster::from_client(ApiServer::new().client());
    let (first, _stop, task) = lease(&cluster, "first");
    within("the first claim", first.acquired()).await;
    // The process hangs: no renewal, no release.
    task.abort();
    let (second, _stop_second, second_task) = lease(&cluster, "second");
    within("the second claim", second.acquired()).await;
    assert!(!first.is_held(), "never two claims at once");

    // The first wakes up again under its old identity and finds out.
    let leases: Api<k8s_openapi::api::coordination::v1::Lease> = Api::namespaced(cluster.client(), "default");
    let patch = Patch::Merge(json!({"spec": {"holderIdentity": "third", "leaseDurationSeconds": 15}}));
    leases.patch("serin", &PatchParams::default(), &patch).await.unwrap();
    let lost = within("the end of the second", second_task).await.unwrap();
    assert!(matches!(lost, Err(LeaseError::Lost { holder, .. }) if holder == "third"));
    assert!(!second.is_held());
}
