//! Rollouts, the second kind: the same queue, hands and caches of Services and routes as Canaries have, and the same order
//! of observe, step, persist, act. Only what a Rollout is made of differs: ReplicaSets for sides, an annotation for the state.

mod act;
mod caches;
mod events;
mod look;
mod rivals;
mod seen;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::cluster::{Cluster, Said, explain};
use crate::model::{Digest, NamespacedName};

use super::expectations::Expectations;
use super::means::Means;
use super::memory::{Memories, Trouble, Unsaved};
use super::reconcile::Again;
use super::routes::RESOLVE_AGAIN;
use super::run::Looks;

use caches::RolloutCaches;
pub(super) use caches::RolloutKinds;
pub(super) use rivals::{RIVAL_AGAIN, Rivals};

/// Looks at Rollouts.
pub(super) struct Rollouts {
    means: Means,
    own: RolloutCaches,
    rivals: Arc<Rivals>,
    memories: Memories<Memory>,
}

/// What is remembered between two looks; all of it may be lost.
#[derive(Debug, Default)]
struct Memory {
    expectations: Expectations,
    trouble: Trouble,
    /// A later state than the stored one.
    unsaved: Unsaved,
    /// A template of which the API server makes no set, and why.
    unmakeable: Option<(Digest, String)>,
}

impl Rollouts {
    /// Watches what Rollouts are made of, as soon as they are served.
    pub(super) async fn start(means: Means, rivals: Arc<Rivals>, shutdown: &CancellationToken) -> Self {
        let Means { cluster, kinds, settings, wakeups, .. } = &means;
        let of_rollouts = resolve(cluster).await;
        let own = RolloutCaches::start(cluster, &of_rollouts, settings.namespace.as_deref(), wakeups, shutdown);
        // Filled once: this is the only place.
        drop(kinds.rollouts.set(of_rollouts));
        own.ready().await;
        rivals.ready().await;
        Self { means, own, rivals, memories: Memories::default() }
    }
}

/// Asks the API server until Rollouts are served.
async fn resolve(cluster: &Cluster) -> RolloutKinds {
    let mut said = Said::default();
    loop {
        match RolloutKinds::resolve(cluster).await {
            Ok(kinds) => return kinds,
            Err(error) => {
                let missing = explain(&error);
                if said.is_news(&missing) {
                    tracing::info!("rollouts are on, and wait for Argo Rollouts' definitions: {missing}");
                }
                cluster.forget_discovery();
                tokio::time::sleep(RESOLVE_AGAIN).await;
            }
        }
    }
}

impl Looks for Rollouts {
    fn means(&self) -> &Means {
        &self.means
    }

    async fn look(&self, key: &NamespacedName) -> Again {
        Self::look(self, key).await
    }
}
