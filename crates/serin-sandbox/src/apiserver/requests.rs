//! The request log: who called what how often, to measure API calls per interval.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// What is counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestKey {
    /// Kubernetes' verb: get, list, watch, create, update, patch, delete, deletecollection.
    pub verb: String,
    /// `<plural>.<group>`, with `/<subresource>`; for other paths the path.
    pub resource: String,
    /// The client's User-Agent.
    pub user_agent: String,
    /// A watch, counted when it starts.
    pub is_watch: bool,
}

/// Counts at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RequestCounts {
    /// Requests per key; keys without requests are absent.
    pub counts: BTreeMap<RequestKey, u64>,
}

impl RequestCounts {
    /// What came in since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let counts = self.counts.iter().filter_map(|(key, count)| {
            let before = earlier.counts.get(key).copied().unwrap_or(0);
            let new = count.saturating_sub(before);
            (new > 0).then(|| (key.clone(), new))
        });
        Self { counts: counts.collect() }
    }

    /// All requests of the keys that `filter` accepts.
    pub fn total(&self, filter: impl Fn(&RequestKey) -> bool) -> u64 {
        self.counts.iter().filter(|(key, _)| filter(key)).map(|(_, count)| count).sum()
    }
}

/// Counts every request of a server; a handle, cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct RequestLog {
    counts: Arc<Mutex<RequestCounts>>,
}

impl RequestLog {
    /// The counts so far.
    pub fn snapshot(&self) -> RequestCounts {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn record(&self, key: RequestKey) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.counts.entry(key).or_default() += 1;
    }
}
