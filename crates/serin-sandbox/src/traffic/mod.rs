//! Real HTTP: in-process pods, the mesh proxy that obeys routes, and the forward proxy that resolves service names.
//!
//! Every running pod is an HTTP server on loopback (`pods`); its cluster address means something only here. Requests
//! come in through the ingress or a forward proxy (`proxy`), get a route from a pure snapshot (`routes`), are carried
//! to a pod (`mesh`) and counted as Istio counts them (`telemetry`). What the snapshot and the pods are follows from
//! watches (`watch`). Gateway API's objects get the status that a gateway controller would give them (`gateways`).
//!
//! Left out: HTTPS and other protocols than HTTP/1.1, subsets, outlier detection, circuit breaking.

mod exchange;
mod gateways;
mod hold;
mod mesh;
mod podinfo;
mod pods;
mod programs;
mod proxy;
mod routes;
mod telemetry;
mod watch;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use gateways::run as gateway_controller;
pub use hold::{Hold, Part};
pub use mesh::RetryMode;
pub use programs::{PodContext, Programs};
pub use telemetry::{FailedAttempt, Failure, RequestCounts};

use super::load::Loads;
use super::metrics::{self, SAMPLE_STEP, SharedStore};
use hold::Holds;
use mesh::Mesh;
use pods::Pods;
use proxy::{Listener, Proxies};
use telemetry::Telemetry;
use watch::Propagation;

/// Any free port on loopback.
const ANY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// How traffic works.
#[derive(Debug, Clone)]
pub struct TrafficOptions {
    /// Where the ingress listens.
    pub ingress: SocketAddr,
    /// Where the forward proxy listens.
    pub proxy: SocketAddr,
    /// Where metrics are queried and scraped.
    pub metrics: SocketAddr,
    /// The namespace in which the forward proxy's clients are: `http://podinfo` is a Service there.
    pub namespace: String,
    /// Longest time until the mesh takes up a changed route or endpoint.
    pub propagation_max: Duration,
    /// Seed of every choice: weights, endpoints, delays.
    pub seed: u64,
    /// Whether the routes' retries are obeyed.
    pub retries: RetryMode,
    /// Divides the duration of `hey -z` in load tester pods.
    pub speed: NonZeroU32,
    /// Time between two samples of the metrics.
    pub sample_step: Duration,
    /// What pods run instead of podinfo, by image.
    pub programs: Programs,
    /// Where pods with a capacity say how busy they are.
    pub loads: Loads,
}

impl Default for TrafficOptions {
    fn default() -> Self {
        Self {
            ingress: ANY,
            proxy: ANY,
            metrics: ANY,
            namespace: "test".to_owned(),
            propagation_max: Duration::ZERO,
            seed: 0,
            retries: RetryMode::Obeyed,
            speed: NonZeroU32::MIN,
            sample_step: SAMPLE_STEP,
            programs: Programs::default(),
            loads: Loads::default(),
        }
    }
}

/// Why traffic cannot start.
#[derive(Debug, thiserror::Error)]
pub enum TrafficError {
    /// A port is taken.
    #[error("cannot listen on {address} for the {purpose}")]
    Listen {
        /// What would have listened.
        purpose: &'static str,
        /// Where.
        address: SocketAddr,
        /// The cause.
        source: std::io::Error,
    },
}

/// Running traffic; it ends with the token given to [`start`].
#[derive(Debug, Clone)]
pub struct Traffic {
    /// The ingress gateway.
    pub ingress_url: String,
    /// Where it listens, to be [registered](Self::register) as what is behind `istio-ingressgateway.istio-system`.
    pub ingress_address: SocketAddr,
    /// The forward proxy, for `http_proxy`.
    pub proxy_url: String,
    /// Prometheus' HTTP API.
    pub metrics_url: String,
    /// Where that API listens, to be [registered](Self::register) as what is behind `prometheus.istio-system`.
    pub metrics_address: SocketAddr,
    /// The exposition, for a real Prometheus.
    pub scrape_url: String,
    mesh: Arc<Mesh>,
    holds: Holds,
}

impl Traffic {
    /// Puts something that is no pod behind an address, so that EndpointSlices can name it.
    pub fn register(&self, ip: IpAddr, socket: SocketAddr) {
        self.mesh.pods.register(ip, socket);
    }

    /// Keeps the mesh from learning of changes until the hold is dropped.
    pub fn hold(&self, part: Part) -> Hold {
        self.holds.hold(part)
    }

    /// Attempts to reach pods so far.
    pub fn counts(&self) -> RequestCounts {
        self.mesh.telemetry.counts()
    }
}

/// Starts pods, proxies and metrics for a cluster. Returns when everything listens; routes and pods follow as the watches
/// deliver them.
///
/// # Errors
/// When a port cannot be listened on.
pub async fn start(
    client: kube::Client,
    options: TrafficOptions,
    shutdown: CancellationToken,
) -> Result<Traffic, TrafficError> {
    let TrafficOptions {
        ingress,
        proxy,
        metrics,
        namespace,
        propagation_max,
        seed,
        retries,
        speed,
        sample_step,
        programs,
        loads,
    } = options;
    let store = SharedStore::default();
    let mesh = Arc::new(Mesh {
        routes: RwLock::default(),
        pods: Pods::new(programs, loads, speed, shutdown.clone()),
        telemetry: Telemetry::new(store.clone()),
        random: Mutex::new(fastrand::Rng::with_seed(seed)),
        retries,
    });

    let (ingress_listener, ingress) = listen("ingress", ingress).await?;
    tokio::spawn(proxy::serve(ingress_listener, Listener::Ingress, Arc::clone(&mesh), shutdown.clone()));
    let mut proxies = Proxies::new(Arc::clone(&mesh), shutdown.clone());
    let proxy_url = proxies.open(&namespace, proxy).await.map_err(|source| TrafficError::Listen {
        purpose: "forward proxy",
        address: proxy,
        source,
    })?;
    let (metrics_listener, metrics_address) = listen("metrics", metrics).await?;
    let router = metrics::http::api(store.clone()).merge(metrics::http::exposition(store.clone()));
    let stop = shutdown.clone().cancelled_owned();
    tokio::spawn(async move {
        if let Err(error) = axum::serve(metrics_listener, router).with_graceful_shutdown(stop).await {
            tracing::error!(%error, "the metrics server failed");
        }
    });
    tokio::spawn(metrics::run_sampler(store, sample_step, shutdown.clone()));

    let holds = Holds::default();
    watch::routes(&client, &mesh, Propagation { max: propagation_max, seed }, &holds, &shutdown);
    tokio::spawn(gateways::run(client.clone(), shutdown.clone()));
    let pods = watch::pods(client, Arc::clone(&mesh), proxies);
    tokio::spawn(async move { shutdown.run_until_cancelled(pods).await });

    Ok(Traffic {
        ingress_url: format!("http://{ingress}"),
        ingress_address: ingress,
        proxy_url,
        metrics_url: format!("http://{metrics_address}"),
        metrics_address,
        scrape_url: format!("http://{metrics_address}/metrics"),
        mesh,
        holds,
    })
}

async fn listen(purpose: &'static str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), TrafficError> {
    let failed = |source| TrafficError::Listen { purpose, address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}
