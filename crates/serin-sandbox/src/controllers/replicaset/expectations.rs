//! What a ReplicaSet has set in motion and not yet seen in its watch. While something is outstanding it creates and
//! deletes nothing, or a cache that lags behind would make it do so twice.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use tokio::time::Instant;

use crate::controllers::objects::controller_of;
use crate::controllers::watch::Change;

/// After this long an outstanding change is taken for lost (kube-controller-manager: 5 minutes).
const TIMEOUT: Duration = Duration::from_secs(300);

/// Outstanding creations and deletions by the ReplicaSet's uid.
#[derive(Debug, Default)]
pub(in crate::controllers) struct Expectations {
    sets: Mutex<HashMap<String, Outstanding>>,
}

#[derive(Debug)]
struct Outstanding {
    creations: usize,
    deletions: HashSet<String>,
    since: Instant,
}

impl Outstanding {
    fn new() -> Self {
        Self { creations: 0, deletions: HashSet::new(), since: Instant::now() }
    }

    fn is_empty(&self) -> bool {
        self.creations == 0 && self.deletions.is_empty()
    }
}

impl Expectations {
    pub(super) fn expect_creations(&self, set: &str, count: usize) {
        let mut outstanding = Outstanding::new();
        outstanding.creations = count;
        self.lock().insert(set.to_owned(), outstanding);
    }

    pub(super) fn give_up_creations(&self, set: &str, count: usize) {
        if let Some(outstanding) = self.lock().get_mut(set) {
            outstanding.creations = outstanding.creations.saturating_sub(count);
        }
    }

    pub(super) fn expect_deletions(&self, set: &str, pods: impl Iterator<Item = String>) {
        let mut outstanding = Outstanding::new();
        outstanding.deletions = pods.collect();
        self.lock().insert(set.to_owned(), outstanding);
    }

    pub(super) fn observe_deletion(&self, set: &str, pod: Option<&str>) {
        if let (Some(outstanding), Some(pod)) = (self.lock().get_mut(set), pod) {
            outstanding.deletions.remove(pod);
        }
    }

    /// Notes a change that the pod watch brought.
    pub(in crate::controllers) fn observe(&self, change: &Change<'_, Pod>) {
        let Some(pod) = change.after.or(change.before) else { return };
        let Some(owner) = controller_of(&pod.metadata) else { return };
        if change.before.is_none() {
            self.give_up_creations(&owner.uid, 1);
        }
        if change.after.is_none() || pod.metadata.deletion_timestamp.is_some() {
            self.observe_deletion(&owner.uid, pod.uid().as_deref());
        }
    }

    /// Whether everything set in motion has been seen or is taken for lost.
    pub(super) fn are_met(&self, set: &str) -> bool {
        self.lock()
            .get(set)
            .is_none_or(|outstanding| outstanding.is_empty() || outstanding.since.elapsed() >= TIMEOUT)
    }

    /// When outstanding changes will be taken for lost; `None` if there are none, or if they are.
    pub(super) fn expires_in(&self, set: &str) -> Option<Duration> {
        let sets = self.lock();
        let outstanding = sets.get(set).filter(|outstanding| !outstanding.is_empty())?;
        TIMEOUT.checked_sub(outstanding.since.elapsed()).filter(|left| !left.is_zero())
    }

    /// The ReplicaSet is gone.
    pub(in crate::controllers) fn forget(&self, set: Option<&str>) {
        if let Some(set) = set {
            self.lock().remove(set);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Outstanding>> {
        self.sets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_set_waits_for_its_own_changes_but_not_for_ever() {
        let expectations = Expectations::default();
        expectations.expect_creations("set", 2);
        expectations.give_up_creations("set", 1);
        assert!(!expectations.are_met("set"));
        expectations.give_up_creations("set", 1);
        assert!(expectations.are_met("set"));
        expectations.expect_deletions("set", ["pod".to_owned()].into_iter());
        assert!(!expectations.are_met("set"));
        assert_eq!(expectations.expires_in("set"), Some(TIMEOUT));
        tokio::time::advance(TIMEOUT).await;
        assert!(expectations.are_met("set"));
        assert_eq!(expectations.expires_in("set"), None, "or it would be looked at again and again");
    }
}
