//! Istio's standard metrics, counted for each attempt, the attempts that failed, and what applications count themselves.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::metrics::{Labels, SeriesId, SharedStore, StoreError};
use serin_core::model::NamespacedName;

use super::routes::{Entry, full_name};

/// Upper bounds of Istio's duration histogram, in milliseconds.
const BOUNDS_MS: [f64; 19] = [
    0.5,
    1.0,
    5.0,
    10.0,
    25.0,
    50.0,
    100.0,
    250.0,
    500.0,
    1_000.0,
    2_500.0,
    5_000.0,
    10_000.0,
    30_000.0,
    60_000.0,
    300_000.0,
    600_000.0,
    1_800_000.0,
    3_600_000.0,
];
/// Upper bounds of applications' duration histograms, in seconds: those of Prometheus' clients.
const BOUNDS_S: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Failed attempts remembered in detail; enough to see what went wrong first and last in a test.
const FAILED_MAX: usize = 1_000;
const UNKNOWN: &str = "unknown";
/// The pod of the ingress gateway, as its proxy's metrics name it.
const INGRESS: (&str, &str) = ("istio-system", "istio-ingressgateway-0");
/// The pod that stands for all clients of a namespace: who they are nobody knows.
const CLIENT: &str = "clients-0";

/// What a pod belongs to, as Istio names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Workload {
    pub(super) namespace: String,
    pub(super) name: String,
}

/// Why an attempt to reach a pod failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Failure {
    /// No rule, no Service or no such port.
    NoRoute,
    /// The chosen Service has no ready endpoint.
    NoHealthyUpstream,
    /// The pod takes no connections.
    ConnectionRefused,
    /// The connection broke before the answer was complete.
    ConnectionReset,
    /// No answer in time.
    Timeout,
    /// The pod answered 5xx.
    ServerError,
}

/// A failed attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedAttempt {
    /// Why.
    pub failure: Failure,
    /// The Service that was asked, if a route was found.
    pub service: Option<NamespacedName>,
    /// The workload of the pod, if one was chosen.
    pub workload: Option<String>,
    /// The pod's address, if one was chosen.
    pub pod: Option<String>,
}

/// Attempts to reach pods, retries among them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestCounts {
    /// All attempts.
    pub attempts: u64,
    /// Failed ones by reason.
    pub failures: BTreeMap<Failure, u64>,
    /// The newest failed ones.
    pub failed: VecDeque<FailedAttempt>,
}

impl RequestCounts {
    /// Failed attempts for a reason.
    pub fn failures_of(&self, failure: Failure) -> u64 {
        self.failures.get(&failure).copied().unwrap_or(0)
    }
}

/// How one attempt went.
#[derive(Debug)]
pub(super) struct Attempt<'a> {
    pub(super) entry: Entry<'a>,
    pub(super) service: &'a NamespacedName,
    pub(super) workload: Option<&'a Workload>,
    /// The pod's address.
    pub(super) pod: Option<&'a str>,
    /// The pod's name.
    pub(super) name: Option<&'a str>,
    /// The status code that the client's proxy saw.
    pub(super) code: u16,
    pub(super) failure: Option<Failure>,
    pub(super) took: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    reporter: &'static str,
    /// The pod whose proxy counts: namespace and name.
    proxy: (String, String),
    is_ingress: bool,
    service: NamespacedName,
    workload: Option<Workload>,
    code: u16,
    flags: &'static str,
}

/// Requests as an application counts them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct AppKey {
    namespace: String,
    pod: String,
    status: u16,
}

/// The series of one key.
#[derive(Debug, Clone)]
struct Family {
    requests: Option<SeriesId>,
    buckets: Vec<(f64, SeriesId)>,
    sum: SeriesId,
    count: SeriesId,
}

/// Counts attempts.
#[derive(Debug)]
pub(super) struct Telemetry {
    store: SharedStore,
    families: Mutex<HashMap<Key, Family>>,
    of_apps: Mutex<HashMap<AppKey, Family>>,
    counts: Mutex<RequestCounts>,
}

impl Telemetry {
    pub(super) fn new(store: SharedStore) -> Self {
        Self { store, families: Mutex::default(), of_apps: Mutex::default(), counts: Mutex::default() }
    }

    pub(super) fn counts(&self) -> RequestCounts {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts a request for which no Service was found; nobody reports it in Istio's metrics by workload.
    pub(super) fn unrouted(&self) {
        self.record(FailedAttempt { failure: Failure::NoRoute, service: None, workload: None, pod: None });
    }

    /// Counts an attempt on both sides; on the pod's side only if it was reached.
    pub(super) fn attempt(&self, attempt: &Attempt<'_>) {
        let Attempt { entry, service, workload, pod, name, code, failure, took } = *attempt;
        match failure {
            None => self.counts.lock().unwrap_or_else(PoisonError::into_inner).attempts += 1,
            Some(failure) => self.record(FailedAttempt {
                failure,
                service: Some(service.clone()),
                workload: workload.map(|workload| workload.name.clone()),
                pod: pod.map(str::to_owned),
            }),
        }
        let key = |reporter, proxy, code, flags| Key {
            reporter,
            proxy,
            is_ingress: matches!(entry, Entry::Ingress),
            service: service.clone(),
            workload: workload.cloned(),
            code,
            flags,
        };
        let client = match entry {
            Entry::Ingress => (INGRESS.0.to_owned(), INGRESS.1.to_owned()),
            Entry::Mesh { namespace, .. } => (namespace.to_owned(), CLIENT.to_owned()),
        };
        self.count(key("source", client, code, flags(failure)), took);
        let seen_by_pod = match failure {
            None | Some(Failure::ServerError) => Some((code, "-")),
            // To the pod's proxy the client went away.
            Some(Failure::Timeout) => Some((0, "DC")),
            Some(Failure::ConnectionReset) => Some((503, "UC")),
            Some(Failure::NoRoute | Failure::NoHealthyUpstream | Failure::ConnectionRefused) => None,
        };
        if let (Some((code, flags)), Some(workload)) = (seen_by_pod, workload) {
            let server = (workload.namespace.clone(), name.unwrap_or_default().to_owned());
            self.count(key("destination", server, code, flags), took);
        }
    }

    fn record(&self, failed: FailedAttempt) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.attempts += 1;
        *counts.failures.entry(failed.failure).or_default() += 1;
        if counts.failed.len() >= FAILED_MAX {
            counts.failed.pop_front();
        }
        counts.failed.push_back(failed);
    }

    /// What podinfo and its like count of an answer of their own, as a Prometheus labels it that relabels as Flagger's does.
    pub(super) fn answered(&self, workload: &Workload, pod: &str, status: u16, took: Duration) {
        let key = AppKey { namespace: workload.namespace.clone(), pod: pod.to_owned(), status };
        let make = |key: &AppKey| {
            let AppKey { namespace, pod, status } = key;
            let labels = [
                ("app", workload.name.clone()),
                ("kubernetes_namespace", namespace.clone()),
                ("kubernetes_pod_name", pod.clone()),
                ("status", status.to_string()),
            ];
            let labels = labels.map(|(label, value)| (label.to_owned(), value)).into_iter().collect();
            self.family(&labels, None, "http_request_duration_seconds", &BOUNDS_S)
        };
        if let Some(family) = family_of(&self.of_apps, key, make) {
            self.observe(&family, took.as_secs_f64());
        }
    }

    fn count(&self, key: Key, took: Duration) {
        let make = |key: &Key| {
            self.family(
                &labels(key),
                Some("istio_requests_total"),
                "istio_request_duration_milliseconds",
                &BOUNDS_MS,
            )
        };
        if let Some(family) = family_of(&self.families, key, make) {
            self.observe(&family, took.as_secs_f64() * 1_000.0);
        }
    }

    fn observe(&self, family: &Family, value: f64) {
        let mut store = self.store.lock();
        if let Some(requests) = family.requests {
            store.add(requests, 1.0);
        }
        for (bound, bucket) in &family.buckets {
            if value <= *bound {
                store.add(*bucket, 1.0);
            }
        }
        store.add(family.sum, value);
        store.add(family.count, 1.0);
    }

    /// A histogram, and a counter beside it.
    fn family(
        &self,
        labels: &Labels,
        counter: Option<&str>,
        histogram: &str,
        bounds: &[f64],
    ) -> Result<Family, StoreError> {
        let named = |name: &str| {
            let mut labels = labels.clone();
            labels.insert("__name__".to_owned(), name.to_owned());
            labels
        };
        let mut store = self.store.lock();
        let mut buckets = Vec::with_capacity(bounds.len() + 1);
        for bound in bounds.iter().copied().chain([f64::INFINITY]) {
            let mut labels = named(&format!("{histogram}_bucket"));
            let text = if bound.is_infinite() { "+Inf".to_owned() } else { bound.to_string() };
            labels.insert("le".to_owned(), text);
            buckets.push((bound, store.series(&labels)?));
        }
        let requests = counter.map(|name| store.series(&named(name))).transpose()?;
        let sum = store.series(&named(&format!("{histogram}_sum")))?;
        Ok(Family { requests, buckets, sum, count: store.series(&named(&format!("{histogram}_count")))? })
    }
}

/// The series of a key, made when it is new; `None` when there are too many.
fn family_of<K: Eq + std::hash::Hash>(
    all: &Mutex<HashMap<K, Family>>,
    key: K,
    make: impl FnOnce(&K) -> Result<Family, StoreError>,
) -> Option<Family> {
    let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(family) = all.get(&key) {
        return Some(family.clone());
    }
    match make(&key) {
        Ok(family) => Some(all.entry(key).or_insert(family).clone()),
        Err(error) => {
            tracing::warn!(%error, "a request is not counted");
            None
        }
    }
}

fn labels(key: &Key) -> Labels {
    let Key { reporter, proxy, is_ingress, service, workload, code, flags } = key;
    let (source, source_namespace) =
        if *is_ingress { ("istio-ingressgateway", "istio-system") } else { (UNKNOWN, UNKNOWN) };
    let (name, namespace) = workload
        .as_ref()
        .map_or((UNKNOWN, UNKNOWN), |workload| (workload.name.as_str(), workload.namespace.as_str()));
    [
        ("reporter", (*reporter).to_owned()),
        ("namespace", proxy.0.clone()),
        ("pod", proxy.1.clone()),
        ("source_workload", source.to_owned()),
        ("source_workload_namespace", source_namespace.to_owned()),
        ("destination_workload", name.to_owned()),
        ("destination_workload_namespace", namespace.to_owned()),
        ("destination_service", full_name(service)),
        ("destination_service_name", service.name.clone()),
        ("destination_service_namespace", service.namespace.clone()),
        ("request_protocol", "http".to_owned()),
        ("response_code", code.to_string()),
        ("response_flags", (*flags).to_owned()),
        ("connection_security_policy", "none".to_owned()),
    ]
    .into_iter()
    .map(|(label, value)| (label.to_owned(), value))
    .collect()
}

/// Envoy's response flags.
fn flags(failure: Option<Failure>) -> &'static str {
    match failure {
        None | Some(Failure::ServerError) => "-",
        Some(Failure::NoRoute) => "NR",
        Some(Failure::NoHealthyUpstream) => "UH",
        Some(Failure::ConnectionRefused) => "UF",
        Some(Failure::ConnectionReset) => "UC",
        Some(Failure::Timeout) => "UT",
    }
}
