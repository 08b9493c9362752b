//! A pod's status as a kubelet writes it. Pure.

use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;

use super::NODE_ADDRESS;
use super::life::Moment;

/// The status of a pod at a moment of its life.
pub(super) fn of(pod: &Pod, address: &str, moment: &Moment, now: &Time) -> PodStatus {
    let before = pod.status.clone().unwrap_or_default();
    let spec = pod.spec.clone().unwrap_or_default();
    let started = before.start_time.clone().unwrap_or_else(|| now.clone());
    let phase = match moment {
        Moment::Waiting { .. } => "Pending",
        Moment::Crashing { .. } | Moment::Running { .. } => "Running",
        Moment::Ended { code: 0, .. } => "Succeeded",
        Moment::Ended { .. } => "Failed",
    };
    let containers = spec.containers.iter().map(|container| main_container(container, moment, &started, now));
    let is_initialized = !matches!(moment, Moment::Waiting { .. });
    let init = spec.init_containers.iter().flatten().filter(|_| is_initialized);
    let init: Vec<_> = init.map(|container| finished_container(container, &started)).collect();
    let mut status = PodStatus {
        phase: Some(phase.to_owned()),
        pod_ip: Some(address.to_owned()),
        pod_ips: Some(vec![PodIP { ip: address.to_owned() }]),
        host_ip: Some(NODE_ADDRESS.to_owned()),
        host_ips: Some(vec![HostIP { ip: NODE_ADDRESS.to_owned() }]),
        start_time: Some(started.clone()),
        container_statuses: Some(containers.collect()),
        init_container_statuses: (!init.is_empty()).then_some(init),
        ..before
    };
    let conditions = status.conditions.get_or_insert_default();
    let names: Vec<_> = spec.containers.iter().map(|container| container.name.as_str()).collect();
    let unready = match moment {
        Moment::Running { ready: true } => None,
        Moment::Ended { code: 0, .. } => Some(("PodCompleted", None)),
        Moment::Ended { .. } => Some(("PodFailed", None)),
        Moment::Waiting { .. } | Moment::Crashing { .. } | Moment::Running { ready: false } => {
            Some(("ContainersNotReady", Some(format!("containers with unready status: [{}]", names.join(" ")))))
        }
    };
    for kind in ["PodReadyToStartContainers", "Initialized", "PodScheduled"] {
        set_condition(conditions, kind, None, now);
    }
    for kind in ["Ready", "ContainersReady"] {
        set_condition(conditions, kind, unready.clone(), now);
    }
    status
}

type Unready = (&'static str, Option<String>);

fn set_condition(all: &mut Vec<PodCondition>, kind: &str, unready: Option<Unready>, now: &Time) {
    let status = if unready.is_some() { "False" } else { "True" };
    let (reason, message) = unready.map_or((None, None), |(reason, message)| (Some(reason.to_owned()), message));
    let next = PodCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason,
        message,
        last_transition_time: Some(now.clone()),
        ..PodCondition::default()
    };
    match all.iter_mut().find(|condition| condition.type_ == kind) {
        Some(current) if current.status == next.status && current.reason == next.reason => {}
        Some(current) => *current = next,
        None => all.push(next),
    }
}

fn main_container(container: &Container, moment: &Moment, started: &Time, now: &Time) -> ContainerStatus {
    let terminated = |code: i32, reason: &str, message: Option<String>| ContainerStateTerminated {
        exit_code: code,
        reason: Some(reason.to_owned()),
        message,
        started_at: Some(started.clone()),
        finished_at: Some(now.clone()),
        ..ContainerStateTerminated::default()
    };
    let waiting = |reason: &str, message: &str| ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
        }),
        ..ContainerState::default()
    };
    let usual = container_status(container);
    match moment {
        Moment::Waiting { reason, message } => {
            ContainerStatus { ready: false, started: Some(false), state: Some(waiting(reason, message)), ..usual }
        }
        Moment::Crashing { code, reason, message, restarts } => ContainerStatus {
            ready: false,
            started: Some(false),
            restart_count: *restarts,
            state: Some(waiting("CrashLoopBackOff", "back-off restarting failed container")),
            last_state: Some(ContainerState {
                terminated: Some(terminated(*code, reason, Some(message.clone()))),
                ..ContainerState::default()
            }),
            ..usual
        },
        Moment::Running { ready } => ContainerStatus {
            ready: *ready,
            started: Some(true),
            state: Some(ContainerState {
                running: Some(ContainerStateRunning { started_at: Some(started.clone()) }),
                ..ContainerState::default()
            }),
            ..usual
        },
        Moment::Ended { code, reason, message } => ContainerStatus {
            ready: false,
            started: Some(false),
            state: Some(ContainerState {
                terminated: Some(terminated(*code, reason, message.clone())),
                ..ContainerState::default()
            }),
            ..usual
        },
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

/// Whether the pod is ready by its status.
pub(super) fn is_ready(pod: &Pod) -> bool {
    let condition = crate::controllers::objects::pod_condition(pod, "Ready");
    condition.is_some_and(|condition| condition.status == "True")
}

/// Whether a status says something else than the present one, times aside.
pub(super) fn differs(present: Option<&PodStatus>, next: &PodStatus) -> bool {
    present.map(gist) != Some(gist(next))
}

type Gist<'a> = (Option<&'a str>, Vec<(&'a str, &'a str)>, Vec<(bool, i32, Option<&'a str>, Option<i32>)>);

fn gist(status: &PodStatus) -> Gist<'_> {
    let conditions = status.conditions.iter().flatten();
    let own = conditions.filter(|condition| ["Ready", "ContainersReady"].contains(&condition.type_.as_str()));
    let containers = status.container_statuses.iter().flatten().map(|container| {
        let state = container.state.as_ref();
        let waiting = state.and_then(|state| state.waiting.as_ref()?.reason.as_deref());
        let code = state.and_then(|state| Some(state.terminated.as_ref()?.exit_code));
        (container.ready, container.restart_count, waiting, code)
    });
    (
        status.phase.as_deref(),
        own.map(|condition| (condition.type_.as_str(), condition.status.as_str())).collect(),
        containers.collect(),
    )
}

/// `namespace/name`.
pub(super) fn name_of(pod: &Pod) -> String {
    format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any())
}
