//! Several sources in one cluster: each deletes its own, and what moves between them is never gone in between.

use k8s_openapi::api::coordination::v1::Lease;
use serin::api::annotations::SOURCE;

use super::*;

impl World {
    /// Another daemon on the same cluster, with a repository of its own.
    fn beside(&self, name: &'static str) -> Self {
        Self::on(self.server.clone(), name)
    }

    async fn owner(&self, kind: &str, name: &str) -> Option<String> {
        let live = self.get(kind, name).await?;
        live["metadata"]["annotations"][SOURCE].as_str().map(str::to_owned)
    }

    async fn uid(&self, kind: &str, name: &str) -> String {
        self.get(kind, name).await.unwrap()["metadata"]["uid"].as_str().unwrap().to_owned()
    }

    async fn inventory_names(&self, name: &str) -> bool {
        let api: Api<k8s_openapi::api::core::v1::ConfigMap> = Api::namespaced(self.direct.client(), "default");
        let map = api.get(&format!("serin-inventory-{}", self.name)).await.unwrap();
        Inventory::from_config_map(&map).unwrap().objects.keys().any(|id| id.name == name)
    }
}

/// Two sources, each with a part of the objects, and the Namespace in both.
async fn two() -> (World, World) {
    let mut first = World::new().await;
    first.repository.push(&[("a.yaml", &[NAMESPACE, &deployment("1"), &config("moves", "1")].join("---\n"))]);
    first.start();
    first.until("the first sync", |status| status.synced).await;
    let mut second = first.beside("other");
    second.repository.push(&[("b.yaml", &[NAMESPACE, &config("own", "1")].join("---\n"))]);
    second.start();
    let status = second.until("the second's sync", |status| status.synced).await;
    assert_eq!(status.conditions, BTreeMap::new(), "a Namespace that is the same in both is no quarrel");
    (first, second)
}

#[tokio::test(start_paused = true)]
async fn what_moves_to_another_source_stays_whoever_looks_first() {
    for second_first in [true, false] {
        let (mut first, mut second) = two().await;
        assert_eq!(first.owner("ConfigMap", "moves").await.as_deref(), Some("default/test"));
        let (app, settings) = (first.uid("Deployment", "podinfo").await, first.uid("ConfigMap", "moves").await);
        let there = [NAMESPACE, &config("own", "1"), &deployment("1"), &config("moves", "2")].join("---\n");
        if second_first {
            // The first is down when the files move.
            first.stop();
            let status = second.push(&[("b.yaml", &there)]).await;
            // The workload is the same in both.
            assert_eq!(status.conditions.len(), 1, "{status:?}");
            let words = status.conditions.values().next().unwrap();
            assert!(words.contains("it belongs to source default/test, which names it too"), "{words}");
            first.repository.push(&[("a.yaml", NAMESPACE)]);
            first.start();
            first.until("the first's return", |status| status.synced).await;
        } else {
            // Both follow one branch, and the second is slower.
            let api: Api<Lease> = Api::namespaced(first.direct.client(), "default");
            let renewed = format!("{:.6}", first.cluster.clock().now());
            let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "other"},
                "spec": {"holderIdentity": "pod", "renewTime": renewed}});
            api.create(&PostParams::default(), &serde_json::from_value(lease).unwrap()).await.unwrap();
            second.stop();
            second.lease = Some("default/other");
            second.start();
            second.until("the second's start", |status| status.synced).await;
            let status = first.push(&[("a.yaml", NAMESPACE)]).await;
            assert_eq!(status.kept.len(), 2, "{status:?}");
            assert!(status.kept.values().all(|words| words.contains("until source default/other has come")));
            second.push(&[("b.yaml", &there)]).await;
            tokio::time::timeout(Duration::from_secs(300), async {
                first.status.wait_for(|status| status.kept.is_empty()).await.unwrap();
            })
            .await
            .unwrap();
        }
        second.resync.ring();
        let claimed = second.status.wait_for(|status| status.conditions.is_empty());
        tokio::time::timeout(Duration::from_secs(3600), claimed).await.unwrap().unwrap();
        second.push(&[("b.yaml", &format!("{there}# again\n"))]).await;
        for (kind, name, uid) in [("Deployment", "podinfo", app), ("ConfigMap", "moves", settings)] {
            assert_eq!(first.owner(kind, name).await.as_deref(), Some("default/other"), "{kind}");
            assert_eq!(first.uid(kind, name).await, uid, "{kind}: never gone in between");
            assert!(!first.inventory_names(name).await && second.inventory_names(name).await);
        }
        assert_eq!(first.get("ConfigMap", "moves").await.unwrap()["data"]["key"], "2");
        // It is the second's to delete now, and nobody else's.
        second.push(&[("b.yaml", &[NAMESPACE, &config("own", "1")].join("---\n"))]).await;
        let gone = second.status.wait_for(|status| status.kept.is_empty());
        tokio::time::timeout(Duration::from_secs(3600), gone).await.unwrap().unwrap();
        assert_eq!(first.get("ConfigMap", "moves").await, None);
        assert!(first.get("ConfigMap", "own").await.is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn what_both_name_stays_with_its_owner_and_the_other_says_whose_it_is() {
    let (mut first, mut second) = two().await;
    for kind in [deployment("2"), config("moves", "2")] {
        let both = [NAMESPACE, &config("own", "1"), &kind].join("---\n");
        let status = second.push(&[("b.yaml", &both)]).await;
        let words: Vec<&String> = status.conditions.values().collect();
        assert!(words.len() == 1 && words[0].contains("belongs to source default/test"), "{words:?}");
        assert!(words[0].contains("delete ConfigMap default/serin-inventory-test"), "{words:?}");
    }
    assert_eq!(first.image().await, "podinfo:1");
    assert_eq!(first.get("ConfigMap", "moves").await.unwrap()["data"]["key"], "1");
    // Giving up what was never its own deletes nothing.
    let status = second.push(&[("b.yaml", &[NAMESPACE, &config("own", "1")].join("---\n"))]).await;
    assert_eq!((status.changes, status.conditions.len()), (Vec::new(), 0));
    assert!(first.get("ConfigMap", "moves").await.is_some());
    // The owner goes on with it.
    first.push(&[("a.yaml", &[NAMESPACE, &deployment("1"), &config("moves", "3")].join("---\n"))]).await;
    assert_eq!(first.get("ConfigMap", "moves").await.unwrap()["data"]["key"], "3");
}

#[tokio::test(start_paused = true)]
async fn a_source_that_is_no_more_is_inherited_and_one_that_cannot_be_read_keeps_its_own() {
    let (mut first, mut second) = two().await;
    first.stop();
    let both = [NAMESPACE, &config("own", "1"), &config("moves", "2")].join("---\n");
    let forbidden = Answer::Status(403, "Forbidden", "configmaps is forbidden");
    let words = &["serin-inventory-test"];
    second.faults.set(vec![Fault { method: Some("GET"), words, answer: forbidden }]);
    let status = second.push(&[("b.yaml", &both)]).await;
    let said = status.conditions.values().next().unwrap();
    assert!(said.contains("nobody can tell whether that still names it: configmaps is forbidden"), "{said}");
    second.faults.set(Vec::new());
    let api: Api<k8s_openapi::api::core::v1::ConfigMap> = Api::namespaced(first.direct.client(), "default");
    api.delete("serin-inventory-test", &DeleteParams::default()).await.unwrap();
    let claimed = second.status.wait_for(|status| status.conditions.is_empty());
    tokio::time::timeout(Duration::from_secs(3600), claimed).await.unwrap().unwrap();
    assert_eq!(first.owner("ConfigMap", "moves").await.as_deref(), Some("default/other"));
    assert_eq!(first.get("ConfigMap", "moves").await.unwrap()["data"]["key"], "2");
}
