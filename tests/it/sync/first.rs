//! The first sync, and a process that dies in the middle of one.

use super::*;

#[tokio::test]
async fn the_first_sync_goes_in_order_and_the_next_writes_nothing() {
    let mut world = World::new().await;
    let all =
        [WIDGET, CANARY, HPA, &deployment("3.1.0"), &config("settings", "1"), WIDGETS, NAMESPACE].join("---\n");
    world.repository.push(&[("app.yaml", &all)]);
    world.start();
    let status = world.until("the first sync", |status| status.synced).await;
    assert_eq!((status.conditions, status.problems), (BTreeMap::new(), Vec::new()));
    let effects = world.effects.take();
    assert_eq!(
        effects,
        [
            "Inventory ConfigMap default/serin-inventory-test",
            "Apply Namespace test",
            "Apply CustomResourceDefinition widgets.example.com",
            "Apply ConfigMap test/settings",
            "Apply Deployment test/podinfo",
            "Apply HorizontalPodAutoscaler test/podinfo",
            "Apply Widget test/a",
            "Apply Canary test/podinfo",
            "Event warning on HorizontalPodAutoscaler test/podinfo",
            "Inventory ConfigMap default/serin-inventory-test",
        ]
    );
    let autoscaler = world.get("HorizontalPodAutoscaler", "podinfo").await.unwrap();
    assert_eq!(autoscaler["apiVersion"], "autoscaling/v2");
    assert_eq!(autoscaler["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 99);
    assert_eq!(world.annotation(REPLICAS).await.as_deref(), Some("3"), "told");
    assert_eq!(
        world.get("Deployment", "podinfo").await.unwrap()["spec"]["replicas"],
        3,
        "until there is a primary"
    );

    // Another commit that changes no object: the Source alone tells of it.
    world.push(&[("README.yaml", "# nothing\n")]).await;
    assert_eq!(world.effects.take(), Vec::<String>::new());

    // Nothing new: not one request.
    let before = world.server.requests().snapshot();
    world.wake.ring();
    // The loop answers bells in order, so after a push the silent look before it is over.
    world.push(&[("README.yaml", "# still nothing\n")]).await;
    let requests = world.server.requests().snapshot().since(&before);
    assert!(requests.total(|_| true) <= 2, "a write for each of two commits at most: {requests:?}");

    // A restart compares everything and finds nothing to do.
    world.effects.take();
    world.restart();
    world.until("the sync after the restart", |status| status.synced).await;
    assert_eq!(world.effects.take(), Vec::<String>::new());
}

/// Ends of a story in which sync creates, changes, announces and deletes, killed at the `stop`-th hook.
async fn end_of_story(stop: Option<usize>) -> (Vec<Option<Value>>, Inventory, bool) {
    let mut world = World::new().await;
    *world.effects.left.lock().unwrap() = stop;
    let mut stopped = world.effects.stopped.listen();
    world.repository.push(&[
        ("base.yaml", &[NAMESPACE, CANARY, &config("a", "1")].join("---\n")),
        ("more.yaml", &[deployment("1"), config("goes", "1")].join("---\n")),
    ]);
    world.start();
    let mut killed = false;
    for turn in 0..2 {
        if turn == 1 {
            world.canary_status(json!({"phase": "Progressing", "canaryWeight": 30})).await;
            world.repository.push(&[
                ("more.yaml", &deployment("2")),
                ("base.yaml", &[NAMESPACE, CANARY, &config("a", "2")].join("---\n")),
            ]);
            world.wake.ring();
        }
        let goal = commit(turn + 1);
        let mut status = world.status.clone();
        tokio::select! {
            () = stopped.heard() => {
                killed = true;
                *world.effects.left.lock().unwrap() = None;
                world.restart();
            }
            reached = status.wait_for(|status| status.commit.as_ref() == Some(&goal)) => { reached.unwrap(); }
        }
        world.until("the commit", |status| status.commit.as_ref() == Some(&goal)).await;
    }
    let mut objects = Vec::new();
    for (kind, name) in
        [("Deployment", "podinfo"), ("Canary", "podinfo"), ("ConfigMap", "a"), ("ConfigMap", "goes")]
    {
        let object = world.get(kind, name).await;
        objects
            .push(object.map(|object| json!([object["metadata"]["annotations"], object["spec"], object["data"]])));
    }
    (objects, world.inventory().await, killed)
}

#[tokio::test(start_paused = true)]
async fn killed_at_any_effect_it_ends_the_same() {
    let (objects, inventory, _) = end_of_story(None).await;
    assert!(objects[0].is_some() && objects[3].is_none());
    for stop in 0.. {
        let (killed_objects, killed_inventory, killed) = end_of_story(Some(stop)).await;
        assert_eq!(killed_objects, objects, "killed at hook {stop}");
        assert_eq!(killed_inventory, inventory, "killed at hook {stop}");
        if !killed {
            assert!(stop >= 16, "the story has at least eight effects, not {}", stop / 2);
            return;
        }
    }
}
