//! Random policies under random fates, and what only shows over time.
//!
//! A failure prints its seed and the things that have to happen for it: `SERIN_SEED=<seed>:<their numbers>` plays just that
//! again and says what is done; `SERIN_SEED=<seed>` plays all of it. `SERIN_WORLDS=<count>` plays fewer or more of them, and
//! `SERIN_FIRST=<seed>` others than those that everybody plays.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serin_core::release::{OutcomeKind, Phase, Policy, Readiness, RouteObserved, Side, Stage, Verb};

use super::dice::Dice;
use super::fate::{self, Op, Troubles};
use super::policies;
use super::properties::{Broken, Property};
use super::world::{Engine, MINIMUM, Round, World};

/// How many worlds are played.
const WORLDS: u64 = 10_000;
/// The first seed; each world has the next.
const FIRST: u64 = 1;
/// How often somebody looks whether a person is waited for.
const FAIR_TIME: Duration = Duration::from_secs(200);
/// How often at most: two releases after each other, each pause of the longest policy, deadlines, held rounds.
const FAIR_TURNS: usize = 50;
/// Writes of status that an aborted release takes at most.
const ABORT_WRITES_MAX: usize = 12;

/// How a fate ends, after what is random about it.
#[derive(Debug, Clone, Copy)]
enum Trial {
    /// Everything becomes fair.
    Fair,
    /// What is under way is aborted, whatever else is wrong.
    Abort,
    /// What is under way is suspended for so long.
    Suspend(Duration),
}

/// Everything about one world.
#[derive(Debug, Clone)]
pub(crate) struct Fate {
    policy: Policy,
    stamps: bool,
    pods: i32,
    ops: Vec<Op>,
    trial: Trial,
}

impl Fate {
    pub(crate) fn random(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let policy = policies::random(&mut dice);
        let (stamps, pods) = (!dice.one_in(5), dice.pick(&[2, 2, 5, 12]));
        let troubles = Troubles::random(&mut dice);
        let ops = fate::schedule(&mut dice, troubles);
        let trial = match dice.within(0, 4) {
            0 => Trial::Abort,
            1 => Trial::Suspend(Duration::from_secs(dice.pick(&[30, 300, 2000]))),
            _ => Trial::Fair,
        };
        Self { policy, stamps, pods, ops, trial }
    }

    fn only(&self, kept: &[usize]) -> Self {
        let ops = kept.iter().filter_map(|index| self.ops.get(*index).cloned()).collect();
        Self { ops, ..self.clone() }
    }

    /// What does not hold in it, up to the first moment in which anything does not, or a certain property.
    pub(crate) fn play(
        &self,
        engine: Engine,
        sought: Option<Property>,
        mut note: impl FnMut(&str, &Round),
    ) -> Vec<Broken> {
        let mut world = World::new(self.policy.clone());
        (world.engine, world.stamps, world.sought) = (engine, self.stamps, sought);
        world.push("v1");
        if let Some(target) = &mut world.target {
            target.replicas = self.pods;
        }
        for (nonce, op) in self.ops.iter().enumerate() {
            fate::apply(&mut world, op, nonce);
            let time = if let Op::Advance(seconds) = op { *seconds } else { 0 };
            let said = format!("{op:?}");
            world.advance(Duration::from_secs(time), |round| note(&said, round));
            if world.gone || world.is_over() {
                break;
            }
        }
        if !world.is_over() && !world.deleting {
            match self.trial {
                Trial::Fair => {}
                Trial::Abort => abort(&mut world, |round| note("abort", round)),
                Trial::Suspend(time) => suspend(&mut world, time, |round| note("suspend", round)),
            }
        }
        // Whoever looks for what a trial tells has been told.
        if !world.is_over() && sought != Some(Property::Aborts) {
            end(&mut world, |round| note("fair", round));
        }
        world.broken
    }
}

/// What is under way is aborted: nothing but the way back to primary is clear, and it ends.
fn abort(world: &mut World, mut note: impl FnMut(&Round)) {
    let Some(release) = world.state.release() else { return };
    let id = release.id.clone();
    if matches!(release.stage, Stage::Ending { .. } | Stage::Restoring { .. }) {
        return;
    }
    fate::clear_the_way_back(world);
    fate::command(world, Verb::Abort, usize::MAX);
    let before = world.persisted;
    // A primary that has to get its template back takes as long as its pods do.
    let most = world.policy.drain + world.policy.settle * 2 + Duration::from_secs(30);
    let mut writes = 0;
    let mut last = None;
    world.advance(most, |round| {
        if round.step.state.release().is_some_and(|release| release.id == id) {
            writes += usize::from(last.as_ref() != Some(&round.step.state));
            last = Some(round.step.state.clone());
        }
        note(round);
    });
    let still =
        world.state.release().filter(|release| release.id == id).map(|release| format!("{:?}", release.stage));
    if let Some(stage) = still {
        let waits = world.state.waiting_on.clone();
        world.breaks(Property::Aborts, format!("aborted {most:?} ago, still {stage}, waits for {waits:?}"));
    } else if writes > ABORT_WRITES_MAX {
        world.breaks(Property::Aborts, format!("{writes} of {} writes to end it", world.persisted - before));
    } else if matches!(world.state.phase, Phase::Idle { .. }) && world.has_traffic() && !world.meddled {
        world.breaks(Property::Aborts, format!("users are still on it: {:?}", world.route));
    }
}

/// A release that is suspended for a while becomes what it becomes without.
fn suspend(world: &mut World, time: Duration, mut note: impl FnMut(&Round)) {
    fate::be_fair(world);
    world.advance(Duration::from_secs(1), &mut note);
    if world.state.release().is_none() || world.is_over() {
        return;
    }
    let mut other = world.clone();
    world.policy.suspended = true;
    world.advance(time, &mut note);
    world.policy.suspended = false;
    run_fairly(world, &mut note);
    run_fairly(&mut other, |_| {});
    let ends = |world: &World| {
        let end = |outcome: &serin_core::release::Outcome| (outcome.release.clone(), outcome.kind);
        (
            world.state.outbox.iter().map(end).collect::<Vec<_>>(),
            world.state.promoted.clone().map(|it| it.revision),
        )
    };
    let (resumed, undisturbed) = (ends(world), ends(&other));
    if resumed != undisturbed && other.broken.is_empty() {
        world.breaks(Property::Suspends, format!("suspended: {resumed:?}, else: {undisturbed:?}"));
    }
}

/// Time passes, and whoever waits for a person gets one.
fn run_fairly(world: &mut World, mut note: impl FnMut(&Round)) {
    for turn in 0..FAIR_TURNS {
        world.advance(FAIR_TIME, &mut note);
        if world.is_over() || world.gone || world.is_at_rest() {
            return;
        }
        fate::go_on(world, usize::MAX / 2 + turn);
    }
}

fn end(world: &mut World, mut note: impl FnMut(&Round)) {
    if !world.gone {
        fate::be_fair(world);
    }
    run_fairly(world, &mut note);
    if world.is_over() {
        return;
    }
    let settled = if world.deleting { handed_back(world) } else { settled(world) };
    if let Err(what) = settled {
        world.breaks(Property::Settles, what);
    }
}

fn settled(world: &World) -> Result<(), String> {
    let state = &world.state;
    let is = |holds: bool, what: &dyn Fn() -> String| if holds { Ok(()) } else { Err(what()) };
    let idle = matches!(state.phase, Phase::Idle { .. });
    is(idle, &|| format!("still {:?}, waits for {:?}", state.phase, state.waiting_on))?;
    let (Some(target), Some(primary)) = (&world.target, &world.primary) else {
        return Err("a side is gone".into());
    };
    let Some(promoted) = state.promoted.as_ref().map(|promoted| &promoted.revision.digest) else {
        return Err("nothing is promoted".to_owned());
    };
    is(target.replicas == 0, &|| "the canary still runs".to_owned())?;
    is(world.pending.is_none(), &|| "a revision was never written".to_owned())?;
    let rests = matches!(&world.route, RouteObserved::Present { routing, .. } if !routing.exposes());
    is(rests, &|| format!("traffic does not rest: {:?}", world.route))?;
    is(primary.digest == *promoted, &|| "primary runs something else".to_owned())?;
    let quarantined = state.quarantine.iter().any(|entry| entry.revision.digest == target.digest);
    is(target.digest == *promoted || quarantined, &|| "a revision was forgotten".to_owned())?;
    let told = state.outbox.len() as u64 + state.outbox_merged;
    is(told == state.releases + 1, &|| format!("{told} outcomes of {} releases", state.releases))?;
    is(state.held_minimum.is_none(), &|| format!("the target's minimum is still {:?}", state.held_minimum))?;
    is(target.minimum == MINIMUM, &|| format!("the target's minimum became {}", target.minimum))?;
    let kinds = state.outbox.iter().filter(|outcome| outcome.kind == OutcomeKind::Initialized).count();
    is(kinds == 1, &|| format!("initialized {kinds} times"))
}

/// A deleted Canary is gone, and whoever calls the service finds what was promoted.
fn handed_back(world: &World) -> Result<(), String> {
    let is = |holds: bool, what: &str| if holds { Ok(()) } else { Err(what.to_owned()) };
    is(world.gone, &format!("still {:?}, waits for {:?}", world.state.phase, world.state.waiting_on))?;
    let (Some(promoted), Some(target)) = (&world.state.promoted, &world.target) else { return Ok(()) };
    is(world.apex != Some(Side::Stable) && world.left, "service and route went with the Canary")?;
    if world.changed_since {
        return Ok(());
    }
    is(target.digest == promoted.revision.digest, "something else than what was promoted serves")?;
    is(target.readiness() == Readiness::Ready && target.replicas > 0, "its target does not serve")
}

/// The fewest things that still break it the same way.
fn shrunk(fate: &Fate, broken: Property) -> Vec<usize> {
    let mut kept: Vec<usize> = (0..fate.ops.len()).collect();
    let breaks = |kept: &[usize]| {
        fate.only(kept).play(Engine::REAL, None, |_, _| {}).first().is_some_and(|found| found.property == broken)
    };
    let mut chunk = kept.len().div_ceil(2).max(1);
    loop {
        let mut start = 0;
        while start < kept.len() {
            let rest: Vec<usize> = kept
                .iter()
                .enumerate()
                .filter(|(at, _)| !(start..start + chunk).contains(at))
                .map(|(_, op)| *op)
                .collect();
            if breaks(&rest) {
                kept = rest;
            } else {
                start += chunk;
            }
        }
        if chunk == 1 {
            return kept;
        }
        chunk = chunk.div_ceil(2);
    }
}

/// Everything about a failure that helps.
fn report(seed: u64, fate: &Fate, broken: &Broken) -> String {
    let kept = shrunk(fate, broken.property);
    let small = fate.only(&kept);
    let numbers: Vec<String> = kept.iter().map(ToString::to_string).collect();
    format!(
        "seed {seed}, {:?}: {}\n{small:#?}\nplay it again: SERIN_SEED={seed}:{} cargo test -p serin-core --test scenarios random_policies -- --nocapture\n",
        broken.property,
        broken.what,
        numbers.join(",")
    )
}

/// Plays what a person asks for and says what happens.
fn again(asked: &str) {
    let (seed, kept) = asked.split_once(':').map_or((asked, None), |(seed, kept)| (seed, Some(kept)));
    let seed: u64 = seed.parse().expect("SERIN_SEED=<seed>[:<numbers>]");
    let fate = Fate::random(seed);
    let fate = match kept {
        Some(kept) => fate.only(&kept.split(',').filter_map(|number| number.parse().ok()).collect::<Vec<_>>()),
        None => fate,
    };
    eprintln!("{:#?}", fate.policy);
    let mut said = String::new();
    let broken = fate.play(Engine::REAL, None, |op, round| {
        if said != op {
            eprintln!("> {op}");
            op.clone_into(&mut said);
        }
        let release =
            round.step.state.release().map(|it| format!("{:?} step {} {}", it.stage, it.step, it.routing));
        let events: Vec<_> = round.step.report.events.iter().map(|event| &event.message).collect();
        eprintln!(
            "{} {release:?} {:?} {events:?} {:?}",
            round.now, round.step.actions, round.step.report.waiting_on
        );
    });
    assert!(broken.is_empty(), "{broken:#?}");
}

/// Does it with each of so many numbers, on all processors, until one comes to something.
pub(crate) fn in_parallel<T: Send>(count: u64, work: impl Fn(u64) -> Option<T> + Sync) -> Option<T> {
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let found = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    if let Some(it) = work(number) {
                        next.store(count, Ordering::Relaxed);
                        *found.lock().expect("no thread panics") = Some(it);
                        return;
                    }
                }
            });
        }
    });
    found.into_inner().expect("no thread panics")
}

#[test]
fn random_policies_keep_every_property_whatever_happens() {
    if let Ok(asked) = std::env::var("SERIN_SEED") {
        return again(&asked);
    }
    let asked = |name: &str| std::env::var(name).ok().and_then(|number| number.parse().ok());
    let (first, worlds) = (asked("SERIN_FIRST").unwrap_or(FIRST), asked("SERIN_WORLDS").unwrap_or(WORLDS));
    let found = in_parallel(worlds, |number| {
        let (seed, fate) = (first + number, Fate::random(first + number));
        let broken = fate.play(Engine::REAL, None, |_, _| {}).into_iter().next()?;
        Some((seed, fate, broken))
    });
    if let Some((seed, fate, broken)) = found {
        panic!("{}", report(seed, &fate, &broken));
    }
}
