//! AnalysisRuns, the third kind: whoever made one, it is led by the same queue, and by its own status.
//!
//! A look reads the run's spec and status, and what has been measured since; [`advance`](crate::analysisrun::advance) decides; the new
//! status is written with the resourceVersion that it was decided on; only then is anything asked, outside the loop, and an
//! answer only wakes.

mod ask;
mod caches;
mod jobs;
mod look;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::analysisrun::Taken;
use crate::cluster::{Cluster, Lender, Said, explain};
use crate::metrics::MetricProvider;
use crate::model::NamespacedName;

use super::answers::Answers;
use super::expectations::Expectations;
use super::means::Means;
use super::memory::{Memories, Trouble};
use super::reconcile::Again;
use super::rollouts::Rivals;
use super::routes::RESOLVE_AGAIN;
use super::run::Looks;

use ask::Measuring;
pub(super) use caches::AnalysisKinds;
use caches::RunCaches;

/// Looks at AnalysisRuns.
pub(super) struct AnalysisRuns {
    means: Means,
    own: RunCaches,
    rivals: Arc<Rivals>,
    metrics: Arc<dyn MetricProvider>,
    lender: Lender,
    answers: Arc<Answers<Measuring>>,
    memories: Memories<Memory>,
}

/// What is remembered between two looks; all of it may be lost.
#[derive(Debug, Default)]
struct Memory {
    expectations: Expectations,
    trouble: Trouble,
    /// Measurements of which this process has written down that they begin.
    begun: HashSet<(String, u32)>,
    /// Jobs that the API server does not take.
    refused: HashMap<(String, u32), Taken>,
    /// Jobs that this process has made.
    made: HashSet<String>,
}

impl AnalysisRuns {
    /// Watches AnalysisRuns and their Jobs, as soon as they are served.
    pub(super) async fn start(
        means: Means,
        rivals: Arc<Rivals>,
        (metrics, lender): (Arc<dyn MetricProvider>, Lender),
        shutdown: &CancellationToken,
    ) -> Self {
        let Means { cluster, kinds, settings, wakeups, clock, .. } = &means;
        let of_analysis = resolve(cluster).await;
        let own = RunCaches::start(cluster, &of_analysis, settings.namespace.as_deref(), wakeups, shutdown);
        // Filled once: this is the only place.
        drop(kinds.analysis.set(of_analysis));
        own.ready().await;
        rivals.ready().await;
        let answers = Arc::new(Answers::new(wakeups.clone(), clock.clone(), shutdown.clone()));
        Self { means, own, rivals, metrics, lender, answers, memories: Memories::default() }
    }
}

/// Longest time between two questions whether AnalysisRuns are served: many a cluster has Rollouts and never analyses them, and an
/// idle daemon asks next to nothing.
const RESOLVE_AGAIN_MAX: Duration = Duration::from_secs(300);

/// Asks the API server until AnalysisRuns are served, less and less often.
async fn resolve(cluster: &Cluster) -> AnalysisKinds {
    let mut said = Said::default();
    let mut pause = RESOLVE_AGAIN;
    loop {
        match AnalysisKinds::resolve(cluster).await {
            Ok(kinds) => return kinds,
            Err(error) => {
                let missing = explain(&error);
                if said.is_news(&missing) {
                    tracing::info!("rollouts are on, and AnalysisRuns wait for their definitions: {missing}");
                }
                cluster.forget_discovery();
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RESOLVE_AGAIN_MAX);
            }
        }
    }
}

impl Looks for AnalysisRuns {
    fn means(&self) -> &Means {
        &self.means
    }

    async fn look(&self, key: &NamespacedName) -> Again {
        Self::look(self, key).await
    }
}
