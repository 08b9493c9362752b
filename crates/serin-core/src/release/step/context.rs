//! What the parts of a step share: the inputs, and what has been decided so far.

use std::time::Duration;

use jiff::Timestamp;

use crate::model::{Cookie, Digest, Revision, Routing, after};
use crate::release::action::Action;
use crate::release::attempt::{End, Release};
use crate::release::observed::{Observed, Readiness, Side, WorkloadObserved};
use crate::release::policy::Policy;
use crate::release::questions::Open;
use crate::release::report::{Event, WaitingOn};
use crate::release::state::{HeldMinimum, State};

use super::{persist, prepare};

/// Answers that come within this time are not worth a status write that says they are awaited.
const ANSWERS_SHOWN_AFTER: Duration = Duration::from_secs(10);

/// What follows a pass.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Next {
    /// Nothing more to decide until something changes.
    Rest,
    /// The state changed: decide again.
    Again,
    /// Primary runs this digest and serves.
    Initialized(Digest),
    /// The release is over.
    Finished(End),
}

/// The inputs of a step and what it has decided.
#[derive(Debug)]
pub(super) struct Context<'a> {
    pub(super) policy: &'a Policy,
    pub(super) observed: &'a Observed,
    pub(super) now: Timestamp,
    /// What primary runs, when the step began.
    pub(super) promoted: Option<Revision>,
    /// The cookie that was last issued.
    pub(super) cookie: Option<Cookie>,
    /// The round that this step has opened: nobody has been asked in it.
    pub(super) fresh_round: Option<u32>,
    /// How the target's autoscaler is held.
    pub(super) held: Option<HeldMinimum>,
    /// Where the service in front of both sides is to lead.
    pub(super) apex: Side,
    /// From when on proxies know of all pods that serve, where pods are the traffic and that is still to come.
    pub(super) known_from: Option<Timestamp>,
    /// What was waited on before, or has been announced since.
    pub(super) before: Option<WaitingOn>,
    /// When people were told anything last.
    spoken: Option<Timestamp>,
    /// It has been said that the analysis of the release begins.
    pub(super) has_started: bool,
    pub(super) events: Vec<Event>,
    pub(super) actions: Vec<Action>,
    pub(super) waiting: Option<WaitingOn>,
    /// What the status says instead of `waiting`.
    pub(super) told: Option<WaitingOn>,
    /// `waiting` is not worth a status write.
    pub(super) quiet: bool,
    pub(super) wake: Option<Timestamp>,
}

impl<'a> Context<'a> {
    pub(super) fn new(policy: &'a Policy, observed: &'a Observed, state: &State, now: Timestamp) -> Self {
        let starting = prepare::starting(&policy.names.target_dotted()).message;
        let mut of_release = state.journal.iter().filter(|entry| entry.release == state.releases);
        Self {
            policy,
            observed,
            now,
            promoted: state.promoted.as_ref().map(|promoted| promoted.revision.clone()),
            cookie: state.cookie.clone(),
            fresh_round: None,
            held: state.held_minimum,
            apex: Side::Stable,
            known_from: None,
            before: state.waiting_on.clone(),
            spoken: state.journal.last().map(|entry| entry.at),
            has_started: of_release.any(|entry| entry.event.message == starting),
            events: Vec::new(),
            actions: Vec::new(),
            waiting: None,
            told: None,
            quiet: false,
            wake: None,
        }
    }

    /// Forgets what an earlier pass wanted to do; what it said stays said.
    pub(super) fn start_pass(&mut self) {
        self.actions.clear();
        self.apex = Side::Stable;
        self.known_from = None;
        self.waiting = None;
        self.told = None;
        self.quiet = false;
        self.wake = None;
    }

    pub(super) fn say(&mut self, event: Event) {
        self.events.push(event);
    }

    pub(super) fn act(&mut self, action: Action) {
        if !self.actions.contains(&action) {
            self.actions.push(action);
        }
    }

    /// Waits, and says so if that is news. What one workload lacks changes with each of its pods: it is not told right after
    /// something else.
    pub(super) fn wait(&mut self, waiting: WaitingOn, event: impl FnOnce() -> Event) {
        let quiet_until =
            self.spoken.map(|spoken| after(spoken, persist::BRIEF)).filter(|until| self.now < *until);
        match (&self.before, quiet_until) {
            (Some(before), _) if same_subject(before, &waiting) => {}
            (Some(before), Some(until)) if same_workload(before, &waiting) => {
                self.told = Some(before.clone());
                self.wake_at(until);
            }
            (Some(_) | None, _) => {
                self.say(event());
                self.before = Some(waiting.clone());
            }
        }
        self.waiting = Some(waiting);
    }

    /// Waits for `spec.suspend` to become false.
    pub(super) fn suspend(&mut self) {
        self.wait(WaitingOn::Suspended, || Event::normal("skipping canary run as object is suspended"));
    }

    /// Waits without an event.
    pub(super) fn wait_silently(&mut self, waiting: WaitingOn) {
        self.waiting = Some(waiting);
    }

    /// Waits for answers. What was said before (a closed gate, missing data, the window, that pods become ready) stays in the
    /// status while they come quickly.
    pub(super) fn wait_for_answers(&mut self, open: &[&Open]) {
        let Some(from) = open.iter().map(|open| open.from).min() else { return };
        let names = open.iter().map(|open| open.question.name().to_owned()).collect();
        let keeps = self.before.as_ref().is_some_and(|before| {
            matches!(
                before,
                WaitingOn::Gate { .. }
                    | WaitingOn::Readiness { .. }
                    | WaitingOn::Data { .. }
                    | WaitingOn::Window { .. }
                    | WaitingOn::Misconfigured { .. }
            )
        });
        let from =
            self.observed.asking_since.map_or(from, |since| if since > self.now { from } else { since.max(from) });
        let shown_from = after(from, ANSWERS_SHOWN_AFTER);
        self.quiet = keeps && self.now < shown_from;
        if self.quiet {
            self.wake_at(shown_from);
        }
        for until in open.iter().map(|open| open.until) {
            self.wake_at(until);
        }
        self.waiting = Some(WaitingOn::Answers { names });
    }

    pub(super) fn wake_at(&mut self, at: Timestamp) {
        if at > self.now {
            self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
        }
    }

    /// Where traffic goes while nothing is released.
    pub(super) fn at_rest(&self) -> Routing {
        self.policy.at_rest(self.cookie.as_ref())
    }

    /// What a routing of the policy means for this release.
    pub(super) fn meant(&self, routing: &Routing, release: &Release) -> Routing {
        self.policy.meant(routing, &release.id, self.cookie.as_ref())
    }

    /// `podinfo.test`.
    pub(super) fn target(&self) -> String {
        self.policy.names.target_dotted()
    }

    /// What the target should run next: what `sync` holds back, else what it stamped, else what is there.
    pub(super) fn wanted(&self) -> Option<Revision> {
        self.observed.pending.clone().or_else(|| self.observed.target.as_ref().map(live))
    }

    pub(super) fn is_promoted(&self, digest: &Digest) -> bool {
        self.promoted.as_ref().is_some_and(|promoted| promoted.digest == *digest)
    }
}

/// The revision of a target as it is: with its commit if `sync` wrote exactly this.
pub(super) fn live(target: &WorkloadObserved) -> Revision {
    match &target.stamped {
        Some(stamped) if stamped.digest == target.digest => stamped.clone(),
        Some(_) | None => Revision { digest: target.digest.clone(), commit: None },
    }
}

/// Somebody else than `sync` changed a target that `sync` stamps.
pub(super) fn drifted(target: &WorkloadObserved) -> bool {
    target.stamped.as_ref().is_some_and(|stamped| stamped.digest != target.digest)
}

/// Whether the side can take the traffic of the other: ready, or at least some of its pods are available.
pub(super) fn can_serve(side: Option<&WorkloadObserved>) -> bool {
    side.is_some_and(|side| side.replicas > 0 && (side.readiness == Readiness::Ready || side.available > 0))
}

/// Whether primary has pods that serve: all of them run something that was promoted or is to be, also while one replaces the
/// other.
pub(super) fn stable_serves(primary: Option<&WorkloadObserved>) -> bool {
    primary.is_some_and(|primary| {
        primary.replicas > 0 && (primary.readiness == Readiness::Ready || primary.serving > 0)
    })
}

/// Whether both wait for the same workload to become ready.
fn same_workload(before: &WaitingOn, now: &WaitingOn) -> bool {
    match (before, now) {
        (WaitingOn::Readiness { workload: before, .. }, WaitingOn::Readiness { workload, .. }) => {
            before == workload
        }
        (_, _) => false,
    }
}

/// Deadlines and counters move; an event is due only when the subject changes.
fn same_subject(before: &WaitingOn, now: &WaitingOn) -> bool {
    match (before, now) {
        (
            WaitingOn::Readiness { workload: before, reason: said, .. },
            WaitingOn::Readiness { workload, reason, .. },
        ) => before == workload && said == reason,
        // When it opens is known better as it comes nearer.
        (WaitingOn::ReleaseWindow { revision: before, .. }, WaitingOn::ReleaseWindow { revision, .. }) => {
            before == revision
        }
        (
            WaitingOn::Environment { revision: before, reason: said, .. },
            WaitingOn::Environment { revision, reason, .. },
        ) => before == revision && said == reason,
        (before, now) => before == now,
    }
}
