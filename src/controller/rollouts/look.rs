//! One look at one Rollout: observe, step, persist, act, and put away what has served.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::api::annotations::STATE;
use crate::cluster::explain;
use crate::model::{Digest, NamespacedName, Routing};
use crate::release::{self, Observed, Obstacle, Persist, Policy, RouteObserved, State, WaitingOn};
use crate::rollout::keys::REVISION;
use crate::rollout::services::{self, pointed_at};
use crate::rollout::sets::{self, Maker, Sides, Sweep, sweep};
use crate::rollout::spec::{RolloutSpec, SpecError};
use crate::rollout::status::{self, Telling};
use crate::rollout::stored::Stored;
use crate::rollout::{Pace, commands, compile, stored, takeover, virtual_service};
use crate::router::{LiveRoutes as _, VIRTUAL_SERVICE, merge_diff};

use super::act::{act, put_away};
use super::caches::RolloutView;
use super::rivals::RIVAL_AGAIN;
use super::{Memory, Rollouts};
use crate::controller::caches::Tracked;
use crate::controller::expectations::{Expectations, Freshness};
use crate::controller::hands::{ActError, Hands};
use crate::controller::holds;
use crate::controller::memory::AFTER_RACE;
use crate::controller::persist::normal;
use crate::controller::reconcile::Again;
use crate::controller::routes::{RESOLVE_AGAIN, Served};

/// A Rollout and all that it is made of, as the caches show it.
pub(super) struct Seen<'a> {
    pub(super) view: &'a RolloutView,
    pub(super) spec: RolloutSpec,
    /// Why what it says now cannot be carried out; `spec` is the last one that could.
    pub(super) invalid: Option<String>,
    /// What is kept of the spec.
    pub(super) kept: Value,
    pub(super) sides: Sides,
    pub(super) status: Value,
    pub(super) stable_service: Option<Value>,
    pub(super) canary_service: Option<Value>,
    pub(super) route: Option<Value>,
    /// Whether users meet the canary Service, as far as the route shows.
    pub(super) exposes: bool,
    pub(super) now: Timestamp,
}

impl Seen<'_> {
    pub(super) fn maker(&self) -> Maker<'_> {
        Maker {
            namespace: &self.view.key.namespace,
            name: &self.view.key.name,
            uid: &self.view.uid,
            selector: &self.spec.selector,
            template: &self.spec.template,
            digest: &self.view.digest,
            min_ready_seconds: self.spec.min_ready_seconds,
            desired: self.spec.replicas,
        }
    }

    /// The hash of the present template's set.
    fn hash(&self) -> String {
        self.sides.current.as_ref().map_or_else(|| sets::hash(&self.view.digest), |set| set.hash.clone())
    }

    /// What the annotation says, as it is.
    fn stored(&self) -> Value {
        json!(self.view.state)
    }

    /// What is new in the status.
    fn news(&self, policy: &Policy, state: &State, observed: &Observed) -> Option<Value> {
        let hash = self.hash();
        let telling = Telling {
            old: &self.status,
            generation: self.view.generation,
            spec: &self.spec,
            policy,
            sides: &self.sides,
            hash: &hash,
            state,
            obstacle: observed.obstacle.as_ref(),
            weight: self.weight(),
            now: self.now,
        };
        differs(&self.status, &status::project(&telling))
    }

    /// The live Services, and where each is to lead.
    pub(super) fn pointing(&self) -> [(Option<&Value>, Option<String>); 2] {
        let live = self.canary_service.as_ref().and_then(pointed_at);
        [
            (self.stable_service.as_ref(), services::stable(&self.sides)),
            (self.canary_service.as_ref(), services::candidate(&self.sides, live, self.exposes)),
        ]
    }

    fn services_are_current(&self) -> bool {
        let name = &self.view.key.name;
        self.pointing().into_iter().all(|(live, wanted)| match (live, wanted) {
            (Some(live), Some(hash)) => services::point(live, &hash, name).is_none(),
            (Some(_) | None, _) => true,
        })
    }

    /// What keeps everything from going on, besides the spec itself.
    fn obstacle(&self) -> Option<Obstacle> {
        let (name, template) = (&self.view.key.name, &self.spec.template);
        let canary = &self.spec.canary;
        let named = [
            (&self.stable_service, &canary.shifted.stable_service, "spec.strategy.canary.stableService"),
            (&self.canary_service, &canary.shifted.canary_service, "spec.strategy.canary.canaryService"),
        ];
        let refused = named
            .into_iter()
            .find_map(|(live, service, path)| services::refuse(live.as_ref(), service, path, name, template));
        // What stops a release under way comes first.
        self.route_problem()
            .map(Obstacle::Route)
            .or_else(|| self.invalid.clone().map(Obstacle::Spec))
            .or_else(|| refused.map(Obstacle::Service))
    }

    fn route_problem(&self) -> Option<String> {
        let canary = &self.spec.canary;
        match &self.route {
            None => Some(format!(
                "spec.strategy.canary.trafficRouting.istio.virtualService.name: Invalid value: \"{name}\": virtualservice \
                 \"{name}\" not found",
                name = canary.shifted.virtual_service
            )),
            Some(live) => virtual_service::read(live, &canary.shifted).err().map(|problem| problem.to_string()),
        }
    }

    fn route(&self) -> RouteObserved {
        let unusable = |reason: String| RouteObserved::Unusable(reason);
        let missing = || unusable(self.route_problem().unwrap_or_default());
        let Some(live) = &self.route else { return missing() };
        match virtual_service::read(live, &self.spec.canary.shifted) {
            Ok(shown) => RouteObserved::Present {
                routing: Routing::candidate_percent(shown.candidate),
                current: shown.current && self.services_are_current(),
                unaccepted: None,
            },
            Err(problem) => unusable(problem.to_string()),
        }
    }

    fn weight(&self) -> u8 {
        let shown =
            self.route.as_ref().and_then(|live| virtual_service::read(live, &self.spec.canary.shifted).ok());
        shown.map_or(0, |shown| shown.candidate)
    }
}

impl Rollouts {
    /// One look. Two looks at the same Rollout never overlap: the queue sees to that.
    pub(super) async fn look(&self, key: &NamespacedName) -> Again {
        let Some(view) = self.own.rollouts.get(key) else {
            self.means.wakeups.forget(key);
            self.memories.take(key);
            self.release_services(key).await;
            return Again::Never;
        };
        if self.rivals.lead() {
            return Again::In(RIVAL_AGAIN);
        }
        let mut memory = self.memories.take(key).unwrap_or_default();
        let result = self.look_with(&view, &mut memory).await;
        let again = memory.trouble.after("Rollout", key, result);
        self.memories.put(key, memory);
        again
    }

    async fn look_with(&self, view: &RolloutView, memory: &mut Memory) -> Result<Again, ActError> {
        let key = &view.key;
        let cached = |kind, name: &str| match kind {
            Tracked::Rollout | Tracked::ReplicaSet => self.own.version(kind, &key.namespace, name),
            other => self.means.caches.version(other, &key.namespace, name),
        };
        if let Freshness::Stale(until) = memory.expectations.check(cached) {
            return Ok(Again::In(until));
        }
        // Its sets go with it, and its Services are given back when it is gone.
        if view.deleting {
            return Ok(Again::Never);
        }
        let stored = match stored::read(view.state.as_deref()) {
            Ok(stored) => stored,
            Err(error) => return self.refuse(view, &error.to_string(), memory).await,
        };
        let asked = match asked(&view.spec.thaw(), &stored.kept) {
            Ok(asked) => asked,
            Err(error) => return self.refuse(view, &error.to_string(), memory).await,
        };
        let spec = &asked.spec;
        self.means.wakeups.depends_on(key, names_of(key, spec));
        match self.means.caches.routes.ensure(&[VIRTUAL_SERVICE]).await? {
            Served::Yes => {}
            Served::Soon => return Ok(Again::In(Duration::ZERO)),
            Served::No(reason) => {
                self.refuse(view, &reason, memory).await?;
                return Ok(Again::In(RESOLVE_AGAIN));
            }
        }
        let seen = self.see(view, asked, stored.state.as_ref());
        self.decide(&seen, stored, memory).await
    }

    /// All that the caches show.
    fn see<'a>(&self, view: &'a RolloutView, asked: Asked, state: Option<&State>) -> Seen<'a> {
        let Asked { spec, invalid, kept } = asked;
        let namespace = view.key.namespace.clone();
        let service = |name: &str| self.means.caches.service(&NamespacedName::new(namespace.clone(), name));
        let stable_service = service(&spec.canary.shifted.stable_service);
        let canary_service = service(&spec.canary.shifted.canary_service);
        let status = view.status.thaw();
        let named = [status["stableRS"].as_str(), stable_service.as_ref().and_then(pointed_at)];
        let promoted = state.and_then(|state| state.promoted.as_ref()).map(|promoted| &promoted.revision.digest);
        let sides = Sides::of(self.own.sets_of(&view.uid), named, promoted, &view.digest);
        let route =
            self.means.caches.routes_in(&namespace).get(VIRTUAL_SERVICE, &spec.canary.shifted.virtual_service);
        let shown = route.as_ref().and_then(|live| virtual_service::read(live, &spec.canary.shifted).ok());
        let exposes = shown.is_some_and(|shown| shown.candidate > 0);
        let now = self.means.clock.now();
        Seen { view, spec, invalid, kept, sides, status, stable_service, canary_service, route, exposes, now }
    }

    async fn decide(&self, seen: &Seen<'_>, stored: Stored, memory: &mut Memory) -> Result<Again, ActError> {
        let pace = Pace { drain: self.means.settings.drain, settle: self.means.settings.settle };
        let policy = compile(&seen.view.key, &seen.spec, pace);
        let known = memory.unsaved.after(&seen.stored()).or_else(|| stored.state.clone());
        let state = known.or_else(|| led_by_argo(seen, &policy));
        let state = state.unwrap_or_else(|| State::new(seen.now));
        let hold = holds::calendar(&[&self.means.settings.windows], seen.now);
        let observed = Observed { hold, ..observe(seen, &policy, &state, memory) };
        let step = release::step(&policy, &observed, state, seen.now);
        let news = seen.news(&policy, &step.state, &observed);
        let is_unsaved = stored.state.as_ref() != Some(&step.state) || stored.kept != seen.kept;
        let may_wait =
            step.persist == Persist::Later && stored.state.is_some() && stored.kept == seen.kept && news.is_none();
        let mut version = seen.view.resource_version.clone();
        if is_unsaved && may_wait {
            memory.unsaved.keep(&seen.stored(), &step.state);
        } else if is_unsaved {
            version = self.persist(seen, &step.state, version, memory).await?;
            memory.unsaved.is_saved();
        }
        if let Some(news) = news {
            version = self.tell(seen.view, news, version, memory).await?;
        }
        for action in &step.actions {
            tracing::debug!(rollout = %seen.view.key, ?action, "acting");
            act(action, seen, &version, &mut self.hands(&seen.view.key, &mut memory.expectations)).await?;
        }
        let healed = memory.trouble.problem.take().is_some();
        let found = [&seen.stable_service, &seen.canary_service];
        let pointed: Vec<&str> = found.iter().filter_map(|service| pointed_at(service.as_ref()?)).collect();
        let swept = sweep(&seen.sides, &pointed, &step.state, seen.spec.history, seen.now);
        self.sweep(seen, &swept, memory).await?;
        let wakes = [step.wake, sets::next_deadline(&seen.sides), late(seen, &policy, &step.state)];
        Ok(match wakes.into_iter().flatten().min() {
            _ if healed => Again::In(AFTER_RACE),
            Some(wake) => Again::At(wake),
            None => Again::Never,
        })
    }

    /// Writes the state before anything is done; returns the Rollout's version then.
    async fn persist(
        &self,
        seen: &Seen<'_>,
        state: &State,
        version: String,
        memory: &mut Memory,
    ) -> Result<String, ActError> {
        let mut annotations = json!({STATE: stored::write(state, &seen.kept)});
        let revision = seen.sides.current.as_ref().map(|set| set.revision.to_string());
        if revision.is_some() && revision != seen.view.revision {
            annotations[REVISION] = json!(revision);
        }
        let patch = json!({"metadata": {"resourceVersion": version, "annotations": annotations}});
        let name = &seen.view.key.name;
        let mut hands = self.hands(&seen.view.key, &mut memory.expectations);
        let after = hands.merge_to(Tracked::Rollout, name, patch).await?;
        Ok(after.unwrap_or(version))
    }

    /// Writes what is new in the status; returns the Rollout's version then.
    async fn tell(
        &self,
        view: &RolloutView,
        news: Value,
        version: String,
        memory: &mut Memory,
    ) -> Result<String, ActError> {
        let mut hands = self.hands(&view.key, &mut memory.expectations);
        let done = hands.status_of(Tracked::Rollout, &view.key.name, &version, news).await?;
        Ok(done.metadata.resource_version.unwrap_or(version))
    }

    /// Nothing is done, and the status says why.
    async fn refuse(&self, view: &RolloutView, reason: &str, memory: &mut Memory) -> Result<Again, ActError> {
        let old = view.status.thaw();
        let status = status::invalid(&old, &view.key.name, reason, self.means.clock.now());
        if status["message"] != old["message"] {
            tracing::warn!(rollout = %view.key, "Rollout {} is left as it is: {reason}", view.key);
        }
        if let Some(news) = differs(&old, &status) {
            self.tell(view, news, view.resource_version.clone(), memory).await?;
        }
        Ok(Again::Never)
    }

    async fn sweep(&self, seen: &Seen<'_>, swept: &[Sweep], memory: &mut Memory) -> Result<(), ActError> {
        for found in swept {
            put_away(found, seen, &mut self.hands(&seen.view.key, &mut memory.expectations)).await?;
        }
        Ok(())
    }

    /// A Rollout that is gone points its Services no longer.
    async fn release_services(&self, key: &NamespacedName) {
        for service in self.means.caches.services_of_rollout(key) {
            let name = service["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            let Some(patch) = services::release(&service, &key.name) else { continue };
            let mut expectations = Expectations::default();
            let done = self.hands(key, &mut expectations).merge(Tracked::Service, &name, patch).await;
            if let Err(error) = done {
                tracing::warn!(rollout = %key, "Service {name} of a Rollout that is gone is still pointed: {}", explain(&error));
            }
        }
    }

    fn hands<'a>(&'a self, key: &'a NamespacedName, expectations: &'a mut Expectations) -> Hands<'a> {
        self.means.hands(&key.namespace, expectations)
    }
}

/// What Argo Rollouts' own controller was doing, where it has led the Rollout until now.
fn led_by_argo(seen: &Seen<'_>, policy: &Policy) -> Option<State> {
    let RouteObserved::Present { routing, .. } = seen.route() else { return None };
    takeover::state(&seen.status, &seen.sides, &seen.view.digest, policy, &routing, seen.now)
}

/// What is to be carried out: what a Rollout says, or said last when what it says now cannot be.
struct Asked {
    spec: RolloutSpec,
    invalid: Option<String>,
    kept: Value,
}

fn asked(live: &Value, kept: &Value) -> Result<Asked, SpecError> {
    let error = match RolloutSpec::read(live) {
        Ok(spec) => return Ok(Asked { spec, invalid: None, kept: stored::kept(live) }),
        Err(error) => error,
    };
    let last = stored::instead(live, kept).and_then(|last| RolloutSpec::read(&last).ok());
    match last {
        Some(spec) => Ok(Asked { spec, invalid: Some(error.to_string()), kept: kept.clone() }),
        None => Err(error),
    }
}

/// Names of what a Rollout depends on besides its sets.
fn names_of(key: &NamespacedName, spec: &RolloutSpec) -> BTreeSet<NamespacedName> {
    let canary = &spec.canary;
    let names = [&canary.shifted.stable_service, &canary.shifted.canary_service, &canary.shifted.virtual_service];
    names.map(|name| NamespacedName::new(key.namespace.clone(), name.as_str())).into()
}

fn observe(seen: &Seen<'_>, policy: &Policy, state: &State, memory: &Memory) -> Observed {
    let digest: &Digest = &seen.view.digest;
    Observed {
        target: Some(seen.sides.target(digest, seen.view.generation)),
        primary: seen.sides.primary(),
        size: Some(seen.spec.replicas),
        route: seen.route(),
        request: commands::request(&seen.status, state, policy, (digest, &seen.hash())),
        obstacle: seen.obstacle(),
        problem: memory.trouble.problem.clone(),
        ..Observed::default()
    }
}

/// When it is to be said that a side is late.
fn late(seen: &Seen<'_>, policy: &Policy, state: &State) -> Option<Timestamp> {
    matches!(state.waiting_on, Some(WaitingOn::Readiness { .. }))
        .then(|| status::late_at(&seen.spec, policy, state))
        .flatten()
        .filter(|at| *at > seen.now)
}

/// The merge patch that makes one status of the other, if there is anything to change.
fn differs(old: &Value, new: &Value) -> Option<Value> {
    let diff = merge_diff(&status::ours(old), &normal(new));
    diff.as_object().is_none_or(|diff| !diff.is_empty()).then_some(diff)
}
