//! A Rollout that Argo Rollouts' own controller has led until now goes on where that one left it.

use jiff::Timestamp;
use serde_json::Value;

use crate::model::{Digest, Revision, Routing};
use crate::release::{Led, Policy, PolicyStep, State, take_up};

use super::sets::Sides;

/// The state that follows from Argo's status; `None` where there is nothing that would have to go on, and the Rollout is taken up
/// like a new one.
pub fn state(
    status: &Value,
    sides: &Sides,
    template: &Digest,
    policy: &Policy,
    shown: &Routing,
    now: Timestamp,
) -> Option<State> {
    let revision = |digest: &Digest| Revision { digest: digest.clone(), commit: None };
    let stable = sides.stable.as_ref().filter(|stable| status["stableRS"] == stable.hash.as_str())?;
    let candidate = sides.candidate().filter(|set| status["currentPodHash"] == set.hash.as_str())?;
    let led = if status["abort"] == true {
        Led::Aborted
    } else {
        let step = u32::try_from(step_of(status, policy)?).ok()?;
        // Before its first pods there is nothing to keep.
        (candidate.is_up() && candidate.available > 0).then(|| Led::Releasing { step, routing: shown.clone() })?
    };
    Some(take_up(policy, revision(&stable.digest), revision(template), led, now))
}

/// The step that Argo was at. Of a blue/green update it tells that it is paused.
fn step_of(status: &Value, policy: &Policy) -> Option<u64> {
    if let Some(step) = status["currentStepIndex"].as_u64() {
        return Some(step);
    }
    let is_paused = status["pauseConditions"].as_array().is_some_and(|conditions| !conditions.is_empty());
    let pause = policy.steps.iter().position(|step| matches!(step, PolicyStep::Pause(_)));
    pause.filter(|_| is_paused).and_then(|step| u64::try_from(step).ok())
}

/// What Argo's step shares out where pods are the traffic: the last weight up to it.
pub fn meant(status: &Value, policy: &Policy) -> Routing {
    let step = status["currentStepIndex"].as_u64().and_then(|step| usize::try_from(step).ok()).unwrap_or(0);
    let mut weights = policy.steps.iter().take(step.saturating_add(1)).filter_map(|step| match step {
        PolicyStep::Route(routing) => Some(routing),
        PolicyStep::Analyse | PolicyStep::Pause(_) | PolicyStep::Gate | PolicyStep::Size(_) => None,
    });
    weights.next_back().cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::super::fixtures;
    use super::super::keys::HASH;
    use super::super::sets::SetView;
    use super::*;
    use crate::release::{OutcomeKind, Phase};

    fn set(hash: &str) -> Arc<SetView> {
        let value = json!({
            "metadata": {"name": hash, "labels": {HASH: hash}},
            "spec": {"replicas": 1, "template": {"spec": {"containers": [{"image": hash}]}}},
            "status": {"availableReplicas": 1},
        });
        Arc::new(SetView::of(&value).unwrap())
    }

    #[test]
    fn what_argo_was_doing_goes_on_and_what_it_gave_up_does_not() {
        let (old, new) = (set("old"), set("new"));
        let template = new.digest.clone();
        let sides = Sides { stable: Some(old), current: Some(new), others: Vec::new() };
        let (policy, shown) =
            (fixtures::policy(&json!([{"setWeight": 40}, {"pause": {}}])), Routing::candidate_percent(40));
        let taken = |status: Value| state(&status, &sides, &template, &policy, &shown, Timestamp::UNIX_EPOCH);
        let status = json!({"stableRS": "old", "currentPodHash": "new", "currentStepIndex": 1});
        let going_on = taken(status.clone()).unwrap();
        let release = going_on.release().unwrap();
        assert_eq!((release.step, &release.routing), (1, &shown));
        let mut aborted = status;
        aborted["abort"] = json!(true);
        let given_up = taken(aborted).unwrap();
        assert!(matches!(given_up.phase, Phase::Idle { last: OutcomeKind::Failed, .. }));
        assert_eq!(given_up.quarantine[0].revision.digest, template);
        assert_eq!(taken(json!({"stableRS": "new", "currentPodHash": "new"})), None);
        assert_eq!(taken(Value::Null), None);
    }
}
