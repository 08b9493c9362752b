//! The application's users: steady traffic through the ingress while releases go on, every answer counted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// Time between two requests: 20 a second, so that 10 % still gives the canary two.
const EVERY: Duration = Duration::from_millis(50);
/// A user waits no longer for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What users saw.
#[derive(Debug, Default)]
pub(super) struct Users {
    asked: AtomicU64,
    failed: AtomicU64,
}

/// What users saw up to a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) asked: u64,
    pub(super) failed: u64,
}

impl Users {
    pub(super) fn seen(&self) -> Seen {
        Seen { asked: self.asked.load(Ordering::Relaxed), failed: self.failed.load(Ordering::Relaxed) }
    }

    /// Asks the ingress until cancelled. One request at a time is enough: an unanswered one is a failed one.
    pub(super) async fn ask(&self, ingress: &str, shutdown: CancellationToken) -> Result<(), reqwest::Error> {
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build()?;
        let mut ticks = tokio::time::interval(EVERY);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                _ = ticks.tick() => {}
            }
            let answer = tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                answer = client.get(ingress).send() => answer,
            };
            self.asked.fetch_add(1, Ordering::Relaxed);
            if !answer.is_ok_and(|answer| answer.status().is_success()) {
                self.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}
