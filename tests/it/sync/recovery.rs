//! What a cluster has lost or was changed by hand, and the record that says what has to serve first.

use super::*;

#[tokio::test]
async fn a_rebuilt_cluster_starts_with_what_the_record_says() {
    let mut world = World::new().await;
    let old = Content::parse(commit(9), [("a", "a", deployment("1").as_str())], &mut DocumentCache::default());
    let recorded = Recorded {
        revision: Revision { digest: old.documents[0].thaw().template.unwrap(), commit: Some(commit(9)) },
        template: old.documents[0].thaw().object["spec"]["template"].clone(),
        copies: Vec::new(),
        failed: Vec::new(),
        source: "branch serin/status/c1 says so".into(),
    };
    *world.records.0.lock().unwrap() = Some(Err("the branch cannot be fetched".into()));
    world.repository.push(&[("app.yaml", &[NAMESPACE, CANARY, &deployment("2")].join("---\n"))]);
    world.start();
    let status = world.until("the first sync", |status| status.synced).await;
    assert_eq!(world.get("Deployment", "podinfo").await, None, "without the record nothing is written");
    assert!(status.conditions.values().any(|message| message.contains("the branch cannot be fetched")));

    *world.records.0.lock().unwrap() = Some(Ok(recorded.clone()));
    world.push(&[("b.yaml", "# again\n")]).await;
    assert_eq!(world.image().await, "podinfo:1");
    assert_eq!(world.annotation(REVISION).await, Some(recorded.revision.to_string()));
    assert_eq!(world.annotation(REBUILT).await, Some(recorded.source.clone()), "the engine says so on the Canary");

    // The engine has made the primary of it: Git's revision follows as a release.
    world.canary_status(json!({"phase": "Initialized", "canaryWeight": 0})).await;
    world.until("the release", |status| status.waiting.is_empty()).await;
    assert_eq!(world.image().await, "podinfo:2");
    assert_eq!(world.annotation(REBUILT).await, None);
}

#[tokio::test]
async fn a_target_that_serves_without_a_canary_is_not_taken_back_to_the_record() {
    let mut world = World::new().await;
    let old = Content::parse(commit(9), [("a", "a", deployment("1").as_str())], &mut DocumentCache::default());
    *world.records.0.lock().unwrap() = Some(Ok(Recorded {
        revision: Revision { digest: old.documents[0].thaw().template.unwrap(), commit: Some(commit(9)) },
        template: old.documents[0].thaw().object["spec"]["template"].clone(),
        copies: Vec::new(),
        failed: Vec::new(),
        source: "branch serin/status/c1 says so".into(),
    }));
    world.repository.push(&[("app.yaml", &[NAMESPACE, &deployment("2")].join("---\n"))]);
    world.start();
    world.until("the first sync", |status| status.synced).await;
    assert_eq!(world.image().await, "podinfo:2");
    world.push(&[("canary.yaml", CANARY)]).await;
    assert_eq!(world.image().await, "podinfo:2");
}

/// What the record says: `1` was promoted last, `2` failed.
fn record_of_a_failure() -> Recorded {
    let digest_of = |tag: &str| {
        let file =
            Content::parse(commit(9), [("a", "a", deployment(tag).as_str())], &mut DocumentCache::default());
        file.documents[0].thaw().template.unwrap()
    };
    let old = Content::parse(commit(9), [("a", "a", deployment("1").as_str())], &mut DocumentCache::default());
    let failed = Revision { digest: digest_of("2"), commit: Some(commit(8)) };
    Recorded {
        revision: Revision { digest: digest_of("1"), commit: Some(commit(9)) },
        template: old.documents[0].thaw().object["spec"]["template"].clone(),
        copies: Vec::new(),
        failed: vec![Quarantined {
            release: ReleaseId::new(4, &failed.digest),
            revision: failed,
            rolled_back: None,
        }],
        source: "branch serin/status/c1 says so".into(),
    }
}

#[tokio::test]
async fn what_the_record_says_failed_is_told_to_the_engine_and_never_serves_first() {
    let mut world = World::new().await;
    let recorded = record_of_a_failure();
    *world.records.0.lock().unwrap() = Some(Ok(recorded.clone()));
    // It runs already: left behind by a Canary that is gone, or written by hand.
    world.repository.push(&[("app.yaml", &[NAMESPACE, &deployment("2")].join("---\n"))]);
    world.start();
    world.until("the first sync", |status| status.synced).await;
    assert_eq!(world.image().await, "podinfo:2");
    world.push(&[("canary.yaml", CANARY)]).await;
    assert_eq!(world.image().await, "podinfo:1");
    assert_eq!(world.annotation(RECORD_PROMOTED).await, Some(recorded.revision.to_string()));
    assert_eq!(world.annotation(RECORD_FAILED).await, Some(recorded.failed[0].to_string()));
}

#[tokio::test]
async fn a_primary_that_a_former_canary_left_does_not_hide_the_record() {
    let mut world = World::new().await;
    *world.records.0.lock().unwrap() = Some(Ok(record_of_a_failure()));
    world.repository.push(&[("app.yaml", &[NAMESPACE, &deployment("1")].join("---\n"))]);
    world.start();
    world.until("the first sync", |status| status.synced).await;
    let api = world.resource("apps", "v1", "Deployment", "test").await;
    let mut primary: Value = serde_json::to_value(api.get("podinfo").await.unwrap()).unwrap();
    let of = json!({"apiVersion": "flagger.app/v1beta1", "kind": "Canary", "name": "podinfo", "uid": "former",
        "controller": true});
    primary["metadata"] = json!({"name": "podinfo-primary", "annotations": {COPIED_FROM: "v1:x"},
        "ownerReferences": [of]});
    api.create(&PostParams::default(), &serde_json::from_value(primary).unwrap()).await.unwrap();
    // Git brings the Canary back together with what failed.
    world.push(&[("app.yaml", &[NAMESPACE, CANARY, &deployment("2")].join("---\n"))]).await;
    assert_eq!(world.image().await, "podinfo:1");
}

#[tokio::test(start_paused = true)]
async fn what_was_deleted_with_its_namespace_comes_back_when_that_is_gone() {
    let mut world = World::new().await;
    let files = [NAMESPACE, CANARY, &deployment("1"), &config("a", "1")].join("---\n");
    world.repository.push(&[("app.yaml", &files)]);
    world.start();
    world.until("the first sync", |status| status.synced).await;
    // One that begins with the list of Canaries.
    world.restart();
    world.until("the next sync", |status| status.synced).await;

    let namespaces = world.resource("", "v1", "Namespace", "test").await;
    namespaces.delete("test", &DeleteParams::default()).await.unwrap();
    for (group, version, kind, name) in [
        ("", "v1", "ConfigMap", "a"),
        ("apps", "v1", "Deployment", "podinfo"),
        (api::GROUP, api::VERSION, "Canary", "podinfo"),
    ] {
        let api = world.resource(group, version, kind, "test").await;
        api.delete(name, &DeleteParams::default()).await.unwrap();
    }
    let waits = |status: &SyncStatus| status.waiting.values().filter(|why| why.contains("being deleted")).count();
    let status = world.until("the namespace to be seen", |status| waits(status) == 4).await;
    assert!(status.conditions.is_empty(), "{:?}", status.conditions);
    assert_eq!(world.get("Deployment", "podinfo").await, None);

    // What the namespace's controller does in the end.
    let mut namespace: Value = serde_json::to_value(namespaces.get("test").await.unwrap()).unwrap();
    namespace["spec"]["finalizers"] = json!([]);
    let finalize = http::Request::put("/api/v1/namespaces/test/finalize")
        .header("content-type", "application/json")
        .body(namespace.to_string().into_bytes())
        .unwrap();
    world.cluster.client().request_text(finalize).await.unwrap();
    world.until("everything to be back", |status| status.waiting.is_empty()).await;
    assert_eq!(world.image().await, "podinfo:1");
    assert!(world.get("ConfigMap", "a").await.is_some() && world.get("Canary", "podinfo").await.is_some());
}

#[tokio::test]
async fn a_target_changed_by_hand_is_put_right_when_the_engine_waits_for_it() {
    let mut world = World::new().await;
    world.repository.push(&[("app.yaml", &[NAMESPACE, CANARY, &deployment("1")].join("---\n"))]);
    world.start();
    world.until("the first sync", |status| status.synced).await;
    world.canary_status(json!({"phase": "Progressing", "canaryWeight": 30})).await;
    let api = world.resource("apps", "v1", "Deployment", "test").await;
    let image =
        json!({"spec": {"template": {"spec": {"containers": [{"name": "podinfod", "image": "podinfo:evil"}]}}}});
    api.patch("podinfo", &PatchParams::default(), &Patch::Strategic(image)).await.unwrap();
    // Added by another manager: an apply alone would leave it.
    let restart =
        json!({"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "now"}}}}});
    api.patch("podinfo", &PatchParams::default(), &Patch::Merge(restart)).await.unwrap();
    assert_eq!(world.image().await, "podinfo:evil");

    world
        .canary_status(
            json!({"canaryWeight": 0, "serin": {"handover": {"awaits": {"kind": "correction", "what": "Git"}}}}),
        )
        .await;
    world.until("the correction", |status| status.changes.len() == 1).await;
    assert_eq!(world.image().await, "podinfo:1");
    let target = world.get("Deployment", "podinfo").await.unwrap();
    assert_eq!(target["spec"]["template"]["metadata"], json!({"labels": {"app": "podinfo"}}));
    let stamp: Revision = world.annotation(REVISION).await.unwrap().parse().unwrap();
    assert_eq!(template_digest(&target["spec"]["template"]), stamp.digest, "no drift is left");
}
