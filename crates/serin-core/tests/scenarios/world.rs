//! A world small enough to read: one target, its primary, a route, Git and the providers, all obedient unless told
//! otherwise. It carries out the engine's actions and notes everything that would be unsafe.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serin_core::analysis::{Measurement, Reading};
use serin_core::model::{
    CommitId, Digest, NamespacedName, Projected, Projection, Quarantined, ReleaseId, Remembered, Revision,
    RollbackNote, Routing,
};
use serin_core::release::{
    Action, Answer, Answers, AutoscalerObserved, CheckSource, Deleting, HookKind, HookReply, Keyed, Limits, Names,
    Observed, Obstacle, Policy, Promotion, ProviderFault, Question, QuestionKey, Readiness, Request, Rounds,
    RouteObserved, Side, Stage, State, Step, Updates, Verb, WorkloadObserved, ask, step,
};

/// Most rounds until nothing changes any more.
const ROUNDS_MAX: usize = 100;
/// What the target's autoscaler says.
const MINIMUM: i32 = 2;
const MAXIMUM: i32 = 20;

/// A workload and how its pods behave.
#[derive(Debug, Clone)]
pub(super) struct Workload {
    pub(super) digest: Digest,
    pub(super) stamped: Option<Revision>,
    pub(super) replicas: i32,
    pub(super) generation: i64,
    /// `None`: pods become ready one round after a change.
    pub(super) told: Option<Readiness>,
    /// Pods that serve although the workload is not ready.
    pub(super) available: Option<i32>,
    /// Pods of the former template that serve until the new ones do.
    pub(super) kept: i32,
    /// How its pods are replaced.
    pub(super) updates: Updates,
    /// Its autoscaler's minimum.
    pub(super) minimum: i32,
    pub(super) settling: bool,
}

impl Workload {
    pub(super) fn new(digest: Digest, replicas: i32) -> Self {
        Self {
            digest,
            stamped: None,
            replicas,
            generation: 1,
            told: None,
            available: None,
            kept: 0,
            updates: Updates::DEFAULT,
            minimum: MINIMUM,
            settling: true,
        }
    }

    pub(super) fn readiness(&self) -> Readiness {
        match &self.told {
            Some(told) => told.clone(),
            None if self.settling && self.replicas > 0 => Readiness::Waiting(format!(
                "waiting for rollout to finish: 0 of {} (readyThreshold 100%) updated replicas are available",
                self.replicas
            )),
            None => Readiness::Ready,
        }
    }

    fn observe(&self) -> WorkloadObserved {
        let readiness = self.readiness();
        let available = self.available.unwrap_or(if readiness == Readiness::Ready { self.replicas } else { 0 });
        WorkloadObserved {
            digest: self.digest.clone(),
            stamped: self.stamped.clone(),
            generation: self.generation,
            replicas: self.replicas,
            limits: Some(Limits { minimum: self.minimum, maximum: MAXIMUM }),
            readiness,
            available,
            serving: available.max(self.kept),
            updates: self.updates,
        }
    }

    pub(super) fn template(&mut self, digest: &Digest) {
        if self.digest != *digest {
            let served = self.observe().serving;
            self.kept = self.updates.keeps(self.replicas).min(served);
            self.available = self.available.filter(|_| self.told.is_some());
            self.digest = digest.clone();
            self.generation += 1;
            self.settling = true;
        }
    }

    /// What serves goes on to do so until the template changes, whatever is said of what is to come.
    pub(super) fn keep(&mut self) {
        self.kept = self.observe().serving;
    }

    /// Its pods are gone, and none comes back.
    pub(super) fn lose(&mut self) {
        self.told = Some(Readiness::Waiting("its pods were evicted".to_owned()));
        (self.available, self.kept) = (Some(0), 0);
    }

    pub(super) fn scale(&mut self, replicas: i32) {
        if self.replicas != replicas {
            self.available = Some(self.observe().available.min(replicas)).filter(|_| self.told.is_none());
            self.kept = self.kept.min(replicas);
            self.replicas = replicas;
            self.generation += 1;
            self.settling = true;
        }
    }
}

/// What a provider or webhook does when it is asked.
#[derive(Debug, Clone)]
pub(super) enum Reaction {
    Silent,
    Reads(Reading),
    Accepts,
    Refuses(String),
}

/// One round, for whoever wants to write it down.
pub(super) struct Round {
    pub(super) now: Timestamp,
    pub(super) step: Step,
}

pub(super) struct World {
    pub(super) now: Timestamp,
    pub(super) policy: Policy,
    pub(super) target: Option<Workload>,
    pub(super) primary: Option<Workload>,
    pub(super) last_good: Option<Digest>,
    pub(super) route: RouteObserved,
    pub(super) pending: Option<Revision>,
    /// What a newer revision replaced before it was let in.
    pub(super) replaced: Vec<Revision>,
    /// What the record says of a target that the cluster knew nothing of.
    pub(super) remembered: Option<Remembered>,
    /// Git's replica count.
    pub(super) size: Option<i32>,
    pub(super) request: Option<Request>,
    pub(super) blocked: Option<String>,
    /// The spec cannot be carried out any more.
    pub(super) invalid: Option<String>,
    /// The Canary is being deleted, with its namespace or without.
    pub(super) deleting: bool,
    pub(super) with_namespace: bool,
    /// The service in front leads to the target.
    pub(super) led_back: bool,
    /// Service and route are left to the target.
    pub(super) left: bool,
    /// The Canary is gone.
    pub(super) gone: bool,
    pub(super) unrecorded: Option<String>,
    pub(super) projected: Projected,
    pub(super) rollback: Option<RollbackNote>,
    pub(super) rebuilt: Option<String>,
    /// What the router has counted at the candidate; nothing: it does not count.
    pub(super) requests: Option<u64>,
    pub(super) state: State,
    pub(super) answers: Vec<Answer>,
    pub(super) asked: Vec<(Timestamp, QuestionKey)>,
    pub(super) asking_since: Option<Timestamp>,
    pub(super) reactions: BTreeMap<String, Reaction>,
    /// `sync` writes what is admitted.
    pub(super) sync_works: bool,
    /// What primary's pods will do once there are any.
    pub(super) primary_told: Option<Readiness>,
    pub(super) router_works: bool,
    /// What is copied to primary is there at once.
    pub(super) copies_show: bool,
    pub(super) stamps: bool,
    /// Lost with the process after the next persisted state.
    pub(super) lose_actions: bool,
    /// States persisted so far.
    pub(super) persisted: usize,
    /// The process dies right after persisting this one.
    pub(super) die_after: Option<usize>,
    pub(super) wake: Option<Timestamp>,
    /// When the router last sent anything to the canary.
    pub(super) last_traffic: Option<Timestamp>,
    /// When the router last sent anything to primary.
    last_on_primary: Option<Timestamp>,
    /// The release whose demand is known, and that.
    demanded: Option<ReleaseId>,
    demand: i32,
    /// Somebody else has changed the route.
    pub(super) meddled: bool,
    pub(super) broken: Vec<String>,
}

pub(super) fn digest(name: &str) -> Digest {
    Digest::of_canonical(name.as_bytes())
}

pub(super) fn revision(name: &str) -> Revision {
    let hex = digest(name).as_str().trim_start_matches("v1:").repeat(2);
    Revision { digest: digest(name), commit: Some(hex.parse::<CommitId>().unwrap()) }
}

pub(super) fn plain_policy() -> Policy {
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
        hooks: Keyed::default(),
        promotion: Promotion::CopyToPrimary,
        drain: Duration::from_secs(5),
        settle: Duration::from_secs(2),
    }
}

impl World {
    pub(super) fn new(policy: Policy) -> Self {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        Self {
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
            invalid: None,
            deleting: false,
            with_namespace: false,
            led_back: true,
            left: false,
            gone: false,
            unrecorded: None,
            projected: Projected::default(),
            rollback: None,
            rebuilt: None,
            requests: None,
            state: State::new(now),
            answers: Vec::new(),
            asked: Vec::new(),
            asking_since: Some(now),
            reactions: BTreeMap::new(),
            sync_works: true,
            primary_told: None,
            router_works: true,
            copies_show: true,
            stamps: true,
            lose_actions: false,
            persisted: 0,
            die_after: None,
            wake: None,
            last_traffic: None,
            last_on_primary: None,
            demanded: None,
            demand: 1,
            meddled: false,
            broken: Vec::new(),
        }
    }

    /// Git names another revision.
    pub(super) fn push(&mut self, name: &str) {
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
    pub(super) fn rebuild(&mut self, promoted: &str, failed: &[&str]) {
        let failed = failed.iter().enumerate().map(|(index, name)| Quarantined {
            release: ReleaseId::new(index as u64 + 1, &digest(name)),
            revision: revision(name),
            rolled_back: None,
        });
        self.remembered = Some(Remembered { promoted: revision(promoted), failed: failed.collect() });
        (self.target, self.primary, self.last_good) = (None, None, None);
        (self.route, self.pending) = (RouteObserved::Missing, None);
        self.state = State::new(self.now);
        self.push(promoted);
    }

    /// The same template by another commit.
    pub(super) fn push_again(&mut self, name: &str) {
        let mut wanted = revision(name);
        let other = digest(&format!("{name} again")).as_str().trim_start_matches("v1:").repeat(2);
        wanted.commit = Some(other.parse().unwrap());
        self.pending = Some(wanted);
    }

    /// Somebody changes the target by hand.
    pub(super) fn edit(&mut self, name: &str) {
        if let Some(target) = &mut self.target {
            target.template(&digest(name));
        }
    }

    pub(super) fn request(&mut self, verb: Verb, subject: &str, nonce: usize) {
        let raw = format!("{verb:?}/{subject}/{nonce}");
        self.request = Some(Request { verb, subject: subject.to_owned(), raw });
    }

    pub(super) fn crash(&mut self) {
        let json = serde_json::to_string(&self.state).unwrap();
        let state: State = serde_json::from_str(&json).unwrap();
        assert_eq!(state, self.state, "state does not survive JSON");
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
    pub(super) fn scale_canary(&mut self, pods: i32) {
        let target = self.target.as_mut().expect("a target");
        target.scale(pods.max(target.minimum));
    }

    pub(super) fn observe(&self) -> Observed {
        Observed {
            autoscaler_stale: false,
            autoscaler: self.primary.as_ref().filter(|_| self.size.is_none()).map(|primary| AutoscalerObserved {
                minimum: primary.minimum,
                meant: MINIMUM,
                maximum: MAXIMUM,
            }),
            target: self.target.as_ref().map(|target| self.sized(target)),
            primary: self.primary.as_ref().map(|primary| self.sized(primary)),
            route: self.route.clone(),
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
            problem: None,
            deleting: self.deleting.then_some(Deleting {
                with_namespace: self.with_namespace,
                copied: true,
                led_back: self.led_back,
                left: self.left,
            }),
        }
    }

    /// Decides and acts until nothing changes.
    pub(super) fn settle(&mut self, mut note: impl FnMut(&Round)) {
        // What was asked earlier may be answered together with whatever else has changed.
        self.answer();
        for _ in 0..ROUNDS_MAX {
            if self.gone {
                self.wake = None;
                return;
            }
            if self.has_traffic() {
                self.last_traffic = Some(self.now);
            }
            if self.share_of_primary() > 0 {
                self.last_on_primary = Some(self.now);
            }
            let observed = self.observe();
            let decided = step(&self.policy, &observed, self.state.clone(), self.now);
            let again = step(&self.policy, &observed, decided.state.clone(), self.now);
            if again.state != decided.state || again.actions != decided.actions {
                self.broken.push(format!("not idempotent:\n{decided:#?}\nthen\n{again:#?}"));
            }
            self.judge_raise(&decided);
            self.judge_wanted(&decided);
            let stepped = decided.state != self.state;
            self.state = decided.state.clone();
            self.note_demand();
            self.wake = decided.wake;
            note(&Round { now: self.now, step: decided.clone() });
            self.persisted += usize::from(stepped);
            let dies = stepped && self.die_after == Some(self.persisted);
            let lost = stepped && std::mem::take(&mut self.lose_actions) || dies;
            let acted = if lost { self.crash_now() } else { self.act(&decided.actions) };
            let answered = self.answer();
            // Pods take longer than everything else, so their not being ready is seen.
            let busy = stepped | acted | answered | self.sync();
            if !busy && !self.progress() {
                self.judge_traffic();
                return;
            }
        }
        self.broken.push("the world does not settle".to_owned());
    }

    fn crash_now(&mut self) -> bool {
        self.crash();
        true
    }

    /// The clock is set back; what the world remembers of the past is as long ago as before.
    pub(super) fn set_back(&mut self, by: Duration) {
        self.now -= by;
        self.last_traffic = self.last_traffic.map(|at| at - by);
        self.last_on_primary = self.last_on_primary.map(|at| at - by);
        // Whoever waits hears of it.
        self.wake = Some(self.now);
    }

    /// Lets time pass, stopping at every wake-up on the way.
    pub(super) fn advance(&mut self, duration: Duration, mut note: impl FnMut(&Round)) {
        let end = self.now + duration;
        self.settle(&mut note);
        while let Some(wake) = self.wake.filter(|wake| *wake <= end) {
            self.now = wake;
            self.settle(&mut note);
        }
        self.now = end;
        self.settle(&mut note);
    }

    /// No raise of the canary's weight without a check that passed since the last one.
    fn judge_raise(&mut self, decided: &Step) {
        let (before, after) = (self.state.canary_weight(), decided.state.canary_weight());
        let failed = self.state.failed_checks() < decided.state.failed_checks();
        if after > before && failed {
            self.broken.push(format!("weight rose from {before} to {after} on a failed check"));
        }
    }

    /// Nothing that is no longer wanted goes on towards promotion.
    fn judge_wanted(&mut self, decided: &Step) {
        let Some(release) = decided.state.release().filter(|_| !self.policy.suspended) else { return };
        let under_way = matches!(
            release.stage,
            Stage::Confirming
                | Stage::ScalingUp { .. }
                | Stage::Preparing
                | Stage::Analysing
                | Stage::ConfirmingPromotion
        );
        let unwanted = self.pending.as_ref().is_some_and(|pending| pending.digest != release.revision.digest);
        if under_way && unwanted {
            self.broken.push("a revision that is no longer wanted is still being released".to_owned());
        }
    }

    /// At rest, a canary that cannot serve has no traffic while primary can serve.
    fn judge_traffic(&mut self) {
        let serves = |side: &Option<Workload>| {
            side.as_ref().is_some_and(|side| side.replicas > 0 && side.observe().available > 0)
        };
        let steered = self.router_works && !self.policy.suspended && self.state.promoted.is_some();
        if steered && self.has_traffic() && !serves(&self.target) && serves(&self.primary) {
            self.broken.push("a canary that cannot serve has traffic".to_owned());
        }
        let Some(release) = self.state.release().filter(|_| steered && !self.meddled) else { return };
        let lost = self.share_of_primary() > 0
            && self.primary.as_ref().is_none_or(|primary| primary.observe().serving == 0);
        let heir = self.target.as_ref().is_some_and(|target| {
            target.digest == release.revision.digest
                && target.replicas > 0
                && target.readiness() == Readiness::Ready
        });
        let copies = self.policy.promotion == Promotion::CopyToPrimary;
        if copies && lost && heir && matches!(release.stage, Stage::Promoting { .. }) {
            self.broken.push("users are left on a primary without pods".to_owned());
        }
    }

    fn act(&mut self, actions: &[Action]) -> bool {
        let before = self.outside();
        for action in actions {
            self.carry_out(action);
        }
        before != self.outside()
    }

    /// What actions change.
    fn outside(&self) -> String {
        let Self { target, primary, route, last_good, led_back, left, gone, .. } = self;
        format!("{target:?}{primary:?}{route:?}{last_good:?}{led_back}{left}{gone}")
    }

    fn carry_out(&mut self, action: &Action) {
        match action {
            Action::CreatePrimary { expect, replicas } => {
                let target = self.target.as_ref().filter(|target| target.digest == *expect);
                if let (None, Some(target)) = (&self.primary, target) {
                    self.primary = Some(self.new_primary(target.digest.clone(), *replicas));
                }
            }
            Action::EnsurePrimaryAutoscaler { floor } => {
                if let Some(primary) = &mut self.primary {
                    primary.minimum = MINIMUM.max(*floor).min(MAXIMUM);
                }
            }
            Action::HoldTarget { minimum } => {
                if let Some(target) = &mut self.target {
                    target.minimum = *minimum;
                }
            }
            Action::EnsureServices => self.led_back = false,
            Action::Route(routing) => self.shift(routing),
            Action::Scale { side: Side::Candidate, replicas } => self.scale_target(*replicas),
            Action::Scale { side: Side::Stable, replicas } => {
                if let Some(primary) = &mut self.primary {
                    primary.scale(*replicas);
                }
            }
            Action::StoreLastGood { expect } => {
                if self.primary.as_ref().is_some_and(|primary| primary.digest == *expect) {
                    self.last_good = Some(expect.clone());
                }
            }
            Action::CopyToPrimary { expect } | Action::SwitchStable { expect } => {
                self.judge_replaced(expect);
                let carried =
                    self.copies_show && self.target.as_ref().is_some_and(|target| target.digest == expect.digest);
                match &mut self.primary {
                    Some(primary) if carried => primary.template(&expect.digest),
                    None if carried => self.primary = Some(self.new_primary(expect.digest.clone(), 2)),
                    Some(_) | None => {}
                }
            }
            Action::ReturnTemplate { expect } => {
                let drained = self.last_traffic.is_none_or(|last| self.now >= last + self.policy.drain);
                if self.has_traffic() || !drained {
                    self.broken.push("the target is changed under traffic".to_owned());
                }
                if let Some(target) = &mut self.target {
                    target.template(&expect.digest);
                    target.stamped = self.stamps.then(|| expect.clone());
                }
            }
            Action::LeadBack => {
                self.judge_handed();
                self.led_back = true;
            }
            Action::Leave => {
                (self.left, self.route) = (true, RouteObserved::Missing);
            }
            Action::LetGo => {
                if !self.with_namespace {
                    self.judge_handed();
                    if !self.left || !self.led_back {
                        self.broken.push("service and route go with the Canary".to_owned());
                    }
                }
                self.gone = true;
            }
            Action::RestorePrimary { expect } => {
                let stored = self.last_good.as_ref() == Some(expect);
                match &mut self.primary {
                    Some(primary) if stored => primary.template(expect),
                    None if stored => self.primary = Some(self.new_primary(expect.clone(), 2)),
                    Some(_) | None => self.broken.push("nothing stored to restore".to_owned()),
                }
            }
        }
    }

    /// Whoever is on primary finds pods there while they are replaced; what is about to lose them lost its users before.
    fn judge_replaced(&mut self, to: &Revision) {
        let (Some(target), Some(primary)) = (&self.target, &self.primary) else { return };
        let releases = self.state.release().is_some() && self.policy.promotion == Promotion::CopyToPrimary;
        let changes = primary.digest != to.digest && target.digest == to.digest && self.copies_show;
        let share = self.share_of_primary();
        let demand = self.size.map_or(self.demand, |size| self.demand.min(size.max(1)));
        let needed = needed(demand, share);
        let starves = target.updates.keeps(primary.replicas) * 4 < needed * 3;
        let fresh = self.last_on_primary.is_some_and(|last| self.now < last + self.policy.drain);
        let under_way = target.updates == Updates::Recreate && share == 0 && fresh;
        if releases && changes && !self.meddled && (starves || under_way) {
            self.broken.push(format!("primary is replaced with {share} % of the users on it"));
        }
    }

    fn share_of_primary(&self) -> i32 {
        match &self.route {
            RouteObserved::Present { routing, .. } => i32::from(routing.base.stable()),
            RouteObserved::Missing | RouteObserved::Unusable(_) => 0,
        }
    }

    /// What all requests take is what served when a release began.
    fn note_demand(&mut self) {
        let id = self.state.release().map(|release| release.id.clone());
        if id != self.demanded {
            self.demand = self.primary.as_ref().map_or(1, |primary| primary.observe().available.max(1));
            self.demanded = id;
        }
    }

    /// Whoever is led to the target finds what was promoted, and ready.
    fn judge_handed(&mut self) {
        let (Some(target), Some(promoted)) = (&self.target, &self.state.promoted) else { return };
        let promoted = &promoted.revision.digest;
        if target.digest != *promoted || target.readiness() != Readiness::Ready || target.replicas == 0 {
            self.broken.push(format!("users are led to {target:?}, promoted is {promoted}"));
        }
    }

    fn new_primary(&self, digest: Digest, replicas: i32) -> Workload {
        Workload { told: self.primary_told.clone(), ..Workload::new(digest, replicas) }
    }

    fn shift(&mut self, routing: &Routing) {
        let before = match &self.route {
            RouteObserved::Present { routing, .. } => routing.clone(),
            RouteObserved::Missing | RouteObserved::Unusable(_) => Routing::default(),
        };
        let ready = |side: &Option<Workload>| {
            side.as_ref().is_some_and(|side| side.replicas > 0 && side.readiness() == Readiness::Ready)
        };
        if routing.exposes_more_than(&before) && !ready(&self.target) {
            self.broken.push(format!("traffic to an unready canary: {routing}"));
        }
        let primary_serves =
            self.primary.as_ref().is_some_and(|primary| primary.observe().serving > 0 && primary.replicas > 0);
        let share = i32::from(routing.base.candidate().saturating_add(routing.base.mirror()).min(100));
        let short = self
            .target
            .as_ref()
            .is_some_and(|target| target.observe().available < needed(self.demand, share).min(MAXIMUM));
        if routing.exposes_more_than(&before) && short && primary_serves && !self.meddled {
            self.broken.push(format!("too few pods for {routing}"));
        }
        let target_serves =
            self.target.as_ref().is_some_and(|target| target.observe().available > 0 && target.replicas > 0);
        if before.exposes_more_than(routing) && !primary_serves && target_serves {
            self.broken.push(format!("traffic to an unready primary: {routing}"));
        }
        if self.router_works {
            self.route = RouteObserved::Present { routing: routing.clone(), current: true, unaccepted: None };
        }
    }

    fn has_traffic(&self) -> bool {
        matches!(&self.route, RouteObserved::Present { routing, .. } if routing.exposes())
    }

    fn scale_target(&mut self, replicas: i32) {
        let up = replicas > 0;
        if !up && self.has_traffic() {
            self.broken.push("the canary is scaled down under traffic".to_owned());
        }
        let drained = self.last_traffic.is_none_or(|last| self.now >= last + self.policy.drain);
        let runs = self.target.as_ref().is_some_and(|target| target.replicas > 0);
        if !up && runs && !drained && !self.meddled {
            self.broken.push("the canary is scaled down before it has drained".to_owned());
        }
        if let Some(target) = &mut self.target {
            target.scale(replicas);
        }
    }

    fn answer(&mut self) -> bool {
        let questions = ask(&self.policy, &self.observe(), &self.state, self.now);
        let mut answered = false;
        for question in questions {
            if !self.asked.iter().any(|(_, key)| *key == question.key()) {
                self.asked.push((self.now, question.key()));
            }
            let reaction = self.reactions.get(&label(&question)).cloned();
            let Some(answer) = react(reaction, question, self.requests, self.now) else { continue };
            self.answers.push(answer);
            answered = true;
        }
        answered
    }

    fn sync(&mut self) -> bool {
        let Some(pending) = self.pending.clone().filter(|_| self.sync_works && !self.deleting) else {
            return false;
        };
        if self.state.admitted.as_ref() != Some(&pending) {
            return false;
        }
        let has_traffic = self.has_traffic();
        if let Some(target) = &mut self.target {
            if has_traffic && !self.meddled && target.digest != pending.digest {
                self.broken.push("a template is written under traffic".to_owned());
            }
            target.template(&pending.digest);
            target.stamped = Some(pending);
        }
        self.pending = None;
        true
    }

    fn progress(&mut self) -> bool {
        let mut moved = false;
        for side in [&mut self.target, &mut self.primary].into_iter().flatten() {
            moved |= std::mem::take(&mut side.settling);
            if side.told.is_none() {
                (side.available, side.kept) = (None, 0);
            }
        }
        let is_autoscaled = self.size.is_none();
        for side in [&mut self.target, &mut self.primary].into_iter().flatten() {
            if is_autoscaled && (1..side.minimum).contains(&side.replicas) {
                side.scale(side.minimum);
                moved = true;
            }
        }
        moved
    }
}

/// Pods for a share, in percent, of what `all` serve.
fn needed(all: i32, percent: i32) -> i32 {
    (all * percent + 99) / 100
}

/// What a script calls it: unlike names, never twice the same.
fn label(question: &Question) -> String {
    match question {
        Question::Providers { .. } => "providers".to_owned(),
        Question::Requests { .. } => "requests".to_owned(),
        Question::Metric { check, .. } => match &check.source {
            CheckSource::Template { template, .. } => template.name.clone(),
            CheckSource::SuccessRate | CheckSource::Duration | CheckSource::Query(_) => check.name.clone(),
        },
        Question::Hook { hook, .. } => hook.url.rsplit('/').next().unwrap_or_default().to_owned(),
    }
}

fn react(reaction: Option<Reaction>, question: Question, requests: Option<u64>, now: Timestamp) -> Option<Answer> {
    if matches!(reaction, Some(Reaction::Silent)) {
        return None;
    }
    Some(match question {
        Question::Metric { key, check, .. } => {
            let reading = match reaction {
                Some(Reaction::Reads(reading)) => reading,
                _ => {
                    let range = check.condition.range().unwrap_or_default();
                    Reading::Value { value: range.min.or(range.max).unwrap_or(0.0) }
                }
            };
            Answer::Metric(key, Measurement { reading, query: String::new(), at: now })
        }
        Question::Hook { key, hook, .. } => {
            let reply = match reaction {
                Some(Reaction::Refuses(body)) => HookReply { accepted: false, body },
                Some(Reaction::Accepts) => HookReply { accepted: true, body: String::new() },
                // A rollback hook that accepts asks for a rollback: by default it does not.
                _ => HookReply { accepted: hook.kind != HookKind::Rollback, body: String::new() },
            };
            Answer::Hook(key, reply)
        }
        Question::Requests { key, .. } => {
            Answer::Requests(key, requests.ok_or_else(|| "the router does not answer".to_owned()))
        }
        Question::Providers { key, .. } => match reaction {
            Some(Reaction::Refuses(body)) => Answer::Providers(key, Err(ProviderFault::Unreachable(body))),
            Some(Reaction::Reads(Reading::Misconfigured { reason })) => {
                Answer::Providers(key, Err(ProviderFault::Policy(reason)))
            }
            _ => Answer::Providers(key, Ok(())),
        },
    })
}
