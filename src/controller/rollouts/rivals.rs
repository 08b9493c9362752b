//! Argo Rollouts' own controller: while it is alive it leads the Rollouts, and Serin does not.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::runtime::watcher;
use tokio_util::sync::CancellationToken;

use crate::cluster::{Clock, Cluster, Reflected};
use crate::model::NamespacedName;

/// The Lease of Argo Rollouts' controller, whatever its namespace.
const LEASE: &str = "argo-rollouts-controller-lock";
/// How long a lease counts that has not been renewed: its own 15 s, and as much again for clocks that differ.
const ALIVE: Duration = Duration::from_secs(30);
/// Time between looks while the other one leads.
pub(in crate::controller) const RIVAL_AGAIN: Duration = Duration::from_secs(10);
/// Wait for the first list before it is said that it does not come.
const READY_SLOW: Duration = Duration::from_secs(30);

/// Who holds the lease, and when it was renewed.
#[derive(Debug, Clone, PartialEq)]
struct Held {
    holder: String,
    renewed: Option<Timestamp>,
}

/// The watch of that Lease.
pub(in crate::controller) struct Rivals {
    leases: Reflected<Held>,
    clock: Clock,
    said: Mutex<bool>,
}

impl Rivals {
    pub(in crate::controller) fn watch(cluster: &Cluster, clock: Clock, shutdown: &CancellationToken) -> Self {
        let api: Api<DynamicObject> = Api::all_with(cluster.client(), &ApiResource::erase::<Lease>(&()));
        let leases = Reflected::start(
            api,
            watcher::Config::default().fields(&format!("metadata.name={LEASE}")),
            shutdown.clone(),
            |object| {
                let spec = &object.data["spec"];
                Ok(Held {
                    holder: spec["holderIdentity"].as_str().unwrap_or_default().to_owned(),
                    renewed: spec["renewTime"].as_str().and_then(|text| text.parse().ok()),
                })
            },
            |_| {},
        );
        Self { leases, clock, said: Mutex::new(false) }
    }

    /// Returns when it is known whether there is one: before that nothing is done.
    pub(in crate::controller) async fn ready(&self) {
        while tokio::time::timeout(READY_SLOW, self.leases.ready()).await.is_err() {
            tracing::warn!(
                "Rollouts wait: whether Argo Rollouts' own controller runs is not known, because Leases of all namespaces cannot \
                 be listed; allow it, or switch rollouts off"
            );
        }
    }

    /// Whether the other controller leads now; said once each time.
    pub(in crate::controller) fn lead(&self) -> bool {
        let found = self.alive();
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        match &found {
            Some((lease, holder)) if !*said => tracing::warn!(
                "Argo Rollouts' own controller is alive (Lease {lease}, held by {holder}): Serin leaves all Rollouts to it; scale \
                 it to zero, or switch rollouts off"
            ),
            None if *said => tracing::info!("Argo Rollouts' own controller is gone: Serin leads the Rollouts"),
            Some(_) | None => {}
        }
        *said = found.is_some();
        found.is_some()
    }

    fn alive(&self) -> Option<(NamespacedName, String)> {
        let limit = SignedDuration::try_from(ALIVE).unwrap_or(SignedDuration::ZERO);
        let now = self.clock.now();
        let is_alive =
            |held: &Held| !held.holder.is_empty() && held.renewed.is_some_and(|at| now.duration_since(at) < limit);
        let found = self.leases.find(|_, held| is_alive(held))?;
        Some((found.0, found.1.holder.clone()))
    }
}
