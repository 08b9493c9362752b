//! How to release: a strategy as data, compiled from a Canary (later also from a Rollout).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::analysis::Range;
use crate::model::{NamespacedName, Weights};

/// Everything the engine needs to know about how one target is released.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// The names that messages and objects are made of.
    pub names: Names,
    /// Flagger's `spec.analysis.interval`: time between two checks of one step.
    pub interval: Duration,
    /// Failed checks that end a release; at least 1.
    pub threshold: u32,
    /// Longest time either side may take to become ready.
    pub progress_deadline: Duration,
    /// Promote without steps and checks.
    pub skip_analysis: bool,
    /// Flagger's `spec.suspend`: do nothing, keep everything as it is.
    pub suspended: bool,
    /// The steps, in order; promotion follows the last.
    pub steps: Vec<PolicyStep>,
    /// The checks judged at every [`PolicyStep::Analyse`].
    pub checks: Vec<Check>,
    /// Outgoing webhooks.
    pub hooks: Vec<Hook>,
    /// What promotion means.
    pub promotion: Promotion,
    /// How long the canary is kept after weight 0 has been observed, so that proxies that learn of it late still reach it.
    pub drain: Duration,
    /// How long a side must have been ready before it gets traffic: proxies learn of new endpoints later than the control
    /// plane, and what is sent there before has nowhere to go.
    pub settle: Duration,
    /// Ticks that may be held for missing data or provider errors before the release fails.
    pub hold_limit: u32,
}

/// Names as Flagger composes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// The Canary object.
    pub canary: NamespacedName,
    /// The target workload; events say `<target>.<namespace>`.
    pub target: String,
    /// The apex service; `<service>-primary` and `<service>-canary` follow from it.
    pub service: String,
    /// Flagger's provider name (`istio`), part of the messages about missing values.
    pub provider: String,
}

impl Names {
    /// `podinfo.test`, as Flagger's events name the target.
    pub fn target_dotted(&self) -> String {
        format!("{}.{}", self.target, self.canary.namespace)
    }

    /// `podinfo-primary.test`.
    pub fn primary_dotted(&self) -> String {
        format!("{}.{}", self.primary(), self.canary.namespace)
    }

    /// `podinfo-primary`.
    pub fn primary(&self) -> String {
        format!("{}-primary", self.target)
    }
}

/// One step of a strategy.
#[derive(Debug, Clone, PartialEq)]
pub enum PolicyStep {
    /// Shift traffic; done when the router shows the weights.
    SetWeight(Weights),
    /// Judge all checks once; a failure counts towards the threshold and the step is judged again after the interval.
    Analyse,
    /// Wait; without a duration until somebody resumes.
    Pause(Option<Duration>),
}

/// One metric check.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    /// `request-success-rate`, `request-duration`, or the user's name for it.
    pub name: String,
    /// Where the value comes from.
    pub source: CheckSource,
    /// The allowed range.
    pub range: Range,
    /// Query window (`{{ interval }}`).
    pub window: Duration,
    /// Time between two judgements of this check; `None` means every tick (Flagger: all checks on one cadence).
    pub every: Option<Duration>,
    /// Failures of this check alone that end the release; `None` means the shared [`Policy::threshold`].
    pub failure_limit: Option<u32>,
    /// No sample, NaN or an empty vector.
    pub on_no_data: OnMissing,
    /// The provider could not be asked.
    pub on_error: OnMissing,
}

/// Where a check's value comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum CheckSource {
    /// Flagger's built-in success rate in percent (range default: min 99… as given).
    SuccessRate,
    /// Flagger's built-in p99 duration in milliseconds.
    Duration,
    /// A MetricTemplate by namespace and name, with its variables.
    Template {
        /// The MetricTemplate.
        template: NamespacedName,
        /// `{{ variables.x }}`.
        variables: BTreeMap<String, String>,
    },
    /// Flagger's deprecated inline PromQL.
    Query(String),
}

/// What a missing value means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnMissing {
    /// Judge again after the interval, up to [`Policy::hold_limit`] times in a row, then the release fails.
    Hold,
    /// Count as a failed check (Flagger's behaviour).
    Fail,
}

/// An outgoing webhook.
#[derive(Debug, Clone, PartialEq)]
pub struct Hook {
    /// Name, used in events.
    pub name: String,
    /// When it is called.
    pub kind: HookKind,
    /// Where.
    pub url: String,
    /// Per attempt.
    pub timeout: Duration,
    /// Further attempts after connection errors, 429 and 5xx.
    pub retries: u32,
    /// Skip certificate verification.
    pub disable_tls: bool,
    /// Sent as `metadata`.
    pub metadata: BTreeMap<String, String>,
}

/// When a hook is called; Flagger's `type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HookKind {
    /// Gate before scaling up.
    ConfirmRollout,
    /// Before the first traffic.
    PreRollout,
    /// At every analysis tick, when its window opens.
    Rollout,
    /// Gate before each weight step.
    ConfirmTrafficIncrease,
    /// Gate before promotion.
    ConfirmPromotion,
    /// After the release ended.
    PostRollout,
    /// 2xx asks for a rollback.
    Rollback,
    /// One call per event.
    Event,
}

impl HookKind {
    /// Flagger's `type` string.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConfirmRollout => "confirm-rollout",
            Self::PreRollout => "pre-rollout",
            Self::Rollout => "rollout",
            Self::ConfirmTrafficIncrease => "confirm-traffic-increase",
            Self::ConfirmPromotion => "confirm-promotion",
            Self::PostRollout => "post-rollout",
            Self::Rollback => "rollback",
            Self::Event => "event",
        }
    }
}

/// What promotion means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promotion {
    /// Copy the analysed template to `<target>-primary` (Flagger).
    CopyToPrimary,
    /// Make the canary's ReplicaSet the stable one (Argo Rollouts). The engine can run it; no manifest selects it yet.
    SwitchStable,
}
