//! What must hold whatever happens: random schedules of pushes, readiness, answers, meddling, commands and crashes.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use serin_core::analysis::{Condition, Reading};
use serin_core::model::{NamespacedName, Routing};
use serin_core::release::{
    Check, CheckSource, Hook, HookKind, OnMissing, Phase, Policy, PolicyStep, Promotion, Range, Readiness,
    RouteObserved, Stage, State, Verb,
};

use super::script::add_hook;
use super::world::{Reaction, World, digest, plain_policy};

const REVISIONS: [&str; 4] = ["v1", "v2", "v3", "v4"];
/// Far more than the longest release of the policy needs, its holds, retries and deadlines included.
const FAIR_TIME: Duration = Duration::from_secs(4 * 3600);

#[derive(Debug, Clone)]
enum Op {
    Push(usize),
    PushAgain(usize),
    Edit(usize),
    Metric(Option<f64>),
    MetricMissing(bool),
    MetricSilent,
    Hook(bool),
    Canary(Pods),
    Primary(Pods),
    Route(Option<u8>),
    Router(bool),
    Sync(bool),
    Suspend(bool),
    Block(bool),
    Invalid(bool),
    Command(Verb),
    Crash,
    LoseActions,
    Steps(Vec<u8>),
    ClockBack(u64),
    Advance(u64),
}

#[derive(Debug, Clone, Copy)]
enum Pods {
    Well,
    Waiting,
    Limping,
    Stalled,
}

fn pods() -> impl Strategy<Value = Pods> {
    prop_oneof![3 => Just(Pods::Well), 2 => Just(Pods::Waiting), 1 => Just(Pods::Limping), 1 => Just(Pods::Stalled)]
}

fn op() -> impl Strategy<Value = Op> {
    let verb = prop_oneof![
        Just(Verb::Promote),
        Just(Verb::Abort),
        Just(Verb::Retry),
        Just(Verb::Pause),
        Just(Verb::Resume)
    ];
    prop_oneof![
        5 => (0..REVISIONS.len()).prop_map(Op::Push),
        1 => (0..REVISIONS.len()).prop_map(Op::PushAgain),
        1 => (0..REVISIONS.len()).prop_map(Op::Edit),
        2 => prop_oneof![Just(None), Just(Some(50.0)), Just(Some(f64::NAN))].prop_map(Op::Metric),
        1 => any::<bool>().prop_map(Op::MetricMissing),
        1 => Just(Op::MetricSilent),
        1 => any::<bool>().prop_map(Op::Hook),
        3 => pods().prop_map(Op::Canary),
        2 => pods().prop_map(Op::Primary),
        1 => prop_oneof![Just(None), Just(Some(0)), Just(Some(30)), Just(Some(100))].prop_map(Op::Route),
        1 => any::<bool>().prop_map(Op::Router),
        1 => any::<bool>().prop_map(Op::Sync),
        1 => any::<bool>().prop_map(Op::Suspend),
        1 => any::<bool>().prop_map(Op::Block),
        1 => any::<bool>().prop_map(Op::Invalid),
        2 => verb.prop_map(Op::Command),
        2 => Just(Op::Crash),
        3 => Just(Op::LoseActions),
        1 => prop::collection::vec(prop_oneof![Just(5_u8), Just(10), Just(30), Just(80)], 1..4).prop_map(Op::Steps),
        1 => (1..10_000_u64).prop_map(Op::ClockBack),
        14 => (1..150_u64).prop_map(Op::Advance),
    ]
}

fn policy(gated: bool, skip: bool, stable: bool) -> Policy {
    let mut policy = plain_policy();
    policy.watch.threshold = 2;
    policy.watch.hold_limit = 3;
    policy.skip_analysis = skip;
    policy.promotion = if stable { Promotion::SwitchStable } else { Promotion::CopyToPrimary };
    policy.steps = steps(&[10, 30, 60]);
    policy.steps.extend([PolicyStep::Pause(Some(Duration::from_secs(40))), PolicyStep::Analyse]);
    policy.watch.checks = [check("rate"), check("cost")].into_iter().collect();
    let kinds: &[HookKind] = if gated {
        &[
            HookKind::ConfirmRollout,
            HookKind::PreRollout,
            HookKind::Rollout,
            HookKind::ConfirmTrafficIncrease,
            HookKind::ConfirmPromotion,
            HookKind::PostRollout,
            HookKind::Rollback,
        ]
    } else {
        &[HookKind::PreRollout, HookKind::Rollout]
    };
    kinds.iter().for_each(|kind| add_hook(&mut policy, hook(*kind)));
    policy
}

fn steps(weights: &[u8]) -> Vec<PolicyStep> {
    let step = |weight: &u8| [PolicyStep::Route(Routing::candidate_percent(*weight)), PolicyStep::Analyse];
    weights.iter().flat_map(step).collect()
}

pub(super) fn check(name: &str) -> Check {
    Check {
        name: name.to_owned(),
        source: CheckSource::Template { template: NamespacedName::new("test", name), variables: BTreeMap::new() },
        condition: Condition::Range(Range { min: Some(99.0), max: None }),
        window: Duration::from_secs(30),
        own_window: false,
        patience: Duration::from_secs(30),
        on_no_data: OnMissing::Hold,
        on_error: OnMissing::Fail,
    }
}

pub(super) fn hook(kind: HookKind) -> Hook {
    Hook {
        name: kind.as_str().to_owned(),
        kind,
        url: format!("http://test/{}", kind.as_str()),
        timeout: Duration::from_secs(5),
        retries: 1,
        disable_tls: false,
        metadata: BTreeMap::new(),
    }
}

/// Watches a state from step to step.
#[derive(Default)]
struct Witness {
    release: String,
    round: u32,
    failed: u32,
    exposed: u8,
    next_seq: u64,
}

impl Witness {
    fn look(&mut self, state: &State) {
        assert!(state.next_seq >= self.next_seq, "journal numbers went back");
        self.next_seq = state.next_seq;
        let Some(release) = state.release() else {
            *self = Self { next_seq: self.next_seq, ..Self::default() };
            return;
        };
        let quarantined = state.quarantine.iter().any(|entry| entry.revision.digest == release.revision.digest);
        assert!(!quarantined, "a quarantined revision is being released");
        let watch = &release.watch;
        if release.id.as_str() != self.release {
            *self = Self {
                release: release.id.to_string(),
                next_seq: self.next_seq,
                round: watch.round,
                ..Self::default()
            };
        }
        assert!(watch.round >= self.round, "a round was judged twice");
        if watch.failed() > self.failed {
            assert!(watch.failed() == self.failed + 1, "a round counted more than once");
            assert!(
                watch.round > self.round || !matches!(release.stage, Stage::Analysing),
                "a failed round is open"
            );
        }
        self.exposed = release.routing.base.candidate();
        (self.round, self.failed) = (watch.round, watch.failed());
    }
}

fn apply(world: &mut World, op: &Op, nonce: usize) {
    match op {
        Op::Push(index) => world.push(REVISIONS[*index]),
        Op::PushAgain(index) if world.target.is_some() => world.push_again(REVISIONS[*index]),
        Op::PushAgain(_) | Op::Advance(_) => {}
        Op::Edit(index) => world.edit(REVISIONS[*index]),
        Op::Metric(value) => read(world, value.map(|value| Reading::Value { value })),
        Op::MetricMissing(true) => read(world, Some(Reading::NoData { reason: "empty".into() })),
        Op::MetricMissing(false) => read(world, Some(Reading::Error { reason: "refused".into() })),
        Op::MetricSilent => {
            world.reactions.insert("rate".into(), Reaction::Silent);
        }
        Op::Hook(accepts) => {
            for kind in ["confirm-rollout", "confirm-promotion", "confirm-traffic-increase", "pre-rollout"] {
                let reaction = if *accepts { Reaction::Accepts } else { Reaction::Refuses("no".into()) };
                world.reactions.insert(kind.into(), reaction);
            }
        }
        Op::Canary(pods) => tell(&mut world.target, *pods),
        Op::Primary(pods) => tell(&mut world.primary, *pods),
        Op::Route(weight) => {
            world.meddled = true;
            world.route = weight.map_or(RouteObserved::Missing, |weight| RouteObserved::Present {
                routing: Routing::candidate_percent(weight),
                current: weight != 30,
                unaccepted: None,
            });
        }
        Op::Router(works) => world.router_works = *works,
        Op::Sync(works) => world.sync_works = *works,
        Op::Suspend(on) => world.policy.suspended = *on,
        Op::Invalid(on) => world.invalid = on.then(|| "spec.service is missing".to_owned()),
        Op::Block(on) => world.blocked = on.then(|| "the CRD is old".to_owned()),
        Op::Command(verb) => {
            let subject = match (world.state.release(), world.state.quarantine.first()) {
                (Some(release), _) => release.id.to_string(),
                (None, Some(entry)) => entry.revision.digest.to_string(),
                (None, None) => "1-00000000".to_owned(),
            };
            world.request(*verb, &subject, nonce);
        }
        Op::Steps(weights) => world.policy.steps = steps(weights),
        Op::ClockBack(seconds) => world.set_back(Duration::from_secs(*seconds)),
        Op::Crash => world.crash(),
        Op::LoseActions => world.lose_actions = true,
    }
}

fn read(world: &mut World, reading: Option<Reading>) {
    match reading {
        Some(reading) => world.reactions.insert("rate".into(), Reaction::Reads(reading)),
        None => world.reactions.remove("rate"),
    };
}

fn tell(side: &mut Option<super::world::Workload>, pods: Pods) {
    let Some(side) = side else { return };
    let waiting = || Some(Readiness::Waiting("not yet".to_owned()));
    (side.told, side.available) = match pods {
        Pods::Well => (None, None),
        Pods::Waiting => (waiting(), None),
        Pods::Limping => (waiting(), Some(2)),
        Pods::Stalled => (Some(Readiness::Stalled("quota".to_owned())), None),
    };
}

/// From here on everything works and nobody meddles.
fn be_fair(world: &mut World) {
    (world.sync_works, world.router_works, world.lose_actions) = (true, true, false);
    world.policy.suspended = false;
    world.blocked = None;
    world.invalid = None;
    world.request = None;
    world.primary_told = None;
    world.reactions.clear();
    tell(&mut world.target, Pods::Well);
    tell(&mut world.primary, Pods::Well);
    // `sync` puts right what was changed by hand.
    let stamped = world.target.as_ref().and_then(|target| target.stamped.clone());
    let name =
        REVISIONS.iter().find(|name| stamped.as_ref().is_some_and(|stamped| stamped.digest == digest(name)));
    if let Some(name) = name {
        world.edit(name);
    }
    let paused = world.state.release().filter(|release| release.paused).map(|release| release.id.to_string());
    if let Some(id) = paused {
        world.request(Verb::Resume, &id, usize::MAX);
    }
}

fn assert_settled(world: &World) {
    let state = &world.state;
    assert!(
        matches!(state.phase, Phase::Idle { .. }),
        "still {:?}, waits for {:?}",
        state.phase,
        state.waiting_on
    );
    let target = world.target.as_ref().unwrap();
    assert_eq!(target.replicas, 0, "the canary still runs");
    assert_eq!(world.pending, None, "a revision was never written");
    let RouteObserved::Present { routing, .. } = &world.route else { panic!("no route") };
    assert!(!routing.exposes(), "{routing}");
    let promoted = &state.promoted.as_ref().unwrap().revision.digest;
    assert_eq!(&world.primary.as_ref().unwrap().digest, promoted, "primary runs something else");
    let quarantined = state.quarantine.iter().any(|entry| entry.revision.digest == target.digest);
    assert!(target.digest == *promoted || quarantined, "a revision was forgotten");
    let told = state.outbox.len() as u64 + state.outbox_merged;
    assert_eq!(told, state.releases + 1, "every release has one outcome");
}

/// A deleted Canary is gone, and whoever calls the service finds what was promoted.
fn assert_handed_back(world: &World) {
    assert!(world.gone, "still {:?}, waits for {:?}", world.state.phase, world.state.waiting_on);
    let Some(promoted) = &world.state.promoted else { return };
    let target = world.target.as_ref().unwrap();
    assert_eq!(target.digest, promoted.revision.digest, "something else than what was promoted serves");
    assert_eq!((target.readiness(), target.replicas > 0), (Readiness::Ready, true));
    assert!(world.led_back && world.left, "service and route went with the Canary");
}

fn play(policy: Policy, stamps: bool, deleted_at: Option<usize>, ops: &[Op]) {
    let mut world = World::new(policy);
    world.stamps = stamps;
    let mut witness = Witness::default();
    world.push("v1");
    for (nonce, op) in ops.iter().enumerate() {
        if world.gone {
            break;
        }
        world.deleting |= deleted_at == Some(nonce);
        apply(&mut world, op, nonce);
        let time = if let Op::Advance(seconds) = op { *seconds } else { 0 };
        world.advance(Duration::from_secs(time), |round| witness.look(&round.step.state));
        assert!(world.broken.is_empty(), "after {op:?}: {}", world.broken.join("\n"));
    }
    if !world.gone {
        be_fair(&mut world);
    }
    world.advance(FAIR_TIME, |round| witness.look(&round.step.state));
    assert!(world.broken.is_empty(), "in the end: {}", world.broken.join("\n"));
    if world.deleting {
        assert_handed_back(&world);
    } else {
        assert_settled(&world);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn invariants_hold_over_random_schedules(
        gated: bool,
        skip in prop::bool::weighted(0.1),
        stable in prop::bool::weighted(0.2),
        stamps in prop::bool::weighted(0.8),
        deleted in prop::option::weighted(0.3, 0..60_usize),
        ops in prop::collection::vec(op(), 1..60),
    ) {
        // A push-again announces what only `sync` writes.
        let ops: Vec<Op> =
            ops.into_iter().filter(|op| stamps || !matches!(op, Op::PushAgain(_))).collect();
        play(policy(gated, skip, stable), stamps, deleted.filter(|_| !stable), &ops);
    }
}
