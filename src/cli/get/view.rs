//! What people and machines are told of a Canary: a projection of its status, and why nothing happens if nothing does.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use serde::Serialize;

use super::around::Trouble;
use super::source::SourceView;
use super::table::age;
use crate::analysis::compare::Notes;
use crate::api::annotations::UNRECORDED;
use crate::api::{AT_RISK, BLOCKED, Canary, CanaryStatus, IGNORED, REBUILT};
use crate::model::RollbackNote;
use crate::release::{CheckResult, JournalEntry, OutcomeKind, Phase, State, WaitingOn, wire};

/// What Flagger's words for a side that is not ready have in common; the side's name stands before.
const NOT_READY: &str = " not ready: ";

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
    /// The same as a person reads it now: `in 12s`, not a date.
    #[serde(skip)]
    waits: Option<String>,
    /// It was quarantined by hand.
    #[serde(skip)]
    by_hand: bool,
    /// A revision waits, and may be released all the same.
    #[serde(skip)]
    held: bool,
    /// Somebody paused it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) paused: bool,
    /// About how long it goes on if every check passes.
    #[serde(skip)]
    pub(super) left: Option<SignedDuration>,
    /// Which round of checks is open; a new one has new values.
    #[serde(skip)]
    pub(super) round: u32,
    /// The revision that failed before and is not released again by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) quarantined: Option<String>,
    /// What must be mended outside before anything goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) blocked: Option<String>,
    /// Parts of the spec that are accepted and not carried out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ignored: Option<String>,
    /// Objects that leave primary's pods out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) at_risk: Option<String>,
    /// A revision that Git has and the engine does not let in yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pending: Option<String>,
    /// What became of the watched branch after the last release, if that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rollback: Option<RollbackNote>,
    /// What failed last, while that is its phase: `<digest>@<commit>`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) failed: Option<String>,
    /// The last release, if it was not judged, and why not: in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) unpromoted: Option<String>,
    /// The record that a rebuilt cluster began with, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rebuilt: Option<String>,
    /// Why what happened is not in Git yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) unrecorded: Option<String>,
    /// Pods that do not serve.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) pods: Vec<Trouble>,
    /// Where it comes from, with what is the matter with this Canary and its target there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) sources: Vec<SourceView>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) checks: Vec<CheckResult>,
    /// How the comparison with primary stands: what it saw, what it can see, and what is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) comparison: Option<Notes>,
    /// Why the last release failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cause: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) since: Option<Timestamp>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) events: Vec<JournalEntry>,
}

/// All of them, and where they come from.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct All {
    sources: Vec<SourceView>,
    releases: Vec<View>,
}

impl All {
    pub(super) fn of(sources: Vec<SourceView>, canaries: &[Canary], now: Timestamp) -> Self {
        Self { sources, releases: canaries.iter().map(|canary| View::of(canary, now)).collect() }
    }
}

impl View {
    pub(super) fn of(canary: &Canary, now: Timestamp) -> Self {
        let status = canary.status.clone().unwrap_or_default();
        let (blocked, ignored) = (said(&status, BLOCKED), said(&status, IGNORED));
        let at_risk = said(&status, AT_RISK);
        let rebuilt = said(&status, REBUILT);
        let serin = status.serin.unwrap_or_default();
        let state = wire::read(serin.version, serin.state);
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
            waits: serin.waiting_on.clone(),
            waiting_on: serin.waiting_on,
            held: false,
            by_hand: false,
            paused: false,
            left: None,
            round: 0,
            quarantined: None,
            blocked,
            at_risk,
            ignored,
            pending: None,
            rollback: None,
            failed: None,
            unpromoted: None,
            rebuilt,
            unrecorded: canary.annotations().get(UNRECORDED).cloned(),
            pods: Vec::new(),
            sources: Vec::new(),
            checks: Vec::new(),
            comparison: None,
            cause: None,
            since: None,
            events: Vec::new(),
        };
        match state {
            Ok(Some(state)) => view.read(state, analysis.interval().ok(), now),
            Ok(None) => {}
            Err(error) => {
                view.blocked.get_or_insert(error.to_string());
            }
        }
        view
    }

    /// Why nothing happens, in one line.
    pub(super) fn why(&self) -> Option<String> {
        if let Some(blocked) = &self.blocked {
            return Some(blocked.clone());
        }
        if self.phase.is_empty() {
            return Some("the daemon to look at it: is `serin run` up, and for this namespace?".to_owned());
        }
        match (&self.waits, &self.unrecorded) {
            // The words about Git are long; `serin get <name>` has them.
            (Some(waiting), Some(reason)) => {
                let reason = reason.split(':').next().unwrap_or(reason);
                Some(format!("{waiting}; not in Git yet: {reason}"))
            }
            (None, Some(reason)) => Some(format!("Git to have everything: {reason}")),
            (waiting, None) => waiting.clone(),
        }
    }

    /// The workload's name alone.
    pub(super) fn target_name(&self) -> &str {
        self.target.split_once('/').map_or(self.target.as_str(), |(_, name)| name)
    }

    /// The events without steps of becoming ready that a later one has overtaken: only where it stands is news.
    pub(super) fn told_events(&self) -> Vec<&JournalEntry> {
        let workload = |entry: &JournalEntry| {
            entry.event.message.split_once(NOT_READY).map(|(workload, _)| workload.to_owned())
        };
        let mut told: Vec<&JournalEntry> = Vec::new();
        for entry in &self.events {
            let overtakes =
                told.last().and_then(|last| workload(last)).is_some_and(|it| workload(entry) == Some(it));
            if overtakes {
                told.pop();
            }
            told.push(entry);
        }
        told
    }

    /// What it waits for, as a person reads it now.
    pub(super) fn waits(&self) -> Option<&String> {
        self.waits.as_ref()
    }

    /// What a person may do about it.
    pub(super) fn what_to_do(&self) -> Option<ToDo> {
        let Self { namespace, name, .. } = self;
        match &self.quarantined {
            Some(digest) if self.by_hand => {
                let text = format!("serin quarantine {name} -n {namespace} --lift {digest}");
                Some(ToDo { label: "to retry", text })
            }
            Some(digest) => {
                let text = format!("serin retry {name} -n {namespace}    # {digest}");
                Some(ToDo { label: "to retry", text })
            }
            None if self.held => {
                let text = format!("serin release {name} -n {namespace}    # does not wait, and is recorded");
                Some(ToDo { label: "to go now", text })
            }
            None if self.paused => {
                let text = format!("serin resume {name} -n {namespace}, or serin abort {name} -n {namespace}");
                Some(ToDo { label: "to go on", text })
            }
            None => None,
        }
    }

    fn read(&mut self, state: State, interval: Option<Duration>, now: Timestamp) {
        if let Some(waiting) = &state.waiting_on {
            let left = |at: Timestamp| age(now, at.max(now));
            self.waits =
                Some(waiting.told(|at| format!("in {}", left(at)), |until| format!("within {}", left(until))));
        }
        self.held = state.held().is_some();
        self.rollback = state.rollback_note().cloned();
        self.unpromoted = state.unpromoted().map(|(_, words)| words);
        self.promoted = state.promoted.map(|promoted| promoted.revision.to_string());
        self.events = state.journal;
        if let Some(WaitingOn::Quarantine { revision, by_hand }) = state.waiting_on {
            self.quarantined = Some(revision.digest.short().to_owned());
            self.by_hand = by_hand;
        }
        match state.phase {
            Phase::Initializing { since, .. } => self.since = Some(since),
            Phase::HandingBack(back) => self.since = Some(back.since),
            Phase::Idle { since, last } => {
                self.since = Some(since);
                if let Some(outcome) = state.last_outcome.filter(|_| last == OutcomeKind::Failed) {
                    self.failed = Some(outcome.revision.to_string());
                    self.cause = outcome.cause.map(|cause| cause.message);
                    self.checks = outcome.checks;
                }
            }
            Phase::Releasing(release) => {
                self.since = Some(release.started);
                self.step = state.progress.map(|progress| (progress.step, progress.of));
                self.paused = release.paused;
                self.round = release.watch.round;
                self.left = interval.zip(self.step).and_then(|(interval, (step, of))| {
                    let left = interval.checked_mul(of.saturating_sub(step).saturating_add(1))?;
                    SignedDuration::try_from(left).ok().filter(|_| !release.paused)
                });
                self.checks = release.checks();
                self.comparison = release.comparison.map(|comparing| comparing.notes);
            }
        }
    }
}

/// What a person may do, and the command for it.
pub(super) struct ToDo {
    pub(super) label: &'static str,
    pub(super) text: String,
}

/// The message of a condition that holds.
fn said(status: &CanaryStatus, kind: &str) -> Option<String> {
    let condition = status.conditions.iter().find(|found| found.type_ == kind && found.status == "True")?;
    condition.message.clone()
}
