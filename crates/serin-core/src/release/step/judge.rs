//! The verdict of a tick. All checks are evaluated and recorded; a tick is judged once.

use crate::analysis::{Check, HookKind, Key, Measurement, OnMissing, Reading, Verdict, judge};
use crate::release::ask::Question;
use crate::release::attempt::{CheckCount, CheckResult, Release, Stage};
use crate::release::policy::PolicyStep;
use crate::release::questions::{self, Called, METRIC_ANSWER_MAX, Reply};
use crate::release::report::{Event, WaitingOn};
use crate::release::words;

use super::analyse::{after_gates, next_step};
use super::context::{Context, Next};
use super::{ending, gates};

/// What the answers of one tick amount to.
#[derive(Debug, Default)]
struct Tally {
    /// Failures that count towards the shared threshold, in words.
    failed: Vec<String>,
    /// Failures that count towards a check's own limit, in words.
    failed_own: Vec<String>,
    /// A check's own limit that was reached, with what failed.
    own_limit: Option<(u32, String)>,
    /// A check without a value, and why.
    held: Option<(String, String)>,
    /// A gate that did not open, and what it said.
    closed: Option<(String, String)>,
    /// Gates that opened.
    opened: Vec<String>,
}

/// Judges the open tick once everything is answered or late. `None` if there is nothing to judge yet.
pub(super) fn verdict(cx: &mut Context<'_>, release: &mut Release) -> Option<Next> {
    if !is_judged_here(cx, release) || cx.now < release.due {
        return None;
    }
    let open = questions::of_release(cx.policy, cx.observed, release, cx.now);
    if open.iter().any(|open| open.is_pending(cx.observed, cx.now)) {
        return None;
    }
    if let Some(next) = gates::roll_back(cx, release, &open) {
        return Some(next);
    }
    let mut tally = Tally::default();
    for open in &open {
        if let (Question::Metric { key, .. }, Some((check, reply))) =
            (&open.question, open.measured(cx.observed, cx.now))
        {
            weigh(cx, release, (&key.check, check), &reading(reply), &mut tally);
        }
        if let Some(called) = open.called(cx.observed, cx.now) {
            count_hook(cx, &called, &mut tally);
        }
    }
    Some(conclude(cx, release, tally))
}

fn is_judged_here(cx: &Context<'_>, release: &Release) -> bool {
    if release.paused || cx.observed.blocked.is_some() {
        return false;
    }
    match release.stage {
        Stage::ConfirmingPromotion => true,
        Stage::Analysing => {
            release.follows(cx.policy)
                && release.current(cx.policy) == Some(&PolicyStep::Analyse)
                && questions::window_is_open(cx.observed, release)
        }
        Stage::Confirming
        | Stage::ScalingUp { .. }
        | Stage::Preparing
        | Stage::Promoting { .. }
        | Stage::Restoring { .. }
        | Stage::Ending { .. } => false,
    }
}

fn reading(reply: Reply<'_, Measurement>) -> Reading {
    match reply {
        Reply::Here(Measurement { reading, .. }) => reading.clone(),
        Reply::Late | Reply::Pending => {
            Reading::Error { reason: format!("no answer within {}s", METRIC_ANSWER_MAX.as_secs()) }
        }
    }
}

fn weigh(
    cx: &mut Context<'_>,
    release: &mut Release,
    (key, check): (&Key, &Check),
    reading: &Reading,
    tally: &mut Tally,
) {
    let verdict = judge(reading, check.range);
    record(release, key, check, reading, verdict);
    if let Some(event) = words::halt(&cx.policy.names, check, reading, verdict) {
        cx.say(event);
    }
    let policy = match verdict {
        Verdict::Pass => {
            count(release, key, 0);
            return;
        }
        Verdict::Fail => OnMissing::Fail,
        Verdict::NoData => check.on_no_data,
        Verdict::Error => check.on_error,
        Verdict::Inconclusive => OnMissing::Hold,
    };
    let what = describe(check, reading);
    match (policy, check.failure_limit) {
        (OnMissing::Hold, _) => {
            tally.held.get_or_insert((check.name.clone(), what));
        }
        (OnMissing::Fail, None) => {
            count(release, key, 1);
            tally.failed.push(what);
        }
        (OnMissing::Fail, Some(limit)) => {
            if count(release, key, 1) >= limit {
                tally.own_limit.get_or_insert((limit, what.clone()));
            }
            tally.failed_own.push(what);
        }
    }
}

fn describe(check: &Check, reading: &Reading) -> String {
    match reading {
        Reading::Value { value } => words::failed_value(check, *value),
        Reading::NoData { reason } => format!("{} has no data: {reason}", check.name),
        Reading::Error { reason } => format!("{} could not be measured: {reason}", check.name),
    }
}

fn record(release: &mut Release, key: &Key, check: &Check, reading: &Reading, verdict: Verdict) {
    let value = match reading {
        Reading::Value { value } if value.is_finite() => Some(*value),
        Reading::Value { .. } | Reading::NoData { .. } | Reading::Error { .. } => None,
    };
    let result = CheckResult { name: check.name.clone(), verdict, value, limit: check.range.to_string() };
    let known = release.counts.iter().position(|count| count.check == *key);
    match known.and_then(|index| release.checks.get_mut(index)) {
        Some(known) => *known = result,
        None => {
            release.checks.push(result);
            release.counts.push(CheckCount { check: key.clone(), failures: 0, judged: None });
        }
    }
}

/// Remembers that the check passed or failed in this tick; its failures so far.
fn count(release: &mut Release, key: &Key, failures: u32) -> u32 {
    let judged = release.due;
    let Some(known) = release.counts.iter_mut().find(|known| known.check == *key) else { return failures };
    known.failures += failures;
    known.judged = Some(judged);
    known.failures
}

fn count_hook(cx: &mut Context<'_>, called: &Called<'_>, tally: &mut Tally) {
    let name = called.hook.name.clone();
    match (called.hook.kind, gates::said(called)) {
        (HookKind::ConfirmPromotion, Some(Ok(()))) => tally.opened.push(name),
        (HookKind::ConfirmPromotion, Some(Err(body))) => tally.closed = Some((name, body)),
        (HookKind::Rollout, Some(Err(body))) => {
            let message = format!("Halt {} advancement external check {name} failed {body}", cx.target());
            cx.say(Event::warning(message));
            tally.failed.push(format!("external check {name} failed: {body}"));
        }
        (_, Some(Ok(()) | Err(_)) | None) => {}
    }
}

fn conclude(cx: &mut Context<'_>, release: &mut Release, tally: Tally) -> Next {
    let Tally { failed, failed_own, own_limit, held, closed, opened } = tally;
    release.held = if held.is_some() { release.held + 1 } else { 0 };
    if let Some((limit, what)) = own_limit {
        return ending::threshold_reached(cx, release, limit, &what);
    }
    if !failed.is_empty() {
        release.failed_checks += 1;
        if release.failed_checks >= cx.policy.threshold {
            return ending::threshold_reached(cx, release, cx.policy.threshold, &failed.join(", "));
        }
    }
    if let Some((check, reason)) = held {
        if release.held >= cx.policy.hold_limit {
            return ending::held_too_long(cx, release, &reason);
        }
        let limit = cx.policy.hold_limit;
        cx.before = Some(WaitingOn::Data { check, reason, held: release.held, limit });
        gates::reopen(cx, release);
        return Next::Again;
    }
    if !failed.is_empty() || !failed_own.is_empty() {
        gates::reopen(cx, release);
        return Next::Again;
    }
    if let Some((name, reason)) = closed {
        return gates::closed(cx, release, name, reason, "waiting for promotion approval");
    }
    if release.stage == Stage::ConfirmingPromotion {
        for name in opened {
            cx.say(Event::normal(format!("Confirm-promotion check {name} passed")));
        }
        return after_gates(cx, release);
    }
    next_step(cx, release)
}
