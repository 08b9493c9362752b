//! One writer per cluster: a `coordination.k8s.io/v1` Lease, and the [`Claim`] on it that is asked at every write.
//!
//! The claim expires on the monotonic clock, counted from before the request that renewed it. Somebody else's claim is
//! judged by how long *we* have seen it unchanged, never by comparing clocks of two machines.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease as LeaseObject, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::Api;
use kube::api::PostParams;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::clock::Clock;
use super::connect::{CallError, Cluster, call};
use super::explain;
use super::said::Said;

/// How long a claim holds without being renewed: after a crash the next process waits this long.
const DURATION: Duration = Duration::from_secs(15);
/// Time between renewals: two may be lost before the claim expires.
const RENEW_EVERY: Duration = Duration::from_secs(5);
/// Time between looks at somebody else's claim.
const RETRY_EVERY: Duration = Duration::from_secs(2);

/// Where the Lease is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseConfig {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// The lease is gone for good.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// Another process holds it.
    #[error("the lease {namespace}/{name} was taken over by `{holder}`; this process must not go on")]
    Lost {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Who holds it now.
        holder: String,
    },
    /// It cannot be used.
    #[error(transparent)]
    Call(#[from] CallError),
}

/// What a writer asks: do we hold the lease now, and until when?
#[derive(Debug, Clone)]
pub struct Claim(Held);

#[derive(Debug, Clone)]
enum Held {
    Always,
    Until(watch::Receiver<Option<Instant>>),
}

impl Claim {
    /// Held for ever: no lease is used (tests, `lease.enabled: false`).
    pub fn always() -> Self {
        Self(Held::Always)
    }

    /// Never held: nothing is written.
    pub fn never() -> Self {
        Self(Held::Until(watch::channel(None).1))
    }

    /// Held until an instant that the holder may move.
    pub fn held_until(expiry: Instant) -> (Self, Arc<watch::Sender<Option<Instant>>>) {
        let sender = Arc::new(watch::Sender::new(Some(expiry)));
        (Self(Held::Until(sender.subscribe())), sender)
    }

    /// Whether it is held now.
    pub fn is_held(&self) -> bool {
        match &self.0 {
            Held::Always => true,
            Held::Until(expiry) => expiry.borrow().is_some_and(|at| at > Instant::now()),
        }
    }

    /// Returns when the claim is not held any more: given up, taken, or run out without a renewal. What waits for
    /// something slow waits for this beside it, so that every renewal lets it wait on.
    pub async fn lost(&self) {
        let Held::Until(expiry) = &self.0 else { return std::future::pending().await };
        let mut expiry = expiry.clone();
        loop {
            let at = *expiry.borrow_and_update();
            let Some(at) = at.filter(|at| *at > Instant::now()) else { return };
            tokio::select! {
                () = tokio::time::sleep_until(at) => {}
                moved = expiry.changed() => if moved.is_err() {
                    // Nobody renews it any more.
                    return tokio::time::sleep_until(at).await;
                },
            }
        }
    }

    /// Returns when the claim is held.
    pub async fn acquired(&self) {
        match &self.0 {
            Held::Always => {}
            Held::Until(expiry) => {
                let mut expiry = expiry.clone();
                if expiry.wait_for(|at| at.is_some_and(|at| at > Instant::now())).await.is_err() {
                    // Nobody renews it any more, so it is never acquired.
                    std::future::pending::<()>().await;
                }
            }
        }
    }
}

/// Acquires, renews and releases the Lease.
pub struct Lease {
    api: Api<LeaseObject>,
    config: LeaseConfig,
    identity: String,
    clock: Clock,
    claim: Arc<watch::Sender<Option<Instant>>>,
    /// Somebody else's claim as last seen: resourceVersion and since when it has not changed.
    seen: Option<(String, Instant)>,
    /// Whether we have ever held it.
    held: bool,
    /// What was said last about not holding it: the same is met at every try, and said once.
    said: Said,
}

/// What one attempt brought.
enum Attempt {
    Held,
    HeldBy(String),
    /// Somebody else wrote between our look and our write; only the next look tells who holds it.
    Raced,
}

impl Lease {
    /// Prepares; nothing is sent yet.
    pub fn new(cluster: &Cluster, config: LeaseConfig) -> Self {
        Self::with_identity(cluster, config, identity())
    }

    /// Prepares with a given identity.
    pub fn with_identity(cluster: &Cluster, config: LeaseConfig, identity: String) -> Self {
        Self {
            api: Api::namespaced(cluster.client(), &config.namespace),
            config,
            identity,
            clock: cluster.clock(),
            claim: Arc::new(watch::Sender::new(None)),
            seen: None,
            held: false,
            said: Said::default(),
        }
    }

    /// The claim to hand to a [`super::Writer`].
    pub fn claim(&self) -> Claim {
        Claim(Held::Until(self.claim.subscribe()))
    }

    /// Acquires and renews until `shutdown`, then releases.
    ///
    /// # Errors
    /// When another process has taken over. While the API server is merely down the claim expires by itself, nothing is
    /// written, and this goes on trying.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), LeaseError> {
        loop {
            let pause = match self.attempt().await {
                Ok(Attempt::Held) => RENEW_EVERY,
                Ok(Attempt::HeldBy(holder)) if self.held => {
                    self.claim.send_replace(None);
                    let LeaseConfig { namespace, name } = self.config;
                    return Err(LeaseError::Lost { namespace, name, holder });
                }
                Ok(Attempt::HeldBy(holder)) => {
                    self.tell_holder(&holder);
                    RETRY_EVERY
                }
                Ok(Attempt::Raced) => RETRY_EVERY,
                Err(error) => {
                    self.tell_trouble(&explain(&error));
                    RETRY_EVERY
                }
            };
            let stop = tokio::time::timeout(pause, shutdown.cancelled()).await.is_ok();
            if stop {
                return self.release().await;
            }
        }
    }

    /// One look, and one compare-and-swap write if the lease is ours or free.
    async fn attempt(&mut self) -> Result<Attempt, CallError> {
        let before = Instant::now();
        let name = self.config.name.clone();
        let live = match call("read the lease", self.api.get_opt(&name)).await? {
            Some(live) => live,
            None => return self.create(before).await,
        };
        let spec = live.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.clone().unwrap_or_default();
        if !holder.is_empty() && holder != self.identity && !self.expired(&live, &holder) {
            return Ok(Attempt::HeldBy(holder));
        }
        let transitions = spec.lease_transitions.unwrap_or(0) + i32::from(holder != self.identity);
        let body = LeaseObject { spec: Some(self.spec(&spec, transitions)), metadata: live.metadata };
        match call("renew the lease", self.api.replace(&name, &PostParams::default(), &body)).await {
            Ok(_) => Ok(self.hold(before)),
            Err(error) if error.is_conflict() || error.is_not_found() => Ok(Attempt::Raced),
            Err(error) => Err(error),
        }
    }

    async fn create(&mut self, before: Instant) -> Result<Attempt, CallError> {
        let body = LeaseObject {
            metadata: ObjectMeta {
                name: Some(self.config.name.clone()),
                namespace: Some(self.config.namespace.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(self.spec(&LeaseSpec::default(), 0)),
        };
        match call("create the lease", self.api.create(&PostParams::default(), &body)).await {
            Ok(_) => Ok(self.hold(before)),
            Err(error) if error.is_already_exists() || error.is_conflict() => Ok(Attempt::Raced),
            Err(error) => Err(error),
        }
    }

    fn spec(&self, old: &LeaseSpec, transitions: i32) -> LeaseSpec {
        let now = MicroTime(self.clock.now());
        let same = old.holder_identity.as_deref() == Some(self.identity.as_str());
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: if same { old.acquire_time.clone() } else { Some(now.clone()) },
            renew_time: Some(now),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }

    /// Somebody else writes: that nothing happens here has a reason.
    fn tell_holder(&mut self, holder: &str) {
        let LeaseConfig { namespace, name } = &self.config;
        let seconds = DURATION.as_secs();
        let text = format!(
            "waiting for the lease {namespace}/{name}: {holder} holds it; \
             this process takes over {seconds} s after the last renewal"
        );
        if self.said.is_news(&text) {
            tracing::info!("{text}");
        }
    }

    fn tell_trouble(&mut self, text: &str) {
        if self.said.is_news(text) {
            let LeaseConfig { namespace, name } = &self.config;
            tracing::warn!("the lease {namespace}/{name} cannot be used, nothing is written until it can: {text}");
        }
    }

    fn hold(&mut self, before: Instant) -> Attempt {
        if self.said.forget() || !self.held {
            let LeaseConfig { namespace, name } = &self.config;
            tracing::info!("holding the lease {namespace}/{name} as {}", self.identity);
        }
        self.held = true;
        self.seen = None;
        self.claim.send_replace(Some(before + DURATION));
        Attempt::Held
    }

    /// Whether somebody else's claim has run out: unchanged under our eyes for its whole duration, or its process is known
    /// to be dead.
    fn expired(&mut self, live: &LeaseObject, holder: &str) -> bool {
        if holder_is_dead(&self.identity, holder) {
            return true;
        }
        let version = live.metadata.resource_version.clone().unwrap_or_default();
        let seconds = live.spec.as_ref().and_then(|spec| spec.lease_duration_seconds).unwrap_or(0);
        let duration = Duration::from_secs(u64::try_from(seconds).unwrap_or(0)).max(Duration::from_secs(1));
        match &self.seen {
            Some((seen, since)) if *seen == version => since.elapsed() >= duration,
            Some(_) | None => {
                self.seen = Some((version, Instant::now()));
                false
            }
        }
    }

    /// Gives the lease back, so that the next process starts at once.
    async fn release(self) -> Result<(), LeaseError> {
        self.claim.send_replace(None);
        if !self.held {
            return Ok(());
        }
        let name = &self.config.name;
        let Some(mut live) = call("read the lease", self.api.get_opt(name)).await? else {
            return Ok(());
        };
        let spec = live.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() != Some(self.identity.as_str()) {
            return Ok(());
        }
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        match call("release the lease", self.api.replace(name, &PostParams::default(), &live)).await {
            Ok(_) => Ok(()),
            // Somebody took it meanwhile: released all the same.
            Err(error) if error.is_conflict() || error.is_not_found() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// `<host>_<boot>_<pid namespace>_<pid>_<nonce>`: unique, and enough to see whether a holder on this machine is dead.
fn identity() -> String {
    let host = read("/proc/sys/kernel/hostname").or_else(|| std::env::var("HOSTNAME").ok());
    let boot = read("/proc/sys/kernel/random/boot_id").map(|id| id.chars().take(8).collect::<String>());
    let namespace = std::fs::read_link("/proc/self/ns/pid")
        .ok()
        .map(|link| link.to_string_lossy().chars().filter(char::is_ascii_digit).collect::<String>());
    let plain =
        |part: Option<String>| part.filter(|part| !part.is_empty()).unwrap_or_else(|| "unknown".to_owned());
    format!(
        "{}_{}_{}_{}_{:08x}",
        plain(host).replace('_', "-"),
        plain(boot),
        plain(namespace),
        std::process::id(),
        fastrand::u32(..)
    )
}

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// Whether the holder ran on this machine, in this boot and PID namespace, and its process is gone. Then nobody renews, and
/// waiting for the expiry would only delay the restart.
fn holder_is_dead(own: &str, holder: &str) -> bool {
    let (own, holder): (Vec<&str>, Vec<&str>) = (own.split('_').collect(), holder.split('_').collect());
    let ([h1, b1, n1, own_pid, _], [h2, b2, n2, pid, _]) = (own.as_slice(), holder.as_slice()) else {
        return false;
    };
    let same_place = h1 == h2 && b1 == b2 && n1 == n2 && !b1.starts_with("unknown") && !n1.starts_with("unknown");
    let own_process_is_visible = std::path::Path::new("/proc").join(own_pid).exists();
    let is_pid = pid.bytes().all(|byte| byte.is_ascii_digit()) && !pid.is_empty();
    same_place && is_pid && own_process_is_visible && !std::path::Path::new("/proc").join(pid).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_holder_is_recognised_only_on_the_same_machine() {
        let own = identity();
        if !std::path::Path::new("/proc/self/ns/pid").exists() {
            eprintln!("skipped: no /proc on this machine");
            return;
        }
        let with_pid = |identity: &str, pid: &str| {
            let mut parts: Vec<&str> = identity.split('_').collect();
            parts[3] = pid;
            parts.join("_")
        };
        assert!(!holder_is_dead(&own, &with_pid(&own, &std::process::id().to_string())), "alive");
        // Beyond the kernel's largest PID.
        let gone = with_pid(&own, "99999999");
        assert!(holder_is_dead(&own, &gone));
        assert!(!holder_is_dead(&own, &format!("other{gone}")), "another host");
        assert!(!holder_is_dead(&own, "serin"));
    }
}
