//! What sync does, and what it costs, when Git does not change: repairs, comparisons, counts.

use super::*;

const WEB: &str = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: test}\nspec:\n  \
    selector: {matchLabels: {app: web}}\n  template:\n    metadata: {labels: {app: web}}\n    spec: {containers: \
    [{name: web, image: \"web:1\"}]}\n";

#[tokio::test(start_paused = true)]
async fn what_cannot_be_changed_is_said_and_made_again_when_somebody_has_deleted_it() {
    let mut world = World::new().await;
    world.repository.push(&[("app.yaml", &[NAMESPACE, WEB, &config("a", "1")].join("---\n"))]);
    world.start();
    world.until("the first sync", |status| status.synced).await;
    let other = WEB.replace("app: web", "app: site");
    let status = world.push(&[("app.yaml", &[NAMESPACE, &other, &config("a", "2")].join("---\n"))]).await;
    let (id, words) = status.conditions.iter().next().unwrap();
    assert_eq!(id.to_string(), "Deployment test/web");
    assert!(words.contains("field is immutable; delete the object, and it is made again"), "{words}");
    assert_eq!(world.get("ConfigMap", "a").await.unwrap()["data"]["key"], "2", "the rest syncs");

    let api = world.resource("apps", "v1", "Deployment", "test").await;
    api.delete("web", &kube::api::DeleteParams::default()).await.unwrap();
    // By itself, at the next try.
    let mended = world.status.wait_for(|status| status.conditions.is_empty());
    tokio::time::timeout(Duration::from_secs(120), mended).await.unwrap().unwrap();
    let made = world.get("Deployment", "web").await.unwrap();
    assert_eq!(made["spec"]["selector"]["matchLabels"], json!({"app": "site"}));
    assert!(made["metadata"]["deletionTimestamp"].is_null());
}

#[tokio::test(start_paused = true)]
async fn between_two_comparisons_of_everything_nothing_is_asked() {
    let mut world = World::new().await;
    let all =
        [NAMESPACE, CANARY, &HPA.replace("v2beta2", "v2"), &deployment("1"), &config("a", "1"), &config("b", "1")];
    world.repository.push(&[("app.yaml", &all.join("---\n"))]);
    world.start();
    world.until("the first sync", |status| status.synced).await;
    world.canary_status(json!({"phase": "Initialized", "canaryWeight": 0})).await;
    world.effects.take();
    let requests = |world: &World, before: &serin::sandbox::apiserver::RequestCounts| {
        let since = world.server.requests().snapshot().since(before);
        (since.total(|key| !key.is_watch), since)
    };
    // Every half hour, a tenth sooner or later: the first between 1620 and 1980 s, the second between 3240 and 3960 s.
    for (idle, until) in [(1_600, 400), (1_200, 800)] {
        let before = world.server.requests().snapshot();
        tokio::time::sleep(Duration::from_secs(idle)).await;
        let (idle, which) = requests(&world, &before);
        assert_eq!(idle, 0, "{which:#?}");
        tokio::time::sleep(Duration::from_secs(until)).await;
        let (compared, which) = requests(&world, &before);
        let objects = u64::try_from(all.len()).unwrap();
        // Two an object, and the live Canary that guards the target.
        assert!((2 * objects..=2 * objects + 1).contains(&compared), "{compared} for {objects}: {which:#?}");
    }
    assert_eq!(world.effects.take(), Vec::<String>::new(), "nothing was written");
}

#[tokio::test]
async fn another_replica_count_is_told_and_neither_applied_nor_released() {
    let mut world = World::new().await;
    world.repository.push(&[("base.yaml", &[NAMESPACE, CANARY].join("---\n")), ("app.yaml", &deployment("1"))]);
    world.start();
    world.until("the first sync", |status| status.synced).await;
    world.canary_status(json!({"phase": "Initialized", "canaryWeight": 0})).await;
    let before = world.get("Deployment", "podinfo").await.unwrap();
    world.effects.take();
    world.push(&[("app.yaml", &deployment("1").replace("replicas: 3", "replicas: 5"))]).await;
    assert_eq!(world.annotation(REPLICAS).await.as_deref(), Some("5"));
    let after = world.get("Deployment", "podinfo").await.unwrap();
    assert_eq!(after["spec"], before["spec"]);
    assert_eq!(after["metadata"]["annotations"][REVISION], before["metadata"]["annotations"][REVISION]);
    // Git stops to name a count: nothing is sized by it any more.
    world.push(&[("app.yaml", &deployment("1").replace("  replicas: 3\n", ""))]).await;
    assert_eq!(world.annotation(REPLICAS).await, None);
}
