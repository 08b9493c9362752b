//! The embedded API server as kube-rs sees it.

use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{DeleteParams, ListParams, ObjectMeta, PostParams};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client};
use serin::sandbox::apiserver::ApiServer;

/// Longest wait for anything: generous for a loaded machine, and only ever spent on a failure.
const PATIENCE: Duration = Duration::from_secs(20);

fn config(name: &str, value: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() },
        data: Some([("key".to_owned(), value.to_owned())].into()),
        ..ConfigMap::default()
    }
}

fn configs(client: &Client) -> Api<ConfigMap> {
    Api::namespaced(client.clone(), "default")
}

#[tokio::test]
async fn creates_reads_updates_and_deletes() {
    let client = ApiServer::new().client();
    let api = configs(&client);
    let created = api.create(&PostParams::default(), &config("a", "1")).await.unwrap();
    assert!(created.metadata.uid.is_some());
    assert!(
        api.create(&PostParams::default(), &config("a", "1"))
            .await
            .is_err_and(|error| { matches!(error, kube::Error::Api(status) if status.is_already_exists()) })
    );

    let mut changed = created.clone();
    changed.data = config("a", "2").data;
    let updated = api.replace("a", &PostParams::default(), &changed).await.unwrap();
    assert_ne!(updated.metadata.resource_version, created.metadata.resource_version);
    let stale = api.replace("a", &PostParams::default(), &changed).await;
    assert!(stale.is_err_and(|error| matches!(error, kube::Error::Api(status) if status.is_conflict())));

    api.delete("a", &DeleteParams::default()).await.unwrap();
    assert!(api.get_opt("a").await.unwrap().is_none());
}

#[tokio::test]
async fn refuses_content_for_missing_namespaces() {
    let client = ApiServer::new().client();
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), "nowhere");
    let refused = api.create(&PostParams::default(), &config("a", "1")).await;
    assert!(refused.is_err_and(|error| matches!(error, kube::Error::Api(status) if status.is_not_found())));
    let system: Namespace = Api::all(client).get("kube-system").await.unwrap();
    assert!(system.metadata.uid.is_some());
}

#[tokio::test]
async fn lists_in_chunks_from_one_snapshot() {
    let client = ApiServer::new().client();
    let api = configs(&client);
    for name in ["a", "b", "c"] {
        api.create(&PostParams::default(), &config(name, "1")).await.unwrap();
    }
    let first = api.list(&ListParams::default().limit(2)).await.unwrap();
    assert_eq!(first.items.len(), 2);
    api.delete("c", &DeleteParams::default()).await.unwrap();
    let token = first.metadata.continue_.unwrap();
    let rest = api.list(&ListParams::default().limit(2).continue_token(&token)).await.unwrap();
    assert_eq!(rest.items.len(), 1, "the second page is of the same moment");
    assert_eq!(rest.metadata.resource_version, first.metadata.resource_version);
}

/// Both ways in which kube's watcher starts: list then watch, and a watch with initial events.
#[tokio::test]
async fn watchers_see_initial_objects_and_changes() {
    for settings in [watcher::Config::default(), watcher::Config::default().streaming_lists()] {
        let client = ApiServer::new().client();
        let api = configs(&client);
        api.create(&PostParams::default(), &config("a", "1")).await.unwrap();
        let mut events = watcher::watcher(api.clone(), settings).boxed();
        let mut seen = Vec::new();
        let collect = async {
            while let Some(event) = events.next().await {
                match event.unwrap() {
                    Event::Init => {}
                    Event::InitApply(object) => seen.push(format!("init {}", object.metadata.name.unwrap())),
                    Event::InitDone => {
                        api.create(&PostParams::default(), &config("b", "1")).await.unwrap();
                        api.delete("b", &DeleteParams::default()).await.unwrap();
                    }
                    Event::Apply(object) => seen.push(format!("apply {}", object.metadata.name.unwrap())),
                    Event::Delete(object) => {
                        seen.push(format!("delete {}", object.metadata.name.unwrap()));
                        break;
                    }
                }
            }
        };
        tokio::time::timeout(PATIENCE, collect).await.unwrap();
        assert_eq!(seen, ["init a", "apply b", "delete b"]);
    }
}
