//! What a step has to say to people.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::{Revision, Routing, told_message};

/// What happened in a step and what the release waits for now.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    /// Events that are news; also appended to the state's journal, so that a crash does not lose them.
    pub events: Vec<Event>,
    /// Why nothing happens, if nothing does.
    pub waiting_on: Option<WaitingOn>,
}

/// A Kubernetes Event in Flagger's words (reason is always `Synced`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Normal or Warning.
    #[serde(rename = "type")]
    pub kind: EventType,
    /// The message.
    pub message: String,
}

/// Event severity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventType {
    /// Progress.
    Normal,
    /// Something a person may want to look at.
    Warning,
}

impl Event {
    /// Progress.
    pub fn normal(message: impl Into<String>) -> Self {
        Self { kind: EventType::Normal, message: told_message(message.into()) }
    }

    /// Something a person may want to look at.
    pub fn warning(message: impl Into<String>) -> Self {
        Self { kind: EventType::Warning, message: told_message(message.into()) }
    }
}

/// What a release waits for; shown in status, CLI and UI with the same words.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum WaitingOn {
    /// A side is not ready.
    Readiness {
        /// The workload's name.
        workload: String,
        /// Why, in the workload's words.
        reason: String,
        /// When the release fails for it.
        deadline: Timestamp,
    },
    /// The router does not show what was asked for yet.
    Route {
        /// What was asked for.
        wanted: Routing,
        /// Why it may not, where the router says so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// The analysis window of this tick is open.
    Window {
        /// When it closes and the checks are judged.
        until: Timestamp,
    },
    /// Questions without an answer.
    Answers {
        /// Names of the checks and hooks.
        names: Vec<String>,
    },
    /// Data is missing or a provider is down; the tick is held.
    Data {
        /// The check.
        check: String,
        /// Why there is no value.
        reason: String,
        /// How often in a row it was held.
        held: u32,
        /// How often it may be.
        limit: u32,
    },
    /// A gate is closed.
    Gate {
        /// The hook's name.
        name: String,
        /// What it answered.
        reason: String,
    },
    /// The canary keeps answering requests that proxies still send it.
    Drain {
        /// When it ends.
        until: Timestamp,
    },
    /// All requests go to the canary; those still under way to primary end before its pods are replaced.
    Relief {
        /// Primary's name.
        workload: String,
        /// When they are taken to have ended.
        until: Timestamp,
    },
    /// The pods are ready; proxies, which learn of their endpoints a little later, get time to do so.
    Endpoints {
        /// The workload's name.
        workload: String,
        /// When they are taken to know.
        until: Timestamp,
    },
    /// The canary, drained, scales to zero.
    ScalingDown {
        /// The workload's name.
        workload: String,
    },
    /// `sync` was told to write a new revision and has not done so yet.
    Write {
        /// The admitted revision.
        revision: Revision,
    },
    /// A pause without or with an end.
    Pause {
        /// When it ends by itself.
        until: Option<Timestamp>,
    },
    /// No release window is open; `serin release` does not wait for one.
    ReleaseWindow {
        /// What waits.
        revision: Revision,
        /// Which windows, in words.
        reason: String,
        /// When one opens; `None` if none does within a year.
        until: Option<Timestamp>,
    },
    /// Another environment has not run it for long enough; `serin release` does not wait for it.
    Environment {
        /// What waits.
        revision: Revision,
        /// The environment.
        name: String,
        /// What is missing, in words.
        reason: String,
        /// When it will have, if nothing changes there; `None` if something has to.
        until: Option<Timestamp>,
    },
    /// The revision failed before; `serin retry` releases it again.
    Quarantine {
        /// The revision.
        revision: Revision,
        /// It did not fail: somebody refused it by hand, and has to let it go by hand.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        by_hand: bool,
    },
    /// The target was changed by somebody else than `sync`.
    Drift,
    /// `spec.suspend`.
    Suspended,
    /// The target does not exist.
    Target {
        /// Its name.
        name: String,
    },
    /// A check cannot be asked, or there is nothing to hold its value against; in words.
    Misconfigured {
        /// What, and what helps.
        reason: String,
    },
    /// Git scales the target to nothing: a revision is released when there is somebody to serve.
    Parked {
        /// The target's name.
        name: String,
    },
    /// The Canary is being deleted, and its target takes over.
    HandBack {
        /// The target's name.
        name: String,
        /// What that waits for.
        reason: String,
    },
    /// Something outside must be mended first; in words.
    Blocked {
        /// What, and how.
        reason: String,
    },
}

impl WaitingOn {
    /// What is waited for, in words; moments as `at` and `until` say them: `at …Z` and `until …Z`, or `in 12s` and
    /// `within 12s`.
    pub fn told(&self, at: impl Fn(Timestamp) -> String, until: impl Fn(Timestamp) -> String) -> String {
        match self {
            Self::Readiness { workload, reason, deadline } => {
                format!("{workload} to become ready {}: {reason}", until(*deadline))
            }
            Self::Route { wanted, reason: None } => format!("the router to show {wanted}"),
            Self::Route { wanted, reason: Some(reason) } => format!("the router to show {wanted}: {reason}"),
            Self::Window { until: end } => format!("the analysis window to close {}", at(*end)),
            Self::Answers { names } => format!("answers from {}", names.join(", ")),
            Self::Data { check, reason, held, limit } => {
                format!("data for {check}, held {held} of {limit} times: {reason}")
            }
            Self::Gate { name, reason } => format!("gate {name}: {reason}"),
            Self::Drain { until: end } => format!("the canary to drain {}", until(*end)),
            Self::Relief { workload, until: end } => {
                format!("requests to {workload} to end before its pods are replaced {}", until(*end))
            }
            Self::Endpoints { workload, until: end } => {
                format!("proxies to learn of {workload}'s pods {}", until(*end))
            }
            Self::ScalingDown { workload } => format!("{workload} to scale down"),
            Self::Write { revision } => format!("revision {} to be written", revision.digest.short()),
            Self::Pause { until: Some(end) } => format!("the pause to end {}", at(*end)),
            Self::Pause { until: None } => "somebody to resume".to_owned(),
            Self::ReleaseWindow { reason, until: Some(open), .. } => {
                format!("a release window to open {}: {reason}", at(*open))
            }
            Self::ReleaseWindow { reason, until: None, .. } => {
                format!("a release window, and none opens within a year: {reason}")
            }
            Self::Environment { name, reason, until: Some(end), .. } => {
                format!("environment {name} to have run it long enough {}: {reason}", at(*end))
            }
            Self::Environment { name, reason, until: None, .. } => format!("environment {name}: {reason}"),
            Self::Quarantine { revision, by_hand: true } => {
                let short = revision.digest.short();
                format!("another revision: {short} was quarantined by hand (serin quarantine --lift)")
            }
            Self::Quarantine { revision, by_hand: false } => {
                format!("another revision: {} failed before (serin retry)", revision.digest.short())
            }
            Self::Drift => "the target to be as Git says: it was changed in the cluster".to_owned(),
            Self::Suspended => "spec.suspend to become false".to_owned(),
            Self::Target { name } => format!("{name} to exist"),
            Self::Parked { name } => format!("{name} to have replicas: Git scales it to 0"),
            Self::HandBack { name, reason } => format!("{name} to take over from primary: {reason}"),
            Self::Misconfigured { reason } | Self::Blocked { reason } => reason.clone(),
        }
    }
}

impl fmt::Display for WaitingOn {
    /// As status has it: a text that stays true however late it is read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.told(|at| format!("at {at:.0}"), |until| format!("until {until:.0}")))
    }
}
