//! A Deployment's status from its ReplicaSets, in kube-controller-manager's words. Pure: objects and a time in, status out.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;

use super::rollout::Desired;

const AVAILABLE: &str = "Available";
const PROGRESSING: &str = "Progressing";

const MINIMUM_AVAILABLE: &str = "MinimumReplicasAvailable";
const MINIMUM_UNAVAILABLE: &str = "MinimumReplicasUnavailable";
const NEW_SET_CREATED: &str = "NewReplicaSetCreated";
const NEW_SET_FOUND: &str = "FoundNewReplicaSet";
const NEW_SET_AVAILABLE: &str = "NewReplicaSetAvailable";
const SET_UPDATED: &str = "ReplicaSetUpdated";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const PAUSED: &str = "DeploymentPaused";
const RESUMED: &str = "DeploymentResumed";

/// A deadline of this many seconds means none.
const NO_DEADLINE: i32 = i32::MAX;

/// How the new ReplicaSet came about in this pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NewSet {
    Created,
    Found,
    /// The pass does not create one (paused, scaling, Recreate still draining).
    Absent,
}

/// Everything a status is computed from.
pub(super) struct Inputs<'a> {
    pub(super) deployment: &'a Deployment,
    pub(super) new: Option<&'a ReplicaSet>,
    pub(super) old: &'a [ReplicaSet],
    pub(super) how: NewSet,
    pub(super) now: Timestamp,
}

/// The status of a Deployment that is rolling out, and when to look again for its deadline.
pub(super) fn rolling(inputs: &Inputs<'_>) -> (DeploymentStatus, Option<Duration>) {
    let mut status = counted(inputs);
    pause(inputs, &mut status);
    if progress_deadline(inputs.deployment).is_none() {
        conditions(&mut status).retain(|condition| condition.type_ != PROGRESSING);
        return (status, None);
    }
    announce(inputs, &mut status);
    progress(inputs, &mut status);
    let wake = until_deadline(inputs, &status);
    (status, wake)
}

/// The status of a Deployment that is paused, being scaled or being deleted: progress is not judged.
pub(super) fn standing(inputs: &Inputs<'_>) -> DeploymentStatus {
    let mut status = counted(inputs);
    pause(inputs, &mut status);
    status
}

/// `spec.replicas` pods of the newest template are available and no other pods are left.
pub(super) fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    count(status.updated_replicas) == replicas
        && count(status.replicas) == replicas
        && count(status.available_replicas) == replicas
        && status.observed_generation >= deployment.metadata.generation
}

fn counted(inputs: &Inputs<'_>) -> DeploymentStatus {
    let Inputs { deployment, new, old, how: _, now } = inputs;
    let sum = |field: fn(&ReplicaSet) -> i32| old.iter().chain(*new).map(field).sum::<i32>();
    let replicas = sum(set_replicas);
    let available = sum(set_available);
    let before = deployment.status.clone().unwrap_or_default();
    let mut status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: nonzero(replicas),
        updated_replicas: nonzero(new.map_or(0, set_replicas)),
        ready_replicas: nonzero(sum(|set| {
            set.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0)
        })),
        available_replicas: nonzero(available),
        unavailable_replicas: nonzero((replicas - available).max(0)),
        terminating_replicas: before.terminating_replicas,
        collision_count: before.collision_count,
        conditions: before.conditions,
    };
    let floor = deployment.spec.as_ref().map_or(0, |spec| Desired::of(spec).floor());
    let (value, reason, message) = if available >= floor {
        ("True", MINIMUM_AVAILABLE, "Deployment has minimum availability.")
    } else {
        ("False", MINIMUM_UNAVAILABLE, "Deployment does not have minimum availability.")
    };
    set_condition(&mut status, condition(AVAILABLE, value, reason, message.to_owned(), *now));
    status
}

fn pause(inputs: &Inputs<'_>, status: &mut DeploymentStatus) {
    let paused = inputs.deployment.spec.as_ref().and_then(|spec| spec.paused).unwrap_or(false);
    let reason = progressing(status).and_then(|condition| condition.reason.clone());
    if progress_deadline(inputs.deployment).is_none() || reason.as_deref() == Some(TIMED_OUT) {
        return;
    }
    let (reason, message) = match (paused, reason.as_deref() == Some(PAUSED)) {
        (true, false) => (PAUSED, "Deployment is paused"),
        (false, true) => (RESUMED, "Deployment is resumed"),
        (true, true) | (false, false) => return,
    };
    set_condition(status, condition(PROGRESSING, "Unknown", reason, message.to_owned(), inputs.now));
}

/// A new ReplicaSet starts the clock of the progress deadline.
fn announce(inputs: &Inputs<'_>, status: &mut DeploymentStatus) {
    let name = inputs.new.map(|set| set.name_any()).unwrap_or_default();
    let (reason, message) = match inputs.how {
        NewSet::Created => (NEW_SET_CREATED, format!("Created new replica set \"{name}\"")),
        NewSet::Found if progressing(status).is_none() => {
            (NEW_SET_FOUND, format!("Found new replica set \"{name}\""))
        }
        NewSet::Found | NewSet::Absent => return,
    };
    set_condition(status, condition(PROGRESSING, "True", reason, message, inputs.now));
}

fn progress(inputs: &Inputs<'_>, status: &mut DeploymentStatus) {
    let Inputs { deployment, new, old: _, how: _, now } = inputs;
    let current = progressing(status).cloned();
    let rolled_out =
        current.as_ref().is_some_and(|condition| condition.reason.as_deref() == Some(NEW_SET_AVAILABLE));
    // Pods that come and go after a rollout (scaling, restarts) are no progress of it.
    if rolled_out && count(status.replicas) == count(status.updated_replicas) {
        return;
    }
    let subject = match new {
        Some(set) => format!("ReplicaSet \"{}\"", set.name_any()),
        None => format!("Deployment \"{}\"", deployment.name_any()),
    };
    if is_complete(deployment, status) {
        let message = format!("{subject} has successfully progressed.");
        set_condition(status, condition(PROGRESSING, "True", NEW_SET_AVAILABLE, message, *now));
    } else if has_progressed(deployment, status) {
        let message = format!("{subject} is progressing.");
        let mut next = condition(PROGRESSING, "True", SET_UPDATED, message, *now);
        if let Some(current) = current.filter(|current| current.status == "True") {
            next.last_transition_time = current.last_transition_time;
        }
        // Removed first: every progress restarts the deadline, also when the reason stays.
        conditions(status).retain(|condition| condition.type_ != PROGRESSING);
        conditions(status).push(next);
    } else if has_timed_out(deployment, current.as_ref(), *now) {
        let message = format!("{subject} has timed out progressing.");
        set_condition(status, condition(PROGRESSING, "False", TIMED_OUT, message, *now));
    }
}

fn has_progressed(deployment: &Deployment, next: &DeploymentStatus) -> bool {
    let before = deployment.status.clone().unwrap_or_default();
    let old_pods = |status: &DeploymentStatus| count(status.replicas) - count(status.updated_replicas);
    count(next.updated_replicas) > count(before.updated_replicas)
        || old_pods(next) < old_pods(&before)
        || count(next.ready_replicas) > count(before.ready_replicas)
        || count(next.available_replicas) > count(before.available_replicas)
}

fn has_timed_out(deployment: &Deployment, current: Option<&DeploymentCondition>, now: Timestamp) -> bool {
    let Some(current) = current else { return false };
    match current.reason.as_deref() {
        Some(NEW_SET_AVAILABLE) => false,
        Some(TIMED_OUT) => true,
        _ => deadline_at(deployment, current).is_some_and(|at| at < now),
    }
}

fn until_deadline(inputs: &Inputs<'_>, status: &DeploymentStatus) -> Option<Duration> {
    /// The API keeps whole seconds, so the deadline is looked at one second after it.
    const GRANULARITY: SignedDuration = SignedDuration::from_secs(1);
    let current = progressing(status)?;
    if matches!(current.reason.as_deref(), Some(NEW_SET_AVAILABLE | TIMED_OUT | PAUSED)) {
        return None;
    }
    let left = deadline_at(inputs.deployment, current)?.duration_since(inputs.now) + GRANULARITY;
    Some(Duration::try_from(left).unwrap_or(Duration::from_secs(1)))
}

fn deadline_at(deployment: &Deployment, current: &DeploymentCondition) -> Option<Timestamp> {
    let seconds = progress_deadline(deployment)?;
    let Time(updated) = current.last_update_time.as_ref()?;
    updated.checked_add(SignedDuration::from_secs(i64::from(seconds))).ok()
}

fn progress_deadline(deployment: &Deployment) -> Option<i32> {
    let seconds = deployment.spec.as_ref()?.progress_deadline_seconds?;
    (seconds != NO_DEADLINE).then_some(seconds)
}

fn progressing(status: &DeploymentStatus) -> Option<&DeploymentCondition> {
    status.conditions.as_ref()?.iter().find(|condition| condition.type_ == PROGRESSING)
}

fn conditions(status: &mut DeploymentStatus) -> &mut Vec<DeploymentCondition> {
    status.conditions.get_or_insert_with(Vec::new)
}

fn condition(kind: &str, value: &str, reason: &str, message: String, now: Timestamp) -> DeploymentCondition {
    DeploymentCondition {
        type_: kind.to_owned(),
        status: value.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_update_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    }
}

fn set_condition(status: &mut DeploymentStatus, mut next: DeploymentCondition) {
    let all = conditions(status);
    if let Some(current) = all.iter().find(|condition| condition.type_ == next.type_) {
        if current.status == next.status && current.reason == next.reason {
            return;
        }
        if current.status == next.status {
            next.last_transition_time.clone_from(&current.last_transition_time);
        }
    }
    all.retain(|condition| condition.type_ != next.type_);
    all.push(next);
}

fn set_replicas(set: &ReplicaSet) -> i32 {
    set.status.as_ref().map_or(0, |status| status.replicas)
}

fn set_available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0)
}

fn count(field: Option<i32>) -> i32 {
    field.unwrap_or(0)
}

/// Go's `omitempty`: a zero is not written.
fn nonzero(value: i32) -> Option<i32> {
    (value != 0).then_some(value)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn deployment(status: Value) -> Deployment {
        serde_json::from_value(json!({
            "metadata": {"name": "podinfo", "generation": 2},
            "spec": {
                "replicas": 2, "progressDeadlineSeconds": 60, "selector": {}, "template": {},
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
            },
            "status": status
        }))
        .unwrap()
    }

    fn set(replicas: i32, available: i32) -> ReplicaSet {
        serde_json::from_value(json!({
            "metadata": {"name": "podinfo-1"}, "spec": {"selector": {}},
            "status": {"replicas": replicas, "readyReplicas": available, "availableReplicas": available}
        }))
        .unwrap()
    }

    fn reason(status: &DeploymentStatus) -> &str {
        progressing(status).and_then(|condition| condition.reason.as_deref()).unwrap_or_default()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn roll(
        deployment: &Deployment,
        new: &ReplicaSet,
        how: NewSet,
        now: i64,
    ) -> (DeploymentStatus, Option<Duration>) {
        rolling(&Inputs { deployment, new: Some(new), old: &[], how, now: at(now) })
    }

    #[test]
    fn deadline_counts_from_the_last_progress() {
        let (created, _) = roll(&deployment(json!({})), &set(2, 0), NewSet::Created, 100);
        let created_status = serde_json::to_value(&created).unwrap();
        let (moved, wake) = roll(&deployment(created_status), &set(2, 1), NewSet::Found, 150);
        assert_eq!((reason(&moved), wake), (SET_UPDATED, Some(Duration::from_secs(61))));
        let moved = deployment(serde_json::to_value(&moved).unwrap());
        assert_eq!(reason(&roll(&moved, &set(2, 1), NewSet::Found, 209).0), SET_UPDATED);
        let (late, wake) = roll(&moved, &set(2, 1), NewSet::Found, 211);
        assert_eq!((reason(&late), wake), (TIMED_OUT, None));
        let late = deployment(serde_json::to_value(&late).unwrap());
        assert_eq!(reason(&roll(&late, &set(2, 2), NewSet::Found, 300).0), NEW_SET_AVAILABLE);
    }

    #[test]
    fn losing_a_pod_after_the_rollout_is_no_new_rollout() {
        let (done, _) = roll(&deployment(json!({})), &set(2, 2), NewSet::Found, 100);
        let done = deployment(serde_json::to_value(&done).unwrap());
        let (later, wake) = roll(&done, &set(2, 1), NewSet::Found, 1000);
        assert_eq!((reason(&later), wake), (NEW_SET_AVAILABLE, None));
        let available =
            later.conditions.as_ref().and_then(|all| all.iter().find(|c| c.type_ == AVAILABLE)).unwrap();
        assert_eq!((available.status.as_str(), available.reason.as_deref()), ("False", Some(MINIMUM_UNAVAILABLE)));
    }

    #[test]
    fn pausing_stops_the_deadline_and_resuming_restarts_it() {
        let mut paused = deployment(json!({}));
        paused.spec.as_mut().unwrap().paused = Some(true);
        let new = set(1, 0);
        let inputs = Inputs { deployment: &paused, new: Some(&new), old: &[], how: NewSet::Absent, now: at(100) };
        let status = standing(&inputs);
        assert_eq!(reason(&status), PAUSED);
        let resumed = deployment(serde_json::to_value(&status).unwrap());
        let (status, wake) = roll(&resumed, &set(1, 0), NewSet::Found, 1000);
        assert_eq!(reason(&status), RESUMED);
        assert_eq!(wake, Some(Duration::from_secs(61)));
    }
}
