//! Job: pods until enough of them ended well, or too many did not.
//!
//! Not here: indexed completion, pod failure and success policies, `ttlSecondsAfterFinished`, and the finalizer by which a
//! real controller counts pods that somebody else deletes.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobSpec, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{DeleteParams, PostParams};
use kube::runtime::controller::Action;
use kube::{Api, ResourceExt as _};

use super::objects::{controlled_by, has_ended, is_controlled_by, phase};
use super::runner::Shared;
use super::{ControllerError, MANAGER};

/// `backoffLimit` when it is not given.
const DEFAULT_BACKOFF: i32 = 6;

/// What a Job's pods say of it. Pure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tally {
    active: i32,
    ready: i32,
    succeeded: i32,
    failed: i32,
    /// Restarts of containers of pods that are kept and restarted.
    restarts: i32,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// That many more pods.
    Go {
        start: i32,
    },
    Complete,
    Failed {
        reason: &'static str,
        message: &'static str,
    },
    Suspended,
}

fn tally(pods: &[Arc<Pod>]) -> Tally {
    let count = |test: &dyn Fn(&Pod) -> bool| {
        i32::try_from(pods.iter().filter(|pod| test(pod)).count()).unwrap_or(i32::MAX)
    };
    let restarts = |pod: &Arc<Pod>| {
        let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
        statuses.into_iter().flatten().map(|container| container.restart_count).sum::<i32>()
    };
    Tally {
        active: count(&|pod| !has_ended(pod)),
        ready: count(&|pod| !has_ended(pod) && super::objects::ready_since(pod).is_some()),
        succeeded: count(&|pod| phase(pod) == "Succeeded"),
        failed: count(&|pod| phase(pod) == "Failed"),
        restarts: pods.iter().filter(|pod| !has_ended(pod)).map(restarts).sum(),
    }
}

fn judge(spec: &JobSpec, tally: Tally, age: Duration) -> Verdict {
    let parallelism = spec.parallelism.unwrap_or(1);
    let deadline = spec.active_deadline_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    if spec.suspend == Some(true) {
        return Verdict::Suspended;
    }
    let enough = match spec.completions {
        Some(wanted) => tally.succeeded >= wanted,
        // A work queue: done when one ended well and none is left.
        None => tally.succeeded > 0 && tally.active == 0,
    };
    if enough {
        return Verdict::Complete;
    }
    if tally.failed + tally.restarts > spec.backoff_limit.unwrap_or(DEFAULT_BACKOFF) {
        let message = "Job has reached the specified backoff limit";
        return Verdict::Failed { reason: "BackoffLimitExceeded", message };
    }
    if deadline.is_some_and(|deadline| age >= Duration::from_secs(deadline)) {
        let message = "Job was active longer than specified deadline";
        return Verdict::Failed { reason: "DeadlineExceeded", message };
    }
    let left = spec.completions.map_or(parallelism, |wanted| wanted - tally.succeeded);
    Verdict::Go { start: (left.min(parallelism) - tally.active).max(0) }
}

/// One pass over one Job.
pub(super) async fn reconcile(job: Arc<Job>, shared: Arc<Shared>) -> Result<Action, ControllerError> {
    let (Some(spec), Some(namespace)) = (&job.spec, job.namespace()) else { return Ok(Action::await_change()) };
    let before = job.status.clone().unwrap_or_default();
    let is_over =
        before.conditions.iter().flatten().any(|condition| {
            matches!(condition.type_.as_str(), "Complete" | "Failed") && condition.status == "True"
        });
    if is_over || job.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let uid = job.uid();
    let pods = shared.pods.state_filter(|pod| is_controlled_by(&pod.metadata, uid.as_deref()));
    let now = shared.clock.stamp();
    let started = before.start_time.clone().unwrap_or_else(|| now.clone());
    let tally = tally(&pods);
    let verdict = judge(spec, tally, age(&started, &now));
    match verdict {
        Verdict::Go { start } => start_pods(&job, spec, &namespace, &pods, start, &shared).await?,
        Verdict::Failed { .. } | Verdict::Suspended => end_pods(&namespace, &pods, &shared).await?,
        Verdict::Complete => {}
    }
    let status = status_of(before, tally, verdict, &started, &now);
    if job.status.as_ref() != Some(&status) {
        let mut next = (*job).clone();
        next.status = Some(status);
        let api: Api<Job> = Api::namespaced(shared.client.clone(), &namespace);
        api.replace_status(&job.name_any(), &params(), &next).await?;
    }
    let deadline =
        spec.active_deadline_seconds.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
    let due = deadline.filter(|_| matches!(verdict, Verdict::Go { .. }));
    Ok(due.map_or_else(Action::await_change, |deadline| {
        Action::requeue(deadline.saturating_sub(age(&started, &now)))
    }))
}

fn age(started: &Time, now: &Time) -> Duration {
    let since: Timestamp = started.0;
    Duration::try_from(now.0.duration_since(since)).unwrap_or(Duration::ZERO)
}

fn status_of(before: JobStatus, tally: Tally, verdict: Verdict, started: &Time, now: &Time) -> JobStatus {
    let Tally { active, ready, succeeded, failed, restarts: _ } = tally;
    let positive = |count: i32| (count > 0).then_some(count);
    let mut status = JobStatus {
        start_time: (verdict != Verdict::Suspended).then(|| started.clone()),
        active: positive(active),
        ready: Some(ready),
        succeeded: positive(succeeded),
        failed: positive(failed),
        terminating: Some(0),
        ..before
    };
    let mut conditions = status.conditions.take().unwrap_or_default();
    let mut set = |kind: &str, reason: &str, message: &str| {
        if !conditions.iter().any(|condition| condition.type_ == kind) {
            conditions.push(JobCondition {
                type_: kind.to_owned(),
                status: "True".to_owned(),
                reason: Some(reason.to_owned()),
                message: Some(message.to_owned()),
                last_probe_time: Some(now.clone()),
                last_transition_time: Some(now.clone()),
            });
        }
    };
    match verdict {
        Verdict::Complete => {
            let message = "Reached expected number of succeeded pods";
            set("SuccessCriteriaMet", "CompletionsReached", message);
            set("Complete", "CompletionsReached", message);
            status.completion_time = Some(now.clone());
        }
        Verdict::Failed { reason, message } => {
            set("FailureTarget", reason, message);
            set("Failed", reason, message);
        }
        Verdict::Go { .. } | Verdict::Suspended => {}
    }
    status.conditions = (!conditions.is_empty()).then_some(conditions);
    status
}

/// Pods are named by number, so that a pass with a stale cache makes none twice.
async fn start_pods(
    job: &Job,
    spec: &JobSpec,
    namespace: &str,
    pods: &[Arc<Pod>],
    count: i32,
    shared: &Shared,
) -> Result<(), ControllerError> {
    let api: Api<Pod> = Api::namespaced(shared.client.clone(), namespace);
    let owner = controlled_by(job)
        .ok_or_else(|| ControllerError::Incomplete { object: format!("job {}", job.name_any()), field: "uid" })?;
    for number in (pods.len()..).take(usize::try_from(count).unwrap_or(0)) {
        let template = spec.template.metadata.clone().unwrap_or_default();
        let pod = Pod {
            metadata: ObjectMeta {
                name: Some(format!("{}-{number}", job.name_any())),
                namespace: Some(namespace.to_owned()),
                labels: template.labels,
                annotations: template.annotations,
                owner_references: Some(vec![owner.clone()]),
                ..ObjectMeta::default()
            },
            spec: spec.template.spec.clone(),
            status: None,
        };
        match api.create(&params(), &pod).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_already_exists() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

async fn end_pods(namespace: &str, pods: &[Arc<Pod>], shared: &Shared) -> Result<(), ControllerError> {
    let api: Api<Pod> = Api::namespaced(shared.client.clone(), namespace);
    for pod in pods.iter().filter(|pod| !has_ended(pod) && pod.metadata.deletion_timestamp.is_none()) {
        match api.delete(&pod.name_any(), &DeleteParams::default()).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn params() -> PostParams {
    PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOBODY: Tally = Tally { active: 0, ready: 0, succeeded: 0, failed: 0, restarts: 0 };

    fn spec(completions: Option<i32>, parallelism: i32, backoff: i32) -> JobSpec {
        JobSpec {
            completions,
            parallelism: Some(parallelism),
            backoff_limit: Some(backoff),
            active_deadline_seconds: Some(60),
            ..JobSpec::default()
        }
    }

    #[test]
    fn a_job_runs_until_enough_ended_well_or_too_many_did_not() {
        let now = Duration::ZERO;
        assert_eq!(judge(&spec(Some(1), 1, 0), NOBODY, now), Verdict::Go { start: 1 });
        assert_eq!(
            judge(&spec(Some(5), 2, 0), Tally { active: 1, succeeded: 1, ..NOBODY }, now),
            Verdict::Go { start: 1 }
        );
        assert_eq!(judge(&spec(Some(1), 1, 0), Tally { succeeded: 1, ..NOBODY }, now), Verdict::Complete);
        assert_eq!(
            judge(&spec(None, 2, 0), Tally { succeeded: 1, active: 1, ..NOBODY }, now),
            Verdict::Go { start: 1 }
        );
        assert_eq!(judge(&spec(Some(1), 1, 1), Tally { failed: 1, ..NOBODY }, now), Verdict::Go { start: 1 });
        let failed = judge(&spec(Some(1), 1, 1), Tally { failed: 2, ..NOBODY }, now);
        assert!(matches!(failed, Verdict::Failed { reason: "BackoffLimitExceeded", .. }));
        let restarted = judge(&spec(Some(1), 1, 1), Tally { active: 1, restarts: 2, ..NOBODY }, now);
        assert!(matches!(restarted, Verdict::Failed { reason: "BackoffLimitExceeded", .. }));
        let late = judge(&spec(Some(1), 1, 1), Tally { active: 1, ..NOBODY }, Duration::from_secs(60));
        assert!(matches!(late, Verdict::Failed { reason: "DeadlineExceeded", .. }));
    }
}
