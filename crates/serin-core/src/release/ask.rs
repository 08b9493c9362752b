//! Questions to the outside and their answers.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::analysis::Measurement;
use crate::model::ReleaseId;

use super::observed::Observed;
use super::policy::{Check, Hook, Policy};
use super::questions::{self, Reply};
use super::state::State;

/// Identifies a question for ever: a tick is judged once, and an answer of another release is dropped.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct QuestionKey {
    /// The release.
    pub release: ReleaseId,
    /// Counts judgements within the release; persisted before the questions are asked.
    pub tick: u32,
    /// The check's or hook's name, prefixed `metric/` or `hook/<kind>/`.
    pub check: String,
}

/// Something to find out, concurrently and outside the loop.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// Its identity; asked again under the same key after a crash.
    pub key: QuestionKey,
    /// What to find out.
    pub kind: QuestionKind,
}

/// What to find out.
#[derive(Debug, Clone, PartialEq)]
pub enum QuestionKind {
    /// Query a metric.
    Metric {
        /// The check, with its query source.
        check: Box<Check>,
        /// The window: the check's own, or shorter when this revision's traffic is younger.
        window: Duration,
    },
    /// Call a webhook.
    Hook {
        /// The hook.
        hook: Box<Hook>,
        /// Flagger's phase string for the payload.
        phase: String,
    },
    /// Are the metric providers of these checks reachable? Asked once while a target is initialized and answered with a
    /// [`HookReply`]: `accepted`, or the error in `body`.
    Providers {
        /// The checks whose providers are meant.
        checks: Vec<Check>,
    },
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The question's key.
    pub key: QuestionKey,
    /// When it came in.
    pub at: Timestamp,
    /// What came in.
    pub outcome: AnswerOutcome,
}

/// What came in.
#[derive(Debug, Clone, PartialEq)]
pub enum AnswerOutcome {
    /// A metric's value, or why there is none.
    Measured(Measurement),
    /// A webhook's reply.
    Hook(HookReply),
}

/// A webhook's reply after its retries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookReply {
    /// Any 2xx.
    pub accepted: bool,
    /// The body, or the error in words; at most 1 KiB.
    pub body: String,
}

impl QuestionKey {
    /// The key of a hook's question.
    pub(super) fn hook(release: &ReleaseId, tick: u32, hook: &Hook) -> Self {
        Self { release: release.clone(), tick, check: format!("hook/{}/{}", hook.kind.as_str(), hook.name) }
    }

    /// The key of a metric's question.
    pub(super) fn metric(release: &ReleaseId, tick: u32, check: &Check) -> Self {
        Self { release: release.clone(), tick, check: format!("metric/{}", check.name) }
    }
}

/// The questions that are open now: repeated until answered, keyed so that nothing is asked twice at once.
///
/// Asked of a *persisted* state: the tick in a question's key is written before anybody is asked.
pub fn ask(policy: &Policy, observed: &Observed, state: &State, now: Timestamp) -> Vec<Question> {
    let held = policy.suspended || observed.blocked.is_some();
    let mut open = questions::after_release(policy, observed, state);
    if !held {
        open.extend(questions::of_phase(policy, observed, state, now));
    }
    open.into_iter()
        .filter(|open| matches!(open.reply(observed, now), Reply::Pending))
        .map(|open| Question { key: open.key, kind: open.kind })
        .collect()
}
