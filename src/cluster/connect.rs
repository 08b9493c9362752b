//! The connection to one cluster.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderValue, USER_AGENT};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::DynamicObject;
use kube::config::{InferConfigError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Api, Client, Config};
use tokio::sync::OnceCell;

use super::clock::{Clock, ServerTime};
use super::discovery::{Discovery, ResolveError, Resolved};
use super::explain::is_not_found;
use super::transport;

/// Longest time one read may take: beyond it an API server is as good as down, and the loop must not hang on it.
/// (kube sets no read timeout of its own.)
pub const CALL_TIMEOUT: Duration = Duration::from_secs(15);

/// Where the cluster is.
#[derive(Debug, Clone, Default)]
pub struct ConnectOptions {
    /// A kubeconfig file; without one `KUBECONFIG`, `~/.kube/config` and the pod's service account are tried in that order.
    pub kubeconfig: Option<PathBuf>,
    /// A context of the kubeconfig; its current one when absent.
    pub context: Option<String>,
}

/// No connection could be prepared.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The named file is not there, or not for us.
    #[error("failed to read the kubeconfig {path}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The named file is no kubeconfig.
    #[error("failed to read the kubeconfig {path}")]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<kube::config::KubeconfigError>,
    },
    /// The named context.
    #[error("failed to use the kubeconfig context `{context}`")]
    Context {
        /// Its name, or `(current)`.
        context: String,
        /// Why.
        #[source]
        source: Box<kube::config::KubeconfigError>,
    },
    /// The named context is none of the kubeconfig's.
    #[error("the kubeconfig has no context `{0}`")]
    NoContext(String),
    /// The environment names a file that is not there.
    #[error("$KUBECONFIG names {0}, which is not there")]
    Variable(PathBuf),
    /// No context is named anywhere.
    #[error(
        "the kubeconfig has no current context; name one with --context, or `kubectl config use-context NAME`"
    )]
    NoCurrentContext,
    /// Nothing was named and nothing was found.
    #[error("found no cluster: there is no kubeconfig and no pod's service account")]
    Nowhere,
    /// Nothing was named and what was found cannot be used.
    #[error("found no cluster")]
    Infer(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// TLS or authentication set-up.
    #[error("failed to prepare the connection to the cluster")]
    Client(#[source] Box<kube::Error>),
}

/// A read that failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No answer in time.
    #[error("no answer from the API server within {} s while trying to {what}", CALL_TIMEOUT.as_secs())]
    TimedOut {
        /// What was tried.
        what: String,
    },
    /// The API server's or the connection's answer.
    #[error("failed to {what}")]
    Api {
        /// What was tried.
        what: String,
        /// Why it failed.
        #[source]
        source: Box<kube::Error>,
    },
}

impl CallError {
    /// Whether the object does not exist.
    pub fn is_not_found(&self) -> bool {
        self.status().is_some_and(is_not_found)
    }

    /// Whether somebody else was faster.
    pub fn is_conflict(&self) -> bool {
        self.status().is_some_and(kube::core::Status::is_conflict)
    }

    /// Whether the object was there before.
    pub fn is_already_exists(&self) -> bool {
        self.status().is_some_and(kube::core::Status::is_already_exists)
    }

    /// The API server's answer, if it answered.
    pub fn status(&self) -> Option<&kube::core::Status> {
        match self {
            Self::Api { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => Some(status),
                _ => None,
            },
            Self::TimedOut { .. } => None,
        }
    }
}

/// A read with a deadline; `what` completes "failed to …".
///
/// # Errors
/// When the call fails or takes longer than [`CALL_TIMEOUT`].
pub async fn call<T>(what: &str, future: impl Future<Output = kube::Result<T>>) -> Result<T, CallError> {
    match tokio::time::timeout(CALL_TIMEOUT, future).await {
        Err(_elapsed) => Err(CallError::TimedOut { what: what.to_owned() }),
        Ok(Err(source)) => Err(CallError::Api { what: what.to_owned(), source: Box::new(source) }),
        Ok(Ok(value)) => Ok(value),
    }
}

/// One cluster: a client, what it serves, who it is. Cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    /// Its address; empty when the client is in this process.
    server: Arc<str>,
    discovery: Arc<Discovery>,
    uid: Arc<OnceCell<String>>,
    time: Arc<ServerTime>,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("uid", &self.uid.get()).finish_non_exhaustive()
    }
}

impl Cluster {
    /// Prepares a connection; nothing is sent yet.
    ///
    /// # Errors
    /// When there is no usable configuration.
    pub async fn connect(options: &ConnectOptions) -> Result<Self, ClusterError> {
        let mut config = config_of(options).await?;
        if config.accept_invalid_certs {
            // kube says so at every connection.
            tracing::warn!(
                "the API server's certificate is not checked: the kubeconfig says insecure-skip-tls-verify"
            );
        }
        let agent = HeaderValue::from_static(concat!("serin/", env!("CARGO_PKG_VERSION")));
        config.headers.push((USER_AGENT, agent));
        let server = config.cluster_url.to_string();
        let client = Client::try_from(config).map_err(|source| ClusterError::Client(Box::new(source)))?;
        Ok(Self { server: server.trim_end_matches('/').into(), ..Self::from_client(client) })
    }

    /// Uses a client that exists already, e.g. one over an in-process service.
    pub fn from_client(client: Client) -> Self {
        let time = Arc::<ServerTime>::default();
        let client = transport::passing(client, time.clone());
        Self { client, server: Arc::default(), discovery: Arc::default(), uid: Arc::default(), time }
    }

    /// The client.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The API server's clock.
    pub fn clock(&self) -> Clock {
        Clock::Server(self.time.clone())
    }

    /// Its address, for messages; empty when the client is in this process.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The UID of the namespace kube-system, which is as good as the cluster's own; asked once.
    ///
    /// # Errors
    /// When the API server cannot be asked or gives none.
    pub async fn uid(&self) -> Result<&str, CallError> {
        let api = Api::<Namespace>::all(self.client());
        let uid = self
            .uid
            .get_or_try_init(|| async {
                let namespace = call("read the namespace kube-system", api.get("kube-system")).await?;
                Ok::<_, CallError>(namespace.metadata.uid.unwrap_or_default())
            })
            .await?;
        Ok(uid)
    }

    /// What the API server serves as this kind in this version: from the cache, or asked again when it is unknown.
    ///
    /// # Errors
    /// When it is not served (with what is served instead) or the API server cannot be asked.
    pub async fn resolve(&self, group: &str, version: &str, kind: &str) -> Result<Resolved, ResolveError> {
        self.discovery.resolve(&self.client, group, version, kind).await
    }

    /// Forgets what is served, e.g. after a CRD has been applied.
    pub fn forget_discovery(&self) {
        self.discovery.forget();
    }

    /// Access to objects of a resolved kind; `namespace` is ignored for cluster-scoped kinds.
    pub fn objects(&self, resolved: &Resolved, namespace: Option<&str>) -> Api<DynamicObject> {
        match namespace {
            Some(namespace) if resolved.namespaced => {
                Api::namespaced_with(self.client(), namespace, &resolved.resource)
            }
            Some(_) | None => Api::all_with(self.client(), &resolved.resource),
        }
    }
}

async fn config_of(options: &ConnectOptions) -> Result<Config, ClusterError> {
    let ConnectOptions { kubeconfig, context } = options;
    let named = KubeConfigOptions { context: context.clone(), ..KubeConfigOptions::default() };
    let in_context = |source| match source {
        KubeconfigError::LoadContext(missing) => ClusterError::NoContext(missing),
        KubeconfigError::CurrentContextNotSet => ClusterError::NoCurrentContext,
        source => ClusterError::Context {
            context: context.clone().unwrap_or_else(|| "(current)".to_owned()),
            source: Box::new(source),
        },
    };
    match (kubeconfig, context) {
        (Some(path), _) => {
            // kube's own words would name the path once more.
            std::fs::File::open(path).map_err(|source| ClusterError::Unreadable { path: path.clone(), source })?;
            let file = Kubeconfig::read_from(path)
                .map_err(|source| ClusterError::Kubeconfig { path: path.clone(), source: Box::new(source) })?;
            Config::from_custom_kubeconfig(file, &named).await.map_err(in_context)
        }
        (None, Some(_)) => Config::from_kubeconfig(&named).await.map_err(in_context),
        (None, None) => Config::infer().await.map_err(inferred),
    }
}

/// What is wrong with the places that were tried: the kubeconfig, if there is one.
fn inferred(error: InferConfigError) -> ClusterError {
    let cause = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<KubeconfigError>());
    match cause {
        None | Some(KubeconfigError::FindPath) => ClusterError::Nowhere,
        Some(KubeconfigError::ReadConfig(source, path)) if source.kind() == std::io::ErrorKind::NotFound => {
            match std::env::var_os("KUBECONFIG") {
                Some(named) if !named.is_empty() => ClusterError::Variable(path.clone()),
                Some(_) | None => ClusterError::Nowhere,
            }
        }
        Some(KubeconfigError::CurrentContextNotSet) => ClusterError::NoCurrentContext,
        Some(cause) => ClusterError::Infer(cause.to_string().into()),
    }
}
