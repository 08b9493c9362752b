//! Whether the daemon's loops turn: what `/healthz` says.
//!
//! A loop that waits is well however long it waits: every wait of ours has its own end. One that does not come back from a piece of
//! work hangs (a lock, a call that blocks), and nothing but a new process helps. A loop that ends is seen by who supervises it.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

/// A loop that has not come back from one piece of work for so long hangs. The longest that is known takes a second or two, on a
/// machine that is not busy.
const HANGS: Duration = Duration::from_secs(60);

/// The loops of one daemon. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Pulses(Arc<Mutex<Vec<Arc<Pulse>>>>);

#[derive(Debug)]
struct Pulse {
    name: &'static str,
    /// Since when it has been at work; `None` while it waits.
    working: Mutex<Option<Instant>>,
}

impl Pulse {
    fn set(&self, working: Option<Instant>) {
        *self.working.lock().unwrap_or_else(PoisonError::into_inner) = working;
    }
}

impl Pulses {
    /// The same future, watched.
    pub(super) fn watch<F: Future>(
        &self,
        name: &'static str,
        future: F,
    ) -> impl Future<Output = F::Output> + use<F> {
        let pulse = Arc::new(Pulse { name, working: Mutex::new(None) });
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(pulse.clone());
        let mut future = Box::pin(future);
        std::future::poll_fn(move |context| {
            pulse.set(Some(Instant::now()));
            let polled: Poll<F::Output> = future.as_mut().poll(context);
            pulse.set(None);
            polled
        })
    }

    /// Says which loop hangs, if one does.
    pub(super) fn check(&self) -> Result<(), String> {
        let pulses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for pulse in pulses.iter() {
            let working = *pulse.working.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(time) = working.map(|since| since.elapsed()).filter(|time| *time > HANGS) {
                return Err(format!("{} has not come back for {} s\n", pulse.name, time.as_secs()));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_waits_is_well_and_one_that_does_not_come_back_is_named() {
        let pulses = Pulses::default();
        let waits = tokio::spawn(pulses.watch("report", std::future::pending::<()>()));
        tokio::task::yield_now().await;
        tokio::time::advance(HANGS * 100).await;
        assert_eq!(pulses.check(), Ok(()));
        // In the middle of its work, as far as anybody sees.
        let looked = pulses.clone();
        let hangs = pulses.watch("sync", async move {
            tokio::time::advance(Duration::ZERO).await;
            looked.check()
        });
        assert_eq!(hangs.await, Ok(()));
        let pulse = pulses.0.lock().unwrap()[1].clone();
        pulse.set(Some(Instant::now()));
        tokio::time::advance(HANGS + Duration::from_secs(1)).await;
        assert_eq!(pulses.check(), Err("sync has not come back for 61 s\n".to_owned()));
        pulse.set(None);
        assert_eq!(pulses.check(), Ok(()));
        waits.abort();
    }
}
