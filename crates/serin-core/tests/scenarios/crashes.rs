//! Exhaustive: the process dies after each state, persisted or not, before its actions; the end is always the same.

use std::time::Duration;

use serin_core::analysis::Reading;
use serin_core::analysis::compare::Standing;
use serin_core::model::Routing;
use serin_core::release::{HookKind, OutcomeKind, Policy, PolicyStep, RouteObserved};

use super::policies::{add_hook, check, hook};
use super::world::{Counters, Reaction, World, digest, plain_policy, plan};

/// What happens after the initialization; the second argument lets time pass.
type Story = fn(&mut World, &mut dyn FnMut(&mut World, u64));

/// How a run ended, without times.
#[derive(Debug, PartialEq)]
struct Ending {
    events: Vec<String>,
    outcomes: Vec<(String, OutcomeKind, Option<String>)>,
    primary: String,
    replicas: i32,
    routing: Option<Routing>,
    target: String,
    gone: bool,
}

fn policy() -> Policy {
    let mut policy = plain_policy();
    policy.watch.threshold = 2;
    policy.steps = [20, 50]
        .into_iter()
        .flat_map(|weight| [PolicyStep::Route(Routing::candidate_percent(weight)), PolicyStep::Analyse])
        .collect();
    policy.watch.checks = [check("rate")].into_iter().collect();
    for kind in [HookKind::PreRollout, HookKind::Rollout] {
        add_hook(&mut policy, hook(kind));
    }
    policy
}

fn play(story: Story, die_after: Option<usize>) -> (Ending, usize) {
    let mut world = World::new(policy());
    world.die_after = die_after;
    let mut events = Vec::new();
    let mut advance = |world: &mut World, seconds: u64| {
        world.advance(Duration::from_secs(seconds), |round| {
            events.extend(round.step.report.events.iter().map(|event| event.message.clone()));
        });
    };
    world.push("v1");
    advance(&mut world, 60);
    story(&mut world, &mut advance);
    assert!(world.broken.is_empty(), "died after {die_after:?}: {}", world.complaints());
    let routing = match world.route.clone() {
        RouteObserved::Present { routing, .. } => Some(routing),
        RouteObserved::Missing | RouteObserved::Unusable(_) => None,
    };
    let outcomes = world.state.outbox.iter().map(|outcome| {
        (outcome.release.to_string(), outcome.kind, outcome.cause.as_ref().map(|cause| cause.message.clone()))
    });
    let ending = Ending {
        outcomes: outcomes.collect(),
        primary: world.primary.as_ref().unwrap().digest.to_string(),
        replicas: world.target.as_ref().unwrap().replicas,
        routing,
        target: world.target.as_ref().unwrap().digest.to_string(),
        gone: world.gone,
        events,
    };
    (ending, world.stepped)
}

fn dies_anywhere(story: Story, last: OutcomeKind) {
    let (undisturbed, states) = play(story, None);
    assert_eq!(undisturbed.outcomes.last().map(|outcome| outcome.1), Some(last));
    assert!(states > 10, "only {states} states");
    for death in 1..=states {
        let (ending, _) = play(story, Some(death));
        pretty_assertions::assert_eq!(ending, undisturbed, "died after state {death} of {states}");
    }
}

#[test]
fn a_success_survives_death_anywhere() {
    dies_anywhere(
        |world, advance| {
            world.push("v2");
            advance(world, 600);
        },
        OutcomeKind::Succeeded,
    );
}

#[test]
fn a_failure_survives_death_anywhere() {
    dies_anywhere(
        |world, advance| {
            world.push("v2");
            advance(world, 70);
            world.reactions.insert("rate".into(), Reaction::Reads(Reading::Value { value: 50.0 }));
            advance(world, 600);
        },
        OutcomeKind::Failed,
    );
}

#[test]
fn a_supersede_survives_death_anywhere() {
    dies_anywhere(
        |world, advance| {
            world.push("v2");
            advance(world, 90);
            world.push("v3");
            advance(world, 600);
        },
        OutcomeKind::Succeeded,
    );
}

/// Looks are not written: after each death the cells are read again, and the evidence and the words are the same.
#[test]
fn a_comparison_survives_death_anywhere() {
    dies_anywhere(
        |world, advance| {
            world.policy.comparison = Some(plan(Standing::Enforces));
            world.counters = Counters { canary: 0.06, primary: 0.002, ..Counters::default() };
            world.push("v2");
            advance(world, 600);
            let message = world.state.last_outcome.as_ref().and_then(|outcome| outcome.cause.clone());
            assert!(message.is_some_and(|cause| cause.message.contains("evidence")));
        },
        OutcomeKind::Failed,
    );
}

#[test]
fn a_hand_back_in_mid_release_survives_death_anywhere() {
    dies_anywhere(
        |world, advance| {
            world.push("v2");
            advance(world, 90);
            world.deleting = true;
            advance(world, 600);
            assert!(world.gone && world.target.as_ref().unwrap().digest == digest("v1"));
        },
        OutcomeKind::Withdrawn,
    );
}
