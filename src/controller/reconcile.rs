//! One look at one Canary: observe, step, persist, act, ask.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use crate::api::CanarySpec;
use crate::model::NamespacedName;
use crate::release::wire::WireError;
use crate::release::{self, Action, Observed, Persist, Phase, Policy, Question, State};
use crate::router::merge_diff;

use super::act::act;
use super::answers::Answers;
use super::caches::CanaryView;
use super::expectations::{Expectations, Freshness};
use super::finalize::{add_finalizers, deleting, drop_finalizers, has_finalizer, missing_finalizers};
use super::former::{Anchor, leave_route, leaves_route, unfinished};
use super::hands::{ActError, Hands};
use super::means::Means;
use super::measure::{Asker, Finder};
use super::memory::{AFTER_RACE, Memories, Trouble, Unsaved};
use super::observe::{Heard, Look, request, router_for};
use super::policy::{compile, notices};
use super::routes::{RESOLVE_AGAIN, Served};
use super::status::{Extras, kept_spec, last_spec, left_alone, project, stored_state};
use super::telemetry::Telemetry;
use super::{crd, holds, persist};

/// When to look again even if nothing wakes us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// Only when something changes.
    Never,
    /// At a time.
    At(Timestamp),
    /// After a while.
    In(Duration),
}

/// Looks at Canaries; shared by all looks.
pub(super) struct Reconciler {
    pub(super) means: Means,
    pub(super) answers: Arc<Answers<Question>>,
    pub(super) finder: Finder,
    pub(super) telemetry: Telemetry,
    /// Set while the Canary definition prunes our status, or part of it.
    pub(super) pruned: Mutex<Option<String>>,
    pub(super) memories: Memories<Memory>,
}

/// What is remembered between two looks; all of it may be lost.
#[derive(Debug, Default)]
pub(super) struct Memory {
    expectations: Expectations,
    trouble: Trouble,
    /// What is accepted and not carried out, in words.
    ignored: Option<String>,
    /// The state of a deleted Canary that the API server does not keep.
    fleeting: Option<State>,
    /// A later state than the stored one.
    unsaved: Unsaved,
    /// What the last look was tied to.
    anchor: Anchor,
    /// The checks' names, to forget their series with the target's.
    checks: Vec<String>,
}

/// What is to be carried out: what the Canary says, or said last when what it says now cannot be.
struct Asked {
    spec: Arc<CanarySpec>,
    policy: Policy,
    /// Why what it says now cannot be carried out.
    invalid: Option<String>,
}

impl Reconciler {
    /// One look. Two looks at the same Canary never overlap: the queue sees to that.
    pub(super) async fn look(&self, key: &NamespacedName) -> Again {
        let Some(canary) = self.means.caches.canaries.get(key) else {
            self.forget(key);
            return Again::Never;
        };
        let mut memory = self.memories.take(key).unwrap_or_default();
        self.means.wakeups.depends_on(key, self.looks_at(&canary, &memory.anchor.target));
        let result = self.look_with(&canary, &mut memory).await;
        self.telemetry.reconciled(result.is_err());
        let again = memory.trouble.after("Canary", key, result);
        self.memories.put(key, memory);
        tracing::trace!(canary = %key, ?again, "looked at {key}");
        again
    }

    /// Names of what the Canary depends on, also what it cannot be told from. `former`: the target of the last look.
    fn looks_at(&self, canary: &CanaryView, former: &str) -> BTreeSet<NamespacedName> {
        let mut names = canary.looks_at();
        let look = canary.spec.as_ref().ok().map(|spec| self.look_of(canary, spec));
        names.extend(look.iter().flat_map(Look::needs));
        let heirs = look.as_ref().map(Look::may_precede).unwrap_or_default();
        names.extend(heirs.into_iter().map(|name| NamespacedName::new(canary.key.namespace.clone(), name)));
        let overlap = look.as_ref().and_then(Look::overlap);
        names.extend(overlap.map(|overlap| NamespacedName::new(canary.key.namespace.clone(), overlap.name)));
        // A release of the former target goes on to its end.
        let former = [former.to_owned(), format!("{former}-primary")];
        names.extend(former.map(|name| NamespacedName::new(canary.key.namespace.clone(), name)));
        names
    }

    async fn look_with(&self, canary: &CanaryView, memory: &mut Memory) -> Result<Again, ActError> {
        let namespace = &canary.key.namespace;
        if let Freshness::Stale(until) =
            memory.expectations.check(|kind, name| self.means.caches.version(kind, namespace, name))
        {
            return Ok(Again::In(until));
        }
        if canary.deleting && !has_finalizer(canary) {
            return Ok(Again::Never);
        }
        let asked = match self.asked(canary, &memory.anchor) {
            Ok(asked) => asked,
            // Nobody knows what there would be to hand back.
            Err(_) if canary.deleting => {
                drop_finalizers(canary, &mut self.hands(canary, &mut memory.expectations)).await?;
                return Ok(Again::Never);
            }
            Err(reason) => return self.refuse(canary, memory, &reason).await,
        };
        let missing = if canary.deleting { Vec::new() } else { missing_finalizers(canary, &asked.spec) };
        if !missing.is_empty() {
            let mut hands = self.hands(canary, &mut memory.expectations);
            add_finalizers(canary, &mut hands, missing).await?;
            return Ok(Again::In(AFTER_RACE));
        }
        self.look_at(canary, asked, memory).await
    }

    /// What is to be carried out, or why nobody knows. `known`: what the last look was tied to.
    fn asked(&self, canary: &CanaryView, known: &Anchor) -> Result<Asked, String> {
        let compiled = |spec: &CanarySpec| {
            let look = self.look_of(canary, spec);
            compile(&canary.key, spec, &self.means.settings, &|key| look.template(key))
                .map_err(|error| error.to_string())
        };
        let read = canary.spec.as_ref().map_err(|problem| format!("the spec cannot be read: {problem}"));
        let reason = match read.and_then(|spec| Ok((spec, compiled(spec)?))) {
            Ok((spec, policy)) => {
                let unfinished = (*known != Anchor::of(spec)).then(|| unfinished(canary, spec)).flatten();
                if let Some((last, reason)) = unfinished
                    && let Ok(policy) = compiled(&last)
                {
                    return Ok(Asked { spec: Arc::new(last), policy, invalid: Some(reason) });
                }
                return Ok(Asked { spec: Arc::new(spec.clone()), policy, invalid: None });
            }
            Err(reason) => reason,
        };
        let last = last_spec(&canary.status.thaw());
        let Some((spec, mut policy)) = last.and_then(|spec| compiled(&spec).ok().map(|policy| (spec, policy)))
        else {
            return Err(reason);
        };
        // Whoever wants nothing to be done means it, whatever else is wrong with the spec.
        policy.suspended |= canary.spec.as_ref().is_ok_and(|spec| spec.suspend);
        Ok(Asked { spec: Arc::new(spec), policy, invalid: Some(reason) })
    }

    async fn look_at(&self, canary: &CanaryView, asked: Asked, memory: &mut Memory) -> Result<Again, ActError> {
        let Asked { spec, mut policy, invalid } = asked;
        memory.checks = spec.analysis.metrics.iter().map(|metric| metric.name.clone()).collect();
        let notices: Vec<String> = notices(&spec).into_iter().map(|notice| notice.message).collect();
        let pruned = self.pruned.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(reason) = pruned.as_ref().filter(|_| !canary.deleting) {
            return self.refuse(canary, memory, reason).await;
        }
        match self.means.caches.routes.ensure(router_for(&spec).kinds()).await? {
            Served::Yes => {}
            Served::Soon => return Ok(Again::In(Duration::ZERO)),
            // Without their definitions there are no routes to hand back.
            Served::No(_) if canary.deleting => {}
            Served::No(reason) => {
                self.refuse(canary, memory, &reason).await?;
                return Ok(Again::In(RESOLVE_AGAIN));
            }
        }
        let now = self.means.clock.now();
        let stored = canary.status.thaw();
        let state = match stored_state(&stored) {
            // What the API server does not keep has to last in memory until the Canary is gone.
            Ok(None) => memory.fleeting.take(),
            Ok(state) => state,
            // What a newer Serin has begun is not finished by guessing.
            Err(WireError::Damaged(_)) if canary.deleting => None,
            Err(error) => return self.refuse(canary, memory, &error.to_string()).await,
        };
        let state = memory.unsaved.after(&stored["serin"]["state"]).or(state);
        let old = state.clone();
        let (key, target) = (&canary.key, &spec.target_ref.name);
        let anchor = Anchor::of(&spec);
        let last = (memory.anchor != anchor).then(|| last_spec(&stored)).flatten();
        let former = last.as_ref().map(|last| &last.target_ref.name).filter(|former| *former != target);
        let mut state = match (state, former) {
            (Some(state), Some(former)) => Some(release::retarget(state, key, former, target, now)),
            (state, _) => state,
        };
        if let Some(last) = last.as_ref().filter(|last| invalid.is_none() && leaves_route(last, &spec)) {
            let left = self.look_of(canary, last);
            match self.means.caches.routes.ensure(left.router.kinds()).await? {
                Served::Yes => {
                    let mut hands = self.hands(canary, &mut memory.expectations);
                    leave_route(&left, &mut hands, state.as_mut(), now).await?;
                }
                Served::Soon => return Ok(Again::In(Duration::ZERO)),
                // Without their definitions there are no routes to leave.
                Served::No(_) => {}
            }
        }
        let own = |state: &State| state.held_minimum.map(|held| held.before);
        let look = Look { own_minimum: state.as_ref().and_then(own), ..self.look_of(canary, &spec) };
        policy.progress_deadline = self.means.settings.patience(policy.progress_deadline, look.settling());
        let deleting = if canary.deleting { Some(deleting(&look, &self.means.cluster).await?) } else { None };
        let (answers, asking_since) = self.answers.of(&canary.key, &canary.owner.uid);
        let answers = release::Answers::new(answers);
        let kept = if invalid.is_none() { kept_spec(&spec) } else { Value::Null };
        let hold = holds::hold(&self.means.settings, &look, now);
        let problem = memory.trouble.problem.clone();
        let heard = Heard { answers, asking_since, invalid, problem, hold, deleting };
        let observed = look.observe(&policy, heard, &self.means.settings.projections);
        let notices: Vec<String> = notices.into_iter().chain(look.fixed()).collect();
        memory.ignored = (!notices.is_empty()).then(|| notices.join("; "));
        let is_told = state == old;
        let step = release::step(&policy, &observed, state.unwrap_or_else(|| State::new(now)), now);
        let extras = Extras {
            problem: memory.trouble.problem.as_deref(),
            ignored: memory.ignored.as_deref(),
            at_risk: canary.risks.as_deref(),
            spec: &kept,
            answered: None,
        };
        let mut status = project(&stored, Some(&step.state), extras, now);
        if pruned.as_deref() == Some(crd::PRUNES) {
            memory.fleeting = Some(step.state.clone());
            status.serin = None;
        }
        let (status, stored_state) = (persist::normal(&status), &stored["serin"]["state"]);
        let is_unsaved = status["serin"]["state"] != *stored_state && !stored_state.is_null();
        let may_wait = is_told && step.persist == Persist::Later && !is_news(&stored, &status);
        if is_unsaved && may_wait {
            memory.unsaved.keep(stored_state, &step.state);
        } else if self.persist(canary, &status, &mut memory.expectations).await? {
            memory.unsaved.is_saved();
        } else {
            return self.refuse(canary, memory, crd::PRUNES).await;
        }
        memory.anchor = anchor;
        self.tell(canary, &policy, old.as_ref(), &step.state);
        let look = Look { own_minimum: own(&step.state), ..look };
        let healed = self.act_all(&look, &step.actions, memory).await?;
        self.ask(canary, &spec, &policy, &observed, &step.state);
        Ok(match step.wake {
            _ if healed => Again::In(AFTER_RACE),
            Some(wake) => Again::At(wake),
            None => Again::Never,
        })
    }

    /// Nothing can be decided: the condition says why, and requests get an answer.
    async fn refuse(&self, canary: &CanaryView, memory: &mut Memory, reason: &str) -> Result<Again, ActError> {
        let (stored, now) = (canary.status.thaw(), self.means.clock.now());
        let request = request(canary);
        let state = match stored_state(&stored) {
            Ok(state) => state,
            Err(WireError::Damaged(_)) => None,
            Err(newer @ WireError::Newer { .. }) => {
                let why = newer.to_string();
                tracing::warn!(canary = %canary.key, "Canary {} is left alone: {why}", canary.key);
                self.persist(canary, &left_alone(&stored, &why, now), &mut memory.expectations).await?;
                return Ok(Again::Never);
            }
        };
        let state = state.map(|state| release::refuse(&canary.key, request.as_ref(), state, reason, now));
        let extras = Extras {
            problem: Some(reason),
            ignored: memory.ignored.as_deref(),
            at_risk: canary.risks.as_deref(),
            spec: &Value::Null,
            answered: request.as_ref().map(|request| request.raw.as_str()),
        };
        let mut status = project(&stored, state.as_ref(), extras, now);
        if reason == crd::PRUNES {
            // It would not be kept, and be written again at every look.
            status.serin = None;
        }
        let status = persist::normal(&status);
        if merge_diff(&stored, &status).as_object().is_none_or(|diff| !diff.is_empty()) {
            tracing::warn!(canary = %canary.key, "Canary {} is blocked: {reason}", canary.key);
        }
        self.persist(canary, &status, &mut memory.expectations).await?;
        Ok(Again::Never)
    }

    /// Writes what changed of the status; nothing else writes it. `false`: the API server did not keep our state.
    async fn persist(
        &self,
        canary: &CanaryView,
        status: &Value,
        expectations: &mut Expectations,
    ) -> Result<bool, ActError> {
        let diff = merge_diff(&canary.status.thaw(), status);
        if diff.as_object().is_none_or(serde_json::Map::is_empty) {
            return Ok(true);
        }
        let mut hands = self.hands(canary, expectations);
        let kept = hands.status(&canary.key.name, &canary.resource_version, diff).await?;
        if !status["serin"]["state"].is_null() && kept["serin"]["state"].is_null() {
            tracing::error!(canary = %canary.key, "{}", crd::PRUNES);
            *self.pruned.lock().unwrap_or_else(PoisonError::into_inner) = Some(crd::PRUNES.to_owned());
            return Ok(false);
        }
        Ok(true)
    }

    /// Carries out the actions in order and stops at the first that fails. `true` if an earlier problem is gone.
    async fn act_all(&self, look: &Look<'_>, actions: &[Action], memory: &mut Memory) -> Result<bool, ActError> {
        for action in actions {
            tracing::debug!(canary = %look.canary.key, ?action, "acting");
            act(action, look, &mut self.hands(look.canary, &mut memory.expectations)).await?;
        }
        Ok(memory.trouble.problem.take().is_some())
    }

    fn ask(
        &self,
        canary: &CanaryView,
        spec: &Arc<CanarySpec>,
        policy: &Policy,
        observed: &Observed,
        state: &State,
    ) {
        let open = release::ask(policy, observed, state, self.means.clock.now());
        if open.is_empty() {
            return;
        }
        let revision = state.release().map(|release| &release.revision.digest).or(state.last_applied.as_ref());
        let asker = Asker {
            canary: canary.key.clone(),
            spec: spec.clone(),
            checksum: revision.map(|digest| digest.short().to_owned()).unwrap_or_default(),
        };
        self.answers.ask(&canary.key, &canary.owner.uid, open, |question| {
            self.finder.clone().find_out(asker.clone(), question)
        });
    }

    fn tell(&self, canary: &CanaryView, policy: &Policy, old: Option<&State>, state: &State) {
        let target = &policy.names.target;
        self.telemetry.show(&canary.key, target, state);
        if old.is_none() {
            self.telemetry.count(self.means.caches.canaries.keys().iter());
        }
        if let (Some(Phase::Releasing(_)), Phase::Idle { last, .. }) = (old.map(|old| &old.phase), &state.phase) {
            self.telemetry.ended(&canary.key, target, *last);
        }
    }

    fn forget(&self, key: &NamespacedName) {
        self.means.wakeups.forget(key);
        self.answers.forget(key);
        if let Some(memory) = self.memories.take(key) {
            self.telemetry.forget(key, &memory.anchor.target, &memory.checks);
        }
        self.telemetry.count(self.means.caches.canaries.keys().iter());
    }

    fn look_of<'a>(&'a self, canary: &'a CanaryView, spec: &'a CanarySpec) -> Look<'a> {
        let (CanaryView { key, .. }, caches) = (canary, &self.means.caches);
        let is_led_here = |name: &String| {
            let found = caches.deployments.get(&NamespacedName::new(key.namespace.clone(), name.as_str()));
            found.is_some_and(|found| found.heir.as_ref() == Some(&key.name))
        };
        let predecessor = caches.siblings.left_to(key).into_iter().find(is_led_here);
        Look { caches, router: router_for(spec), canary, spec, own_minimum: None, predecessor }
    }

    fn hands<'a>(&'a self, canary: &'a CanaryView, expectations: &'a mut Expectations) -> Hands<'a> {
        self.means.hands(&canary.key.namespace, expectations)
    }
}

/// Whether a status says anything else than the one before, the state apart.
fn is_news(before: &Value, status: &Value) -> bool {
    let without_state = |status: &Value| {
        let mut status = status.clone();
        if let Some(serin) = status["serin"].as_object_mut() {
            serin.remove("state");
        }
        status
    };
    without_state(before) != without_state(status)
}
