//! The steps of a policy were edited while a release walks them: what users see stays, and the release goes on from there.

use crate::model::Routing;
use crate::release::attempt::Release;
use crate::release::policy::{PolicyStep, Size};
use crate::release::report::Event;

use super::analyse;
use super::context::{Context, Next};

/// Where a release goes on.
enum From {
    /// The step that leads to what is shown, or, where nothing exposes as much, to less.
    Step(usize),
    /// This step exposes more, or leads to promotion without exposing anybody: a fresh round at what is shown comes first.
    Above(usize),
    /// The beginning: there is nothing to keep, or a gate on the way to it.
    Start,
}

/// Takes up the new steps. The next one is the first that exposes at least as much as is shown now; where none does, traffic
/// is lowered to the last.
pub(super) fn follow(cx: &mut Context<'_>, release: &mut Release) -> Next {
    cx.say(Event::normal(format!("Analysis of {} was changed, going on with the new steps", cx.target())));
    release.plan = Some(cx.policy.plan());
    release.recheck = false;
    release.size = Size::Share;
    let step = match from(cx, release) {
        From::Step(step) => step,
        From::Above(step) => {
            release.recheck = true;
            step
        }
        From::Start => {
            release.aim(cx.at_rest());
            0
        }
    };
    release.step = u32::try_from(step).unwrap_or(0);
    analyse::open_step(cx.policy, release, cx.now);
    Next::Again
}

fn from(cx: &Context<'_>, release: &Release) -> From {
    let shown = &release.routing;
    let steps = &cx.policy.steps;
    if !shown.exposes() {
        return From::Start;
    }
    let routes: Vec<(usize, Routing)> = steps
        .iter()
        .enumerate()
        .filter_map(|(index, step)| match step {
            PolicyStep::Route(routing) => Some((index, cx.meant(routing, release))),
            PolicyStep::Analyse | PolicyStep::Pause(_) | PolicyStep::Gate | PolicyStep::Size(_) => None,
        })
        .collect();
    let enough = routes.iter().find(|(_, routing)| !shown.exposes_more_than(routing));
    // Nothing says where to: what was judged of what is shown is over, and to promote is to expose everybody.
    let Some((index, routing)) = enough.or(routes.last()) else { return From::Above(0) };
    if steps[..*index].contains(&PolicyStep::Gate) {
        From::Start
    } else if enough.is_some() && routing != shown {
        From::Above(*index)
    } else {
        From::Step(*index)
    }
}
