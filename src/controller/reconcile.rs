//! One look at one Canary: observe, step, persist, act, ask.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::api::{BLOCKED, CanarySpec};
use crate::cluster::{Clock, Cluster, Writer, explain};
use crate::model::NamespacedName;
use crate::release::{self, Action, Event, Observed, Phase, Policy, State};
use crate::router::merge_diff;

use super::act::act;
use super::answers::Answers;
use super::caches::{Caches, CanaryView, Kinds};
use super::expectations::{Expectations, Freshness};
use super::finalize::{
    HandOver, Progress, add_finalizers, drop_finalizers, hand_over, has_finalizer, missing_finalizers,
};
use super::hands::{ActError, Hands};
use super::measure::{Asker, Finder};
use super::observe::{Look, router_for};
use super::policy::{compile, notices};
use super::routes::{RESOLVE_AGAIN, Served};
use super::settings::ControllerSettings;
use super::status::{Extras, project, said, stored_state};
use super::telemetry::Telemetry;
use super::wakeups::Wakeups;
use super::{crd, persist};

/// Wait after a write that lost a race: the cache's change usually wakes before.
const AFTER_RACE: Duration = Duration::from_secs(1);
/// Wait after the first failure of a Canary; doubled with each further one.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// Longest wait between two tries of a Canary that keeps failing.
const AFTER_FAILURE_MAX: Duration = Duration::from_secs(60);

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
    pub(super) cluster: Cluster,
    pub(super) writer: Writer,
    pub(super) kinds: Kinds,
    pub(super) caches: Arc<Caches>,
    pub(super) settings: ControllerSettings,
    pub(super) wakeups: Arc<Wakeups>,
    pub(super) answers: Arc<Answers>,
    pub(super) finder: Finder,
    pub(super) telemetry: Telemetry,
    pub(super) clock: Clock,
    /// Set while the Canary definition prunes our status.
    pub(super) pruned: Mutex<Option<String>>,
    pub(super) memory: Mutex<HashMap<NamespacedName, Memory>>,
}

/// What is remembered between two looks; all of it may be lost.
#[derive(Debug, Default)]
pub(super) struct Memory {
    expectations: Expectations,
    /// The last action's error that is not just a race, for the condition.
    problem: Option<String>,
    failures: u32,
    /// What is accepted and not carried out, in words.
    ignored: Option<String>,
    handing_over: Progress,
    /// What the hand-over of a deleted Canary waits for.
    hands_over: Option<String>,
    /// The target's name and the checks', to forget their series.
    target: String,
    checks: Vec<String>,
}

impl Memory {
    /// What must be mended outside, in words: the last action's error, or what is seen.
    fn obstacle<'a>(&'a self, observed: &'a Observed) -> Option<&'a str> {
        self.problem.as_deref().or(observed.blocked.as_deref())
    }
}

/// The stored state with `reason` as news; `None` if there is no state to keep it in, or it was said before.
fn announced(stored: &Value, canary: &NamespacedName, reason: &str, now: Timestamp) -> Option<State> {
    let is_said = said(stored, BLOCKED).is_some_and(|said| said == reason);
    let mut state = stored_state(stored).ok().flatten().filter(|_| !is_said)?;
    let event = Event::warning(format!("{}.{} is blocked: {reason}", canary.name, canary.namespace));
    state.announce(event, now);
    Some(state)
}

impl Reconciler {
    /// One look. Two looks at the same Canary never overlap: the queue sees to that.
    pub(super) async fn look(&self, key: &NamespacedName) -> Again {
        let Some(canary) = self.caches.canaries.get(key) else {
            self.forget(key);
            return Again::Never;
        };
        let mut memory = self.with_memory(|all| all.remove(key)).unwrap_or_default();
        self.wakeups.depends_on(key, self.looks_at(&canary));
        let result = self.look_with(&canary, &mut memory).await;
        self.telemetry.reconciled(result.is_err());
        let again = match result {
            Ok(again) => {
                memory.failures = 0;
                again
            }
            Err(error) => self.after_error(&canary, &mut memory, &error),
        };
        self.with_memory(|all| all.insert(key.clone(), memory));
        tracing::trace!(canary = %key, ?again, "looked at {key}");
        again
    }

    /// Names of what the Canary depends on, also what it cannot be told from.
    fn looks_at(&self, canary: &CanaryView) -> BTreeSet<NamespacedName> {
        let mut names = canary.looks_at();
        let overlap = canary.spec.as_ref().ok().and_then(|spec| self.look_of(canary, spec).overlap());
        names.extend(overlap.map(|overlap| NamespacedName::new(canary.key.namespace.clone(), overlap.name)));
        names
    }

    async fn look_with(&self, canary: &CanaryView, memory: &mut Memory) -> Result<Again, ActError> {
        let namespace = &canary.key.namespace;
        if let Freshness::Stale(until) =
            memory.expectations.check(|kind, name| self.caches.version(kind, namespace, name))
        {
            return Ok(Again::In(until));
        }
        match (&canary.spec, canary.deleting) {
            (_, true) => self.look_at_deleted(canary, memory).await,
            (Err(problem), false) => {
                let words = format!("the spec cannot be read: {problem}");
                self.block(canary, memory, &words).await
            }
            (Ok(spec), false) => match missing_finalizers(canary, spec) {
                missing if missing.is_empty() => self.look_at_live(canary, spec, memory).await,
                missing => {
                    let mut hands = self.hands(canary, &mut memory.expectations);
                    add_finalizers(canary, &mut hands, missing).await?;
                    Ok(Again::In(AFTER_RACE))
                }
            },
        }
    }

    async fn look_at_live(
        &self,
        canary: &CanaryView,
        spec: &CanarySpec,
        memory: &mut Memory,
    ) -> Result<Again, ActError> {
        memory.target.clone_from(&spec.target_ref.name);
        memory.checks = spec.analysis.metrics.iter().map(|metric| metric.name.clone()).collect();
        let notices: Vec<String> = notices(spec).into_iter().map(|notice| notice.message).collect();
        memory.ignored = (!notices.is_empty()).then(|| notices.join("; "));
        let pruned = self.pruned.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(reason) = pruned {
            return self.block(canary, memory, &reason).await;
        }
        let look = self.look_of(canary, spec);
        let mut policy = match compile(&canary.key, spec, &self.settings, &|key| look.template(key)) {
            Ok(policy) => policy,
            Err(error) => return self.block(canary, memory, &error.to_string()).await,
        };
        match self.caches.routes.ensure(router_for(spec).kinds()).await? {
            Served::Yes => {}
            Served::Soon => return Ok(Again::In(Duration::ZERO)),
            Served::No(reason) => {
                self.block(canary, memory, &reason).await?;
                return Ok(Again::In(RESOLVE_AGAIN));
            }
        }
        let now = self.clock.now();
        let stored = canary.status.thaw();
        let state = match stored_state(&stored) {
            Ok(state) => state,
            Err(error) => return self.block(canary, memory, &error.to_string()).await,
        };
        policy.progress_deadline = self.settings.patience(policy.progress_deadline, look.settling());
        let (answers, asking_since) = self.answers.of(&canary.key, &canary.owner.uid);
        let observed = look.observe(&policy, answers, asking_since);
        let notices: Vec<String> = notices.into_iter().chain(look.fixed()).collect();
        memory.ignored = (!notices.is_empty()).then(|| notices.join("; "));
        let old = state.clone();
        let step = release::step(&policy, &observed, state.unwrap_or_else(|| State::new(now)), now);
        let extras =
            Extras { blocked: memory.obstacle(&observed), ignored: memory.ignored.as_deref(), terminating: None };
        let status = project(&stored, Some(&step.state), extras, now);
        if !self.persist(canary, &persist::normal(&status), &mut memory.expectations).await? {
            return self.block(canary, memory, crd::PRUNES).await;
        }
        self.tell(canary, &policy, old.as_ref(), &step.state);
        let healed = self.act_all(&look, &step.actions, memory).await?;
        self.ask(canary, spec, &policy, &observed, &step.state);
        Ok(match step.wake {
            _ if healed => Again::In(AFTER_RACE),
            Some(wake) => Again::At(wake),
            None => Again::Never,
        })
    }

    /// Writes what changed of the status. `false`: the API server did not keep our state.
    async fn persist(
        &self,
        canary: &CanaryView,
        status: &Value,
        expectations: &mut Expectations,
    ) -> Result<bool, ActError> {
        let diff = merge_diff(&canary.status.thaw(), status);
        if diff.as_object().is_some_and(serde_json::Map::is_empty) {
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
        Ok(memory.problem.take().is_some())
    }

    fn ask(&self, canary: &CanaryView, spec: &CanarySpec, policy: &Policy, observed: &Observed, state: &State) {
        let open = release::ask(policy, observed, state, self.clock.now());
        if open.is_empty() {
            return;
        }
        let revision = state.release().map(|release| &release.revision.digest).or(state.last_applied.as_ref());
        let asker = Asker {
            canary: canary.key.clone(),
            spec: Arc::new(spec.clone()),
            checksum: revision.map(|digest| digest.short().to_owned()).unwrap_or_default(),
        };
        self.answers.ask(&canary.key, &canary.owner.uid, open, |question| {
            self.finder.clone().find_out(asker.clone(), question)
        });
    }

    /// Nothing is decided; the condition says why.
    async fn block(&self, canary: &CanaryView, memory: &mut Memory, reason: &str) -> Result<Again, ActError> {
        let extras = Extras { blocked: Some(reason), ignored: memory.ignored.as_deref(), terminating: None };
        let (stored, now) = (canary.status.thaw(), self.clock.now());
        let state = announced(&stored, &canary.key, reason, now);
        let mut status = project(&stored, state.as_ref(), extras, now);
        if reason == crd::PRUNES {
            // It would not be kept, and be written again at every look.
            status.serin = None;
        }
        let diff = merge_diff(&stored, &persist::normal(&status));
        if diff.as_object().is_none_or(|diff| !diff.is_empty()) {
            tracing::warn!(canary = %canary.key, "Canary {} is blocked: {reason}", canary.key);
            let mut hands = self.hands(canary, &mut memory.expectations);
            hands.status(&canary.key.name, &canary.resource_version, diff).await?;
        }
        Ok(Again::Never)
    }

    async fn look_at_deleted(&self, canary: &CanaryView, memory: &mut Memory) -> Result<Again, ActError> {
        if !has_finalizer(canary) {
            return Ok(Again::Never);
        }
        let readable = canary.spec.as_ref().ok().filter(|spec| spec.service.is_some());
        let Some(spec) = readable else {
            drop_finalizers(canary, &mut self.hands(canary, &mut memory.expectations)).await?;
            return Ok(Again::Never);
        };
        memory.target.clone_from(&spec.target_ref.name);
        // Without their definitions there are no routes to hand back.
        if self.caches.routes.ensure(router_for(spec).kinds()).await? == Served::Soon {
            return Ok(Again::In(Duration::ZERO));
        }
        let now = self.clock.now();
        let waits = memory.hands_over.clone().unwrap_or_else(|| "the hand-over to begin".to_owned());
        let extras = Extras { blocked: memory.problem.as_deref(), ignored: None, terminating: Some(&waits) };
        let stored = canary.status.thaw();
        let status = project(&stored, None, extras, now);
        let diff = merge_diff(&stored, &persist::normal(&status));
        if diff.as_object().is_some_and(|diff| !diff.is_empty()) {
            let mut hands = self.hands(canary, &mut memory.expectations);
            hands.status(&canary.key.name, &canary.resource_version, diff).await?;
            return Ok(Again::In(AFTER_RACE));
        }
        let look = self.look_of(canary, spec);
        let drain = SignedDuration::try_from(self.settings.drain).unwrap_or(SignedDuration::MAX);
        let Memory { expectations, handing_over, .. } = memory;
        let mut hands = self.hands(canary, expectations);
        let step = hand_over(&look, &mut hands, handing_over, drain, now).await?;
        memory.problem = None;
        Ok(match step {
            HandOver::Waiting(reason) if memory.hands_over.as_ref() == Some(&reason) => Again::Never,
            HandOver::Waiting(reason) => {
                memory.hands_over = Some(reason);
                Again::In(Duration::ZERO)
            }
            HandOver::Done => Again::Never,
            HandOver::Draining(until) => Again::At(until),
        })
    }

    fn after_error(&self, canary: &CanaryView, memory: &mut Memory, error: &ActError) -> Again {
        let key = &canary.key;
        let words = explain(error);
        if error.is_race() {
            tracing::debug!(canary = %key, "Canary {key}: {words}; looking again");
            return Again::In(AFTER_RACE);
        }
        // Every change nearby wakes us: the same trouble is said once.
        if memory.problem.as_ref() != Some(&words) {
            tracing::warn!(canary = %key, "Canary {key}: {words}");
        }
        memory.problem = Some(words);
        let wait = AFTER_FAILURE.saturating_mul(1 << memory.failures.min(10)).min(AFTER_FAILURE_MAX);
        memory.failures = memory.failures.saturating_add(1);
        Again::In(wait)
    }

    fn tell(&self, canary: &CanaryView, policy: &Policy, old: Option<&State>, state: &State) {
        let target = &policy.names.target;
        self.telemetry.show(&canary.key, target, state);
        if old.is_none() {
            self.telemetry.count(self.caches.canaries.keys().iter());
        }
        if let (Some(Phase::Releasing(_)), Phase::Idle { last, .. }) = (old.map(|old| &old.phase), &state.phase) {
            self.telemetry.ended(&canary.key, target, *last);
        }
    }

    fn forget(&self, key: &NamespacedName) {
        self.wakeups.forget(key);
        self.answers.forget(key);
        if let Some(memory) = self.with_memory(|all| all.remove(key)) {
            self.telemetry.forget(key, &memory.target, &memory.checks);
        }
        self.telemetry.count(self.caches.canaries.keys().iter());
    }

    fn look_of<'a>(&'a self, canary: &'a CanaryView, spec: &'a CanarySpec) -> Look<'a> {
        Look { caches: &self.caches, router: router_for(spec), canary, spec }
    }

    fn hands<'a>(&'a self, canary: &'a CanaryView, expectations: &'a mut Expectations) -> Hands<'a> {
        let Self { cluster, writer, kinds, .. } = self;
        let routes = &self.caches.routes;
        Hands { cluster, writer, kinds, routes, namespace: &canary.key.namespace, expectations }
    }

    fn with_memory<T>(&self, change: impl FnOnce(&mut HashMap<NamespacedName, Memory>) -> T) -> T {
        change(&mut self.memory.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
