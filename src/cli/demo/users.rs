//! The application's users: steady traffic through the ingress while releases go on, every answer counted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// Time between two requests: 20 a second, so that 10 % still gives the canary two.
const EVERY: Duration = Duration::from_millis(50);
/// Requests a second of one user.
pub(super) const RATE: u32 = 20;
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

    /// Asks the ingress until cancelled, each of `crowd` users one request at a time: an unanswered one is a failed one.
    pub(super) async fn ask(
        &self,
        ingress: &str,
        crowd: u32,
        shutdown: CancellationToken,
    ) -> Result<(), reqwest::Error> {
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build()?;
        let late = |number: u32| EVERY * number / crowd.max(1);
        let all = (0..crowd).map(|number| self.ask_alone(&client, ingress, late(number), &shutdown));
        futures::future::join_all(all).await;
        Ok(())
    }

    async fn ask_alone(
        &self,
        client: &reqwest::Client,
        ingress: &str,
        late: Duration,
        shutdown: &CancellationToken,
    ) {
        let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + late, EVERY);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let answer = tokio::select! {
                () = shutdown.cancelled() => return,
                answer = client.get(ingress).send() => answer,
            };
            self.asked.fetch_add(1, Ordering::Relaxed);
            if !answer.is_ok_and(|answer| answer.status().is_success()) {
                self.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}
