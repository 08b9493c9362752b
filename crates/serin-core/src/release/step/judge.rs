//! What the rounds of checks say, whatever else a release is at: at a step, at a closed gate, paused, suspended, blocked.

use crate::analysis::{self, News, Reading, Verdict};
use crate::release::ask::Counter;
use crate::release::attempt::{Cause, End, Release, Stage};
use crate::release::questions::{self, OfRun, Open};
use crate::release::report::{Event, WaitingOn};
use crate::release::words;

use super::context::{Context, Next};
use super::{ending, persist};

/// Looks at the rounds; whenever users are exposed, they are open. `None` if nothing was judged.
pub(super) fn verdict(cx: &mut Context<'_>, release: &mut Release) -> Option<Next> {
    // Who leaves the analysis out is not told of it by the time in which primary is replaced.
    if release.is_exposed() && !release.watch.is_open() && !cx.policy.skip_analysis {
        release.watch.start(&cx.policy.watch, cx.now);
        cx.fresh_round = Some(release.watch.round);
    }
    let turn = {
        let answers = OfRun { release: &release.id, of: Counter::Watch, observed: cx.observed };
        let mode = questions::mode(cx.policy, cx.observed, release);
        cx.policy.watch.advance(release.watch.clone(), &answers, mode, cx.now)
    };
    if turn.run.round != release.watch.round {
        cx.fresh_round = Some(turn.run.round);
    }
    release.watch = turn.run;
    if let Some(wake) = turn.wake {
        cx.wake_at(wake);
    }
    for news in &turn.news {
        tell(cx, news);
    }
    match turn.end {
        Some(end) => conclude(cx, release, end),
        None if !turn.judged => return None,
        None => {}
    }
    Some(Next::Again)
}

fn tell(cx: &mut Context<'_>, news: &News) {
    match news {
        News::Check { check, reading, judged } => {
            let said = cx.policy.watch.checks.get(check).map(|check| (check, judged));
            if let Some((check, judged)) = said {
                cx.events.extend(words::halt(&cx.policy.names, check, reading, judged));
            }
        }
        News::Hook { name, reply } => {
            let message = format!("Halt {} advancement external check {name} failed {reply}", cx.target());
            cx.say(Event::warning(message));
        }
    }
}

fn conclude(cx: &mut Context<'_>, release: &mut Release, end: analysis::End) {
    let target = cx.target();
    match end {
        analysis::End::RolledBack { hook } => {
            cx.say(Event::warning(format!("Rollback check {hook} passed")));
            cx.say(Event::warning(format!("Rolling back {target} manual webhook invoked")));
            fail(cx, release, format!("the rollback hook {hook} asked for it"));
        }
        analysis::End::Failed { limit, failed } => {
            let what: Vec<String> = failed.iter().map(|news| describe(cx, news)).collect();
            threshold_reached(cx, release, limit, &what.join(", "));
        }
        analysis::End::HeldTooLong { limit, missing } => {
            cx.say(Event::warning(format!("Rolling back {target} held without data {limit} times")));
            let what = describe(cx, &missing);
            fail(cx, release, format!("{what} (held {limit} times)"));
        }
        analysis::End::Inconclusive { check, what } => {
            if !release.paused {
                cx.say(Event::warning(format!(
                    "Halt {target} advancement {check} is inconclusive ({what}): resume, promote or abort"
                )));
            }
            release.paused = true;
        }
        // Rounds go on for as long as users are exposed.
        analysis::End::Passed => {}
    }
}

/// Failed checks have reached their limit: verdict and rollback are one state.
pub(super) fn threshold_reached(cx: &mut Context<'_>, release: &mut Release, limit: u32, what: &str) {
    cx.say(Event::warning(format!("Rolling back {} failed checks threshold reached {limit}", cx.target())));
    let checks = if limit == 1 { "1 failed check".to_owned() } else { format!("{limit} failed checks") };
    fail(cx, release, format!("{what} ({checks})"));
}

/// While primary is being changed it gets its last good template back first.
pub(super) fn fail(cx: &Context<'_>, release: &mut Release, message: String) {
    let cause = Cause { message };
    match release.stage {
        Stage::Promoting { .. } => release.stage = Stage::Restoring { since: cx.now, cause },
        Stage::Confirming
        | Stage::ScalingUp { .. }
        | Stage::Preparing
        | Stage::Analysing
        | Stage::ConfirmingPromotion
        | Stage::Restoring { .. }
        | Stage::Ending { .. } => ending::begin(cx, release, End::Failed { cause }),
    }
}

fn describe(cx: &Context<'_>, news: &News) -> String {
    match news {
        News::Hook { name, reply } => format!("external check {name} failed: {reply}"),
        News::Check { check, reading, judged } => {
            let name = &judged.name;
            let why = judged.text.as_deref().unwrap_or_default();
            if judged.verdict == Verdict::Few {
                return format!("{name} has too few samples: {why}");
            }
            match (cx.policy.watch.checks.get(check), reading) {
                (Some(check), Reading::Value { value }) => words::failed_value(check, *value),
                (None, Reading::Value { value }) => format!("{name} {value}"),
                (_, Reading::List { .. } | Reading::Json { .. }) => format!("{name} {why}"),
                (_, Reading::NoData { .. }) => format!("{name} has no data: {why}"),
                (_, Reading::Error { .. } | Reading::Several { .. } | Reading::Misconfigured { .. }) => {
                    format!("{name} could not be measured: {why}")
                }
            }
        }
    }
}

/// What the rounds are at, where a release waits for them.
pub(super) fn show(cx: &mut Context<'_>, release: &Release) {
    let open = questions::of_watch(cx.policy, cx.observed, release, cx.now);
    let pending: Vec<&Open> = open.iter().filter(|open| open.is_pending(cx.observed, cx.now)).collect();
    let watch = &release.watch;
    if cx.now >= watch.due && !pending.is_empty() {
        cx.wait_for_answers(&pending);
        return;
    }
    match &watch.trouble {
        Some(analysis::Trouble::Policy { check, reason }) => {
            cx.wait_silently(WaitingOn::Misconfigured { reason: format!("{check}: {reason}") });
        }
        Some(analysis::Trouble::Data { check, reason }) => {
            let (check, reason, limit) = (check.clone(), reason.clone(), cx.policy.watch.hold_limit);
            cx.wait_silently(WaitingOn::Data { check, reason, held: watch.held, limit });
        }
        None => {
            cx.wait_silently(WaitingOn::Window { until: watch.due });
            if release.shown_since == Some(watch.opened) {
                persist::keep_foretold(cx, watch.due);
            }
        }
    }
}
