//! The controller's own metrics, with Flagger's names where Flagger has them.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::api::CanaryPhase;
use crate::model::NamespacedName;
use crate::release::{CheckResult, OutcomeKind, State};

/// Labels `name` (the target's) and `namespace`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Target {
    name: String,
    namespace: String,
}

/// Labels of a weight.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Workload {
    workload: String,
    namespace: String,
}

/// Labels of a check's value.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Analysed {
    name: String,
    namespace: String,
    metric: String,
}

/// Labels of the build.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Build {
    version: String,
    mesh_provider: String,
}

/// Labels of a count.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Namespace {
    namespace: String,
}

type FloatGauge = Gauge<f64, std::sync::atomic::AtomicU64>;

/// Handles to the metrics. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Telemetry {
    info: Family<Build, Gauge>,
    total: Family<Namespace, Gauge>,
    status: Family<Target, Gauge>,
    weight: Family<Workload, Gauge>,
    analysis: Family<Analysed, FloatGauge>,
    successes: Family<Target, Counter>,
    failures: Family<Target, Counter>,
    reconciles: Counter,
    problems: Counter,
    queue: Gauge,
}

impl Telemetry {
    /// Registers everything.
    pub fn register(registry: &mut Registry) -> Self {
        let new = Self::default();
        let Self { info, total, status, weight, analysis, successes, failures, reconciles, problems, queue } =
            &new;
        registry.register("flagger_info", "Version and mesh provider", info.clone());
        registry.register("flagger_canary_total", "Canaries per namespace", total.clone());
        registry.register(
            "flagger_canary_status",
            "Last known status: 0 running, 1 successful, 2 failed",
            status.clone(),
        );
        registry.register("flagger_canary_weight", "Traffic weight in percent", weight.clone());
        registry.register("flagger_canary_metric_analysis", "Last value of a check", analysis.clone());
        registry.register("flagger_canary_successes", "Releases promoted", successes.clone());
        registry.register("flagger_canary_failures", "Releases rolled back", failures.clone());
        registry.register("serin_queue_length", "Canaries that wait for a look", queue.clone());
        registry.register("serin_reconciles", "Looks at a Canary", reconciles.clone());
        registry.register("serin_reconcile_problems", "Looks that ended with an error", problems.clone());
        let build = Build { version: env!("CARGO_PKG_VERSION").to_owned(), mesh_provider: "istio".to_owned() };
        info.get_or_create(&build).set(1);
        new
    }

    pub(super) fn reconciled(&self, problem: bool) {
        self.reconciles.inc();
        if problem {
            self.problems.inc();
        }
    }

    /// So many Canaries wait for a look.
    pub(super) fn queued(&self, waiting: usize) {
        self.queue.set(i64::try_from(waiting).unwrap_or(i64::MAX));
    }

    /// Shows a state.
    pub(super) fn show(&self, canary: &NamespacedName, target: &str, state: &State) {
        let namespace = canary.namespace.clone();
        let phase = state.flagger_phase();
        let status = if phase == "Failed" {
            2
        } else if phase == "Succeeded" || phase == CanaryPhase::Initialized.as_str() {
            1
        } else {
            0
        };
        self.status.get_or_create(&Target { name: target.to_owned(), namespace: namespace.clone() }).set(status);
        let weight = i64::from(state.canary_weight());
        for (workload, weight) in [(format!("{target}-primary"), 100 - weight), (target.to_owned(), weight)] {
            self.weight.get_or_create(&Workload { workload, namespace: namespace.clone() }).set(weight);
        }
        let checks = state.release().map(|release| release.checks()).unwrap_or_default();
        for CheckResult { name: metric, value, .. } in checks {
            if let Some(value) = value {
                let labels =
                    Analysed { name: target.to_owned(), namespace: namespace.clone(), metric: metric.clone() };
                self.analysis.get_or_create(&labels).set(value);
            }
        }
    }

    /// Counts a release that ended.
    pub(super) fn ended(&self, canary: &NamespacedName, target: &str, kind: OutcomeKind) {
        let labels = Target { name: target.to_owned(), namespace: canary.namespace.clone() };
        match kind {
            OutcomeKind::Succeeded => self.successes.get_or_create(&labels).inc(),
            OutcomeKind::Failed => self.failures.get_or_create(&labels).inc(),
            OutcomeKind::Initialized | OutcomeKind::Superseded | OutcomeKind::Withdrawn => return,
        };
    }

    /// Counts the Canaries.
    pub(super) fn count<'a>(&self, canaries: impl Iterator<Item = &'a NamespacedName>) {
        self.total.clear();
        for canary in canaries {
            self.total.get_or_create(&Namespace { namespace: canary.namespace.clone() }).inc();
        }
    }

    /// The Canary is gone, and its series with it.
    pub(super) fn forget(&self, canary: &NamespacedName, target: &str, checks: &[String]) {
        let namespace = canary.namespace.clone();
        self.status.remove(&Target { name: target.to_owned(), namespace: namespace.clone() });
        for metric in checks {
            let (name, namespace) = (target.to_owned(), namespace.clone());
            self.analysis.remove(&Analysed { name, namespace, metric: metric.clone() });
        }
        for workload in [format!("{target}-primary"), target.to_owned()] {
            self.weight.remove(&Workload { workload, namespace: namespace.clone() });
        }
    }
}
