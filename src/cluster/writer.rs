//! The one door through which the outside is changed.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::explain::is_not_found;
use super::lease::Claim;

/// Longest time one write to the API server may take.
pub const EFFECT_TIMEOUT: Duration = Duration::from_secs(15);

/// What kind of change it is; names effects in logs, metrics and the crash test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EffectKind {
    /// Server-side apply.
    Apply,
    /// Create.
    Create,
    /// Patch or replace.
    Patch,
    /// The Canary's status.
    Status,
    /// The scale subresource.
    Scale,
    /// Delete.
    Delete,
    /// The inventory of what Git owns.
    Inventory,
    /// A Kubernetes Event.
    Event,
    /// An outgoing webhook.
    Hook,
    /// A push to a Git repository.
    Push,
    /// A commit status or comment at a forge.
    Forge,
    /// An alert.
    Alert,
}

/// What a probe's hook returns.
pub type ProbeFuture<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Watches effects. The crash test stops the process here: a hook that never returns stops the world before or after the
/// k-th effect.
pub trait EffectProbe: Send + Sync {
    /// Called before an effect, after the lease has been asked.
    fn before<'a>(&'a self, kind: EffectKind, key: &'a str) -> ProbeFuture<'a>;
    /// Called after an effect, whatever came of it.
    fn after<'a>(&'a self, kind: EffectKind, key: &'a str) -> ProbeFuture<'a>;
}

/// Watches nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProbe;

impl EffectProbe for NoProbe {
    fn before<'a>(&'a self, _kind: EffectKind, _key: &'a str) -> ProbeFuture<'a> {
        Box::pin(std::future::ready(()))
    }

    fn after<'a>(&'a self, _kind: EffectKind, _key: &'a str) -> ProbeFuture<'a> {
        Box::pin(std::future::ready(()))
    }
}

/// A write that did not happen, or of which nobody knows.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// This process does not hold the lease; nothing was sent.
    #[error("this process does not hold the lease, so it does not write")]
    NotHeld,
    /// The lease was lost while this was under way: it may or may not have happened, so whoever holds it now observes first.
    #[error("the lease was lost while writing {key}")]
    Lost {
        /// What was written.
        key: String,
    },
    /// No answer in time: it may or may not have happened, so observe before repeating.
    #[error("no answer within {} s while writing {key}", .after.as_secs())]
    TimedOut {
        /// What was written.
        key: String,
        /// The limit.
        after: Duration,
    },
    /// The API server's or the connection's answer.
    #[error(transparent)]
    Api(Box<kube::Error>),
    /// Another outside's answer.
    #[error(transparent)]
    Failed(Box<dyn std::error::Error + Send + Sync>),
}

impl From<kube::Error> for WriteError {
    fn from(error: kube::Error) -> Self {
        Self::Api(Box::new(error))
    }
}

impl WriteError {
    /// Any other error.
    pub fn failed(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Failed(error.into())
    }

    /// The API server's answer, if it answered.
    pub fn status(&self) -> Option<&kube::core::Status> {
        match self {
            Self::Api(error) => match error.as_ref() {
                kube::Error::Api(status) => Some(status),
                _ => None,
            },
            Self::NotHeld | Self::Lost { .. } | Self::TimedOut { .. } | Self::Failed(_) => None,
        }
    }

    /// Whether somebody else was faster: re-read, re-decide.
    pub fn is_conflict(&self) -> bool {
        self.status().is_some_and(kube::core::Status::is_conflict)
    }

    /// Whether the object was there before.
    pub fn is_already_exists(&self) -> bool {
        self.status().is_some_and(kube::core::Status::is_already_exists)
    }

    /// Whether the object does not exist.
    pub fn is_not_found(&self) -> bool {
        self.status().is_some_and(is_not_found)
    }
}

/// Every outside write goes through [`Writer::effect`]. Cheap to clone.
#[derive(Clone)]
pub struct Writer {
    claim: Claim,
    probe: Arc<dyn EffectProbe>,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("claim", &self.claim).finish_non_exhaustive()
    }
}

impl Writer {
    /// A writer that asks this claim.
    pub fn new(claim: Claim) -> Self {
        Self { claim, probe: Arc::new(NoProbe) }
    }

    /// The same writer, watched.
    #[must_use]
    pub fn with_probe(mut self, probe: Arc<dyn EffectProbe>) -> Self {
        self.probe = probe;
        self
    }

    /// The claim that is asked.
    pub fn claim(&self) -> &Claim {
        &self.claim
    }

    /// Changes the outside, within [`EFFECT_TIMEOUT`]. `key` names what changes: `Deployment test/podinfo`.
    ///
    /// # Errors
    /// When the lease is not held, time runs out or the change fails.
    pub async fn effect<T, E: Into<WriteError>>(
        &self,
        kind: EffectKind,
        key: &str,
        future: impl Future<Output = Result<T, E>>,
    ) -> Result<T, WriteError> {
        self.effect_within(EFFECT_TIMEOUT, kind, key, future).await
    }

    /// Changes the outside, within `limit` however long the lease was still held when it began: the lease fences the write,
    /// and is renewed while something slow (a webhook, a push) is waited for. It ends when the lease is lost: what is still
    /// under way when another process may take over must not be waited for as if it were ours.
    ///
    /// # Errors
    /// When the lease is not held, time runs out or the change fails.
    pub async fn effect_within<T, E: Into<WriteError>>(
        &self,
        limit: Duration,
        kind: EffectKind,
        key: &str,
        future: impl Future<Output = Result<T, E>>,
    ) -> Result<T, WriteError> {
        if !self.claim.is_held() {
            return Err(WriteError::NotHeld);
        }
        self.probe.before(kind, key).await;
        // Asked after the probe: a process that slept there must not write with a claim of the past.
        if !self.claim.is_held() {
            return Err(WriteError::NotHeld);
        }
        let result = tokio::select! {
            biased;
            done = tokio::time::timeout(limit, future) => match done {
                Err(_elapsed) => Err(WriteError::TimedOut { key: key.to_owned(), after: limit }),
                Ok(result) => result.map_err(Into::into),
            },
            () = self.claim.lost() => Err(WriteError::Lost { key: key.to_owned() }),
        };
        tracing::debug!(effect.kind = ?kind, effect.key = key, ok = result.is_ok(), "effect {key}");
        self.probe.after(kind, key).await;
        result
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Mutex;

    use tokio::time::Instant;

    use crate::cluster::ErrorKind;

    use super::*;

    impl From<Infallible> for WriteError {
        fn from(never: Infallible) -> Self {
            match never {}
        }
    }

    #[derive(Default)]
    struct Log(Mutex<Vec<String>>);

    impl EffectProbe for Log {
        fn before<'a>(&'a self, kind: EffectKind, key: &'a str) -> ProbeFuture<'a> {
            self.0.lock().unwrap().push(format!("before {kind:?} {key}"));
            Box::pin(std::future::ready(()))
        }
        fn after<'a>(&'a self, kind: EffectKind, key: &'a str) -> ProbeFuture<'a> {
            self.0.lock().unwrap().push(format!("after {kind:?} {key}"));
            Box::pin(std::future::ready(()))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_sent_without_the_lease_and_nothing_waited_for_after_it() {
        let log = Arc::new(Log::default());
        let (claim, holder) = Claim::held_until(Instant::now() + Duration::from_secs(5));
        let writer = Writer::new(claim).with_probe(log.clone());

        let done = writer.effect(EffectKind::Apply, "a", async { Ok::<_, Infallible>(1) }).await;
        assert!(matches!(done, Ok(1)));
        let began = Instant::now();
        let hung = writer.effect(EffectKind::Apply, "b", std::future::pending::<Result<(), Infallible>>()).await;
        assert!(matches!(hung, Err(WriteError::Lost { .. })) && began.elapsed() <= Duration::from_secs(6));
        let late = writer.effect(EffectKind::Apply, "c", async { Ok::<_, Infallible>(1) }).await;
        assert!(matches!(late, Err(WriteError::NotHeld)), "the claim has expired meanwhile");
        assert_eq!(
            *log.0.lock().unwrap(),
            ["before Apply a", "after Apply a", "before Apply b", "after Apply b"],
            "an effect that is refused is not announced"
        );
        drop(holder);
    }

    fn is_unheld(error: &WriteError) -> bool {
        error.kind() == ErrorKind::NotHeld
    }

    /// Takes this long to answer.
    async fn slow(seconds: u64) -> Result<u64, Infallible> {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        Ok(seconds)
    }

    const HOUR: Duration = Duration::from_secs(3600);

    #[tokio::test(start_paused = true)]
    async fn what_is_slow_is_waited_for_as_long_as_the_lease_is_renewed() {
        let lease = Duration::from_secs(15);
        let (claim, holder) = Claim::held_until(Instant::now() + lease);
        let writer = Writer::new(claim);
        let renewing = tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_secs(5)).await;
                holder.send_replace(Some(Instant::now() + lease));
            }
        });
        let hook = writer.effect_within(Duration::from_secs(60), EffectKind::Hook, "webhook", slow(22)).await;
        assert!(matches!(hook, Ok(22)), "{hook:?}");
        let push = writer.effect_within(Duration::from_secs(180), EffectKind::Push, "main", slow(170)).await;
        assert!(matches!(push, Ok(170)), "{push:?}");
        let late = writer.effect_within(Duration::from_secs(60), EffectKind::Hook, "webhook", slow(61)).await;
        assert!(matches!(late, Err(WriteError::TimedOut { after, .. }) if after.as_secs() == 60), "its own limit");

        renewing.abort();
        let began = Instant::now();
        let lost = writer.effect_within(HOUR, EffectKind::Hook, "webhook", slow(3000)).await;
        assert!(lost.as_ref().is_err_and(is_unheld), "{lost:?}");
        assert!(began.elapsed() <= lease + Duration::from_secs(1), "ended with the lease, not with its own limit");
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_is_given_up_ends_what_is_under_way_at_once() {
        let (claim, holder) = Claim::held_until(Instant::now() + HOUR);
        let writer = Writer::new(claim);
        let waits = tokio::spawn(async move {
            writer
                .effect_within(HOUR, EffectKind::Hook, "webhook", slow(3000))
                .await
                .map_err(|error| is_unheld(&error))
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        let given_up = Instant::now();
        holder.send_replace(None);
        assert_eq!(waits.await.unwrap(), Err(true));
        assert!(given_up.elapsed() < Duration::from_secs(1));
    }
}
