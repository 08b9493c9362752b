//! What was noted in the future cannot have been.
//!
//! Deadlines count from points of the wall clock, which is set back, or differs on the machine that takes over. A point
//! that lies ahead of now would hold a release until the clock comes by again; so it is now, and a window that lies further
//! away than its own length is opened anew.

use jiff::Timestamp;

use crate::release::attempt::{Progress, Release, Stage};
use crate::release::outcome::PostRollout;
use crate::release::state::{HandBack, Phase, State};

/// Moves every point from which something counts into the past. No `..` here: a new point must be thought of.
pub(super) fn settle(state: &mut State, now: Timestamp) {
    match &mut state.phase {
        Phase::Initializing { since, ready, routed, providers: _, remembered: _ } => {
            past([Some(since), ready.as_mut(), routed.as_mut()], now);
        }
        Phase::Idle { last: _, since } => past([Some(since)], now),
        Phase::Releasing(release) => of_release(release, now),
        Phase::HandingBack(HandBack { since, rested, ready, led, left }) => {
            past([Some(since), rested.as_mut(), ready.as_mut(), led.as_mut(), left.as_mut()], now);
        }
    }
    past([state.missing_since.as_mut()], now);
    if let Some(PostRollout { release: _, kind: _, since }) = &mut state.post_rollout {
        past([Some(since)], now);
    }
}

fn of_release(release: &mut Release, now: Timestamp) {
    let Release {
        id: _,
        revision: _,
        started: _,
        stage,
        step: _,
        plan: _,
        recheck: _,
        clock,
        // The rounds see to their own windows, the comparison to its looks.
        watch: _,
        comparison: _,
        awaited: _,
        routing: _,
        shown_since,
        first_traffic,
        ready_since,
        primary_ready_since,
        unready_since,
        demand: _,
        floor: _,
        primary_asked: _,
        sized: _,
        short_since,
        progress,
        paused: _,
        frozen: _,
        skip: _,
        refused: _,
        overrode: _,
        size: _,
        serving: _,
    } = release;
    clock.settle(now);
    past([shown_since.as_mut(), first_traffic.as_mut()], now);
    past([ready_since.as_mut(), unready_since.as_mut(), short_since.as_mut()], now);
    past([primary_ready_since.as_mut()], now);
    if let Some(Progress { available: _, at }) = progress {
        past([Some(at)], now);
    }
    match stage {
        Stage::ScalingUp { since } | Stage::Restoring { since, cause: _ } => past([Some(since)], now),
        Stage::Promoting { since, relieved } => past([Some(since), relieved.as_mut()], now),
        Stage::Ending { end: _, zero_since, scaling_down: _ } => past([zero_since.as_mut()], now),
        Stage::Confirming | Stage::Preparing | Stage::Analysing | Stage::ConfirmingPromotion => {}
    }
}

fn past<const N: usize>(points: [Option<&mut Timestamp>; N], now: Timestamp) {
    for point in points.into_iter().flatten() {
        *point = now.min(*point);
    }
}
