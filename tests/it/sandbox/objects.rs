//! Autoscalers, endpoints, owners and their dependents, namespaces, jobs.

use std::time::Duration;

use futures::{StreamExt as _, pin_mut};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace, Pod, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PropagationPolicy};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};
use serin::sandbox::apiserver::ApiServer;
use serin::sandbox::controllers::{self, ControllerOptions};
use tokio_util::sync::CancellationToken;

use super::world::{CAP, World, deployment, rolling};

#[tokio::test]
async fn an_autoscaler_raises_to_its_minimum_unless_the_target_is_at_zero() {
    let world = World::start().await;
    world.create::<Deployment>(deployment("podinfo", 1, "1", rolling(1, 0))).await;
    world
        .create::<HorizontalPodAutoscaler>(json!({
            "metadata": {"name": "podinfo"},
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "podinfo"},
                "minReplicas": 2, "maxReplicas": 4,
                "metrics": [{"type": "Resource", "resource": {
                    "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 99}
                }}],
            },
        }))
        .await;
    let size = |wanted: i32| {
        move |deployment: &Deployment| {
            let status = deployment.status.clone().unwrap_or_default();
            deployment.spec.as_ref().and_then(|spec| spec.replicas) == Some(wanted)
                && status.available_replicas.unwrap_or(0) == wanted
                && status.replicas.unwrap_or(0) == wanted
        }
    };
    world.until::<Deployment>("have two replicas", "podinfo", size(2)).await;
    world.change("podinfo", json!({"replicas": 0})).await;
    world
        .until::<HorizontalPodAutoscaler>("be disabled", "podinfo", |scaler| {
            let conditions = scaler.status.iter().flat_map(|status| status.conditions.iter().flatten());
            conditions.into_iter().any(|condition| {
                condition.type_ == "ScalingActive" && condition.reason.as_deref() == Some("ScalingDisabled")
            })
        })
        .await;
    world.until::<Deployment>("stay at zero", "podinfo", size(0)).await;
    world.gone::<Pod>("pods").await;
    world.change("podinfo", json!({"replicas": 9})).await;
    world.until::<Deployment>("come down to four", "podinfo", size(4)).await;
}

#[tokio::test]
async fn endpoints_follow_readiness() {
    let world = World::with(ControllerOptions {
        readiness_delay: Duration::from_millis(300),
        max_grace: Duration::from_secs(1),
        ..ControllerOptions::default()
    })
    .await;
    world
        .create::<Service>(json!({
            "metadata": {"name": "podinfo"},
            "spec": {"selector": {"app": "podinfo"}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
        }))
        .await;
    world.create::<Deployment>(deployment("podinfo", 1, "1", rolling(1, 0))).await;
    let flags = endpoint_flags(&world, |flags| flags.len() == 1).await;
    assert_eq!(flags, [(false, false, false)], "an address is there before the pod is ready");
    world.rolled_out("podinfo").await;
    endpoint_flags(&world, |flags| flags == [(true, true, false)]).await;
    let pods = world.api::<Pod>().list(&ListParams::default()).await.unwrap().items;
    world.api::<Pod>().delete(&pods[0].name_any(), &DeleteParams::default()).await.unwrap();
    endpoint_flags(&world, |flags| flags.contains(&(false, true, true))).await;
    endpoint_flags(&world, |flags| flags == [(true, true, false)]).await;
}

/// Waits until the endpoints' (ready, serving, terminating) are as tested.
async fn endpoint_flags(world: &World, test: impl Fn(&[(bool, bool, bool)]) -> bool) -> Vec<(bool, bool, bool)> {
    let config = watcher::Config::default().labels("kubernetes.io/service-name=podinfo");
    let events = watcher(world.api::<EndpointSlice>(), config).default_backoff().applied_objects();
    let wait = async {
        pin_mut!(events);
        while let Some(event) = events.next().await {
            let Ok(slice) = event else { continue };
            let flag = |flag: Option<bool>| flag == Some(true);
            let conditions = slice.endpoints.iter().filter_map(|endpoint| endpoint.conditions.as_ref());
            let flags: Vec<_> = conditions
                .map(|conditions| (flag(conditions.ready), flag(conditions.serving), flag(conditions.terminating)))
                .collect();
            if test(&flags) {
                assert_eq!(slice.ports.unwrap()[0].port, Some(9898));
                return flags;
            }
        }
        panic!("the watch ended")
    };
    tokio::time::timeout(CAP, wait).await.unwrap()
}

#[tokio::test]
async fn dependents_go_with_their_owner_or_are_let_go() {
    let world = World::start().await;
    for (name, policy) in
        [("background", PropagationPolicy::Background), ("foreground", PropagationPolicy::Foreground)]
    {
        world.create::<Deployment>(deployment(name, 2, "1", rolling(1, 0))).await;
        world.rolled_out(name).await;
        let params = DeleteParams { propagation_policy: Some(policy), ..DeleteParams::default() };
        world.api::<Deployment>().delete(name, &params).await.unwrap();
        world.gone::<Pod>("pods").await;
        world.gone::<ReplicaSet>("replicasets").await;
        world.gone::<Deployment>("deployments").await;
    }
    world.create::<Deployment>(deployment("orphan", 1, "1", rolling(1, 0))).await;
    world.rolled_out("orphan").await;
    let params = DeleteParams { propagation_policy: Some(PropagationPolicy::Orphan), ..DeleteParams::default() };
    world.api::<Deployment>().delete("orphan", &params).await.unwrap();
    world.gone::<Deployment>("deployments").await;
    let sets = world.api::<ReplicaSet>().list(&ListParams::default()).await.unwrap().items;
    assert_eq!(sets.len(), 1);
    assert_eq!(sets[0].owner_references(), []);
    let pods = world.api::<Pod>().list(&ListParams::default()).await.unwrap().items;
    world.create::<Deployment>(deployment("orphan", 1, "1", rolling(1, 0))).await;
    world.rolled_out("orphan").await;
    let after = world.api::<Pod>().list(&ListParams::default()).await.unwrap().items;
    assert_eq!(pods[0].uid(), after[0].uid(), "the new owner adopts what is there");
    assert_eq!(after.len(), 1);
}

#[tokio::test]
async fn a_relabelled_pod_is_let_go_and_replaced() {
    let world = World::start().await;
    world.create::<Deployment>(deployment("podinfo", 1, "1", rolling(1, 0))).await;
    world.rolled_out("podinfo").await;
    let pods = world.api::<Pod>().list(&ListParams::default()).await.unwrap().items;
    let name = pods[0].name_any();
    let label = Patch::Merge(json!({"metadata": {"labels": {"app": "under-inspection"}}}));
    world.api::<Pod>().patch(&name, &PatchParams::default(), &label).await.unwrap();
    world.until::<Pod>("be let go", &name, |pod| pod.owner_references().is_empty()).await;
    world.rolled_out("podinfo").await;
    let pods = world.api::<Pod>().list(&ListParams::default()).await.unwrap().items;
    assert_eq!(pods.len(), 2);
}

#[tokio::test]
async fn an_eviction_keeps_to_the_disruption_budget() {
    let world = World::start().await;
    world.create::<Deployment>(deployment("podinfo", 2, "3.1.0", rolling(1, 0))).await;
    world.rolled_out("podinfo").await;
    let budget = json!({
        "metadata": {"name": "podinfo"},
        "spec": {"minAvailable": 2, "selector": {"matchLabels": {"app": "podinfo"}}},
    });
    world.create::<PodDisruptionBudget>(budget).await;
    let pods = world.api::<Pod>();
    let name = pods.list(&ListParams::default()).await.unwrap().items[0].name_any();
    let refused = pods.evict(&name, &Default::default()).await.unwrap_err();
    let kube::Error::Api(status) = &refused else { panic!("{refused}") };
    assert_eq!((status.code, status.reason.as_str()), (429, "TooManyRequests"), "{status:?}");
    let patch = Patch::Merge(json!({"spec": {"minAvailable": "50%"}}));
    world.api::<PodDisruptionBudget>().patch("podinfo", &PatchParams::default(), &patch).await.unwrap();
    pods.evict(&name, &Default::default()).await.unwrap();
    world
        .until::<Deployment>("get another pod", "podinfo", |deployment| {
            deployment.status.as_ref().is_some_and(|status| status.available_replicas == Some(2))
        })
        .await;
    let left = pods.list(&ListParams::default()).await.unwrap().items;
    assert!(left.iter().all(|pod| pod.name_any() != name || pod.metadata.deletion_timestamp.is_some()));
}

#[tokio::test(start_paused = true)]
async fn controllers_are_quiet_while_nothing_changes() {
    let server = ApiServer::new();
    let shutdown = CancellationToken::new();
    let _running = shutdown.clone().drop_guard();
    let client = server.client();
    tokio::spawn(controllers::run(client.clone(), ControllerOptions::default(), shutdown));
    let world = World { client, namespace: "default".to_owned(), _running: CancellationToken::new().drop_guard() };
    world.create::<Deployment>(deployment("podinfo", 2, "1", rolling(1, 0))).await;
    world.rolled_out("podinfo").await;
    // Time is paused: this is ten virtual minutes, in which timers fire and watches reconnect.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let before = server.requests().snapshot();
    tokio::time::sleep(Duration::from_secs(600)).await;
    let idle = server.requests().snapshot().since(&before);
    assert_eq!(idle.total(|key| !key.is_watch), 0, "{idle:?}");
}

#[tokio::test]
async fn a_namespace_goes_with_its_contents() {
    let world = World::start().await;
    world.until::<ServiceAccount>("exist", "default", |_| true).await;
    world.create::<Deployment>(deployment("podinfo", 2, "1", rolling(1, 0))).await;
    world.rolled_out("podinfo").await;
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    namespaces.delete(&world.namespace, &DeleteParams::default()).await.unwrap();
    let gone =
        kube::runtime::wait::await_condition(namespaces, &world.namespace, |namespace: Option<&Namespace>| {
            namespace.is_none()
        });
    tokio::time::timeout(CAP, gone).await.unwrap().unwrap();
    world.gone::<Pod>("pods").await;
}

fn job(name: &str, command: &str, backoff: i32) -> Value {
    json!({"metadata": {"name": name}, "spec": {"backoffLimit": backoff, "template": {"spec": {"restartPolicy": "Never",
        "containers": [{"name": "a", "image": "alpine:3", "command": ["sh", "-c", command]}]}}}})
}

#[tokio::test]
async fn jobs_end_as_their_commands_do() {
    let world = World::start().await;
    let over = |job: &Job, kind: &str| {
        let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
        conditions.into_iter().any(|condition| condition.type_ == kind && condition.status == "True")
    };
    world.create::<Job>(job("good", "sleep 0.1 && true", 0)).await;
    world.create::<Job>(job("bad", "exit 3", 1)).await;
    let good = world.until::<Job>("end well", "good", |job| over(job, "Complete")).await;
    assert_eq!(good.status.unwrap().succeeded, Some(1));
    let bad = world.until::<Job>("fail", "bad", |job| over(job, "Failed")).await;
    assert_eq!(bad.status.unwrap().failed, Some(2), "one try and one more");
    let pods = world.api::<Pod>().list(&ListParams::default().labels("job-name=bad")).await.unwrap();
    let ended =
        pods.items[0].status.as_ref().unwrap().container_statuses.as_ref().unwrap()[0].state.clone().unwrap();
    assert_eq!(ended.terminated.unwrap().exit_code, 3);
}
