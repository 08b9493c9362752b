//! What must hold at every moment, whatever the policy and whatever happens: each property is a function of a name over one
//! decision and what an onlooker remembers. What only shows over time (an abort ends, a suspension loses nothing, everything
//! settles) is in [`super::trials`].

mod exposure;
mod order;
mod proof;

use std::time::Duration;

use serin_core::model::Routing;
use serin_core::release::{Observed, Policy, PolicyStep, Readiness, Release, Request, Stage, State, Step, Verb};

use super::history::History;
use super::world::World;

/// What must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Property {
    /// Users meet a side only where it is ready and has the pods for them.
    Able,
    /// Exposure rises step by step, and falls only for a failure, an edit, a newer revision, or because a step says so.
    Monotone,
    /// No closed gate and no pause is passed.
    Gated,
    /// Whenever users are exposed, rounds are open and every check is asked in time.
    Watched,
    /// A raise and a promotion take a round that passed at what is shown.
    Proven,
    /// What ships is what was analysed.
    Analysed,
    /// An abort ends, in a bounded number of steps, at rest.
    Aborts,
    /// Suspended, nothing begins, rises or runs out of time; resumed, nothing is lost.
    Suspends,
    /// In a healthy world with open gates every release ends.
    Settles,
    /// Nothing is changed under users, or before proxies have learned of it.
    Drained,
    /// What is decided lasts: decided again it is the same, it survives a crash, nothing counts twice.
    Lasting,
    /// Nothing that is no longer wanted goes on towards promotion.
    Wanted,
}

impl Property {
    pub(crate) const ALL: [Self; 12] = [
        Self::Able,
        Self::Monotone,
        Self::Gated,
        Self::Watched,
        Self::Proven,
        Self::Analysed,
        Self::Aborts,
        Self::Suspends,
        Self::Settles,
        Self::Drained,
        Self::Lasting,
        Self::Wanted,
    ];
}

/// A property that did not hold.
#[derive(Debug, Clone)]
pub(crate) struct Broken {
    pub(crate) property: Property,
    pub(crate) what: String,
}

/// One decision, before anything of it is done.
pub(crate) struct Moment<'a> {
    pub(crate) world: &'a World,
    pub(crate) observed: &'a Observed,
    pub(crate) before: &'a State,
    pub(crate) step: &'a Step,
    pub(crate) history: &'a History,
}

/// What speaks against a moment, in words.
type Check = fn(&Moment<'_>) -> Result<(), String>;

/// Each property's checks.
const CHECKS: [(Property, Check); 18] = [
    (Property::Able, exposure::the_route_gets_no_more_than_is_meant),
    (Property::Monotone, exposure::rises_step_by_step),
    (Property::Monotone, exposure::falls_for_a_reason),
    (Property::Monotone, order::steps_go_forward),
    (Property::Gated, order::passes_no_closed_gate),
    (Property::Gated, order::passes_no_pause),
    (Property::Watched, proof::a_round_is_open),
    (Property::Watched, proof::every_check_is_asked_in_time),
    (Property::Proven, proof::a_raise_is_proven),
    (Property::Proven, proof::a_step_of_analysis_is_proven),
    (Property::Proven, proof::a_promotion_is_proven),
    (Property::Analysed, proof::ships_what_was_analysed),
    (Property::Analysed, proof::promotes_what_primary_runs),
    (Property::Aborts, order::an_abort_is_taken_at_once),
    (Property::Suspends, order::a_suspension_keeps_everything),
    (Property::Lasting, order::counts_once),
    (Property::Lasting, order::an_end_is_an_end),
    (Property::Wanted, order::goes_on_with_what_is_wanted),
];

/// Everything that speaks against a moment.
pub(crate) fn judge(moment: &Moment<'_>) -> Vec<Broken> {
    let broken = CHECKS
        .iter()
        .filter_map(|(property, check)| check(moment).err().map(|what| Broken { property: *property, what }));
    broken.collect()
}

impl Moment<'_> {
    fn policy(&self) -> &Policy {
        &self.world.policy
    }

    /// The release before and after, if it is the same.
    fn same(&self) -> Option<(&Release, &Release)> {
        let (before, after) = (self.before.release()?, self.step.state.release()?);
        (before.id == after.id).then_some((before, after))
    }

    /// The same while it is on its way through the steps.
    fn walking(&self) -> Option<(&Release, &Release)> {
        self.same().filter(|(before, after)| before.stage == Stage::Analysing || after.stage == Stage::Analysing)
    }

    /// The request that is answered here, if it is about the release under way.
    fn answers(&self) -> Option<&Request> {
        let request = self.observed.request.as_ref()?;
        let is_new = self.before.handled_request.as_ref() != Some(&request.raw)
            && self.step.state.handled_request.as_ref() == Some(&request.raw);
        let about = self.before.release().is_some_and(|release| release.id.as_str() == request.subject);
        (is_new && about).then_some(request)
    }

    fn obeys(&self, verbs: &[Verb]) -> bool {
        self.answers().is_some_and(|request| verbs.contains(&request.verb))
    }

    fn is_suspended(&self) -> bool {
        self.policy().suspended && self.observed.deleting.is_none()
    }

    /// Whether the candidate is what is released, and all of it is ready.
    fn is_well(&self, release: &Release) -> bool {
        self.observed.target.as_ref().is_some_and(|target| {
            target.digest == release.revision.digest && target.replicas > 0 && target.readiness == Readiness::Ready
        })
    }
}

/// The routing of a step, if it is one that shifts traffic.
fn routing(policy: &Policy, step: usize) -> Option<&Routing> {
    match policy.steps.get(step) {
        Some(PolicyStep::Route(routing)) => Some(routing),
        Some(PolicyStep::Analyse | PolicyStep::Pause(_) | PolicyStep::Gate | PolicyStep::Size(_)) | None => None,
    }
}

/// The last step up to `step` that shifts traffic.
fn last_route(policy: &Policy, step: u32) -> Option<usize> {
    (0..=step as usize).rev().find(|step| routing(policy, *step).is_some())
}

/// Whether two routings are the same but for who stays where.
fn alike(one: &Routing, other: &Routing) -> bool {
    one.base == other.base && one.rules == other.rules
}

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}

/// Longest time that any answer of a round may take.
fn patience(policy: &Policy) -> Duration {
    let hooks = policy.watch.hooks.values().map(|hook| hook.patience());
    let checks = policy.watch.checks.values().map(|check| check.patience + COUNTERS);
    hooks.chain(checks).max().unwrap_or_default()
}

/// What the router's counters may take beyond a check.
const COUNTERS: Duration = Duration::from_secs(30);
