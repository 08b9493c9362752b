//! How to release: a strategy as data, compiled from a Canary (later also from a Rollout).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::analysis::compare::Comparison;
use crate::analysis::{Hook, HookKind, Keyed, Rounds};
use crate::model::{Cookie, Digest, NamespacedName, ReleaseId, Routing, Sticky};

use super::affinity::Stickiness;
use super::observed::Updates;
use super::state::StepProgress;

/// Everything the engine needs to know about how one target is released.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// The names that messages and objects are made of.
    pub names: Names,
    /// Flagger's `spec.analysis.interval`: time between two looks at a closed gate.
    pub interval: Duration,
    /// Longest time either side may take to become ready.
    pub progress_deadline: Duration,
    /// Promote without steps and checks.
    pub skip_analysis: bool,
    /// Flagger's `spec.suspend`: do nothing, keep everything as it is.
    pub suspended: bool,
    /// The steps, in order; promotion follows the last.
    pub steps: Vec<PolicyStep>,
    /// How many of the analyses count as Flagger's iterations; `None` where weights are counted.
    pub iterations: Option<u32>,
    /// After promotion traffic goes to each of these that exposes less than what is shown, an interval each, and then to
    /// rest; without any it goes there at once.
    pub way_back: Vec<Routing>,
    /// Whether users stay on the side that answered them first.
    pub stickiness: Option<Stickiness>,
    /// The rounds of checks that are open whenever users are exposed.
    pub watch: Rounds,
    /// The comparison with primary beside them; `None` where nothing is compared.
    pub comparison: Option<Comparison>,
    /// Outgoing webhooks of the steps; those of the rounds are theirs.
    pub hooks: Keyed<Hook>,
    /// What promotion means.
    pub promotion: Promotion,
    /// How the sides get their pods.
    pub sizing: Sizing,
    /// How long the canary is kept after weight 0 has been observed, so that proxies that learn of it late still reach it.
    pub drain: Duration,
    /// How long a side must have been ready before it gets traffic: proxies learn of new endpoints later than the control
    /// plane, and what is sent there before has nowhere to go.
    pub settle: Duration,
    /// What is done so that no request fails for want of pods.
    pub guards: Guards,
}

/// What is done so that no request fails for want of pods: all of it. A test that sees no failed request turns one off, to show
/// that it would see one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guards {
    /// A side gets more requests when enough of its pods are ready for them.
    pub capacity: bool,
    /// Primary's autoscaler keeps the pods for what may come back.
    pub floor: bool,
    /// A primary that is about to lose its pods loses its requests first.
    pub relief: bool,
    /// So do those that reach it by the service in front of both sides.
    pub apex: bool,
}

/// How the sides get their pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sizing {
    /// The candidate has pods before the first step, and the stable side keeps its own (Flagger).
    #[default]
    Ahead,
    /// The candidate gets the pods that its share takes when it is to get that, and none before; the stable side keeps its own
    /// (Argo Rollouts with a router).
    ByShare,
    /// Nothing shifts requests but pods: the sides share the replicas as the routing says (Argo Rollouts without a router).
    Pods(Updates),
}

impl Default for Guards {
    fn default() -> Self {
        Self { capacity: true, floor: true, relief: true, apex: true }
    }
}

impl Policy {
    /// Whether there are hooks of this kind.
    pub(super) fn has_hook(&self, kind: HookKind) -> bool {
        self.hooks.values().any(|hook| hook.kind == kind)
    }

    /// Where traffic goes while nothing is being released: all of it to the stable side. Who brings the `last` cookie that
    /// was issued is told to drop it.
    pub fn at_rest(&self, last: Option<&Cookie>) -> Routing {
        let last = last.filter(|_| self.stickiness.is_some());
        let sticky = last.map_or(Sticky::Off, |cookie| Sticky::Withdraw(cookie.clone().over()));
        Routing { sticky, ..Routing::default() }
    }

    /// What a step of this release means: its routing with the release's cookies, as soon as users may reach the candidate
    /// by chance.
    pub(super) fn meant(&self, routing: &Routing, release: &ReleaseId, last: Option<&Cookie>) -> Routing {
        let sticky = match &self.stickiness {
            Some(stickiness) if routing.base.candidate() > 0 => Sticky::Issue(Box::new(stickiness.of(release))),
            Some(_) | None => self.at_rest(last).sticky,
        };
        Routing { sticky, ..routing.clone() }
    }

    /// Tells one list of steps from another.
    pub(super) fn plan(&self) -> Digest {
        // Steps are plain data: there is no way in which this could fail.
        Digest::of_canonical(&serde_json::to_vec(&self.steps).unwrap_or_default())
    }

    /// How far a release at the step of index `step` is, from 1, of how many. What takes time counts; shifts belong to what
    /// follows them. `None` without anything that takes time.
    pub(super) fn progress(&self, step: u32) -> Option<StepProgress> {
        let takes_time = |step: &&PolicyStep| matches!(step, PolicyStep::Analyse | PolicyStep::Pause(_));
        let count =
            |steps: &[PolicyStep]| u32::try_from(steps.iter().filter(takes_time).count()).unwrap_or(u32::MAX);
        let of = count(&self.steps);
        let done = count(self.steps.get(..step as usize).unwrap_or(&self.steps));
        let iterations = self.iterations.map_or(0, |_| self.analyses_to(step));
        (of > 0).then(|| StepProgress { step: done.saturating_add(1).min(of), of, iterations })
    }

    /// Analyses up to the step of index `step`, itself included.
    fn analyses_to(&self, step: u32) -> u32 {
        let steps = self.steps.iter().take((step as usize).saturating_add(1));
        u32::try_from(steps.filter(|step| **step == PolicyStep::Analyse).count()).unwrap_or(u32::MAX)
    }
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
#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum PolicyStep {
    /// Shift traffic; done when the router shows it.
    Route(Routing),
    /// Go on when a round of checks that closes from now on has passed; [`Policy::watch`] asks them.
    Analyse,
    /// Wait; without a duration until somebody resumes.
    Pause(Option<Duration>),
    /// The confirm-promotion gates; the checks go on meanwhile. Those before promotion itself need no step.
    Gate,
    /// Give the candidate these pods from now on; done when they serve ([`Sizing::ByShare`]).
    Size(Size),
}

/// How many pods a candidate has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Size {
    /// As many as its share takes.
    #[default]
    Share,
    /// So many, whatever its share is.
    Pods(i32),
    /// Percent of what all requests take, whatever its share is.
    Percent(u8),
}

impl Size {
    pub(super) fn is_share(&self) -> bool {
        *self == Self::Share
    }
}

/// What promotion means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promotion {
    /// Copy the analysed template to `<target>-primary` (Flagger).
    CopyToPrimary,
    /// Make the canary's ReplicaSet the stable one (Argo Rollouts).
    SwitchStable,
}
