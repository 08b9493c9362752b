//! Checks that have a clock of their own ([`Schedules`]): random schedules, random samples, a crash at every look.
//!
//! No policy selects this pace yet; it is Argo's, for the manifest kind that brings it.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serin_core::analysis::{
    Answered, Check, End, HookReply, Key, Keyed, Measurement, OnMissing, Reading, Requests, Schedule, Scheduled,
    Schedules, SchedulesRun, Subject,
};

use super::dice::Dice;
use super::policies::{CHECKS, GOOD, check};

/// How many are played.
const RUNS: u64 = 2_000;
/// Most looks until every check with a count has had its measurements.
const LOOKS_MAX: usize = 500;
/// Longest count of measurements.
const COUNT_MAX: u64 = 6;
/// After a sample that could not be had the next comes sooner.
const RETRY: Duration = Duration::from_secs(10);

/// What was measured of one check.
#[derive(Debug, Default)]
struct Seen {
    attempts: Vec<(u32, Timestamp)>,
    failed: u32,
    passed: u32,
}

struct Given(BTreeMap<(Key, u32), Measurement>);

impl Answered for Given {
    fn metric(&self, check: &Key, attempt: u32) -> Option<&Measurement> {
        self.0.get(&(check.clone(), attempt))
    }

    fn hook(&self, _: &Key, _: u32) -> Option<&HookReply> {
        None
    }

    fn requests(&self, _: &Key, _: u32) -> Option<&Requests> {
        None
    }

    fn asking_since(&self) -> Option<Timestamp> {
        None
    }
}

fn random(dice: &mut Dice) -> Schedules {
    let mut checks = Keyed::default();
    for name in CHECKS.iter().take(usize::try_from(dice.within(1, 4)).unwrap()) {
        let interval = dice.pick(&[None, Some(5), Some(30), Some(60)]).map(Duration::from_secs);
        let count = |dice: &mut Dice| u32::try_from(dice.within(1, COUNT_MAX)).unwrap();
        let schedule = Schedule {
            delay: Duration::from_secs(dice.pick(&[0, 0, 15])),
            interval,
            count: interval.map(|_| count(dice)),
            failure_limit: dice.pick(&[Some(0), Some(0), Some(2), None]),
            ..Schedule::default()
        };
        let check = Check { on_no_data: OnMissing::Hold, on_error: OnMissing::Hold, ..check(name) };
        checks.push(Scheduled { check, schedule, dry_run: dice.one_in(5) });
    }
    Schedules { checks }
}

/// Plays one; what it came to, and what was seen of each check.
fn play(dice: &mut Dice, plan: &Schedules) -> (Option<End>, BTreeMap<Key, Seen>) {
    let mut now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let (mut run, mut given, mut seen) = (SchedulesRun::new(now), Given(BTreeMap::new()), BTreeMap::new());
    for _ in 0..LOOKS_MAX {
        let turn = plan.advance(run, &given, now);
        // Whoever dies here goes on from what was written.
        run = serde_json::from_value(serde_json::to_value(&turn.run).unwrap()).unwrap();
        assert_eq!(run, turn.run);
        if turn.end.is_some() {
            return (turn.end, seen);
        }
        for ask in &turn.asks {
            if dice.one_in(4) {
                // Its answer takes longer.
                continue;
            }
            let Subject::Metric { check, .. } = &ask.subject else { panic!("only metrics are asked: {ask:?}") };
            let seen: &mut Seen = seen.entry(check.clone()).or_default();
            assert!(seen.attempts.iter().all(|(attempt, _)| *attempt != ask.attempt), "measured twice");
            let reading = dice.weighed(&[
                (6, Reading::Value { value: GOOD }),
                (2, Reading::Value { value: 0.0 }),
                (1, Reading::NoData { reason: "empty".into() }),
            ]);
            seen.attempts.push((ask.attempt, now));
            seen.failed += u32::from(reading == Reading::Value { value: 0.0 });
            seen.passed += u32::from(reading == Reading::Value { value: GOOD });
            given.0.insert((check.clone(), ask.attempt), Measurement { reading, query: String::new(), at: now });
        }
        let wakes = turn.wake.filter(|wake| *wake > now).unwrap_or(now + Duration::from_secs(1));
        now = if turn.asks.is_empty() { wakes } else { now + Duration::from_secs(dice.within(0, 8)) };
    }
    (None, seen)
}

fn judge(plan: &Schedules, end: &End, seen: &BTreeMap<Key, Seen>) {
    let none = Seen::default();
    let each = plan.checks.iter().map(|(key, scheduled)| (scheduled, seen.get(key).unwrap_or(&none)));
    let each: Vec<(&Scheduled, &Seen)> = each.filter(|(scheduled, _)| !scheduled.dry_run).collect();
    let failed = each
        .iter()
        .any(|(scheduled, seen)| scheduled.schedule.failure_limit.is_some_and(|limit| seen.failed > limit));
    match end {
        End::Passed => {
            assert!(!failed, "passed although too much failed");
            for (scheduled, seen) in each {
                let wanted = scheduled.schedule.count.unwrap_or(1);
                assert!(seen.passed + seen.failed >= wanted, "passed after {seen:?} of {wanted}");
            }
        }
        End::Failed { .. } => assert!(failed, "failed although nothing did"),
        End::HeldTooLong { .. } => assert!(!failed),
        other => panic!("{other:?}"),
    }
}

/// No check is measured sooner than its interval says, whatever the others do.
fn keeps_its_pace(scheduled: &Scheduled, seen: &Seen) {
    let least = scheduled.schedule.interval.unwrap_or(RETRY).min(RETRY);
    let least = SignedDuration::try_from(least).unwrap();
    for pair in seen.attempts.windows(2) {
        assert!(pair[1].0 > pair[0].0, "attempts are not in order");
        assert!(pair[1].1.duration_since(pair[0].1) >= least, "measured too soon: {pair:?}");
    }
}

#[test]
fn each_check_keeps_its_own_pace_and_the_worst_decides() {
    let mut ended = 0;
    for seed in 0..RUNS {
        let mut dice = Dice::new(seed);
        let plan = random(&mut dice);
        let (end, seen) = play(&mut dice, &plan);
        let end = end.unwrap_or_else(|| panic!("seed {seed} does not end: {plan:?}"));
        judge(&plan, &end, &seen);
        for (key, scheduled) in plan.checks.iter() {
            if let Some(seen) = seen.get(key) {
                keeps_its_pace(scheduled, seen);
            }
        }
        ended += usize::from(end == End::Passed);
    }
    assert!(ended > 100, "only {ended} passed: the dice are loaded");
}
