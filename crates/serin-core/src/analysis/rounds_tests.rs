use std::collections::BTreeMap;

use super::super::{CheckSource, Condition, Measurement, Range, Reading, Requests};
use super::*;

const INTERVAL: Duration = Duration::from_secs(10);

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn check(name: &str, window: u64) -> Check {
    Check {
        name: name.to_owned(),
        source: CheckSource::Query("up".to_owned()),
        condition: Condition::Range(Range { min: None, max: Some(1.0) }),
        window: Duration::from_secs(window),
        own_window: false,
        patience: Duration::from_secs(30),
        on_no_data: OnMissing::Hold,
        on_error: OnMissing::Hold,
        min_samples: 0,
        on_few: OnMissing::Hold,
    }
}

fn hook(kind: HookKind) -> Hook {
    Hook {
        name: kind.as_str().to_owned(),
        kind,
        url: String::new(),
        timeout: Duration::from_secs(5),
        retries: 0,
        disable_tls: false,
        metadata: BTreeMap::new(),
    }
}

fn plan(checks: &[Check]) -> Rounds {
    Rounds {
        interval: INTERVAL,
        threshold: 3,
        checks: checks.iter().cloned().collect(),
        hooks: Keyed::default(),
        hold_limit: 4,
        min_samples: None,
    }
}

/// A world in which each check, by its name, reads what it is told to.
struct World {
    readings: BTreeMap<&'static str, Option<Reading>>,
    answers: Vec<(Key, u32, Measurement)>,
    /// The candidate's requests in the time until now.
    requests: Option<Box<dyn Fn(Duration) -> Requests>>,
    counted: Vec<(Key, u32, Requests)>,
    windows: Vec<Duration>,
}

impl Answered for World {
    fn metric(&self, check: &Key, attempt: u32) -> Option<&Measurement> {
        let found = self.answers.iter().find(|(key, number, _)| key == check && *number == attempt);
        found.map(|(_, _, measurement)| measurement)
    }

    fn hook(&self, _: &Key, _: u32) -> Option<&HookReply> {
        None
    }

    fn requests(&self, check: &Key, attempt: u32) -> Option<&Requests> {
        let counted = self.counted.iter().find(|(key, number, _)| key == check && *number == attempt);
        counted.map(|(_, _, requests)| requests)
    }

    fn asking_since(&self) -> Option<Timestamp> {
        Some(at(0))
    }
}

impl World {
    fn new() -> Self {
        let readings = BTreeMap::new();
        Self { readings, answers: Vec::new(), requests: None, counted: Vec::new(), windows: Vec::new() }
    }

    fn reads(&mut self, name: &'static str, value: f64) {
        self.readings.insert(name, Some(Reading::Value { value }));
    }

    fn empty(&mut self, name: &'static str) {
        self.readings.insert(name, Some(Reading::NoData { reason: "no values found".to_owned() }));
    }

    /// Advances until nothing is asked any more; the first end.
    fn look(&mut self, plan: &Rounds, run: &mut RoundsRun, mode: Mode, now: Timestamp) -> Option<End> {
        loop {
            let turn = plan.advance(run.clone(), self, mode, now);
            *run = turn.run;
            if turn.end.is_some() {
                return turn.end;
            }
            let mut answered = false;
            for ask in turn.asks {
                match ask.subject {
                    Subject::Metric { check, window } => {
                        self.windows.push(window);
                        let name = plan.checks.get(&check).unwrap().name.clone();
                        let reading = self.readings.get(name.as_str()).cloned();
                        let Some(reading) = reading.unwrap_or(Some(Reading::Value { value: 0.0 })) else {
                            continue;
                        };
                        let measurement = Measurement { reading, query: "up".to_owned(), at: now };
                        self.answers.push((check, ask.attempt, measurement));
                    }
                    Subject::Requests { check, window } => match &self.requests {
                        Some(within) => self.counted.push((check, ask.attempt, within(window))),
                        None => continue,
                    },
                    Subject::Hook(_) => continue,
                }
                answered = true;
            }
            if !answered {
                return None;
            }
        }
    }
}

fn exposed(plan: &Rounds) -> RoundsRun {
    let mut run = RoundsRun::new(at(0));
    run.start(plan, at(0));
    run
}

#[test]
fn a_round_lasts_an_interval_whatever_the_metrics_interval_is() {
    let plan = plan(&[check("rate", 60)]);
    let (mut run, mut world) = (exposed(&plan), World::new());
    assert_eq!(world.look(&plan, &mut run, Mode::Moving, at(9)), None);
    assert!(!plan.may_raise(&run, at(9)) && world.windows.is_empty());
    assert_eq!(world.look(&plan, &mut run, Mode::Moving, at(10)), None);
    assert!(plan.may_raise(&run, at(10)));
    assert_eq!(world.windows, [Duration::from_secs(10)], "its own traffic, no more");
    assert!(plan.may_raise(&run, at(20)) && !plan.may_raise(&run, at(21)), "fresh for an interval");
    for second in 2..8 {
        world.look(&plan, &mut run, Mode::Moving, at(second * 10));
    }
    assert_eq!(world.windows.last(), Some(&Duration::from_secs(60)), "at most the metric's interval");
}

#[test]
fn what_an_edit_adds_is_asked_before_the_next_raise() {
    let before = plan(&[check("rate", 60)]);
    let (mut run, mut world) = (exposed(&before), World::new());
    world.look(&before, &mut run, Mode::Moving, at(10));
    assert!(before.may_raise(&run, at(10)) && before.has_passed(&run, 1));
    let more = plan(&[check("rate", 60), check("errors", 60)]);
    let hooked = Rounds { hooks: [hook(HookKind::Rollout)].into_iter().collect(), ..before.clone() };
    for after in [&more, &hooked] {
        assert!(!after.may_raise(&run, at(10)) && !after.has_passed(&run, 1), "nobody has asked it");
    }
    assert!(plan(&[]).may_raise(&run, at(10)), "what is taken away has no say");
    world.look(&more, &mut run, Mode::Moving, at(20));
    assert!(more.may_raise(&run, at(20)) && more.has_passed(&run, 2));
}

#[test]
fn nothing_is_judged_by_traffic_of_before_the_present_exposure() {
    let plan = plan(&[check("rate", 60)]);
    let (mut run, mut world) = (exposed(&plan), World::new());
    world.look(&plan, &mut run, Mode::Moving, at(10));
    run.start(&plan, at(11));
    assert!(!plan.may_raise(&run, at(12)));
    world.look(&plan, &mut run, Mode::Moving, at(21));
    assert_eq!(world.windows, [Duration::from_secs(10); 2]);
}

#[test]
fn an_empty_answer_is_too_early_until_the_metrics_interval_is_over_and_then_it_holds() {
    let plan = plan(&[check("rate", 30)]);
    let (mut run, mut world) = (exposed(&plan), World::new());
    world.empty("rate");
    for (second, verdict, held) in
        [(10, Verdict::Early, 0), (20, Verdict::Early, 0), (30, Verdict::NoData, 1), (40, Verdict::NoData, 2)]
    {
        assert_eq!(world.look(&plan, &mut run, Mode::Moving, at(second)), None);
        assert_eq!((run.checks[0].judged.verdict, run.held), (verdict, held), "at {second}");
        assert!(!plan.may_raise(&run, at(second)) && run.failed() == 0);
    }
    world.look(&plan, &mut run, Mode::Moving, at(50));
    let end = world.look(&plan, &mut run, Mode::Moving, at(60));
    assert!(matches!(end, Some(End::HeldTooLong { limit: 4, .. })), "{end:?}");
}

#[test]
fn a_query_with_a_window_of_its_own_waits_for_it() {
    let plan = plan(&[Check { own_window: true, ..check("fixed", 30) }, check("rate", 60)]);
    let (mut run, mut world) = (exposed(&plan), World::new());
    world.look(&plan, &mut run, Mode::Moving, at(10));
    assert_eq!(world.windows, [Duration::from_secs(10)], "only the other one is asked");
    world.look(&plan, &mut run, Mode::Moving, at(20));
    assert!(!plan.may_raise(&run, at(20)));
    world.look(&plan, &mut run, Mode::Moving, at(30));
    assert!(plan.may_raise(&run, at(30)));
}

#[test]
fn an_empty_answer_beside_requests_is_a_failed_check_that_says_how_many() {
    let plan = Rounds { min_samples: Some(10), ..plan(&[check("rate", 10)]) };
    for (requests, failed, held) in [(Ok(10), 1, 0), (Ok(9), 0, 1), (Err("refused".to_owned()), 0, 1)] {
        let (mut run, mut world) = (exposed(&plan), World::new());
        world.empty("rate");
        let counters = requests.clone();
        world.requests = Some(Box::new(move |_| counters.clone()));
        assert_eq!(world.look(&plan, &mut run, Mode::Moving, at(10)), None);
        assert_eq!((run.failed(), run.held), (failed, held), "{requests:?}");
        let judged = &run.checks[0].judged;
        let said = judged.text.as_deref()
            == Some("no values found, although the candidate has had 10 requests in that time");
        assert_eq!((judged.samples, said), (requests.ok(), failed == 1));
    }
    // Where nothing is empty nobody counts.
    let (mut run, mut world) = (exposed(&plan), World::new());
    world.requests = Some(Box::new(|_| Ok(100)));
    world.look(&plan, &mut run, Mode::Moving, at(10));
    assert!(world.counted.is_empty());
}

#[test]
fn requests_before_a_checks_window_say_nothing_about_an_empty_answer_in_it() {
    let checks = [check("short", 20), check("long", 60)];
    let plan = Rounds { min_samples: Some(10), hold_limit: 100, ..plan(&checks) };
    let (mut run, mut world) = (exposed(&plan), World::new());
    world.empty("short");
    world.empty("long");
    // A load test that ended half a minute ago.
    world.requests = Some(Box::new(|window| Ok(if window < Duration::from_secs(30) { 0 } else { 100 })));
    for round in 1..=6 {
        world.look(&plan, &mut run, Mode::Moving, at(round * 10));
    }
    let verdict = |number: usize| run.checks[number].judged.verdict;
    assert_eq!((verdict(0), verdict(1)), (Verdict::NoData, Verdict::Fail));
}

#[test]
fn the_threshold_is_crossed_after_as_many_intervals() {
    let plan = plan(&[check("rate", 30)]);
    let (mut run, mut world) = (exposed(&plan), World::new());
    world.reads("rate", 50.0);
    assert_eq!(world.look(&plan, &mut run, Mode::Moving, at(10)), None);
    assert_eq!(world.look(&plan, &mut run, Mode::Moving, at(20)), None);
    let end = world.look(&plan, &mut run, Mode::Moving, at(30));
    assert!(matches!(end, Some(End::Failed { limit: 3, .. })), "{end:?}");
}

/// Every `period`th round fails, for `rounds` rounds: whether that ends the run.
fn ends(plan: &Rounds, mode: Mode, rounds: i64, fails: impl Fn(i64) -> bool) -> bool {
    let (mut run, mut world) = (exposed(plan), World::new());
    (1..=rounds).any(|round| {
        world.reads("rate", if fails(round) { 50.0 } else { 0.0 });
        world.look(plan, &mut run, mode, at(round * 10)).is_some()
    })
}

#[test]
fn while_waiting_single_failures_are_forgotten_and_a_version_gone_bad_is_not() {
    let plan = plan(&[check("rate", 10)]);
    let days = 5_000;
    assert!(!ends(&plan, Mode::Waiting, days, |round| round % 3 == 0));
    assert!(ends(&plan, Mode::Moving, days, |round| round % 3 == 0));
    assert!(ends(&plan, Mode::Waiting, 1003, |round| round > 1000));
    assert!(ends(&plan, Mode::Waiting, 1010, |round| round > 1000 && round % 2 == 0));
}

#[test]
fn while_waiting_missing_data_holds_and_ends_nothing() {
    let plan = plan(&[check("rate", 10)]);
    let (mut run, mut world) = (exposed(&plan), World::new());
    world.empty("rate");
    for round in 1..100 {
        assert_eq!(world.look(&plan, &mut run, Mode::Waiting, at(round * 10)), None);
    }
    assert!(!plan.may_raise(&run, at(1000)));
}

#[test]
fn a_fault_of_the_policy_neither_passes_nor_ends_anything() {
    let plan =
        plan(&[check("rate", 10), Check { condition: Condition::Range(Range::default()), ..check("b", 10) }]);
    let (mut run, mut world) = (exposed(&plan), World::new());
    for round in 1..100 {
        assert_eq!(world.look(&plan, &mut run, Mode::Moving, at(round * 10)), None);
        assert!(!plan.may_raise(&run, at(round * 10)) && run.failed() == 0 && run.held == 0);
    }
    assert!(matches!(&run.trouble, Some(Trouble::Policy { check, .. }) if check == "b"));
    // What can be measured still counts.
    world.reads("rate", 50.0);
    assert!((100..103).any(|round| world.look(&plan, &mut run, Mode::Moving, at(round * 10)).is_some()));
}

#[test]
fn a_clock_that_is_put_back_opens_the_window_anew() {
    let plan = plan(&[check("rate", 10)]);
    let (mut run, mut world) = (exposed(&plan), World::new());
    world.look(&plan, &mut run, Mode::Moving, at(10));
    let back = at(-7200);
    world.look(&plan, &mut run, Mode::Moving, back);
    assert_eq!((run.opened, run.due), (back, after(back, INTERVAL)));
    let due = run.due;
    world.look(&plan, &mut run, Mode::Moving, due);
    assert!(plan.may_raise(&run, run.opened));
}

#[test]
fn who_never_answers_is_an_error_after_its_patience() {
    let plan = plan(&[check("rate", 10)]);
    let (mut run, mut world) = (exposed(&plan), World::new());
    world.readings.insert("rate", None);
    world.look(&plan, &mut run, Mode::Moving, at(39));
    assert!(run.checks.is_empty());
    world.look(&plan, &mut run, Mode::Moving, at(40));
    assert_eq!(run.checks[0].judged.verdict, Verdict::Error);
    assert!(run.due > at(40), "the next window is not over already");
}

#[test]
fn rollout_hooks_are_called_when_a_round_opens_and_rollback_hooks_when_it_closes() {
    let hooks = [hook(HookKind::Rollout), hook(HookKind::Rollback)];
    let plan = Rounds { hooks: hooks.into_iter().collect(), ..plan(&[]) };
    let subjects = |now| {
        let turn = plan.advance(exposed(&plan), &World::new(), Mode::Moving, now);
        turn.asks.len()
    };
    assert_eq!((subjects(at(0)), subjects(at(10))), (1, 2));
    let (mut run, mut world) = (exposed(&plan), World::new());
    world.look(&plan, &mut run, Mode::Moving, at(40));
    assert_eq!(run.failed(), 1, "a hook that does not answer has refused");
}

/// A check whose value is made of the candidate's requests.
fn counted(name: &str, window: u64) -> Check {
    Check { min_samples: 10, ..check(name, window) }
}

/// A world whose candidate has this many requests a second, and a value that passes.
fn busy(per_second: f64) -> World {
    let mut world = World::new();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small and positive")]
    let requests = move |window: Duration| Ok((window.as_secs_f64() * per_second) as u64);
    world.requests = Some(Box::new(requests));
    world
}

fn counting(checks: &[Check]) -> Rounds {
    Rounds { min_samples: Some(10), ..plan(checks) }
}

#[test]
fn enough_requests_pass_in_the_first_round_and_are_counted_once_for_all_checks_of_a_window() {
    let plan = counting(&[counted("rate", 30), counted("duration", 60), check("own", 60)]);
    let (mut run, mut world) = (exposed(&plan), busy(2.0));
    assert_eq!(world.look(&plan, &mut run, Mode::Moving, at(10)), None);
    assert!(plan.may_raise(&run, at(10)));
    assert_eq!(world.counted.len(), 1);
    let samples: Vec<_> = run.checks.iter().map(|known| known.judged.samples).collect();
    assert_eq!(samples, [Some(20), Some(20), None]);
    // Later their windows differ.
    world.counted.clear();
    for second in [20, 30, 40] {
        world.look(&plan, &mut run, Mode::Moving, at(second));
    }
    assert_eq!(world.counted.len(), 4);
}

#[test]
fn a_value_of_too_few_requests_neither_passes_nor_fails_and_its_window_grows_until_there_are_enough() {
    let plan = counting(&[counted("rate", 10)]);
    for value in [0.0, 50.0] {
        let (mut run, mut world) = (exposed(&plan), busy(0.3));
        world.reads("rate", value);
        let mut said = 0;
        for (second, verdict, window) in
            [(10, Verdict::Few, 10), (20, Verdict::Few, 20), (30, Verdict::Few, 30), (40, Verdict::Pass, 40)]
        {
            let turn = plan.advance(run.clone(), &world, Mode::Moving, at(second));
            assert!(!turn.asks.is_empty());
            world.look(&plan, &mut run, Mode::Moving, at(second));
            said += usize::from(run.held == 1);
            let judged = &run.checks[0].judged;
            let expected = if value > 1.0 && verdict == Verdict::Pass { Verdict::Fail } else { verdict };
            assert_eq!((judged.verdict, world.windows.last()), (expected, Some(&Duration::from_secs(window))));
            assert_eq!(run.failed(), u32::from(expected == Verdict::Fail));
        }
        assert_eq!(said, 1, "held once, twice, three times");
        assert_eq!(plan.may_raise(&run, at(40)), value < 1.0);
        assert_eq!(run.held, 0);
    }
}

#[test]
fn a_grown_window_shrinks_when_there_are_plenty() {
    let plan = counting(&[counted("rate", 10)]);
    let (mut run, mut world) = (exposed(&plan), busy(0.3));
    for round in 1..=6 {
        world.look(&plan, &mut run, Mode::Moving, at(round * 10));
    }
    assert_eq!(world.windows.last(), Some(&Duration::from_secs(60)));
    let mut busy = busy(10.0);
    for round in 7..=10 {
        busy.look(&plan, &mut run, Mode::Moving, at(round * 10));
    }
    assert_eq!(busy.windows.last(), Some(&Duration::from_secs(10)));
    run.start(&plan, at(101));
    assert_eq!(run.reach, 0, "the next step begins with its own traffic");
}

#[test]
fn too_few_requests_to_the_last_round_that_may_be_held_are_missing_data_and_never_a_failed_check() {
    let plan_of = |check: Check| counting(&[check]);
    let end_of = |check: Check| {
        let plan = plan_of(check);
        let (mut run, mut world) = (exposed(&plan), busy(0.01));
        world.reads("rate", 50.0);
        let end = (1..=4).find_map(|round| world.look(&plan, &mut run, Mode::Moving, at(round * 10)));
        (end, run)
    };
    let (end, run) = end_of(counted("rate", 10));
    let Some(End::HeldTooLong { limit: 4, missing }) = end else { panic!("{end:?}") };
    let News::Check { judged, .. } = *missing else { panic!("a check") };
    assert_eq!(judged.text.as_deref(), Some("the candidate has had 0 requests in 40s, 10 are needed"));
    assert_eq!((judged.verdict, run.failed()), (Verdict::Few, 0));
    // What missing data means to the user, it means here.
    let (end, run) = end_of(Check { on_no_data: OnMissing::Fail, ..counted("rate", 10) });
    assert_eq!((end, run.failed()), (None, 1));
    let (end, run) = end_of(Check { on_no_data: OnMissing::Pass, ..counted("rate", 10) });
    assert!(end.is_none() && run.passed.is_some());
    // Who wants few requests to count says so.
    let (end, run) = end_of(Check { on_few: OnMissing::Fail, ..counted("rate", 10) });
    assert!(matches!(end, Some(End::Failed { limit: 3, .. })) && run.failed() == 3);
}

#[test]
fn a_value_whose_requests_cannot_be_counted_has_not_passed_and_where_nobody_counts_any_value_counts() {
    let plan = counting(&[counted("rate", 10)]);
    for (value, verdict) in [(0.0, Verdict::Error), (50.0, Verdict::Fail)] {
        let (mut run, mut world) = (exposed(&plan), World::new());
        world.requests = Some(Box::new(|_| Err("refused".to_owned())));
        world.reads("rate", value);
        world.look(&plan, &mut run, Mode::Moving, at(10));
        assert_eq!(run.checks[0].judged.verdict, verdict);
    }
    let plan = Rounds { min_samples: None, ..plan };
    let (mut run, mut world) = (exposed(&plan), World::new());
    world.look(&plan, &mut run, Mode::Moving, at(10));
    assert!(plan.may_raise(&run, at(10)) && world.counted.is_empty());
}

#[test]
fn several_series_hold_as_often_as_an_error_may_and_then_nobody_is_left_unmeasured() {
    let plan = plan(&[check("rate", 10)]);
    let (mut run, mut world) = (exposed(&plan), World::new());
    world.readings.insert("rate", Some(Reading::Several { reason: "the query gives 2 series".to_owned() }));
    for round in 1..4 {
        assert_eq!(world.look(&plan, &mut run, Mode::Moving, at(round * 10)), None);
        assert_eq!((run.checks[0].judged.verdict, run.failed()), (Verdict::Several, 0));
    }
    let end = world.look(&plan, &mut run, Mode::Moving, at(40));
    assert!(matches!(end, Some(End::HeldTooLong { limit: 4, .. })), "{end:?}");
}

#[test]
fn what_is_missing_passes_only_where_the_user_says_so() {
    for (on_no_data, passes) in [(OnMissing::Pass, true), (OnMissing::Hold, false)] {
        let plan = plan(&[Check { on_no_data, ..check("rate", 10) }]);
        let (mut run, mut world) = (exposed(&plan), World::new());
        world.empty("rate");
        world.look(&plan, &mut run, Mode::Moving, at(10));
        assert_eq!((plan.may_raise(&run, at(10)), run.checks[0].judged.verdict), (passes, Verdict::NoData));
    }
}
