//! What happens to a world: people, Git, pods, providers, the API server and the process itself.

use std::time::Duration;

use serin_core::analysis::Reading;
use serin_core::model::Routing;
use serin_core::release::{Count, HookKind, Phase, PolicyStep, Readiness, RouteObserved, Stage, Updates, Verb};

use super::dice::Dice;
use super::policies::{self, CHECKS, GATES};
use super::world::{MINIMUM, Reaction, Workload, World, digest};

pub(crate) const REVISIONS: [&str; 4] = ["v1", "v2", "v3", "v4"];
/// Longest time that passes at once, in seconds.
const WAIT_MAX: u64 = 200;
/// Requests enough for any check.
const PLENTY: u64 = 1_000;

/// One thing that happens.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    Push(usize),
    PushAgain(usize),
    EditTarget(usize),
    Metric(usize, Answers),
    Gate(HookKind, bool),
    RoundHook(HookKind, bool),
    Requests(Option<u64>),
    Canary(Pods),
    Primary(Pods),
    ScaleCanary(i32),
    ScalePrimary(i32),
    Size(Option<i32>),
    Updates(Updates),
    Route(Option<u8>),
    Router(bool),
    Copies(bool),
    Sync(bool),
    Refuse(bool),
    Suspend(bool),
    Block(bool),
    Invalid(bool),
    Command(Verb),
    Crash,
    CrashAfterEffects(usize),
    Conflict,
    /// Another policy in some respect; what is random about it follows from the number.
    EditPolicy(Edit, u64),
    ClockBack(u64),
    Advance(u64),
    Delete,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Answers {
    Good,
    Bad,
    NotANumber,
    NoData,
    Error,
    Misconfigured,
    Silent,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Pods {
    Well,
    Waiting,
    Limping,
    Stalled,
    Lost,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Edit {
    Steps,
    Watch,
    Gates,
    SkipAnalysis,
    WayBack,
}

/// What may be wrong in one world: each seed has a few kinds of trouble, so that most releases get somewhere.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Troubles {
    bad_answers: bool,
    bad_pods: bool,
    hands: bool,
    outages: bool,
    people: bool,
    edits: bool,
    clock: bool,
    death: bool,
    deletion: bool,
}

impl Troubles {
    pub(crate) fn random(dice: &mut Dice) -> Self {
        Self {
            bad_answers: dice.one_in(2),
            bad_pods: dice.one_in(3),
            hands: dice.one_in(8),
            outages: dice.one_in(3),
            people: dice.one_in(2),
            edits: dice.one_in(3),
            clock: dice.one_in(15),
            death: dice.one_in(2),
            deletion: dice.one_in(8),
        }
    }
}

/// A schedule.
pub(crate) fn schedule(dice: &mut Dice, troubles: Troubles) -> Vec<Op> {
    let count = dice.within(8, 40);
    (0..count).map(|_| op(dice, troubles)).collect()
}

fn op(dice: &mut Dice, troubles: Troubles) -> Op {
    for _ in 0..3 {
        match dice.within(0, 10) {
            0 if troubles.bad_answers => return bad_answer(dice),
            1 if troubles.bad_pods => return bad_pods(dice),
            2 if troubles.hands => return by_hand(dice),
            3 if troubles.outages => return outage(dice),
            4 if troubles.people => return people(dice),
            5 if troubles.edits => return edit(dice),
            6 if troubles.clock && dice.one_in(3) => return Op::ClockBack(dice.within(1, 10_000)),
            7 if troubles.death => return death(dice),
            8 if troubles.deletion && dice.one_in(8) => return Op::Delete,
            9 => return Op::Push(dice.pick(&[0, 1, 1, 2, 2, 3])),
            _ => {}
        }
    }
    Op::Advance(dice.within(1, WAIT_MAX))
}

fn bad_answer(dice: &mut Dice) -> Op {
    let answers = [
        Answers::Good,
        Answers::Good,
        Answers::Bad,
        Answers::NotANumber,
        Answers::NoData,
        Answers::Error,
        Answers::Misconfigured,
        Answers::Silent,
    ];
    match dice.within(0, 6) {
        0 => Op::Gate(dice.pick(&GATES), false),
        1 => Op::Gate(dice.pick(&GATES), true),
        2 => Op::RoundHook(dice.pick(&[HookKind::Rollout, HookKind::Rollout, HookKind::Rollback]), dice.one_in(2)),
        3 if dice.one_in(3) => Op::Requests(dice.pick(&[None, Some(5), Some(500)])),
        _ => Op::Metric(dice.pick(&[0, 1, 2]), dice.pick(&answers)),
    }
}

fn bad_pods(dice: &mut Dice) -> Op {
    let pods = [Pods::Well, Pods::Well, Pods::Waiting, Pods::Limping, Pods::Stalled, Pods::Lost];
    let rolling = |missing| Updates::Rolling { missing: Count::Percent(missing), surge: Count::Percent(25) };
    match dice.within(0, 8) {
        0 | 1 => Op::Canary(dice.pick(&pods)),
        2 => Op::Primary(dice.pick(&pods)),
        3 => Op::ScaleCanary(dice.pick(&[1, 3, 8])),
        4 => Op::ScalePrimary(dice.pick(&[1, 4, 10, 19])),
        5 => Op::Size(dice.pick(&[None, Some(1), Some(3), Some(9)])),
        _ => Op::Updates(dice.pick(&[Updates::Recreate, Updates::DEFAULT, rolling(100), rolling(50)])),
    }
}

fn by_hand(dice: &mut Dice) -> Op {
    match dice.within(0, 3) {
        0 => Op::Route(dice.pick(&[None, Some(0), Some(30), Some(100)])),
        1 => Op::EditTarget(dice.pick(&[0, 1, 2, 3])),
        _ => Op::PushAgain(dice.pick(&[0, 1, 2, 3])),
    }
}

fn outage(dice: &mut Dice) -> Op {
    let works = dice.one_in(2);
    match dice.within(0, 6) {
        0 => Op::Router(works),
        1 => Op::Copies(works),
        2 => Op::Sync(works),
        3 => Op::Refuse(!works),
        4 => Op::Block(!works),
        _ => Op::Invalid(!works),
    }
}

fn people(dice: &mut Dice) -> Op {
    let verbs = [
        (2, Op::Command(Verb::Promote)),
        (2, Op::Command(Verb::Abort)),
        (2, Op::Command(Verb::Retry)),
        (2, Op::Command(Verb::Pause)),
        (5, Op::Command(Verb::Resume)),
        (2, Op::Suspend(true)),
        (4, Op::Suspend(false)),
    ];
    dice.weighed(&verbs)
}

fn edit(dice: &mut Dice) -> Op {
    let kinds =
        [(4, Edit::Steps), (3, Edit::Watch), (2, Edit::Gates), (1, Edit::SkipAnalysis), (1, Edit::WayBack)];
    Op::EditPolicy(dice.weighed(&kinds), dice.within(0, 1 << 32))
}

fn death(dice: &mut Dice) -> Op {
    match dice.within(0, 4) {
        0 => Op::Crash,
        1 => Op::Conflict,
        _ => Op::CrashAfterEffects(dice.pick(&[0, 0, 1, 2])),
    }
}

/// Lets it happen; the number tells one command from another.
pub(crate) fn apply(world: &mut World, op: &Op, nonce: usize) {
    match op {
        Op::Push(index) => world.push(REVISIONS[*index]),
        Op::PushAgain(index) if world.target.is_some() && world.stamps => world.push_again(REVISIONS[*index]),
        Op::PushAgain(_) | Op::Advance(_) => {}
        Op::EditTarget(index) => world.edit(REVISIONS[*index]),
        Op::Metric(index, answers) => {
            let name = CHECKS[*index].to_owned();
            match reaction(*answers) {
                Some(reaction) => world.reactions.insert(name, reaction),
                None => world.reactions.remove(&name),
            };
        }
        Op::Gate(kind, accepts) | Op::RoundHook(kind, accepts) => {
            let reaction = if *accepts { Reaction::Accepts } else { Reaction::Refuses("no".into()) };
            world.reactions.insert(kind.as_str().to_owned(), reaction);
        }
        Op::Requests(count) => world.requests = *count,
        Op::Canary(pods) => tell(&mut world.target, *pods),
        Op::Primary(pods) => tell(&mut world.primary, *pods),
        Op::ScaleCanary(pods) => {
            // An autoscaler scales what runs.
            if world.target.as_ref().is_some_and(|target| target.replicas > 0) && world.size.is_none() {
                world.scale_canary(*pods);
            }
        }
        Op::ScalePrimary(pods) => {
            if let Some(primary) = world.primary.as_mut().filter(|_| world.size.is_none()) {
                primary.scale((*pods).max(primary.minimum));
            }
        }
        Op::Size(size) => {
            world.size = *size;
            // The autoscaler goes, or comes as it was written.
            for side in [&mut world.target, &mut world.primary].into_iter().flatten() {
                side.minimum = MINIMUM;
            }
        }
        Op::Updates(updates) => {
            if let Some(target) = &mut world.target {
                target.updates = *updates;
            }
        }
        Op::Route(weight) => {
            world.meddled = true;
            world.route = weight.map_or(RouteObserved::Missing, |weight| RouteObserved::Present {
                routing: Routing::candidate_percent(weight),
                current: weight != 30,
                unaccepted: None,
            });
        }
        Op::Router(works) => world.router_works = *works,
        Op::Copies(show) => world.copies_show = *show,
        Op::Sync(works) => world.sync_works = *works,
        Op::Refuse(on) => world.refuses = on.then(|| "the API server says no".to_owned()),
        Op::Suspend(on) => world.policy.suspended = *on,
        Op::Invalid(on) => world.invalid = on.then(|| "spec.service is missing".to_owned()),
        Op::Block(on) => world.blocked = on.then(|| "the CRD is old".to_owned()),
        Op::Command(verb) => command(world, *verb, nonce),
        Op::EditPolicy(what, seed) => edit_policy(world, *what, *seed),
        Op::ClockBack(seconds) => world.set_back(Duration::from_secs(*seconds)),
        Op::Crash => world.crash(),
        Op::CrashAfterEffects(effects) => world.dies_after_effects = Some(*effects),
        Op::Conflict => world.conflict = true,
        Op::Delete => world.deleting = world.policy.promotion == serin_core::release::Promotion::CopyToPrimary,
    }
}

fn reaction(answers: Answers) -> Option<Reaction> {
    let (value, why) = (|value| Reaction::Reads(Reading::Value { value }), || "why".to_owned());
    Some(match answers {
        Answers::Good => return None,
        Answers::Bad => value(50.0),
        Answers::NotANumber => value(f64::NAN),
        Answers::NoData => Reaction::Reads(Reading::NoData { reason: why() }),
        Answers::Error => Reaction::Reads(Reading::Error { reason: why() }),
        Answers::Misconfigured => Reaction::Reads(Reading::Misconfigured { reason: why() }),
        Answers::Silent => Reaction::Silent,
    })
}

/// A command about the release under way, else about what failed last.
pub(crate) fn command(world: &mut World, verb: Verb, nonce: usize) {
    let subject = match (world.state.release(), world.state.quarantine.first()) {
        (Some(release), _) => release.id.to_string(),
        (None, Some(entry)) => entry.revision.digest.to_string(),
        (None, None) => "1-00000000".to_owned(),
    };
    world.request(verb, &subject, nonce);
}

fn edit_policy(world: &mut World, what: Edit, seed: u64) {
    let mut dice = Dice::new(seed);
    world.history.edited = true;
    let policy = &mut world.policy;
    match what {
        Edit::Steps => policy.steps = policies::steps(&mut dice),
        Edit::Watch => policies::watch(&mut dice, policy),
        Edit::Gates => {
            policy.hooks = GATES.into_iter().filter(|_| dice.one_in(2)).map(policies::hook).collect();
        }
        Edit::SkipAnalysis => policy.skip_analysis = !policy.skip_analysis,
        Edit::WayBack => policy.way_back = vec![Routing::candidate_percent(30)],
    }
}

pub(crate) fn tell(side: &mut Option<Workload>, pods: Pods) {
    let Some(side) = side else { return };
    let waiting = || Some(Readiness::Waiting("not yet".to_owned()));
    (side.told, side.available) = match pods {
        Pods::Well => (None, None),
        Pods::Waiting => (waiting(), None),
        Pods::Limping => (waiting(), Some(2)),
        Pods::Stalled => (Some(Readiness::Stalled("quota".to_owned())), None),
        Pods::Lost => return side.lose(),
    };
}

/// What keeps traffic from going back to primary is over; everything else may go on.
pub(crate) fn clear_the_way_back(world: &mut World) {
    (world.router_works, world.copies_show, world.refuses) = (true, true, None);
    world.dies_after_effects = None;
    world.conflict = false;
    world.primary_told = None;
    tell(&mut world.primary, Pods::Well);
}

/// From here on everything works and nobody meddles.
pub(crate) fn be_fair(world: &mut World) {
    clear_the_way_back(world);
    world.sync_works = true;
    world.policy.suspended = false;
    (world.blocked, world.invalid, world.request) = (None, None, None);
    world.reactions.clear();
    world.requests = Some(PLENTY);
    tell(&mut world.target, Pods::Well);
    // `sync` puts right what was changed by hand.
    let stamped = world.target.as_ref().and_then(|target| target.stamped.clone());
    let name =
        REVISIONS.iter().find(|name| stamped.as_ref().is_some_and(|stamped| stamped.digest == digest(name)));
    if let Some(name) = name {
        world.edit(name);
    }
}

/// Goes on wherever a release waits for a person.
pub(crate) fn go_on(world: &mut World, nonce: usize) {
    let Phase::Releasing(release) = &world.state.phase else { return };
    let step = world.policy.steps.get(release.step as usize);
    let rests = release.stage == Stage::Analysing && step == Some(&PolicyStep::Pause(None));
    if release.paused || rests {
        command(world, Verb::Resume, nonce);
    }
}
