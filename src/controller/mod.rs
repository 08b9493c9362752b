//! The loop: caches -> observe -> release::step -> persist -> act.
//!
//! A change of anything a Canary looks at, an answer or a deadline wakes it; a wake-up carries no data. A look
//! ([`reconcile`]) then observes from the caches, asks the engine, writes the new state (with the resourceVersion it was
//! decided on) and only then carries out the actions. What a crash or a lost race leaves undone follows again from the
//! state. In steady state nothing is read from the API server and nothing is written.

mod act;
mod analysisruns;
mod answers;
mod caches;
mod checks;
mod comparison;
mod crd;
mod expectations;
mod finalize;
mod former;
mod frozen;
mod hands;
mod holds;
mod means;
mod measure;
mod memory;
mod observe;
mod persist;
mod places;
mod policy;
mod queries;
mod reconcile;
mod rollouts;
mod routes;
mod run;
mod settings;
mod siblings;
mod status;
mod strategy;
mod telemetry;
mod wakeups;
mod webhooks;

use std::sync::Arc;

use crate::cluster::{Clock, Cluster, Writer};
use crate::hook::HookCaller;
use crate::metrics::MetricProvider;

pub use caches::Canaries;
pub use policy::{Notice, PolicyError, check_policy};
pub use queries::{MetricFault, check_metrics};
pub use run::{ControllerError, run};
pub use settings::ControllerSettings;
pub use telemetry::Telemetry;

/// Everything the controller works with.
pub struct ControllerContext {
    /// The cluster.
    pub cluster: Cluster,
    /// The Canaries it releases.
    pub canaries: Canaries,
    /// The door through which it is changed.
    pub writer: Writer,
    /// Settings.
    pub settings: ControllerSettings,
    /// Answers metric queries.
    pub metrics: Arc<dyn MetricProvider>,
    /// Calls webhooks.
    pub hooks: Arc<dyn HookCaller>,
    /// What time it is.
    pub clock: Clock,
    /// The controller's metrics.
    pub telemetry: Telemetry,
}
