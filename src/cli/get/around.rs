//! What belongs to one Canary: both workloads, and why pods of theirs do not serve.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::api::ListParams;
use kube::core::{Expression, Selector};
use kube::{Api, Client, ResourceExt};
use serde::Serialize;

use crate::api::annotations::PENDING;
use crate::model::told;

/// Pods looked at for each side; the rest has the same reasons, as a rule.
const PODS_READ: u32 = 50;
/// Reasons shown for each side.
const TROUBLES_SHOWN: usize = 5;

/// What belongs to one Canary.
pub(super) struct Around {
    pub(super) target: Option<Deployment>,
    pub(super) primary: Option<Deployment>,
    pub(super) troubles: Vec<Trouble>,
    /// Why whoever asks may not see the workloads, in the API server's words.
    pub(super) hidden: Option<String>,
}

/// A pod that does not serve, or pods that are not even made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Trouble {
    /// The pod, or the Deployment whose pods are refused.
    pub(super) name: String,
    /// Why, in Kubernetes' words.
    pub(super) reason: String,
}

impl Around {
    /// The revision that `sync` holds back.
    pub(super) fn pending(&self) -> Option<String> {
        self.target.as_ref()?.annotations().get(PENDING).cloned()
    }
}

/// Reads it. Whoever may not read pods is not told of them.
pub(super) async fn read(client: &Client, namespace: &str, target: &str) -> kube::Result<Around> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let primary_name = format!("{target}-primary");
    let found = futures::future::try_join(deployments.get_opt(target), deployments.get_opt(&primary_name)).await;
    let (target, primary, hidden) = as_far_as_seen(found)?;
    let mut troubles = Vec::new();
    for deployment in [&target, &primary].into_iter().flatten().filter(|deployment| wants_pods(deployment)) {
        troubles.extend(refused(deployment));
        troubles.extend(of_pods(client, namespace, deployment).await);
    }
    Ok(Around { target, primary, troubles, hidden })
}

type Sides = (Option<Deployment>, Option<Deployment>);

/// Both workloads; where the right to see them is missing, the API server's words: the release is shown all the same.
fn as_far_as_seen(
    found: kube::Result<Sides>,
) -> kube::Result<(Option<Deployment>, Option<Deployment>, Option<String>)> {
    match found {
        Ok((target, primary)) => Ok((target, primary, None)),
        Err(kube::Error::Api(status)) if status.is_forbidden() => {
            Ok((None, None, Some(told(status.message.clone()))))
        }
        Err(error) => Err(error),
    }
}

fn wants_pods(deployment: &Deployment) -> bool {
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let available = deployment.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0);
    available < wanted
}

/// Pods that the API server refuses to make: a quota, an admission policy.
fn refused(deployment: &Deployment) -> Option<Trouble> {
    let conditions = deployment.status.as_ref()?.conditions.as_ref()?;
    let failure = conditions.iter().find(|found| found.type_ == "ReplicaFailure" && found.status == "True")?;
    Some(Trouble { name: deployment.name_any(), reason: told(failure.message.clone().unwrap_or_default()) })
}

async fn of_pods(client: &Client, namespace: &str, deployment: &Deployment) -> Vec<Trouble> {
    let labels = deployment.spec.as_ref().and_then(|spec| spec.selector.match_labels.clone()).unwrap_or_default();
    if labels.is_empty() {
        return Vec::new();
    }
    let selector: Selector = labels.into_iter().map(|(key, value)| Expression::Equal(key, value)).collect();
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let found = pods.list(&ListParams::default().labels_from(&selector).limit(PODS_READ)).await;
    let found = found.map(|list| list.items).unwrap_or_default();
    let troubles = found.iter().filter_map(|pod| {
        let reason = why(pod)?;
        Some(Trouble { name: pod.name_any(), reason })
    });
    troubles.take(TROUBLES_SHOWN).collect()
}

/// Why a pod does not serve; `None` if it does, or goes.
fn why(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    if pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let unmet = |kind: &str| conditions.iter().find(|found| found.type_ == kind && found.status == "False");
    let containers = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    if let Some(reason) = containers.clone().find_map(of_container) {
        return Some(told(reason));
    }
    if let Some(unscheduled) = unmet("PodScheduled") {
        let reason = unscheduled.reason.as_deref().unwrap_or("Unscheduled");
        return Some(told(format!("{reason}: {}", unscheduled.message.as_deref().unwrap_or_default())));
    }
    let unready = unmet("Ready")?;
    let message = unready.message.as_deref().unwrap_or_default();
    Some(told(format!("not ready: {message}").trim_end_matches([':', ' '])))
}

fn of_container(container: &ContainerStatus) -> Option<String> {
    let ContainerStatus { name, restart_count, state, last_state, .. } = container;
    let restarts = match restart_count {
        0 => String::new(),
        1 => ", restarted once".to_owned(),
        times => format!(", restarted {times} times"),
    };
    let ended = last_state.as_ref().and_then(|state| state.terminated.as_ref());
    let ended = ended.map(|ended| format!(", last exit code {}", ended.exit_code)).unwrap_or_default();
    let state = state.as_ref()?;
    let usual = |reason: &str| matches!(reason, "ContainerCreating" | "PodInitializing");
    if let Some(waiting) = state.waiting.as_ref().filter(|it| !it.reason.as_deref().is_none_or(usual)) {
        let reason = waiting.reason.as_deref().unwrap_or_default();
        let message = waiting.message.as_deref().map(|message| format!(": {message}")).unwrap_or_default();
        return Some(format!("{name} {reason}{restarts}{ended}{message}"));
    }
    let stopped = state.terminated.as_ref().filter(|stopped| stopped.exit_code != 0)?;
    let reason = stopped.reason.as_deref().unwrap_or("Error");
    Some(format!("{name} {reason}, exit code {}{restarts}", stopped.exit_code))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn said(status: Value) -> Option<String> {
        let pod = json!({"metadata": {"name": "a"}, "status": status});
        why(&serde_json::from_value(pod).unwrap())
    }

    fn container(rest: Value) -> Value {
        let mut status = json!({"name": "app", "image": "a", "imageID": "", "ready": false, "restartCount": 0});
        json_patch::merge(&mut status, &rest);
        json!({"containerStatuses": [status]})
    }

    #[test]
    fn who_may_not_see_the_workloads_sees_the_release() {
        let refused = |reason, code| {
            let status = kube::core::Status::failure("cannot get deployments", reason).with_code(code);
            as_far_as_seen(Err(kube::Error::Api(status.boxed())))
        };
        let (_, _, hidden) = refused("Forbidden", 403).unwrap();
        assert_eq!(hidden.as_deref(), Some("cannot get deployments"));
        assert!(refused("InternalError", 500).is_err());
        assert_eq!(as_far_as_seen(Ok((None, None))).unwrap().2, None);
    }

    #[test]
    fn a_pod_that_does_not_serve_says_why() {
        let pull =
            json!({"state": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}}});
        assert_eq!(said(container(pull)).as_deref(), Some("app ImagePullBackOff: Back-off pulling image"));
        let crash = json!({"restartCount": 4, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}});
        assert_eq!(
            said(container(crash)).as_deref(),
            Some("app CrashLoopBackOff, restarted 4 times, last exit code 137")
        );
        let unscheduled = json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": "0/3 nodes are available: 3 Insufficient cpu."}]});
        assert_eq!(
            said(unscheduled).as_deref(),
            Some("Unschedulable: 0/3 nodes are available: 3 Insufficient cpu.")
        );
        let probe = json!({"conditions": [{"type": "Ready", "status": "False",
            "message": "containers with unready status: [app]"}]});
        assert_eq!(said(probe).as_deref(), Some("not ready: containers with unready status: [app]"));
        assert_eq!(said(json!({"conditions": [{"type": "Ready", "status": "True"}]})), None);
        let starting = json!({"state": {"waiting": {"reason": "ContainerCreating"}}});
        assert_eq!(said(container(starting)), None);
    }
}
