//! ReplicaSets as the sides of a release.
//!
//! A ReplicaSet is a revision's by meaning: what its template says, not the hash that it was named by. So those that Argo
//! Rollouts made are taken as they are, and no pod starts anew.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::api::annotations::COPIED_FROM;
use crate::manifest::template_digest;
use crate::model::Digest;
use crate::release::{OutcomeKind, Phase, Readiness, Stage, State, Updates, WorkloadObserved};

use super::keys::{DEADLINE, DESIRED, GROUP, HASH, KIND, REVISION, VERSION};
use super::spec::Strategy;

/// Characters of a hash of ours: as many as Kubernetes' own have.
const HASH_LEN: usize = 10;

/// A ReplicaSet, reduced on arrival.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetView {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.resourceVersion`.
    pub resource_version: String,
    /// Uid of the controlling owner.
    pub owner: Option<String>,
    /// Its label.
    pub hash: String,
    /// Of the Rollout's template that it was made of.
    pub digest: Digest,
    /// `spec.replicas`.
    pub replicas: i32,
    /// Pods that there are.
    pub pods: i32,
    /// Pods that are ready.
    pub ready: i32,
    /// Pods that are available.
    pub available: i32,
    /// The revision's number.
    pub revision: u64,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// When it goes to zero.
    pub deadline: Option<Timestamp>,
    /// Whether the status is about the spec as it is.
    observed: bool,
    /// Why pods cannot be made.
    failure: Option<String>,
}

impl SetView {
    /// Reduces a full object.
    ///
    /// # Errors
    /// When it is no ReplicaSet of a Rollout.
    pub fn of(set: &Value) -> Result<Self, String> {
        let (metadata, spec, status) = (&set["metadata"], &set["spec"], &set["status"]);
        let hash = metadata["labels"][HASH].as_str().ok_or_else(|| format!("it has no label {HASH}"))?;
        let annotation = |key: &str| metadata["annotations"][key].as_str();
        let count = |value: &Value| value.as_i64().and_then(|count| i32::try_from(count).ok()).unwrap_or(0);
        let owners = metadata["ownerReferences"].as_array().into_iter().flatten();
        let failure = status["conditions"].as_array().into_iter().flatten();
        let mut failure = failure.filter(|found| found["type"] == "ReplicaFailure" && found["status"] == "True");
        Ok(Self {
            name: metadata["name"].as_str().unwrap_or_default().to_owned(),
            resource_version: metadata["resourceVersion"].as_str().unwrap_or_default().to_owned(),
            owner: owners
                .into_iter()
                .find(|owner| owner["controller"] == true)
                .and_then(|owner| Some(owner["uid"].as_str()?.to_owned())),
            hash: hash.to_owned(),
            digest: annotation(COPIED_FROM)
                .and_then(|text| text.parse().ok())
                .unwrap_or_else(|| template_digest(&without_hash(&spec["template"]))),
            replicas: spec["replicas"].as_i64().map_or(1, |_| count(&spec["replicas"])),
            pods: count(&status["replicas"]),
            ready: count(&status["readyReplicas"]),
            available: count(&status["availableReplicas"]),
            revision: annotation(REVISION).and_then(|text| text.parse().ok()).unwrap_or(0),
            created: metadata["creationTimestamp"].as_str().and_then(|text| text.parse().ok()),
            deadline: annotation(DEADLINE).and_then(|text| text.parse().ok()),
            observed: status["observedGeneration"].as_i64() >= metadata["generation"].as_i64(),
            failure: failure.next().and_then(|found| Some(found["message"].as_str()?.to_owned())),
        })
    }

    /// Whether it is kept for requests, and not only for a while.
    pub fn is_up(&self) -> bool {
        self.replicas > 0 && self.deadline.is_none()
    }

    fn readiness(&self) -> Readiness {
        if self.observed && self.available >= self.replicas {
            return Readiness::Ready;
        }
        let progress = format!("{} of {} updated replicas are available", self.available, self.replicas);
        Readiness::Waiting(match &self.failure {
            Some(failure) => format!("{progress} ({failure})"),
            None => progress,
        })
    }

    fn as_side(&self, digest: Digest, generation: i64, replicas: i32) -> WorkloadObserved {
        WorkloadObserved {
            digest,
            stamped: None,
            generation,
            replicas,
            limits: None,
            readiness: if replicas == 0 { Readiness::Ready } else { self.readiness() },
            available: if replicas == 0 { 0 } else { self.available },
            serving: self.available,
            updates: Updates::DEFAULT,
        }
    }
}

fn without_hash(template: &Value) -> Value {
    let mut template = template.clone();
    if let Some(labels) = template.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.remove(HASH);
    }
    template
}

/// The sets of a Rollout and what each is.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sides {
    /// What serves.
    pub stable: Option<Arc<SetView>>,
    /// The one of the Rollout's template; it may be the stable one.
    pub current: Option<Arc<SetView>>,
    /// All others.
    pub others: Vec<Arc<SetView>>,
}

impl Sides {
    /// Tells them apart. Stable is the one that the status names, else the one of what was promoted last, else the one that
    /// the stable Service is pointed at.
    pub fn of(
        sets: Vec<Arc<SetView>>,
        named: [Option<&str>; 2],
        promoted: Option<&Digest>,
        template: &Digest,
    ) -> Self {
        let [by_status, by_service] = named;
        let by_hash = |hash: Option<&str>| hash.and_then(|hash| sets.iter().find(|set| set.hash == hash));
        let stable = by_hash(by_status)
            .or_else(|| promoted.and_then(|digest| sets.iter().find(|set| set.digest == *digest)))
            .or_else(|| by_hash(by_service))
            .cloned();
        let is_stable = |set: &SetView| stable.as_ref().is_some_and(|stable| stable.name == set.name);
        let same = sets.iter().filter(|set| set.digest == *template);
        let current =
            same.max_by_key(|set| (is_stable(set), set.replicas, set.revision, set.name.clone())).cloned();
        let is_current = |set: &SetView| current.as_ref().is_some_and(|current| current.name == set.name);
        let others = sets.iter().filter(|set| !is_stable(set) && !is_current(set)).cloned().collect();
        Self { stable, current, others }
    }

    /// What is to serve next, if it has been made.
    pub fn candidate(&self) -> Option<&Arc<SetView>> {
        self.current.as_ref().filter(|_| !self.is_stable())
    }

    /// Whether what serves is what the Rollout says.
    pub fn is_stable(&self) -> bool {
        match (&self.stable, &self.current) {
            (Some(stable), Some(current)) => stable.name == current.name,
            (Some(_) | None, _) => false,
        }
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Arc<SetView>> {
        self.stable.iter().chain(self.candidate()).chain(&self.others)
    }

    /// The engine's target. While nothing but what serves is wanted, that is what is left of other revisions: scaling the
    /// candidate to nothing means them.
    pub fn target(&self, template: &Digest, generation: i64) -> WorkloadObserved {
        match self.candidate() {
            Some(candidate) => {
                let replicas = if candidate.is_up() { candidate.replicas } else { 0 };
                candidate.as_side(template.clone(), generation, replicas)
            }
            None => {
                let left = if self.is_stable() { self.others.as_slice() } else { &[] };
                let left = left.iter().filter(|set| set.is_up());
                let (replicas, available) =
                    left.fold((0, 0), |(all, ready), set| (all + set.replicas, ready + set.available));
                WorkloadObserved {
                    digest: template.clone(),
                    stamped: None,
                    generation,
                    replicas,
                    limits: None,
                    readiness: Readiness::Ready,
                    available,
                    serving: available,
                    updates: Updates::DEFAULT,
                }
            }
        }
    }

    /// The engine's target where pods are the traffic: whatever has pods and is not the stable set gets requests, so all of it counts.
    pub fn target_by_pods(&self, template: &Digest, generation: i64) -> WorkloadObserved {
        let all = || self.candidate().into_iter().chain(&self.others);
        let replicas = all().map(|set| set.replicas).sum();
        let available = all().map(|set| set.available.min(set.replicas)).sum();
        let slow = all().map(|set| set.readiness()).find(|readiness| *readiness != Readiness::Ready);
        WorkloadObserved {
            digest: template.clone(),
            stamped: None,
            generation,
            replicas,
            limits: None,
            readiness: slow.unwrap_or(Readiness::Ready),
            available,
            serving: available,
            updates: Updates::DEFAULT,
        }
    }

    /// How the sets that are not the stable one come to have so many pods together: others go first, the oldest before.
    pub fn resize(&self, replicas: i32) -> Resized {
        let all = self.candidate().into_iter().chain(&self.others).map(|set| set.replicas).sum::<i32>();
        let mut surplus = (all - replicas).max(0);
        let mut oldest: Vec<&Arc<SetView>> = self.others.iter().filter(|set| set.replicas > 0).collect();
        oldest.sort_by_key(|set| (set.revision, set.name.clone()));
        let mut shrunk = Vec::new();
        for set in oldest.into_iter().chain(self.candidate()) {
            let less = surplus.min(set.replicas);
            if less > 0 {
                shrunk.push((set.clone(), set.replicas - less));
                surplus -= less;
            }
        }
        Resized { shrunk, more: (replicas - all).max(0) }
    }

    /// The engine's primary.
    pub fn primary(&self) -> Option<WorkloadObserved> {
        let stable = self.stable.as_ref()?;
        Some(stable.as_side(stable.digest.clone(), 0, stable.replicas))
    }

    /// The number of the next revision.
    pub fn next_revision(&self) -> u64 {
        self.all().map(|set| set.revision).max().unwrap_or(0).saturating_add(1)
    }
}

/// What becomes of the sets that are not the stable one.
#[derive(Debug, Clone, PartialEq)]
pub struct Resized {
    /// These get so many pods.
    pub shrunk: Vec<(Arc<SetView>, i32)>,
    /// So many more the candidate gets.
    pub more: i32,
}

/// What a set is made from.
#[derive(Debug, Clone, Copy)]
pub struct Maker<'a> {
    /// The Rollout.
    pub namespace: &'a str,
    /// The Rollout.
    pub name: &'a str,
    /// The Rollout.
    pub uid: &'a str,
    /// Its selector.
    pub selector: &'a Value,
    /// Its template.
    pub template: &'a Value,
    /// The template's digest.
    pub digest: &'a Digest,
    /// `minReadySeconds`.
    pub min_ready_seconds: u32,
    /// The Rollout's replicas.
    pub desired: i32,
}

impl Maker<'_> {
    /// The hash of a set that is new.
    pub fn hash(&self) -> String {
        hash(self.digest)
    }

    /// A new set.
    pub fn set(&self, replicas: i32, revision: u64) -> Value {
        let hash = self.hash();
        let (mut selector, mut template) = (self.selector.clone(), self.template.clone());
        insert(&mut selector, "matchLabels", HASH, &hash);
        if let Some(metadata) = template.as_object_mut().map(|map| map.entry("metadata").or_insert(json!({}))) {
            insert(metadata, "labels", HASH, &hash);
        }
        json!({
            "kind": "ReplicaSet",
            "metadata": {
                "name": format!("{}-{hash}", self.name),
                "namespace": self.namespace,
                "labels": template["metadata"]["labels"],
                "annotations": {
                    REVISION: revision.to_string(), DESIRED: self.desired.to_string(), COPIED_FROM: self.digest.to_string(),
                },
                "ownerReferences": [{
                    "apiVersion": format!("{GROUP}/{VERSION}"), "kind": KIND, "name": self.name, "uid": self.uid,
                    "controller": true, "blockOwnerDeletion": true,
                }],
            },
            "spec": {
                "replicas": replicas, "selector": selector, "template": template,
                "minReadySeconds": self.min_ready_seconds,
            },
        })
    }
}

/// The hash of a template's set, if that is ours.
pub fn hash(template: &Digest) -> String {
    let hex = template.as_str().rsplit(':').next().unwrap_or_default();
    hex.chars().take(HASH_LEN).collect()
}

fn insert(object: &mut Value, map: &str, key: &str, value: &str) {
    let Some(object) = object.as_object_mut() else { return };
    let map = object.entry(map).or_insert_with(|| Value::Object(Map::new()));
    if let Some(map) = map.as_object_mut() {
        map.insert(key.to_owned(), Value::from(value));
    }
}

/// The merge patch that scales a set for requests: no deadline any more.
pub fn scaled(set: &SetView, replicas: i32, desired: i32, revision: Option<u64>) -> Value {
    let mut annotations = json!({DESIRED: desired.to_string()});
    if set.deadline.is_some() {
        annotations[DEADLINE] = Value::Null;
    }
    if let Some(revision) = revision {
        annotations[REVISION] = Value::from(revision.to_string());
    }
    json!({
        "metadata": {"resourceVersion": set.resource_version, "annotations": annotations},
        "spec": {"replicas": replicas},
    })
}

/// The merge patch that gives a set its time; without one it is kept until the next revision.
pub fn timed(set: &SetView, until: Option<Timestamp>) -> Value {
    let until = until.unwrap_or(Timestamp::MAX);
    json!({"metadata": {
        "resourceVersion": set.resource_version, "annotations": {DEADLINE: format!("{until:.0}")},
    }})
}

/// What is to be done about a set that serves nobody.
#[derive(Debug, Clone, PartialEq)]
pub enum Sweep {
    /// It gets its time.
    Time(Arc<SetView>),
    /// Its time is over.
    Zero(Arc<SetView>),
    /// It is older than what is kept.
    Delete(Arc<SetView>),
}

/// Puts away what has served: sets of revisions that were replaced before they were promoted get their time as soon as no
/// Service is pointed at them, those whose time is over go to zero, and of those at zero as many are kept as the Rollout says.
pub fn sweep(sides: &Sides, pointed_at: &[&str], state: &State, keeps: Keeps, now: Timestamp) -> Vec<Sweep> {
    let is_pointed_at = |set: &SetView| pointed_at.contains(&set.hash.as_str());
    let mut found = Vec::new();
    if may_time(state) {
        let replaced = sides.others.iter().filter(|set| set.is_up() && !is_pointed_at(set));
        found.extend(replaced.cloned().map(Sweep::Time));
    }
    let idle = sides.candidate().into_iter().chain(&sides.others);
    let over = idle.filter(|set| set.replicas > 0 && set.deadline.is_some_and(|deadline| deadline <= now));
    found.extend(over.cloned().map(Sweep::Zero));
    found.extend(beyond(sides, keeps.warm, now));
    found.extend(surplus(sides, pointed_at, keeps.history));
    found
}

/// How many sets that serve nobody are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keeps {
    /// With pods, until their time is over.
    pub warm: Option<usize>,
    /// Without pods.
    pub history: usize,
}

/// Sets whose time is not over, but that are more than are kept with pods: the oldest go.
fn beyond(sides: &Sides, warm: Option<usize>, now: Timestamp) -> Vec<Sweep> {
    let Some(warm) = warm else { return Vec::new() };
    let is_warm = |set: &&Arc<SetView>| set.replicas > 0 && set.deadline.is_some_and(|deadline| deadline > now);
    let mut found: Vec<&Arc<SetView>> = sides.others.iter().filter(is_warm).collect();
    found.sort_by_key(|set| std::cmp::Reverse((set.revision, set.name.clone())));
    found.into_iter().skip(warm).cloned().map(Sweep::Zero).collect()
}

/// Whether what is wanted may go to everybody without its steps: nearly all of it still stands from before, or it served within the
/// last `window` revisions before what serves now.
pub fn skips(sides: &Sides, strategy: &Strategy, window: Option<usize>, now: Timestamp) -> bool {
    let (Some(stable), Some(wanted)) = (&sides.stable, sides.candidate()) else { return false };
    // One that served until a moment ago may not have got its deadline yet.
    let is_warm = wanted.deadline.is_none_or(|deadline| deadline > now) && wanted.available >= stable.replicas;
    // Seconds are all that Kubernetes keeps, and a set of what is new is not there when its release begins.
    let is_back = wanted.created <= stable.created;
    let between = sides.others.iter().filter(|set| wanted.created < set.created && set.created < stable.created);
    let is_near = window.is_some_and(|window| between.count() < window);
    is_back && (is_near || is_warm && matches!(strategy, Strategy::BlueGreen(_)))
}

/// Sets without pods beyond as many as are kept, the oldest first.
pub fn surplus(sides: &Sides, pointed_at: &[&str], history: usize) -> Vec<Sweep> {
    let is_pointed_at = |set: &SetView| pointed_at.contains(&set.hash.as_str());
    let mut old: Vec<&Arc<SetView>> =
        sides.others.iter().filter(|set| set.replicas == 0 && set.pods == 0).collect();
    old.retain(|set| !is_pointed_at(set));
    old.sort_by_key(|set| (set.revision, set.name.clone()));
    let surplus = old.len().saturating_sub(history);
    old.into_iter().take(surplus).cloned().map(Sweep::Delete).collect()
}

/// Whether everybody who was on a replaced revision has left it: the engine says so by going on.
fn may_time(state: &State) -> bool {
    match &state.phase {
        Phase::Initializing { .. } | Phase::HandingBack(_) => false,
        Phase::Idle { last, .. } => *last != OutcomeKind::Superseded,
        Phase::Releasing(release) => match release.stage {
            Stage::Confirming
            | Stage::ScalingUp { .. }
            | Stage::Preparing
            | Stage::Analysing
            | Stage::ConfirmingPromotion => true,
            Stage::Promoting { .. } | Stage::Restoring { .. } | Stage::Ending { .. } => false,
        },
    }
}

/// When the next set's time is over.
pub fn next_deadline(sides: &Sides) -> Option<Timestamp> {
    let timed = sides.candidate().into_iter().chain(&sides.others).filter(|set| set.replicas > 0);
    timed.filter_map(|set| set.deadline).min()
}
