//! The world behind `serin demo` and `serin sandbox`, put together: API server, controllers, traffic, Git repository.
//!
//! Everything lives in one folder: `repo.git`, `kubeconfig`, `serin.yaml`, `logs/`, `state/`.

mod folder;
mod setup;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::api::ListParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, ResourceExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::apiserver::ApiServer;
use super::controllers::{self, ControllerOptions, Heartbeat, Parts};
use super::crds::CrdError;
use super::repository::{Repository, RepositoryError};
use super::traffic::{self, Traffic, TrafficError, TrafficOptions};
use folder::Held;
pub use folder::{FolderError, mark};

/// Nodes named when there are others.
const NODES_TOLD_MAX: u32 = 3;

/// How long the parts may take to stop: they only have to notice.
const STOP_MAX: Duration = Duration::from_secs(5);

/// Name of the cluster in the settings that are written for the daemon.
const CLUSTER_NAME: &str = "sandbox";

/// Where the metrics of the built-in checks are, as in a mesh's own installation.
const METRICS_ADDRESS: &str = "http://prometheus.istio-system:9090";

/// Which cluster the world is built on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClusterChoice {
    /// The embedded API server with its controllers, on a port of loopback (0: any).
    Embedded {
        /// Port of the API server.
        port: u16,
    },
    /// A control plane without nodes.
    Attached {
        /// Its kubeconfig.
        kubeconfig: PathBuf,
        /// Which of our controllers it needs.
        parts: Parts,
    },
}

/// How the world is.
#[derive(Debug, Clone)]
pub struct SandboxOptions {
    /// Folder that everything is kept in.
    pub dir: PathBuf,
    /// Which cluster.
    pub cluster: ClusterChoice,
    /// Divides analysis interval, query windows, progress deadline and load test duration in the daemon's settings.
    pub speed: f64,
    /// From a pod's creation to its being ready.
    pub readiness_delay: Duration,
    /// Longest a deleted pod lingers.
    pub max_grace: Duration,
    /// How requests travel; its `speed` follows from the one above.
    pub traffic: TrafficOptions,
    /// A Prometheus that scrapes the sandbox and answers as `prometheus.istio-system`, instead of the sandbox itself.
    pub prometheus: Option<SocketAddr>,
    /// Argo Rollouts' definition is there, and the daemon leads Rollouts.
    pub rollouts: bool,
}

impl Default for SandboxOptions {
    fn default() -> Self {
        let ControllerOptions {
            readiness_delay,
            max_grace,
            parts: _,
            autoscaler_delay: _,
            clock: _,
            heartbeat: _,
            speed: _,
            loads: _,
        } = ControllerOptions::default();
        Self {
            dir: PathBuf::from("serin-sandbox"),
            cluster: ClusterChoice::Embedded { port: 0 },
            speed: 1.0,
            readiness_delay,
            max_grace,
            traffic: TrafficOptions::default(),
            prometheus: None,
            rollouts: false,
        }
    }
}

/// Why the world could not be put together.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The folder is somebody else's, or in use.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The control plane to attach to has nodes of its own.
    #[error("the control plane has nodes already: {}", names.join(", "))]
    OtherNodes {
        /// Some of them.
        names: Vec<String>,
    },
    /// The nodes of the control plane to attach to cannot be listed.
    #[error("failed to list the control plane's nodes")]
    Nodes(#[source] kube::Error),
    /// A folder or file of the world.
    #[error("failed to write {}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The API server's port.
    #[error("failed to listen on {address} for the API server")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The repository.
    #[error("failed to make the sandbox's repository")]
    Repository(#[from] RepositoryError),
    /// The kubeconfig to attach with is not there.
    #[error("failed to read the kubeconfig {path}")]
    NoKubeconfig {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The kubeconfig to attach with.
    #[error("failed to read kubeconfig {}", path.display())]
    Kubeconfig {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: kube::config::KubeconfigError,
    },
    /// The client of the control plane to attach to.
    #[error("failed to build a client for the control plane")]
    Client(#[source] kube::Error),
    /// A port of the traffic.
    #[error("failed to start traffic")]
    Traffic(#[from] TrafficError),
    /// A built-in definition.
    #[error("failed to read the definitions of routes")]
    Definitions(#[from] CrdError),
    /// An object that the world consists of.
    #[error("failed to create {object} in the cluster")]
    Object {
        /// Which.
        object: String,
        /// What the API server says.
        #[source]
        source: kube::Error,
    },
    /// A kind that does not get served.
    #[error("the API server did not serve {object} within {} s", after.as_secs())]
    NotServed {
        /// The definition.
        object: String,
        /// How long was waited.
        after: Duration,
    },
}

/// A running world. Dropping it stops everything without waiting; [`Sandbox::shutdown`] waits.
pub struct Sandbox {
    dir: PathBuf,
    _held: Held,
    kubeconfig: PathBuf,
    repository: Repository,
    api: Option<ApiServer>,
    client: Client,
    traffic: Traffic,
    rollouts: bool,
    shutdown: CancellationToken,
    tasks: JoinSet<()>,
}

impl Sandbox {
    /// Starts everything and waits until it is usable.
    ///
    /// # Errors
    /// When a part cannot be started; parts already started are stopped.
    pub async fn start(options: SandboxOptions) -> Result<Self, SandboxError> {
        let SandboxOptions { dir, cluster, speed, readiness_delay, max_grace, traffic, prometheus, rollouts } =
            options;
        let held = folder::take(&dir)?;
        let dir = prepare(&dir)?;
        let repository = Repository::open_or_init(&dir.join("repo.git"))?;
        let shutdown = CancellationToken::new();
        // Until the world is complete, an error on the way stops what runs already.
        let stop_on_error = shutdown.clone().drop_guard();
        let mut tasks = JoinSet::new();
        let (api, client, kubeconfig, parts, heartbeat) = match cluster {
            ClusterChoice::Embedded { port } => {
                let (api, kubeconfig) = serve(&dir, port, &mut tasks, &shutdown).await?;
                let client = api.client();
                (Some(api), client, kubeconfig, Parts::All, Heartbeat::Once)
            }
            ClusterChoice::Attached { kubeconfig, parts } => {
                let (client, kubeconfig) = attach(&kubeconfig).await?;
                (None, client, kubeconfig, parts, Heartbeat::Renewed)
            }
        };
        let options = ControllerOptions {
            parts,
            readiness_delay,
            max_grace,
            heartbeat,
            speed,
            loads: traffic.loads.clone(),
            ..ControllerOptions::default()
        };
        tasks.spawn(controllers::run(client.clone(), options, shutdown.clone()));
        setup::install(&client, rollouts).await?;
        // After the routes' kinds are served, or its watches would have to wait for them.
        let traffic = TrafficOptions { speed: whole(speed), ..traffic };
        let traffic = traffic::start(client.clone(), traffic, shutdown.clone()).await?;
        let prometheus = prometheus.unwrap_or(traffic.metrics_address);
        traffic.register(IpAddr::V4(setup::PROMETHEUS_ADDRESS), prometheus);
        traffic.register(IpAddr::V4(setup::INGRESS_ADDRESS), traffic.ingress_address);
        stop_on_error.disarm();
        let sandbox =
            Self { dir, _held: held, kubeconfig, repository, api, client, traffic, rollouts, shutdown, tasks };
        let settings = sandbox.dir.join("serin.yaml");
        write(&settings, &sandbox.serin_yaml(speed))?;
        Ok(sandbox)
    }

    /// The folder that everything is in.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Kubeconfig of the cluster.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The bare repository that is released from.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The embedded API server; `None` when attached to another control plane.
    pub fn api(&self) -> Option<&ApiServer> {
        self.api.as_ref()
    }

    /// A client of the cluster; in-process for the embedded one.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Requests to it go where the cluster's Gateways and routes say.
    pub fn ingress_url(&self) -> &str {
        &self.traffic.ingress_url
    }

    /// Forward proxy for which the cluster's service names mean something.
    pub fn proxy_url(&self) -> &str {
        &self.traffic.proxy_url
    }

    /// Prometheus' query API.
    pub fn metrics_url(&self) -> &str {
        &self.traffic.metrics_url
    }

    /// Traffic, for its counts and for what is no pod.
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// Settings with which `serin run` releases from the repository into the cluster.
    pub fn serin_yaml(&self, speed: f64) -> String {
        let path = |path: &Path| path.display().to_string();
        let settings = serde_json::json!({
            "cluster": {"name": CLUSTER_NAME},
            "kubeconfig": path(&self.kubeconfig),
            "git": {"url": path(self.repository.path())},
            "metrics": {"address": METRICS_ADDRESS},
            // Any free port: several worlds may run at a time.
            "http": {"listen": "127.0.0.1:0", "proxy": self.proxy_url()},
            // The sandbox's proxy takes routes up at once, so a fast demonstration need not wait Envoy's time.
            "drain": if speed > 1.0 { "1s" } else { "5s" },
            "stateDir": path(&self.dir.join("state")),
            "speed": speed,
            "rollouts": self.rollouts,
        });
        // JSON is YAML, and a map of strings and numbers always serialises.
        serde_yaml::to_string(&settings).unwrap_or_else(|_| settings.to_string())
    }

    /// Stops everything and waits for it.
    pub async fn shutdown(mut self) {
        self.shutdown.cancel();
        let stopped = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_MAX, stopped).await.is_err() {
            tracing::warn!("parts of the sandbox did not stop within {} s", STOP_MAX.as_secs());
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// The nearest whole number, at least 1: load tests are divided by whole numbers.
fn whole(speed: f64) -> NonZeroU32 {
    // Saturates, and what is no number becomes 0.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "float to int saturates")]
    let rounded = speed.round() as u32;
    NonZeroU32::new(rounded).unwrap_or(NonZeroU32::MIN)
}

/// Makes the folders and answers the absolute path.
fn prepare(dir: &Path) -> Result<PathBuf, SandboxError> {
    for folder in ["logs", "state"] {
        let path = dir.join(folder);
        std::fs::create_dir_all(&path).map_err(|source| SandboxError::Write { path, source })?;
    }
    dir.canonicalize().map_err(|source| SandboxError::Write { path: dir.to_owned(), source })
}

async fn serve(
    dir: &Path,
    port: u16,
    tasks: &mut JoinSet<()>,
    shutdown: &CancellationToken,
) -> Result<(ApiServer, PathBuf), SandboxError> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listen = |source| SandboxError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(listen)?;
    let url = format!("http://{}", listener.local_addr().map_err(listen)?);
    let api = ApiServer::new();
    let (server, stop) = (api.clone(), shutdown.clone());
    tasks.spawn(async move {
        if let Err(error) = server.serve(listener, stop).await {
            tracing::error!(error = &error as &dyn std::error::Error, "the sandbox's API server stopped");
        }
    });
    let kubeconfig = dir.join("kubeconfig");
    write(&kubeconfig, &ApiServer::kubeconfig(&url))?;
    Ok((api, kubeconfig))
}

async fn attach(path: &Path) -> Result<(Client, PathBuf), SandboxError> {
    let unreadable = |source| SandboxError::Kubeconfig { path: path.to_owned(), source };
    let absolute =
        path.canonicalize().map_err(|source| SandboxError::NoKubeconfig { path: path.to_owned(), source })?;
    let kubeconfig = Kubeconfig::read_from(&absolute).map_err(unreadable)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    let client = Client::try_from(config.map_err(unreadable)?).map_err(SandboxError::Client)?;
    refuse_other_nodes(&client).await?;
    Ok((client, absolute))
}

/// A made-up node beside real ones would take real pods, so the sandbox is the only node of a control plane or none.
async fn refuse_other_nodes(client: &Client) -> Result<(), SandboxError> {
    let params = ListParams::default().limit(NODES_TOLD_MAX);
    let nodes = Api::<Node>::all(client.clone()).list_metadata(&params).await.map_err(SandboxError::Nodes)?;
    let names: Vec<String> =
        nodes.items.iter().map(ResourceExt::name_any).filter(|name| name != controllers::NODE).collect();
    if names.is_empty() { Ok(()) } else { Err(SandboxError::OtherNodes { names }) }
}

fn write(path: &Path, text: &str) -> Result<(), SandboxError> {
    std::fs::write(path, text).map_err(|source| SandboxError::Write { path: path.to_owned(), source })
}
