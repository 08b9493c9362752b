//! The queue: one task that starts looks, never two at the same Canary, never more than a few at once.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::model::NamespacedName;

use super::ControllerContext;
use super::answers::Answers;
use super::caches::{Caches, Kinds};
use super::crd;
use super::measure::Finder;
use super::reconcile::{Again, Reconciler};

/// Looks at once: each holds at most one API call, so this bounds the load on the API server.
const PARALLEL: usize = 8;
/// Time between looks at a definition that prunes our status.
const DEFINITION_AGAIN: Duration = Duration::from_secs(15);
/// Time without first lists after which it is said what is waited for.
const READY_SLOW: Duration = Duration::from_secs(30);
/// Longest sleep without a deadline: a timer far away keeps the select simple.
const FAR: Duration = Duration::from_secs(24 * 3600);

/// A look that panicked; its Canary is looked at again by the next process.
#[derive(Debug, thiserror::Error)]
#[error("the controller stopped: a look at a Canary ended abnormally")]
pub struct ControllerError(#[source] tokio::task::JoinError);

/// Runs until `shutdown`. Waits for the lease, for the kinds it needs and for the first lists by itself.
///
/// # Errors
/// When a look panics.
pub async fn run(context: ControllerContext, shutdown: CancellationToken) -> Result<(), ControllerError> {
    // Watches and questions end with this, also when the function is dropped or fails.
    let inner = shutdown.child_token();
    let _ends = inner.clone().drop_guard();
    let Some(reconciler) = inner.run_until_cancelled(prepare(context, inner.clone())).await else {
        return Ok(());
    };
    let reconciler = Arc::new(reconciler);
    let result = inner.run_until_cancelled(Queue::new(reconciler).serve()).await;
    result.unwrap_or(Ok(()))
}

async fn prepare(context: ControllerContext, shutdown: CancellationToken) -> Reconciler {
    let ControllerContext { cluster, canaries, writer, settings, metrics, hooks, clock, telemetry } = context;
    writer.claim().acquired().await;
    let kinds = Kinds::resolve(&cluster).await;
    let wakeups = canaries.wakeups.clone();
    let caches = Arc::new(Caches::start(&cluster, &kinds, &settings, canaries, &shutdown));
    while tokio::time::timeout(READY_SLOW, caches.ready()).await.is_err() {
        tracing::warn!("the controller still waits for the first lists from the API server");
    }
    let pruned = crd::check(&cluster).await;
    if let Some(reason) = &pruned {
        tracing::error!("{reason}");
    }
    let answers = Arc::new(Answers::new(wakeups.clone(), clock.clone(), shutdown));
    let finder = Finder {
        cluster: cluster.clone(),
        writer: writer.clone(),
        caches: caches.clone(),
        metrics,
        hooks,
        clock: clock.clone(),
        metrics_address: settings.metrics_address.clone(),
        own_namespace: settings.own_namespace.clone(),
    };
    Reconciler {
        cluster,
        writer,
        kinds,
        caches,
        settings,
        wakeups,
        answers,
        finder,
        telemetry,
        clock,
        pruned: Mutex::new(pruned),
        memory: Mutex::default(),
    }
}

/// What waits, what runs and what is due.
struct Queue {
    reconciler: Arc<Reconciler>,
    waiting: BTreeSet<NamespacedName>,
    running: BTreeSet<NamespacedName>,
    due: HashMap<NamespacedName, Instant>,
    looks: JoinSet<(NamespacedName, Again)>,
    definition_again: Instant,
}

impl Queue {
    fn new(reconciler: Arc<Reconciler>) -> Self {
        Self {
            reconciler,
            waiting: BTreeSet::new(),
            running: BTreeSet::new(),
            due: HashMap::new(),
            looks: JoinSet::new(),
            definition_again: Instant::now() + DEFINITION_AGAIN,
        }
    }

    async fn serve(mut self) -> Result<(), ControllerError> {
        loop {
            self.waiting.extend(self.reconciler.wakeups.take());
            self.take_due();
            self.start_looks();
            let wakeups = self.reconciler.wakeups.clone();
            let next = self.next_due();
            tokio::select! {
                () = wakeups.rung() => {}
                () = tokio::time::sleep_until(next) => self.look_at_definition().await,
                Some(done) = self.looks.join_next() => self.finished(done)?,
            }
        }
    }

    fn take_due(&mut self) {
        let now = Instant::now();
        let due: Vec<NamespacedName> =
            self.due.iter().filter(|(_, at)| **at <= now).map(|(key, _)| key.clone()).collect();
        for key in due {
            self.due.remove(&key);
            self.waiting.insert(key);
        }
    }

    fn start_looks(&mut self) {
        while self.running.len() < PARALLEL {
            let Some(key) = self.waiting.iter().find(|key| !self.running.contains(*key)).cloned() else { return };
            self.waiting.remove(&key);
            self.due.remove(&key);
            self.running.insert(key.clone());
            let reconciler = self.reconciler.clone();
            self.looks.spawn(async move {
                let again = reconciler.look(&key).await;
                (key, again)
            });
        }
    }

    fn finished(
        &mut self,
        done: Result<(NamespacedName, Again), tokio::task::JoinError>,
    ) -> Result<(), ControllerError> {
        let (key, again) = done.map_err(ControllerError)?;
        self.running.remove(&key);
        let wait = match again {
            Again::Never => return Ok(()),
            Again::In(wait) => wait,
            Again::At(time) => {
                let wait = time.duration_since(self.reconciler.clock.now());
                Duration::try_from(wait).unwrap_or(Duration::ZERO)
            }
        };
        self.due.insert(key, Instant::now() + wait.min(FAR));
        Ok(())
    }

    fn next_due(&self) -> Instant {
        let definition = self.is_pruned().then_some(self.definition_again);
        let due = self.due.values().min().copied();
        due.into_iter().chain(definition).min().unwrap_or_else(|| Instant::now() + FAR)
    }

    fn is_pruned(&self) -> bool {
        self.reconciler.pruned.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Whether the definition has been mended meanwhile; then everybody is looked at.
    async fn look_at_definition(&mut self) {
        if !self.is_pruned() || Instant::now() < self.definition_again {
            return;
        }
        let pruned = crd::check(&self.reconciler.cluster).await;
        if pruned.is_none() {
            self.waiting.extend(self.reconciler.caches.canaries.keys());
        }
        *self.reconciler.pruned.lock().unwrap_or_else(PoisonError::into_inner) = pruned;
        self.definition_again = Instant::now() + DEFINITION_AGAIN;
    }
}
