//! When a new state is written.

use std::time::Duration;

use jiff::Timestamp;

use crate::model::{after, between};
use crate::release::attempt::{Release, Stage, StepClock};
use crate::release::report::WaitingOn;
use crate::release::state::{Phase, State};

use super::context::Context;

/// What is over within this time is not worth a status write that says that it is waited for.
pub(super) const BRIEF: Duration = Duration::from_secs(10);

/// When a new state has to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persist {
    /// Before the actions are carried out and anybody is asked anything.
    Now,
    /// With the next state that has to be: all that it knows is found again by whoever looks after a crash, and so is what is
    /// done and asked meanwhile.
    Later,
}

impl Persist {
    pub(super) fn of(before: &State, after: &State) -> Self {
        if before == after || lasting(before) == lasting(after) { Self::Later } else { Self::Now }
    }
}

/// A state without what is found again: that the router shows what was meant, that a side is ready, how many pods there are, that
/// the pre-rollout hooks are asked, and the times that are counted from there. A wait that begins anew after a crash is longer,
/// never shorter.
fn lasting(state: &State) -> State {
    let mut state = state.clone();
    if let Phase::Releasing(release) = &mut state.phase {
        forget(release);
    }
    state
}

fn forget(release: &mut Release) {
    let never = Timestamp::UNIX_EPOCH;
    release.shown_since = None;
    // Looks count again what was not written, from the same samples.
    release.comparison = None;
    release.clock = StepClock::new(never);
    (release.ready_since, release.primary_ready_since, release.serving) = (None, None, 0);
    match &mut release.stage {
        Stage::Ending { zero_since, .. } => *zero_since = None,
        Stage::ScalingUp { .. } | Stage::Preparing => release.stage = Stage::ScalingUp { since: never },
        Stage::Confirming
        | Stage::Analysing
        | Stage::ConfirmingPromotion
        | Stage::Promoting { .. }
        | Stage::Restoring { .. } => {}
    }
    release.progress = None;
    (release.step, release.awaited) = (0, 0);
    // What autoscalers ask for is seen again; what follows from it is the demand.
    (release.sized, release.primary_asked) = (0, 0);
    let watch = &mut release.watch;
    watch.since = watch.since.map(|_| never);
    (watch.opened, watch.due) = (never, never);
}

/// A wait that is over soon: the status goes on saying what was waited for before.
pub(super) fn pass_over(cx: &mut Context<'_>, until: Timestamp) {
    if until <= after(cx.now, BRIEF) {
        cx.told.clone_from(&cx.before);
    }
}

/// The router was told where to send users and is about to show it; what is waited for then is said at once. Later than `late`
/// the router is what is waited for.
pub(super) fn foretell(cx: &mut Context<'_>, then: WaitingOn, late: Timestamp) {
    let is_quick = matches!(&cx.waiting, Some(WaitingOn::Route { reason: None, .. }));
    let is_told = cx.before == cx.waiting;
    if is_quick && !is_told && cx.now < late {
        cx.wake_at(late);
        cx.told = Some(then);
    }
}

/// When a router is late that was told something at this time.
pub(super) fn late(meant: Timestamp) -> Timestamp {
    after(meant, BRIEF)
}

/// The end that was foretold is near enough to this one.
pub(super) fn keep_foretold(cx: &mut Context<'_>, until: Timestamp) {
    let Some(said) = foretold(cx) else { return };
    if said <= until && between(said, until) <= BRIEF {
        cx.told.clone_from(&cx.before);
    }
}

/// The end of a wait like this one, as it was told before.
fn foretold(cx: &Context<'_>) -> Option<Timestamp> {
    match (&cx.before, &cx.waiting) {
        (Some(WaitingOn::Window { until }), Some(WaitingOn::Window { .. }))
        | (Some(WaitingOn::Drain { until }), Some(WaitingOn::Drain { .. })) => Some(*until),
        _ => None,
    }
}
