//! Policies: plain ones for stories, and random ones that use everything a policy can say.

use std::collections::BTreeMap;
use std::time::Duration;

use serin_core::analysis::{Condition, Expression, Predicate, Reading};
use serin_core::model::{NamespacedName, Routing, Rule, Split};
use serin_core::release::{
    Check, CheckSource, CookieShape, Hook, HookKind, OnMissing, Policy, PolicyStep, Promotion, Range, Stickiness,
};

use super::dice::Dice;
use super::world::plain_policy;

/// What a check demands at least; below it fails.
pub(crate) const GOOD: f64 = 99.0;
/// Names of checks in random policies.
pub(crate) const CHECKS: [&str; 3] = ["rate", "cost", "depth"];
/// The gates.
pub(crate) const GATES: [HookKind; 4] =
    [HookKind::ConfirmRollout, HookKind::PreRollout, HookKind::ConfirmTrafficIncrease, HookKind::ConfirmPromotion];

pub(crate) fn check(name: &str) -> Check {
    Check {
        name: name.to_owned(),
        source: CheckSource::Template { template: NamespacedName::new("test", name), variables: BTreeMap::new() },
        condition: Condition::Range(Range { min: Some(GOOD), max: None }),
        window: Duration::from_secs(30),
        own_window: false,
        patience: Duration::from_secs(30),
        on_no_data: OnMissing::Hold,
        on_error: OnMissing::Fail,
        min_samples: 0,
        on_few: OnMissing::Hold,
    }
}

pub(crate) fn hook(kind: HookKind) -> Hook {
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

/// Rounds have their own hooks.
pub(crate) fn add_hook(policy: &mut Policy, hook: Hook) {
    match hook.kind {
        HookKind::Rollout | HookKind::Rollback => policy.watch.hooks.push(hook),
        _ => policy.hooks.push(hook),
    }
}

/// An expression whose evaluator knows one thing: whether a number is at least so much.
#[derive(Debug)]
struct AtLeast(f64);

impl Predicate for AtLeast {
    fn text(&self) -> &str {
        "result >= limit"
    }

    fn holds(&self, sample: &Reading) -> Result<bool, String> {
        match sample {
            Reading::Value { value } => Ok(*value >= self.0),
            other => Err(format!("{other:?} is no number")),
        }
    }
}

/// Anything that a policy can say.
pub(crate) fn random(dice: &mut Dice) -> Policy {
    let mut policy = plain_policy();
    policy.interval = seconds(dice, &[10, 20, 60]);
    policy.progress_deadline = seconds(dice, &[60, 120, 600]);
    policy.skip_analysis = dice.one_in(12);
    policy.promotion = if dice.one_in(5) { Promotion::SwitchStable } else { Promotion::CopyToPrimary };
    policy.drain = seconds(dice, &[0, 5, 30]);
    policy.settle = seconds(dice, &[0, 2, 10]);
    policy.iterations = dice.one_in(5).then_some(3);
    policy.steps = steps(dice);
    policy.way_back = match dice.within(0, 4) {
        0 => vec![Routing::candidate_percent(60), Routing::candidate_percent(20)],
        1 => vec![Routing::candidate_percent(5)],
        _ => Vec::new(),
    };
    policy.stickiness = dice.one_in(4).then(|| stickiness(dice.one_in(2)));
    watch(dice, &mut policy);
    for kind in GATES.into_iter().chain([HookKind::PostRollout]) {
        if dice.one_in(3) {
            add_hook(&mut policy, hook(kind));
            if dice.one_in(4) {
                add_hook(&mut policy, Hook { url: format!("http://test/{}-2", kind.as_str()), ..hook(kind) });
            }
        }
    }
    policy
}

fn seconds(dice: &mut Dice, all: &[u64]) -> Duration {
    Duration::from_secs(dice.pick(all))
}

fn stickiness(both: bool) -> Stickiness {
    let shape = |name: &str| CookieShape { name: name.to_owned(), max_age: 60, attributes: String::new() };
    Stickiness { candidate: shape("canary"), stable: both.then(|| shape("primary")) }
}

/// The rounds: their pace, their patience, and what they ask.
pub(crate) fn watch(dice: &mut Dice, policy: &mut Policy) {
    let watch = &mut policy.watch;
    watch.interval = seconds(dice, &[10, 20, 60]);
    watch.threshold = u32::try_from(dice.within(1, 5)).unwrap_or(1);
    watch.hold_limit = u32::try_from(dice.within(1, 6)).unwrap_or(1);
    watch.min_samples = dice.one_in(4).then_some(10);
    let count = usize::try_from(dice.within(0, 4)).unwrap_or_default();
    let checks = CHECKS.iter().take(count).map(|name| random_check(dice, name));
    watch.checks = checks.collect();
    watch.hooks =
        [HookKind::Rollout, HookKind::Rollback].into_iter().filter(|_| dice.one_in(3)).map(hook).collect();
}

fn random_check(dice: &mut Dice, name: &str) -> Check {
    let missing = [OnMissing::Hold, OnMissing::Fail];
    let expression = || Some(Expression::new(AtLeast(GOOD)));
    let condition = match dice.within(0, 4) {
        0 => Condition::Expressions { success: expression(), failure: None },
        1 => Condition::Always,
        _ => Condition::Range(Range { min: Some(GOOD), max: None }),
    };
    let check = Check {
        condition,
        window: seconds(dice, &[5, 10, 30, 60, 90]),
        own_window: dice.one_in(5),
        patience: seconds(dice, &[10, 30]),
        on_no_data: dice.pick(&missing),
        on_error: dice.pick(&missing),
        ..check(name)
    };
    // Two windows in five are of the candidate's requests.
    let counts = [5, 60].contains(&check.window.as_secs());
    Check { min_samples: if counts { 10 } else { 0 }, on_few: check.on_no_data, ..check }
}

/// Shares of all, copies, users with a header and a third backend; in between rounds, pauses and gates.
pub(crate) fn steps(dice: &mut Dice) -> Vec<PolicyStep> {
    let mut steps = Vec::new();
    let mut share = 0;
    if dice.one_in(4) {
        steps.push(PolicyStep::Route(special(dice)));
        between(dice, &mut steps);
    }
    for _ in 0..dice.within(0, 4) {
        // Mostly up; a policy may go down as well.
        share = if dice.one_in(8) { dice.pick(&[5, 10, 20]) } else { (share + dice.within(5, 60)).min(100) };
        let percent = u8::try_from(share).unwrap_or(100);
        let split = Split::candidate_percent(percent);
        let split = if dice.one_in(8) { split.with_extra("experiment", 5) } else { split };
        steps.push(PolicyStep::Route(Routing::all(split)));
        between(dice, &mut steps);
    }
    steps
}

fn special(dice: &mut Dice) -> Routing {
    match dice.within(0, 3) {
        0 => Routing::all(Split::default().mirrored(dice.pick(&[10, 100]))),
        1 => Routing::all(Split::default().with_extra("experiment", 5)),
        _ => {
            let when = vec![serde_json::json!({"headers": {"x-canary": {"exact": "insider"}}})];
            let split = Split::candidate_percent(dice.pick(&[50, 100]));
            Routing { rules: vec![Rule { name: "insiders".into(), when, split }], ..Routing::default() }
        }
    }
}

fn between(dice: &mut Dice, steps: &mut Vec<PolicyStep>) {
    let pause = PolicyStep::Pause(Some(seconds(dice, &[5, 40, 300])));
    let kinds = [(8, PolicyStep::Analyse), (2, pause), (1, PolicyStep::Pause(None)), (1, PolicyStep::Gate)];
    for _ in 0..dice.within(0, 3) {
        steps.push(dice.weighed(&kinds));
    }
}
