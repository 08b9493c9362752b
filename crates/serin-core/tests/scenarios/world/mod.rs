//! A world small enough to read: one target, its primary, a route, Git and the providers, all obedient unless told
//! otherwise. It carries out the engine's actions and notes everything that would be unsafe.

mod acts;
mod counters;
mod engine;
mod outside;
mod time;
mod workload;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serin_core::analysis::Reading;
use serin_core::model::{
    CommitId, Digest, NamespacedName, Projected, Projection, Quarantined, ReleaseId, Remembered, Revision,
    RollbackNote,
};
use serin_core::release::{
    Answer, Answers, AutoscalerObserved, Deleting, Guards, Hold, Keyed, Names, Observed, Obstacle, Phase, Policy,
    Promotion, Readiness, Request, Rounds, RouteObserved, Side, Sizing, State, Step, Verb, WorkloadObserved,
};

use super::history::History;
use super::properties::{Broken, Property};
pub(crate) use counters::{Counters, plan};
pub(crate) use engine::Engine;
pub(crate) use workload::Workload;

/// What the target's autoscaler says.
pub(crate) const MINIMUM: i32 = 2;
pub(crate) const MAXIMUM: i32 = 20;

/// What a provider or webhook does when it is asked.
#[derive(Debug, Clone)]
pub(crate) enum Reaction {
    Silent,
    Reads(Reading),
    Accepts,
    Refuses(String),
}

/// One round, for whoever wants to write it down.
pub(crate) struct Round {
    pub(crate) now: Timestamp,
    pub(crate) step: Step,
}

#[derive(Clone)]
pub(crate) struct World {
    /// What decides; a mutant may stand in for it.
    pub(crate) engine: Engine,
    /// What has been, for whoever judges what is.
    pub(crate) history: History,
    pub(crate) now: Timestamp,
    pub(crate) policy: Policy,
    pub(crate) target: Option<Workload>,
    pub(crate) primary: Option<Workload>,
    pub(crate) last_good: Option<Digest>,
    pub(crate) route: RouteObserved,
    pub(crate) pending: Option<Revision>,
    /// What a newer revision replaced before it was let in.
    pub(crate) replaced: Vec<Revision>,
    /// What the record says of a target that the cluster knew nothing of.
    pub(crate) remembered: Option<Remembered>,
    /// Git's replica count.
    pub(crate) size: Option<i32>,
    pub(crate) request: Option<Request>,
    pub(crate) blocked: Option<String>,
    pub(crate) hold: Option<Hold>,
    /// The spec cannot be carried out any more.
    pub(crate) invalid: Option<String>,
    /// The Canary is being deleted, with its namespace or without.
    pub(crate) deleting: bool,
    pub(crate) with_namespace: bool,
    /// Where the service in front leads; nothing before the services are there.
    pub(crate) apex: Option<Side>,
    /// A primary of a former target.
    pub(crate) former: Option<String>,
    /// The canary's service leads to the target.
    pub(crate) reachable: bool,
    /// Service and route are left to the target.
    pub(crate) left: bool,
    /// Somebody has changed the target since.
    pub(crate) changed_since: bool,
    /// The Canary is gone.
    pub(crate) gone: bool,
    pub(crate) unrecorded: Option<String>,
    pub(crate) projected: Projected,
    pub(crate) rollback: Option<RollbackNote>,
    pub(crate) rebuilt: Option<String>,
    /// What the router has counted at the candidate; nothing: it does not count.
    pub(crate) requests: Option<u64>,
    /// What the router counts of both sides.
    pub(crate) counters: Counters,
    pub(crate) state: State,
    pub(crate) answers: Vec<Answer>,
    pub(crate) asking_since: Option<Timestamp>,
    pub(crate) reactions: BTreeMap<String, Reaction>,
    /// `sync` writes what is admitted.
    pub(crate) sync_works: bool,
    /// What primary's pods will do once there are any.
    pub(crate) primary_told: Option<Readiness>,
    pub(crate) router_works: bool,
    /// What is copied to primary is there at once.
    pub(crate) copies_show: bool,
    pub(crate) stamps: bool,
    /// The process dies after the next persisted state and so many of its effects.
    pub(crate) dies_after_effects: Option<usize>,
    /// The API server takes no effect but those on the route, and says why.
    pub(crate) refuses: Option<String>,
    /// Somebody else writes the status first: what is decided next is not persisted.
    pub(crate) conflict: bool,
    /// What a new process finds.
    pub(crate) saved: State,
    /// States persisted so far.
    pub(crate) persisted: usize,
    /// States that followed another so far, persisted or not.
    pub(crate) stepped: usize,
    /// The process dies right after this one, persisted or not.
    pub(crate) die_after: Option<usize>,
    pub(crate) wake: Option<Timestamp>,
    /// When the router last sent anything to the canary.
    pub(crate) last_traffic: Option<Timestamp>,
    /// When the router last sent anything to primary.
    pub(crate) last_on_primary: Option<Timestamp>,
    /// The release whose demand is known, and that.
    demanded: Option<ReleaseId>,
    demand: i32,
    /// Somebody else has changed the route.
    pub(crate) meddled: bool,
    /// The first of each property.
    pub(crate) broken: Vec<Broken>,
    /// Whoever looks for one property goes on until that is broken.
    pub(crate) sought: Option<Property>,
}

pub(crate) fn digest(name: &str) -> Digest {
    Digest::of_canonical(name.as_bytes())
}

pub(crate) fn revision(name: &str) -> Revision {
    let hex = digest(name).as_str().trim_start_matches("v1:").repeat(2);
    Revision { digest: digest(name), commit: Some(hex.parse::<CommitId>().unwrap()) }
}

pub(crate) fn plain_policy() -> Policy {
    Policy {
        names: Names {
            canary: NamespacedName::new("test", "podinfo"),
            target: "podinfo".into(),
            service: "podinfo".into(),
            provider: "istio".into(),
        },
        interval: Duration::from_secs(60),
        progress_deadline: Duration::from_secs(120),
        skip_analysis: false,
        suspended: false,
        steps: Vec::new(),
        iterations: None,
        way_back: Vec::new(),
        stickiness: None,
        watch: Rounds {
            interval: Duration::from_secs(60),
            threshold: 5,
            checks: Keyed::default(),
            hooks: Keyed::default(),
            hold_limit: 10,
            min_samples: None,
        },
        comparison: None,
        hooks: Keyed::default(),
        promotion: Promotion::CopyToPrimary,
        sizing: Sizing::Ahead,
        drain: Duration::from_secs(5),
        settle: Duration::from_secs(2),
        guards: Guards::default(),
    }
}

impl World {
    pub(crate) fn new(policy: Policy) -> Self {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        Self {
            engine: Engine::REAL,
            history: History::default(),
            now,
            policy,
            target: None,
            primary: None,
            last_good: None,
            route: RouteObserved::Missing,
            pending: None,
            replaced: Vec::new(),
            remembered: None,
            size: None,
            request: None,
            blocked: None,
            hold: None,
            invalid: None,
            deleting: false,
            with_namespace: false,
            apex: None,
            former: None,
            reachable: true,
            left: false,
            changed_since: false,
            gone: false,
            unrecorded: None,
            projected: Projected::default(),
            rollback: None,
            rebuilt: None,
            requests: None,
            counters: Counters::default(),
            state: State::new(now),
            answers: Vec::new(),
            asking_since: Some(now),
            reactions: BTreeMap::new(),
            sync_works: true,
            primary_told: None,
            router_works: true,
            copies_show: true,
            stamps: true,
            dies_after_effects: None,
            refuses: None,
            conflict: false,
            saved: State::new(now),
            persisted: 0,
            stepped: 0,
            die_after: None,
            wake: None,
            last_traffic: None,
            last_on_primary: None,
            demanded: None,
            demand: 1,
            meddled: false,
            broken: Vec::new(),
            sought: None,
        }
    }

    /// Git names another revision.
    pub(crate) fn push(&mut self, name: &str) {
        self.changed_since |= self.left && !self.stamps;
        let wanted = revision(name);
        match &mut self.target {
            None => {
                let mut target = Workload::new(wanted.digest.clone(), 2);
                target.stamped = self.stamps.then_some(wanted);
                self.target = Some(target);
            }
            Some(target) if !self.stamps => target.template(&wanted.digest),
            Some(target) => {
                let same = target.stamped.as_ref() == Some(&wanted) && target.digest == wanted.digest;
                self.replaced.extend(self.pending.take().filter(|pending| pending.digest != wanted.digest));
                self.pending = (!same).then_some(wanted);
            }
        }
    }

    /// A cluster made anew: the record says what was promoted last and what failed, `sync` writes the former.
    pub(crate) fn rebuild(&mut self, promoted: &str, failed: &[&str]) {
        let failed = failed.iter().enumerate().map(|(index, name)| Quarantined {
            release: ReleaseId::new(index as u64 + 1, &digest(name)),
            revision: revision(name),
            rolled_back: None,
        });
        self.remembered = Some(Remembered { promoted: revision(promoted), failed: failed.collect() });
        (self.target, self.primary, self.last_good) = (None, None, None);
        (self.route, self.pending) = (RouteObserved::Missing, None);
        self.state = State::new(self.now);
        self.saved = self.state.clone();
        self.push(promoted);
    }

    /// The same template by another commit.
    pub(crate) fn push_again(&mut self, name: &str) {
        let mut wanted = revision(name);
        let other = digest(&format!("{name} again")).as_str().trim_start_matches("v1:").repeat(2);
        wanted.commit = Some(other.parse().unwrap());
        self.pending = Some(wanted);
    }

    /// Somebody changes the target by hand.
    pub(crate) fn edit(&mut self, name: &str) {
        self.changed_since |= self.left;
        if let Some(target) = &mut self.target {
            target.template(&digest(name));
        }
    }

    pub(crate) fn request(&mut self, verb: Verb, subject: &str, nonce: usize) {
        let raw = format!("{verb:?}/{subject}/{nonce}");
        self.request = Some(Request { verb, subject: subject.to_owned(), raw });
    }

    /// Whether nothing goes on, and nothing is to come.
    pub(crate) fn is_at_rest(&self) -> bool {
        let idle = matches!(self.state.phase, Phase::Idle { .. });
        idle && self.wake.is_none() && self.pending.is_none() && self.state.admitted.is_none() && !self.deleting
    }

    /// Notes what must not be.
    pub(crate) fn breaks(&mut self, property: Property, what: String) {
        if self.broken.iter().all(|broken| broken.property != property) {
            self.broken.push(Broken { property, what });
        }
    }

    /// Whether there is nothing more to learn.
    pub(crate) fn is_over(&self) -> bool {
        match self.sought {
            None => !self.broken.is_empty(),
            Some(sought) => self.broken.iter().any(|broken| broken.property == sought),
        }
    }

    /// What is broken, in words.
    pub(crate) fn complaints(&self) -> String {
        self.broken
            .iter()
            .map(|broken| format!("{:?}: {}", broken.property, broken.what))
            .collect::<Vec<_>>()
            .join("\n")
    }

    pub(crate) fn crash(&mut self) {
        let json = serde_json::to_string(&self.saved).unwrap();
        let state: State = serde_json::from_str(&json).unwrap();
        if state != self.saved {
            self.breaks(Property::Lasting, "the state does not survive JSON".to_owned());
        }
        self.state = state;
        self.answers.clear();
        self.asking_since = Some(self.now);
    }

    /// What Git sizes has no autoscaler.
    fn sized(&self, side: &Workload) -> WorkloadObserved {
        let observed = side.observe();
        WorkloadObserved { limits: observed.limits.filter(|_| self.size.is_none()), ..observed }
    }

    /// Its autoscaler scales it, no lower than it may.
    pub(crate) fn scale_canary(&mut self, pods: i32) {
        let target = self.target.as_mut().expect("a target");
        target.scale(pods.max(target.minimum));
    }

    /// The calendar as it is now: what opens has opened.
    fn hold(&self) -> Option<Hold> {
        self.hold.clone().filter(|hold| match hold {
            Hold::Window { until, .. } | Hold::Environment { until, .. } => {
                until.is_none_or(|until| self.now < until)
            }
        })
    }

    pub(crate) fn observe(&self) -> Observed {
        Observed {
            autoscaler_stale: false,
            former: self.former.clone(),
            autoscaler: self.primary.as_ref().filter(|_| self.size.is_none()).map(|primary| AutoscalerObserved {
                minimum: primary.minimum,
                meant: MINIMUM,
                maximum: MAXIMUM,
            }),
            target: self.target.as_ref().map(|target| self.sized(target)),
            primary: self.primary.as_ref().map(|primary| self.sized(primary)),
            route: self.route.clone(),
            apex: self.apex,
            skips: false,
            pending: self.pending.clone(),
            replaced: self.replaced.clone(),
            remembered: self.remembered.clone(),
            size: self.size,
            request: self.request.clone(),
            answers: Answers::new(self.answers.clone()),
            asking_since: self.asking_since,
            projected: Projection::GIT.map(|by| (by, self.projected.up_to(by).cloned())).to_vec(),
            rollback: self.rollback.clone(),
            rebuilt: self.rebuilt.clone(),
            unrecorded: self.unrecorded.clone(),
            obstacle: self
                .blocked
                .clone()
                .map(Obstacle::Target)
                .or_else(|| self.invalid.clone().map(Obstacle::Spec)),
            problem: self.refuses.clone(),
            hold: self.hold(),
            deleting: self.deleting.then_some(Deleting {
                with_namespace: self.with_namespace,
                copied: true,
                reachable: self.reachable,
                led_back: self.apex != Some(Side::Stable),
                left: self.left,
            }),
        }
    }
}
