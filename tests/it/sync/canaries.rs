//! What waits for its Canary: revisions that were announced, and targets of a Canary that cannot be applied.

use serin::api::annotations::REPLACED;

use serin::api::annotations::RISKS;

use super::*;

#[tokio::test]
async fn what_a_newer_revision_replaces_is_named_until_the_engine_has_seen_it() {
    let mut world = World::new().await;
    world.repository.push(&[("base.yaml", &[NAMESPACE, CANARY].join("---\n")), ("app.yaml", &deployment("1"))]);
    world.start();
    world.until("the first sync", |status| status.synced).await;
    let revision = |text: Option<String>| text.unwrap().parse::<Revision>().unwrap();
    let first = revision(world.annotation(REVISION).await);
    world.canary_status(json!({"phase": "Progressing", "canaryWeight": 30})).await;
    world.canary_status(json!({"serin": {"handover": {"takenUp": first.digest.to_string()}}})).await;
    world.push(&[("app.yaml", &deployment("2"))]).await;
    let second = revision(world.annotation(PENDING).await);
    assert_eq!(world.annotation(REPLACED).await, None);
    world.push(&[("app.yaml", &deployment("3"))]).await;
    let third = revision(world.annotation(PENDING).await);
    assert_eq!(world.annotation(REPLACED).await, Some(second.to_string()));
    // Git goes back to what is being released: the third is withdrawn, not forgotten.
    world.push(&[("app.yaml", &deployment("1"))]).await;
    assert_eq!(world.annotation(PENDING).await, None);
    assert_eq!(world.annotation(REPLACED).await, Some(format!("{second} {third}")));
    // The engine has seen both: they go with the next word.
    let ended = json!([second.to_string(), third.to_string()]);
    world.canary_status(json!({"phase": "Succeeded", "canaryWeight": 0})).await;
    world.canary_status(json!({"serin": {"handover": {"ended": ended}}})).await;

    // Written, and replaced before the engine has taken it up.
    world.push(&[("app.yaml", &deployment("4"))]).await;
    let fourth = revision(world.annotation(REVISION).await);
    world.effects.take();
    world.push(&[("app.yaml", &deployment("5"))]).await;
    assert_eq!(world.image().await, "podinfo:5");
    assert_eq!(world.annotation(REPLACED).await, Some(fourth.to_string()));
    assert_eq!(
        world.effects.take(),
        [
            "Apply announcement on Deployment test/podinfo",
            "Apply Deployment test/podinfo",
            "Inventory ConfigMap default/serin-inventory-test"
        ],
        "named before it is gone"
    );
}

#[tokio::test]
async fn a_canary_that_only_the_api_server_refuses_holds_its_target() {
    let mut world = World::new().await;
    // A definition that is stricter than ours: somebody's policy, or another version.
    let crds: Api<DynamicObject> = Api::all_with(world.server.client(), &crd_resource());
    let path = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/analysis/properties/maxWeight";
    let stricter = json!([{"op": "add", "path": format!("{path}/maximum"), "value": 50}]);
    let stricter = Patch::Json::<()>(serde_json::from_value(stricter).unwrap());
    crds.patch("canaries.flagger.app", &PatchParams::default(), &stricter).await.unwrap();
    let reads = deployment("1").replace("image: ", "envFrom: [{configMapRef: {name: settings}}], image: ");
    let all = |canary: &str, tag: &str, value: &str| {
        let target = reads.replace("podinfo:1", &format!("podinfo:{tag}"));
        [NAMESPACE, canary, &target, &config("settings", value), &config("other", value)].join("---\n")
    };
    let refused = CANARY.replace("maxWeight: 50", "maxWeight: 60");

    // Never there: its target is not made either.
    world.repository.push(&[("app.yaml", &all(&refused, "1", "1"))]);
    world.start();
    let status = world.until("the first sync", |status| status.synced).await;
    let words: BTreeMap<String, &str> =
        status.conditions.iter().map(|(id, message)| (id.to_string(), message.as_str())).collect();
    assert!(words["Canary test/podinfo"].contains("maxWeight"), "{words:#?}");
    for held in ["Deployment test/podinfo", "ConfigMap test/settings"] {
        assert!(words[held].contains("held until Canary test/podinfo is valid"), "{words:#?}");
    }
    assert_eq!(words.len(), 3, "the rest syncs");
    assert_eq!((world.get("Deployment", "podinfo").await, world.get("ConfigMap", "settings").await), (None, None));
    let effects = world.effects.take();
    assert!(effects.iter().any(|effect| effect == "Event warning on Canary test/podinfo"), "{effects:?}");

    // The fix releases what was held.
    let status = world.push(&[("app.yaml", &all(CANARY, "1", "1"))]).await;
    assert!(status.conditions.is_empty(), "{status:?}");
    assert_eq!(world.image().await, "podinfo:1");

    // There, but Git's is refused now: what it no longer says must not guard the next revision.
    world.canary_status(json!({"phase": "Succeeded", "canaryWeight": 0})).await;
    let status = world.push(&[("app.yaml", &all(&refused, "2", "2"))]).await;
    assert_eq!(status.conditions.len(), 3, "{status:?}");
    assert_eq!(world.image().await, "podinfo:1");
    assert_eq!(world.get("ConfigMap", "settings").await.unwrap()["data"]["key"], "1");
    assert_eq!(world.get("ConfigMap", "other").await.unwrap()["data"]["key"], "2");
    let commit = status.record.clone().unwrap();
    assert!(matches!(commit.targets["test/podinfo"], api::TargetResult::Invalid { .. }), "{commit:?}");
    world.push(&[("app.yaml", &all(CANARY, "2", "2"))]).await;
    assert_eq!(world.image().await, "podinfo:2");
}

#[tokio::test(start_paused = true)]
async fn without_the_canarys_definition_its_target_is_held_until_it_is_there() {
    let mut world = World::new().await;
    let crds: Api<DynamicObject> = Api::all_with(world.server.client(), &crd_resource());
    crds.delete("canaries.flagger.app", &kube::api::DeleteParams::default()).await.unwrap();
    let all = [NAMESPACE, CANARY, &deployment("1"), &config("other", "1")].join("---\n");
    world.repository.push(&[("app.yaml", &all)]);
    world.start();
    let status = world.until("the first sync", |status| status.synced).await;
    let held = status.conditions.iter().find(|(id, _)| id.kind == "Deployment").unwrap();
    assert!(held.1.contains("held until Canary test/podinfo is valid"), "{status:#?}");
    assert_eq!(world.get("Deployment", "podinfo").await, None);
    assert!(world.get("ConfigMap", "other").await.is_some());

    for crd in api::crds().into_iter().filter(|crd| crd.metadata.name.as_deref() == Some("canaries.flagger.app")) {
        let crd = serde_json::from_value(serde_json::to_value(crd).unwrap()).unwrap();
        crds.create(&PostParams::default(), &crd).await.unwrap();
    }
    // A look at the repository that finds nothing new must not end what is to be tried again.
    tokio::time::sleep(Duration::from_secs(30)).await;
    world.wake.ring();
    let mended = world.status.wait_for(|status| status.conditions.is_empty());
    tokio::time::timeout(Duration::from_secs(120), mended).await.unwrap().unwrap();
    assert_eq!(world.image().await, "podinfo:1");
}

#[tokio::test]
async fn a_canary_is_told_which_objects_will_leave_its_primary_out() {
    let mut world = World::new().await;
    let budget = |label: &str| {
        format!(
            "apiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {{name: podinfo, namespace: test}}\nspec: {{minAvailable: \
             1, selector: {{matchLabels: {{{label}: podinfo}}}}}}\n"
        )
    };
    let all = |label: &str| [NAMESPACE, CANARY, &deployment("1"), &budget(label)].join("---\n");
    world.repository.push(&[("app.yaml", &all("app"))]);
    world.start();
    world.until("the first sync", |status| status.synced).await;
    let told = async |world: &World| {
        let canary = world.get("Canary", "podinfo").await.unwrap();
        canary["metadata"]["annotations"][RISKS].as_str().map(str::to_owned)
    };
    let words = told(&world).await.unwrap();
    assert!(
        words.starts_with("PodDisruptionBudget test/podinfo: it selects the pods of Deployment podinfo"),
        "{words}"
    );
    world.push(&[("app.yaml", &all("team"))]).await;
    assert_eq!(told(&world).await, None);
}

#[tokio::test]
async fn a_copy_that_cannot_be_made_holds_the_target_that_would_read_it() {
    let mut world = World::new().await;
    let reads = deployment("1").replace("image: ", "envFrom: [{configMapRef: {name: settings}}], image: ");
    let all = |value: &str| [NAMESPACE, CANARY, &reads, &config("settings", value)].join("---\n");
    world.repository.push(&[("app.yaml", &all("1"))]);
    world.start();
    world.until("the first sync", |status| status.synced).await;
    world.canary_status(json!({"phase": "Initialized", "canaryWeight": 0})).await;
    let read = async |world: &World| {
        let target = world.get("Deployment", "podinfo").await.unwrap();
        let from = &target["spec"]["template"]["spec"]["containers"][0]["envFrom"][0];
        from["configMapRef"]["name"].as_str().unwrap().to_owned()
    };
    let before = read(&world).await;
    assert!(before.starts_with("settings-"), "{before}");

    // Its pods would wait for it in vain, and the version would be blamed.
    let words = &["configmaps/settings-"];
    world.faults.set(vec![Fault { method: Some("PATCH"), words, answer: Answer::Status(403, "Forbidden", "no") }]);
    let status = world.push(&[("app.yaml", &all("2"))]).await;
    let held = status.conditions.iter().find(|(id, _)| id.kind == "Deployment").unwrap();
    assert!(held.1.contains("Deployment test/podinfo is held until ConfigMap test/settings-"), "{status:#?}");
    assert_eq!(read(&world).await, before);

    world.faults.set(Vec::new());
    world.push(&[("app.yaml", &all("2")), ("other.yaml", &config("other", "1"))]).await;
    assert_ne!(read(&world).await, before);
}
