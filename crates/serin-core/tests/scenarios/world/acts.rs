//! What the engine does to the world, and what of it would hurt users.

use serin_core::model::{Digest, Revision, Routing};
use serin_core::release::{Action, Phase, Promotion, Readiness, RouteObserved, Side, Stage, Updates};

use super::{MAXIMUM, MINIMUM, Workload, World};
use crate::properties::Property;

impl World {
    pub(super) fn act(&mut self, actions: &[Action]) -> bool {
        let before = self.outside();
        for action in actions {
            if self.refuses.is_none() || matches!(action, Action::Route(_)) {
                self.carry_out(action);
            }
        }
        before != self.outside()
    }

    /// What actions change.
    fn outside(&self) -> impl PartialEq + use<> {
        let Self { target, primary, route, last_good, apex, former, reachable, left, gone, .. } = self;
        let services = (*apex, former.clone(), *reachable);
        (target.clone(), primary.clone(), route.clone(), last_good.clone(), services, *left, *gone)
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
            Action::EnsureServices { apex } => self.lead(*apex),
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
                    self.breaks(Property::Drained, "the target is changed under traffic".to_owned());
                }
                if let Some(target) = &mut self.target {
                    target.template(&expect.digest);
                    target.stamped = self.stamps.then(|| expect.clone());
                }
            }
            Action::DropFormer { .. } => self.former = None,
            Action::ReachTarget => self.reachable = true,
            Action::LeadBack => {
                self.judge_handed();
                self.apex = Some(Side::Candidate);
            }
            Action::Leave => {
                (self.left, self.route) = (true, RouteObserved::Missing);
            }
            Action::LetGo => {
                if !self.with_namespace {
                    self.judge_handed();
                    if !self.left || self.apex == Some(Side::Stable) {
                        self.breaks(Property::Drained, "service and route go with the Canary".to_owned());
                    }
                }
                self.gone = true;
            }
            Action::RestorePrimary { expect } => {
                let stored = self.last_good.as_ref() == Some(expect);
                match &mut self.primary {
                    Some(primary) if stored => primary.template(expect),
                    None if stored => self.primary = Some(self.new_primary(expect.clone(), 2)),
                    Some(_) | None => self.breaks(Property::Analysed, "nothing stored to restore".to_owned()),
                }
            }
        }
    }

    /// At rest, a canary that cannot serve has no traffic while primary can serve.
    pub(super) fn judge_traffic(&mut self) {
        let serves = |side: &Option<Workload>| {
            side.as_ref().is_some_and(|side| side.replicas > 0 && side.observe().available > 0)
        };
        let steered = self.router_works && !self.policy.suspended && self.state.promoted.is_some();
        if steered && self.has_traffic() && !serves(&self.target) && serves(&self.primary) {
            self.breaks(Property::Able, "a canary that cannot serve has traffic".to_owned());
        }
        let is_promoting = self
            .state
            .release()
            .is_some_and(|release| matches!(release.stage, Stage::Promoting { .. } | Stage::Restoring { .. }));
        if steered
            && !self.deleting
            && !is_promoting
            && self.apex == Some(Side::Candidate)
            && serves(&self.primary)
        {
            self.breaks(Property::Able, "the service in front still leads to the canary".to_owned());
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
            self.breaks(Property::Able, "users are left on a primary without pods".to_owned());
        }
    }

    /// Whoever is on primary finds pods there while they are replaced; what is about to lose them lost its users before.
    fn judge_replaced(&mut self, to: &Revision) {
        let (Some(target), Some(primary)) = (&self.target, &self.primary) else { return };
        let releases = self.state.release().is_some() && self.policy.promotion == Promotion::CopyToPrimary;
        let changes = primary.digest != to.digest && target.digest == to.digest && self.copies_show;
        let share = self.share_of_primary();
        let needed = needed(self.demand, share);
        let starves = target.updates.keeps(primary.replicas) * 4 < needed * 3;
        let fresh = self.last_on_primary.is_some_and(|last| self.now < last + self.policy.drain);
        let under_way = target.updates == Updates::Recreate && share == 0 && fresh;
        let starves = starves || self.apex == Some(Side::Stable) && target.updates == Updates::Recreate;
        if releases && changes && !self.meddled && (starves || under_way) {
            self.breaks(Property::Able, format!("primary is replaced with {share} % of the users on it"));
        }
    }

    /// The service in front leads to a side that can take whoever does not come by the route.
    fn lead(&mut self, apex: Side) {
        let (target, primary) = (self.target.as_ref(), self.primary.as_ref());
        let canary_serves = target.is_some_and(|target| target.observe().available > 0 && target.replicas > 0);
        let primary_serves = primary.is_some_and(|primary| primary.observe().serving > 0 && primary.replicas > 0);
        let is_able = match apex {
            Side::Candidate => {
                target.is_some_and(|target| target.readiness() == Readiness::Ready && target.replicas > 0)
            }
            Side::Stable => primary_serves || !canary_serves,
        };
        if !is_able && self.apex != Some(apex) {
            self.breaks(Property::Able, format!("the service leads to {apex:?}, which cannot serve"));
        }
        self.apex = Some(apex);
    }

    pub(crate) fn share_of_primary(&self) -> i32 {
        match &self.route {
            RouteObserved::Present { routing, .. } => i32::from(routing.base.stable()),
            RouteObserved::Missing | RouteObserved::Unusable(_) => 0,
        }
    }

    /// What all requests take is what served when a release began.
    pub(crate) fn note_demand(&mut self) {
        let id = self.state.release().map(|release| release.id.clone());
        // A hand-back takes what primary serves with at the time.
        if id != self.demanded || matches!(self.state.phase, Phase::HandingBack(_)) {
            self.demand = self.primary.as_ref().map_or(1, |primary| primary.observe().available.max(1));
            self.demanded = id;
        }
        if let Some(size) = self.size {
            // Whoever sizes it in Git knows what it takes.
            self.demand = self.demand.min(size.max(1));
        }
    }

    /// Whoever is led to the target finds what was promoted, and ready.
    fn judge_handed(&mut self) {
        let (Some(target), Some(promoted)) = (&self.target, &self.state.promoted) else { return };
        let promoted = &promoted.revision.digest;
        if self.changed_since {
            return;
        }
        if target.digest != *promoted || target.readiness() != Readiness::Ready || target.replicas == 0 {
            self.breaks(Property::Analysed, format!("users are led to {target:?}, promoted is {promoted}"));
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
            self.breaks(Property::Able, format!("traffic to an unready canary: {routing}"));
        }
        let primary_serves =
            self.primary.as_ref().is_some_and(|primary| primary.observe().serving > 0 && primary.replicas > 0);
        let share = i32::from(routing.base.candidate().saturating_add(routing.base.mirror()).min(100));
        let short = self
            .target
            .as_ref()
            .is_some_and(|target| target.observe().available < needed(self.demand, share).min(MAXIMUM));
        if routing.exposes_more_than(&before) && short && primary_serves && !self.meddled {
            self.breaks(Property::Able, format!("too few pods for {routing}"));
        }
        let target_serves =
            self.target.as_ref().is_some_and(|target| target.observe().available > 0 && target.replicas > 0);
        if before.exposes_more_than(routing) && routing.uses_stable() && !primary_serves && target_serves {
            self.breaks(Property::Able, format!("traffic to an unready primary: {routing}"));
        }
        if routing.exposes_more_than(&before) && !self.reachable {
            self.breaks(Property::Able, format!("the canary's service leads elsewhere: {routing}"));
        }
        if self.router_works {
            self.route = RouteObserved::Present { routing: routing.clone(), current: true, unaccepted: None };
        }
    }

    pub(crate) fn has_traffic(&self) -> bool {
        matches!(&self.route, RouteObserved::Present { routing, .. } if routing.exposes())
    }

    fn scale_target(&mut self, replicas: i32) {
        let up = replicas > 0;
        if !up && self.has_traffic() {
            self.breaks(Property::Drained, "the canary is scaled down under traffic".to_owned());
        }
        let drained = self.last_traffic.is_none_or(|last| self.now >= last + self.policy.drain);
        let runs = self.target.as_ref().is_some_and(|target| target.replicas > 0);
        if !up && runs && !drained && !self.meddled {
            self.breaks(Property::Drained, "the canary is scaled down before it has drained".to_owned());
        }
        if let Some(target) = &mut self.target {
            target.scale(replicas);
        }
    }
}

/// Pods for a share, in percent, of what `all` serve.
fn needed(all: i32, percent: i32) -> i32 {
    (all * percent + 99) / 100
}
