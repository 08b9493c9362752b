//! A Deployment's ReplicaSets: finding, creating, sizing, annotating and forgetting them.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use super::hash::template_hash;
use super::incomplete;
use super::rollout::{Desired, Resize, Size, next_new};
use crate::controllers::objects::{controlled_by, is_controlled_by};
use crate::controllers::runner::Shared;
use crate::controllers::{ControllerError, MANAGER};

/// Old ReplicaSets kept when the Deployment does not say (the API server's default).
pub(super) const DEFAULT_HISTORY: i32 = 10;

const HASH_LABEL: &str = "pod-template-hash";
const REVISION: &str = "deployment.kubernetes.io/revision";
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const MAX: &str = "deployment.kubernetes.io/max-replicas";
/// Annotations of a Deployment that are not copied to its ReplicaSets.
const NOT_COPIED: [&str; 5] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    "deployment.kubernetes.io/revision-history",
    DESIRED,
    MAX,
];

/// The ReplicaSet of the present template and those of earlier ones, oldest first.
pub(super) struct Sets {
    pub(super) new: Option<ReplicaSet>,
    pub(super) old: Vec<ReplicaSet>,
}

/// What became of creating the new ReplicaSet.
pub(super) enum Creation {
    Done,
    /// Its name is taken by a set of another template or owner.
    Collision,
}

impl Sets {
    pub(super) fn sort(mut owned: Vec<ReplicaSet>, template: &PodTemplateSpec) -> Self {
        owned.sort_by_key(age);
        let wanted = without_hash(template);
        let position = owned.iter().position(|set| set_template(set).map(without_hash).as_ref() == Some(&wanted));
        let new = position.map(|position| owned.remove(position));
        Self { new, old: owned }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &ReplicaSet> {
        self.old.iter().chain(&self.new)
    }

    pub(super) fn by_age(&self) -> impl Iterator<Item = &ReplicaSet> {
        let mut all: Vec<_> = self.all().collect();
        all.sort_by_key(|set| age(set));
        all.into_iter()
    }

    /// The one set with pods; without any, the new one or else the newest.
    pub(super) fn active_or_latest(&mut self) -> Option<&mut ReplicaSet> {
        let Self { new, old } = self;
        if let Some(active) = old.iter().position(|set| replicas_of(set) > 0) {
            return old.get_mut(active);
        }
        new.as_mut().or_else(|| old.last_mut())
    }

    pub(super) async fn resize_old(
        &mut self,
        to: &Resize,
        desired: &Desired,
        shared: &Shared,
    ) -> Result<(), ControllerError> {
        if let Some(set) = self.old.iter_mut().find(|set| set.name_any() == to.name) {
            resize(set, to.replicas, desired, shared).await?;
        }
        Ok(())
    }

    pub(super) async fn resize_any(
        &mut self,
        to: &Resize,
        desired: &Desired,
        shared: &Shared,
    ) -> Result<(), ControllerError> {
        if let Some(set) = self.old.iter_mut().chain(&mut self.new).find(|set| set.name_any() == to.name) {
            resize(set, to.replicas, desired, shared).await?;
        }
        Ok(())
    }

    /// Brings the new set's annotations and `minReadySeconds` up to the Deployment's.
    pub(super) async fn refresh(
        &mut self,
        deployment: &Deployment,
        shared: &Shared,
    ) -> Result<(), ControllerError> {
        let revision = self.next_revision();
        let Some(set) = &mut self.new else { return Ok(()) };
        let mut next = set.clone();
        let revision = revision.max(revision_of(set));
        next.annotations_mut().extend(copied_annotations(deployment));
        next.annotations_mut().insert(REVISION.to_owned(), revision.to_string());
        if let (Some(spec), Some(wanted)) = (&mut next.spec, &deployment.spec) {
            spec.min_ready_seconds = wanted.min_ready_seconds;
        }
        if next != *set {
            *set = replace(&next, shared).await?;
        }
        Ok(())
    }

    pub(super) async fn create_new(
        &mut self,
        deployment: &Deployment,
        spec: &DeploymentSpec,
        desired: &Desired,
        shared: &Shared,
    ) -> Result<Creation, ControllerError> {
        let collisions = deployment.status.as_ref().and_then(|status| status.collision_count);
        let hash = template_hash(&spec.template, collisions)?;
        let others: i32 = self.old.iter().map(replicas_of).sum();
        let replicas =
            if super::rollout::is_recreate(spec) { desired.replicas } else { next_new(desired, 0, others) };
        let set = new_set(deployment, spec, &hash, self.next_revision(), replicas, desired)?;
        let api: Api<ReplicaSet> = sets_api(&set, shared)?;
        match api.create(&post_params(), &set).await {
            Ok(created) => {
                self.new = Some(created);
                Ok(Creation::Done)
            }
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                let taken = api.get(&set.name_any()).await?;
                let ours = is_controlled_by(&taken.metadata, deployment.uid().as_deref());
                let same = set_template(&taken).map(without_hash) == Some(without_hash(&spec.template));
                if ours && same {
                    self.new = Some(taken);
                    Ok(Creation::Done)
                } else {
                    Ok(Creation::Collision)
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    fn next_revision(&self) -> i64 {
        self.old.iter().map(revision_of).max().unwrap_or(0) + 1
    }
}

fn new_set(
    deployment: &Deployment,
    spec: &DeploymentSpec,
    hash: &str,
    revision: i64,
    replicas: i32,
    desired: &Desired,
) -> Result<ReplicaSet, ControllerError> {
    let mut template = spec.template.clone();
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(HASH_LABEL.to_owned(), hash.to_owned());
    let labels = labels.clone();
    let mut selector = spec.selector.clone();
    selector.match_labels.get_or_insert_default().insert(HASH_LABEL.to_owned(), hash.to_owned());
    let mut annotations = copied_annotations(deployment);
    annotations.insert(REVISION.to_owned(), revision.to_string());
    annotations.extend(size_annotations(desired));
    let owner = controlled_by(deployment).ok_or_else(|| incomplete(deployment, "uid"))?;
    Ok(ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", deployment.name_any())),
            namespace: deployment.namespace(),
            labels: Some(labels),
            annotations: Some(annotations),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(replicas),
            min_ready_seconds: spec.min_ready_seconds,
            selector,
            template: Some(template),
        }),
        status: None,
    })
}

/// Sets `spec.replicas` and what it was sized for. Answers whether the size changed.
pub(super) async fn resize(
    set: &mut ReplicaSet,
    replicas: i32,
    desired: &Desired,
    shared: &Shared,
) -> Result<bool, ControllerError> {
    let changed = replicas_of(set) != replicas;
    let mut next = set.clone();
    next.annotations_mut().extend(size_annotations(desired));
    if let Some(spec) = &mut next.spec {
        spec.replicas = Some(replicas);
    }
    if next != *set {
        *set = replace(&next, shared).await?;
    }
    Ok(changed)
}

/// Copies the new set's revision to the Deployment.
pub(super) async fn stamp_revision(
    deployment: &Deployment,
    new: &ReplicaSet,
    shared: &Shared,
) -> Result<Deployment, ControllerError> {
    let Some(revision) = new.annotations().get(REVISION) else { return Ok(deployment.clone()) };
    if deployment.annotations().get(REVISION) == Some(revision) {
        return Ok(deployment.clone());
    }
    let namespace = deployment.namespace().ok_or_else(|| incomplete(deployment, "namespace"))?;
    let api: Api<Deployment> = Api::namespaced(shared.client.clone(), &namespace);
    // With the version that was decided on: a newer Deployment may have another new set.
    let patch = json!({"metadata": {
        "resourceVersion": deployment.resource_version(), "annotations": {REVISION: revision},
    }});
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    Ok(api.patch(&deployment.name_any(), &params, &Patch::Merge(&patch)).await?)
}

/// Deletes the oldest empty sets beyond the limit.
pub(super) async fn delete_history(
    old: &[ReplicaSet],
    limit: i32,
    shared: &Shared,
) -> Result<(), ControllerError> {
    let alive: Vec<_> = old.iter().filter(|set| set.metadata.deletion_timestamp.is_none()).collect();
    let excess = alive.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
    let mut by_revision = alive;
    by_revision.sort_by_key(|set| revision_of(set));
    for set in by_revision.into_iter().take(excess).filter(|set| is_empty(set)) {
        let same = Preconditions { uid: set.uid(), resource_version: set.resource_version() };
        let params = DeleteParams { preconditions: Some(same), ..DeleteParams::background() };
        match sets_api(set, shared)?.delete(&set.name_any(), &params).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn is_empty(set: &ReplicaSet) -> bool {
    let status = set.status.clone().unwrap_or_default();
    replicas_of(set) == 0 && status.replicas == 0 && set.metadata.generation <= status.observed_generation
}

/// The set has all its pods available and was sized for the present `spec.replicas`.
pub(super) fn is_saturated(set: &ReplicaSet, replicas: i32) -> bool {
    let available = set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0);
    replicas_of(set) == replicas && desired_before(set) == Some(replicas) && available == replicas
}

pub(super) fn size_of(set: &ReplicaSet) -> Size {
    Size {
        name: set.name_any(),
        replicas: replicas_of(set),
        available: set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0),
        max_before: number(set, MAX),
    }
}

pub(super) fn replicas_of(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// The Deployment's `spec.replicas` when the set was last sized.
pub(super) fn desired_before(set: &ReplicaSet) -> Option<i32> {
    number(set, DESIRED)
}

fn revision_of(set: &ReplicaSet) -> i64 {
    number(set, REVISION).unwrap_or(0)
}

fn number<N: std::str::FromStr>(set: &ReplicaSet, annotation: &str) -> Option<N> {
    set.annotations().get(annotation)?.parse().ok()
}

fn size_annotations(desired: &Desired) -> [(String, String); 2] {
    [(DESIRED.to_owned(), desired.replicas.to_string()), (MAX.to_owned(), desired.ceiling().to_string())]
}

fn copied_annotations(deployment: &Deployment) -> BTreeMap<String, String> {
    let mut annotations = deployment.annotations().clone();
    annotations.retain(|key, _| !NOT_COPIED.contains(&key.as_str()));
    annotations
}

fn set_template(set: &ReplicaSet) -> Option<&PodTemplateSpec> {
    set.spec.as_ref()?.template.as_ref()
}

fn without_hash(template: &PodTemplateSpec) -> PodTemplateSpec {
    let mut template = template.clone();
    if let Some(labels) = template.metadata.as_mut().and_then(|meta| meta.labels.as_mut()) {
        labels.remove(HASH_LABEL);
    }
    template
}

/// Oldest first; sets created within one second are told apart by revision.
fn age(set: &ReplicaSet) -> (Option<jiff::Timestamp>, i64, String) {
    let created = set.creation_timestamp().map(|at| at.0);
    (created, revision_of(set), set.name_any())
}

async fn replace(set: &ReplicaSet, shared: &Shared) -> Result<ReplicaSet, ControllerError> {
    Ok(sets_api(set, shared)?.replace(&set.name_any(), &post_params(), set).await?)
}

fn sets_api(set: &ReplicaSet, shared: &Shared) -> Result<Api<ReplicaSet>, ControllerError> {
    let namespace = set.namespace().ok_or_else(|| ControllerError::Incomplete {
        object: format!("replicaset {}", set.name_any()),
        field: "namespace",
    })?;
    Ok(Api::namespaced(shared.client.clone(), &namespace))
}

fn post_params() -> PostParams {
    PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() }
}
