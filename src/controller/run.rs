//! The queue: one task that starts looks, never two at the same Canary, never more than a few at once.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cluster::Lender;
use crate::metrics::MetricProvider;
use crate::model::NamespacedName;

use super::ControllerContext;
use super::analysisruns::AnalysisRuns;
use super::answers::Answers;
use super::caches::{Caches, Kinds};
use super::crd;
use super::means::Means;
use super::measure::Finder;
use super::memory::Memories;
use super::reconcile::{Again, Reconciler};
use super::rollouts::{Rivals, Rollouts};
use super::wakeups::Wakeups;

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
#[error("the controller stopped: a look at a Canary, a Rollout or an AnalysisRun ended abnormally")]
pub struct ControllerError(#[source] tokio::task::JoinError);

/// What a queue looks at: one kind of objects.
pub(super) trait Looks: Send + Sync + 'static {
    /// What it works with, and by whom it is woken.
    fn means(&self) -> &Means;

    /// One look at one object.
    fn look(&self, key: &NamespacedName) -> impl Future<Output = Again> + Send;

    /// So many wait for a look.
    fn queued(&self, _waiting: usize) {}

    /// When something besides looks is to be done, if anything is.
    fn upkeep_in(&self) -> Option<Duration> {
        None
    }

    /// Does it; who is to be looked at for it.
    fn upkeep(&self) -> impl Future<Output = Vec<NamespacedName>> + Send {
        std::future::ready(Vec::new())
    }
}

impl Looks for Reconciler {
    fn means(&self) -> &Means {
        &self.means
    }

    async fn look(&self, key: &NamespacedName) -> Again {
        Self::look(self, key).await
    }

    fn queued(&self, waiting: usize) {
        self.telemetry.queued(waiting);
    }

    fn upkeep_in(&self) -> Option<Duration> {
        self.pruned.lock().unwrap_or_else(PoisonError::into_inner).is_some().then_some(DEFINITION_AGAIN)
    }

    /// Whether the definition has been mended meanwhile; then everybody is looked at.
    async fn upkeep(&self) -> Vec<NamespacedName> {
        let pruned = crd::check(&self.means.cluster).await;
        let woken = if pruned.is_none() { self.means.caches.canaries.keys() } else { Vec::new() };
        *self.pruned.lock().unwrap_or_else(PoisonError::into_inner) = pruned;
        woken
    }
}

/// Runs until `shutdown`. Waits for the lease, for the kinds it needs and for the first lists by itself.
///
/// # Errors
/// When a look panics.
pub async fn run(context: ControllerContext, shutdown: CancellationToken) -> Result<(), ControllerError> {
    // Watches and questions end with this, also when the function is dropped or fails.
    let inner = shutdown.child_token();
    let _ends = inner.clone().drop_guard();
    let Some((reconciler, of_argo)) = inner.run_until_cancelled(prepare(context, inner.clone())).await else {
        return Ok(());
    };
    let canaries = Queue::new(Arc::new(reconciler)).serve();
    let of_argo = async {
        match of_argo {
            Some(of_argo) => of_argo.serve(&inner).await,
            None => std::future::pending().await,
        }
    };
    let either = async {
        tokio::select! {
            ended = canaries => ended,
            ended = of_argo => ended,
        }
    };
    let result = inner.run_until_cancelled(either).await;
    result.unwrap_or(Ok(()))
}

/// What the queues of Argo Rollouts' kinds are made of.
struct OfArgo {
    rollouts: Means,
    runs: Means,
    metrics: Arc<dyn MetricProvider>,
    lender: Lender,
}

impl OfArgo {
    /// Rollouts and AnalysisRuns, each as soon as it is served.
    async fn serve(self, shutdown: &CancellationToken) -> Result<(), ControllerError> {
        let Self { rollouts, runs, metrics, lender } = self;
        let rivals = Arc::new(Rivals::watch(&rollouts.cluster, rollouts.clock.clone(), shutdown));
        let (of_rollouts, of_runs) = (rivals.clone(), rivals);
        let rollouts =
            async { Queue::new(Arc::new(Rollouts::start(rollouts, of_rollouts, shutdown).await)).serve().await };
        let runs = async {
            let runs = AnalysisRuns::start(runs, of_runs, (metrics, lender), shutdown).await;
            Queue::new(Arc::new(runs)).serve().await
        };
        tokio::select! {
            ended = rollouts => ended,
            ended = runs => ended,
        }
    }
}

/// What looks at Canaries, and what the queues of Argo Rollouts' kinds are made of where they are on.
async fn prepare(context: ControllerContext, shutdown: CancellationToken) -> (Reconciler, Option<OfArgo>) {
    let ControllerContext { cluster, canaries, writer, settings, metrics, hooks, clock, telemetry } = context;
    writer.claim().acquired().await;
    let kinds = Kinds::resolve(&cluster).await;
    let wakeups = canaries.wakeups.clone();
    let of_rollouts: Arc<Wakeups> = Arc::default();
    let caches = Arc::new(Caches::start(&cluster, &kinds, &settings, canaries, of_rollouts.clone(), &shutdown));
    while tokio::time::timeout(READY_SLOW, caches.ready()).await.is_err() {
        tracing::warn!("the controller still waits for the first lists from the API server");
    }
    let pruned = crd::check(&cluster).await;
    if let Some(reason) = &pruned {
        tracing::error!("{reason}");
    }
    let answers = Arc::new(Answers::new(wakeups.clone(), clock.clone(), shutdown));
    let lender = Lender::new(cluster.clone(), settings.own_namespace.clone());
    let for_runs = (metrics.clone(), lender.clone());
    let finder = Finder {
        cluster: cluster.clone(),
        writer: writer.clone(),
        caches: caches.clone(),
        metrics,
        hooks,
        clock: clock.clone(),
        metrics_address: settings.metrics_address.clone(),
        lender,
    };
    let is_on = settings.rollouts;
    let means = Means { cluster, writer, kinds, caches, settings, wakeups, clock };
    let of_argo = is_on.then(|| {
        let (metrics, lender) = for_runs;
        let rollouts = Means { wakeups: of_rollouts, ..means.clone() };
        OfArgo { rollouts, runs: Means { wakeups: Arc::default(), ..means.clone() }, metrics, lender }
    });
    let (pruned, memories) = (Mutex::new(pruned), Memories::default());
    (Reconciler { means, answers, finder, telemetry, pruned, memories }, of_argo)
}

/// What waits, what runs and what is due.
struct Queue<L> {
    looks_at: Arc<L>,
    waiting: BTreeSet<NamespacedName>,
    running: BTreeSet<NamespacedName>,
    due: HashMap<NamespacedName, Instant>,
    looks: JoinSet<(NamespacedName, Again)>,
    upkeep: Option<Instant>,
}

impl<L: Looks> Queue<L> {
    fn new(looks_at: Arc<L>) -> Self {
        Self {
            looks_at,
            waiting: BTreeSet::new(),
            running: BTreeSet::new(),
            due: HashMap::new(),
            looks: JoinSet::new(),
            upkeep: None,
        }
    }

    async fn serve(mut self) -> Result<(), ControllerError> {
        loop {
            self.waiting.extend(self.looks_at.means().wakeups.take());
            self.take_due();
            self.start_looks();
            self.looks_at.queued(self.waiting.len());
            let wakeups = self.looks_at.means().wakeups.clone();
            let next = self.next_due();
            tokio::select! {
                () = wakeups.rung() => {}
                () = tokio::time::sleep_until(next) => self.keep_up().await,
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
            let looks_at = self.looks_at.clone();
            self.looks.spawn(async move {
                let again = looks_at.look(&key).await;
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
            Again::At(time) => self.looks_at.means().until(time),
        };
        self.due.insert(key, Instant::now() + wait.min(FAR));
        Ok(())
    }

    fn next_due(&mut self) -> Instant {
        self.upkeep = match self.looks_at.upkeep_in() {
            None => None,
            Some(wait) => self.upkeep.or(Some(Instant::now() + wait)),
        };
        let due = self.due.values().min().copied();
        due.into_iter().chain(self.upkeep).min().unwrap_or_else(|| Instant::now() + FAR)
    }

    async fn keep_up(&mut self) {
        if self.upkeep.is_some_and(|at| at <= Instant::now()) {
            self.waiting.extend(self.looks_at.upkeep().await);
            self.upkeep = None;
        }
    }
}
