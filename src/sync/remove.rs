//! Deletes what Git no longer names, one object at a time.

use kube::Api;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions, PropagationPolicy};
use serde_json::{Value, json};

use super::apply::Trouble;
use super::desired::Link;
use super::order::{self, Stage};
use super::ownership;
use super::plan;
use crate::api::annotations::{HEIR, MANAGER_SYNC, PRUNE};
use crate::cluster::{Cluster, EffectKind, ResolveError, Writer, call};
use crate::model::{NamespacedName, ObjectRef};

/// What is to be done about an object that is gone from Git.
pub(super) enum Look {
    /// It is there, ours, and may be deleted.
    Doomed(Box<Doomed>),
    /// It is not there, or not ours any more, or must be kept; why, in words.
    Left(String),
    /// Not yet: its Canary must be gone first.
    Waiting(NamespacedName),
    /// It is being deleted, and somebody has to let it go, in words.
    Hanging(String),
}

/// An object that may be deleted.
pub(super) struct Doomed {
    api: Api<DynamicObject>,
    pub(super) live: Value,
}

/// What became of an object that was deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Removed {
    /// It is gone, or goes by itself.
    Deleted,
    /// A finalizer keeps it, in words; a Canary's, as a rule, until it has handed its target back.
    Hanging(String, Option<Link>),
    /// Somebody else was faster, in words.
    Left(String),
}

/// Looks whether an object of the inventory is still ours and may be deleted.
pub(super) async fn look(
    cluster: &Cluster,
    id: &ObjectRef,
    version: &str,
    live_canaries: &[Link],
    own: &NamespacedName,
) -> Result<Look, Trouble> {
    let namespace = id.namespace.as_deref();
    let owner = live_canaries.iter().find(|link| {
        id.kind == "Deployment" && namespace == Some(link.canary.namespace.as_str()) && link.target == id.name
    });
    if let Some(link) = owner {
        return Ok(Look::Waiting(link.canary.clone()));
    }
    let resolved = match cluster.resolve(&id.group, version, &id.kind).await {
        Ok(resolved) => resolved,
        Err(ResolveError::NotServed { .. }) => return Ok(Look::Left("its kind is gone".to_owned())),
        Err(error) => return Err(error.into()),
    };
    let api = cluster.objects(&resolved, namespace);
    let Some(live) = call(&format!("read {id}"), api.get_opt(&id.name)).await? else {
        return Ok(Look::Left("it is gone already".to_owned()));
    };
    let live = serde_json::to_value(live)?;
    if let Some(reason) = reason_to_keep(id, &live, own) {
        return Ok(Look::Left(reason));
    }
    Ok(match hanging(&live) {
        Some(words) => Look::Hanging(words),
        None => Look::Doomed(Box::new(Doomed { api, live })),
    })
}

/// Deletes it.
pub(super) async fn delete(writer: &Writer, id: &ObjectRef, doomed: Box<Doomed>) -> Result<Removed, Trouble> {
    let Doomed { api, live } = *doomed;
    let params = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Background),
        // Whoever made it anew meanwhile keeps it.
        preconditions: Some(Preconditions { uid: uid(&live), resource_version: None }),
        ..DeleteParams::default()
    };
    match writer.effect(EffectKind::Delete, &id.to_string(), api.delete(&id.name, &params)).await {
        Ok(left) => {
            let left = left.left().map(serde_json::to_value).transpose()?;
            Ok(match left.as_ref().and_then(hanging) {
                Some(words) => Removed::Hanging(words, finalizing(id, &live)),
                None => Removed::Deleted,
            })
        }
        Err(error) if error.is_not_found() || error.is_conflict() => {
            Ok(Removed::Left("somebody else deleted it".to_owned()))
        }
        Err(error) => Err(error.into()),
    }
}

/// Tells the engine which Canary takes over the service that leads to a Deployment.
pub(super) async fn mark(writer: &Writer, id: &ObjectRef, doomed: &Doomed, heir: &Link) -> Result<(), Trouble> {
    let patch = json!({"metadata": {"annotations": {HEIR: heir.canary.name}}});
    let (params, patch) = (
        PatchParams { field_manager: Some(MANAGER_SYNC.to_owned()), ..PatchParams::default() },
        Patch::Merge(patch),
    );
    let marked = doomed.api.patch(&id.name, &params, &patch);
    writer.effect(EffectKind::Patch, &id.to_string(), marked).await?;
    Ok(())
}

/// What an object is known by as long as it lives.
pub(super) fn uid(live: &Value) -> Option<String> {
    live["metadata"]["uid"].as_str().map(str::to_owned)
}

/// Who keeps an object that is being deleted, if somebody does.
pub(super) fn hanging(live: &Value) -> Option<String> {
    let metadata = &live["metadata"];
    let since = metadata["deletionTimestamp"].as_str()?;
    let finalizers = metadata["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let finalizers: Vec<&str> = finalizers.collect();
    (!finalizers.is_empty())
        .then(|| format!("it is being deleted since {since} and goes when {} lets it go", finalizers.join(", ")))
}

/// The link of a Canary that a finalizer keeps: the cache may not know of it yet.
fn finalizing(id: &ObjectRef, live: &Value) -> Option<Link> {
    if Stage::of(id) != Stage::Canaries {
        return None;
    }
    let target = live["spec"]["targetRef"]["name"].as_str()?.to_owned();
    let canary = NamespacedName::new(id.namespace.clone().unwrap_or_default(), id.name.clone());
    Some(Link { canary, service: target.clone(), target, serves: true, invalid: None })
}

fn reason_to_keep(id: &ObjectRef, live: &Value, own: &NamespacedName) -> Option<String> {
    let prune = live["metadata"]["annotations"][PRUNE].as_str();
    if !plan::is_owned(live) {
        return Some("it is not managed by serin any more".to_owned());
    }
    if let Some(other) = ownership::other_source(live, own) {
        return Some(format!("it belongs to source {other}"));
    }
    if prune == Some("disabled") {
        return Some(format!("{PRUNE}: disabled"));
    }
    (order::is_precious(id) && prune != Some("enabled"))
        .then(|| format!("a {} is only deleted with the annotation {PRUNE}: enabled", id.kind))
}
