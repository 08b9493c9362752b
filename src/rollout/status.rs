//! The status of a Rollout, in the fields and words that Argo's plugin, Argo CD and `kubectl wait` read.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::release::{Obstacle, Phase, Release, Stage, State, WaitingOn};

use super::commands;
use super::keys::HASH;
use super::sets::{SetView, Sides};
use super::spec::{RolloutSpec, Shift, Strategy};

mod conditions;

/// What the engine writes; other fields are somebody else's and stay.
const OURS: [&str; 21] = [
    "phase",
    "message",
    "conditions",
    "currentPodHash",
    "stableRS",
    "currentStepIndex",
    "currentStepHash",
    "observedGeneration",
    "selector",
    "replicas",
    "updatedReplicas",
    "readyReplicas",
    "availableReplicas",
    "HPAReplicas",
    "abort",
    "abortedAt",
    "promoteFull",
    "controllerPause",
    "pauseConditions",
    "canary",
    "blueGreen",
];

/// What a status is made of.
#[derive(Debug, Clone, Copy)]
pub struct Telling<'a> {
    /// The status as it is.
    pub old: &'a Value,
    /// `metadata.generation`.
    pub generation: i64,
    /// The spec.
    pub spec: &'a RolloutSpec,
    /// Its policy.
    pub policy: &'a crate::release::Policy,
    /// The sets.
    pub sides: &'a Sides,
    /// The hash that the present template has, or will have.
    pub hash: &'a str,
    /// What was decided.
    pub state: &'a State,
    /// What has to be mended.
    pub obstacle: Option<&'a Obstacle>,
    /// Hashes that the Services in front of what serves and of what is to serve next lead to.
    pub pointed: [Option<&'a str>; 2],
    /// Percent that the route shows at the canary Service, where there is one.
    pub weight: Option<u8>,
    /// Now.
    pub now: Timestamp,
}

/// The fields of the live status that are the engine's.
pub fn ours(status: &Value) -> Value {
    let fields = status.as_object().into_iter().flatten();
    Value::Object(
        fields.filter(|(key, _)| OURS.contains(&key.as_str())).map(|(k, v)| (k.clone(), v.clone())).collect(),
    )
}

/// The status of a Rollout whose spec cannot be carried out: all that is known of it stays.
pub fn invalid(old: &Value, name: &str, reason: &str, now: Timestamp) -> Value {
    let message = invalid_message(name, reason);
    let mut status = ours(old);
    status["phase"] = json!("Degraded");
    status["message"] = json!(format!("InvalidSpec: {message}"));
    status["conditions"] = conditions::with(old, vec![("InvalidSpec", "True", "InvalidSpec", message)], now);
    status
}

fn invalid_message(name: &str, reason: &str) -> String {
    format!("The Rollout \"{name}\" is invalid: {reason}")
}

/// The status.
pub fn project(telling: &Telling<'_>) -> Value {
    let Telling { old, generation, spec, sides, hash, state, now, .. } = *telling;
    let sum = |count: fn(&SetView) -> i32| sides.all().map(|set| count(set)).sum::<i32>();
    let updated = sides.current.as_ref().map_or(0, |set| set.pods);
    let mut status = Map::new();
    let mut say = |key: &str, value: Value| drop(status.insert(key.to_owned(), value));
    say("observedGeneration", json!(generation.to_string()));
    say("currentPodHash", json!(hash));
    if let Some(stable) = &sides.stable {
        say("stableRS", json!(stable.hash));
    }
    if let Some(canary) = spec.canary().filter(|canary| !canary.steps.is_empty()) {
        say("currentStepIndex", json!(step_index(telling, canary.steps.len())));
        say("currentStepHash", json!(canary.steps_hash));
    }
    // An autoscaler of two whole sides looks at the one that users are on.
    let active = active(telling);
    let counted = |count: fn(&SetView) -> i32| active.map_or_else(|| sum(count), count);
    for (key, count) in [
        ("replicas", sum(|set| set.pods)),
        ("updatedReplicas", updated),
        ("readyReplicas", counted(|set| set.ready)),
        ("availableReplicas", counted(|set| set.available)),
        ("HPAReplicas", counted(|set| set.pods)),
    ] {
        say(key, json!(count));
    }
    let selected = selector(&spec.selector);
    say("selector", json!(active.map_or(selected.clone(), |set| format!("{selected},{HASH}={}", set.hash))));
    if is_aborted(telling) {
        say("abort", json!(true));
        let since = old["abortedAt"].as_str().map_or_else(|| format!("{now:.0}"), str::to_owned);
        say("abortedAt", json!(since));
    }
    if let Some(release) = state.release() {
        if release.skip && old["promoteFull"] == true {
            say("promoteFull", json!(true));
        }
        if is_paused(telling) {
            let since = format!("{:.0}", release.clock.opened);
            say("controllerPause", json!(true));
            say("pauseConditions", json!([{"reason": pause_reason(spec), "startTime": since}]));
        }
    }
    say("canary", weights(telling).map_or_else(|| json!({}), |weights| json!({"weights": weights})));
    say("blueGreen", blue_green(telling));
    let (phase, message) = phase(telling);
    say("phase", json!(phase));
    if !message.is_empty() {
        say("message", json!(message));
    }
    say("conditions", conditions::of(telling));
    Value::Object(status)
}

/// Argo's reason of a pause.
fn pause_reason(spec: &RolloutSpec) -> &'static str {
    match spec.strategy {
        Strategy::Canary(_) => "CanaryPauseStep",
        Strategy::BlueGreen(_) => "BlueGreenPause",
    }
}

/// The set that users of a blue/green Rollout are on.
fn active<'a>(telling: &Telling<'a>) -> Option<&'a SetView> {
    let [active, _] = telling.pointed;
    let is_active = |set: &&Arc<SetView>| telling.spec.canary().is_none() && active == Some(set.hash.as_str());
    telling.sides.all().find(is_active).map(AsRef::as_ref)
}

fn blue_green(telling: &Telling<'_>) -> Value {
    let Strategy::BlueGreen(_) = telling.spec.strategy else { return json!({}) };
    let mut status = Map::new();
    for (key, hash) in [("activeSelector", telling.pointed[0]), ("previewSelector", telling.pointed[1])] {
        if let Some(hash) = hash {
            status.insert(key.to_owned(), json!(hash));
        }
    }
    Value::Object(status)
}

fn weights(telling: &Telling<'_>) -> Option<Value> {
    let Telling { spec, sides, weight, .. } = *telling;
    let weight = weight?;
    let [stable_service, canary_service] =
        spec.services().map(|service| service.map_or("", |service| service.name));
    let hash = |set: Option<&SetView>| set.map(|set| set.hash.clone()).unwrap_or_default();
    let stable = sides.stable.as_deref();
    let candidate = sides.candidate().map(AsRef::as_ref).or(stable);
    let of = |service: &str, weight: u8, set: Option<&SetView>| json!({"weight": weight, "serviceName": service, "podTemplateHash": hash(set)});
    Some(json!({
        "canary": of(canary_service, weight, candidate),
        "stable": of(stable_service, 100 - weight.min(100), stable),
    }))
}

/// The step that a release is at; all are done where nothing is released.
fn step_index(telling: &Telling<'_>, all: usize) -> usize {
    match telling.state.release() {
        None if is_aborted(telling) => 0,
        None => all,
        Some(Release { stage: Stage::Confirming | Stage::ScalingUp { .. } | Stage::Preparing, .. }) => 0,
        Some(release) if release.stage == Stage::Analysing => all.min(release.step as usize),
        Some(_) if is_aborted(telling) => 0,
        Some(_) => all,
    }
}

/// Why the present template is not what is to serve; `None` while it may.
fn abortion<'a>(telling: &Telling<'a>) -> Option<&'a str> {
    let state = telling.state;
    match &state.phase {
        Phase::Releasing(release) => match &release.stage {
            Stage::Ending { end: crate::release::End::Failed { cause }, .. } | Stage::Restoring { cause, .. } => {
                Some(cause.message.as_str())
            }
            Stage::Ending { .. }
            | Stage::Confirming
            | Stage::ScalingUp { .. }
            | Stage::Preparing
            | Stage::Analysing
            | Stage::ConfirmingPromotion
            | Stage::Promoting { .. } => None,
        },
        Phase::Idle { .. } => {
            let digest = telling.sides.current.as_ref().map(|set| &set.digest)?;
            let is_refused = state.quarantine.iter().any(|entry| entry.revision.digest == *digest);
            let outcome = state.last_outcome.as_ref().filter(|outcome| outcome.revision.digest == *digest);
            let cause = outcome.and_then(|outcome| outcome.cause.as_ref()).map(|cause| cause.message.as_str());
            is_refused.then(|| cause.unwrap_or_default())
        }
        Phase::Initializing { .. } | Phase::HandingBack(_) => None,
    }
}

fn is_aborted(telling: &Telling<'_>) -> bool {
    abortion(telling).is_some()
}

fn is_paused(telling: &Telling<'_>) -> bool {
    let Some(release) = telling.state.release() else { return false };
    let waits = matches!(telling.state.waiting_on, Some(WaitingOn::Pause { .. }));
    waits && commands::pause_of(release, telling.policy).is_some()
}

fn phase(telling: &Telling<'_>) -> (&'static str, String) {
    let Telling { spec, sides, obstacle, .. } = *telling;
    let updated = sides.current.as_ref().map_or((0, 0), |set| (set.pods, set.available));
    if let Some(obstacle) = obstacle {
        let name = &telling.policy.names.target;
        return ("Degraded", format!("InvalidSpec: {}", invalid_message(name, obstacle.words())));
    }
    if is_aborted(telling) {
        return ("Degraded", format!("RolloutAborted: {}", aborted_message(telling)));
    }
    if is_late(telling) {
        return ("Degraded", format!("ProgressDeadlineExceeded: {}", late_message(telling)));
    }
    if spec.paused {
        return ("Paused", "manually paused".to_owned());
    }
    if is_paused(telling) {
        return ("Paused", pause_reason(spec).to_owned());
    }
    let progressing = |message: &str| ("Progressing", message.to_owned());
    if updated.0 < spec.replicas {
        progressing("more replicas need to be updated")
    } else if updated.1 < updated.0 {
        progressing("updated replicas are still becoming available")
    } else if spec.canary().is_none() && active(telling).is_none_or(|set| set.hash != telling.hash) {
        progressing("active service cutover pending")
    } else if spec.canary().is_none() && !sides.is_stable() {
        progressing("waiting for post-promotion verification to complete")
    } else if spec.canary().is_some_and(|canary| matches!(canary.shift, Shift::Pods(_)))
        && sides.all().map(|set| set.pods).sum::<i32>() > updated.0
    {
        progressing("old replicas are pending termination")
    } else if !sides.is_stable() {
        progressing("waiting for all steps to complete")
    } else {
        ("Healthy", String::new())
    }
}

fn aborted_message(telling: &Telling<'_>) -> String {
    let revision = telling.sides.current.as_ref().map_or(0, |set| set.revision);
    let reason = abortion(telling).unwrap_or_default();
    let said = format!("Rollout aborted update to revision {revision}");
    if reason.is_empty() { said } else { format!("{said}: {reason}") }
}

fn late_message(telling: &Telling<'_>) -> String {
    let name = telling.sides.current.as_ref().map(|set| set.name.as_str()).unwrap_or_default();
    format!("ReplicaSet \"{name}\" has timed out progressing.")
}

fn is_late(telling: &Telling<'_>) -> bool {
    late_at(telling.spec, telling.policy, telling.state).is_some_and(|at| telling.now >= at)
}

/// When a side that is waited for is said to be late. The engine's own deadline ends a release, and lies there only where the
/// Rollout asks for that.
pub fn late_at(spec: &RolloutSpec, policy: &crate::release::Policy, state: &State) -> Option<Timestamp> {
    let Some(WaitingOn::Readiness { deadline, .. }) = &state.waiting_on else { return None };
    let since = deadline.checked_sub(policy.progress_deadline).ok()?;
    Some(crate::model::after(since, spec.progress_deadline))
}

/// `app=web,tier in (a,b)`, as Kubernetes writes selectors.
fn selector(selector: &Value) -> String {
    let labels = selector["matchLabels"].as_object().into_iter().flatten();
    let labels = labels.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
    let expressions = selector["matchExpressions"].as_array().into_iter().flatten().map(expression);
    labels.chain(expressions).collect::<Vec<_>>().join(",")
}

fn expression(expression: &Value) -> String {
    let key = expression["key"].as_str().unwrap_or_default();
    let values = expression["values"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let values = values.collect::<Vec<_>>().join(",");
    match expression["operator"].as_str().unwrap_or_default() {
        "In" => format!("{key} in ({values})"),
        "NotIn" => format!("{key} notin ({values})"),
        "DoesNotExist" => format!("!{key}"),
        _ => key.to_owned(),
    }
}
