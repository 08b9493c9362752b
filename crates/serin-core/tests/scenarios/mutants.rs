//! Planted mutants: engines that are wrong in one way each. Whoever trusts the properties wants to see that they notice.
//!
//! | property | mutants that it catches |
//! |---|---|
//! | `Able` | `takes_unready_pods_for_ready`, `counts_no_pods` |
//! | `Monotone` | `jumps_to_the_last_step`, `goes_back_after_a_single_failure` |
//! | `Gated` | `asks_no_gate`, `ends_every_pause`, `hears_no_pause` |
//! | `Watched` | `closes_its_eyes_at_gates`, `wakes_for_no_round`, `asks_no_check_while_it_waits` |
//! | `Proven` | `takes_every_round_for_passed`, `waits_for_no_window`, `looks_at_no_check` |
//! | `Analysed` | `adopts_what_comes_under_way`, `notes_what_was_promoted_before`, `ships_what_was_promoted_before` |
//! | `Aborts` | `hears_no_abort`, `drains_for_ever` |
//! | `Suspends` | `is_never_suspended`, `forgets_its_rounds_when_resumed`, `begins_although_suspended` |
//! | `Settles` | `sleeps_for_ever`, `admits_nothing`, `keeps_the_minimum` |
//! | `Drained` | `drains_nothing` |
//! | `Lasting` | `counts_twice`, `comes_back_from_its_end` |
//! | `Wanted` | `finishes_what_it_began` |
//!
//! A mutant is a wrapper: it lies to the engine about what there is, or changes what the engine decided.

use jiff::Timestamp;
use serin_core::analysis::{Passed, RoundsRun};
use serin_core::model::Routing;
use serin_core::release::{
    Action, Keyed, Observed, Phase, Policy, PolicyStep, Question, Readiness, Release, Stage, State, Step, Verb,
    ask, step,
};

use super::properties::Property;
use super::trials::{Fate, in_parallel};
use super::world::Engine;

/// How many worlds a mutant may hide in.
const SEEDS: u64 = 500;

type Decides = fn(&Policy, &Observed, State, Timestamp) -> Step;

/// Each mutant and the property that catches it.
const MUTANTS: [(&str, Property, Decides); 27] = [
    ("takes_unready_pods_for_ready", Property::Able, takes_unready_pods_for_ready),
    ("counts_no_pods", Property::Able, counts_no_pods),
    ("jumps_to_the_last_step", Property::Monotone, jumps_to_the_last_step),
    ("goes_back_after_a_single_failure", Property::Monotone, goes_back_after_a_single_failure),
    ("asks_no_gate", Property::Gated, asks_no_gate),
    ("ends_every_pause", Property::Gated, ends_every_pause),
    ("hears_no_pause", Property::Gated, hears_no_pause),
    ("closes_its_eyes_at_gates", Property::Watched, closes_its_eyes_at_gates),
    ("wakes_for_no_round", Property::Watched, wakes_for_no_round),
    ("takes_every_round_for_passed", Property::Proven, takes_every_round_for_passed),
    ("waits_for_no_window", Property::Proven, waits_for_no_window),
    ("looks_at_no_check", Property::Proven, looks_at_no_check),
    ("adopts_what_comes_under_way", Property::Analysed, adopts_what_comes_under_way),
    ("notes_what_was_promoted_before", Property::Analysed, notes_what_was_promoted_before),
    ("ships_what_was_promoted_before", Property::Analysed, ships_what_was_promoted_before),
    ("hears_no_abort", Property::Aborts, hears_no_abort),
    ("drains_for_ever", Property::Aborts, drains_for_ever),
    ("is_never_suspended", Property::Suspends, is_never_suspended),
    ("forgets_its_rounds_when_resumed", Property::Suspends, forgets_its_rounds_when_resumed),
    ("begins_although_suspended", Property::Suspends, begins_although_suspended),
    ("sleeps_for_ever", Property::Settles, sleeps_for_ever),
    ("admits_nothing", Property::Settles, admits_nothing),
    ("keeps_the_minimum", Property::Settles, keeps_the_minimum),
    ("drains_nothing", Property::Drained, drains_nothing),
    ("counts_twice", Property::Lasting, counts_twice),
    ("comes_back_from_its_end", Property::Lasting, comes_back_from_its_end),
    ("finishes_what_it_began", Property::Wanted, finishes_what_it_began),
];

#[test]
fn every_mutant_is_caught_by_its_property() {
    let caught = in_parallel(MUTANTS.len() as u64, |index| {
        let (name, property, step) = MUTANTS[usize::try_from(index).expect("few mutants")];
        hides(Engine { step, ..Engine::REAL }, property).then(|| format!("{name} hides from {property:?}"))
    });
    assert_eq!(caught, None);
}

#[test]
fn who_asks_nothing_while_it_waits_is_caught() {
    assert!(!hides(Engine { ask: asks_no_check_while_it_waits, ..Engine::REAL }, Property::Watched));
}

#[test]
fn every_property_has_a_mutant() {
    for property in Property::ALL {
        assert!(MUTANTS.iter().any(|(_, caught_by, _)| *caught_by == property), "{property:?}");
    }
}

/// Whether a property notices nothing in any world.
fn hides(engine: Engine, property: Property) -> bool {
    (1..=SEEDS).all(|seed| {
        let broken = Fate::random(seed).play(engine, Some(property), |_, _| {});
        broken.iter().all(|broken| broken.property != property)
    })
}

fn release(state: &mut State) -> Option<&mut Release> {
    match &mut state.phase {
        Phase::Releasing(release) => Some(release),
        Phase::Initializing { .. } | Phase::Idle { .. } | Phase::HandingBack(_) => None,
    }
}

fn analysing(state: &mut State) -> Option<&mut Release> {
    release(state).filter(|release| release.stage == Stage::Analysing)
}

/// The real engine, lied to about the world.
fn lied(policy: &Policy, observed: &Observed, state: State, now: Timestamp, lie: impl Fn(&mut Observed)) -> Step {
    let mut observed = observed.clone();
    lie(&mut observed);
    step(policy, &observed, state, now)
}

/// The real engine with another policy.
fn misled(
    policy: &Policy,
    observed: &Observed,
    state: State,
    now: Timestamp,
    change: impl Fn(&mut Policy),
) -> Step {
    let mut policy = policy.clone();
    change(&mut policy);
    step(&policy, observed, state, now)
}

fn takes_unready_pods_for_ready(policy: &Policy, observed: &Observed, state: State, now: Timestamp) -> Step {
    lied(policy, observed, state, now, |observed| {
        if let Some(target) = &mut observed.target {
            (target.readiness, target.available) = (Readiness::Ready, target.replicas);
        }
    })
}

fn counts_no_pods(policy: &Policy, observed: &Observed, state: State, now: Timestamp) -> Step {
    lied(policy, observed, state, now, |observed| {
        if let Some(target) = observed.target.as_mut().filter(|target| target.readiness == Readiness::Ready) {
            target.available = i32::MAX;
        }
    })
}

fn jumps_to_the_last_step(policy: &Policy, observed: &Observed, state: State, now: Timestamp) -> Step {
    let before = state.release().map(|release| release.routing.clone()).unwrap_or_default();
    let mut decided = step(policy, observed, state, now);
    let last = policy.steps.iter().rev().find_map(|step| match step {
        PolicyStep::Route(routing) => Some(routing.clone()),
        PolicyStep::Analyse | PolicyStep::Pause(_) | PolicyStep::Gate | PolicyStep::Size(_) => None,
    });
    let (Some(last), Some(release)) = (last, analysing(&mut decided.state)) else { return decided };
    if release.routing.exposes() && release.routing.exposes_more_than(&before) {
        release.routing = last;
    }
    decided
}

fn goes_back_after_a_single_failure(policy: &Policy, observed: &Observed, state: State, now: Timestamp) -> Step {
    let mut decided = step(policy, observed, state, now);
    if let Some(release) = analysing(&mut decided.state).filter(|release| release.watch.failed() > 0) {
        release.routing = Routing::default();
    }
    decided
}

fn asks_no_gate(policy: &Policy, observed: &Observed, state: State, now: Timestamp) -> Step {
    misled(policy, observed, state, now, |policy| policy.hooks = Keyed::default())
}

fn ends_every_pause(policy: &Policy, observed: &Observed, state: State, now: Timestamp) -> Step {
    let mut decided = step(policy, observed, state, now);
    let Some(release) = analysing(&mut decided.state) else { return decided };
    if matches!(policy.steps.get(release.step as usize), Some(PolicyStep::Pause(_))) {
        release.step += 1;
    }
    decided
}

fn hears_no_pause(policy: &Policy, observed: &Observed, mut state: State, now: Timestamp) -> Step {
    if let Some(release) = release(&mut state) {
        release.paused = false;
    }
    step(policy, observed, state, now)
}

fn closes_its_eyes_at_gates(policy: &Policy, observed: &Observed, state: State, now: Timestamp) -> Step {
    let mut decided = step(policy, observed, state, now);
    if let Some(release) = release(&mut decided.state).filter(|it| it.stage == Stage::ConfirmingPromotion) {
        release.watch.since = None;
    }
    decided
}

fn wakes_for_no_round(policy: &Policy, observed: &Observed, state: State, now: Timestamp) -> Step {
    let mut decided = step(policy, observed, state, now);
    let due = release(&mut decided.state).map(|release| release.watch.due);
    decided.wake = decided.wake.filter(|wake| Some(*wake) != due);
    decided
}

fn asks_no_check_while_it_waits(
    policy: &Policy,
    observed: &Observed,
    state: &State,
    now: Timestamp,
) -> Vec<Question> {
    let moves = state.release().is_some_and(|release| {
        policy.steps.get(release.step as usize) == Some(&PolicyStep::Analyse) && !release.paused
    });
    let mut questions = ask(policy, observed, state, now);
    questions.retain(|question| moves || !matches!(question, Question::Metric { .. }));
    questions
}

fn takes_every_round_for_passed(policy: &Policy, observed: &Observed, mut state: State, now: Timestamp) -> Step {
    if let Some(release) = release(&mut state) {
        let (checks, hooks) = (policy.watch.checks.iter(), policy.watch.hooks.iter());
        let asked = checks.map(|(key, _)| key).chain(hooks.map(|(key, _)| key)).cloned().collect();
        release.watch.passed = Some(Passed { round: release.watch.round, at: now, asked });
    }
    step(policy, observed, state, now)
}

fn waits_for_no_window(policy: &Policy, observed: &Observed, state: State, now: Timestamp) -> Step {
    misled(policy, observed, state, now, |policy| policy.watch.interval = std::time::Duration::from_secs(1))
}

fn looks_at_no_check(policy: &Policy, observed: &Observed, state: State, now: Timestamp) -> Step {
    misled(policy, observed, state, now, |policy| policy.watch.checks = Keyed::default())
}

fn adopts_what_comes_under_way(policy: &Policy, observed: &Observed, mut state: State, now: Timestamp) -> Step {
    if let (Some(release), Some(target)) = (analysing(&mut state), &observed.target) {
        release.revision.digest.clone_from(&target.digest);
    }
    step(policy, observed, state, now)
}

fn notes_what_was_promoted_before(policy: &Policy, observed: &Observed, state: State, now: Timestamp) -> Step {
    let before = state.promoted.clone();
    let mut decided = step(policy, observed, state, now);
    if before.is_some() {
        decided.state.promoted = before;
    }
    decided
}

fn ships_what_was_promoted_before(policy: &Policy, observed: &Observed, state: State, now: Timestamp) -> Step {
    let before = state.promoted.clone();
    let mut decided = step(policy, observed, state, now);
    for action in &mut decided.actions {
        if let (Action::CopyToPrimary { expect } | Action::SwitchStable { expect }, Some(before)) =
            (action, &before)
        {
            expect.clone_from(&before.revision);
        }
    }
    decided
}

fn hears_no_abort(policy: &Policy, observed: &Observed, state: State, now: Timestamp) -> Step {
    lied(policy, observed, state, now, |observed| {
        observed.request.take_if(|request| request.verb == Verb::Abort);
    })
}

fn drains_for_ever(policy: &Policy, observed: &Observed, state: State, now: Timestamp) -> Step {
    let mut decided = step(policy, observed, state, now);
    if let Some(Release { stage: Stage::Ending { zero_since, .. }, .. }) = release(&mut decided.state) {
        *zero_since = None;
    }
    decided
}

fn is_never_suspended(policy: &Policy, observed: &Observed, state: State, now: Timestamp) -> Step {
    misled(policy, observed, state, now, |policy| policy.suspended = false)
}

fn forgets_its_rounds_when_resumed(
    policy: &Policy,
    observed: &Observed,
    mut state: State,
    now: Timestamp,
) -> Step {
    if let Some(release) = release(&mut state).filter(|release| release.frozen && !policy.suspended) {
        release.watch = RoundsRun::new(now);
    }
    step(policy, observed, state, now)
}

fn begins_although_suspended(policy: &Policy, observed: &Observed, state: State, now: Timestamp) -> Step {
    let idle = matches!(state.phase, Phase::Idle { .. });
    misled(policy, observed, state, now, |policy| policy.suspended &= !idle)
}

fn sleeps_for_ever(policy: &Policy, observed: &Observed, state: State, now: Timestamp) -> Step {
    Step { wake: None, ..step(policy, observed, state, now) }
}

fn admits_nothing(policy: &Policy, observed: &Observed, state: State, now: Timestamp) -> Step {
    let mut decided = step(policy, observed, state, now);
    decided.state.admitted = None;
    decided
}

fn keeps_the_minimum(policy: &Policy, observed: &Observed, state: State, now: Timestamp) -> Step {
    let mut decided = step(policy, observed, state, now);
    let limits = observed.target.as_ref().and_then(|target| target.limits);
    let lowers = |minimum: i32| limits.is_some_and(|limits| minimum < limits.minimum);
    decided.actions.retain(|action| !matches!(action, Action::HoldTarget { minimum } if lowers(*minimum)));
    decided.state.held_minimum = decided.state.held_minimum.filter(|_| decided.state.release().is_some());
    decided
}

fn drains_nothing(policy: &Policy, observed: &Observed, state: State, now: Timestamp) -> Step {
    misled(policy, observed, state, now, |policy| policy.drain = std::time::Duration::ZERO)
}

fn counts_twice(policy: &Policy, observed: &Observed, state: State, now: Timestamp) -> Step {
    let before = state.failed_checks();
    let mut decided = step(policy, observed, state, now);
    if let Some(release) = release(&mut decided.state).filter(|release| release.watch.failed() > before) {
        release.watch.failures.push(release.watch.round);
    }
    decided
}

fn comes_back_from_its_end(policy: &Policy, observed: &Observed, state: State, now: Timestamp) -> Step {
    let ended = state.release().is_some_and(|release| matches!(release.stage, Stage::Ending { .. }));
    let mut decided = step(policy, observed, state, now);
    if let Some(release) = release(&mut decided.state).filter(|_| ended) {
        release.stage = Stage::Analysing;
    }
    decided
}

fn finishes_what_it_began(policy: &Policy, observed: &Observed, state: State, now: Timestamp) -> Step {
    let releases = state.release().is_some();
    lied(policy, observed, state, now, |observed| {
        observed.pending.take_if(|_| releases);
    })
}
