//! Sides that are told apart by the subsets of a DestinationRule.

use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use serin::rollout::keys::HASH;

use super::A_WHILE;
use super::world::{NAME, World, rollout, steps};

/// The seed's Rollout with a DestinationRule instead of Services, and a second VirtualService.
async fn world() -> World {
    let world = World::empty().await;
    let mut rollout = rollout(steps(), 2);
    let canary = &mut rollout["spec"]["strategy"]["canary"];
    for service in ["stableService", "canaryService"] {
        canary.as_object_mut().unwrap().remove(service);
    }
    canary["trafficRouting"]["istio"] = json!({
        "virtualServices": [{"name": NAME, "routes": ["primary"]}, {"name": "inner"}],
        "destinationRule": {"name": NAME, "stableSubsetName": "stable", "canarySubsetName": "canary"},
    });
    world.create("argoproj.io", "v1alpha1", "Rollout", rollout).await;
    let route = |name: &str| {
        let to = |subset: &str| json!({"destination": {"host": NAME, "subset": subset}});
        json!({
            "metadata": {"name": name, "namespace": "test"},
            "spec": {"hosts": [name], "http": [{"name": "primary", "route": [to("stable"), to("canary")]}]},
        })
    };
    for name in [NAME, "inner"] {
        let mut route = route(name);
        route["spec"]["http"][0]["route"][0]["weight"] = json!(100);
        world.create("networking.istio.io", "v1alpha3", "VirtualService", route).await;
    }
    let rule = json!({
        "metadata": {"name": NAME, "namespace": "test"},
        "spec": {"host": NAME, "subsets": [
            {"name": "canary", "labels": {"app": NAME}}, {"name": "stable", "labels": {"app": NAME}},
            {"name": "theirs", "labels": {"version": "1"}},
        ]},
    });
    world.create("networking.istio.io", "v1alpha3", "DestinationRule", rule).await;
    world
}

/// Where the canary and the stable subset lead.
async fn subsets(world: &World) -> (Value, Value) {
    let rule = world.get("networking.istio.io", "v1", "DestinationRule", NAME).await;
    let subsets = &rule["spec"]["subsets"];
    assert_eq!(subsets[2], json!({"name": "theirs", "labels": {"version": "1"}}));
    (subsets[0]["labels"][HASH].clone(), subsets[1]["labels"][HASH].clone())
}

async fn inner(world: &World) -> Value {
    let route = world.get("networking.istio.io", "v1", "VirtualService", "inner").await;
    route["spec"]["http"][0]["route"][1]["weight"].clone()
}

#[tokio::test(start_paused = true)]
async fn two_subsets_follow_the_sides_and_every_virtual_service_is_shifted() {
    let world = world().await;
    let _serin = world.serin();
    world.reaches("Healthy", "").await;
    let old = world.status().await["stableRS"].clone();
    assert_eq!(subsets(&world).await, (old.clone(), old.clone()));
    world.set_image("yellow").await;
    world.reaches("Paused", "CanaryPauseStep").await;
    let new = world.status().await["currentPodHash"].clone();
    assert_eq!(subsets(&world).await, (new.clone(), old.clone()));
    assert_eq!((world.weights().await, inner(&world).await), ((90, 10), json!(10)));
    world.patch_status(json!({"pauseConditions": null})).await;
    world.reaches("Healthy", "").await;
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(subsets(&world).await, (new.clone(), new));
    assert_eq!((world.weights().await, inner(&world).await), ((100, 0), json!(0)));
}

#[tokio::test(start_paused = true)]
async fn a_size_that_was_said_holds_whatever_the_weight_is() {
    let steps = json!([
        {"pause": {}}, {"setCanaryScale": {"replicas": 3}}, {"pause": {}}, {"setWeight": 25}, {"pause": {}},
        {"setCanaryScale": {"matchTrafficWeight": true}}, {"pause": {}},
    ]);
    let world = World::new(steps, 4).await;
    let _serin = world.serin();
    world.reaches("Healthy", "").await;
    world.set_image("yellow").await;
    let mut seen = Vec::new();
    for step in [0, 2, 4, 6] {
        let paused = |status: &Value| status["phase"] == "Paused" && status["currentStepIndex"] == step;
        world.until("paused", paused).await;
        tokio::time::sleep(A_WHILE).await;
        let sizes: Vec<i64> = world.sets().await.iter().map(|(_, size)| *size).collect();
        seen.push((sizes, world.weights().await.1));
        world.patch_status(json!({"pauseConditions": null})).await;
    }
    let expected = [(vec![4, 0], 0), (vec![4, 3], 0), (vec![4, 3], 25), (vec![4, 1], 25)];
    assert_eq!(seen, expected);
    world.reaches("Healthy", "").await;
}
