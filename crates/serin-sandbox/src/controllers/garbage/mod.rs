//! Garbage collection: objects whose owners are gone go too; foreground and orphan deletions are carried out.

mod collect;
mod graph;
mod kinds;

use std::collections::{BTreeSet, HashSet};
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::ApiResource;
use kube::{Client, Resource};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::watch::{Change, Reflector, Wakes, Watched};
use super::{ControllerError, RETRY_AFTER};
use graph::{Graph, Node};
use kinds::Kinds;

/// The collector; clones share their graph.
#[derive(Clone)]
pub(super) struct Garbage(Arc<Inner>);

struct Inner {
    client: Client,
    graph: Mutex<Graph>,
    wakes: Wakes<String>,
    /// Kinds that the other controllers watch anyway.
    observed: Mutex<HashSet<(String, String)>>,
    /// The set of kinds has changed.
    kinds_changed: Notify,
}

impl Garbage {
    pub(super) fn new(client: Client) -> Self {
        Self(Arc::new(Inner {
            client,
            graph: Mutex::default(),
            wakes: Wakes::new(),
            observed: Mutex::default(),
            kinds_changed: Notify::new(),
        }))
    }

    /// Follows a kind through the reflector that exists for it.
    pub(super) fn observe<K>(&self, reflector: &mut Reflector<K>)
    where
        K: Watched + Resource<DynamicType = ()>,
    {
        let resource = ApiResource::erase::<K>(&());
        let key = (resource.group.clone(), resource.kind.clone());
        self.0.observed.lock().unwrap_or_else(PoisonError::into_inner).insert(key);
        self.follow(reflector, resource);
    }

    fn follow<K>(&self, reflector: &mut Reflector<K>, resource: ApiResource)
    where
        K: Watched,
        K::DynamicType: Eq + Hash + Clone + Debug + Unpin + Send + Sync,
    {
        let garbage = self.clone();
        reflector.on_change(move |change| garbage.take(change, &resource));
    }

    /// A definition that becomes established, or goes, changes which kinds there are.
    pub(super) fn on_definitions(&self, reflector: &mut Reflector<CustomResourceDefinition>) {
        let garbage = self.clone();
        reflector.on_change(move |change| {
            if change.before.is_some_and(is_established) != change.after.is_some_and(is_established) {
                garbage.0.kinds_changed.notify_one();
            }
        });
    }

    fn take<K: Resource>(&self, change: &Change<'_, K>, resource: &ApiResource) {
        let uid = |object: &K| object.meta().uid.clone();
        let (before, after) = (change.before.and_then(uid), change.after.and_then(uid));
        let mut graph = self.graph();
        let mut concerned = Vec::new();
        if let Some(gone) = before.filter(|before| Some(before) != after.as_ref()) {
            concerned.extend(graph.remove(&gone));
        }
        if let Some(node) = change.after.and_then(|object| Node::of(resource.clone(), object.meta())) {
            concerned.extend(graph.upsert(node));
        }
        drop(graph);
        concerned.into_iter().for_each(|uid| self.0.wakes.wake(uid));
    }

    /// Collects until shutdown.
    pub(super) async fn run(self, shutdown: CancellationToken) {
        let mut kinds = Kinds::new(shutdown.clone());
        // The first look at the kinds is due at once.
        self.0.kinds_changed.notify_one();
        let mut failed = BTreeSet::new();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = self.0.kinds_changed.notified() => self.refresh(&mut kinds).await,
                uid = self.0.wakes.next(), if kinds.are_known() => {
                    if let Err(error) = self.collect(&uid, &kinds).await {
                        debug!(uid, error = &error as &dyn std::error::Error, "could not collect, will retry");
                        failed.insert(uid);
                    }
                }
                () = tokio::time::sleep(RETRY_AFTER), if !failed.is_empty() || !kinds.are_known() => {
                    std::mem::take(&mut failed).into_iter().for_each(|uid| self.0.wakes.wake(uid));
                    if !kinds.are_known() {
                        self.0.kinds_changed.notify_one();
                    }
                }
            }
        }
        kinds.stop().await;
    }

    async fn refresh(&self, kinds: &mut Kinds) {
        if let Err(error) = kinds.refresh(self).await {
            warn!(error = &error as &dyn std::error::Error, "could not discover the API's kinds, will retry");
            return;
        }
        // Owners of kinds that were unknown until now can be looked up.
        let owned = self.graph().owned();
        owned.into_iter().for_each(|uid| self.0.wakes.wake(uid));
    }

    fn is_observed(&self, resource: &ApiResource) -> bool {
        let observed = self.0.observed.lock().unwrap_or_else(PoisonError::into_inner);
        observed.contains(&(resource.group.clone(), resource.kind.clone()))
    }

    fn graph(&self) -> MutexGuard<'_, Graph> {
        self.0.graph.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn collect(&self, uid: &str, kinds: &Kinds) -> Result<(), ControllerError> {
        collect::one(self, uid, kinds).await
    }
}

fn is_established(definition: &CustomResourceDefinition) -> bool {
    let conditions = definition.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Established" && condition.status == "True")
}
