//! What is remembered between two looks, of whatever kind. All of it may be lost.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;

use crate::cluster::explain;
use crate::model::NamespacedName;
use crate::release::State;

use super::hands::ActError;
use super::reconcile::Again;

/// Wait after a write that lost a race: the cache's change usually wakes before.
pub(super) const AFTER_RACE: Duration = Duration::from_secs(1);
/// Wait after the first failure of an object; doubled with each further one.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// Longest wait between two tries of an object that keeps failing.
const AFTER_FAILURE_MAX: Duration = Duration::from_secs(60);

/// One memory for each object that is looked at.
#[derive(Debug)]
pub(super) struct Memories<M>(Mutex<HashMap<NamespacedName, M>>);

impl<M> Default for Memories<M> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<M> Memories<M> {
    /// What is remembered of an object, which is forgotten with it.
    pub(super) fn take(&self, key: &NamespacedName) -> Option<M> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key)
    }

    /// Remembers.
    pub(super) fn put(&self, key: &NamespacedName, memory: M) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), memory);
    }
}

/// What keeps an object from being led on.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    /// The last error that is not just a race, in words.
    pub(super) problem: Option<String>,
    failures: u32,
}

impl Trouble {
    /// What a look has come to, and when to look again. `kind` is the object's.
    pub(super) fn after(&mut self, kind: &str, key: &NamespacedName, result: Result<Again, ActError>) -> Again {
        let error = match result {
            Ok(again) => {
                self.failures = 0;
                return again;
            }
            Err(error) => error,
        };
        let words = explain(&error);
        if error.is_race() {
            tracing::debug!(object = %key, "{kind} {key}: {words}; looking again");
            return Again::In(AFTER_RACE);
        }
        // Every change nearby wakes us: the same trouble is said once.
        if self.problem.as_ref() != Some(&words) {
            tracing::warn!(object = %key, "{kind} {key}: {words}");
        }
        self.problem = Some(words);
        let wait = AFTER_FAILURE.saturating_mul(1 << self.failures.min(10)).min(AFTER_FAILURE_MAX);
        self.failures = self.failures.saturating_add(1);
        Again::In(wait)
    }
}

/// A state that is written with the next one that has to be. It follows the stored one that it was decided on, and counts for
/// as long as that is what is stored, whatever else of the object changes.
#[derive(Debug, Default)]
pub(super) struct Unsaved(Option<(Value, State)>);

impl Unsaved {
    /// The state that follows what is stored, if it was kept.
    pub(super) fn after(&self, stored: &Value) -> Option<State> {
        self.0.as_ref().filter(|(before, _)| before == stored).map(|(_, state)| state.clone())
    }

    /// Keeps one.
    pub(super) fn keep(&mut self, stored: &Value, state: &State) {
        self.0 = Some((stored.clone(), state.clone()));
    }

    /// What was kept has been written.
    pub(super) fn is_saved(&mut self) {
        self.0 = None;
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_not_written_counts_until_something_else_is() {
        let (mut unsaved, state) = (Unsaved::default(), State::new(Timestamp::UNIX_EPOCH));
        assert_eq!(unsaved.after(&json!("a")), None);
        unsaved.keep(&json!("a"), &state);
        assert_eq!((unsaved.after(&json!("b")), unsaved.after(&json!("a"))), (None, Some(state)));
        unsaved.is_saved();
        assert_eq!(unsaved.after(&json!("a")), None);
    }

    #[test]
    fn the_wait_grows_with_each_failure_and_is_short_again_after_a_good_look() {
        let (mut trouble, key) = (Trouble::default(), NamespacedName::new("test", "a"));
        let mut fails = || trouble.after("Canary", &key, Err(ActError::Refused("no".to_owned())));
        let waits: Vec<Again> = (0..8).map(|_| fails()).collect();
        let seconds = [1, 2, 4, 8, 16, 32, 60, 60].map(|seconds| Again::In(Duration::from_secs(seconds)));
        assert_eq!(waits, seconds);
        assert_eq!(trouble.after("Canary", &key, Ok(Again::Never)), Again::Never);
        let race = || Err(ActError::Changed("elsewhere".to_owned()));
        assert_eq!(trouble.after("Canary", &key, race()), Again::In(AFTER_RACE));
        assert_eq!(trouble.problem.as_deref(), Some("no"));
        assert_eq!(
            trouble.after("Canary", &key, Err(ActError::Refused("no".to_owned()))),
            Again::In(AFTER_FAILURE)
        );
    }
}
