//! Our own writes that the caches do not show yet.
//!
//! A step is never decided on a look that is older than what we wrote ourselves: it would repeat the write, or worse, undo
//! it. So each write notes the version it replaced, and nothing is decided while a cache still shows that one.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::caches::Tracked;

/// Longest wait for a cache to show a write to anything but the Canary; then the watch is taken to be down and the write is
/// as good as unseen: everything we write is guarded by a resourceVersion or absolute.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// A resourceVersion, or `None` for an object that does not exist.
type Version = Option<String>;

/// What was written and not seen yet, for one Canary.
#[derive(Debug, Default)]
pub(super) struct Expectations {
    writes: HashMap<(Tracked, String), Unseen>,
    /// Digest of the form that was wanted last, and the version that came of it.
    wanted: HashMap<(Tracked, String), (u64, Version)>,
}

#[derive(Debug)]
struct Unseen {
    replaced: Vec<Version>,
    since: Instant,
}

/// Whether a step may be decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Freshness {
    /// All caches show what we wrote.
    Fresh,
    /// Not yet; a cache change wakes, at the latest look again after this.
    Stale(Duration),
}

impl Expectations {
    /// Notes a write. One that changed nothing leaves the version as it was and nothing is expected.
    pub(super) fn wrote(&mut self, kind: Tracked, name: &str, before: Version, after: Version) {
        if before == after {
            return;
        }
        let unseen = self
            .writes
            .entry((kind, name.to_owned()))
            .or_insert_with(|| Unseen { replaced: Vec::new(), since: Instant::now() });
        unseen.replaced.push(before);
        unseen.since = Instant::now();
    }

    /// Notes that `desired` was written and what version came of it.
    pub(super) fn came_of(&mut self, kind: Tracked, name: &str, desired: &Value, after: Version) {
        self.wanted.insert((kind, name.to_owned()), (fingerprint(desired), after));
    }

    /// Whether the object's `version` is what came of writing `desired`.
    pub(super) fn has_come_of(&self, kind: Tracked, name: &str, desired: &Value, version: &Version) -> bool {
        let known = self.wanted.get(&(kind, name.to_owned()));
        known.is_some_and(|(wanted, after)| *wanted == fingerprint(desired) && after == version)
    }

    /// Forgets what the caches show by now; `cached` gives the version in the cache.
    pub(super) fn check(&mut self, cached: impl Fn(Tracked, &str) -> Version) -> Freshness {
        let now = Instant::now();
        self.writes.retain(|(kind, name), unseen| {
            let shown = cached(*kind, name);
            if !unseen.replaced.contains(&shown) {
                return false;
            }
            // The state of a release must never be an old one, however long it takes.
            let patient =
                matches!(kind, Tracked::Canary | Tracked::Rollout) || now.duration_since(unseen.since) < PATIENCE;
            if !patient {
                tracing::warn!(object = name, "the cache has not shown our write for {} s", PATIENCE.as_secs());
            }
            patient
        });
        match self.writes.values().map(|unseen| unseen.since + PATIENCE).min() {
            None => Freshness::Fresh,
            Some(until) => Freshness::Stale(until.saturating_duration_since(now).max(Duration::from_secs(1))),
        }
    }
}

/// Tells two wanted forms apart within this process.
fn fingerprint(desired: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    desired.to_string().hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn version(text: &str) -> Version {
        Some(text.to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_decided_until_the_last_write_is_seen() {
        let mut expected = Expectations::default();
        expected.wrote(Tracked::Canary, "podinfo", version("1"), version("2"));
        expected.wrote(Tracked::Canary, "podinfo", version("2"), version("5"));
        for (shown, fresh) in [("1", false), ("2", false), ("5", true)] {
            assert_eq!(expected.check(|_, _| version(shown)) == Freshness::Fresh, fresh, "{shown}");
        }
        expected.wrote(Tracked::Canary, "podinfo", version("5"), version("5"));
        assert_eq!(
            expected.check(|_, _| version("5")),
            Freshness::Fresh,
            "a write without effect is not waited for"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_came_of_a_wanted_form_is_known_until_either_changes() {
        let mut expected = Expectations::default();
        let kind = Tracked::Service;
        expected.came_of(kind, "podinfo", &json!({"a": 1}), version("7"));
        assert!(expected.has_come_of(kind, "podinfo", &json!({"a": 1}), &version("7")));
        assert!(
            !expected.has_come_of(kind, "podinfo", &json!({"a": 2}), &version("7")),
            "something else is wanted"
        );
        assert!(
            !expected.has_come_of(kind, "podinfo", &json!({"a": 1}), &version("8")),
            "somebody has written it"
        );
        assert!(!expected.has_come_of(kind, "other", &json!({"a": 1}), &version("7")));
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends_except_for_the_state() {
        let mut expected = Expectations::default();
        expected.wrote(Tracked::Deployment, "podinfo-primary", None, version("2"));
        tokio::time::advance(PATIENCE).await;
        assert_eq!(expected.check(|_, _| None), Freshness::Fresh);
        expected.wrote(Tracked::Canary, "podinfo", version("1"), version("2"));
        tokio::time::advance(PATIENCE).await;
        assert!(matches!(expected.check(|_, _| version("1")), Freshness::Stale(_)));
    }
}
