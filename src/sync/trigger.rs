//! What wakes sync: a jittered timer and, for a repository on this machine, its refs. Both only wake; neither decides.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::time::Instant;

use crate::cluster::Wake;

/// Time between two looks while push webhooks prove themselves. They are not sent again when they are lost, so not longer.
const POLL_PUSHED: Duration = Duration::from_secs(300);
/// A webhook that came this long ago still tells that they come.
const PUSHED_LATELY: Duration = Duration::from_hours(24);
/// Further looks after a webhook: some hosts tell of a push before they show it.
const AFTER_PUSH: [Duration; 2] = [Duration::from_secs(3), Duration::from_secs(12)];
/// Pushes that are followed up at once; the looks of one serve all.
const FOLLOWED_MAX: usize = 4;

/// What push webhooks do: wake, and let the timer rest while they come.
#[derive(Debug, Clone, Default)]
pub struct PushTrigger {
    wake: Wake,
    last: Arc<Mutex<Option<Instant>>>,
    followed: Arc<AtomicUsize>,
}

impl PushTrigger {
    /// One that rings this.
    pub fn new(wake: Wake) -> Self {
        Self { wake, ..Self::default() }
    }

    /// A webhook has proved itself; one that came before is looked after once.
    pub fn pushed(&self, is_repeated: bool) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        self.wake.ring();
        if is_repeated || self.followed.fetch_add(1, Ordering::Relaxed) >= FOLLOWED_MAX {
            if !is_repeated {
                self.followed.fetch_sub(1, Ordering::Relaxed);
            }
            return;
        }
        let (wake, followed) = (self.wake.clone(), self.followed.clone());
        tokio::spawn(async move {
            for wait in AFTER_PUSH {
                tokio::time::sleep(wait).await;
                wake.ring();
            }
            followed.fetch_sub(1, Ordering::Relaxed);
        });
    }

    /// The time until the next look by the timer.
    pub(super) fn interval(&self, configured: Duration) -> Duration {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match last.is_some_and(|last| last.elapsed() < PUSHED_LATELY) {
            true => configured.max(POLL_PUSHED),
            false => configured,
        }
    }
}

/// The poll interval varies by this share, so that many daemons do not ask one Git host at the same second.
const JITTER: f64 = 0.1;

/// The time until the next look.
pub(super) fn jittered(interval: Duration) -> Duration {
    interval.mul_f64(1.0 - JITTER + 2.0 * JITTER * fastrand::f64())
}

/// Rings whenever a ref of a local repository moves; dropped, it stops. Where the file system cannot be watched the timer
/// does alone, later.
pub(super) fn watch_refs(git_dir: &Path, wake: &Wake) -> Option<RecommendedWatcher> {
    let wake = wake.clone();
    let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| match event {
        // Our own look at the refs opens them; taking that for a change would wake us for ever.
        Ok(event) if event.kind.is_access() => {}
        // Git takes locks next to what it changes; what counts is the rename into place.
        Ok(event) if event.paths.iter().all(|path| path.extension().is_some_and(|ext| ext == "lock")) => {}
        Ok(_) => wake.ring(),
        Err(error) => tracing::debug!(%error, "file watch interrupted"),
    });
    let watched = watcher.and_then(|mut watcher| {
        watcher.watch(&git_dir.join("refs"), RecursiveMode::Recursive)?;
        // `packed-refs` is replaced by rename, so its folder is watched; not deeper, or every object would wake us.
        watcher.watch(git_dir, RecursiveMode::NonRecursive)?;
        Ok(watcher)
    });
    match watched {
        Ok(watcher) => Some(watcher),
        Err(error) => {
            tracing::warn!(path = %git_dir.display(), %error, "failed to watch the repository; polling only");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_push_rings_at_once_and_twice_later_and_a_repetition_once() {
        let wake = Wake::default();
        let (trigger, mut bell) = (PushTrigger::new(wake.clone()), wake.listen());
        let half = Duration::from_secs(30);
        assert_eq!(trigger.interval(half), half);
        let began = Instant::now();
        trigger.pushed(false);
        for second in [0, 3, 15] {
            bell.heard().await;
            assert_eq!(began.elapsed().as_secs(), second);
        }
        assert!(tokio::time::timeout(Duration::from_secs(600), bell.heard()).await.is_err());
        trigger.pushed(true);
        bell.heard().await;
        assert!(tokio::time::timeout(Duration::from_secs(600), bell.heard()).await.is_err());
        assert_eq!(trigger.interval(half), Duration::from_secs(300));
        tokio::time::advance(PUSHED_LATELY).await;
        assert_eq!(trigger.interval(half), half, "they may not come any more");
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_pushes_is_not_a_flood_of_tasks() {
        let trigger = PushTrigger::default();
        for _ in 0..1_000 {
            trigger.pushed(false);
        }
        assert_eq!(trigger.followed.load(Ordering::Relaxed), FOLLOWED_MAX);
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(trigger.followed.load(Ordering::Relaxed), 0);
    }
}
