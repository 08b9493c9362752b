//! Pods are the traffic: without a router whoever calls the target's Service meets each of its pods alike, so the sides share
//! the replicas as the routing says. What is added is added first; what goes, goes as far as enough others serve, and proxies
//! know of them.

use crate::model::{Routing, after};
use crate::release::action::Action;
use crate::release::attempt::{Cause, End, Release};
use crate::release::observed::{RouteObserved, Side, Updates, WorkloadObserved};
use crate::release::policy::Sizing;
use crate::release::report::WaitingOn;
use crate::release::state::{Phase, State};

use super::context::{Context, Next};
use super::route::{Steered, steer as steer_any};
use super::{ending, prepare};

/// Pods of both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pair {
    candidate: i32,
    stable: i32,
}

impl Pair {
    fn sum(self) -> i32 {
        self.candidate.saturating_add(self.stable)
    }
}

/// What there is.
#[derive(Debug, Clone, Copy)]
struct Pods {
    /// How many are to serve together.
    size: i32,
    /// How many each side is to have now.
    replicas: Pair,
    /// How many of them serve.
    available: Pair,
    /// How many may be missing and may be added while they are exchanged.
    updates: Updates,
}

impl Pods {
    fn of(cx: &Context<'_>, updates: Updates) -> Option<Self> {
        let (target, primary) = (cx.observed.target.as_ref(), cx.observed.primary.as_ref()?);
        let replicas = |side: &WorkloadObserved| side.replicas;
        // What is being scaled down serves on for a moment, and does not count.
        let available = |side: &WorkloadObserved| side.available.min(side.replicas);
        Some(Self {
            size: cx.observed.size.unwrap_or(primary.replicas),
            replicas: Pair { candidate: target.map_or(0, replicas), stable: replicas(primary) },
            available: Pair { candidate: target.map_or(0, available), stable: available(primary) },
            updates,
        })
    }

    /// How many each side is to have in the end.
    fn goal(&self, routing: &Routing) -> Pair {
        shared(self.size, routing.base.candidate(), self.updates.adds(self.size) > 0)
    }

    /// How many each side is to have next, on the way to `goal`: the stable side grows first, and shrinks last.
    fn next(&self, goal: Pair, known: bool) -> Pair {
        let mut next = self.replicas;
        let all = self.size.saturating_add(self.updates.adds(self.size));
        let mut room = (all - self.replicas.sum()).max(0);
        for (side, goal) in [(&mut next.stable, goal.stable), (&mut next.candidate, goal.candidate)] {
            let more = (goal - *side).clamp(0, room);
            *side += more;
            room -= more;
        }
        let spare = self.available.sum() - self.updates.keeps(self.size);
        let mut spare = if known { spare.max(0) } else { 0 };
        let sides = [
            (&mut next.candidate, self.replicas.candidate, self.available.candidate, goal.candidate),
            (&mut next.stable, self.replicas.stable, self.available.stable, goal.stable),
        ];
        for (side, replicas, available, goal) in sides {
            let surplus = (replicas - goal).max(0);
            // Nobody misses those that do not serve.
            let idle = (replicas - available).min(surplus);
            let served = (surplus - idle).min(spare);
            *side -= idle + served;
            spare -= served;
        }
        // There are fewer pods than before: those that do not serve go first.
        let mut over = (next.sum() - all).max(0);
        let sides = [(&mut next.candidate, self.available.candidate), (&mut next.stable, self.available.stable)];
        for (side, available) in sides {
            let idle = (*side - available).clamp(0, over);
            *side -= idle;
            over -= idle;
        }
        next
    }

    fn shows(&self, goal: Pair) -> bool {
        self.replicas == goal && self.available.candidate >= goal.candidate
    }
}

/// The pods of both sides that come nearest to a share of `size` pods, or of one more where that may be. Of a share that is
/// neither nothing nor everything each side has at least one, unless there is only one altogether.
fn shared(size: i32, percent: u8, may_add: bool) -> Pair {
    let share = i64::from(percent.min(100));
    let exact = i64::from(size) * share;
    let whole = share == 0 || share == 100 || size == 1 && !may_add;
    let totals = [Some(size), may_add.then_some(size.saturating_add(1))];
    let pairs = totals
        .into_iter()
        .flatten()
        .flat_map(|total| [(exact + 99) / 100, exact / 100].map(|candidate| (candidate, i64::from(total))));
    let fitting = pairs.filter(|(candidate, total)| whole || (1..*total).contains(candidate));
    // What is off, in hundredths of a pod, of this many pods; the first of equals is the one with more candidates.
    let off = |(candidate, total): &(i64, i64)| ((100 * candidate - share * total).abs(), *total);
    let nearest = fitting.min_by(|one, other| {
        let ((one, of_one), (other, of_other)) = (off(one), off(other));
        (one * of_other.max(1)).cmp(&(other * of_one.max(1)))
    });
    let (candidate, total) = nearest.unwrap_or((0, i64::from(size)));
    let pods = |count: i64| i32::try_from(count).unwrap_or(i32::MAX);
    Pair { candidate: pods(candidate), stable: pods(total - candidate) }
}

/// Notes since when as many pods have served as do now: proxies learn of the last of them a little later.
pub(super) fn notice(cx: &mut Context<'_>, release: &mut Release) {
    let Sizing::Pods(updates) = cx.policy.sizing else { return };
    let Some(pods) = Pods::of(cx, updates) else { return };
    let serving = pods.available.sum();
    if serving > release.serving {
        release.ready_since = Some(cx.now);
    }
    release.serving = serving;
    cx.known_from = release.ready_since.map(|since| after(since, cx.policy.settle)).filter(|at| *at > cx.now);
}

/// Wants the sides to have their pods.
pub(super) fn steer(cx: &mut Context<'_>, routing: &Routing, updates: Updates) -> Steered {
    match &cx.observed.route {
        RouteObserved::Unusable(reason) => {
            cx.wait_silently(WaitingOn::Blocked { reason: reason.clone() });
            return Steered::Waiting;
        }
        RouteObserved::Missing | RouteObserved::Present { current: false, .. } => {
            cx.act(Action::EnsureServices { apex: Side::Stable });
        }
        RouteObserved::Present { current: true, .. } => {}
    }
    let Some(pods) = Pods::of(cx, updates) else {
        cx.wait_silently(WaitingOn::Target { name: cx.policy.names.primary() });
        return Steered::Waiting;
    };
    let goal = pods.goal(routing);
    let next = pods.next(goal, cx.known_from.is_none());
    let sides = [
        (Side::Stable, pods.replicas.stable, next.stable),
        (Side::Candidate, pods.replicas.candidate, next.candidate),
    ];
    for (side, now, next) in sides {
        if now != next {
            cx.act(Action::Scale { side, replicas: next });
        }
    }
    if pods.shows(goal) {
        return Steered::Shown;
    }
    if let Some(known) = cx.known_from {
        cx.wake_at(known);
    }
    let reason = format!(
        "{} of {} updated and {} of {} stable pods are there",
        pods.available.candidate, goal.candidate, pods.replicas.stable, goal.stable
    );
    cx.wait_silently(WaitingOn::Route { wanted: routing.clone(), reason: Some(reason) });
    Steered::Waiting
}

/// Waits for pods on the way to what is intended, as long as the deadline allows.
pub(super) fn wait(cx: &mut Context<'_>, release: &mut Release) -> Next {
    let since = release.clock.opened;
    let deadline = release.ready_deadline(since, cx.observed.target.as_ref(), cx.now, cx.policy.progress_deadline);
    let reason = match &cx.waiting {
        Some(WaitingOn::Route { reason: Some(reason), .. }) => reason.clone(),
        Some(_) | None => return Next::Rest,
    };
    if cx.now >= deadline && !cx.policy.suspended {
        return prepare::give_up(cx, release, &reason);
    }
    cx.wake_at(deadline);
    let workload = cx.policy.names.target.clone();
    cx.wait_silently(WaitingOn::Readiness { workload, reason, deadline });
    Next::Rest
}

/// Gives the candidate all pods, and makes it the stable side when they serve.
pub(super) fn promote(cx: &mut Context<'_>, release: &mut Release) -> Next {
    let digest = &release.revision.digest;
    if cx.observed.primary.as_ref().is_some_and(|primary| primary.digest == *digest) {
        ending::begin(cx, release, End::Succeeded);
        return Next::Again;
    }
    steer_any(cx, &release.routing);
    if cx.policy.suspended {
        cx.suspend();
        return Next::Rest;
    }
    let serving = cx.observed.target.as_ref().map_or(0, |target| target.available);
    let is_there = cx.observed.size.is_none_or(|size| serving >= size);
    if let Some(until) = cx.known_from.filter(|_| is_there) {
        cx.wake_at(until);
        cx.wait_silently(WaitingOn::Endpoints { workload: cx.policy.names.target.clone(), until });
        return Next::Rest;
    }
    if is_there {
        let expect = release.revision.clone();
        if let Some(promoted) = cx.promoted.as_ref().map(|promoted| promoted.digest.clone()) {
            cx.act(Action::StoreLastGood { expect: promoted });
        }
        cx.act(Action::SwitchStable { expect });
        return Next::Rest;
    }
    wait(cx, release)
}

/// A promotion that is given up after all.
pub(super) fn restore(cx: &mut Context<'_>, release: &mut Release, cause: Cause) -> Next {
    let promoted = cx.promoted.as_ref().map(|promoted| promoted.digest.clone());
    let serves = cx.observed.primary.as_ref().map(|primary| primary.digest.clone());
    match promoted.filter(|promoted| serves.as_ref() != Some(promoted)) {
        Some(expect) => {
            cx.act(Action::RestorePrimary { expect });
            let reason = "what served before is to be the stable side again".to_owned();
            cx.wait_silently(WaitingOn::Blocked { reason });
            Next::Rest
        }
        None => {
            ending::begin(cx, release, End::Failed { cause });
            Next::Again
        }
    }
}

/// Sizes what nobody has steered in this step: what is suspended, or does not serve yet, is sized all the same.
pub(super) fn size(cx: &mut Context<'_>, state: &State) {
    let is_sized = cx.actions.iter().any(|action| matches!(action, Action::Scale { .. }));
    if is_sized || cx.observed.primary.is_none() {
        return;
    }
    let routing = match &state.phase {
        Phase::Initializing { .. } => cx.at_rest(),
        Phase::Idle { .. } if cx.policy.suspended => cx.at_rest(),
        Phase::Releasing(release) if cx.policy.suspended => release.routing.clone(),
        Phase::Idle { .. } | Phase::Releasing(_) | Phase::HandingBack(_) => return,
    };
    let waiting = cx.waiting.clone();
    steer_any(cx, &routing);
    cx.waiting = waiting;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::observed::Count;

    const fn pair(candidate: i32, stable: i32) -> Pair {
        Pair { candidate, stable }
    }

    fn rolling(surge: i32, missing: i32) -> Updates {
        Updates::Rolling { missing: Count::Pods(missing), surge: Count::Pods(surge) }
    }

    #[test]
    fn shares_are_as_near_as_whole_pods_come_and_no_side_is_left_out() {
        let cases = [
            (10, 10, false, pair(1, 9)),
            (10, 30, true, pair(3, 7)),
            (4, 25, true, pair(1, 3)),
            (3, 50, false, pair(2, 1)),
            (3, 50, true, pair(2, 2)),
            (1, 5, true, pair(1, 1)),
            (1, 95, true, pair(1, 1)),
            (1, 5, false, pair(0, 1)),
            (1, 40, false, pair(0, 1)),
            (2, 95, false, pair(1, 1)),
            (5, 0, true, pair(0, 5)),
            (5, 100, true, pair(5, 0)),
            (0, 50, true, pair(0, 0)),
        ];
        for (size, percent, may_add, expected) in cases {
            assert_eq!(shared(size, percent, may_add), expected, "{size} at {percent} %, one more: {may_add}");
        }
    }

    #[test]
    fn what_is_added_is_added_first_and_what_serves_goes_only_as_far_as_others_do() {
        let pods = |replicas, available, updates| Pods { size: 10, replicas, available, updates };
        let cases = [
            // Nothing may be missing: first the new ones.
            (pods(pair(0, 10), pair(0, 10), rolling(3, 0)), pair(3, 7), pair(3, 10)),
            (pods(pair(3, 10), pair(1, 10), rolling(3, 0)), pair(3, 7), pair(3, 9)),
            // Nothing may be added: first the old ones.
            (pods(pair(0, 10), pair(0, 10), rolling(0, 5)), pair(3, 7), pair(0, 7)),
            (pods(pair(0, 7), pair(0, 7), rolling(0, 5)), pair(3, 7), pair(3, 7)),
            // Back: the stable side first, and what does not serve goes at once.
            (pods(pair(5, 5), pair(5, 5), rolling(1, 0)), pair(0, 10), pair(5, 6)),
            (pods(pair(5, 5), pair(0, 5), rolling(1, 0)), pair(0, 10), pair(0, 6)),
        ];
        for (pods, goal, expected) in cases {
            assert_eq!(pods.next(goal, true), expected, "{pods:?}");
        }
        // It was made smaller while new ones could not start.
        let smaller = Pods { size: 4, ..pods(pair(6, 4), pair(0, 4), rolling(2, 0)) };
        assert_eq!(smaller.next(pair(4, 0), true), pair(2, 4));
        let just_ready = pods(pair(3, 10), pair(3, 10), rolling(3, 0));
        assert_eq!(just_ready.next(pair(3, 7), false), pair(3, 10));
        assert_eq!(just_ready.next(pair(3, 7), true), pair(3, 7));
    }
}
