//! Objects that cannot be applied: each is a condition, the others go on.

use super::*;

#[tokio::test]
async fn what_is_encrypted_or_too_large_holds_itself_and_nothing_else() {
    let mut world = World::new().await;
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: token, namespace: test}\ndata: {a: eA==}\n";
    world
        .repository
        .push(&[("app.yaml", &[NAMESPACE, secret, &config("goes", "1"), &config("large", "1")].join("---\n"))]);
    world.start();
    world.until("the first sync", |status| status.synced).await;
    let sealed = format!("{}sops: {{mac: 'ENC[x]', lastmodified: now}}\n", secret.replace("eA==", "'ENC[x]'"));
    let large = config("large", &"x".repeat(2 << 20));
    let status = world.push(&[("app.yaml", &[NAMESPACE, &sealed, &large].join("---\n"))]).await;
    let held: Vec<String> = status.conditions.keys().map(ToString::to_string).collect();
    assert_eq!(held, ["ConfigMap test/large", "Secret test/token"], "{status:?}");
    let words: Vec<&String> = status.conditions.values().collect();
    assert!(
        words[0].contains("etcd takes 1.5 MiB")
            && words[1].contains("app.yaml:5: Secret test/token: it is encrypted"),
        "{words:?}"
    );
    assert_eq!((status.problems, status.changes), (Vec::new(), vec!["ConfigMap test/goes: delete".to_owned()]));
    assert_eq!(world.get("Secret", "token").await.unwrap()["data"]["a"], "eA==", "it stays as it was");
    assert_eq!(world.get("ConfigMap", "large").await.unwrap()["data"]["key"], "1");
}

#[tokio::test]
async fn one_bad_object_is_its_own_condition() {
    let mut world = World::new().await;
    let all = [
        NAMESPACE,
        &CANARY.replace("threshold: 5", "threshold: five"),
        &deployment("1"),
        &config("good", "1"),
        "apiVersion: example.com/v1\nkind: Gadget\nmetadata: {name: a, namespace: test}\n",
        &config("lost", "1").replace("namespace: test", "namespace: nowhere"),
        // Server-side apply answers 500 for these two.
        &config("misspelt", "1").replace("\ndata:", "\ndta:"),
        &deployment("1")
            .replace("name: podinfo,", "name: twice,")
            .replace("name: podinfod,", "name: podinfod, env: [{name: A, value: b}, {name: A, value: c}],"),
        "no: object\n",
    ]
    .join("---\n");
    world.repository.push(&[("app.yaml", &all)]);
    world.start();
    let status = world.until("the first sync", |status| status.synced).await;
    let conditions: BTreeMap<String, &str> =
        status.conditions.iter().map(|(id, message)| (id.to_string(), message.as_str())).collect();
    assert!(conditions["Canary test/podinfo"].contains("`spec.analysis.threshold` must be a number"));
    assert!(conditions["Deployment test/podinfo"].contains("held until Canary test/podinfo is valid"));
    assert!(conditions["Gadget test/a"].contains("knows no kind Gadget in example.com/v1"), "{conditions:#?}");
    assert!(conditions["ConfigMap nowhere/lost"].contains("nowhere"), "{conditions:#?}");
    assert!(conditions["ConfigMap test/misspelt"].contains(".dta: field not declared"), "{conditions:#?}");
    assert!(
        conditions["Deployment test/twice"].contains("duplicate entries for key [name=\"A\"]"),
        "{conditions:#?}"
    );
    assert_eq!(conditions.len(), 6);
    assert_eq!(status.problems.len(), 1);
    assert!(status.problems[0].contains("`apiVersion` is missing"), "{:?}", status.problems);
    assert!(world.get("ConfigMap", "good").await.is_some());
    assert!(world.get("Deployment", "podinfo").await.is_none());
    assert!(world.effects.take().iter().any(|effect| effect == "Event warning on Canary test/podinfo"));

    // The fix releases what was held.
    let status = world.push(&[("app.yaml", &[NAMESPACE, CANARY, &deployment("1")].join("---\n"))]).await;
    assert!(status.conditions.is_empty(), "{status:?}");
    assert!(world.get("Canary", "podinfo").await.is_some());
}

#[tokio::test]
async fn a_canary_that_the_engine_refuses_says_so_and_holds_its_target() {
    let mut world = World::new().await;
    world.start();
    world.push(&[("app.yaml", &[NAMESPACE, CANARY, &deployment("1")].join("---\n"))]).await;
    let refused = CANARY.replace("threshold: 5", "threshold: 5, iterations: 5000");
    let status = world.push(&[("app.yaml", &[NAMESPACE, &refused, &deployment("2")].join("---\n"))]).await;
    let conditions: BTreeMap<String, &str> =
        status.conditions.iter().map(|(id, message)| (id.to_string(), message.as_str())).collect();
    let held = "is held until Canary test/podinfo can be carried out: 5000 iterations are too many";
    assert!(conditions["Deployment test/podinfo"].contains(held), "{conditions:#?}");
    assert_eq!(conditions.len(), 1, "{conditions:#?}");
    assert_eq!(world.get("Canary", "podinfo").await.unwrap()["spec"]["analysis"]["iterations"], 5000);
    assert_eq!(world.image().await, "podinfo:1", "neither the old policy nor the new one releases it");

    let status = world.push(&[("app.yaml", &[NAMESPACE, CANARY, &deployment("2")].join("---\n"))]).await;
    assert!(status.conditions.is_empty(), "{status:?}");
}

#[tokio::test]
async fn a_typing_error_in_an_api_version_deletes_nothing() {
    let mut world = World::new().await;
    let (widget, other) = (WIDGET.replace(", namespace: test", ""), config("other", "1"));
    let all = |widget: &str| [NAMESPACE, WIDGETS, widget, &other].join("---\n");
    world.repository.push(&[("app.yaml", &all(&widget))]);
    world.start();
    world.until("the first sync", |status| status.synced).await;
    let api = world.resource("example.com", "v1", "Widget", "default").await;
    assert!(api.get_opt("a").await.unwrap().is_some());

    let status = world.push(&[("app.yaml", &all(&widget.replace("example.com/v1", "example.com/v11")))]).await;
    assert_eq!(status.conditions.len(), 1, "{:?}", status.conditions);
    assert!(api.get_opt("a").await.unwrap().is_some(), "it is still in Git");

    // It is still ours: gone from Git, it goes.
    let status = world.push(&[("app.yaml", &[NAMESPACE, WIDGETS, &other].join("---\n"))]).await;
    assert_eq!(status.changes, ["Widget default/a: delete"]);
    assert!(api.get_opt("a").await.unwrap().is_none());
}

#[tokio::test]
async fn an_unknown_field_of_a_canary_is_left_out_with_a_warning() {
    let mut world = World::new().await;
    let canary = CANARY.replace("threshold: 5,", "threshold: 5, treshold: 5,");
    world.repository.push(&[("app.yaml", &[NAMESPACE, &canary, &deployment("1")].join("---\n"))]);
    world.start();
    let status = world.until("the first sync", |status| status.synced).await;
    assert_eq!(status.conditions, BTreeMap::new());
    assert_eq!(world.get("Canary", "podinfo").await.unwrap()["spec"]["analysis"]["treshold"], Value::Null);
    assert!(world.effects.take().iter().any(|effect| effect == "Event warning on Canary test/podinfo"));
}

#[tokio::test(start_paused = true)]
async fn an_object_that_the_store_does_not_take_is_its_own_condition() {
    let large = Answer::Status(500, "", "etcdserver: request is too large");
    let large_call = "rpc error: code = ResourceExhausted desc = trying to send message larger than max (2 vs. 1)";
    let hang = Answer::Silence;
    for answer in [large, Answer::Status(500, "", large_call), hang] {
        let mut world = World::new().await;
        // The dry run never comes to the store.
        let words: &'static [&'static str] = match answer {
            Answer::Silence => &["/configmaps/large"],
            Answer::Status(..) => &["/configmaps/large?&force"],
        };
        world.faults.set(vec![Fault { method: Some("PATCH"), words, answer: answer.clone() }]);
        let all =
            [NAMESPACE, &config("large", "1"), &config("small", "1"), CANARY, &deployment("1")].join("---\n");
        world.repository.push(&[("app.yaml", &all), ("other.yaml", &config("goes", "1"))]);
        world.start();
        let synced = world.status.wait_for(|status| status.synced);
        tokio::time::timeout(Duration::from_secs(300), synced).await.unwrap().unwrap();
        let status = world.push(&[("other.yaml", "")]).await;
        let named: Vec<String> = status.conditions.keys().map(ToString::to_string).collect();
        assert_eq!((named, &status.error), (vec!["ConfigMap test/large".to_owned()], &None), "{answer:?}");
        assert!(world.get("ConfigMap", "small").await.is_some() && world.get("Canary", "podinfo").await.is_some());
        assert!(world.get("ConfigMap", "goes").await.is_none(), "{answer:?}: pruned");
        world.faults.set(Vec::new());
        let mended = world.status.wait_for(|status| status.conditions.is_empty());
        tokio::time::timeout(Duration::from_secs(2000), mended).await.unwrap().unwrap();
        assert!(world.get("ConfigMap", "large").await.is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_in_trouble_is_no_objects_condition() {
    let mut world = World::new().await;
    let full = Answer::Status(500, "", "etcdserver: mvcc: database space exceeded");
    world.faults.set(vec![Fault { method: Some("PATCH"), words: &["/configmaps/"], answer: full }]);
    let all = [NAMESPACE, &config("a", "1"), &config("b", "1")].join("---\n");
    world.repository.push(&[("app.yaml", &all)]);
    world.start();
    let status = world.until("the trouble", |status| status.error.is_some()).await;
    assert!(status.error.unwrap().contains("database space exceeded"));
    world.faults.set(Vec::new());
    let synced = world.status.wait_for(|status| status.synced && status.error.is_none());
    tokio::time::timeout(Duration::from_secs(300), synced).await.unwrap().unwrap();
    assert!(world.get("ConfigMap", "b").await.is_some());
}

#[tokio::test(start_paused = true)]
async fn what_was_never_let_in_can_be_forgotten() {
    let mut world = World::new().await;
    let forbidden =
        Answer::Status(403, "Forbidden", "configmaps is forbidden: User \"serin\" cannot get resource");
    world.faults.set(vec![Fault { method: None, words: &["/test/configmaps/secret"], answer: forbidden }]);
    let all = [NAMESPACE, &config("a", "1"), &config("secret", "1")].join("---\n");
    world.repository.push(&[("app.yaml", &all)]);
    world.start();
    let status = world.until("the first sync", |status| status.synced).await;
    assert_eq!(status.conditions.len(), 1);
    let status = world.push(&[("app.yaml", &[NAMESPACE, &config("a", "1")].join("---\n"))]).await;
    assert_eq!((&status.conditions, &status.problems), (&BTreeMap::new(), &Vec::new()));
    assert_eq!(world.inventory().await.objects.len(), 2);
    assert_eq!(status.record.unwrap().result, api::CommitResult::Applied);
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_is_served_again_is_noticed_at_once() {
    let mut world = World::new().await;
    let crds: Api<DynamicObject> = Api::all_with(world.server.client(), &crd_resource());
    let all = [NAMESPACE, WIDGET, &config("other", "1")].join("---\n");
    world.repository.push(&[("app.yaml", &all)]);
    world.start();
    world.until("the first sync", |status| status.synced && status.conditions.len() == 1).await;
    // Passes for other reasons meet the same trouble.
    for number in 0..6 {
        world.push(&[("more.yaml", &config("more", &number.to_string()))]).await;
    }
    let definition: Value = serde_yaml::from_str(WIDGETS).unwrap();
    crds.create(&PostParams::default(), &serde_json::from_value(definition).unwrap()).await.unwrap();
    let mended = world.status.wait_for(|status| status.conditions.is_empty());
    tokio::time::timeout(Duration::from_secs(30), mended).await.unwrap().unwrap();
    assert!(world.get("Widget", "a").await.is_some());
}
