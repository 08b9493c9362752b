//! Who has to be looked at again. A wake-up carries no data: several are one, and a late one does no harm.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use crate::model::NamespacedName;

/// Canaries to look at, and the names of objects each depends on.
#[derive(Debug, Default)]
pub(super) struct Wakeups {
    inner: Mutex<Inner>,
    bell: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    dirty: BTreeSet<NamespacedName>,
    /// Name of any object to the Canaries that look at an object of that name.
    dependents: HashMap<NamespacedName, BTreeSet<NamespacedName>>,
    /// The reverse, to forget.
    dependencies: HashMap<NamespacedName, BTreeSet<NamespacedName>>,
}

impl Wakeups {
    /// This Canary is to be looked at.
    pub(super) fn wake(&self, canary: &NamespacedName) {
        self.with(|inner| inner.dirty.insert(canary.clone()));
        self.bell.notify_one();
    }

    /// An object changed: all who look at it.
    pub(super) fn changed(&self, object: &NamespacedName) {
        let woken = self.with(|inner| {
            let Some(canaries) = inner.dependents.get(object) else { return false };
            inner.dirty.extend(canaries.iter().cloned());
            true
        });
        if woken {
            self.bell.notify_one();
        }
    }

    /// What a Canary looks at. Called before looking, so that no change in between is missed.
    pub(super) fn depends_on(&self, canary: &NamespacedName, objects: BTreeSet<NamespacedName>) {
        self.with(|inner| {
            if inner.dependencies.get(canary) == Some(&objects) {
                return;
            }
            inner.forget(canary);
            for object in &objects {
                inner.dependents.entry(object.clone()).or_default().insert(canary.clone());
            }
            inner.dependencies.insert(canary.clone(), objects);
        });
    }

    /// The Canary is gone.
    pub(super) fn forget(&self, canary: &NamespacedName) {
        self.with(|inner| inner.forget(canary));
    }

    /// Takes all that are to be looked at.
    pub(super) fn take(&self) -> BTreeSet<NamespacedName> {
        self.with(|inner| std::mem::take(&mut inner.dirty))
    }

    /// Returns when there may be some. Cancel safe.
    pub(super) async fn rung(&self) {
        self.bell.notified().await;
    }

    fn with<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        change(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Inner {
    fn forget(&mut self, canary: &NamespacedName) {
        for object in self.dependencies.remove(canary).unwrap_or_default() {
            if let Some(canaries) = self.dependents.get_mut(&object) {
                canaries.remove(canary);
                if canaries.is_empty() {
                    self.dependents.remove(&object);
                }
            }
        }
    }
}
