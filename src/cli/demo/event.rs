//! What the demo tells: one value per thing that happened, printed for people or as JSON lines.

use serde::Serialize;

use crate::release::{CheckResult, EventType};

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(super) enum DemoEvent {
    /// The world is up.
    Started { dir: String, kubeconfig: String, repository: String, ingress: String, metrics: String, speed: f64 },
    /// A scenario begins.
    Scenario { name: &'static str, title: String },
    /// Somebody pushed.
    Pushed { commit: String, subject: String },
    /// Serin committed.
    Committed { branch: String, commit: String, subject: String },
    /// A Kubernetes Event of the Canary.
    Message {
        #[serde(rename = "type")]
        kind: EventType,
        message: String,
    },
    /// A tick was judged.
    Checks { weight: i64, failed_checks: i64, threshold: u32, checks: Vec<CheckResult> },
    /// The phase changed.
    Phase { phase: String, weight: i64 },
    /// What the release waits for now.
    Waiting { phase: String, weight: i64, waiting_on: String },
    /// What users saw during a scenario.
    Users { asked: u64, failed: u64 },
    /// An expectation of a scenario, held against what is.
    Expected { what: String, ok: bool, found: String },
    /// A scenario ended.
    Ended { name: &'static str, ok: bool, seconds: f64 },
    /// All is over.
    Finished { ok: bool, hints: Vec<String> },
}

/// An event with its time since the demo began.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Timed {
    /// Seconds since the demo began, to the millisecond.
    pub(super) seconds: f64,
    #[serde(flatten)]
    pub(super) event: DemoEvent,
}
