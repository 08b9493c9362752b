//! A newer revision, or a change by hand, during a release.

use std::time::Duration;

use jiff::Timestamp;

use crate::model::after;
use crate::release::attempt::{Cause, End, Release, Stage};
use crate::release::observed::WorkloadObserved;
use crate::release::policy::Sizing;
use crate::release::report::{Event, WaitingOn};

use super::context::{Context, Next, drifted};
use super::ending;
use super::route::steer;

/// Before promotion: what is no longer wanted loses its traffic in this very step. `None` if nothing has changed.
pub(super) fn check(cx: &mut Context<'_>, release: &mut Release) -> Option<Next> {
    let target = cx.observed.target.as_ref()?;
    let wanted = &release.revision.digest;
    if cx.observed.pending.as_ref().is_some_and(|pending| pending.digest != *wanted) {
        return Some(begin(cx, release));
    }
    if target.digest == *wanted {
        return None;
    }
    if drifted(target) {
        return Some(restart(cx, release, target));
    }
    Some(begin(cx, release))
}

/// During promotion the release is finished first; only a canary that was changed by hand is no longer trusted, and
/// cannot be copied any more.
pub(super) fn in_promotion(cx: &mut Context<'_>, release: &mut Release) -> Option<Next> {
    let target = cx.observed.target.as_ref()?;
    let copied = cx.observed.primary.as_ref().is_some_and(|primary| primary.digest == release.revision.digest);
    if copied || target.digest == release.revision.digest {
        return None;
    }
    Some(begin(cx, release))
}

fn begin(cx: &mut Context<'_>, release: &mut Release) -> Next {
    let target = cx.target();
    let withdrawn = cx.wanted().is_some_and(|wanted| cx.is_promoted(&wanted.digest));
    cx.say(Event::normal(if withdrawn {
        format!("{target} goes back to the promoted revision, withdrawing release {}", release.id)
    } else {
        format!("New revision detected! Restarting analysis for {target}")
    }));
    ending::begin(cx, release, End::Superseded);
    Next::Again
}

/// Somebody changed a target that `sync` writes: the analysis starts again when it has been put right.
fn restart(cx: &mut Context<'_>, release: &mut Release, target: &WorkloadObserved) -> Next {
    let is_at_start = release.step == 0 && release.routing == cx.at_rest();
    match release.stage {
        // Its steps give it its pods: it waits before the first.
        Stage::Analysing if cx.policy.sizing != Sizing::Ahead && is_at_start => {
            await_correction(cx, release, release.clock.opened)
        }
        Stage::Confirming => {
            steer(cx, &cx.at_rest());
            cx.wait_silently(WaitingOn::Drift);
            Next::Rest
        }
        Stage::ScalingUp { since } => await_correction(cx, release, since),
        Stage::Preparing
        | Stage::Analysing
        | Stage::ConfirmingPromotion
        | Stage::Promoting { .. }
        | Stage::Restoring { .. }
        | Stage::Ending { .. } => {
            cx.say(Event::warning(format!(
                "{} was changed in the cluster to {}, restarting analysis when it is as Git says",
                cx.target(),
                target.digest.short()
            )));
            release.stage = match cx.policy.sizing {
                Sizing::Ahead => Stage::ScalingUp { since: cx.now },
                Sizing::ByShare | Sizing::Pods(_) => Stage::Analysing,
            };
            (release.step, release.recheck) = (0, false);
            release.clock.reopen(cx.now, Duration::ZERO);
            release.aim(cx.at_rest());
            (release.ready_since, release.unready_since) = (None, None);
            Next::Again
        }
    }
}

fn await_correction(cx: &mut Context<'_>, release: &mut Release, since: Timestamp) -> Next {
    steer(cx, &cx.at_rest());
    let deadline = after(since, cx.policy.progress_deadline);
    if cx.now >= deadline {
        let message = format!("{} was changed in the cluster and not put right in time", cx.target());
        cx.say(Event::warning(format!("Rolling back {} progress deadline exceeded {message}", cx.target())));
        ending::begin(cx, release, End::Failed { cause: Cause { message } });
        return Next::Again;
    }
    cx.wake_at(deadline);
    cx.wait_silently(WaitingOn::Drift);
    Next::Rest
}
