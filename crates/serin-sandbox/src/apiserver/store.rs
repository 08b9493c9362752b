//! Objects, their history and the wake-up of watchers.
//!
//! One lock, held for map operations only. Writers compute outside of it and commit by compare-and-swap on the object
//! they read, so no schema walk ever blocks a reader. Watchers read history from their own position: a slow one falls
//! behind compaction and gets 410, it never makes the server buffer for it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tokio::sync::watch;

/// Changes kept per resource. Enough for every watcher of a sandbox to be scheduled in between, little enough that
/// a client which sleeps through it meets 410 as it would in a real cluster.
pub(super) const HISTORY_CHANGES_MAX: usize = 2_000;

/// Where an object lives within its resource; cluster-scoped objects have an empty namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) namespace: String,
    pub(super) name: String,
}

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChangeKind {
    Added,
    Modified,
    Deleted,
}

/// An entry of history.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) version: u64,
    pub(super) kind: ChangeKind,
    pub(super) key: Key,
    /// The object after the change; a deleted one in its last state, with the version of its deletion.
    pub(super) object: Arc<Value>,
    /// The object before the change.
    pub(super) previous: Option<Arc<Value>>,
}

/// History before the asked version is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Compacted {
    pub(super) oldest: u64,
}

/// Somebody else committed first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lost;

/// What a commit does to an object.
pub(super) enum Write {
    /// Stores it.
    Put(Value),
    /// Removes it; this was its last state.
    Remove(Value),
}

/// The objects of a resource at one version.
pub(super) struct Snapshot {
    pub(super) version: u64,
    pub(super) objects: Vec<(Key, Arc<Value>)>,
}

struct Collection {
    objects: BTreeMap<Key, Arc<Value>>,
    history: VecDeque<Change>,
    /// Version of the newest change that history no longer has.
    compacted: u64,
    latest: watch::Sender<u64>,
}

impl Default for Collection {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), history: VecDeque::new(), compacted: 0, latest: watch::Sender::new(0) }
    }
}

#[derive(Default)]
struct Inner {
    version: u64,
    collections: HashMap<String, Collection>,
}

/// All objects of the server. `resource` is always `<plural>.<group>` in its storage form.
#[derive(Default)]
pub(super) struct Store {
    inner: Mutex<Inner>,
}

impl Store {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every critical section leaves the maps consistent, so a poisoned lock is as good as a healthy one.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy: the same objects with the same history, nobody watching.
    pub(super) fn fork(&self) -> Self {
        let inner = self.lock();
        let collections = inner.collections.iter().map(|(name, of)| (name.clone(), of.fork())).collect();
        Self { inner: Mutex::new(Inner { version: inner.version, collections }) }
    }

    /// The global resourceVersion.
    pub(super) fn version(&self) -> u64 {
        self.lock().version
    }

    /// One object.
    pub(super) fn get(&self, resource: &str, key: &Key) -> Option<Arc<Value>> {
        self.lock().collections.get(resource)?.objects.get(key).cloned()
    }

    /// All objects of a resource, of one namespace if given, in key order.
    pub(super) fn list(&self, resource: &str, namespace: Option<&str>) -> Snapshot {
        let inner = self.lock();
        let objects = inner.collections.get(resource).map_or_else(Vec::new, |collection| {
            let within = |(key, _): &(&Key, &Arc<Value>)| namespace.is_none_or(|ns| key.namespace == ns);
            let pairs = collection.objects.iter().filter(within);
            pairs.map(|(key, object)| (key.clone(), Arc::clone(object))).collect()
        });
        Snapshot { version: inner.version, objects }
    }

    /// The objects as they were at `version`, by undoing history.
    pub(super) fn list_at(
        &self,
        resource: &str,
        namespace: Option<&str>,
        version: u64,
    ) -> Result<Snapshot, Compacted> {
        let inner = self.lock();
        let Some(collection) = inner.collections.get(resource) else {
            return Ok(Snapshot { version, objects: Vec::new() });
        };
        if version < collection.compacted {
            return Err(Compacted { oldest: collection.compacted });
        }
        let mut objects = collection.objects.clone();
        for change in collection.history.iter().rev().take_while(|change| change.version > version) {
            match &change.previous {
                Some(previous) => objects.insert(change.key.clone(), Arc::clone(previous)),
                None => objects.remove(&change.key),
            };
        }
        let objects =
            objects.into_iter().filter(|(key, _)| namespace.is_none_or(|ns| key.namespace == ns)).collect();
        Ok(Snapshot { version, objects })
    }

    /// Writes or removes an object provided that what is stored still is `expected`.
    ///
    /// Returns it with its new resourceVersion.
    pub(super) fn commit(
        &self,
        resource: &str,
        key: &Key,
        expected: Option<&Arc<Value>>,
        write: Write,
    ) -> Result<Arc<Value>, Lost> {
        let mut inner = self.lock();
        let stored = inner.collections.get(resource).and_then(|collection| collection.objects.get(key)).cloned();
        let unchanged = match (&stored, expected) {
            (Some(stored), Some(expected)) => Arc::ptr_eq(stored, expected),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if !unchanged {
            return Err(Lost);
        }
        inner.version += 1;
        let version = inner.version;
        let (kind, mut written) = match (write, stored.is_some()) {
            (Write::Put(object), false) => (ChangeKind::Added, object),
            (Write::Put(object), true) => (ChangeKind::Modified, object),
            (Write::Remove(last), _) => (ChangeKind::Deleted, last),
        };
        let collection = inner.collections.entry(resource.to_owned()).or_default();
        written["metadata"]["resourceVersion"] = json!(version.to_string());
        let written = Arc::new(written);
        if kind == ChangeKind::Deleted {
            collection.objects.remove(key);
        } else {
            collection.objects.insert(key.clone(), Arc::clone(&written));
        }
        collection.record(Change {
            version,
            kind,
            key: key.clone(),
            object: Arc::clone(&written),
            previous: stored,
        });
        Ok(written)
    }

    /// What happened to a resource after `version`.
    pub(super) fn changes_since(&self, resource: &str, version: u64) -> Result<Vec<Change>, Compacted> {
        let inner = self.lock();
        let Some(collection) = inner.collections.get(resource) else { return Ok(Vec::new()) };
        if version < collection.compacted {
            return Err(Compacted { oldest: collection.compacted });
        }
        let start = collection.history.partition_point(|change| change.version <= version);
        Ok(collection.history.range(start..).cloned().collect())
    }

    /// A receiver that changes whenever the resource does.
    pub(super) fn subscribe(&self, resource: &str) -> watch::Receiver<u64> {
        self.lock().collections.entry(resource.to_owned()).or_default().latest.subscribe()
    }
}

impl Collection {
    fn fork(&self) -> Self {
        let Self { objects, history, compacted, latest } = self;
        let latest = watch::Sender::new(*latest.borrow());
        Self { objects: objects.clone(), history: history.clone(), compacted: *compacted, latest }
    }

    fn record(&mut self, change: Change) {
        let version = change.version;
        self.history.push_back(change);
        while self.history.len() > HISTORY_CHANGES_MAX {
            if let Some(dropped) = self.history.pop_front() {
                self.compacted = dropped.version;
            }
        }
        self.latest.send_replace(version);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PODS: &str = "pods";

    fn key(name: &str) -> Key {
        Key { namespace: "test".into(), name: name.into() }
    }

    #[test]
    fn lists_the_past_by_undoing_history() {
        let store = Store::default();
        let a = store.commit(PODS, &key("a"), None, Write::Put(json!({"n": 1, "metadata": {}}))).unwrap();
        let then = store.version();
        store.commit(PODS, &key("a"), Some(&a), Write::Put(json!({"n": 2, "metadata": {}}))).unwrap();
        store.commit(PODS, &key("b"), None, Write::Put(json!({"metadata": {}}))).unwrap();
        let past = store.list_at(PODS, None, then).unwrap();
        assert_eq!(past.objects.len(), 1);
        assert_eq!(past.objects[0].1["n"], 1);
    }

    #[test]
    fn refuses_a_lost_race() {
        let store = Store::default();
        let first = store.commit(PODS, &key("a"), None, Write::Put(json!({"metadata": {}}))).unwrap();
        assert_eq!(store.commit(PODS, &key("a"), None, Write::Put(json!({"metadata": {}}))), Err(Lost));
        store.commit(PODS, &key("a"), Some(&first), Write::Put(json!({"metadata": {}}))).unwrap();
        assert_eq!(store.commit(PODS, &key("a"), Some(&first), Write::Remove(json!({"metadata": {}}))), Err(Lost));
    }

    #[test]
    fn compacts_history_and_says_so() {
        let store = Store::default();
        let mut last = store.commit(PODS, &key("a"), None, Write::Put(json!({"metadata": {}}))).unwrap();
        for _ in 0..HISTORY_CHANGES_MAX {
            last = store.commit(PODS, &key("a"), Some(&last), Write::Put(json!({"metadata": {}}))).unwrap();
        }
        assert_eq!(store.changes_since(PODS, 0).unwrap_err(), Compacted { oldest: 1 });
        assert_eq!(store.changes_since(PODS, 1).unwrap().len(), HISTORY_CHANGES_MAX);
    }
}
