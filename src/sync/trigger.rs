//! What wakes sync: a jittered timer and, for a repository on this machine, its refs. Both only wake; neither decides.

use std::path::Path;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};

use crate::cluster::Wake;

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
