//! People's words: patches that Argo's plugin, Argo CD and scripts write to a Rollout's status.
//!
//! A command is what the status says and the engine has not written: that a pause is over which the engine holds, that an
//! update is aborted which goes on. Each becomes a request with a name that the engine answers once.

use serde_json::Value;

use crate::model::Digest;
use crate::release::{End, Policy, PolicyStep, Release, Request, Stage, State, Verb};

/// What the status asks for. What it says of another revision than the Rollout's present one, whose sets have `hash`, was the
/// last word about that one.
pub fn request(status: &Value, state: &State, policy: &Policy, template: (&Digest, &str)) -> Option<Request> {
    let (digest, hash) = template;
    if status["currentPodHash"] != hash {
        return None;
    }
    match state.release() {
        Some(release) => of_release(status, release, policy),
        None => of_aborted(status, state, digest),
    }
}

fn of_release(status: &Value, release: &Release, policy: &Policy) -> Option<Request> {
    let subject = release.id.to_string();
    let asked = |verb: Verb, nonce: String| {
        let raw = format!("{verb}/{subject}/{nonce}");
        Some(Request { verb, subject: subject.clone(), raw })
    };
    let has_failed = matches!(&release.stage, Stage::Ending { end: End::Failed { .. }, .. });
    if let (true, Some(aborted_at)) = (has_failed && status["abort"] != true, status["abortedAt"].as_str()) {
        return asked(Verb::Retry, aborted_at.to_owned());
    }
    // What the engine aborts it dates.
    if status["abort"] == true && status["abortedAt"].is_null() {
        return may_abort(release).then(|| asked(Verb::Abort, "status".to_owned())).flatten();
    }
    if !is_walking(release) {
        return None;
    }
    if status["promoteFull"] == true && !release.skip {
        return asked(Verb::Promote, "status".to_owned());
    }
    let resumes = pause_of(release, policy).is_some() && is_released(status, release);
    resumes.then(|| asked(Verb::Resume, release.clock.number.to_string())).flatten()
}

/// An aborted revision that is to be tried again, or given to everybody all the same.
fn of_aborted(status: &Value, state: &State, template: &Digest) -> Option<Request> {
    let entry = state.quarantine.iter().find(|entry| entry.revision.digest == *template)?;
    let aborted_at = status["abortedAt"].as_str()?;
    let again = status["abort"] != true || status["promoteFull"] == true;
    again.then(|| {
        let subject = entry.release.to_string();
        let raw = format!("{}/{subject}/{aborted_at}", Verb::Retry);
        Request { verb: Verb::Retry, subject, raw }
    })
}

/// The pause that a release is at.
pub fn pause_of<'a>(release: &Release, policy: &'a Policy) -> Option<&'a PolicyStep> {
    let step = policy.steps.get(release.step as usize).filter(|_| !release.recheck)?;
    (release.stage == Stage::Analysing && matches!(step, PolicyStep::Pause(_))).then_some(step)
}

/// Whether what the engine wrote of this very pause has been taken away.
fn is_released(status: &Value, release: &Release) -> bool {
    let no_conditions = status["pauseConditions"].as_array().is_none_or(Vec::is_empty);
    // A blue/green update has no steps that anybody counts.
    let step = &status["currentStepIndex"];
    status["controllerPause"] == true && no_conditions && (step.is_null() || *step == release.step)
}

fn is_walking(release: &Release) -> bool {
    match release.stage {
        Stage::Confirming
        | Stage::ScalingUp { .. }
        | Stage::Preparing
        | Stage::Analysing
        | Stage::ConfirmingPromotion => true,
        Stage::Promoting { .. } | Stage::Restoring { .. } | Stage::Ending { .. } => false,
    }
}

fn may_abort(release: &Release) -> bool {
    is_walking(release) || matches!(release.stage, Stage::Promoting { .. })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use crate::model::Revision;
    use crate::release::{Observed, Phase, Readiness, RouteObserved, Updates, WorkloadObserved, step};

    use super::super::fixtures;
    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn policy() -> Policy {
        fixtures::policy(&json!([{"pause": {}}, {"setWeight": 20}]))
    }

    fn digest(text: &str) -> Digest {
        Digest::of_canonical(text.as_bytes())
    }

    fn side(text: &str) -> WorkloadObserved {
        WorkloadObserved {
            digest: digest(text),
            stamped: None,
            generation: 1,
            replicas: 1,
            limits: None,
            readiness: Readiness::Ready,
            available: 1,
            serving: 1,
            updates: Updates::DEFAULT,
        }
    }

    fn observed(request: Option<Request>) -> Observed {
        let route = RouteObserved::Present { routing: Default::default(), current: true, unaccepted: None };
        Observed {
            target: Some(side("new")),
            primary: Some(side("old")),
            size: Some(1),
            route,
            request,
            ..Observed::default()
        }
    }

    /// A release of `new` that is at its pause.
    fn paused() -> State {
        let mut state = State::new(NOW);
        state.promoted =
            Some(crate::release::Promoted { revision: Revision { digest: digest("old"), commit: None }, at: NOW });
        state.phase = Phase::Idle { last: crate::release::OutcomeKind::Initialized, since: NOW };
        let decided = step(&policy(), &observed(None), state, NOW);
        assert!(pause_of(decided.state.release().unwrap(), &policy()).is_some());
        decided.state
    }

    fn verb(status: &Value, state: &State) -> Option<Verb> {
        request(status, state, &policy(), (&digest("new"), "abc")).map(|request| request.verb)
    }

    #[test]
    fn a_pause_is_over_when_what_was_written_of_it_is_taken_away() {
        let state = paused();
        let written = json!([{"reason": "CanaryPauseStep", "startTime": "1970-01-01T00:00:00Z"}]);
        let status = |conditions: Value| json!({"currentPodHash": "abc", "controllerPause": true, "currentStepIndex": 0, "pauseConditions": conditions});
        assert_eq!(verb(&status(written), &state), None);
        assert_eq!(verb(&status(Value::Null), &state), Some(Verb::Resume));
        // Not written yet, of another step, of another revision.
        assert_eq!(verb(&json!({"currentPodHash": "abc", "currentStepIndex": 0}), &state), None);
        let with = |field: &str, value: Value| {
            let mut status = status(Value::Null);
            status[field] = value;
            status
        };
        assert_eq!(verb(&with("currentStepIndex", json!(3)), &state), None);
        assert_eq!(verb(&with("currentPodHash", json!("def")), &state), None);
    }

    #[test]
    fn who_aborts_says_so_once_and_what_the_engine_aborted_is_no_command() {
        let state = paused();
        let abort = json!({"currentPodHash": "abc", "abort": true});
        assert_eq!(verb(&abort, &state), Some(Verb::Abort));
        let dated = json!({"currentPodHash": "abc", "abort": true, "abortedAt": "1970-01-01T00:00:00Z"});
        assert_eq!(verb(&dated, &state), None);
        assert_eq!(verb(&json!({"currentPodHash": "abc", "promoteFull": true}), &state), Some(Verb::Promote));

        let request = request(&abort, &state, &policy(), (&digest("new"), "abc"));
        let mut aborted = step(&policy(), &observed(request), state, NOW).state;
        // Before it is over, too.
        let again = json!({"currentPodHash": "abc", "abort": false, "abortedAt": "1970-01-01T00:00:00Z"});
        assert_eq!(verb(&again, &aborted), Some(Verb::Retry));
        assert_eq!(verb(&dated, &aborted), None);
        let gone = Observed { target: Some(WorkloadObserved { replicas: 0, ..side("new") }), ..observed(None) };
        aborted = step(&policy(), &gone, aborted, NOW).state;
        assert!(aborted.release().is_none());
        assert_eq!(verb(&dated, &aborted), None);
        let retried = json!({"currentPodHash": "abc", "abort": false, "abortedAt": "1970-01-01T00:00:00Z"});
        assert_eq!(verb(&retried, &aborted), Some(Verb::Retry));
        // Not told yet.
        assert_eq!(verb(&json!({"currentPodHash": "abc"}), &aborted), None);
    }
}
