//! The conditions of a Rollout: `kubectl wait` waits for them.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Telling, aborted_message, invalid_message, is_aborted, is_late, is_paused, late_message, phase};

/// Type, status, reason and message.
type Said = (&'static str, &'static str, &'static str, String);

/// All of them.
pub(super) fn of(telling: &Telling<'_>) -> Value {
    let Telling { old, spec, sides, obstacle, now, .. } = *telling;
    let available: i32 = sides.all().map(|set| set.available).sum();
    let current = sides.current.as_ref();
    let (name, hash) = current.map_or(("", ""), |set| (set.name.as_str(), set.hash.as_str()));
    let revision = current.map_or(0, |set| set.revision);
    let is_there = available >= spec.replicas;
    let is_complete = sides.is_stable() && current.is_some_and(|set| set.available >= spec.replicas);
    let is_healthy = phase(telling).0 == "Healthy";
    let paused = is_paused(telling) || spec.paused;
    let yes_no = |yes: bool| if yes { "True" } else { "False" };
    let progressing: Said = if is_aborted(telling) {
        ("Progressing", "False", "RolloutAborted", aborted_message(telling))
    } else if is_late(telling) {
        ("Progressing", "False", "ProgressDeadlineExceeded", late_message(telling))
    } else if paused {
        ("Progressing", "Unknown", "RolloutPaused", "Rollout is paused".to_owned())
    } else if is_complete {
        let message = format!("ReplicaSet \"{name}\" has successfully progressed.");
        ("Progressing", "True", "NewReplicaSetAvailable", message)
    } else {
        ("Progressing", "True", "ReplicaSetUpdated", format!("ReplicaSet \"{name}\" is progressing."))
    };
    let mut said: Vec<Said> = vec![
        match is_there {
            true => ("Available", "True", "AvailableReason", "Rollout has minimum availability".to_owned()),
            false => {
                ("Available", "False", "AvailableReason", "Rollout does not have minimum availability".to_owned())
            }
        },
        progressing,
        (
            "Paused",
            yes_no(paused),
            "RolloutPaused",
            match paused {
                true => "Rollout is paused".to_owned(),
                false => "Rollout is resumed".to_owned(),
            },
        ),
        (
            "Completed",
            yes_no(is_complete),
            "RolloutCompleted",
            match is_complete {
                true => "RolloutCompleted".to_owned(),
                false => format!("Rollout not completed, started update to revision {revision} ({hash})"),
            },
        ),
        (
            "Healthy",
            yes_no(is_healthy),
            "RolloutHealthy",
            match is_healthy {
                true => "Rollout is healthy".to_owned(),
                false => "Rollout is not healthy".to_owned(),
            },
        ),
    ];
    if let Some(obstacle) = obstacle {
        let message = invalid_message(&telling.policy.names.target, obstacle.words());
        said.push(("InvalidSpec", "True", "InvalidSpec", message));
    }
    match obstacle {
        Some(_) => with(old, said, now),
        None => with(&json!({"conditions": without_invalid(old)}), said, now),
    }
}

/// An invalid spec that is mended leaves no condition.
fn without_invalid(old: &Value) -> Value {
    let kept = old["conditions"].as_array().into_iter().flatten();
    kept.filter(|condition| condition["type"] != "InvalidSpec" || condition["status"] != "True").cloned().collect()
}

/// The conditions of a status with some said anew; times are kept where nothing changed.
pub(super) fn with(old: &Value, said: Vec<Said>, now: Timestamp) -> Value {
    let now = format!("{now:.0}");
    let mut all: Vec<Value> = old["conditions"].as_array().cloned().unwrap_or_default();
    for (kind, status, reason, message) in said {
        let before = all.iter().position(|condition| condition["type"] == kind);
        let known = before.map(|at| &all[at]);
        let since = |field: &str, same: bool| match known.and_then(|known| known[field].as_str()) {
            Some(time) if same => time.to_owned(),
            Some(_) | None => now.clone(),
        };
        let same_status = known.is_some_and(|known| known["status"] == status);
        let same = same_status
            && known.is_some_and(|known| known["reason"] == reason && known["message"] == message.as_str());
        let condition = json!({
            "type": kind, "status": status, "reason": reason, "message": message,
            "lastTransitionTime": since("lastTransitionTime", same_status),
            "lastUpdateTime": since("lastUpdateTime", same),
        });
        match before {
            Some(at) => all[at] = condition,
            None => all.push(condition),
        }
    }
    Value::Array(all)
}
