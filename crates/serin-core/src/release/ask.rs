//! Questions to the outside and their answers: for each subject a key, a question and an answer of its own type.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;

use crate::analysis::compare::{History, LookAt, Looked};
use crate::analysis::{Check, Hook, HookReply, Key, Measurement, Reading, Requests};
use crate::model::{ReleaseId, told};

use super::observed::Observed;
use super::policy::Policy;
use super::questions;
use super::state::State;

/// When something is asked. Persisted before anybody is: a tick is judged once, and an answer of another release is dropped.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tick {
    /// The release.
    pub release: ReleaseId,
    /// Who counts.
    pub of: Counter,
    /// What has been counted.
    pub number: u32,
}

/// Who counts ticks within a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Counter {
    /// Its steps: each look at a gate is one.
    Steps,
    /// The rounds that watch over it.
    Watch,
}

/// Identifies the question for a metric's value.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MetricKey {
    /// When.
    pub tick: Tick,
    /// Of which check.
    pub check: Key,
}

/// Identifies a webhook's call.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HookKey {
    /// When.
    pub tick: Tick,
    /// Which hook.
    pub hook: Key,
}

/// Identifies a question for ever; asked again under the same key after a crash.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum QuestionKey {
    /// A metric's value.
    Metric(MetricKey),
    /// A webhook's reply.
    Hook(HookKey),
    /// The candidate's requests in a metric's window.
    Requests(MetricKey),
    /// Whether the metric providers are there.
    Providers(Tick),
    /// What the router has counted since the last look.
    Compare(LookKey),
    /// Primary's past.
    History(ReleaseId),
}

/// Identifies a look at the counters of both sides. What it asks for follows from where the one before ended, so it is another one
/// when that is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LookKey {
    /// The release.
    pub release: ReleaseId,
    /// Which look.
    pub look: u32,
    /// Up to where the looks before have counted, in milliseconds since the epoch.
    pub since: i64,
}

/// Something to find out, concurrently and outside the loop.
#[derive(Debug, Clone, PartialEq)]
pub enum Question {
    /// Query a metric.
    Metric {
        /// Its identity.
        key: MetricKey,
        /// The check, with its query source.
        check: Box<Check>,
        /// The window: the metric's interval, or shorter when users have been exposed for less.
        window: Duration,
    },
    /// Call a webhook.
    Hook {
        /// Its identity.
        key: HookKey,
        /// The hook.
        hook: Box<Hook>,
        /// Flagger's phase string for the payload.
        phase: String,
    },
    /// Count the requests that the candidate has had, by the router's own counters.
    Requests {
        /// The metric whose empty answer it explains.
        key: MetricKey,
        /// Over which time until now.
        window: Duration,
    },
    /// Are the metric providers of these checks reachable? Asked once while a target is initialized.
    Providers {
        /// Its identity.
        key: Tick,
        /// The checks whose providers are meant.
        checks: Vec<Check>,
    },
    /// Read the counters of both sides.
    Compare {
        /// Its identity.
        key: LookKey,
        /// What is asked for.
        look: Box<LookAt>,
    },
    /// Read what primary did before a release.
    History {
        /// The release.
        release: ReleaseId,
        /// Up to when.
        until: Timestamp,
        /// How far back from there.
        window: Duration,
    },
}

impl Question {
    /// Its identity.
    pub fn key(&self) -> QuestionKey {
        match self {
            Self::Metric { key, .. } => QuestionKey::Metric(key.clone()),
            Self::Hook { key, .. } => QuestionKey::Hook(key.clone()),
            Self::Requests { key, .. } => QuestionKey::Requests(key.clone()),
            Self::Providers { key, .. } => QuestionKey::Providers(key.clone()),
            Self::Compare { key, .. } => QuestionKey::Compare(key.clone()),
            Self::History { release, .. } => QuestionKey::History(release.clone()),
        }
    }

    /// The name people know its subject by.
    pub fn name(&self) -> &str {
        match self {
            Self::Metric { check, .. } => &check.name,
            Self::Hook { hook, .. } => &hook.name,
            Self::Requests { .. } => "the router's counters",
            Self::Providers { .. } => "metric providers",
            Self::Compare { .. } | Self::History { .. } => "the comparison with primary",
        }
    }
}

/// Why a metric cannot be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProviderFault {
    /// The policy, or what it names, is at fault; in words.
    Policy(String),
    /// The provider does not answer; in words.
    Unreachable(String),
}

impl ProviderFault {
    fn told(self) -> Self {
        match self {
            Self::Policy(reason) => Self::Policy(told(reason)),
            Self::Unreachable(reason) => Self::Unreachable(told(reason)),
        }
    }
}

impl fmt::Display for ProviderFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Policy(reason) | Self::Unreachable(reason) => f.write_str(reason),
        }
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// A metric's value, or why there is none.
    Metric(MetricKey, Measurement),
    /// A webhook's reply.
    Hook(HookKey, HookReply),
    /// How many requests.
    Requests(MetricKey, Requests),
    /// The providers are there, or the first error in words.
    Providers(Tick, Result<(), ProviderFault>),
    /// What was counted, or why nobody knows, in words.
    Compare(LookKey, Result<Looked, String>),
    /// What primary did, or why nobody knows, in words.
    History(ReleaseId, Result<History, String>),
}

impl Answer {
    /// The question's identity.
    pub fn key(&self) -> QuestionKey {
        match self {
            Self::Metric(key, _) => QuestionKey::Metric(key.clone()),
            Self::Hook(key, _) => QuestionKey::Hook(key.clone()),
            Self::Requests(key, _) => QuestionKey::Requests(key.clone()),
            Self::Providers(key, _) => QuestionKey::Providers(key.clone()),
            Self::Compare(key, _) => QuestionKey::Compare(key.clone()),
            Self::History(release, _) => QuestionKey::History(release.clone()),
        }
    }
}

impl Answer {
    fn told(self) -> Self {
        match self {
            Self::Metric(key, Measurement { reading, query, at }) => {
                let reading = match reading {
                    // A sample passes when it becomes the text of a judgement.
                    sample @ (Reading::Value { .. } | Reading::List { .. } | Reading::Json { .. }) => sample,
                    Reading::NoData { reason } => Reading::NoData { reason: told(reason) },
                    Reading::Error { reason } => Reading::Error { reason: told(reason) },
                    Reading::Several { reason } => Reading::Several { reason: told(reason) },
                    Reading::Misconfigured { reason } => Reading::Misconfigured { reason: told(reason) },
                };
                Self::Metric(key, Measurement { reading, query, at })
            }
            Self::Hook(key, HookReply { accepted, body }) => {
                Self::Hook(key, HookReply { accepted, body: told(body) })
            }
            Self::Requests(key, found) => Self::Requests(key, found.map_err(told)),
            Self::Providers(key, found) => Self::Providers(key, found.map_err(ProviderFault::told)),
            Self::Compare(key, found) => Self::Compare(key, found.map_err(told)),
            Self::History(release, found) => Self::History(release, found.map_err(told)),
        }
    }
}

/// What has been answered so far; unknown keys are ignored.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Answers(Vec<Answer>);

impl Answers {
    /// These and no others; what others wrote in them passes [`told`].
    pub fn new(answers: Vec<Answer>) -> Self {
        Self(answers.into_iter().map(Answer::told).collect())
    }

    /// A metric's value.
    pub(super) fn metric(&self, wanted: &MetricKey) -> Option<&Measurement> {
        self.0.iter().find_map(|answer| match answer {
            Answer::Metric(key, measurement) if key == wanted => Some(measurement),
            _ => None,
        })
    }

    /// A webhook's reply.
    pub(super) fn hook(&self, wanted: &HookKey) -> Option<&HookReply> {
        self.0.iter().find_map(|answer| match answer {
            Answer::Hook(key, reply) if key == wanted => Some(reply),
            _ => None,
        })
    }

    /// Whether the providers are there.
    pub(super) fn providers(&self, wanted: &Tick) -> Option<&Result<(), ProviderFault>> {
        self.0.iter().find_map(|answer| match answer {
            Answer::Providers(key, found) if key == wanted => Some(found),
            _ => None,
        })
    }

    /// How many requests.
    pub(super) fn requests(&self, wanted: &MetricKey) -> Option<&Requests> {
        self.0.iter().find_map(|answer| match answer {
            Answer::Requests(key, found) if key == wanted => Some(found),
            _ => None,
        })
    }

    /// What the router has counted.
    pub(super) fn looked(&self, wanted: &LookKey) -> Option<&Result<Looked, String>> {
        self.0.iter().find_map(|answer| match answer {
            Answer::Compare(key, found) if key == wanted => Some(found),
            _ => None,
        })
    }

    /// Primary's past.
    pub(super) fn history(&self, wanted: &ReleaseId) -> Option<&Result<History, String>> {
        self.0.iter().find_map(|answer| match answer {
            Answer::History(release, found) if release == wanted => Some(found),
            _ => None,
        })
    }

    /// Whether there is an answer.
    pub(super) fn has(&self, question: &Question) -> bool {
        match question {
            Question::Metric { key, .. } => self.metric(key).is_some(),
            Question::Hook { key, .. } => self.hook(key).is_some(),
            Question::Requests { key, .. } => self.requests(key).is_some(),
            Question::Providers { key, .. } => self.providers(key).is_some(),
            Question::Compare { key, .. } => self.looked(key).is_some(),
            Question::History { release, .. } => self.history(release).is_some(),
        }
    }
}

/// The questions that are open now: repeated until answered, keyed so that nothing is asked twice at once.
///
/// Asked of a *persisted* state: the tick in a question's key is written before anybody is asked.
pub fn ask(policy: &Policy, observed: &Observed, state: &State, now: Timestamp) -> Vec<Question> {
    let mut open = questions::after_release(policy, observed, state, now);
    open.extend(questions::of_phase(policy, observed, state, now));
    open.into_iter().filter(|open| open.is_pending(observed, now)).map(|open| open.question).collect()
}
