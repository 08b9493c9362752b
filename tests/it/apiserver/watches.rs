//! Lists and watches as reflectors use them.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::runtime::watcher::{self, Event};
use serde_json::json;
use serin::sandbox::apiserver::ApiServer;

use super::{PATIENCE, config, configs};

/// Both ways in which kube's watcher starts: list then watch, and a watch with initial events.
#[tokio::test]
async fn watchers_see_initial_objects_and_changes() {
    for settings in [watcher::Config::default(), watcher::Config::default().streaming_lists()] {
        let api = configs(&ApiServer::new().client());
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

#[tokio::test]
async fn objects_that_stop_matching_are_deleted_for_the_watcher() {
    let api = configs(&ApiServer::new().client());
    let start =
        api.create(&PostParams::default(), &config("a", "1")).await.unwrap().metadata.resource_version.unwrap();
    for labels in [json!({"app": "x"}), json!({"app": "y"})] {
        let patch = Patch::Merge(json!({"metadata": {"labels": labels}}));
        api.patch("a", &PatchParams::default(), &patch).await.unwrap();
    }
    let params = WatchParams::default().labels("app=x").timeout(10);
    let kinds: Vec<&str> = tokio::time::timeout(
        PATIENCE,
        api.watch(&params, &start).await.unwrap().take(2).map_ok(|event| kind(&event)).try_collect(),
    )
    .await
    .unwrap()
    .unwrap();
    assert_eq!(kinds, ["added", "deleted"]);
}

fn kind(event: &WatchEvent<ConfigMap>) -> &'static str {
    match event {
        WatchEvent::Added(_) => "added",
        WatchEvent::Modified(_) => "modified",
        WatchEvent::Deleted(_) => "deleted",
        WatchEvent::Bookmark(_) => "bookmark",
        WatchEvent::Error(_) => "error",
    }
}

/// Time stands still unless everyone waits, so this takes no minute.
#[tokio::test(start_paused = true)]
async fn quiet_watches_get_bookmarks_and_an_end() {
    let api = configs(&ApiServer::new().client());
    let events = api.watch(&WatchParams::default().timeout(150), "0").await.unwrap();
    let kinds: Vec<&str> = events.map_ok(|event| kind(&event)).try_collect().await.unwrap();
    assert_eq!(kinds, ["bookmark", "bookmark"]);
}

#[tokio::test]
async fn compacted_history_is_gone() {
    let api = configs(&ApiServer::new().client());
    let first = api.create(&PostParams::default(), &config("a", "0")).await.unwrap();
    let old = first.metadata.resource_version.unwrap();
    // More changes than history keeps.
    for value in 0..2_100 {
        let patch = Patch::Merge(json!({"data": {"key": value.to_string()}}));
        api.patch("a", &PatchParams::default(), &patch).await.unwrap();
    }
    let refused = api.watch(&WatchParams::default(), &old).await.map(|_| ());
    assert!(refused.is_err_and(|error| matches!(error, kube::Error::Api(status) if status.code == 410)));
    let future = api.watch(&WatchParams::default().timeout(1), "999999").await.unwrap();
    let waited = tokio::time::timeout(Duration::from_secs(20), future.try_collect::<Vec<_>>()).await;
    assert_eq!(waited.unwrap().unwrap().len(), 0, "a version from the future is waited for");
}
