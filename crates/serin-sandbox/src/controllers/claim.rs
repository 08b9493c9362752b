//! Which objects a controller counts as its own: those it owns and still selects. It adopts what it selects and nobody
//! owns, and lets go of what it owns and no longer selects.

use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use kube::api::{Patch, PatchParams};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::objects::{controller_of, selects};
use super::{ControllerError, MANAGER};

/// An object that owns others by a label selector.
pub(super) trait Owner: Namespaced {
    /// `spec.selector`.
    fn selector(&self) -> Option<&LabelSelector>;
}

impl Owner for Deployment {
    fn selector(&self) -> Option<&LabelSelector> {
        self.spec.as_ref().map(|spec| &spec.selector)
    }
}

impl Owner for ReplicaSet {
    fn selector(&self) -> Option<&LabelSelector> {
        self.spec.as_ref().map(|spec| &spec.selector)
    }
}

/// A built-in kind that lives in namespaces.
pub(super) trait Namespaced:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
}

impl<K> Namespaced for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static
{
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Claim {
    Ours,
    Adopt,
    Release,
    Foreign,
}

fn judge(object: &ObjectMeta, owner: &ObjectMeta, selector: &LabelSelector) -> Claim {
    let matches = selects(selector, object.labels.as_ref());
    let owner_stays = owner.deletion_timestamp.is_none();
    match controller_of(object) {
        Some(reference) if Some(&reference.uid) != owner.uid.as_ref() => Claim::Foreign,
        Some(_) if matches => Claim::Ours,
        Some(_) if owner_stays => Claim::Release,
        None if matches && owner_stays && object.deletion_timestamp.is_none() => Claim::Adopt,
        Some(_) | None => Claim::Foreign,
    }
}

/// Owners that may want to adopt the object; none if it has a controller.
pub(super) fn claimants<O: Owner>(object: &impl Resource, owners: &Store<O>) -> Vec<ObjectRef<O>> {
    if controller_of(object.meta()).is_some() {
        return Vec::new();
    }
    let wants = |owner: &O| {
        owner.namespace() == object.meta().namespace
            && owner
                .selector()
                .is_some_and(|selector| judge(object.meta(), owner.meta(), selector) == Claim::Adopt)
    };
    owners.state_filter(wants).iter().map(|owner| ObjectRef::from_obj(&**owner)).collect()
}

/// The objects of `all` that belong to the owner, after adopting and letting go.
pub(super) async fn claim<O: Owner, K: Namespaced>(
    owner: &O,
    all: &Store<K>,
    client: &Client,
    consider: impl Fn(&K) -> bool,
) -> Result<Vec<Arc<K>>, ControllerError> {
    let Some((selector, namespace)) = owner.selector().zip(owner.namespace()) else { return Ok(Vec::new()) };
    let near = all.state_filter(|object: &K| {
        object.meta().namespace.as_ref() == Some(&namespace)
            && consider(object)
            && judge(object.meta(), owner.meta(), selector) != Claim::Foreign
    });
    let api: Api<K> = Api::namespaced(client.clone(), &namespace);
    let mut ours = Vec::new();
    for object in near {
        match judge(object.meta(), owner.meta(), selector) {
            Claim::Ours => ours.push(object),
            Claim::Adopt => ours.extend(adopt(owner, &*object, &api, client).await?.map(Arc::new)),
            Claim::Release => release(owner, &*object, &api).await?,
            Claim::Foreign => {}
        }
    }
    Ok(ours)
}

async fn adopt<O: Owner, K: Namespaced>(
    owner: &O,
    object: &K,
    api: &Api<K>,
    client: &Client,
) -> Result<Option<K>, ControllerError> {
    // The cache may show an owner that is gone: its orphans must not be taken back only to be collected.
    let live = Api::<O>::namespaced(client.clone(), &owner.namespace().unwrap_or_default());
    let live = live.get_opt(&owner.name_any()).await?;
    let stays = live.is_some_and(|live| live.uid() == owner.uid() && live.meta().deletion_timestamp.is_none());
    let Some(reference) = owner.controller_owner_ref(&()).filter(|_| stays) else { return Ok(None) };
    let mut owners = object.owner_references().to_vec();
    owners.push(reference);
    patch_owners(object, &owners, api).await
}

async fn release<O: Owner, K: Namespaced>(owner: &O, object: &K, api: &Api<K>) -> Result<(), ControllerError> {
    let mut owners = object.owner_references().to_vec();
    owners.retain(|reference| Some(&reference.uid) != owner.meta().uid.as_ref());
    patch_owners(object, &owners, api).await.map(|_| ())
}

async fn patch_owners<K: Namespaced>(
    object: &K,
    owners: &[OwnerReference],
    api: &Api<K>,
) -> Result<Option<K>, ControllerError> {
    let patch = json!({"metadata": {
        "uid": object.uid(), "resourceVersion": object.resource_version(), "ownerReferences": owners,
    }});
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    match api.patch(&object.name_any(), &params, &Patch::Merge(&patch)).await {
        Ok(patched) => Ok(Some(patched)),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn selection_and_ownership_decide() {
        let meta = |value: Value| serde_json::from_value::<ObjectMeta>(value).unwrap();
        let selector: LabelSelector = serde_json::from_value(json!({"matchLabels": {"app": "a"}})).unwrap();
        let owner = meta(json!({"uid": "1"}));
        let deleted = meta(json!({"uid": "1", "deletionTimestamp": "2026-01-01T00:00:00Z"}));
        let child = |uid: &str, app: &str| {
            meta(json!({"labels": {"app": app}, "ownerReferences": [
                {"apiVersion": "v1", "kind": "X", "name": "x", "uid": uid, "controller": true}
            ]}))
        };
        let orphan = meta(json!({"labels": {"app": "a"}}));
        assert_eq!(judge(&child("1", "a"), &owner, &selector), Claim::Ours);
        assert_eq!(judge(&child("1", "b"), &owner, &selector), Claim::Release);
        assert_eq!(judge(&child("2", "a"), &owner, &selector), Claim::Foreign);
        assert_eq!(judge(&orphan, &owner, &selector), Claim::Adopt);
        assert_eq!(judge(&orphan, &deleted, &selector), Claim::Foreign);
        assert_eq!(judge(&child("1", "b"), &deleted, &selector), Claim::Foreign);
    }
}
