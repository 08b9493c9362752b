//! One pass: the documents of one commit against the cluster, from discovery to prune.

mod results;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::runtime::wait::{await_condition, conditions};

use super::apply::{Applier, LoneFailure, Outcome, Trouble, is_about_the_group};
use super::configs;
use super::desired::{self, Desired, DesiredSet, Gvk, Link, Role, Scopes};
use super::events;
use super::order::Stage;
use super::ownership::{self, Others};
use super::preview::Action;
use super::refused::{self, Judge};
use super::removals;
use super::risks;
use super::source::{Content, RecordSource};
use super::status::SyncStatus;
use super::store::InventoryStore;
use super::told;
use crate::api::{CommitResult, Inventory, Owned, Presence, SyncedCommit};
use crate::cluster::{Cluster, ResolveError, Writer, explain};
use crate::model::{CommitId, NamespacedName, ObjectRef};

pub(super) use results::{Passed, Results, Until, Waiting, noted};

/// Longest wait for a new definition to be served.
const ESTABLISHED_WITHIN: Duration = Duration::from_secs(30);

/// How much to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// Every object: what was changed in the cluster is put right.
    Everything,
    /// What Git changed since the inventory was written, and what is not settled yet.
    Unsettled,
}

/// What a pass needs.
pub(super) struct Pass<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) writer: &'a Writer,
    pub(super) records: &'a dyn RecordSource,
    pub(super) store: &'a InventoryStore,
    pub(super) others: &'a Others<'a>,
    pub(super) only_namespace: Option<&'a str>,
    /// Labels by which the pods of two sides may be told apart.
    pub(super) selector_labels: &'a [String],
    pub(super) content: &'a Content,
    pub(super) judge: Judge,
    pub(super) extent: Extent,
    /// The cluster's Canaries as last seen.
    pub(super) live_canaries: Vec<Link>,
    /// Canaries that miss something or whose targets were changed in the cluster: looked at although Git has not changed.
    pub(super) drifted: BTreeSet<NamespacedName>,
    /// Commits whose removals a person has allowed.
    pub(super) allowed: BTreeSet<CommitId>,
    /// What this process has told already.
    pub(super) told: SyncStatus,
    /// Nothing is written, and what would be is [`Passed::planned`].
    pub(super) preview: bool,
}

impl Pass<'_> {
    /// Runs the pass and leaves the inventory as it is in the cluster.
    pub(super) async fn run(self, inventory: &mut Inventory) -> Result<Passed, Trouble> {
        let documents = desired::documents(self.content);
        let (scopes, unserved) = self.scopes(&documents).await?;
        let mut set = desired::collect(documents, &scopes, &self.live_canaries, self.only_namespace);
        set.complete &= self.content.unreadable.is_empty();
        desired::hold_unusable(&mut set, &self.content.unusable);
        configs::pin(&mut set);
        refused::hold(&mut set, self.judge);
        risks::tell(&mut set, self.selector_labels);
        ownership::stamp(&mut set, self.others.own());

        let wanted = removals::Wanted {
            commit: &self.content.commit,
            named: &set.named,
            complete: set.complete,
            allowed: &self.allowed,
        };
        let mut stored = inventory.clone();
        removals::update(inventory, wanted);
        if self.write_ahead(inventory, &set).await? {
            stored.clone_from(inventory);
        }
        let mut results = Results::default();
        results.passed.unserved = unserved;
        self.note_problems(&set, inventory, &mut results);
        for stage in Stage::ALL {
            self.apply_stage(stage, &set, inventory, &mut results).await?;
            if stage == Stage::Foundations {
                // Namespaces and definitions are there; nothing that a Canary guards has been written.
                self.judge_canaries(&set, inventory, &mut results).await?;
            }
        }
        results.date(&self.content.commit);
        self.prune(inventory, &set, &mut results).await?;
        if !self.preview {
            self.tell(inventory, &set, &results).await;
        }
        self.finish(inventory, &stored, results).await
    }

    /// Which kinds are served, and whether in namespaces. A kind that is not served is a problem of its objects.
    async fn scopes(
        &self,
        documents: &[(super::source::Document, Vec<String>)],
    ) -> Result<(Scopes, BTreeSet<Gvk>), Trouble> {
        let to_come = desired::kinds_to_come(documents);
        let (mut scopes, mut unserved) = (Scopes::new(), BTreeSet::new());
        for kind in desired::kinds(documents) {
            let (group, version, name) = &kind;
            let scope = match self.cluster.resolve(group, version, name).await {
                Ok(resolved) => Ok(resolved.namespaced),
                Err(error @ ResolveError::NotServed { .. }) => {
                    let scope = to_come.get(&kind).copied();
                    if scope.is_none() {
                        unserved.insert(kind.clone());
                    }
                    scope.ok_or_else(|| error.to_string())
                }
                Err(ResolveError::Call(error)) if is_about_the_group(&error) => Err(explain(&error)),
                Err(error @ ResolveError::Call(_)) => return Err(error.into()),
            };
            scopes.insert(kind, scope);
        }
        Ok((scopes, unserved))
    }

    /// Names new objects in the inventory before they exist: a crash in between leaves nothing that nobody owns.
    /// Whether there are any.
    async fn write_ahead(&self, inventory: &mut Inventory, set: &DesiredSet) -> Result<bool, Trouble> {
        let mut ahead = inventory.clone();
        let mut done = inventory.clone();
        for object in &set.objects {
            let (version, copy) = (object.version.clone(), object.role == Role::ConfigCopy);
            let owned = Owned { version, presence: Presence::Ahead, copy, ..Owned::default() };
            let settled =
                Owned { digest: Some(object.digest.clone()), presence: Presence::Written, ..owned.clone() };
            done.objects.insert(object.id.clone(), settled);
            ahead.objects.entry(object.id.clone()).or_insert(owned);
        }
        if ahead.objects.len() == inventory.objects.len() {
            return Ok(false);
        }
        // Nobody would know what became of the objects that are written before that is found out.
        if !done.fits()? {
            return Err(Trouble::Later(format!(
                "{} objects are more than the inventory, one ConfigMap, can name: give each part of them a daemon with \
                 its own git.path and cluster.name",
                done.objects.len()
            )));
        }
        if !self.preview {
            self.store.save(self.writer, &ahead).await?;
        }
        *inventory = ahead;
        Ok(true)
    }

    fn note_problems(&self, set: &DesiredSet, inventory: &Inventory, results: &mut Results) {
        // What Git names stays ours, also while nobody knows what exactly it names.
        for (id, owned) in inventory.objects.iter().filter(|(id, _)| set.named.contains(id)) {
            let Owned { version, presence, since, copy, .. } = owned.clone();
            results.owned.insert(id.clone(), Owned { version, presence, since, copy, ..Owned::default() });
        }
        for problem in &set.problems {
            match &problem.id {
                Some(id) => {
                    // What is not even tried is not in the inventory yet.
                    let new = Owned { presence: Presence::Never, ..Owned::default() };
                    let owned = results.owned.entry(id.clone()).or_insert(new);
                    owned.condition = Some(noted(&problem.message));
                    results.passed.status.conditions.insert(id.clone(), problem.message.clone());
                }
                None => results.passed.status.problems.push(problem.message.clone()),
            }
        }
        for unreadable in &self.content.unreadable {
            results.passed.status.problems.push(unreadable.message.clone());
        }
    }

    /// Asks the API server about new and changed Canaries before their targets are written. One that it refuses, although
    /// we find nothing wrong with it, holds its target and configs as any other invalid one does.
    async fn judge_canaries(
        &self,
        set: &DesiredSet,
        inventory: &Inventory,
        results: &mut Results,
    ) -> Result<(), Trouble> {
        let applier = self.applier();
        let canaries = set.objects.iter().filter(|object| Stage::of(&object.id) == Stage::Canaries);
        let mut lone = LoneFailure::default();
        let open =
            canaries.filter(|canary| !is_settled(canary, inventory) && !self.waits_for_place(canary, results));
        for canary in open.collect::<Vec<_>>() {
            let asked = match applier.api(canary).await {
                Ok(api) => applier.dry_run(canary, &api, &canary.body).await,
                Err(trouble) => Err(trouble),
            };
            match asked {
                // In a namespace that is being deleted nothing can be asked: the objects wait all the same.
                Ok(_) | Err(Trouble::Deleting(_)) => lone.answered(),
                Err(trouble) => {
                    let message = lone.take(trouble)?;
                    let refused = format!("{}: {}: {message}", canary.origin, canary.id);
                    results.held.insert(canary.id.clone(), refused);
                    for object in set.objects.iter().filter(|object| guards(canary, object)) {
                        let message = desired::held_message(object, &canary.id);
                        results.held.insert(object.id.clone(), message);
                    }
                }
            }
        }
        Ok(())
    }

    fn applier(&self) -> Applier<'_> {
        let Self { cluster, writer, records, content, others, preview, .. } = *self;
        Applier { cluster, writer, records, commit: &content.commit, others, preview }
    }

    async fn apply_stage(
        &self,
        stage: Stage,
        set: &DesiredSet,
        inventory: &Inventory,
        results: &mut Results,
    ) -> Result<(), Trouble> {
        let mut looked_at = Vec::new();
        for object in set.objects.iter().filter(|object| Stage::of(&object.id) == stage) {
            let drifted = self.may_mend(object);
            if let Some(message) = results.held.get(&object.id).cloned() {
                results.note(object, Outcome::problem(message));
            } else if is_settled(object, inventory) && !drifted && self.extent == Extent::Unsettled {
                let owned = inventory.objects.get(&object.id).cloned().unwrap_or_default();
                results.owned.insert(object.id.clone(), owned);
            } else if let Some(message) = held_canary(object, &results.passed.status.conditions)
                && !set.refused.contains(&object.id)
            {
                results.note(object, Outcome::problem(message));
            } else if let Some(message) = configs::missing_copy(object, &results.passed.status.conditions)
                && !is_settled(object, inventory)
            {
                results.note(object, Outcome::problem(message));
            } else if self.waits_for_place(object, results) {
                let change = Some("create".to_owned());
                results.note(object, Outcome { change, ..Outcome::unchanged() });
            } else {
                looked_at.push(object);
            }
        }
        let applier = self.applier();
        let mut definitions = Vec::new();
        for (object, outcome) in applier.apply(looked_at).await? {
            if outcome.change.is_some() && object.id.kind == "CustomResourceDefinition" {
                definitions.push(object.id.name.as_str());
            }
            results.note(object, outcome);
        }
        if self.preview {
            return Ok(());
        }
        self.await_definitions(&definitions).await
    }

    /// Whether what an object is to be in, or what it is, would be made by this very commit: nothing can be asked about it.
    fn waits_for_place(&self, object: &Desired, results: &Results) -> bool {
        let would_make = |kind: &str, is_it: &dyn Fn(&str) -> bool| {
            let made = results.passed.planned.iter().filter(|planned| planned.action == Action::Create);
            let mut made = made.filter(|planned| planned.id.kind == kind);
            made.any(|planned| is_it(&planned.id.name))
        };
        let namespace = object.id.namespace.as_deref();
        self.preview
            && (would_make("Namespace", &|name| namespace == Some(name))
                || would_make("CustomResourceDefinition", &|name| {
                    name.split_once('.').is_some_and(|(_, group)| group == object.id.group)
                }))
    }

    /// Whether a Canary misses something that this object may be: its target, or what is next to it.
    fn may_mend(&self, object: &Desired) -> bool {
        match &object.role {
            Role::Target { canary, .. } => self.drifted.contains(canary),
            Role::Plain | Role::Apex | Role::Led(_) | Role::TargetConfig { .. } | Role::ConfigCopy => {
                let namespace = object.id.namespace.as_deref();
                self.drifted.iter().any(|canary| namespace == Some(canary.namespace.as_str()))
            }
        }
    }

    /// New kinds must be served before their objects come.
    async fn await_definitions(&self, names: &[&str]) -> Result<(), Trouble> {
        let api: Api<CustomResourceDefinition> = Api::all(self.cluster.client());
        for name in names {
            let established = await_condition(api.clone(), name, conditions::is_crd_established());
            match tokio::time::timeout(ESTABLISHED_WITHIN, established).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => {
                    return Err(Trouble::Later(format!("failed to watch {name}: {}", explain(&error))));
                }
                Err(_elapsed) => {
                    return Err(Trouble::Later(format!(
                        "CustomResourceDefinition {name} is not established after {} s",
                        ESTABLISHED_WITHIN.as_secs()
                    )));
                }
            }
        }
        if !names.is_empty() {
            self.cluster.forget_discovery();
        }
        Ok(())
    }

    /// Tells every new condition once, and why something is still there that Git dropped.
    async fn tell(&self, inventory: &Inventory, set: &DesiredSet, results: &Results) {
        let version = |id: &ObjectRef| {
            let wanted = set.objects.iter().find(|object| object.id == *id).map(|object| object.version.clone());
            wanted.or_else(|| inventory.objects.get(id).map(|owned| owned.version.clone())).unwrap_or_default()
        };
        for (id, message) in &results.passed.status.conditions {
            let known = inventory.objects.get(id).and_then(|owned| owned.condition.as_ref());
            if known != Some(&noted(message)) && self.told.conditions.get(id) != Some(message) {
                tracing::warn!(object = %id, "{message}");
                events::warn(self.cluster, self.writer, id, &version(id), message).await;
            }
        }
        let status = &results.passed.status;
        for (id, words) in status.kept.iter().filter(|(id, _)| !self.told.kept.contains_key(id)) {
            tracing::info!(object = %id, "{id}: {words}");
        }
        for (id, words) in status.hanging.iter().filter(|(id, _)| !self.told.hanging.contains_key(id)) {
            tracing::info!(object = %id, "{id}: {words}");
        }
        for object in &set.objects {
            let known = inventory.objects.get(&object.id).and_then(|owned| owned.digest.as_ref());
            if known == Some(&object.digest) {
                continue;
            }
            for warning in &object.warnings {
                let message = format!("{}: {}: {warning}", object.origin, object.id);
                tracing::warn!(object = %object.id, "{message}");
                events::warn(self.cluster, self.writer, &object.id, &object.version, &message).await;
            }
        }
    }

    /// Trims the inventory to what is there, with what became of the commit.
    async fn finish(
        &self,
        inventory: &mut Inventory,
        stored: &Inventory,
        results: Results,
    ) -> Result<Passed, Trouble> {
        let Results { owned, targets, held: _, mut passed } = results;
        let SyncStatus { conditions, problems, .. } = &passed.status;
        let result = if conditions.is_empty() && problems.is_empty() {
            CommitResult::Applied
        } else {
            CommitResult::Partly
        };
        let mut after = Inventory { objects: owned, removals: inventory.removals.clone() };
        removals::trim(&mut after);
        if after != *stored && !self.preview {
            self.store.save(self.writer, &after).await?;
        }
        *inventory = after;
        passed.status.refused_removals = told::refused_removals(inventory);
        passed.status.record = Some(SyncedCommit { commit: self.content.commit.clone(), result, targets });
        passed.status.seen = Some(self.content.commit.clone());
        passed.status.commit = Some(self.content.commit.clone());
        passed.status.synced = true;
        Ok(passed)
    }
}

/// Whether the object is in the cluster as Git wants it, as far as we know.
fn is_settled(object: &Desired, inventory: &Inventory) -> bool {
    let known = inventory.objects.get(&object.id);
    known.is_some_and(|owned| owned.digest.as_ref() == Some(&object.digest))
}

/// Whether nothing of this object may change without the Canary.
fn guards(canary: &Desired, object: &Desired) -> bool {
    let is_it = |guard: &NamespacedName| {
        guard.name == canary.id.name && Some(&guard.namespace) == canary.id.namespace.as_ref()
    };
    match &object.role {
        Role::Target { canary: guard, .. } => is_it(guard),
        Role::TargetConfig { readers } => readers.iter().any(|reader| is_it(&reader.canary)),
        Role::Plain | Role::ConfigCopy | Role::Apex | Role::Led(_) => false,
    }
}

/// Why a Canary is not applied: its target could not be.
fn held_canary(object: &Desired, conditions: &BTreeMap<ObjectRef, String>) -> Option<String> {
    if Stage::of(&object.id) != Stage::Canaries {
        return None;
    }
    let target = object.body["spec"]["targetRef"]["name"].as_str()?;
    let broken: BTreeSet<&ObjectRef> = conditions
        .keys()
        .filter(|id| id.kind == "Deployment" && id.namespace == object.id.namespace && id.name == target)
        .collect();
    let broken = broken.first()?;
    Some(format!("{}: {} is held until {broken} is valid", object.origin, object.id))
}
