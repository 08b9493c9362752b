//! What people are told of a Rollout as Events, under Argo Rollouts' reasons: it follows from what its status said and says now.

use serde_json::Value;

use super::spec::{CanaryScale, Step};

/// One Event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Whether somebody should look.
    pub is_warning: bool,
    /// Argo's reason.
    pub reason: &'static str,
    /// What happened.
    pub message: String,
}

/// What a status does not say of a Rollout.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The number of its present revision.
    pub revision: u64,
    /// Its steps, if it is a canary.
    pub steps: &'a [Step],
}

/// The news between two statuses.
pub fn between(before: &Value, after: &Value, facts: Facts<'_>) -> Vec<Told> {
    let Facts { revision, steps } = facts;
    let mut news = Vec::new();
    let mut say = |is_warning: bool, reason, message| news.push(Told { is_warning, reason, message });
    let hash = after["currentPodHash"].as_str().unwrap_or_default();
    let is_same = before["currentPodHash"] == after["currentPodHash"];
    if !is_same {
        say(false, "RolloutUpdated", format!("Rollout updated to revision {revision}"));
        let words = format!("Rollout not completed, started update to revision {revision} ({hash})");
        say(false, "RolloutNotCompleted", words);
    }
    // What the engine has aborted it has dated; `abort` alone is somebody's word.
    let aborted = |status: &Value| status["abortedAt"].is_string();
    let (was_aborted, is_aborted) = (aborted(before), aborted(after));
    if is_same && !was_aborted && !is_aborted {
        for (index, step) in passed(before, after, steps) {
            let of = steps.len();
            let words = format!("Rollout step {}/{of} completed ({})", index + 1, described(step));
            say(false, "RolloutStepCompleted", words);
        }
    }
    match (pause(before), pause(after)) {
        (None, Some(reason)) => say(false, "RolloutPaused", format!("Rollout is paused ({reason})")),
        (Some(_), None) if !is_aborted => say(false, "RolloutResumed", "Rollout is resumed".to_owned()),
        (None | Some(_), None | Some(_)) => {}
    }
    match (was_aborted, is_aborted) {
        (false, true) => {
            let message = after["message"].as_str().unwrap_or_default();
            let words = message.strip_prefix("RolloutAborted: ").unwrap_or(message);
            say(true, "RolloutAborted", words.to_owned());
        }
        (true, false) if is_same => {
            say(false, "RolloutRetry", "Retrying Rollout after abort".to_owned());
        }
        (true | false, true | false) => {}
    }
    let weight = |status: &Value| status["canary"]["weights"]["canary"]["weight"].as_i64();
    if let (Some(from), Some(to)) = (weight(before), weight(after))
        && from != to
    {
        say(false, "TrafficWeightUpdated", format!("Traffic weight updated from {from} to {to}"));
    }
    if !is_complete(before) && is_complete(after) {
        let why = if revision <= 1 {
            "Initial deploy".to_owned()
        } else if before["promoteFull"] == true {
            "Full promotion requested".to_owned()
        } else {
            format!("Completed all {} canary steps", steps.len())
        };
        say(false, "RolloutCompleted", format!("Rollout completed update to revision {revision} ({hash}): {why}"));
    }
    news
}

/// The steps that lie between.
fn passed<'a>(before: &Value, after: &Value, steps: &'a [Step]) -> impl Iterator<Item = (usize, &'a Step)> {
    let index = |status: &Value| {
        let index = status["currentStepIndex"].as_u64().and_then(|index| usize::try_from(index).ok());
        index.unwrap_or(0)
    };
    let (from, to) = (index(before), index(after));
    steps.iter().enumerate().take(to).skip(from)
}

fn described(step: &Step) -> String {
    match step {
        Step::SetWeight(percent) => format!("setWeight: {percent}"),
        Step::Pause(None) => "pause".to_owned(),
        Step::Pause(Some(duration)) => format!("pause: {}s", duration.as_secs()),
        Step::SetCanaryScale(CanaryScale::Replicas(replicas)) => format!("setCanaryScale: replicas {replicas}"),
        Step::SetCanaryScale(CanaryScale::Weight(percent)) => format!("setCanaryScale: weight {percent}"),
        Step::SetCanaryScale(CanaryScale::MatchTrafficWeight) => "setCanaryScale: matchTrafficWeight".to_owned(),
    }
}

fn pause(status: &Value) -> Option<&str> {
    status["pauseConditions"][0]["reason"].as_str()
}

fn condition<'a>(status: &'a Value, kind: &str) -> Option<&'a Value> {
    status["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

fn is_complete(status: &Value) -> bool {
    condition(status, "Completed").is_some_and(|completed| completed["status"] == "True")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn reasons(before: &Value, after: &Value) -> Vec<&'static str> {
        let steps = [Step::SetWeight(50), Step::Pause(None)];
        let news = between(before, after, Facts { revision: 2, steps: &steps });
        news.into_iter().map(|told| told.reason).collect()
    }

    #[test]
    fn a_release_is_told_from_its_beginning_to_its_end_and_nothing_twice() {
        let complete = |status: &str| json!([{"type": "Completed", "status": status}]);
        let idle =
            json!({"currentPodHash": "a", "stableRS": "a", "currentStepIndex": 2, "conditions": complete("True")});
        let begun = json!({"currentPodHash": "b", "stableRS": "a", "currentStepIndex": 0, "conditions": complete("False")});
        assert_eq!(reasons(&idle, &begun), ["RolloutUpdated", "RolloutNotCompleted"]);
        let mut paused = begun.clone();
        paused["currentStepIndex"] = json!(1);
        paused["pauseConditions"] = json!([{"reason": "CanaryPauseStep"}]);
        assert_eq!(reasons(&begun, &paused), ["RolloutStepCompleted", "RolloutPaused"]);
        assert!(reasons(&paused, &paused).is_empty());
        let mut aborted = begun.clone();
        aborted["abortedAt"] = json!("2026-01-01T00:00:00Z");
        aborted["message"] = json!("RolloutAborted: Rollout aborted update to revision 2");
        assert_eq!(reasons(&paused, &aborted), ["RolloutAborted"]);
        assert_eq!(reasons(&aborted, &begun), ["RolloutRetry"]);
        let done =
            json!({"currentPodHash": "b", "stableRS": "b", "currentStepIndex": 2, "conditions": complete("True")});
        assert_eq!(reasons(&paused, &done), ["RolloutStepCompleted", "RolloutResumed", "RolloutCompleted"]);
    }
}
