//! The decision: what happens next.
//!
//! A step runs the current phase again and again until nothing changes any more; only the actions of the last pass
//! count. So a verdict, the rollback it causes and the new weights are one step and one state, and calling `step` again
//! with the same observation changes nothing and says nothing new.

mod analyse;
mod capacity;
mod commands;
mod compare;
mod context;
mod deletion;
mod edit;
mod ending;
mod finish;
mod freeze;
mod gates;
mod git;
mod idle;
mod init;
mod judge;
mod mend;
mod obstacle;
mod past;
mod persist;
mod pilot;
mod pods;
mod post;
mod prepare;
mod promote;
mod refused;
mod retarget;
mod route;
mod size;
mod supersede;
mod take_up;
mod way_back;

use jiff::Timestamp;

use crate::model::{NamespacedName, told};

use super::action::Action;
use super::observed::{Observed, Request};
use super::policy::Policy;
use super::report::{Event, Report};
use super::state::{Phase, State, StepProgress};
use context::{Context, Next};

pub use persist::Persist;
pub use retarget::retarget;
pub use take_up::{Led, take_up};

/// Most passes of one step. The longest real chain (verdict, end, idle, next release) needs fewer than ten.
const PASSES_MAX: usize = 32;

/// What a step decided.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// The new state.
    pub state: State,
    /// When it is written, if it differs from the old one.
    pub persist: Persist,
    /// What to do; repeated by the next step until its effect is observed.
    pub actions: Vec<Action>,
    /// What to tell people.
    pub report: Report,
    /// When to look again even if nothing wakes us; `None` means only when something changes.
    pub wake: Option<Timestamp>,
}

/// Decides what happens next. Never waits: an answer that is pending is simply not there yet.
pub fn step(policy: &Policy, observed: &Observed, mut state: State, now: Timestamp) -> Step {
    let observed = &observed.clone().told();
    let before = state.clone();
    let mut cx = Context::new(policy, observed, &state, now);
    past::settle(&mut state, now);
    finish::prune_outbox(&mut state, observed);
    git::tell(&mut cx, &mut state);
    finish::replaced(&mut cx, &mut state);
    post::hear(&mut cx, &mut state);
    commands::handle(&mut cx, &mut state);
    freeze::note(&cx, &mut state);
    init::remember(&cx, &mut state);
    // An admission holds for what is seen now and no longer.
    state.admitted = None;
    run(&mut cx, &mut state);
    if !policy.suspended || observed.deleting.is_some() {
        init::admit_repair(&mut cx, &mut state);
        mend::primary(&mut cx, &state);
        admit_same_template(&cx, &mut state);
    }
    size::sides(&mut cx, &state);
    capacity::keep_hold(&mut cx, &state);
    obstacle::tell(&mut cx, &mut state);
    post::wake(&mut cx, &state);
    conclude(cx, &before, state)
}

/// All that can be done for a target whose Canary says nothing that could be carried out, now or earlier: people are told
/// why, and requests get an answer.
pub fn refuse(
    canary: &NamespacedName,
    request: Option<&Request>,
    mut state: State,
    reason: &str,
    now: Timestamp,
) -> State {
    let (name, reason) = (format!("{}.{}", canary.name, canary.namespace), told(reason));
    if state.obstacle.as_ref() != Some(&reason) {
        state.announce(Event::warning(format!("{name} is blocked: {reason}")), now);
        state.obstacle = Some(reason.clone());
    }
    if let Some(request) = request.cloned().map(Request::told)
        && commands::take(&mut state, &request)
    {
        state.announce(commands::refusal(&name, &request, &reason), now);
    }
    state
}

fn run(cx: &mut Context<'_>, state: &mut State) {
    for _ in 0..PASSES_MAX {
        cx.start_pass();
        deletion::begin(cx, state);
        let is_suspended = cx.policy.suspended && cx.observed.deleting.is_none();
        if is_suspended && !matches!(state.phase, Phase::Releasing(_)) {
            cx.suspend();
            break;
        }
        let next = match &mut state.phase {
            Phase::Initializing { since, ready, routed, providers, remembered } => {
                let remembered = remembered.as_ref();
                init::advance(cx, *since, init::Progress { ready, routed, providers, remembered })
            }
            Phase::Idle { last, .. } => {
                let last = *last;
                idle::advance(cx, state, last)
            }
            Phase::Releasing(release) => pilot::advance(cx, release),
            Phase::HandingBack(back) => deletion::advance(cx, back),
        };
        match next {
            Next::Rest => break,
            Next::Again => {}
            Next::Initialized(digest) => finish::initialized(cx, state, digest),
            Next::Finished(end) => finish::release(cx, state, end),
        }
    }
}

/// A pending revision with the template that the target has already only brings a new stamp: it may always be written.
fn admit_same_template(cx: &Context<'_>, state: &mut State) {
    let (Some(pending), Some(target)) = (&cx.observed.pending, &cx.observed.target) else { return };
    if pending.digest == target.digest {
        state.admitted = Some(pending.clone());
    }
}

/// Notes how far the release is; an iteration that has begun is said.
fn tell_iteration(cx: &mut Context<'_>, state: &mut State) {
    let before = state.progress.map_or(0, |progress| progress.iterations);
    let progress = state.release().and_then(|release| {
        let progress = cx.policy.progress(release.step)?;
        Some(StepProgress { iterations: release.stage.iterations(progress.iterations, before), ..progress })
    });
    state.progress = progress;
    let (Some(StepProgress { iterations, .. }), Some(of)) = (progress, cx.policy.iterations) else { return };
    if iterations > before && iterations <= of {
        cx.say(Event::normal(format!("Advance {} canary iteration {iterations}/{of}", cx.target())));
    }
}

fn conclude(mut cx: Context<'_>, before: &State, mut state: State) -> Step {
    tell_iteration(&mut cx, &mut state);
    state.cookie.clone_from(&cx.cookie);
    state.held_minimum = cx.held;
    let Context { now, events, actions, waiting, told, quiet, wake, .. } = cx;
    for event in &events {
        state.announce(event.clone(), now);
    }
    if !quiet {
        state.waiting_on = told.or_else(|| waiting.clone());
    }
    state.shed();
    let persist = Persist::of(before, &state);
    Step { state, persist, actions, report: Report { events, waiting_on: waiting }, wake }
}
