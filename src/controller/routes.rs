//! Watches of the kinds that routers read. Each begins when the first Canary needs it, so a cluster without a mesh has
//! none, and a definition that is missing keeps only the Canaries waiting that cannot do without it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kube::api::DynamicObject;
use kube::runtime::watcher;
use serde_json::Value;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::cluster::{CallError, Cluster, Reflected, ResolveError, Resolved, explain};
use crate::model::NamespacedName;
use crate::router::{LiveRoutes, RouteKind, SERVICE, Seen, strip, strip_but_status};

use super::caches::to_value;
use super::frozen::FrozenObject;
use super::wakeups::Wakeups;

/// Wait before asking again for kinds that are not served, e.g. because their definitions are about to be applied.
pub(super) const RESOLVE_AGAIN: Duration = Duration::from_secs(5);
/// Longest wait of one look for the first list of a kind; then others have their turn.
const LIST_MAX: Duration = Duration::from_secs(2);

/// Whether all kinds of a router can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Served {
    Yes,
    /// The first list is still on its way.
    Soon,
    /// Not at all; in words, with the remedy.
    No(String),
}

/// The watches.
pub(super) struct RouteWatches {
    cluster: Cluster,
    namespace: Option<String>,
    wakeups: [Arc<Wakeups>; 2],
    shutdown: CancellationToken,
    watched: Mutex<BTreeMap<RouteKind, Watched>>,
    /// Kinds that were not served, and when that was asked.
    missing: Mutex<BTreeMap<RouteKind, (Instant, String)>>,
}

#[derive(Clone)]
struct Watched {
    resolved: Resolved,
    objects: Reflected<FrozenObject>,
}

impl RouteWatches {
    /// None yet.
    pub(super) fn new(
        cluster: Cluster,
        namespace: Option<String>,
        wakeups: [Arc<Wakeups>; 2],
        shutdown: CancellationToken,
    ) -> Self {
        let (watched, missing) = (Mutex::default(), Mutex::default());
        Self { cluster, namespace, wakeups, shutdown, watched, missing }
    }

    /// Sees to it that these kinds are watched.
    ///
    /// # Errors
    /// When the API server cannot be asked what it serves.
    pub(super) async fn ensure(&self, kinds: &[RouteKind]) -> Result<Served, CallError> {
        for kind in kinds {
            let objects = match self.find(*kind) {
                Some(watched) => watched.objects,
                None => match self.resolve(*kind).await? {
                    Ok(resolved) => self.watch(*kind, resolved),
                    Err(reason) => return Ok(Served::No(reason)),
                },
            };
            if !objects.is_ready() && timeout(LIST_MAX, objects.ready()).await.is_err() {
                return Ok(Served::Soon);
            }
        }
        Ok(Served::Yes)
    }

    /// The kind as it is served, or in words why it is not; many Canaries that ask are one question.
    async fn resolve(&self, kind: RouteKind) -> Result<Result<Resolved, String>, CallError> {
        let asked = with(&self.missing, |missing| missing.get(&kind).cloned());
        if let Some((at, reason)) = asked {
            if at.elapsed() < RESOLVE_AGAIN {
                return Ok(Err(reason));
            }
            self.cluster.forget_discovery();
        }
        let mut first = None;
        for version in kind.versions {
            match self.cluster.resolve(kind.group, version, kind.kind).await {
                Ok(resolved) => {
                    with(&self.missing, |missing| missing.remove(&kind));
                    return Ok(Ok(resolved));
                }
                Err(ResolveError::Call(error)) => return Err(error),
                Err(error) => first = first.or(Some(error)),
            }
        }
        let RouteKind { kind: name, comes_with, .. } = kind;
        let cause = first.map(|error| explain(&error)).unwrap_or_default();
        let reason = format!(
            "{name} cannot be written: {cause}; install the definitions of {comes_with} or set another spec.provider"
        );
        with(&self.missing, |missing| missing.insert(kind, (Instant::now(), reason.clone())));
        Ok(Err(reason))
    }

    fn watch(&self, kind: RouteKind, resolved: Resolved) -> Reflected<FrozenObject> {
        with(&self.watched, |watched| {
            let start = || {
                let api = self.cluster.objects(&resolved, self.namespace.as_deref());
                let wakeups = self.wakeups.clone();
                let stripped = move |object: DynamicObject| {
                    let keep = if kind.has_status { strip_but_status } else { strip };
                    to_value(object).map(|value| FrozenObject::of(&keep(&value)))
                };
                let changed = move |key: &NamespacedName| wakeups.iter().for_each(|wakeups| wakeups.changed(key));
                let config = watcher::Config::default();
                let objects = Reflected::start(api, config, self.shutdown.clone(), stripped, changed);
                Watched { resolved: resolved.clone(), objects }
            };
            watched.entry(kind).or_insert_with(start).objects.clone()
        })
    }

    fn find(&self, kind: RouteKind) -> Option<Watched> {
        with(&self.watched, |watched| watched.get(&kind).cloned())
    }

    /// The kind as it is served, once it is watched.
    pub(super) fn resolved(&self, kind: RouteKind) -> Option<Resolved> {
        self.find(kind).map(|watched| watched.resolved)
    }

    /// The cached resourceVersion.
    pub(super) fn version(&self, kind: RouteKind, key: &NamespacedName) -> Option<String> {
        self.find(kind)?.objects.get(key)?.resource_version.clone()
    }
}

fn with<T, R>(shared: &Mutex<T>, work: impl FnOnce(&mut T) -> R) -> R {
    work(&mut shared.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The live routes of one namespace, and its Services.
pub(super) struct RoutesIn<'a> {
    pub(super) watches: &'a RouteWatches,
    pub(super) services: &'a Reflected<FrozenObject>,
    pub(super) namespace: &'a str,
}

impl LiveRoutes for RoutesIn<'_> {
    fn get(&self, kind: RouteKind, name: &str) -> Option<Value> {
        let key = NamespacedName::new(self.namespace, name);
        if kind == SERVICE {
            return self.services.get(&key).map(|service| service.thaw());
        }
        Some(self.watches.find(kind)?.objects.get(&key)?.thaw())
    }

    fn find(&self, kind: RouteKind, key: &NamespacedName) -> Seen {
        let is_watched = self.watches.namespace.as_ref().is_none_or(|watched| *watched == key.namespace);
        let Some(watched) = self.watches.find(kind).filter(|_| is_watched) else { return Seen::Hidden };
        watched.objects.get(key).map_or(Seen::Gone, |object| Seen::There(object.thaw()))
    }
}
