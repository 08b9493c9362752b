//! What is watched for Rollouts besides what Canaries need, too.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use kube::ResourceExt as _;
use kube::api::DynamicObject;
use kube::runtime::watcher;
use tokio_util::sync::CancellationToken;

use crate::api::annotations::{PROJECTED, REVISION as STAMP, ROLLBACK, STATE, UNRECORDED};
use crate::cluster::{Cluster, Reflected, ResolveError, Resolved};
use crate::controller::caches::{Tracked, to_value};
use crate::controller::wakeups::Wakeups;
use crate::manifest::template_digest;
use crate::model::{Digest, Frozen, NamespacedName, Projected, Revision, RollbackNote};
use crate::rollout::keys::{GROUP, HASH, KIND, REVISION, VERSION};
use crate::rollout::sets::SetView;

/// The kinds that Rollouts need, as the API server serves them.
#[derive(Debug, Clone)]
pub(in crate::controller) struct RolloutKinds {
    pub(in crate::controller) rollout: Resolved,
    pub(in crate::controller) set: Resolved,
    pub(in crate::controller) event: Resolved,
}

impl RolloutKinds {
    pub(super) async fn resolve(cluster: &Cluster) -> Result<Self, ResolveError> {
        Ok(Self {
            rollout: cluster.resolve(GROUP, VERSION, KIND).await?,
            set: cluster.resolve("apps", "v1", "ReplicaSet").await?,
            event: cluster.resolve("", "v1", "Event").await?,
        })
    }
}

/// A Rollout, reduced on arrival.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RolloutView {
    pub(super) key: NamespacedName,
    pub(super) uid: String,
    pub(super) resource_version: String,
    pub(super) generation: i64,
    pub(super) deleting: bool,
    /// `metadata.generation` of the workload whose template it takes; 0 where that is its own.
    pub(super) workload_generation: i64,
    /// Of its template.
    pub(super) digest: Digest,
    /// Annotation: the engine's state.
    pub(super) state: Option<String>,
    /// Annotation: the number of its revision.
    pub(super) revision: Option<String>,
    /// Annotation: which revision `sync` has written.
    pub(super) stamped: Option<Revision>,
    /// Annotation: how far the projections are.
    pub(super) projected: Projected,
    /// Annotation: what became of the watched branch after a failed release.
    pub(super) rollback: Option<RollbackNote>,
    /// Annotation: what keeps state from reaching Git, in words.
    pub(super) unrecorded: Option<String>,
    pub(super) spec: Frozen,
    pub(super) status: Frozen,
}

impl RolloutView {
    fn of(object: DynamicObject) -> Self {
        let DynamicObject { metadata, data, .. } = object;
        let annotation = |key: &str| metadata.annotations.as_ref().and_then(|all| all.get(key)).cloned();
        Self {
            state: annotation(STATE),
            revision: annotation(REVISION),
            stamped: annotation(STAMP).and_then(|text| text.parse().ok()),
            projected: annotation(PROJECTED).map(|text| Projected::from(text.as_str())).unwrap_or_default(),
            rollback: annotation(ROLLBACK).and_then(|text| serde_json::from_str(&text).ok()),
            unrecorded: annotation(UNRECORDED),
            key: NamespacedName::new(
                metadata.namespace.clone().unwrap_or_default(),
                metadata.name.clone().unwrap_or_default(),
            ),
            uid: metadata.uid.unwrap_or_default(),
            resource_version: metadata.resource_version.unwrap_or_default(),
            generation: metadata.generation.unwrap_or(0),
            deleting: metadata.deletion_timestamp.is_some(),
            workload_generation: 0,
            digest: template_digest(&data["spec"]["template"]),
            spec: Frozen::of(&data["spec"]),
            status: Frozen::of(&data["status"]),
        }
    }
}

/// Whose a ReplicaSet is: known before it is asked for, and still when it is gone.
#[derive(Debug, Default)]
struct Owners(Mutex<Owned>);

#[derive(Debug, Default)]
struct Owned {
    /// Uid of a Rollout to its sets.
    sets: HashMap<String, BTreeSet<NamespacedName>>,
    /// A set to the Rollout's name.
    owner: HashMap<NamespacedName, NamespacedName>,
}

impl Owners {
    fn note(&self, set: &NamespacedName, object: &DynamicObject) {
        let owners = object.metadata.owner_references.iter().flatten();
        let Some(owner) = owners.into_iter().find(|owner| owner.controller == Some(true) && owner.kind == KIND)
        else {
            return;
        };
        let rollout = NamespacedName::new(set.namespace.clone(), owner.name.clone());
        self.with(|owned| {
            owned.sets.entry(owner.uid.clone()).or_default().insert(set.clone());
            owned.owner.insert(set.clone(), rollout);
        });
    }

    fn owner(&self, set: &NamespacedName) -> Option<NamespacedName> {
        self.with(|owned| owned.owner.get(set).cloned())
    }

    fn sets(&self, uid: &str) -> Vec<NamespacedName> {
        self.with(|owned| owned.sets.get(uid).into_iter().flatten().cloned().collect())
    }

    fn forget(&self, uid: &str, set: &NamespacedName) {
        self.with(|owned| {
            owned.owner.remove(set);
            if let Some(sets) = owned.sets.get_mut(uid) {
                sets.remove(set);
            }
        });
    }

    fn with<T>(&self, change: impl FnOnce(&mut Owned) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The watches.
pub(super) struct RolloutCaches {
    pub(super) rollouts: Reflected<RolloutView>,
    sets: Reflected<SetView>,
    owners: Arc<Owners>,
}

impl RolloutCaches {
    pub(super) fn start(
        cluster: &Cluster,
        kinds: &RolloutKinds,
        namespace: Option<&str>,
        wakeups: &Arc<Wakeups>,
        shutdown: &CancellationToken,
    ) -> Self {
        let owners: Arc<Owners> = Arc::default();
        let woken = wakeups.clone();
        let rollouts = Reflected::start(
            cluster.objects(&kinds.rollout, namespace),
            watcher::Config::default(),
            shutdown.clone(),
            |object| Ok(RolloutView::of(object)),
            move |key| woken.wake(key),
        );
        let (noted, asked, woken) = (owners.clone(), owners.clone(), wakeups.clone());
        let sets = Reflected::start(
            cluster.objects(&kinds.set, namespace),
            // Those of Deployments are nobody's business here.
            watcher::Config::default().labels(HASH),
            shutdown.clone(),
            move |object| {
                let key = NamespacedName::new(object.namespace().unwrap_or_default(), object.name_any());
                noted.note(&key, &object);
                SetView::of(&to_value(object)?)
            },
            move |key| {
                if let Some(owner) = asked.owner(key) {
                    woken.wake(&owner);
                }
            },
        );
        Self { rollouts, sets, owners }
    }

    pub(super) async fn ready(&self) {
        let Self { rollouts, sets, owners: _ } = self;
        rollouts.ready().await;
        sets.ready().await;
    }

    /// A Rollout's sets.
    pub(super) fn sets_of(&self, uid: &str) -> Vec<Arc<SetView>> {
        let known = self.owners.sets(uid).into_iter().filter_map(|key| {
            let found = self.sets.get(&key);
            if found.is_none() {
                self.owners.forget(uid, &key);
            }
            found
        });
        known.filter(|set| set.owner.as_deref() == Some(uid)).collect()
    }

    /// The cached resourceVersion.
    pub(super) fn version(&self, kind: Tracked, namespace: &str, name: &str) -> Option<String> {
        let key = NamespacedName::new(namespace, name);
        match kind {
            Tracked::Rollout => self.rollouts.get(&key).map(|view| view.resource_version.clone()),
            Tracked::ReplicaSet => self.sets.get(&key).map(|set| set.resource_version.clone()),
            Tracked::Canary
            | Tracked::Deployment
            | Tracked::Autoscaler
            | Tracked::Service
            | Tracked::Route(_)
            | Tracked::AnalysisRun
            | Tracked::Job => None,
        }
    }
}
