//! One release: an attempt to bring a target from one revision to another.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::analysis::compare::Comparing;
use crate::analysis::{RoundsRun, Verdict};
use crate::model::{Digest, ReleaseId, Revision, Routing, after, between};

use super::observed::WorkloadObserved;
use super::policy::{Policy, PolicyStep, Size};

/// One attempt to bring the target from one revision to another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Release {
    /// Its id.
    pub id: ReleaseId,
    /// Where to.
    pub revision: Revision,
    /// When it started.
    pub started: Timestamp,
    /// How far it is.
    pub stage: Stage,
    /// Index into [`super::Policy::steps`].
    pub step: u32,
    /// Digest of the policy's steps, to notice when they are edited under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Digest>,
    /// Before that step a fresh round is due at what is shown.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub recheck: bool,
    /// The time of the step.
    #[serde(flatten)]
    pub clock: StepClock,
    /// The rounds of checks: open whenever users are exposed to the revision, whatever else goes on.
    #[serde(default)]
    pub watch: RoundsRun,
    /// The comparison with primary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comparison: Option<Box<Comparing>>,
    /// The round that has to pass before a step that waits for one is done.
    #[serde(default)]
    pub awaited: u32,
    /// Where traffic is meant to go; repair may lower the live routing to it, never raise it above.
    pub routing: Routing,
    /// When the router was first seen to show it: windows start here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown_since: Option<Timestamp>,
    /// When this revision first had traffic, copies included: what has had none need not drain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_traffic: Option<Timestamp>,
    /// Since when the canary has been ready: proxies learn of its endpoints a little later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_since: Option<Timestamp>,
    /// How many pods the candidate has before it is promoted.
    #[serde(default, skip_serializing_if = "Size::is_share")]
    pub size: Size,
    /// Pods that served on both sides when that was looked at last, where pods are the traffic.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub serving: i32,
    /// Since when primary, whose pods were all replaced while it had no users, has been ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary_ready_since: Option<Timestamp>,
    /// Since when the canary has not been fully ready during the analysis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unready_since: Option<Timestamp>,
    /// Pods that all requests take together; 0 until it is known.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub demand: i32,
    /// Primary's size when the release began, if an autoscaler may change it: the least that it is held at meanwhile.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub floor: i32,
    /// The most pods that primary's autoscaler has asked for so far.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub primary_asked: i32,
    /// The most pods that the candidate was given for what it was to get, or its autoscaler has asked for.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub sized: i32,
    /// Since when the candidate has been short of pods for what it is to get next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub short_since: Option<Timestamp>,
    /// How far the side that is waited for has come; deadlines count from its last progress, so that a large workload that
    /// goes on becoming ready is not failed for its size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// Somebody asked to stay at this step.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// `spec.suspend` or an outside obstacle keeps the release as it is: nothing is asked, no deadline runs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub frozen: bool,
    /// Somebody asked to promote without the remaining steps.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skip: bool,
    /// What those who follow the route did not take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<RefusedRoute>,
    /// It began although it was held: what it would have waited for, and who asked not to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overrode: Option<String>,
}

/// A routing that those who follow the route refused as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RefusedRoute {
    /// Which.
    pub routing: Routing,
    /// Why, in their words.
    pub reason: String,
    /// They refuse the route whatever it says: the routing was not at fault.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub outside: bool,
}

/// The time of a release's step: gates and pauses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepClock {
    /// Counts ticks; part of every gate's key.
    #[serde(rename = "tick")]
    pub number: u32,
    /// When the open tick began.
    pub opened: Timestamp,
    /// When it is due: gates are asked, a pause ends.
    pub due: Timestamp,
    /// When the gates of this tick were first asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Timestamp>,
}

impl StepClock {
    pub(super) fn new(now: Timestamp) -> Self {
        Self { number: 0, opened: now, due: now, asked: None }
    }

    /// A clock that was put back: the tick keeps its length.
    pub(super) fn settle(&mut self, now: Timestamp) {
        if self.opened > now {
            self.due = after(now, between(self.opened, self.due));
            self.opened = now;
        }
        self.asked = self.asked.map(|asked| asked.min(now));
    }

    /// The next tick, due after `wait`. What was asked in an earlier one does not count any more.
    pub(super) fn reopen(&mut self, now: Timestamp, wait: Duration) {
        *self = Self { number: self.number.saturating_add(1), opened: now, due: after(now, wait), asked: None };
    }
}

/// The most pods that were available since a wait began, and when that many were first seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Available pods of the wanted template.
    pub available: i32,
    /// When they were first seen, by our clock: the cluster's may differ.
    pub at: Timestamp,
}

impl Release {
    /// One that has not begun yet.
    pub(super) fn new(id: ReleaseId, revision: Revision, plan: Digest, routing: Routing, now: Timestamp) -> Self {
        Self {
            id,
            revision,
            started: now,
            stage: Stage::Confirming,
            step: 0,
            plan: Some(plan),
            recheck: false,
            clock: StepClock::new(now),
            watch: RoundsRun::new(now),
            comparison: None,
            awaited: 0,
            routing,
            shown_since: None,
            first_traffic: None,
            ready_since: None,
            size: Size::Share,
            serving: 0,
            primary_ready_since: None,
            unready_since: None,
            demand: 0,
            floor: 0,
            primary_asked: 0,
            sized: 0,
            short_since: None,
            progress: None,
            paused: false,
            frozen: false,
            skip: false,
            refused: None,
            overrode: None,
        }
    }

    /// What is to be done now; `None` after the last step.
    pub(super) fn current<'a>(&self, policy: &'a Policy) -> Option<&'a PolicyStep> {
        if self.recheck { Some(&PolicyStep::Analyse) } else { policy.steps.get(self.step as usize) }
    }

    /// Whether it walks the steps that the policy has now. One that an earlier version began is taken to.
    pub(super) fn follows(&self, policy: &Policy) -> bool {
        self.plan.as_ref().is_none_or(|plan| *plan == policy.plan())
    }

    /// Whether users meet the revision, as far as it was intended.
    pub fn is_exposed(&self) -> bool {
        self.routing.exposes()
    }

    /// Whether the candidate may be compared with primary: users meet it, and primary is what it was.
    pub(super) fn is_compared(&self) -> bool {
        let is_before = match self.stage {
            Stage::Confirming | Stage::ScalingUp { .. } | Stage::Preparing => false,
            Stage::Analysing | Stage::ConfirmingPromotion => true,
            Stage::Promoting { .. } | Stage::Restoring { .. } | Stage::Ending { .. } => false,
        };
        is_before && self.is_exposed()
    }

    /// Whether rounds of checks watch over it: whenever users meet the revision, and where a step waits for a round.
    pub(super) fn is_watched(&self) -> bool {
        self.is_exposed() || self.watch.is_open()
    }

    /// Whether traffic goes back to the stable side, or will as soon as that is ready. Nothing holds that up.
    pub(super) fn is_on_its_way_out(&self) -> bool {
        matches!(self.stage, Stage::Ending { .. } | Stage::Restoring { .. })
    }

    /// The last value of every check, for status, record and CLI.
    pub fn checks(&self) -> Vec<CheckResult> {
        let results = self.watch.checks.iter().map(|known| CheckResult {
            name: known.judged.name.clone(),
            verdict: known.judged.verdict,
            value: known.judged.value,
            limit: known.judged.limit.clone(),
        });
        results.collect()
    }

    /// Means traffic to go there from now on; what was seen of the routing before says nothing about it.
    pub(super) fn aim(&mut self, routing: Routing) {
        self.routing = routing;
        self.shown_since = None;
        if !self.is_exposed() {
            self.watch.stop();
        }
    }

    /// When `side` has had its time to become ready: `limit` after the wait began, or after it last came nearer.
    pub(super) fn ready_deadline(
        &mut self,
        since: Timestamp,
        side: Option<&WorkloadObserved>,
        now: Timestamp,
        limit: Duration,
    ) -> Timestamp {
        let available = side.map_or(0, |side| side.available);
        let progress = match self.progress {
            // A wait of its own, or pods that had been there before and come back, are no progress of this one.
            Some(progress) if progress.at >= since && progress.available >= available => progress,
            Some(progress) if progress.at >= since => Progress { available, at: now },
            Some(_) | None => Progress { available, at: since },
        };
        self.progress = Some(progress);
        after(progress.at, limit)
    }
}

/// How far a release is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "camelCase")]
pub enum Stage {
    /// The confirm-rollout gates are asked.
    Confirming,
    /// The canary scales up and becomes ready.
    ScalingUp {
        /// Since when; the progress deadline counts from here.
        since: Timestamp,
    },
    /// The pre-rollout hooks are asked.
    Preparing,
    /// Steps and checks.
    Analysing,
    /// The confirm-promotion gates are asked; checks go on.
    ConfirmingPromotion,
    /// Primary is brought to the analysed revision and becomes ready; the canary keeps its weight.
    Promoting {
        /// Since when; the progress deadline counts from here.
        since: Timestamp,
        /// When the candidate was first seen to have all requests, because primary would not keep the pods that its share takes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        relieved: Option<Timestamp>,
    },
    /// Promotion failed: the last good template goes back to primary, which becomes ready again.
    Restoring {
        /// Since when.
        since: Timestamp,
        /// Why promotion failed.
        cause: Cause,
    },
    /// Traffic goes to primary, the canary drains and scales down; then the release is over.
    Ending {
        /// How it ends.
        end: End,
        /// When weight 0 was first observed; the drain counts from here.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        zero_since: Option<Timestamp>,
        /// The canary is drained, and people were told that it is being scaled down.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        scaling_down: bool,
    },
}

impl Stage {
    /// How many iterations have begun, at a step that is the `of_step`th, when `before` had: what ends begins none.
    pub(super) fn iterations(&self, of_step: u32, before: u32) -> u32 {
        match self {
            Self::Confirming | Self::ScalingUp { .. } | Self::Preparing => 0,
            Self::Analysing | Self::ConfirmingPromotion | Self::Promoting { .. } => of_step,
            Self::Restoring { .. } | Self::Ending { .. } => before,
        }
    }
}

/// How a release ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum End {
    /// Primary runs the revision.
    Succeeded,
    /// Rolled back.
    Failed {
        /// Why.
        cause: Cause,
    },
    /// Another revision came; which one is seen when the canary has drained.
    Superseded,
}

/// Why a release failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cause {
    /// One sentence with value, limit and unit, for the rollback commit, the record and the status.
    pub message: String,
}

/// A check with its last value and limit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckResult {
    /// The check's name.
    pub name: String,
    /// What the value means.
    pub verdict: Verdict,
    /// The value, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// `≥ 99`, `≤ 500`, `0 to 5`.
    pub limit: String,
}

fn is_zero(count: &i32) -> bool {
    *count == 0
}
