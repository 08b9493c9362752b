//! What becomes of a pod's containers over time, as far as its spec and its image say. Pure.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, LifecycleHandler, Pod, PodSpec, Probe};

use super::script::{self, Run};
use crate::behaviour::Behaviour;

/// Pause of a kubelet between two starts of a container that ended, before it backs off (kubelet: 10 s).
const RESTART_PAUSE: Duration = Duration::from_secs(10);
/// Programs that every image of this world has, wherever their folder: a base image's.
const PROGRAMS: [&str; 14] =
    ["sh", "bash", "ash", "dash", "sleep", "true", "false", "echo", "cat", "env", "ls", "test", "curl", "wget"];

/// How the node's pods pass their time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// From a container's start to its first successful probe, if the probe does not wait longer.
    pub(super) readiness_delay: Duration,
    /// Longest a deleted pod lingers whose containers have no `preStop` that takes longer.
    pub(super) max_grace: Duration,
    /// Divides the times that a spec gives.
    pub(super) speed: f64,
}

/// What a pod's containers do at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Moment {
    /// One of them does not start; the pod is pending.
    Waiting { reason: &'static str, message: String },
    /// One of them was started and ended, and is started again and again.
    Crashing { code: i32, reason: &'static str, message: String, restarts: i32 },
    /// They run.
    Running { ready: bool },
    /// They ran to their end, for good.
    Ended { code: i32, reason: &'static str, message: Option<String> },
}

/// What a pod does `age` after its start, and how long it stays so.
pub(super) fn at(pod: &Pod, age: Duration, pace: Pace) -> (Moment, Option<Duration>) {
    let Some(spec) = &pod.spec else { return (Moment::Running { ready: false }, None) };
    let all = || spec.init_containers.iter().flatten().chain(&spec.containers);
    if let Some(container) = all().find(|container| cannot_be_pulled(container)) {
        let image = container.image.as_deref().unwrap_or_default();
        let message = format!("Back-off pulling image \"{image}\": ErrImagePull: {image}: not found");
        return (Moment::Waiting { reason: "ImagePullBackOff", message }, None);
    }
    let for_good = spec.restart_policy.as_deref().is_some_and(|policy| policy == "Never");
    if let Some(program) = all().find_map(missing_program) {
        let message = format!("exec: \"{program}\": stat {program}: no such file or directory");
        let moment = if for_good {
            Moment::Ended { code: 128, reason: "StartError", message: Some(message) }
        } else {
            Moment::Crashing { code: 128, reason: "StartError", message, restarts: 1 }
        };
        return (moment, None);
    }
    let init = spec.init_containers.iter().flatten().map(|container| command(container).takes).sum::<Duration>();
    let starts = scaled(init, pace);
    if age < starts {
        let message = "containers with incomplete status".to_owned();
        return (Moment::Waiting { reason: "PodInitializing", message }, Some(starts - age));
    }
    let age = age - starts;
    match end_of(spec) {
        Some(run) => ending(run, age, for_good, pace),
        None => running(pod, spec, age, pace),
    }
}

/// How long a pod lingers once it is deleted with a grace of `grace`.
pub(super) fn lingers(pod: &Pod, grace: Duration, pace: Pace) -> Duration {
    let hooks = containers(pod).filter_map(|container| container.lifecycle.as_ref()?.pre_stop.as_ref());
    let hook = hooks.map(handler).max().unwrap_or_default();
    scaled(hook, pace).max(pace.max_grace).min(grace)
}

fn running(pod: &Pod, spec: &PodSpec, age: Duration, pace: Pace) -> (Moment, Option<Duration>) {
    let gates = spec.readiness_gates.iter().flatten();
    let open = gates.clone().all(|gate| {
        let condition = super::super::objects::pod_condition(pod, &gate.condition_type);
        condition.is_some_and(|condition| condition.status == "True")
    });
    let never = serde_json::to_value(pod).is_ok_and(|pod| Behaviour::of(&pod).unready);
    let ready_after =
        spec.containers.iter().map(|container| ready_after(container, pace)).max().unwrap_or_default();
    if never || !open {
        return (Moment::Running { ready: false }, None);
    }
    let left = ready_after.saturating_sub(age);
    (Moment::Running { ready: left.is_zero() }, (!left.is_zero()).then_some(left))
}

fn ending(run: Run, age: Duration, for_good: bool, pace: Pace) -> (Moment, Option<Duration>) {
    let takes = scaled(run.takes, pace);
    if age < takes {
        return (Moment::Running { ready: true }, Some(takes - age));
    }
    let reason = if run.code == 0 { "Completed" } else { "Error" };
    if for_good || run.code == 0 {
        return (Moment::Ended { code: run.code, reason, message: None }, None);
    }
    let round = takes + RESTART_PAUSE;
    let rounds = age.as_millis() / round.as_millis().max(1) + 1;
    let restarts = i32::try_from(rounds).unwrap_or(i32::MAX);
    let next = round.saturating_mul(u32::try_from(rounds).unwrap_or(u32::MAX)).saturating_sub(age);
    let message = "back-off restarting failed container".to_owned();
    (Moment::Crashing { code: run.code, reason, message, restarts }, Some(next))
}

/// How the pod's containers end, if they are meant to: the longest of them, and the first failure.
fn end_of(spec: &PodSpec) -> Option<Run> {
    if spec.restart_policy.as_deref().is_none_or(|policy| policy == "Always") {
        return None;
    }
    // Without a command it is the image's own program: one that listens serves until it is told to stop.
    let serves = |container: &Container| {
        container.command.is_none()
            && container.args.is_none()
            && container.ports.as_ref().is_some_and(|it| !it.is_empty())
    };
    if spec.containers.iter().any(serves) {
        return None;
    }
    let runs: Vec<Run> = spec.containers.iter().map(command).collect();
    let takes = runs.iter().map(|run| run.takes).max().unwrap_or_default();
    Some(Run { takes, code: runs.iter().map(|run| run.code).find(|code| *code != 0).unwrap_or(0) })
}

fn command(container: &Container) -> Run {
    let words = container.command.iter().flatten().chain(container.args.iter().flatten());
    script::run(&words.map(String::as_str).collect::<Vec<_>>())
}

/// From a container's start to its being ready: its `postStart`, then its probes.
fn ready_after(container: &Container, pace: Pace) -> Duration {
    let hook = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_ref()).map(handler);
    let startup = container.startup_probe.as_ref().map(first_success).unwrap_or_default();
    let readiness = container.readiness_probe.as_ref().map(first_success).unwrap_or_default();
    scaled(hook.unwrap_or_default(), pace) + scaled(startup + readiness, pace).max(pace.readiness_delay)
}

/// When a probe that always succeeds has succeeded often enough.
fn first_success(probe: &Probe) -> Duration {
    let seconds = |value: Option<i32>, usual: u64| value.and_then(|it| u64::try_from(it).ok()).unwrap_or(usual);
    let more = seconds(probe.success_threshold, 1).saturating_sub(1);
    let period = seconds(probe.period_seconds, 10);
    Duration::from_secs(seconds(probe.initial_delay_seconds, 0) + more.saturating_mul(period))
}

fn handler(handler: &LifecycleHandler) -> Duration {
    let sleeps = handler.sleep.as_ref().and_then(|sleep| u64::try_from(sleep.seconds).ok());
    let runs = handler
        .exec
        .as_ref()
        .and_then(|exec| exec.command.as_ref())
        .map(|words| script::run(&words.iter().map(String::as_str).collect::<Vec<_>>()).takes);
    sleeps.map(Duration::from_secs).or(runs).unwrap_or_default()
}

fn cannot_be_pulled(container: &Container) -> bool {
    crate::behaviour::cannot_be_pulled(container.image.as_deref().unwrap_or_default())
}

/// The program that the image does not have: an absolute path to something that no base image brings.
fn missing_program(container: &Container) -> Option<&str> {
    let program = container.command.as_ref()?.first()?.as_str();
    let (folder, name) = program.rsplit_once('/')?;
    (folder.is_empty() && !PROGRAMS.contains(&name)).then_some(program)
}

fn containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    pod.spec.iter().flat_map(|spec| &spec.containers)
}

fn scaled(time: Duration, pace: Pace) -> Duration {
    Duration::try_from_secs_f64(time.as_secs_f64() / pace.speed.max(f64::MIN_POSITIVE)).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const PACE: Pace =
        Pace { readiness_delay: Duration::from_millis(300), max_grace: Duration::from_secs(2), speed: 1.0 };

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "it"}, "spec": spec})).unwrap()
    }

    fn at(pod: &Pod, seconds: f64) -> Moment {
        super::at(pod, Duration::from_secs_f64(seconds), PACE).0
    }

    #[test]
    fn a_pod_is_ready_after_its_hooks_and_probes() {
        let plain = pod(json!({"containers": [{"name": "a", "image": "podinfo:1"}]}));
        assert_eq!(at(&plain, 0.1), Moment::Running { ready: false });
        assert_eq!(at(&plain, 0.3), Moment::Running { ready: true });
        let slow = pod(json!({"containers": [{"name": "a", "image": "podinfo:1",
            "lifecycle": {"postStart": {"exec": {"command": ["sleep", "3"]}}},
            "readinessProbe": {"initialDelaySeconds": 5, "periodSeconds": 2, "successThreshold": 2}}]}));
        assert_eq!(at(&slow, 9.9), Moment::Running { ready: false });
        assert_eq!(at(&slow, 10.0), Moment::Running { ready: true });
        let hurried = Pace { speed: 10.0, ..PACE };
        assert_eq!(super::at(&slow, Duration::from_secs(1), hurried).0, Moment::Running { ready: true });
    }

    #[test]
    fn a_readiness_gate_keeps_a_pod_unready_until_somebody_opens_it() {
        let mut gated = pod(json!({"readinessGates": [{"conditionType": "example.com/lb"}],
            "containers": [{"name": "a", "image": "podinfo:1"}]}));
        assert_eq!(at(&gated, 9.0), Moment::Running { ready: false });
        gated.status =
            serde_json::from_value(json!({"conditions": [{"type": "example.com/lb", "status": "True"}]})).unwrap();
        assert_eq!(at(&gated, 9.0), Moment::Running { ready: true });
    }

    #[test]
    fn what_cannot_start_says_why() {
        let bad = pod(json!({"containers": [{"name": "a", "image": "podinfo:1", "command": ["/bad-command"]}]}));
        assert!(matches!(at(&bad, 1.0), Moment::Crashing { code: 128, reason: "StartError", .. }));
        let absent = pod(json!({"containers": [{"name": "a", "image": "podinfo:1-nopull"}]}));
        assert!(matches!(at(&absent, 1.0), Moment::Waiting { reason: "ImagePullBackOff", .. }));
        let shell =
            pod(json!({"containers": [{"name": "a", "image": "podinfo:1", "command": ["/sh", "-c", "x"]}]}));
        assert_eq!(at(&shell, 1.0), Moment::Running { ready: true });
    }

    #[test]
    fn what_is_meant_to_end_ends_with_its_code() {
        let job = |policy: &str, text: &str| {
            pod(json!({"restartPolicy": policy, "containers": [
                {"name": "a", "image": "alpine:3", "command": ["sh", "-c", text]}]}))
        };
        assert_eq!(at(&job("Never", "sleep 5"), 4.0), Moment::Running { ready: true });
        assert_eq!(
            at(&job("Never", "sleep 5"), 5.0),
            Moment::Ended { code: 0, reason: "Completed", message: None }
        );
        assert_eq!(at(&job("Never", "exit 3"), 0.0), Moment::Ended { code: 3, reason: "Error", message: None });
        assert!(matches!(at(&job("OnFailure", "exit 3"), 0.0), Moment::Crashing { code: 3, restarts: 1, .. }));
        assert!(matches!(at(&job("OnFailure", "exit 3"), 25.0), Moment::Crashing { restarts: 3, .. }));
        let server = pod(json!({"restartPolicy": "Never", "containers": [
            {"name": "a", "image": "podinfo:1", "ports": [{"containerPort": 1}]}]}));
        assert_eq!(at(&server, 99.0), Moment::Running { ready: true });
    }

    #[test]
    fn a_deleted_pod_lingers_for_its_hook_and_never_beyond_its_grace() {
        let hook = |handler: serde_json::Value| {
            pod(json!({"containers": [{"name": "a", "image": "podinfo:1", "lifecycle": {"preStop": handler}}]}))
        };
        let grace = Duration::from_secs(30);
        assert_eq!(lingers(&hook(json!({"sleep": {"seconds": 10}})), grace, PACE), Duration::from_secs(10));
        let long = hook(json!({"exec": {"command": ["sh", "-c", "sleep 90"]}}));
        assert_eq!(lingers(&long, grace, PACE), grace);
        let plain = pod(json!({"containers": [{"name": "a", "image": "podinfo:1"}]}));
        assert_eq!(lingers(&plain, grace, PACE), PACE.max_grace);
        assert_eq!(lingers(&plain, Duration::from_secs(1), PACE), Duration::from_secs(1));
    }
}
