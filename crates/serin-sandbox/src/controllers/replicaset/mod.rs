//! ReplicaSet: as many pods as it asks for, and a status that counts them.

mod expectations;
mod victims;

use std::sync::Arc;

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::runtime::controller::Action;
use kube::{Api, ResourceExt};

pub(super) use expectations::Expectations;

use super::claim::claim;
use super::objects::{available_at, controlled_by, is_active, ready_since};
use super::runner::Shared;
use super::{ControllerError, MANAGER};

/// Most pods created or deleted in one pass, as kube-controller-manager limits itself.
const BURST: usize = 500;

/// Pods in the first batch of creations; each further batch is twice as large, so that a refusal (a quota, a namespace
/// going away) costs few requests.
const FIRST_BATCH: usize = 1;

/// Brings one ReplicaSet nearer to what it asks for.
pub(super) async fn reconcile(set: Arc<ReplicaSet>, shared: Arc<Shared>) -> Result<Action, ControllerError> {
    let uid = set.uid().ok_or_else(|| incomplete(&set, "uid"))?;
    let pods = claim(&*set, &shared.pods, &shared.client, is_active).await?;
    let managed = if set.metadata.deletion_timestamp.is_none() && shared.expectations.are_met(&uid) {
        manage(&set, &uid, &pods, &shared).await
    } else {
        Ok(())
    };
    // The status is written also when creating pods failed: it tells how many there are.
    let now = shared.clock.now();
    write_status(&set, &pods, now, &shared).await?;
    managed?;
    Ok(next_look(&set, &pods, now, &shared, &uid))
}

fn next_look(set: &ReplicaSet, pods: &[Arc<Pod>], now: Timestamp, shared: &Shared, uid: &str) -> Action {
    let availability = pods
        .iter()
        .filter_map(|pod| available_at(pod, min_ready_seconds(set)))
        .filter(|at| *at > now)
        .min()
        .and_then(|at| std::time::Duration::try_from(at.duration_since(now)).ok());
    let expectation = shared.expectations.expires_in(uid);
    match availability.into_iter().chain(expectation).min() {
        Some(wait) => Action::requeue(wait),
        None => Action::await_change(),
    }
}

async fn manage(set: &ReplicaSet, uid: &str, pods: &[Arc<Pod>], shared: &Shared) -> Result<(), ControllerError> {
    let wanted = usize::try_from(replicas(set)).unwrap_or(0);
    match wanted.checked_sub(pods.len()) {
        Some(0) => Ok(()),
        Some(missing) => create(set, uid, missing.min(BURST), shared).await,
        None => {
            let victims = victims::choose(pods, (pods.len() - wanted).min(BURST));
            delete(set, uid, &victims, shared).await
        }
    }
}

async fn create(set: &ReplicaSet, uid: &str, missing: usize, shared: &Shared) -> Result<(), ControllerError> {
    let pod = pod_of(set)?;
    let api: Api<Pod> = api(set, shared)?;
    let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    shared.expectations.expect_creations(uid, missing);
    let mut left = missing;
    let mut batch = FIRST_BATCH;
    while left > 0 {
        let now = batch.min(left);
        let answers = join_all((0..now).map(|_| api.create(&params, &pod))).await;
        left -= now;
        batch *= 2;
        let mut failure = None;
        for error in answers.into_iter().filter_map(Result::err) {
            shared.expectations.give_up_creations(uid, 1);
            failure = Some(error);
        }
        if let Some(error) = failure {
            shared.expectations.give_up_creations(uid, left);
            return Err(error.into());
        }
    }
    Ok(())
}

async fn delete(
    set: &ReplicaSet,
    uid: &str,
    victims: &[Arc<Pod>],
    shared: &Shared,
) -> Result<(), ControllerError> {
    let api: Api<Pod> = api(set, shared)?;
    shared.expectations.expect_deletions(uid, victims.iter().filter_map(|pod| pod.uid()));
    let answers = join_all(victims.iter().map(|pod| {
        let same = Preconditions { uid: pod.uid(), resource_version: None };
        let params = DeleteParams { preconditions: Some(same), ..DeleteParams::default() };
        let api = api.clone();
        async move { api.delete(&pod.name_any(), &params).await }
    }))
    .await;
    let mut failure = None;
    for (pod, answer) in victims.iter().zip(answers) {
        let Err(error) = answer else { continue };
        shared.expectations.observe_deletion(uid, pod.uid().as_deref());
        if !matches!(&error, kube::Error::Api(status) if status.is_not_found()) {
            failure = Some(error);
        }
    }
    failure.map_or(Ok(()), |error| Err(error.into()))
}

fn pod_of(set: &ReplicaSet) -> Result<Pod, ControllerError> {
    let template = set.spec.as_ref().and_then(|spec| spec.template.clone()).unwrap_or_default();
    let meta = template.metadata.unwrap_or_default();
    let owner = controlled_by(set).ok_or_else(|| incomplete(set, "uid"))?;
    Ok(Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", set.name_any())),
            namespace: set.namespace(),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    })
}

async fn write_status(
    set: &ReplicaSet,
    pods: &[Arc<Pod>],
    now: Timestamp,
    shared: &Shared,
) -> Result<(), ControllerError> {
    let status = status_of(set, pods, now);
    if set.status.as_ref() == Some(&status) {
        return Ok(());
    }
    let mut next = set.clone();
    next.status = Some(status);
    let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    api::<ReplicaSet>(set, shared)?.replace_status(&set.name_any(), &params, &next).await?;
    Ok(())
}

fn status_of(set: &ReplicaSet, pods: &[Arc<Pod>], now: Timestamp) -> ReplicaSetStatus {
    let count = |test: &dyn Fn(&Pod) -> bool| {
        i32::try_from(pods.iter().filter(|pod| test(pod)).count()).unwrap_or(i32::MAX)
    };
    let template = set.spec.as_ref().and_then(|spec| spec.template.as_ref());
    let labels = template.and_then(|template| template.metadata.as_ref()).and_then(|meta| meta.labels.clone());
    let labels = labels.unwrap_or_default();
    let labelled = count(&|pod| labels.iter().all(|(key, value)| pod.labels().get(key) == Some(value)));
    let ready = count(&|pod| ready_since(pod).is_some());
    let available = count(&|pod| available_at(pod, min_ready_seconds(set)).is_some_and(|at| at <= now));
    let nonzero = |value: i32| (value != 0).then_some(value);
    let before = set.status.clone().unwrap_or_default();
    ReplicaSetStatus {
        replicas: count(&|_| true),
        fully_labeled_replicas: nonzero(labelled),
        ready_replicas: nonzero(ready),
        available_replicas: nonzero(available),
        observed_generation: set.metadata.generation,
        terminating_replicas: before.terminating_replicas,
        conditions: before.conditions,
    }
}

fn replicas(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

fn min_ready_seconds(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0)
}

fn incomplete(set: &ReplicaSet, field: &'static str) -> ControllerError {
    ControllerError::Incomplete { object: format!("replicaset {}", set.name_any()), field }
}

fn api<K>(set: &ReplicaSet, shared: &Shared) -> Result<Api<K>, ControllerError>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
{
    let namespace = set.namespace().ok_or_else(|| incomplete(set, "namespace"))?;
    Ok(Api::namespaced(shared.client.clone(), &namespace))
}
