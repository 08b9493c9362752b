//! The Canary's status: Flagger's fields, projected from the state, and the state itself.

use jiff::Timestamp;
use serde_json::Value;

use crate::api::{
    AT_RISK, AwaitsGit, AwaitsKind, BLOCKED, CanaryCondition, CanaryPhase, CanarySpec, CanaryStatus, HELD,
    Handover, IGNORED, MISROUTED, REBUILT, RECORDED, SerinStatus,
};
use crate::model::{Cookie, Sticky};
use crate::release::wire::{self, WireError};
use crate::release::{State, WaitingOn};

/// Flagger's condition type.
const PROMOTED: &str = "Promoted";
/// Reason of [`REBUILT`]: nobody vouches for the record.
const UNSIGNED: &str = "UnsignedRecord";

/// Reason of [`BLOCKED`]: a newer Serin wrote the state.
const NEWER: &str = "NewerVersion";

/// The stored state; `None` at first sight.
pub(super) fn stored_state(status: &Value) -> Result<Option<State>, WireError> {
    let serin = &status["serin"];
    wire::read(serin["version"].as_i64().unwrap_or_default(), serin["state"].clone())
}

/// The status of a Canary whose state a newer Serin wrote: a condition says so, and everything else stays as it is, whatever
/// it means.
pub(super) fn left_alone(stored: &Value, why: &str, now: Timestamp) -> Value {
    let mut status = if stored.is_object() { stored.clone() } else { Value::Object(serde_json::Map::new()) };
    let mut conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    let place = conditions.iter().position(|condition| condition["type"] == BLOCKED);
    let old = place.and_then(|place| serde_json::from_value(conditions[place].clone()).ok());
    let (reason, why) = (NEWER.to_owned(), why.to_owned());
    let told = condition(old.as_ref(), BLOCKED, "True", reason, why, &format!("{now:.0}"));
    let told = super::persist::normal(&told);
    match place {
        Some(place) => conditions[place] = told,
        None => conditions.push(told),
    }
    status["conditions"] = Value::Array(conditions);
    status
}

/// Longest spec that is kept, in bytes of its JSON: far more than anybody writes, and a fraction of what an object may have.
const SPEC_MAX: usize = 128 * 1024;

/// The spec as it is kept in the status; null if it is too long.
pub(super) fn kept_spec(spec: &CanarySpec) -> Value {
    let kept = super::persist::normal(spec);
    if kept.to_string().len() > SPEC_MAX { Value::Null } else { kept }
}

/// The last spec that could be carried out, if one is kept.
pub(super) fn last_spec(status: &Value) -> Option<CanarySpec> {
    serde_json::from_value(status["serin"]["spec"].clone()).ok()
}

/// What else belongs in the status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extras<'a> {
    /// What keeps anything from being done, in words: the last action's error, or why nothing can be decided.
    pub(super) problem: Option<&'a str>,
    /// What is accepted and not carried out, in words.
    pub(super) ignored: Option<&'a str>,
    /// What selects the target's pods and will not select primary's, in words.
    pub(super) at_risk: Option<&'a str>,
    /// The spec that is carried out; null leaves what is kept.
    pub(super) spec: &'a Value,
    /// A request that got its answer without a state to note it in.
    pub(super) answered: Option<&'a str>,
}

/// The status for `state`; times of the previous one are kept where nothing changed.
pub(super) fn project(
    previous: &Value,
    state: Option<&State>,
    extras: Extras<'_>,
    now: Timestamp,
) -> CanaryStatus {
    let old: CanaryStatus = serde_json::from_value(previous.clone()).unwrap_or_default();
    let mut status = match state {
        Some(state) => of_state(&old, state),
        None => old.clone(),
    };
    let misconfigured = state.and_then(|state| match &state.waiting_on {
        Some(WaitingOn::Misconfigured { reason }) => Some(reason.as_str()),
        Some(_) | None => None,
    });
    let extras = Extras { problem: extras.problem.or(misconfigured), ..extras };
    let none_yet = || SerinStatus { version: wire::VERSION, ..SerinStatus::default() };
    // `kubectl get canary -o wide` has a column for this, and none for conditions.
    if let Some(reason) = extras.problem {
        status.serin.get_or_insert_with(none_yet).waiting_on = Some(reason.to_owned());
    }
    if let Some(request) = extras.answered {
        status.serin.get_or_insert_with(none_yet).handled_request = Some(request.to_owned());
    }
    if !extras.spec.is_null() {
        status.serin.get_or_insert_with(none_yet).spec.clone_from(extras.spec);
    }
    let now = format!("{now:.0}");
    let kept = |kind: &str| old.conditions.iter().find(|condition| condition.type_ == kind);
    let made = |kind: &str, status: &str, reason: &str, message: &str| {
        condition(kept(kind), kind, status, reason.to_owned(), message.to_owned(), &now)
    };
    let [promoted, rebuilt, unrecorded] = match state {
        Some(state) => {
            let promoted = state.promoted_condition();
            let rebuilt = state.rebuilt_from_record();
            let trouble = state.git_trouble();
            [
                Some(made(PROMOTED, promoted.status, promoted.reason, &promoted.message)),
                rebuilt.map(|rebuilt| made(REBUILT, "True", UNSIGNED, &rebuilt.source)),
                trouble.map(|trouble| made(RECORDED, "False", &trouble.reason, &trouble.message)),
            ]
        }
        None => [PROMOTED, REBUILT, RECORDED].map(|kind| kept(kind).cloned()),
    };
    let obstacle = state.and_then(|state| state.obstacle.as_deref());
    let blocked = extras.problem.or(obstacle).map(|reason| made(BLOCKED, "True", "Blocked", reason));
    let held = state.and_then(State::held).map(|held| made(HELD, "True", held.reason, &held.message));
    let ignored = extras.ignored.map(|what| made(IGNORED, "True", "NotSupportedYet", what));
    let at_risk = extras.at_risk.map(|what| made(AT_RISK, "True", "NotSelected", what));
    let comparing = state.and_then(State::release).and_then(|release| release.comparison.as_ref());
    let share = comparing.and_then(|comparing| comparing.notes.share.as_deref());
    let misrouted = share.map(|what| made(MISROUTED, "True", "ShareDiffers", what));
    // Flagger's own first: there are scripts that read the first one.
    status.conditions = [promoted, blocked, held, misrouted, ignored, at_risk, rebuilt, unrecorded]
        .into_iter()
        .flatten()
        .collect();
    if status.phase != old.phase || old.last_transition_time.is_none() {
        status.last_transition_time = Some(now);
    }
    status
}

fn of_state(old: &CanaryStatus, state: &State) -> CanaryStatus {
    let release = state.release();
    let revision =
        release.map(|release| &release.revision).or(state.promoted.as_ref().map(|promoted| &promoted.revision));
    let issued = release.and_then(|release| match &release.routing.sticky {
        Sticky::Issue(affinity) => Some(affinity),
        Sticky::Off | Sticky::Withdraw(_) => None,
    });
    CanaryStatus {
        phase: phase(state.flagger_phase()),
        failed_checks: i64::from(state.failed_checks()),
        canary_weight: i64::from(state.canary_weight()),
        iterations: state.progress.map_or(0, |progress| i64::from(progress.iterations)),
        session_affinity_cookie: issued.map(|affinity| affinity.candidate.pair()),
        primary_session_affinity_cookie: issued.and_then(|affinity| Some(affinity.stable.as_ref()?.pair())),
        previous_session_affinity_cookie: state.cookie.as_ref().filter(|_| issued.is_none()).map(Cookie::pair),
        last_applied_spec: state.last_applied.as_ref().map(ToString::to_string),
        last_promoted_spec: state.promoted.as_ref().map(|promoted| promoted.revision.digest.to_string()),
        serin: Some(SerinStatus {
            version: wire::VERSION,
            state: wire::write(state),
            handover: Some(handover(state)),
            waiting_on: state.waiting_on.as_ref().map(ToString::to_string),
            revision: revision.map(ToString::to_string),
            release: release.map(|release| release.id.to_string()),
            handled_request: state.handled_request.clone(),
            spec: old.serin.as_ref().map(|serin| serin.spec.clone()).unwrap_or_default(),
        }),
        ..old.clone()
    }
}

/// What the other rooms may know of a state.
fn handover(state: &State) -> Handover {
    let waits = state.waiting_on.as_ref();
    let kind = waits.and_then(|waits| match waits {
        WaitingOn::Drift => Some(AwaitsKind::Correction),
        WaitingOn::Target { .. } | WaitingOn::Blocked { .. } => Some(AwaitsKind::Objects),
        _ => None,
    });
    Handover {
        version: Handover::VERSION,
        admitted: state.admitted.clone(),
        promoted: state.promoted.as_ref().map(|promoted| promoted.revision.clone()),
        taken_up: state.last_applied.clone(),
        ended: state.replaced.clone(),
        awaits: kind.zip(waits).map(|(kind, waits)| AwaitsGit { kind, what: waits.to_string() }),
    }
}

fn phase(word: &str) -> CanaryPhase {
    serde_json::from_value(Value::from(word)).unwrap_or_default()
}

fn condition(
    old: Option<&CanaryCondition>,
    kind: &str,
    status: &str,
    reason: String,
    message: String,
    now: &str,
) -> CanaryCondition {
    let flipped = old.is_none_or(|old| old.status != status);
    let changed =
        flipped || old.is_some_and(|old| old.reason != reason || old.message.as_deref() != Some(message.as_str()));
    let since = |old: Option<&String>, renewed: bool| match old {
        Some(old) if !renewed => Some(old.clone()),
        Some(_) | None => Some(now.to_owned()),
    };
    CanaryCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason,
        message: Some(message),
        last_transition_time: since(old.and_then(|old| old.last_transition_time.as_ref()), flipped),
        last_update_time: since(old.and_then(|old| old.last_update_time.as_ref()), changed),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NONE: Extras<'static> =
        Extras { problem: None, ignored: None, at_risk: None, spec: &Value::Null, answered: None };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    #[test]
    fn a_state_survives_the_status_and_times_stay_while_nothing_changes() {
        let state = State::new(at(0));
        let first = serde_json::to_value(project(&Value::Null, Some(&state), NONE, at(0))).unwrap();
        assert_eq!(first["phase"], "Initializing");
        assert_eq!(stored_state(&first), Ok(Some(state.clone())));
        let again = serde_json::to_value(project(&first, Some(&state), NONE, at(9))).unwrap();
        assert_eq!(again, first);
    }

    #[test]
    fn blocked_comes_and_goes_without_touching_the_state() {
        let state = State::new(at(0));
        let first = serde_json::to_value(project(&Value::Null, Some(&state), NONE, at(0))).unwrap();
        let extras = Extras { problem: Some("spec.service is missing"), ..NONE };
        let blocked = serde_json::to_value(project(&first, None, extras, at(5))).unwrap();
        assert_eq!(blocked["serin"]["state"], first["serin"]["state"]);
        assert_eq!(blocked["serin"]["waitingOn"], "spec.service is missing");
        let kinds: Vec<&Value> =
            blocked["conditions"].as_array().unwrap().iter().map(|condition| &condition["type"]).collect();
        assert_eq!(kinds, ["Promoted", "Blocked"]);
        let after = serde_json::to_value(project(&blocked, Some(&state), NONE, at(6))).unwrap();
        assert_eq!(after, first);
    }

    #[test]
    fn the_last_spec_that_could_be_carried_out_is_kept() {
        let spec = |port: u16| -> CanarySpec {
            let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "a"});
            serde_json::from_value(json!({"targetRef": target, "service": {"port": port}, "analysis": {}}))
                .unwrap()
        };
        let kept = kept_spec(&spec(80));
        let state = State::new(at(0));
        let first = project(&Value::Null, Some(&state), Extras { spec: &kept, ..NONE }, at(0));
        let first = serde_json::to_value(first).unwrap();
        assert_eq!(last_spec(&first), Some(spec(80)));
        let later = serde_json::to_value(project(&first, Some(&state), NONE, at(5))).unwrap();
        assert_eq!(last_spec(&later), Some(spec(80)), "while there is no other");
        let mut long = spec(80);
        long.target_ref.name = "a".repeat(SPEC_MAX);
        assert!(kept_spec(&long).is_null());
    }

    #[test]
    fn an_obstacle_is_a_condition_and_hides_nothing_of_what_is_waited_for() {
        let mut state = State::new(at(0));
        state.obstacle = Some("spec.service is missing".to_owned());
        state.waiting_on = Some(crate::release::WaitingOn::Drift);
        let status = project(&Value::Null, Some(&state), NONE, at(0));
        assert_eq!(status.conditions[1].message.as_deref(), Some("spec.service is missing"));
        assert_eq!(status.serin.unwrap().waiting_on, state.waiting_on.map(|on| on.to_string()));
    }

    #[test]
    fn what_git_does_not_have_is_a_condition_while_it_does_not() {
        let mut state = State::new(at(0));
        state.unrecorded = Some("PushDenied: pushing to main was denied".to_owned());
        let first = project(&Value::Null, Some(&state), NONE, at(0));
        let told = first.conditions.iter().find(|condition| condition.type_ == RECORDED).unwrap();
        assert_eq!((told.status.as_str(), told.reason.as_str()), ("False", "PushDenied"));
        assert_eq!(told.message.as_deref(), Some("pushing to main was denied"));
        state.unrecorded = None;
        let after = project(&serde_json::to_value(&first).unwrap(), Some(&state), NONE, at(5));
        assert!(after.conditions.iter().all(|condition| condition.type_ != RECORDED));
    }

    #[test]
    fn what_the_other_rooms_may_know_is_written_with_every_state() {
        let digest = |text: &str| crate::model::Digest::of_canonical(text.as_bytes());
        let revision = |text: &str| crate::model::Revision { digest: digest(text), commit: None };
        let mut state = State::new(at(0));
        state.admitted = Some(revision("new"));
        state.promoted = Some(crate::release::Promoted { revision: revision("old"), at: at(0) });
        state.last_applied = Some(digest("old"));
        state.replaced = vec![revision("between")];
        state.waiting_on = Some(WaitingOn::Drift);
        let status = serde_json::to_value(project(&Value::Null, Some(&state), NONE, at(0))).unwrap();
        let read: CanaryStatus = serde_json::from_value(status.clone()).unwrap();
        let told = read.serin.unwrap().handover.unwrap();
        let expected = Handover {
            version: Handover::VERSION,
            admitted: Some(revision("new")),
            promoted: Some(revision("old")),
            taken_up: Some(digest("old")),
            ended: vec![revision("between")],
            awaits: Some(AwaitsGit { kind: AwaitsKind::Correction, what: WaitingOn::Drift.to_string() }),
        };
        assert_eq!(told, expected);
        // What is not there is not written.
        let empty = serde_json::to_value(handover(&State::new(at(0)))).unwrap();
        assert_eq!(empty, json!({"version": 1}));
        // Without a state of ours what was said stays.
        let blocked = project(&status, None, Extras { problem: Some("why"), ..NONE }, at(1));
        assert_eq!(blocked.serin.unwrap().handover, Some(told));
    }

    #[test]
    fn what_is_not_carried_out_is_a_condition() {
        let state = State::new(at(0));
        let extras = Extras { ignored: Some("spec.service.meshName has no effect with provider istio"), ..NONE };
        let status = project(&Value::Null, Some(&state), extras, at(0));
        let found: Vec<_> =
            status.conditions.iter().map(|found| (found.type_.as_str(), found.status.as_str())).collect();
        assert_eq!(found, [("Promoted", "Unknown"), ("Ignored", "True")]);
        let status = serde_json::to_value(status).unwrap();
        assert_eq!(project(&status, Some(&state), NONE, at(1)).conditions.len(), 1);
    }

    #[test]
    fn states_of_the_future_and_damaged_ones_are_told_apart_from_none() {
        assert_eq!(stored_state(&Value::Null), Ok(None));
        assert_eq!(
            stored_state(&json!({"serin": {"version": 9, "state": {}}})),
            Err(WireError::Newer { found: 9 })
        );
        assert!(matches!(
            stored_state(&json!({"serin": {"version": 1, "state": {"phase": 1}}})),
            Err(WireError::Damaged(_))
        ));
    }

    #[test]
    fn what_a_newer_version_wrote_stays_as_it_is_but_for_the_condition() {
        let stored = json!({
            "phase": "Dreaming", "dreams": 3, "conditions": [{"type": "Promoted", "status": "True", "mood": "good"}],
            "serin": {"version": 9, "state": {"phase": {"name": "dreaming"}}, "sheep": [1, 2]},
        });
        let error = stored_state(&stored).unwrap_err().to_string();
        let first = left_alone(&stored, &error, at(0));
        for kept in ["phase", "dreams", "serin"] {
            assert_eq!(first[kept], stored[kept]);
        }
        assert_eq!(first["conditions"][0], stored["conditions"][0]);
        assert_eq!(
            (&first["conditions"][1]["type"], &first["conditions"][1]["reason"]),
            (&json!(BLOCKED), &json!(NEWER))
        );
        assert!(error.contains("version 9"), "{error}");
        assert_eq!(left_alone(&first, &error, at(9)), first, "said once");
    }
}
