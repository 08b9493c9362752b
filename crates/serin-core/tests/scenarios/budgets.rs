//! What the engine may cost: nothing while idle, few status writes per weight step.

use std::time::Duration;

use serin_core::model::Routing;
use serin_core::release::{Policy, PolicyStep, ask, step};

use super::policies::check;
use super::world::{World, digest, plain_policy};

/// Status writes of one weight step: the verdict with the next intent. That the router shows it follows again from looking.
const WRITES_PER_STEP: usize = 1;

/// Those of a release with five steps: from the admission of a revision to its end.
const WRITES_PER_RELEASE: usize = 10;

fn policy() -> Policy {
    let mut policy = plain_policy();
    policy.steps = (1..=5)
        .flat_map(|step| [PolicyStep::Route(Routing::candidate_percent(step * 10)), PolicyStep::Analyse])
        .collect();
    policy.watch.checks = [check("rate")].into_iter().collect();
    policy
}

fn initialized() -> World {
    let mut world = World::new(policy());
    world.push("v1");
    world.advance(Duration::from_secs(60), |_| {});
    world
}

#[test]
fn an_idle_target_costs_nothing() {
    let world = initialized();
    let observed = world.observe();
    let decided = step(&world.policy, &observed, world.state.clone(), world.now);
    assert_eq!(decided.state, world.state);
    assert_eq!(decided.actions, []);
    assert_eq!(decided.wake, None);
    assert_eq!(ask(&world.policy, &observed, &world.state, world.now), []);
}

#[test]
fn a_weight_step_costs_one_status_write() {
    let mut world = initialized();
    world.push("v2");
    world.advance(Duration::from_secs(90), |_| {});
    assert_eq!(world.state.canary_weight(), 20);
    let before = world.persisted;
    world.advance(Duration::from_secs(60), |_| {});
    assert_eq!(world.state.canary_weight(), 30);
    assert_eq!(world.persisted - before, WRITES_PER_STEP);
}

#[test]
fn a_release_of_five_steps_costs_few_status_writes() {
    let mut world = initialized();
    let before = world.persisted;
    world.push("v2");
    world.advance(Duration::from_secs(600), |_| {});
    assert_eq!(world.state.promoted.as_ref().unwrap().revision.digest, digest("v2"));
    assert_eq!(world.persisted - before, WRITES_PER_RELEASE);
}
