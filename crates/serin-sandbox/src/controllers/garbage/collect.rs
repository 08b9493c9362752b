//! What to do with one object of the graph: delete it, let it go, or finish its own deletion.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Api;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions, PropagationPolicy};
use kube::core::discovery::Scope;
use serde_json::{Value, json};

use super::Garbage;
use super::graph::{Deletion, FOREGROUND, Node, ORPHAN};
use super::kinds::Kinds;
use crate::controllers::{ControllerError, MANAGER};

/// What became of an owner that an object names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Alive,
    /// It waits for this dependent to go.
    Waiting,
    Gone,
}

/// Takes one step for the object.
pub(super) async fn one(garbage: &Garbage, uid: &str, kinds: &Kinds) -> Result<(), ControllerError> {
    let node = garbage.graph().get(uid).cloned();
    let Some(node) = node else { return Ok(()) };
    match node.deletion {
        Deletion::Orphan => orphan_dependents(garbage, &node).await,
        Deletion::Foreground => delete_dependents(garbage, &node).await,
        Deletion::Other => Ok(()),
        Deletion::None => judge(garbage, &node, kinds).await,
    }
}

async fn orphan_dependents(garbage: &Garbage, node: &Node) -> Result<(), ControllerError> {
    let dependents: Vec<Node> = garbage.graph().dependents(&node.uid).into_iter().cloned().collect();
    for dependent in dependents {
        drop_owners(garbage, &dependent, &[node.uid.as_str()]).await?;
    }
    drop_finalizer(garbage, node, ORPHAN).await
}

/// A foreground deletion ends when no dependent is left that blocks it.
async fn delete_dependents(garbage: &Garbage, node: &Node) -> Result<(), ControllerError> {
    let blocks = |owner: &OwnerReference| owner.uid == node.uid && owner.block_owner_deletion == Some(true);
    let (all, blocking) = {
        let graph = garbage.graph();
        let dependents = graph.dependents(&node.uid);
        let all: Vec<String> = dependents.iter().map(|dependent| dependent.uid.clone()).collect();
        (all, dependents.iter().any(|dependent| dependent.owners.iter().any(blocks)))
    };
    all.into_iter().for_each(|uid| garbage.0.wakes.wake(uid));
    if blocking { Ok(()) } else { drop_finalizer(garbage, node, FOREGROUND).await }
}

/// An object none of whose owners is left goes; one that keeps an owner loses the references to the others.
async fn judge(garbage: &Garbage, node: &Node, kinds: &Kinds) -> Result<(), ControllerError> {
    if node.owners.is_empty() {
        return Ok(());
    }
    let mut alive = false;
    let mut waiting = false;
    let mut ended: Vec<&str> = Vec::new();
    for owner in &node.owners {
        match state_of(garbage, node, owner, kinds).await? {
            Owner::Alive => alive = true,
            Owner::Waiting => {
                waiting = true;
                ended.push(&owner.uid);
            }
            Owner::Gone => ended.push(&owner.uid),
        }
    }
    match (alive, ended.is_empty()) {
        (true, true) => Ok(()),
        (true, false) => drop_owners(garbage, node, &ended).await,
        (false, _) => {
            let has_dependents = !garbage.graph().dependents(&node.uid).is_empty();
            let policy = if waiting && has_dependents {
                PropagationPolicy::Foreground
            } else {
                PropagationPolicy::Background
            };
            delete(garbage, node, policy).await
        }
    }
}

async fn state_of(
    garbage: &Garbage,
    node: &Node,
    owner: &OwnerReference,
    kinds: &Kinds,
) -> Result<Owner, ControllerError> {
    if let Some(known) = garbage.graph().get(&owner.uid) {
        return Ok(if known.deletion == Deletion::Foreground { Owner::Waiting } else { Owner::Alive });
    }
    // The cache may lag behind: only the API server can say that an owner is gone.
    let Some((resource, scope)) = kinds.resolve(&owner.api_version, &owner.kind) else { return Ok(Owner::Alive) };
    let client = garbage.0.client.clone();
    let api: Api<DynamicObject> = match (scope, &node.namespace) {
        (Scope::Namespaced, Some(namespace)) => Api::namespaced_with(client, namespace, resource),
        // A cluster-wide object cannot be owned by a namespaced one; the reference means nothing.
        (Scope::Namespaced, None) => return Ok(Owner::Alive),
        (Scope::Cluster, _) => Api::all_with(client, resource),
    };
    let found = api.get_metadata_opt(&owner.name).await?;
    let same = found.is_some_and(|found| found.metadata.uid.as_deref() == Some(owner.uid.as_str()));
    Ok(if same { Owner::Alive } else { Owner::Gone })
}

async fn delete(garbage: &Garbage, node: &Node, policy: PropagationPolicy) -> Result<(), ControllerError> {
    let params = DeleteParams {
        propagation_policy: Some(policy),
        preconditions: Some(Preconditions { uid: Some(node.uid.clone()), resource_version: None }),
        ..DeleteParams::default()
    };
    match api_of(garbage, node).delete(&node.name, &params).await {
        Ok(_) => Ok(()),
        Err(error) => gone_is_fine(error),
    }
}

async fn drop_owners(garbage: &Garbage, node: &Node, ended: &[&str]) -> Result<(), ControllerError> {
    let Some(live) = live(garbage, node).await? else { return Ok(()) };
    let before = live.metadata.owner_references.unwrap_or_default();
    let kept: Vec<_> = before.iter().filter(|owner| !ended.contains(&owner.uid.as_str())).collect();
    if kept.len() == before.len() {
        return Ok(());
    }
    patch_meta(garbage, node, live.metadata.resource_version, json!({"ownerReferences": kept})).await
}

async fn drop_finalizer(garbage: &Garbage, node: &Node, finalizer: &str) -> Result<(), ControllerError> {
    let Some(live) = live(garbage, node).await? else { return Ok(()) };
    let before = live.metadata.finalizers.unwrap_or_default();
    let kept: Vec<_> = before.iter().filter(|name| *name != finalizer).collect();
    if kept.len() == before.len() {
        return Ok(());
    }
    patch_meta(garbage, node, live.metadata.resource_version, json!({"finalizers": kept})).await
}

/// The object as it is now; `None` if it is gone or another one has its name.
async fn live(garbage: &Garbage, node: &Node) -> Result<Option<DynamicObject>, ControllerError> {
    let found = api_of(garbage, node).get_opt(&node.name).await?;
    Ok(found.filter(|found| found.metadata.uid.as_deref() == Some(node.uid.as_str())))
}

async fn patch_meta(
    garbage: &Garbage,
    node: &Node,
    version: Option<String>,
    mut meta: Value,
) -> Result<(), ControllerError> {
    meta["uid"] = json!(node.uid);
    meta["resourceVersion"] = json!(version);
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    let patch = json!({"metadata": meta});
    match api_of(garbage, node).patch(&node.name, &params, &Patch::Merge(&patch)).await {
        Ok(_) => Ok(()),
        Err(error) => gone_is_fine(error),
    }
}

fn gone_is_fine(error: kube::Error) -> Result<(), ControllerError> {
    match error {
        kube::Error::Api(status) if status.is_not_found() => Ok(()),
        error => Err(error.into()),
    }
}

fn api_of(garbage: &Garbage, node: &Node) -> Api<DynamicObject> {
    let client = garbage.0.client.clone();
    match &node.namespace {
        Some(namespace) => Api::namespaced_with(client, namespace, &node.resource),
        None => Api::all_with(client, &node.resource),
    }
}
