//! Deletes what Git no longer names.

use kube::api::{DeleteParams, Preconditions, PropagationPolicy};
use serde_json::Value;

use super::apply::Trouble;
use super::desired::Link;
use super::order::{self, Stage};
use super::plan;
use crate::api::annotations::PRUNE;
use crate::cluster::{Cluster, EffectKind, ResolveError, Writer, call};
use crate::model::{NamespacedName, ObjectRef};

/// What became of an object that is gone from Git.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Removed {
    /// Deleted.
    Deleted,
    /// A Canary, which goes when its finalizer is done; what it releases stays until then.
    Finalizing(Link),
    /// It was not there, or not ours any more, or must be kept; why, in words.
    Left(String),
    /// Not yet: its Canary must be gone first.
    Waiting(NamespacedName),
}

/// Deletes one object of the inventory, if it is still ours and may be deleted.
pub(super) async fn remove(
    cluster: &Cluster,
    writer: &Writer,
    id: &ObjectRef,
    version: &str,
    live_canaries: &[Link],
) -> Result<Removed, Trouble> {
    let namespace = id.namespace.as_deref();
    let owner = live_canaries.iter().find(|link| {
        id.kind == "Deployment" && namespace == Some(link.canary.namespace.as_str()) && link.target == id.name
    });
    if let Some(link) = owner {
        return Ok(Removed::Waiting(link.canary.clone()));
    }
    let resolved = match cluster.resolve(&id.group, version, &id.kind).await {
        Ok(resolved) => resolved,
        Err(ResolveError::NotServed { .. }) => return Ok(Removed::Left("its kind is gone".to_owned())),
        Err(error) => return Err(error.into()),
    };
    let api = cluster.objects(&resolved, namespace);
    let Some(live) = call(&format!("read {id}"), api.get_opt(&id.name)).await? else {
        return Ok(Removed::Left("it is gone already".to_owned()));
    };
    let live = serde_json::to_value(live)?;
    if let Some(reason) = reason_to_keep(id, &live) {
        return Ok(Removed::Left(reason));
    }
    let params = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Background),
        // Whoever made it anew meanwhile keeps it.
        preconditions: Some(Preconditions {
            uid: live["metadata"]["uid"].as_str().map(str::to_owned),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    match writer.effect(EffectKind::Delete, &id.to_string(), api.delete(&id.name, &params)).await {
        Ok(_) => Ok(finalizing(id, &live).map_or(Removed::Deleted, Removed::Finalizing)),
        Err(error) if error.is_not_found() || error.is_conflict() => {
            Ok(Removed::Left("somebody else deleted it".to_owned()))
        }
        Err(error) => Err(error.into()),
    }
}

/// The link of a Canary that a finalizer keeps: the cache may not know of it yet.
fn finalizing(id: &ObjectRef, live: &Value) -> Option<Link> {
    let held = live["metadata"]["finalizers"].as_array().is_some_and(|finalizers| !finalizers.is_empty());
    if Stage::of(id) != Stage::Canaries || !held {
        return None;
    }
    let target = live["spec"]["targetRef"]["name"].as_str()?.to_owned();
    let canary = NamespacedName::new(id.namespace.clone().unwrap_or_default(), id.name.clone());
    Some(Link { canary, service: target.clone(), target, invalid: None })
}

fn reason_to_keep(id: &ObjectRef, live: &Value) -> Option<String> {
    let prune = live["metadata"]["annotations"][PRUNE].as_str();
    if !plan::is_owned(live) {
        return Some("it is not managed by serin any more".to_owned());
    }
    if prune == Some("disabled") {
        return Some(format!("{PRUNE}: disabled"));
    }
    (order::is_precious(id) && prune != Some("enabled"))
        .then(|| format!("a {} is only deleted with the annotation {PRUNE}: enabled", id.kind))
}
