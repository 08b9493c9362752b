//! A pod's status as a kubelet writes it. Pure.

use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStatus, HostIP, Pod,
    PodCondition, PodIP, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;

use super::NODE_ADDRESS;

/// Whether the pod's containers answer their readiness probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readiness {
    Ready,
    NotReady,
}

/// The status of a pod that has been started at `address`.
pub(super) fn running(pod: &Pod, address: &str, readiness: Readiness, now: &Time) -> PodStatus {
    let before = pod.status.clone().unwrap_or_default();
    let spec = pod.spec.clone().unwrap_or_default();
    let started = before.start_time.clone().unwrap_or_else(|| now.clone());
    let is_ready = readiness == Readiness::Ready;
    let containers = spec.containers.iter().map(|container| running_container(container, is_ready, &started));
    let init = spec.init_containers.iter().flatten().map(|container| finished_container(container, &started));
    let init: Vec<_> = init.collect();
    let mut status = PodStatus {
        phase: Some("Running".to_owned()),
        pod_ip: Some(address.to_owned()),
        pod_ips: Some(vec![PodIP { ip: address.to_owned() }]),
        host_ip: Some(NODE_ADDRESS.to_owned()),
        host_ips: Some(vec![HostIP { ip: NODE_ADDRESS.to_owned() }]),
        start_time: Some(started.clone()),
        container_statuses: Some(containers.collect()),
        init_container_statuses: (!init.is_empty()).then_some(init),
        ..before
    };
    let names: Vec<_> = spec.containers.iter().map(|container| container.name.as_str()).collect();
    let unready = (!is_ready).then(|| format!("containers with unready status: [{}]", names.join(" ")));
    let conditions = status.conditions.get_or_insert_default();
    for kind in ["PodReadyToStartContainers", "Initialized"] {
        set_condition(conditions, kind, None, now);
    }
    for kind in ["Ready", "ContainersReady"] {
        set_condition(conditions, kind, unready.as_deref(), now);
    }
    set_condition(conditions, "PodScheduled", None, now);
    status
}

fn set_condition(all: &mut Vec<PodCondition>, kind: &str, unready: Option<&str>, now: &Time) {
    let status = if unready.is_some() { "False" } else { "True" };
    let next = PodCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: unready.map(|_| "ContainersNotReady".to_owned()),
        message: unready.map(str::to_owned),
        last_transition_time: Some(now.clone()),
        ..PodCondition::default()
    };
    match all.iter_mut().find(|condition| condition.type_ == kind) {
        Some(current) if current.status == next.status => {}
        Some(current) => *current = next,
        None => all.push(next),
    }
}

fn running_container(container: &Container, ready: bool, started: &Time) -> ContainerStatus {
    ContainerStatus {
        ready,
        started: Some(true),
        state: Some(ContainerState {
            running: Some(ContainerStateRunning { started_at: Some(started.clone()) }),
            ..ContainerState::default()
        }),
        ..container_status(container)
    }
}

fn finished_container(container: &Container, at: &Time) -> ContainerStatus {
    ContainerStatus {
        ready: true,
        started: Some(false),
        state: Some(ContainerState {
            terminated: Some(ContainerStateTerminated {
                exit_code: 0,
                reason: Some("Completed".to_owned()),
                started_at: Some(at.clone()),
                finished_at: Some(at.clone()),
                ..ContainerStateTerminated::default()
            }),
            ..ContainerState::default()
        }),
        ..container_status(container)
    }
}

fn container_status(container: &Container) -> ContainerStatus {
    let image = container.image.clone().unwrap_or_default();
    ContainerStatus {
        name: container.name.clone(),
        image_id: image.clone(),
        image,
        restart_count: 0,
        ..ContainerStatus::default()
    }
}

/// Whether the status already says that.
pub(super) fn says(pod: &Pod, readiness: Readiness) -> bool {
    let condition = crate::controllers::objects::pod_condition(pod, "Ready");
    let ready = condition.is_some_and(|condition| condition.status == "True");
    ready == (readiness == Readiness::Ready)
}

/// `namespace/name`.
pub(super) fn name_of(pod: &Pod) -> String {
    format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any())
}
