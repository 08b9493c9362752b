//! The controller against the embedded API server and its controllers, with metrics and hooks that answer from memory.
//! Time is paused: it advances by itself whenever everybody waits.

mod analysisruns;
mod defects;
mod deletion;
mod gateway;
mod kubernetes;
mod obstacles;
mod pair;
mod retarget;
mod rollouts;
mod routes;
mod told;
pub(crate) mod world;
mod writes;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams};
use kube::runtime::conditions::is_deleted;
use kube::runtime::wait::await_condition;
use pretty_assertions::assert_eq;
use serde_json::json;
use serin::cluster::NoProbe;

use world::World;

#[tokio::test(start_paused = true)]
async fn first_sight_makes_primary_services_and_route() {
    let world = World::new().await;
    let _serin = world.serin(Arc::new(NoProbe));
    world.reaches("Initialized").await;
    assert_eq!(world.image_of("podinfo-primary").await, "stefanprodan/podinfo:3.1.0");
    assert_eq!(world.deployment("podinfo-primary").await["status"]["availableReplicas"], 2);
    assert_eq!(world.deployment("podinfo").await["spec"]["replicas"], 0);
    assert_eq!(world.weights().await, (100, 0));
    let scaler = world.get("autoscaling", "v2", "HorizontalPodAutoscaler", "podinfo-primary").await;
    assert_eq!(scaler["spec"]["scaleTargetRef"]["name"], "podinfo-primary");
    for (service, selects) in
        [("podinfo", "podinfo-primary"), ("podinfo-primary", "podinfo-primary"), ("podinfo-canary", "podinfo")]
    {
        assert_eq!(world.get("", "v1", "Service", service).await["spec"]["selector"], json!({"app": selects}));
    }
    let canary = world.get("flagger.app", "v1beta1", "Canary", "podinfo").await;
    assert_eq!(canary["metadata"]["finalizers"], json!(["serin.dev/finalizer"]));
}

#[tokio::test(start_paused = true)]
async fn a_healthy_revision_is_promoted_with_the_seeds_events() {
    let world = World::new().await;
    let _serin = world.serin(Arc::new(NoProbe));
    world.reaches("Initialized").await;
    world.set_image("3.1.1").await;
    world.reaches("Succeeded").await;
    assert_eq!(world.image_of("podinfo-primary").await, "stefanprodan/podinfo:3.1.1");
    assert_eq!(world.weights().await, (100, 0));
    assert_eq!(world.deployment("podinfo").await["spec"]["replicas"], 0);
    let hooks = world.outside.hooks.lock().unwrap().clone();
    assert_eq!(hooks[0], ("bash".into(), "Progressing".into(), "acceptance-test".into()));

    // The last status is written before its events; wait for the last of them.
    let last = "Promotion completed! Scaling down podinfo.test";
    let mut messages = world.messages().await;
    while !messages.iter().any(|message| message == last) {
        tokio::time::sleep(Duration::from_millis(10)).await;
        messages = world.messages().await;
    }
    messages.retain(|message| !message.contains("not ready"));
    assert_eq!(
        messages,
        [
            "all the metrics providers are available!",
            "Initialization done! podinfo.test",
            "New revision detected! Scaling up podinfo.test",
            "Starting canary analysis for podinfo.test",
            "Pre-rollout check acceptance-test passed",
            "Advance podinfo.test canary weight 10",
            "Advance podinfo.test canary weight 20",
            "Advance podinfo.test canary weight 30",
            "Advance podinfo.test canary weight 40",
            "Advance podinfo.test canary weight 50",
            "Copying podinfo.test template spec to podinfo-primary.test",
            "Routing all traffic to primary",
            last,
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_failing_revision_is_rolled_back() {
    let world = World::new().await;
    let _serin = world.serin(Arc::new(NoProbe));
    world.reaches("Initialized").await;
    world.outside.failing.store(true, Ordering::Relaxed);
    world.set_image("3.1.2-errors-50").await;
    world.reaches("Failed").await;
    assert_eq!(world.image_of("podinfo-primary").await, "stefanprodan/podinfo:3.1.0");
    assert_eq!(world.weights().await, (100, 0));
    assert_eq!(world.deployment("podinfo").await["spec"]["replicas"], 0);
    let canary = world.get("flagger.app", "v1beta1", "Canary", "podinfo").await;
    let message = canary["status"]["conditions"][0]["message"].as_str().unwrap();
    assert!(message.contains("69.17"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn idle_costs_nothing_and_a_weight_step_three_writes() {
    let world = World::new().await;
    let _serin = world.serin(Arc::new(NoProbe));
    world.reaches("Initialized").await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let before = world.server.requests().snapshot();
    tokio::time::sleep(Duration::from_secs(600)).await;
    let idle = world.server.requests().snapshot().since(&before);
    assert_eq!(idle.total(|key| !key.is_watch && !key.resource.starts_with("leases")), 0, "{idle:?}");

    world.set_image("3.1.1").await;
    world.has_weight(20).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    let before = world.server.requests().snapshot();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let step = world.server.requests().snapshot().since(&before);
    let counted = step.total(|key| !key.is_watch && !key.resource.starts_with("events"));
    assert!(counted <= 3, "{counted} requests: {step:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_new_revision_supersedes_the_one_under_way() {
    let world = World::new().await;
    let _serin = world.serin(Arc::new(NoProbe));
    world.reaches("Initialized").await;
    world.set_image("3.1.1").await;
    world.has_weight(30).await;
    world.set_image("3.1.2").await;
    world.reaches("Succeeded").await;
    assert_eq!(world.image_of("podinfo-primary").await, "stefanprodan/podinfo:3.1.2");
    let canary = world.get("flagger.app", "v1beta1", "Canary", "podinfo").await;
    assert_eq!(canary["status"]["serin"]["state"]["releases"], 2);
}

#[tokio::test(start_paused = true)]
async fn a_canary_that_never_becomes_ready_fails_with_its_reason() {
    let world = World::new().await;
    let _serin = world.serin(Arc::new(NoProbe));
    world.reaches("Initialized").await;
    world.set_image("3.1.1-unready").await;
    world.reaches("Failed").await;
    let canary = world.get("flagger.app", "v1beta1", "Canary", "podinfo").await;
    let message = canary["status"]["conditions"][0]["message"].as_str().unwrap();
    assert!(message.contains("0 of 2 (readyThreshold 100%) updated replicas are available"), "{message}");
    assert_eq!(world.weights().await, (100, 0));
}

#[tokio::test(start_paused = true)]
async fn an_abort_is_answered_and_rolls_back() {
    let world = World::new().await;
    let _serin = world.serin(Arc::new(NoProbe));
    world.reaches("Initialized").await;
    world.set_image("3.1.1").await;
    world.has_weight(20).await;
    let release =
        world.get("flagger.app", "v1beta1", "Canary", "podinfo").await["status"]["serin"]["release"].take();
    let request = format!("abort/{}/n1", release.as_str().unwrap());
    let patch = Patch::Merge(json!({"metadata": {"annotations": {"serin.dev/request": request}}}));
    let api = world.api("flagger.app", "v1beta1", "Canary").await;
    api.patch("podinfo", &PatchParams::default(), &patch).await.unwrap();
    world.reaches("Failed").await;
    let canary = api.get("podinfo").await.unwrap();
    assert_eq!(canary.data["status"]["serin"]["handledRequest"], request);
    assert_eq!(world.image_of("podinfo-primary").await, "stefanprodan/podinfo:3.1.0");
}

#[tokio::test(start_paused = true)]
async fn the_primarys_autoscaler_is_put_right_and_follows_the_targets() {
    let world = World::new().await;
    let _serin = world.serin(Arc::new(NoProbe));
    world.reaches("Initialized").await;
    let api = world.api("autoscaling", "v2", "HorizontalPodAutoscaler").await;
    let becomes = async |what: &str, is: &(dyn Fn(&DynamicObject) -> bool + Send + Sync)| {
        let reached = |object: Option<&DynamicObject>| object.is_some_and(is);
        let waited =
            tokio::time::timeout(world::CAP, await_condition(api.clone(), "podinfo-primary", reached)).await;
        waited.unwrap_or_else(|_| panic!("never: {what}")).unwrap();
    };
    let uid = api.get("podinfo-primary").await.unwrap().metadata.uid;
    api.delete("podinfo-primary", &DeleteParams::default()).await.unwrap();
    becomes("made again", &|object| object.metadata.uid != uid).await;

    let most = |count: u32| Patch::Merge(json!({"spec": {"maxReplicas": count}}));
    api.patch("podinfo-primary", &PatchParams::default(), &most(9)).await.unwrap();
    becomes("put right", &|object| object.data["spec"]["maxReplicas"] == 4).await;
    api.patch("podinfo", &PatchParams::default(), &most(6)).await.unwrap();
    becomes("as the target's", &|object| object.data["spec"]["maxReplicas"] == 6).await;
    let canary = world.get("flagger.app", "v1beta1", "Canary", "podinfo").await;
    assert_eq!(canary["status"]["serin"]["state"]["releases"], 0, "none of it is a release");
}

#[tokio::test(start_paused = true)]
async fn gits_replica_count_sizes_primary_and_starts_no_release() {
    let mut canary = world::canary();
    canary["spec"].as_object_mut().unwrap().remove("autoscalerRef");
    let world = World::with(canary).await;
    let scalers = world.api("autoscaling", "v2", "HorizontalPodAutoscaler").await;
    scalers.delete("podinfo", &DeleteParams::default()).await.unwrap();
    let _serin = world.serin(Arc::new(NoProbe));
    world.reaches("Initialized").await;
    let api = world.api("apps", "v1", "Deployment").await;
    let told = |count: &str| Patch::Merge(json!({"metadata": {"annotations": {"serin.dev/replicas": count}}}));
    for (count, expected) in [("3", 3), ("1", 1), ("0", 0), ("2", 2)] {
        api.patch("podinfo", &PatchParams::default(), &told(count)).await.unwrap();
        let sized = move |object: Option<&DynamicObject>| {
            object.is_some_and(|object| object.data["spec"]["replicas"] == expected)
        };
        let waited = await_condition(api.clone(), "podinfo-primary", sized);
        tokio::time::timeout(world::CAP, waited).await.unwrap_or_else(|_| panic!("never {expected}")).unwrap();
        // Whatever follows from it has followed.
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert_eq!(world.deployment("podinfo-primary").await["spec"]["replicas"], expected, "told {count}");
        assert_eq!(world.deployment("podinfo").await["spec"]["replicas"], 0);
    }
    let canary = world.get("flagger.app", "v1beta1", "Canary", "podinfo").await;
    assert_eq!(canary["status"]["serin"]["state"]["releases"], 0);
}

#[tokio::test(start_paused = true)]
async fn a_deleted_canary_hands_its_target_back() {
    let world = World::new().await;
    let _serin = world.serin(Arc::new(NoProbe));
    world.reaches("Initialized").await;
    let api = world.api("flagger.app", "v1beta1", "Canary").await;
    let uid = api.get("podinfo").await.unwrap().metadata.uid.unwrap();
    api.delete("podinfo", &DeleteParams::default()).await.unwrap();
    world.reaches("Terminating").await;
    assert_eq!(world.image_of("podinfo-primary").await, "stefanprodan/podinfo:3.1.0", "primary serves until then");
    tokio::time::timeout(world::CAP, await_condition(api, "podinfo", is_deleted(&uid))).await.unwrap().unwrap();
    let target = world.deployment("podinfo").await;
    assert_eq!(target["status"]["availableReplicas"], 2);
    let primary = world.api("apps", "v1", "Deployment").await;
    let gone = |object: Option<&DynamicObject>| object.is_none();
    let primary_gone = await_condition(primary, "podinfo-primary", gone);
    tokio::time::timeout(world::CAP, primary_gone).await.unwrap().unwrap();

    // Whoever calls the service, from inside or through the gateway, still reaches the target's pods.
    let service = world.get("", "v1", "Service", "podinfo").await;
    assert_eq!(service["spec"]["selector"], json!({"app": "podinfo"}));
    let route = world.get("networking.istio.io", "v1beta1", "VirtualService", "podinfo").await;
    assert_eq!(route["spec"]["http"][0]["route"], json!([{"destination": {"host": "podinfo"}}]));
    assert_eq!(route["metadata"]["ownerReferences"][0]["uid"], target["metadata"]["uid"], "they go with it");

    // Another Canary takes both up again.
    world.create("flagger.app", "v1beta1", "Canary", world::canary()).await;
    world.reaches("Initialized").await;
    assert_eq!(world.weights().await, (100, 0));
    let route = world.get("networking.istio.io", "v1beta1", "VirtualService", "podinfo").await;
    assert_eq!(route["metadata"]["ownerReferences"][0]["kind"], "Canary");
}

#[tokio::test(start_paused = true)]
async fn nothing_starts_on_a_definition_that_prunes_the_state() {
    let world = World::new().await;
    let definitions = Api::<CustomResourceDefinition>::all(world.cluster.client());
    let ours = world.flaggers_definition().await;

    let _serin = world.serin(Arc::new(NoProbe));
    let api = world.api("flagger.app", "v1beta1", "Canary").await;
    let blocked = |object: Option<&DynamicObject>| {
        object.is_some_and(|object| object.data["status"]["conditions"][0]["type"] == "Blocked")
    };
    tokio::time::timeout(world::CAP, await_condition(api.clone(), "podinfo", blocked)).await.unwrap().unwrap();
    let canary = api.get("podinfo").await.unwrap();
    let message = canary.data["status"]["conditions"][0]["message"].as_str().unwrap();
    assert!(message.contains("serin crds | kubectl apply"), "{message}");

    let patch = Patch::Merge(json!({"spec": ours}));
    definitions.patch("canaries.flagger.app", &PatchParams::default(), &patch).await.unwrap();
    world.reaches("Initialized").await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_carried_out_is_said_on_the_object_and_mended_there() {
    let mut canary = world::canary();
    canary["spec"]["analysis"]["iterations"] = json!(5000);
    let world = World::with(canary).await;
    let _serin = world.serin(Arc::new(NoProbe));
    let api = world.api("flagger.app", "v1beta1", "Canary").await;
    let blocked = |object: Option<&DynamicObject>| {
        object.is_some_and(|object| object.data["status"]["conditions"][0]["type"] == "Blocked")
    };
    tokio::time::timeout(world::CAP, await_condition(api.clone(), "podinfo", blocked)).await.unwrap().unwrap();
    let patch = Patch::Merge(json!({"spec": {"analysis": {"iterations": null}}}));
    api.patch("podinfo", &PatchParams::default(), &patch).await.unwrap();
    world.reaches("Initialized").await;
    let canary = api.get("podinfo").await.unwrap();
    assert_eq!(canary.data["status"]["conditions"][0]["type"], "Promoted");
}

#[tokio::test(start_paused = true)]
async fn what_flagger_leaves_unsaid_is_said_on_the_object() {
    let mut canary = world::canary();
    canary["spec"]["service"]["meshName"] = json!("global");
    let world = World::with(canary).await;
    let _serin = world.serin(Arc::new(NoProbe));
    world.reaches("Initialized").await;
    let ignored = world.condition("Ignored").await;
    assert_eq!(ignored["message"], "spec.service.meshName has no effect with provider istio");

    // Not even this starts, and nobody has to look for the reason.
    world.patch_canary(json!({"spec": {"analysis": {"iterations": 5000}}})).await;
    let blocked = world.condition("Blocked").await;
    let reason = "spec.analysis.iterations is 5000, more than 1000: use a longer interval";
    assert_eq!(blocked["message"], reason);
    let said = format!("podinfo.test is blocked: {reason}");
    world.says(&said).await;
    let canary = world.get("flagger.app", "v1beta1", "Canary", "podinfo").await;
    assert_eq!(canary["status"]["conditions"][0]["type"], "Promoted", "scripts read the first one");
    assert_eq!(canary["status"]["serin"]["waitingOn"], reason);
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_cannot_be_asked_blocks_before_anybody_is_sent_to_the_canary() {
    let mut canary = world::canary();
    let check = json!({"name": "errors", "templateRef": {"name": "errors"}, "thresholdRange": {"max": 1}});
    canary["spec"]["analysis"]["metrics"] = json!([check]);
    let world = World::with(canary).await;
    let template = json!({"metadata": {"name": "errors", "namespace": "test"},
        "spec": {"provider": {"type": "datadog"}, "query": "errors"}});
    world.create("flagger.app", "v1beta1", "MetricTemplate", template).await;
    let _serin = world.serin(Arc::new(NoProbe));
    let blocked = world.condition("Blocked").await;
    let message = blocked["message"].as_str().unwrap();
    assert!(
        message.starts_with(
            "metric `errors` cannot be checked: MetricTemplate test/errors: provider type datadog is not"
        ),
        "{message}"
    );

    let api = world.api("flagger.app", "v1beta1", "MetricTemplate").await;
    let patch = Patch::Merge(json!({"spec": {"provider": {"type": "prometheus"}}}));
    api.patch("errors", &PatchParams::default(), &patch).await.unwrap();
    world.reaches("Initialized").await;
}

#[tokio::test(start_paused = true)]
async fn flaggers_finalizer_is_there_when_asked_for_and_goes_with_ours() {
    let mut canary = world::canary();
    canary["spec"]["revertOnDeletion"] = json!(true);
    let world = World::with(canary).await;
    let _serin = world.serin(Arc::new(NoProbe));
    world.reaches("Initialized").await;
    let api = world.api("flagger.app", "v1beta1", "Canary").await;
    let found = api.get("podinfo").await.unwrap();
    assert_eq!(found.metadata.finalizers.unwrap(), ["serin.dev/finalizer", "finalizer.flagger.app"]);
    api.delete("podinfo", &DeleteParams::default()).await.unwrap();
    let uid = found.metadata.uid.unwrap();
    tokio::time::timeout(world::CAP, await_condition(api, "podinfo", is_deleted(&uid))).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn without_an_autoscaler_primary_takes_the_size_that_came_with_the_revision() {
    let mut canary = world::canary();
    canary["spec"]["autoscalerRef"] = json!(null);
    let world = World::with(canary).await;
    let scalers = world.api("autoscaling", "v2", "HorizontalPodAutoscaler").await;
    scalers.delete("podinfo", &DeleteParams::default()).await.unwrap();
    let _serin = world.serin(Arc::new(NoProbe));
    world.reaches("Initialized").await;
    assert_eq!(world.deployment("podinfo-primary").await["spec"]["replicas"], 2);

    let api = world.api("apps", "v1", "Deployment").await;
    let next = json!({"spec": {"replicas": 3, "template": {"metadata": {"annotations": {"release": "2"}}}}});
    api.patch("podinfo", &PatchParams::default(), &Patch::Merge(next)).await.unwrap();
    world.reaches("Succeeded").await;
    assert_eq!(world.deployment("podinfo-primary").await["spec"]["replicas"], 3);
    assert_eq!(world.deployment("podinfo").await["spec"]["replicas"], 0);
}

#[tokio::test(start_paused = true)]
async fn another_autoscaler_takes_the_place_of_the_former_one_on_primary() {
    let world = World::new().await;
    let _serin = world.serin(Arc::new(NoProbe));
    world.reaches("Initialized").await;
    let scalers = world.api("autoscaling", "v2", "HorizontalPodAutoscaler").await;
    let mut total = scalers.get("podinfo").await.unwrap();
    total.metadata = Default::default();
    total.metadata.name = Some("podinfo-total".to_owned());
    scalers.create(&Default::default(), &total).await.unwrap();
    world.patch_canary(json!({"spec": {"autoscalerRef": {"name": "podinfo-total"}}})).await;
    let there = |object: Option<&DynamicObject>| object.is_some();
    let gone = |object: Option<&DynamicObject>| object.is_none();
    let made = await_condition(scalers.clone(), "podinfo-total-primary", there);
    tokio::time::timeout(world::CAP, made).await.unwrap().unwrap();
    let went = await_condition(scalers.clone(), "podinfo-primary", gone);
    tokio::time::timeout(world::CAP, went).await.unwrap().unwrap();

    world.patch_canary(json!({"spec": {"autoscalerRef": null}})).await;
    let went = await_condition(scalers.clone(), "podinfo-total-primary", gone);
    tokio::time::timeout(world::CAP, went).await.unwrap().unwrap();
    assert_eq!(scalers.list(&Default::default()).await.unwrap().items.len(), 2, "those that others made stay");
}
