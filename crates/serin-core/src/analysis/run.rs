//! What every run of checks shares, whatever paces it: what it asks, what it is answered, and how it ends.

use std::time::Duration;

use jiff::Timestamp;

use crate::model::after;

use super::judged::Judged;
use super::{HookReply, Key, Measurement, Reading};

/// Requests that the candidate has had, by the router's own counters; or why they cannot be counted, in words.
pub type Requests = Result<u64, String>;

/// What a run wants to know.
#[derive(Debug, Clone, PartialEq)]
pub enum Subject {
    /// A metric's value.
    Metric {
        /// Of which check.
        check: Key,
        /// Over which time until now.
        window: Duration,
    },
    /// A webhook's reply.
    Hook(Key),
    /// How many requests the candidate has had in a check's window.
    Requests {
        /// Of which check.
        check: Key,
        /// In which time until now.
        window: Duration,
    },
}

/// One question of a run: about a subject, once for each attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct Ask {
    /// What about.
    pub subject: Subject,
    /// Which attempt; persisted in the run before anybody is asked, so that nothing counts twice.
    pub attempt: u32,
    /// From when it may be asked.
    pub from: Timestamp,
    /// The last moment at which an answer counts.
    pub until: Timestamp,
}

/// The answers that a run is given.
pub trait Answered {
    /// A metric's value.
    fn metric(&self, check: &Key, attempt: u32) -> Option<&Measurement>;
    /// A webhook's reply.
    fn hook(&self, hook: &Key, attempt: u32) -> Option<&HookReply>;
    /// The candidate's requests in a check's window.
    fn requests(&self, check: &Key, attempt: u32) -> Option<&Requests>;
    /// Since when this process has been asking. What was due before then is not late before it could be asked.
    fn asking_since(&self) -> Option<Timestamp>;
}

impl Ask {
    /// A question whose answer may take `patience`.
    pub(super) fn new(
        subject: Subject,
        attempt: u32,
        from: Timestamp,
        patience: Duration,
        (answered, now): (&dyn Answered, Timestamp),
    ) -> Self {
        // A process that started in the future started before the clock was put back: it could be asked all the time.
        let asking =
            answered.asking_since().map_or(from, |since| if since > now { from } else { since.max(from) });
        Self { subject, attempt, from, until: after(asking, patience) }
    }

    /// Whether an answer may still come.
    pub(super) fn is_pending(&self, answered: &dyn Answered, now: Timestamp) -> bool {
        let has = match &self.subject {
            Subject::Metric { check, .. } => answered.metric(check, self.attempt).is_some(),
            Subject::Hook(hook) => answered.hook(hook, self.attempt).is_some(),
            Subject::Requests { check, .. } => answered.requests(check, self.attempt).is_some(),
        };
        !has && now < self.until
    }
}

/// Whether the release that a run belongs to wants to go on by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It does: every failure counts, and missing data is not waited for without end.
    Moving,
    /// It waits for something else, perhaps for days: only what failed lately counts, and missing data only holds.
    Waiting,
}

/// Something that did not pass.
#[derive(Debug, Clone, PartialEq)]
pub enum News {
    /// A check.
    Check {
        /// Which.
        check: Key,
        /// What was measured.
        reading: Reading,
        /// What it was taken for.
        judged: Judged,
    },
    /// A webhook that refused or did not answer.
    Hook {
        /// Its name.
        name: String,
        /// What it said.
        reply: String,
    },
}

/// How a run ends.
#[derive(Debug, Clone, PartialEq)]
pub enum End {
    /// A rollback hook asked for it.
    RolledBack {
        /// The hook's name.
        hook: String,
    },
    /// Too many failures.
    Failed {
        /// How many were too many.
        limit: u32,
        /// What failed last.
        failed: Vec<News>,
    },
    /// Data was missing, or could not be had, for too long.
    HeldTooLong {
        /// How often in a row was too often.
        limit: u32,
        /// What was missing last.
        missing: Box<News>,
    },
    /// What was measured says nothing: a person decides.
    Inconclusive {
        /// The check's name.
        check: String,
        /// What was measured, in words.
        what: String,
    },
    /// Every check has had its measurements and passed.
    Passed,
}

/// What one look at a run came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Turn<R> {
    /// The run, to be persisted before anything is asked.
    pub run: R,
    /// What is open and not answered.
    pub asks: Vec<Ask>,
    /// What did not pass in this look.
    pub news: Vec<News>,
    /// Whether something was judged.
    pub judged: bool,
    /// When to look again.
    pub wake: Option<Timestamp>,
    /// The end, if it has come.
    pub end: Option<End>,
}

impl<R> Turn<R> {
    /// Nothing to do until `wake`, or until something is answered.
    pub(super) fn waiting(run: R, asks: Vec<Ask>, wake: Option<Timestamp>) -> Self {
        Self { run, asks, news: Vec::new(), judged: false, wake, end: None }
    }
}
