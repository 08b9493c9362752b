//! When to stop: SIGTERM, as the kubelet sends it, or Ctrl-C.

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

/// Listens from now on, so that a signal during a start is not lost; completes with the signal's name.
pub(super) fn stop() -> anyhow::Result<impl Future<Output = &'static str> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate()).context("failed to listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("failed to listen for Ctrl-C")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "interrupted",
        }
    })
}
