//! The comparison with primary, between the rounds: each look adds what was counted since the one before.

use jiff::Timestamp;

use crate::analysis::compare::{Comparing, Comparison, History, Noise};
use crate::release::attempt::Release;
use crate::release::policy::{Policy, PolicyStep};
use crate::release::questions;
use crate::release::report::Event;

use super::context::{Context, Next};
use super::judge;

/// Takes what is answered. `None` if nothing follows from it.
pub(super) fn verdict(cx: &mut Context<'_>, release: &mut Release) -> Option<Next> {
    let policy = cx.policy;
    let Some(plan) = policy.comparison.as_ref().filter(|_| !policy.skip_analysis) else {
        release.comparison = None;
        return None;
    };
    let mut run = release.comparison.take().unwrap_or_default();
    run.follow_clock(plan, cx.now);
    learn(cx, plan, &mut run, release);
    let is_compared = release.is_compared();
    if is_compared && run.due.is_none() {
        run.begin(plan, cx.now);
    }
    let fails = is_compared && look(cx, plan, &mut run, release);
    let was_off = run.notes.share.is_some();
    run.note(plan, &stages(policy));
    if let Some(why) = run.notes.share.as_ref().filter(|_| !was_off) {
        cx.say(Event::warning(format!("Traffic of {}: {why}", cx.target())));
    }
    let next = if fails { conclude(cx, plan, &mut run, release) } else { None };
    release.comparison = Some(run);
    next
}

/// Primary's past: asked once, and a guess where nobody answers.
fn learn(cx: &mut Context<'_>, plan: &Comparison, run: &mut Comparing, release: &Release) {
    if run.history.is_some() {
        return;
    }
    let unknown = || History { noise: Noise::guess(), rate: 0.0, failed: 0.0 };
    run.history = match cx.observed.answers.history(&release.id) {
        Some(Ok(history)) => Some(history.kept()),
        Some(Err(why)) => {
            run.trouble = Some(format!("primary's history cannot be read: {why}"));
            Some(unknown())
        }
        None => {
            let until = questions::of_past(plan, cx.observed, release, cx.now).until;
            cx.wake_at(until);
            (cx.now >= until).then(unknown)
        }
    };
}

/// Takes the open look; whether what was seen so far suffices.
fn look(cx: &mut Context<'_>, plan: &Comparison, run: &mut Comparing, release: &Release) -> bool {
    let Some(due) = run.due.filter(|_| run.history.is_some()) else { return false };
    if cx.now < due {
        cx.wake_at(due);
        return false;
    }
    let Some(open) = questions::of_look(plan, run, cx.observed, release, cx.now) else { return false };
    let fails = match open.looked(cx.observed, cx.now) {
        questions::Reply::Pending => {
            cx.wake_at(open.until);
            return false;
        }
        questions::Reply::Late => {
            run.miss(plan, questions::NO_ANSWER.to_owned(), cx.now);
            false
        }
        questions::Reply::Here(Err(why)) => {
            run.miss(plan, why.clone(), cx.now);
            false
        }
        questions::Reply::Here(Ok(looked)) => run.take(plan, looked.clone(), wanted(release), cx.now),
    };
    run.due.into_iter().for_each(|due| cx.wake_at(due));
    fails
}

fn conclude(cx: &mut Context<'_>, plan: &Comparison, run: &mut Comparing, release: &mut Release) -> Option<Next> {
    let (target, what) = (cx.target(), run.words(plan));
    match run.only_advises(plan) {
        Some(why) => {
            if !std::mem::replace(&mut run.told, true) {
                cx.say(Event::warning(format!(
                    "Comparison with primary would roll back {target} now: {what}. It only advises: {why}"
                )));
            }
            None
        }
        None => {
            cx.say(Event::warning(format!("Rolling back {target} comparison with primary: {what}")));
            judge::fail(cx, release, format!("it fails more than primary does: {what}"));
            Some(Next::Again)
        }
    }
}

/// The candidate's share of all requests, and since when the router has shown it; `None` where requests are treated apart.
fn wanted(release: &Release) -> Option<(f64, Timestamp)> {
    let share = f64::from(release.routing.base.candidate()) / 100.0;
    let is_plain = release.routing.rules.is_empty() && share > 0.0 && share < 1.0;
    Some((share, release.shown_since?)).filter(|_| is_plain)
}

/// Seconds at each share of the candidate, if every round passes.
fn stages(policy: &Policy) -> Vec<(f64, f64)> {
    let (mut all, mut share) = (Vec::new(), 0.0);
    for step in &policy.steps {
        match step {
            PolicyStep::Route(routing) => share = f64::from(routing.base.candidate()) / 100.0,
            PolicyStep::Analyse => all.push((policy.interval.as_secs_f64(), share)),
            PolicyStep::Pause(Some(pause)) => all.push((pause.as_secs_f64(), share)),
            PolicyStep::Pause(None) | PolicyStep::Gate | PolicyStep::Size(_) => {}
        }
    }
    all.retain(|(_, share)| *share > 0.0 && *share < 1.0);
    all
}
