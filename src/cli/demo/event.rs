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
    Committed {
        branch: String,
        commit: String,
        subject: String,
        /// The rest of the message and what was changed, where it is the branch that people push to.
        #[serde(skip_serializing_if = "Option::is_none")]
        shown: Option<Shown>,
    },
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
    /// The same bad version under the fixed limits and under the comparison.
    Compared(Compared),
    /// What users saw during a scenario.
    Users { asked: u64, failed: u64 },
    /// An expectation of a scenario, held against what is.
    Expected { what: String, ok: bool, found: String },
    /// A scenario ended.
    Ended { name: &'static str, ok: bool, seconds: f64 },
    /// All is over.
    Finished { ok: bool, played: Vec<Played>, hints: Vec<String> },
}

/// The same bad version twice.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Compared {
    /// Requests a second of users.
    pub(super) requests_per_second: u32,
    /// Seconds between two checks.
    pub(super) interval: f64,
    /// Seconds between two samples of the metrics.
    pub(super) sample_step: f64,
    /// By the fixed limits.
    pub(super) fixed: Withdrawn,
    /// By the comparison with primary.
    pub(super) comparison: Withdrawn,
    /// Failed requests of the second for each of the first.
    pub(super) ratio: f64,
}

/// How a bad version was withdrawn.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Withdrawn {
    /// Requests of users that failed.
    pub(super) failed_requests: u64,
    /// From its first weight until it had none any more.
    pub(super) seconds: f64,
}

/// A commit as `git show` has it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Shown {
    /// The message below its subject.
    pub(super) body: String,
    /// What was changed.
    pub(super) patch: String,
}

/// How a scenario went, for the table at the end.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Played {
    /// Its name.
    pub(super) name: &'static str,
    /// Whether it ended as it should.
    pub(super) ok: bool,
    /// How long it took.
    pub(super) seconds: f64,
    /// Requests of users meanwhile.
    pub(super) asked: u64,
    /// Those that failed.
    pub(super) failed: u64,
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
