//! One look at one Rollout: observe, step, persist, act, and put away what has served.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::api::annotations::STATE;
use crate::cluster::explain;
use crate::manifest::template_digest;
use crate::model::{Digest, Frozen, NamespacedName, Projection};
use crate::release::{self, Action, Observed, Persist, Policy, RouteObserved, Side, State, WaitingOn};
use crate::rollout::keys::REVISION;
use crate::rollout::services::{self, pointed_at};
use crate::rollout::sets::{self, Keeps, Sides, Sweep, surplus, sweep};
use crate::rollout::spec::{Named, RolloutSpec, Shifted, SpecError, WorkloadRef};
use crate::rollout::status;
use crate::rollout::stored::Stored;
use crate::rollout::{Pace, commands, compile, stored, takeover};
use crate::router::{DESTINATION_RULE, LiveRoutes as _, RouteKind, VIRTUAL_SERVICE, merge_diff};

use super::act::{act, number, put_away, scale_workload};
use super::caches::RolloutView;
use super::rivals::RIVAL_AGAIN;
use super::seen::Seen;
use super::{Memory, Rollouts};
use crate::controller::caches::Tracked;
use crate::controller::expectations::{Expectations, Freshness};
use crate::controller::hands::{ActError, Hands};
use crate::controller::holds;
use crate::controller::memory::AFTER_RACE;
use crate::controller::persist::normal;
use crate::controller::reconcile::Again;
use crate::controller::routes::{RESOLVE_AGAIN, Served};

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
        if let Some(reason) = result.as_ref().err().and_then(ActError::refused_to_make) {
            // Said at the next look.
            memory.unmakeable = Some((view.digest.clone(), format!("spec.template: {reason}")));
        }
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
        let written = view.spec.thaw();
        let resolved = match self.resolve(view, &written, memory).await? {
            Ok(resolved) => resolved,
            Err(reason) => {
                self.refuse(view, &reason, memory).await?;
                return Ok(Again::In(RESOLVE_AGAIN));
            }
        };
        let (view, workload) = (&resolved.view, resolved.workload.as_ref());
        let asked = match asked(&view.spec.thaw(), &stored.kept) {
            Ok(asked) => asked,
            Err(error) => return self.refuse(view, &error.to_string(), memory).await,
        };
        let spec = &asked.spec;
        self.means.wakeups.depends_on(key, names_of(key, spec));
        let kinds: &[RouteKind] = match spec.shifted() {
            Some(Shifted { rule: Some(_), .. }) => &[VIRTUAL_SERVICE, DESTINATION_RULE],
            Some(Shifted { rule: None, .. }) => &[VIRTUAL_SERVICE],
            None => &[],
        };
        match self.means.caches.routes.ensure(kinds).await? {
            Served::Yes => {}
            Served::Soon => return Ok(Again::In(Duration::ZERO)),
            Served::No(reason) => {
                self.refuse(view, &reason, memory).await?;
                return Ok(Again::In(RESOLVE_AGAIN));
            }
        }
        let mut seen = self.see(view, asked, stored.state.as_ref());
        let unmakeable = memory.unmakeable.as_ref().filter(|(digest, _)| *digest == view.digest);
        seen.invalid = seen.invalid.or_else(|| unmakeable.map(|(_, reason)| reason.clone()));
        let again = self.decide(&seen, stored, memory).await?;
        if let Some(workload) = workload {
            let hands = &mut self.hands(&seen.view.key, &mut memory.expectations);
            scale_workload(&seen, workload, hands).await?;
        }
        Ok(again)
    }

    /// A Rollout with the template of the workload that it names, or why there is none.
    async fn resolve(
        &self,
        view: &RolloutView,
        spec: &Value,
        memory: &mut Memory,
    ) -> Result<Result<Resolved, String>, ActError> {
        let Some(name) = WorkloadRef::named(spec).map(str::to_owned) else {
            return Ok(Ok(Resolved { view: view.clone(), workload: None }));
        };
        let key = NamespacedName::new(view.key.namespace.clone(), name.as_str());
        if self.means.caches.deployments.get(&key).is_none() {
            self.means.wakeups.depends_on(&view.key, BTreeSet::from([key]));
            return Ok(Err(format!(
                "spec.workloadRef.name: Invalid value: \"{name}\": deployments.apps \"{name}\" not found"
            )));
        }
        let hands = self.hands(&view.key, &mut memory.expectations);
        let workload = hands.get(Tracked::Deployment, &name).await?;
        let resolved = WorkloadRef::resolve(spec, &workload);
        let digest = template_digest(&resolved["template"]);
        let workload_generation = workload["metadata"]["generation"].as_i64().unwrap_or(0);
        let view = RolloutView { digest, workload_generation, spec: Frozen::of(&resolved), ..view.clone() };
        Ok(Ok(Resolved { view, workload: Some(workload) }))
    }

    /// All that the caches show.
    fn see<'a>(&self, view: &'a RolloutView, asked: Asked, state: Option<&State>) -> Seen<'a> {
        let Asked { spec, invalid, kept } = asked;
        let namespace = view.key.namespace.clone();
        let service = |name: &str| self.means.caches.service(&NamespacedName::new(namespace.clone(), name));
        let [stable_service, canary_service] =
            spec.services().map(|found| found.and_then(|found| service(found.name)));
        let status = view.status.thaw();
        let named = [status["stableRS"].as_str(), stable_service.as_ref().and_then(pointed_at)];
        let promoted = state.and_then(|state| state.promoted.as_ref()).map(|promoted| &promoted.revision.digest);
        let sides = Sides::of(self.own.sets_of(&view.uid), named, promoted, &view.digest);
        let live = self.means.caches.routes_in(&namespace);
        let routes = spec.shifted().map_or(&[][..], |shifted| &shifted.virtual_services);
        let routes = routes.iter().map(|of| live.get(VIRTUAL_SERVICE, &of.name)).collect();
        let rule = spec.shifted().and_then(|shifted| live.get(DESTINATION_RULE, &shifted.rule.as_ref()?.name));
        let now = self.means.clock.now();
        Seen { view, spec, invalid, kept, sides, status, stable_service, canary_service, routes, rule, now }
    }

    async fn decide(&self, seen: &Seen<'_>, stored: Stored, memory: &mut Memory) -> Result<Again, ActError> {
        let pace = Pace { drain: self.means.settings.drain, settle: self.means.settings.settle };
        let policy = compile(&seen.view.key, &seen.spec, pace);
        let known = memory.unsaved.after(&seen.stored()).or_else(|| stored.state.clone());
        let state = known.or_else(|| led_by_argo(seen, &policy));
        let state = state.unwrap_or_else(|| State::new(seen.now));
        let hold = holds::calendar(&[&self.means.settings.windows], seen.now);
        let projections = &self.means.settings.projections;
        let observed = Observed { hold, ..observe(seen, &policy, &state, memory, projections) };
        let step = release::step(&policy, &observed, state, seen.now);
        let news = seen.news(&policy, &step.state, &observed);
        let is_kept = stored.kept == seen.kept;
        let is_unsaved = stored.state.as_ref() != Some(&step.state) || !is_kept;
        let may_wait = step.persist == Persist::Later && stored.state.is_some() && is_kept && news.is_none();
        let mut version = seen.view.resource_version.clone();
        if !is_kept {
            self.release_former(seen, &stored.kept, memory).await?;
        }
        if is_unsaved && may_wait {
            memory.unsaved.keep(&seen.stored(), &step.state);
        } else if is_unsaved {
            version = self.persist(seen, &step.state, version, memory).await?;
            memory.unsaved.is_saved();
        }
        if let Some(news) = news {
            version = self.tell(seen.view, news, version, memory).await?;
            self.announce(seen, &policy, &step.state, &observed, &version, memory).await;
        }
        for action in &step.actions {
            tracing::debug!(rollout = %seen.view.key, ?action, "acting");
            act(action, seen, &version, &mut self.hands(&seen.view.key, &mut memory.expectations)).await?;
        }
        let is_made =
            step.actions.iter().any(|action| matches!(action, Action::Scale { side: Side::Candidate, .. }));
        if step.state.release().is_some() && !is_made {
            number(seen, &mut self.hands(&seen.view.key, &mut memory.expectations)).await?;
        }
        let healed = memory.trouble.problem.take().is_some();
        let found = [&seen.stable_service, &seen.canary_service];
        let pointed: Vec<&str> = found.iter().filter_map(|service| pointed_at(service.as_ref()?)).collect();
        let swept = if seen.by_pods() {
            surplus(&seen.sides, &pointed, seen.spec.history)
        } else {
            let keeps = Keeps { warm: seen.spec.scale_down_limit(), history: seen.spec.history };
            sweep(&seen.sides, &pointed, &step.state, keeps, seen.now)
        };
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

    /// Services that the Rollout named before and names no longer are given back.
    async fn release_former(&self, seen: &Seen<'_>, kept: &Value, memory: &mut Memory) -> Result<(), ActError> {
        let (before, now) = (Named::of(kept).services, Named::of(&seen.kept).services);
        for name in before.into_iter().filter(|name| !now.contains(name)) {
            let key = NamespacedName::new(seen.view.key.namespace.clone(), name.as_str());
            let patch =
                self.means.caches.service(&key).and_then(|live| services::release(&live, &seen.view.key.name));
            if let Some(patch) = patch {
                let mut hands = self.hands(&seen.view.key, &mut memory.expectations);
                hands.merge(Tracked::Service, &name, patch).await?;
            }
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
    let shown = if seen.by_pods() { takeover::meant(&seen.status, policy) } else { routing };
    takeover::state(&seen.status, &seen.sides, &seen.view.digest, policy, &shown, seen.now)
}

/// A Rollout with the template that it has or takes, and whose that is.
struct Resolved {
    view: RolloutView,
    workload: Option<Value>,
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
    let services = spec.services().into_iter().flatten().map(|service| service.name);
    let routes = spec.shifted().into_iter().flat_map(|shifted| {
        let rule = shifted.rule.iter().map(|rule| rule.name.as_str());
        shifted.virtual_services.iter().map(|of| of.name.as_str()).chain(rule)
    });
    let workload = spec.workload.iter().map(|workload| workload.name.as_str());
    let names = services.chain(routes).chain(workload);
    names.map(|name| NamespacedName::new(key.namespace.clone(), name)).collect()
}

fn observe(
    seen: &Seen<'_>,
    policy: &Policy,
    state: &State,
    memory: &Memory,
    projections: &[Projection],
) -> Observed {
    let digest: &Digest = &seen.view.digest;
    Observed {
        target: Some(seen.target()),
        primary: seen.sides.primary(),
        size: Some(seen.spec.replicas),
        route: seen.route(),
        skips: sets::skips(&seen.sides, &seen.spec.strategy, seen.spec.rollback_window, seen.now),
        request: commands::request(&seen.status, state, policy, (digest, &seen.hash())),
        obstacle: seen.obstacle(),
        problem: memory.trouble.problem.clone(),
        // Statuses of commits are not told for Rollouts yet.
        projected: Projection::GIT
            .into_iter()
            .filter(|by| projections.contains(by))
            .map(|by| (by, seen.view.projected.up_to(by).cloned()))
            .collect(),
        rollback: seen.view.rollback.clone(),
        unrecorded: seen.view.unrecorded.clone(),
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
pub(super) fn differs(old: &Value, new: &Value) -> Option<Value> {
    let diff = merge_diff(&status::ours(old), &normal(new));
    diff.as_object().is_none_or(|diff| !diff.is_empty()).then_some(diff)
}
