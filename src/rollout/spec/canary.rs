//! `spec.strategy.canary`.

use std::time::Duration;

use serde_json::Value;

use super::at::At;
use super::istio::{self, Shifted};
use super::{SCALE_DOWN_DELAY, SpecError};
use crate::api::duration;
use crate::model::Digest;
use crate::release::{Count, Updates};

/// Most steps: each is a value of the state that is compared at every look.
const STEPS_MAX: usize = 1_000;
/// Argo Rollouts' default of both, where pods are the traffic.
const QUARTER: Count = Count::Percent(25);

/// A canary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canary {
    /// What shifts its traffic.
    pub shift: Shift,
    /// The steps.
    pub steps: Vec<Step>,
    /// Tells one list of steps from another.
    pub steps_hash: String,
    /// How long what has served is kept.
    pub scale_down_delay: Duration,
    /// How many of those are kept at most.
    pub scale_down_limit: Option<usize>,
    /// How long an aborted revision is kept; `None`: until the next one.
    pub abort_scale_down_delay: Option<Duration>,
}

/// What shifts a canary's traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shift {
    /// Weights of a route.
    Route(Shifted),
    /// Nothing but the number of pods.
    Pods(ByPods),
}

/// A canary without a router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ByPods {
    /// How many pods may be added and may be missing while they are exchanged.
    pub updates: Updates,
    /// The Service in front of what serves, if there is one.
    pub stable_service: Option<String>,
    /// The Service in front of what is to serve, if there is one.
    pub canary_service: Option<String>,
}

/// A step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Percent of the requests.
    SetWeight(u8),
    /// Wait; without a duration until somebody promotes.
    Pause(Option<Duration>),
    /// The pods of what is to serve next, whatever its share is.
    SetCanaryScale(CanaryScale),
}

/// How many pods what is to serve next has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CanaryScale {
    /// So many.
    Replicas(i32),
    /// Percent of the Rollout's replicas.
    Weight(u8),
    /// As many as its share takes.
    MatchTrafficWeight,
}

pub(super) fn read(canary: &At<'_>) -> Result<Canary, SpecError> {
    canary.object(
        &[
            "stableService",
            "canaryService",
            "steps",
            "trafficRouting",
            "maxSurge",
            "maxUnavailable",
            "scaleDownDelaySeconds",
            "scaleDownDelayRevisionLimit",
            "abortScaleDownDelaySeconds",
        ],
        &[],
    )?;
    let updates = updates(canary)?;
    let routing = canary.field("trafficRouting");
    let shift = if routing.is_absent() {
        Shift::Pods(by_pods(canary, updates)?)
    } else {
        Shift::Route(istio::read(canary, &routing)?)
    };
    let steps = canary.field("steps");
    let is_routed = matches!(shift, Shift::Route(_));
    let read = steps.items().iter().map(|found| step(found, is_routed)).collect::<Result<Vec<Step>, _>>()?;
    if read.len() > STEPS_MAX {
        return steps.problem(format!("Too many: {}: must have at most {STEPS_MAX} items", read.len()));
    }
    let delay = canary.field("scaleDownDelaySeconds");
    if matches!(shift, Shift::Pods(_)) && !delay.is_absent() {
        return delay.problem("Invalid value: Canary scaleDownDelaySeconds can only be used with traffic routing");
    }
    let abort = canary.field("abortScaleDownDelaySeconds").seconds(SCALE_DOWN_DELAY)?;
    Ok(Canary {
        shift,
        steps: read,
        steps_hash: Digest::of_canonical(steps.value.to_string().as_bytes()).short().to_owned(),
        scale_down_delay: delay.seconds(SCALE_DOWN_DELAY)?,
        scale_down_limit: canary
            .field("scaleDownDelayRevisionLimit")
            .optional::<u32>()?
            .map(|limit| limit as usize),
        abort_scale_down_delay: (!abort.is_zero()).then_some(abort),
    })
}

/// Names of two Services that have to differ.
pub(super) fn differ(stable: &At<'_>, candidate: &At<'_>) -> Result<(), SpecError> {
    if stable.is_absent() || stable.value != candidate.value {
        return Ok(());
    }
    stable.problem(format!(
        "Invalid value: {}: This rollout uses the same service for the stable and canary services, but two different services \
         are required.",
        stable.value
    ))
}

fn by_pods(canary: &At<'_>, updates: Updates) -> Result<ByPods, SpecError> {
    let (stable, candidate) = (canary.field("stableService"), canary.field("canaryService"));
    let name = |field: &At<'_>| if field.is_absent() { Ok(None) } else { field.text().map(Some) };
    let (stable_service, canary_service) = (name(&stable)?, name(&candidate)?);
    differ(&stable, &candidate)?;
    Ok(ByPods { updates, stable_service, canary_service })
}

/// How far the sides may go beyond or below the replicas. A router makes them meaningless, and no less wrong where they are.
fn updates(canary: &At<'_>) -> Result<Updates, SpecError> {
    let (surge_at, missing_at) = (canary.field("maxSurge"), canary.field("maxUnavailable"));
    let (surge, missing) = (surge_at.count(QUARTER)?, missing_at.count(QUARTER)?);
    let is_none = |count: &Count| matches!(count, Count::Pods(0) | Count::Percent(0));
    if is_none(&missing) && is_none(&surge) {
        return missing_at.problem("Invalid value: MaxSurge and MaxUnavailable both can not be zero");
    }
    Ok(Updates::Rolling { missing, surge })
}

fn step(step: &At<'_>, is_routed: bool) -> Result<Step, SpecError> {
    let map = step.object(&["setWeight", "pause", "setCanaryScale"], &[])?;
    if map.values().filter(|value| !value.is_null()).count() != 1 {
        return step.problem(
            "Invalid value: Step must have one of the following set: setWeight, pause or setCanaryScale",
        );
    }
    let (weight, pause, scale) = (step.field("setWeight"), step.field("pause"), step.field("setCanaryScale"));
    if !scale.is_absent() {
        if !is_routed {
            return scale.problem("Invalid value: SetCanaryScale requires TrafficRouting to be set");
        }
        return canary_scale(&scale).map(Step::SetCanaryScale);
    }
    if weight.is_absent() {
        return self::pause(&pause).map(Step::Pause);
    }
    let percent = weight.value.as_i64().and_then(|percent| u8::try_from(percent).ok());
    match percent.filter(|percent| *percent <= 100) {
        Some(percent) => Ok(Step::SetWeight(percent)),
        None => weight.problem(format!(
            "Invalid value: {}: SetWeight needs to be between 0 and max weight 100",
            weight.value
        )),
    }
}

/// A number of seconds, such a number as text, or a Go duration.
fn pause(pause: &At<'_>) -> Result<Option<Duration>, SpecError> {
    pause.object(&["duration"], &[])?;
    let duration = pause.field("duration");
    let read = match duration.value {
        Value::Null => return Ok(None),
        Value::Number(seconds) => seconds.as_u64().map(Duration::from_secs),
        Value::String(text) => match text.parse::<u64>() {
            Ok(seconds) => Some(Duration::from_secs(seconds)),
            Err(_) => duration::parse(text).ok(),
        },
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    match read {
        Some(read) => Ok(Some(read)),
        None => duration.problem(format!(
            "Invalid value: {}: Duration needs to be a number of seconds or a duration such as 30s or 1m30s, and not \
             negative",
            duration.value
        )),
    }
}

fn canary_scale(scale: &At<'_>) -> Result<CanaryScale, SpecError> {
    let map = scale.object(&["replicas", "weight", "matchTrafficWeight"], &[])?;
    let (replicas, weight, matching) =
        (scale.field("replicas"), scale.field("weight"), scale.field("matchTrafficWeight"));
    let is_said = |value: &Value| !value.is_null() && *value != Value::Bool(false);
    if map.values().filter(|value| is_said(value)).count() != 1 {
        return scale.problem(
            "Invalid value: SetCanaryScale must have one of the following set: weight, replicas or matchTrafficWeight",
        );
    }
    if matching.flag()? {
        return Ok(CanaryScale::MatchTrafficWeight);
    }
    if let Some(replicas) = replicas.optional::<u32>()? {
        return Ok(CanaryScale::Replicas(i32::try_from(replicas).unwrap_or(i32::MAX)));
    }
    let percent: u8 = weight.number(0)?;
    if percent > 100 {
        return weight.problem(format!("Invalid value: {percent}: weight needs to be between 0 and 100"));
    }
    Ok(CanaryScale::Weight(percent))
}
