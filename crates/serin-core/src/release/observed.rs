//! What is seen of the world when a step is decided: plain data, already read.

use std::fmt;

use jiff::Timestamp;

use crate::model::{Digest, Projection, ReleaseId, Remembered, Revision, RollbackNote, Routing, told};

use super::ask::Answers;

/// One consistent look at everything a release depends on.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Observed {
    /// The target workload; `None` while it does not exist.
    pub target: Option<WorkloadObserved>,
    /// `<target>-primary`; `None` while it does not exist.
    pub primary: Option<WorkloadObserved>,
    /// How many replicas Git wants of primary; `None` if it does not say, or an autoscaler sizes it.
    pub size: Option<i32>,
    /// The route that shifts traffic.
    pub route: RouteObserved,
    /// A new revision that `sync` holds back until it is admitted (annotation `serin.dev/pending` on the target).
    pub pending: Option<Revision>,
    /// Revisions that a newer one replaced before the engine took them up (annotation `serin.dev/replaced` on the target).
    pub replaced: Vec<Revision>,
    /// What the record in Git says of a target that the cluster knew nothing of (annotations `serin.dev/record-promoted` and
    /// `serin.dev/record-failed` on the target).
    pub remembered: Option<Remembered>,
    /// An unanswered command (annotation `serin.dev/request` on the Canary).
    pub request: Option<Request>,
    /// Answers to earlier questions.
    pub answers: Answers,
    /// Since when this process has been asking questions. After a restart, the time an answer may take counts from here,
    /// so that a daemon that was down does not judge the open tick by its own absence.
    pub asking_since: Option<Timestamp>,
    /// The projections that are enabled, and how far each of them is (annotation `serin.dev/projected` on the Canary): what
    /// all of them have leaves the outbox.
    pub projected: Vec<(Projection, Option<ReleaseId>)>,
    /// What became of the watched branch (annotation `serin.dev/rollback` on the Canary).
    pub rollback: Option<RollbackNote>,
    /// The target was made from the record in Git (annotation `serin.dev/rebuilt` on the target): which one, in words.
    pub rebuilt: Option<String>,
    /// What keeps state from reaching Git (annotation `serin.dev/unrecorded` on the Canary): `<reason>: <words>`.
    pub unrecorded: Option<String>,
    /// The primary's autoscaler is missing, or is not what the target's says.
    pub autoscaler_stale: bool,
    /// Why no release may start or go on, e.g. a CRD that prunes our status or a configuration error; in words.
    pub blocked: Option<String>,
}

impl Observed {
    /// What others wrote passes [`told`]: the engine compares it with what it wrote down, so it does so once, on the way in.
    pub(super) fn told(self) -> Self {
        let request = self.request.map(|Request { verb, subject, raw }| Request {
            verb,
            subject: told(subject),
            raw: told(raw),
        });
        let route = match self.route {
            RouteObserved::Unusable(reason) => RouteObserved::Unusable(told(reason)),
            route @ (RouteObserved::Missing | RouteObserved::Present { .. }) => route,
        };
        Self {
            target: self.target.map(WorkloadObserved::told),
            primary: self.primary.map(WorkloadObserved::told),
            request,
            route,
            rebuilt: self.rebuilt.map(told),
            unrecorded: self.unrecorded.map(told),
            blocked: self.blocked.map(told),
            ..self
        }
    }
}

impl WorkloadObserved {
    fn told(self) -> Self {
        let readiness = match self.readiness {
            Readiness::Ready => Readiness::Ready,
            Readiness::Waiting(reason) => Readiness::Waiting(told(reason)),
            Readiness::Stalled(reason) => Readiness::Stalled(told(reason)),
        };
        Self { readiness, ..self }
    }
}

/// A workload as it is.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkloadObserved {
    /// Digest of its live pod template. For primary: of the *target's* template that was copied there (annotation), so
    /// that both sides are compared in the same terms.
    pub digest: Digest,
    /// The annotation `serin.dev/revision`, if `sync` stamped it. `stamped.digest != digest` is drift.
    pub stamped: Option<Revision>,
    /// `metadata.generation`.
    pub generation: i64,
    /// `spec.replicas`.
    pub replicas: i32,
    /// The autoscaler's minimum, or 1.
    pub minimum: i32,
    /// Whether all wanted pods (at least `minimum`, when replicas > 0) of the *current* template are available.
    pub readiness: Readiness,
    /// Pods of the current template that can serve now (available). A side that has lost full readiness only because it
    /// is scaling up still serves with these.
    pub available: i32,
    /// Pods that still exist, whatever their state.
    pub pods: i32,
}

/// Readiness with its reason, in Flagger's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// Ready.
    Ready,
    /// Not yet: `waiting for rollout to finish: 0 of 1 (readyThreshold 100%) updated replicas are available`.
    Waiting(String),
    /// It will not become ready by itself: `deployment "podinfo" exceeded its progress deadline`.
    Stalled(String),
}

/// The route as it is.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum RouteObserved {
    /// Not there (yet).
    #[default]
    Missing,
    /// There, and leading somewhere.
    Present {
        /// What the route object says now.
        routing: Routing,
        /// Whether everything else in generated services and routes is as the Canary wants it.
        current: bool,
        /// Why the proxies may not follow it yet, in words; `None` when they do, or when the router does not say.
        unaccepted: Option<String>,
    },
    /// There, but it cannot be steered: none or several rules lead to the service. In words, with the fix.
    Unusable(String),
}

/// A command given through the annotation `serin.dev/request: <verb>/<release or digest>/<nonce>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What is asked.
    pub verb: Verb,
    /// The release id or digest it is about.
    pub subject: String,
    /// The whole annotation, echoed in `status.serin.handledRequest`.
    pub raw: String,
}

/// What can be asked of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Skip the remaining steps and promote.
    Promote,
    /// Roll back now.
    Abort,
    /// Release a quarantined revision again.
    Retry,
    /// Stay at this step.
    Pause,
    /// Go on.
    Resume,
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Promote => "promote",
            Self::Abort => "abort",
            Self::Retry => "retry",
            Self::Pause => "pause",
            Self::Resume => "resume",
        })
    }
}
