//! Namespace: a `default` ServiceAccount while it lives; when it is deleted, its contents first, then the namespace.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, DynamicObject, ListParams, PostParams};
use kube::core::discovery::{ApiResource, Scope, verbs};
use kube::discovery::Discovery;
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt as _};
use tokio::time::Instant;

use super::runner::Shared;
use super::{ControllerError, MANAGER};

/// The finalizer of the API that this controller clears.
const FINALIZER: &str = "kubernetes";

const DEFAULT_ACCOUNT: &str = "default";

/// How often a namespace that is going away is looked at: contents end without an event of the namespace itself.
const DRAIN_CHECK: Duration = Duration::from_millis(250);

/// How long a namespace is at least `Terminating`: a real one is for seconds, and refuses new objects meanwhile.
const LINGERS: Duration = Duration::from_secs(1);

/// Since when namespaces go away, by uid.
#[derive(Debug, Default)]
pub(super) struct Leaving(Mutex<HashMap<String, Instant>>);

impl Leaving {
    /// How long this one has still to be seen going.
    fn left(&self, uid: &str) -> Duration {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let since = *all.entry(uid.to_owned()).or_insert_with(Instant::now);
        LINGERS.saturating_sub(since.elapsed())
    }

    fn forget(&self, uid: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}

/// One pass over one namespace.
pub(super) async fn reconcile(namespace: Arc<Namespace>, shared: Arc<Shared>) -> Result<Action, ControllerError> {
    if namespace.metadata.deletion_timestamp.is_none() {
        ensure_account(&namespace.name_any(), &shared).await?;
        return Ok(Action::await_change());
    }
    let finalizers = namespace.spec.as_ref().and_then(|spec| spec.finalizers.as_ref());
    if finalizers.is_none_or(|finalizers| !finalizers.iter().any(|finalizer| finalizer == FINALIZER)) {
        return Ok(Action::await_change());
    }
    if drain(&namespace.name_any(), &shared).await? > 0 {
        return Ok(Action::requeue(DRAIN_CHECK));
    }
    let uid = namespace.uid().unwrap_or_default();
    let left = shared.leaving.left(&uid);
    if !left.is_zero() {
        return Ok(Action::requeue(left));
    }
    finalize(&namespace, &shared).await?;
    shared.leaving.forget(&uid);
    Ok(Action::await_change())
}

async fn ensure_account(namespace: &str, shared: &Shared) -> Result<(), ControllerError> {
    if shared.accounts.get(&ObjectRef::new(DEFAULT_ACCOUNT).within(namespace)).is_some() {
        return Ok(());
    }
    let account = ServiceAccount {
        metadata: ObjectMeta {
            name: Some(DEFAULT_ACCOUNT.to_owned()),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        ..ServiceAccount::default()
    };
    let api: Api<ServiceAccount> = Api::namespaced(shared.client.clone(), namespace);
    match api.create(&post_params(), &account).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Deletes what is left in the namespace and answers how many objects there still are.
async fn drain(namespace: &str, shared: &Shared) -> Result<usize, ControllerError> {
    let discovery = Discovery::new(shared.client.clone()).run().await?;
    let mut left = 0;
    for (resource, capabilities) in discovery.groups().flat_map(kube::discovery::ApiGroup::recommended_resources) {
        let deletable =
            capabilities.supports_operation(verbs::LIST) && capabilities.supports_operation(verbs::DELETE);
        if capabilities.scope == Scope::Namespaced && deletable {
            left += drain_kind(namespace, &resource, shared).await?;
        }
    }
    Ok(left)
}

async fn drain_kind(namespace: &str, resource: &ApiResource, shared: &Shared) -> Result<usize, ControllerError> {
    let api: Api<DynamicObject> = Api::namespaced_with(shared.client.clone(), namespace, resource);
    let objects = api.list(&ListParams::default()).await?.items;
    let left = objects.len();
    for object in objects.into_iter().filter(|object| object.metadata.deletion_timestamp.is_none()) {
        match api.delete(&object.name_any(), &DeleteParams::background()).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(left)
}

async fn finalize(namespace: &Namespace, shared: &Shared) -> Result<(), ControllerError> {
    let mut next = namespace.clone();
    if let Some(finalizers) = next.spec.as_mut().and_then(|spec| spec.finalizers.as_mut()) {
        finalizers.retain(|finalizer| finalizer != FINALIZER);
    }
    let api: Api<Namespace> = Api::all(shared.client.clone());
    match api.replace_subresource("finalize", &namespace.name_any(), &post_params(), &next).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn post_params() -> PostParams {
    PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() }
}
