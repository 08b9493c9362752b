//! What is seen of the world when a step is decided: plain data, already read.

use std::fmt;

use jiff::Timestamp;

use crate::model::{Digest, Projection, ReleaseId, Remembered, Revision, RollbackNote, Routing, told};

use super::ask::Answers;
use super::report::WaitingOn;

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
    /// Where the service in front of both sides leads whoever does not come by the route; `None` where it is what shifts
    /// traffic, and while it leads to neither side.
    pub apex: Option<Side>,
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
    /// What is wanted served a moment ago, or not many revisions ago: it may go to everybody without its steps.
    pub skips: bool,
    /// The primary's autoscaler is missing, or, a raised minimum apart, is not what the target's says.
    pub autoscaler_stale: bool,
    /// The primary's autoscaler; `None` without one, or while it is not there.
    pub autoscaler: Option<AutoscalerObserved>,
    /// A primary that was made for a target of another name.
    pub former: Option<String>,
    /// What has to be mended outside before anything new begins.
    pub obstacle: Option<Obstacle>,
    /// Why the last action could not be carried out, in words.
    pub problem: Option<String>,
    /// What a new revision waits for before its release begins.
    pub hold: Option<Hold>,
    /// The Canary is being deleted.
    pub deleting: Option<Deleting>,
}

/// Why no release of a new revision may begin yet. What runs, or is put right, never waits for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hold {
    /// The calendar: no release window is open.
    Window {
        /// Which windows, in words.
        reason: String,
        /// When one opens; `None` if none does within a year.
        until: Option<Timestamp>,
    },
    /// Another environment has not run it for long enough.
    Environment {
        /// Which.
        name: String,
        /// What is missing, in words.
        reason: String,
        /// When it will have, if nothing changes there; `None` if something has to.
        until: Option<Timestamp>,
    },
}

impl Hold {
    fn told(self) -> Self {
        match self {
            Self::Window { reason, until } => Self::Window { reason: told(reason), until },
            Self::Environment { name, reason, until } => {
                Self::Environment { name: told(name), reason: told(reason), until }
            }
        }
    }

    /// In words.
    pub(super) fn reason(&self) -> &str {
        match self {
            Self::Window { reason, until: _ } | Self::Environment { reason, .. } => reason,
        }
    }

    /// When it ends by itself, as far as is known.
    pub(super) fn until(&self) -> Option<Timestamp> {
        match self {
            Self::Window { until, .. } | Self::Environment { until, .. } => *until,
        }
    }

    /// As what a revision waits for.
    pub(super) fn waiting(self, revision: Revision) -> WaitingOn {
        match self {
            Self::Window { reason, until } => WaitingOn::ReleaseWindow { revision, reason, until },
            Self::Environment { name, reason, until } => WaitingOn::Environment { revision, name, reason, until },
        }
    }
}

impl Observed {
    /// Why nothing new may begin, in words.
    pub(super) fn blocks_start(&self) -> Option<&str> {
        self.obstacle.as_ref().map(Obstacle::words)
    }

    /// Why a release under way cannot go on, in words.
    pub(super) fn blocks_release(&self) -> Option<&str> {
        self.obstacle.as_ref().filter(|obstacle| obstacle.stops_releases()).map(Obstacle::words)
    }
}

/// What has to be mended outside, in words that say how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// The spec cannot be carried out as it is.
    Spec(String),
    /// A check of it could not be measured.
    Measurement(String),
    /// The autoscaler that it names does not exist.
    Autoscaler(String),
    /// Somebody else's pods would be taken for the pair's.
    Overlap(String),
    /// A Service that would become part of the pair is somebody else's.
    Service(String),
    /// The target cannot be read, or its pods cannot be told from primary's.
    Target(String),
    /// A workload with primary's name is somebody else's.
    Primary(String),
    /// The route is somebody else's, or cannot be steered.
    Route(String),
}

impl Obstacle {
    /// What, and how it is mended.
    pub fn words(&self) -> &str {
        match self {
            Self::Spec(words)
            | Self::Measurement(words)
            | Self::Autoscaler(words)
            | Self::Overlap(words)
            | Self::Service(words)
            | Self::Target(words)
            | Self::Primary(words)
            | Self::Route(words) => words,
        }
    }

    fn told(self) -> Self {
        match self {
            Self::Spec(words) => Self::Spec(told(words)),
            Self::Measurement(words) => Self::Measurement(told(words)),
            Self::Autoscaler(words) => Self::Autoscaler(told(words)),
            Self::Overlap(words) => Self::Overlap(told(words)),
            Self::Service(words) => Self::Service(told(words)),
            Self::Target(words) => Self::Target(told(words)),
            Self::Primary(words) => Self::Primary(told(words)),
            Self::Route(words) => Self::Route(told(words)),
        }
    }

    /// Whether a release under way cannot go on either. One that began well is not left alone with its users because
    /// somebody has edited the Canary since: it goes on by what it began with, checks, retreat and abort included.
    fn stops_releases(&self) -> bool {
        match self {
            Self::Spec(_) | Self::Measurement(_) | Self::Autoscaler(_) | Self::Overlap(_) | Self::Service(_) => {
                false
            }
            Self::Target(_) | Self::Primary(_) | Self::Route(_) => true,
        }
    }
}

/// A Canary that is being deleted: its target gets back what primary serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Deleting {
    /// Its namespace goes with it: nothing can be made there any more, and nobody is left to serve.
    pub with_namespace: bool,
    /// Whether primary was copied from the target. What another controller made of it is not in the target's terms.
    pub copied: bool,
    /// Whether `<service>-canary` leads to the target's pods: after a change of the target it leads to the former one's.
    pub reachable: bool,
    /// Whether the service in front of both sides leads to the target's pods; `true` if there is none.
    pub led_back: bool,
    /// Whether service and route are left to the target.
    pub left: bool,
}

impl Observed {
    /// What others wrote passes [`told`]: the engine compares it with what it wrote down, so it does so once, on the way in.
    pub(super) fn told(self) -> Self {
        let request = self.request.map(Request::told);
        let route = match self.route {
            RouteObserved::Unusable(reason) => RouteObserved::Unusable(told(reason)),
            RouteObserved::Present { routing, current, unaccepted } => {
                let unaccepted = unaccepted.map(|why| match why {
                    Unaccepted::Pending(reason) => Unaccepted::Pending(told(reason)),
                    Unaccepted::Refused(reason) => Unaccepted::Refused(told(reason)),
                });
                RouteObserved::Present { routing, current, unaccepted }
            }
            RouteObserved::Missing => RouteObserved::Missing,
        };
        Self {
            target: self.target.map(WorkloadObserved::told),
            primary: self.primary.map(WorkloadObserved::told),
            request,
            route,
            rebuilt: self.rebuilt.map(told),
            unrecorded: self.unrecorded.map(told),
            obstacle: self.obstacle.map(Obstacle::told),
            problem: self.problem.map(told),
            hold: self.hold.map(Hold::told),
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
    /// What its autoscaler may do; `None` if nobody but the engine and Git scales it.
    pub limits: Option<Limits>,
    /// Whether all wanted pods (at least the autoscaler's minimum, when replicas > 0) of the *current* template are
    /// available.
    pub readiness: Readiness,
    /// Pods of the current template that can serve now (available). A side that has lost full readiness only because it
    /// is scaling up still serves with these.
    pub available: i32,
    /// Pods that serve now, of whatever template: while one is replaced by another, both count.
    pub serving: i32,
    /// How its pods are replaced when its template changes.
    pub updates: Updates,
}

impl WorkloadObserved {
    /// Least replicas: the autoscaler's minimum, or 1.
    pub fn minimum(&self) -> i32 {
        self.limits.map_or(1, |limits| limits.minimum.max(1))
    }
}

/// What an autoscaler may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// `spec.minReplicas`.
    pub minimum: i32,
    /// `spec.maxReplicas`.
    pub maximum: i32,
}

/// Primary's autoscaler, as far as the engine sizes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AutoscalerObserved {
    /// Its `spec.minReplicas` now.
    pub minimum: i32,
    /// The minimum that it is to have while nothing is released.
    pub meant: i32,
    /// Its `spec.maxReplicas`.
    pub maximum: i32,
}

/// How a workload's pods are replaced when its template changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Updates {
    /// All at once: for a while it has none.
    Recreate,
    /// Some after the others.
    Rolling {
        /// How many may be missing meanwhile.
        missing: Count,
        /// How many may be there beyond what is wanted.
        surge: Count,
    },
}

/// A number of pods: as such, or in percent of the replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// So many.
    Pods(i32),
    /// Percent.
    Percent(i32),
}

impl Updates {
    /// Kubernetes' default: a quarter may be missing, a quarter may be added.
    pub const DEFAULT: Self = Self::Rolling { missing: Count::Percent(25), surge: Count::Percent(25) };

    /// How many of `replicas` pods serve at least while they are replaced, as Kubernetes reads it: what may be missing is rounded down,
    /// what may be added up, and where both come to nothing one pod may be missing.
    pub fn keeps(self, replicas: i32) -> i32 {
        let Self::Rolling { missing, surge } = self else { return 0 };
        let missing = match (missing.of(replicas, 0), surge.of(replicas, 99)) {
            (0, 0) => 1,
            (missing, _) => missing,
        };
        (replicas - missing).max(0)
    }

    /// How many pods there may be beyond `replicas` while they are replaced.
    pub fn adds(self, replicas: i32) -> i32 {
        match self {
            Self::Recreate => 0,
            Self::Rolling { surge, .. } => surge.of(replicas, 99),
        }
    }
}

impl Count {
    fn of(self, replicas: i32, rounding: i64) -> i32 {
        match self {
            Self::Pods(pods) => pods.max(0),
            Self::Percent(percent) => {
                let pods = (i64::from(replicas) * i64::from(percent.max(0)) + rounding) / 100;
                i32::try_from(pods).unwrap_or(i32::MAX)
            }
        }
    }
}

/// One of the two workloads that a release is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// What serves.
    Stable,
    /// What is to serve next.
    Candidate,
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
        /// Why the proxies may not follow it; `None` when they do, or when the router does not say.
        unaccepted: Option<Unaccepted>,
    },
    /// There, but it cannot be steered: none or several rules lead to the service. In words, with the fix.
    Unusable(String),
}

/// Why proxies may not follow a route, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unaccepted {
    /// Nobody has said yet what becomes of it as it is now.
    Pending(String),
    /// It is refused as it is, until somebody changes something.
    Refused(String),
}

impl Unaccepted {
    /// In words.
    pub fn reason(&self) -> &str {
        match self {
            Self::Pending(reason) | Self::Refused(reason) => reason,
        }
    }
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

impl Request {
    /// What others wrote passes the door.
    pub(super) fn told(self) -> Self {
        let Self { verb, subject, raw } = self;
        Self { verb, subject: told(subject), raw: told(raw) }
    }
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
    /// Begin the release of a revision that waits for a release window or another environment.
    Release,
    /// Refuse a revision, whether it was ever released or not.
    Quarantine,
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Promote => "promote",
            Self::Abort => "abort",
            Self::Retry => "retry",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Release => "release",
            Self::Quarantine => "quarantine",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_update_keeps_is_what_kubernetes_keeps() {
        let rolling = |missing, surge| Updates::Rolling { missing, surge };
        let cases = [
            (Updates::Recreate, 4, 0),
            (Updates::DEFAULT, 1, 1),
            (Updates::DEFAULT, 4, 3),
            (Updates::DEFAULT, 7, 6),
            (rolling(Count::Pods(1), Count::Percent(25)), 1, 0),
            (rolling(Count::Percent(100), Count::Percent(25)), 5, 0),
            (rolling(Count::Percent(25), Count::Pods(0)), 1, 0),
            (rolling(Count::Pods(0), Count::Pods(1)), 3, 3),
            (rolling(Count::Pods(9), Count::Pods(1)), 3, 0),
        ];
        for (updates, replicas, kept) in cases {
            assert_eq!(updates.keeps(replicas), kept, "{updates:?} of {replicas}");
        }
    }
}
