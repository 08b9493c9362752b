//! What people and machines are told of a Canary: a projection of its status.

use jiff::Timestamp;
use kube::ResourceExt;
use serde::Serialize;

use crate::api::{BLOCKED, Canary};
use crate::release::{CheckResult, JournalEntry, Outcome, Phase, State, WaitingOn};

/// One target and its release.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct View {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) target: String,
    /// Flagger's phase; empty before the first reconciliation.
    pub(super) phase: String,
    /// Percent of traffic that goes to the canary.
    pub(super) weight: i64,
    pub(super) failed_checks: i64,
    /// Failed checks that end a release.
    pub(super) threshold: u32,
    /// What is being released, or runs: `<digest>@<commit>`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) revision: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) promoted: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) release: Option<String>,
    /// Step of the release under way, from 1, and how many there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) step: Option<(u32, u32)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) waiting_on: Option<String>,
    /// What somebody has to mend before anything goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) blocked: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) checks: Vec<CheckResult>,
    /// Why the last release failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cause: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) since: Option<Timestamp>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) events: Vec<JournalEntry>,
}

/// All of them.
pub(super) fn all(canaries: &[Canary]) -> Vec<View> {
    canaries.iter().map(View::of).collect()
}

impl View {
    pub(super) fn of(canary: &Canary) -> Self {
        let status = canary.status.clone().unwrap_or_default();
        let serin = status.serin.unwrap_or_default();
        let state: Option<State> = serde_json::from_value(serin.state).ok();
        let analysis = &canary.spec.analysis;
        let spec = &canary.spec;
        let mut view = Self {
            namespace: canary.namespace().unwrap_or_default(),
            name: canary.name_any(),
            target: format!("{}/{}", spec.target_ref.kind, spec.target_ref.name),
            phase: status.phase.as_str().to_owned(),
            weight: status.canary_weight,
            failed_checks: status.failed_checks,
            threshold: analysis.threshold(),
            revision: serin.revision,
            promoted: None,
            release: serin.release,
            step: None,
            waiting_on: serin.waiting_on,
            blocked: None,
            checks: Vec::new(),
            cause: None,
            since: None,
            events: Vec::new(),
        };
        if let Some(state) = state {
            view.read(state, analysis.weights().len());
        }
        let blocked = status
            .conditions
            .into_iter()
            .find(|condition| condition.type_ == BLOCKED && condition.status == "True");
        if let Some(reason) = blocked.and_then(|condition| condition.message) {
            view.blocked = Some(reason);
            view.waiting_on = None;
        }
        view
    }

    fn read(&mut self, state: State, weights: usize) {
        if let Some(WaitingOn::Blocked { reason }) = state.waiting_on {
            self.blocked = Some(reason);
            self.waiting_on = None;
        }
        self.promoted = state.promoted.map(|promoted| promoted.revision.to_string());
        self.events = state.journal;
        match state.phase {
            Phase::Initializing { since, .. } => self.since = Some(since),
            Phase::Idle { since, .. } => {
                self.since = Some(since);
                // A refused revision has an outcome of its own, but only until it is in Git.
                let last = state.outbox.into_iter().next_back().or(state.last_outcome.map(|outcome| *outcome));
                if let Some(Outcome { cause, checks, .. }) = last {
                    self.cause = cause.map(|cause| cause.message);
                    self.checks = checks;
                }
            }
            Phase::Releasing(release) => {
                self.since = Some(release.started);
                // Flagger's weights compile to two steps each: shift, then analyse.
                let steps = u32::try_from(weights).unwrap_or(u32::MAX);
                self.step = (steps > 0).then(|| ((release.step / 2 + 1).min(steps), steps));
                self.checks = release.checks;
            }
        }
    }
}
