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
    #[serde(alias = "weights")]
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
    /// The revision failed before; `serin retry` releases it again.
    Quarantine {
        /// The revision.
        revision: Revision,
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

impl fmt::Display for WaitingOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Readiness { workload, reason, deadline } => {
                write!(f, "{workload} to become ready until {deadline:.0}: {reason}")
            }
            Self::Route { wanted, reason: None } => write!(f, "the router to show {wanted}"),
            Self::Route { wanted, reason: Some(reason) } => write!(f, "the router to show {wanted}: {reason}"),
            Self::Window { until } => write!(f, "the analysis window to close at {until:.0}"),
            Self::Answers { names } => write!(f, "answers from {}", names.join(", ")),
            Self::Data { check, reason, held, limit } => {
                write!(f, "data for {check}, held {held} of {limit} times: {reason}")
            }
            Self::Gate { name, reason } => write!(f, "gate {name}: {reason}"),
            Self::Drain { until } => write!(f, "the canary to drain until {until:.0}"),
            Self::Endpoints { workload, until } => {
                write!(f, "proxies to learn of {workload}'s pods until {until:.0}")
            }
            Self::ScalingDown { workload } => write!(f, "{workload} to scale down"),
            Self::Write { revision } => write!(f, "revision {} to be written", revision.digest.short()),
            Self::Pause { until: Some(until) } => write!(f, "the pause to end at {until:.0}"),
            Self::Pause { until: None } => f.write_str("somebody to resume"),
            Self::Quarantine { revision } => {
                write!(f, "another revision: {} failed before (serin retry)", revision.digest.short())
            }
            Self::Drift => f.write_str("the target to be as Git says: it was changed in the cluster"),
            Self::Suspended => f.write_str("spec.suspend to become false"),
            Self::Target { name } => write!(f, "{name} to exist"),
            Self::Parked { name } => write!(f, "{name} to have replicas: Git scales it to 0"),
            Self::HandBack { name, reason } => write!(f, "{name} to take over from primary: {reason}"),
            Self::Misconfigured { reason } | Self::Blocked { reason } => f.write_str(reason),
        }
    }
}
