//! Our own writes that the caches do not show yet.
//!
//! A step is never decided on a look that is older than what we wrote ourselves: it would repeat the write, or worse, undo
//! it. So each write notes the version it replaced, and nothing is decided while a cache still shows that one.

use std::collections::HashMap;
use std::time::Duration;

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

    /// Forgets what the caches show by now; `cached` gives the version in the cache.
    pub(super) fn check(&mut self, cached: impl Fn(Tracked, &str) -> Version) -> Freshness {
        let now = Instant::now();
        self.writes.retain(|(kind, name), unseen| {
            let shown = cached(*kind, name);
            if !unseen.replaced.contains(&shown) {
                return false;
            }
            // The state of a release must never be an old one, however long it takes.
            let patient = *kind == Tracked::Canary || now.duration_since(unseen.since) < PATIENCE;
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

#[cfg(test)]
mod tests {
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
