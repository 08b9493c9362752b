//! A Canary's status as the record tells it. Pure.

use serde_json::Value;

use crate::api::{Canary, CanarySpec};
use crate::model::{NamespacedName, ObjectRef};
use crate::release::{OutcomeKind, Phase, State, StepProgress, wire};
use crate::rollout::keys::{GROUP, KIND};
use crate::rollout::stored;

use super::TargetReport;

/// What one Canary has to tell; `None` while the engine has not seen it or its state cannot be read.
pub(super) fn report_of(key: &NamespacedName, canary: &Canary) -> Option<TargetReport> {
    let status = canary.status.as_ref()?;
    let serin = status.serin.as_ref()?;
    let state = wire::read(serin.version, serin.state.clone()).ok()??;
    let spec = &canary.spec;
    Some(told(key, target_of(key, spec), policy_words(spec), state))
}

/// What one Rollout has to tell: it is its own target.
pub(super) fn report_of_rollout(key: &NamespacedName, state: Option<&str>, spec: &Value) -> Option<TargetReport> {
    let state = stored::read(state).ok()?.state?;
    let target = ObjectRef {
        group: GROUP.to_owned(),
        kind: KIND.to_owned(),
        namespace: Some(key.namespace.clone()),
        name: key.name.clone(),
    };
    let steps = spec["strategy"]["canary"]["steps"].as_array().map_or(0, Vec::len);
    let words = if spec["strategy"]["blueGreen"].is_object() {
        "blue/green".to_owned()
    } else {
        format!("canary of {steps} steps")
    };
    Some(told(key, target, words, state))
}

fn told(key: &NamespacedName, target: ObjectRef, policy: String, state: State) -> TargetReport {
    let failed = state.last_outcome.as_ref().filter(|outcome| outcome.kind == OutcomeKind::Failed);
    let release = state.release();
    let since = match &state.phase {
        Phase::Initializing { since, .. } | Phase::Idle { since, .. } => *since,
        Phase::Releasing(release) => release.started,
        Phase::HandingBack(back) => back.since,
    };
    TargetReport {
        canary: key.clone(),
        target,
        phase: state.flagger_phase().to_owned(),
        since,
        release: release.map(|release| release.id.clone()),
        revision: release.map(|release| release.revision.clone()),
        weight: state.canary_weight(),
        step: state.progress.map(|StepProgress { step, of, iterations: _ }| format!("{step} of {of}")),
        waiting_on: state.waiting_on.as_ref().map(ToString::to_string),
        promoted: state.promoted.as_ref().map(|promoted| promoted.revision.clone()),
        policy: Some(policy),
        checks: release
            .map(|release| release.checks())
            .or_else(|| failed.map(|outcome| outcome.checks.clone()))
            .unwrap_or_default(),
        cause: failed
            .filter(|_| release.is_none())
            .and_then(|outcome| Some(outcome.cause.as_ref()?.message.clone())),
        approved_by: None,
        recorded: state.recorded,
        rolled_back: state
            .quarantine
            .iter()
            .filter_map(|entry| Some((entry.revision.digest.clone(), entry.rolled_back.clone()?)))
            .collect(),
        quarantined: state.quarantine,
        outbox_merged: state.outbox_merged,
        outbox: state.outbox,
    }
}

pub(super) fn target_of(key: &NamespacedName, spec: &CanarySpec) -> ObjectRef {
    let target = &spec.target_ref;
    ObjectRef {
        group: target.group().to_owned(),
        kind: target.kind.clone(),
        namespace: Some(key.namespace.clone()),
        name: target.name.clone(),
    }
}

pub(super) fn policy_words(spec: &CanarySpec) -> String {
    if spec.skip_analysis {
        return "no analysis".to_owned();
    }
    let analysis = &spec.analysis;
    let weights: Vec<String> = analysis.weights().iter().map(ToString::to_string).collect();
    let steps = match (analysis.iterations.filter(|count| *count > 0), analysis.match_.is_empty()) {
        (Some(count), false) => format!("A/B testing, {count} iterations"),
        (Some(count), true) => format!("blue/green, {count} iterations"),
        (None, false) => format!("weights {} of some users", weights.join(" ")),
        (None, true) => format!("weights {}", weights.join(" ")),
    };
    format!(
        "{steps}, every {}, {} checks, threshold {}",
        analysis.interval.as_deref().unwrap_or("60s"),
        analysis.metrics.len(),
        analysis.threshold()
    )
}
