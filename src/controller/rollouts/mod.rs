//! Rollouts, the second kind: the same queue, hands and caches of Services and routes as Canaries have, and the same order
//! of observe, step, persist, act. Only what a Rollout is made of differs: ReplicaSets for sides, an annotation for the state.

mod act;
mod caches;
mod look;
mod rivals;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::cluster::{Clock, Cluster, Said, Writer, explain};
use crate::model::NamespacedName;

use super::caches::{Caches, Kinds};
use super::expectations::Expectations;
use super::reconcile::Again;
use super::routes::RESOLVE_AGAIN;
use super::run::Looks;
use super::settings::ControllerSettings;
use super::wakeups::Wakeups;

use caches::RolloutCaches;
pub(super) use caches::RolloutKinds;
use rivals::Rivals;

/// Looks at Rollouts.
pub(super) struct Rollouts {
    cluster: Cluster,
    writer: Writer,
    kinds: Kinds,
    caches: Arc<Caches>,
    own: RolloutCaches,
    rivals: Rivals,
    settings: ControllerSettings,
    wakeups: Arc<Wakeups>,
    clock: Clock,
    memory: Mutex<HashMap<NamespacedName, Memory>>,
}

/// What is remembered between two looks; all of it may be lost.
#[derive(Debug, Default)]
struct Memory {
    expectations: Expectations,
    /// The last action's error that is not just a race.
    problem: Option<String>,
    failures: u32,
}

/// What the loop of Rollouts shares with that of Canaries.
pub(super) struct Shared {
    pub(super) cluster: Cluster,
    pub(super) writer: Writer,
    pub(super) kinds: Kinds,
    pub(super) caches: Arc<Caches>,
    pub(super) settings: ControllerSettings,
    pub(super) wakeups: Arc<Wakeups>,
    pub(super) clock: Clock,
}

impl Rollouts {
    /// Watches what Rollouts are made of, as soon as they are served.
    pub(super) async fn start(shared: Shared, shutdown: &CancellationToken) -> Self {
        let Shared { cluster, writer, kinds, caches, settings, wakeups, clock } = shared;
        let of_rollouts = resolve(&cluster).await;
        let own = RolloutCaches::start(&cluster, &of_rollouts, settings.namespace.as_deref(), &wakeups, shutdown);
        let rivals = Rivals::watch(&cluster, clock.clone(), shutdown);
        // Filled once: this is the only place.
        drop(kinds.rollouts.set(of_rollouts));
        own.ready().await;
        rivals.ready().await;
        Self { cluster, writer, kinds, caches, own, rivals, settings, wakeups, clock, memory: Mutex::default() }
    }

    fn with_memory<T>(&self, change: impl FnOnce(&mut HashMap<NamespacedName, Memory>) -> T) -> T {
        change(&mut self.memory.lock().unwrap_or_else(PoisonError::into_inner))
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
    fn wakeups(&self) -> &Arc<Wakeups> {
        &self.wakeups
    }

    fn until(&self, time: jiff::Timestamp) -> Duration {
        Duration::try_from(time.duration_since(self.clock.now())).unwrap_or(Duration::ZERO)
    }

    async fn look(&self, key: &NamespacedName) -> Again {
        Self::look(self, key).await
    }
}
