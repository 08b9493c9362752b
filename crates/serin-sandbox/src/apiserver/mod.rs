//! The embedded Kubernetes API server: a `tower::Service`; the socket is a wrapper.
//!
//! It behaves as a real API server does for the kinds and verbs that releases use, so that reflectors, controllers and
//! kubectl work against it, in-process (also under paused time) or over HTTP on loopback:
//!
//! - [`store`] holds objects and history; watches read history ([`watch`]).
//! - [`kinds`] says what is served; [`schema`] is one view on Kubernetes' types and on the schemas of
//!   CustomResourceDefinitions, from which pruning, defaulting, validation, merging and OpenAPI follow.
//! - [`handlers`] answers requests; [`mod@write`] is the one path of every write: decode, prepare, own, validate, commit.
//! - [`patch`] and [`fields`] merge and tell who owns what.
//!
//! What it does not do gets a clear answer: CEL rules, answers in protobuf, webhooks, conversion webhooks, exec and logs. RBAC holds for whoever asks
//! as somebody else (`--as`); everybody else is the administrator.

mod body;
mod call;
mod convert;
mod default;
mod defaults;
mod definitions;
mod discovery;
mod fields;
mod handlers;
mod json;
mod kinds;
mod lint;
mod managed;
mod openapi;
mod patch;
mod protobuf;
mod prune;
mod quantity;
mod represent;
mod request;
mod requests;
mod schema;
mod selector;
mod status;
mod store;
mod strategy;
mod table;
mod validate;
mod watch;
mod write;

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use lint::{Fault, Written, lint};
pub use requests::{RequestCounts, RequestKey, RequestLog};

use kinds::{Catalog, DEFINITIONS};
use store::Store;

/// Body of an answer.
type Body = UnsyncBoxBody<Bytes, Infallible>;

/// The server could not take connections.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The listener failed.
    #[error("failed to accept a connection for the API server")]
    Accept(#[source] std::io::Error),
}

/// The embedded API server; a handle, cheap to clone.
#[derive(Clone)]
pub struct ApiServer {
    server: Arc<Server>,
}

/// Everything a server held at one moment: objects with their uids, versions and history.
#[derive(Clone)]
pub struct Backup {
    store: Arc<Store>,
}

impl Backup {
    /// Another server that begins with this; no one is connected to it. What is written to one is not seen by others.
    pub fn restore(&self) -> ApiServer {
        let server = Arc::new(Server {
            store: self.store.fork(),
            catalog: RwLock::new(Arc::new(Catalog::new([]))),
            requests: RequestLog::default(),
        });
        server.refresh_catalog();
        ApiServer { server }
    }

    /// The resourceVersion of the newest change of anything.
    pub fn version(&self) -> u64 {
        self.store.version()
    }
}

/// State of the server.
struct Server {
    store: Store,
    catalog: RwLock<Arc<Catalog>>,
    requests: RequestLog,
}

impl Server {
    fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.catalog.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Serves what the stored definitions say.
    fn refresh_catalog(&self) {
        // The lock is taken first, so that of two concurrent refreshes the later one reads the later definitions.
        let mut catalog = self.catalog.write().unwrap_or_else(PoisonError::into_inner);
        let definitions = self.store.list(DEFINITIONS, None).objects;
        *catalog = Arc::new(Catalog::new(definitions.iter().map(|(_, definition)| definition.as_ref())));
    }
}

impl Default for ApiServer {
    fn default() -> Self {
        Self::new()
    }
}

impl ApiServer {
    /// A server with the built-in kinds and the namespaces that every cluster has.
    pub fn new() -> Self {
        let server = Arc::new(Server {
            store: Store::default(),
            catalog: RwLock::new(Arc::new(Catalog::new([]))),
            requests: RequestLog::default(),
        });
        handlers::create_initial_objects(&server);
        Self { server }
    }

    /// What it holds at this moment.
    pub fn backup(&self) -> Backup {
        Backup { store: Arc::new(self.server.store.fork()) }
    }

    /// The resourceVersion of the newest change of anything.
    pub fn version(&self) -> u64 {
        self.server.store.version()
    }

    /// A client that calls the server in-process, without a socket. Needs a tokio runtime.
    pub fn client(&self) -> kube::Client {
        kube::Client::new(self.clone(), "default")
    }

    /// As [`Self::client`], with a User-Agent by which [`Self::requests`] tells its requests apart.
    pub fn client_as(&self, user_agent: &str) -> kube::Client {
        let agent = http::HeaderValue::from_str(user_agent).ok();
        let named = tower::util::MapRequest::new(self.clone(), move |mut request: Request<kube::client::Body>| {
            if let Some(agent) = &agent {
                request.headers_mut().insert(http::header::USER_AGENT, agent.clone());
            }
            request
        });
        kube::Client::new(named, "default")
    }

    /// Serves HTTP until `shutdown`, then closes all connections.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn serve(&self, listener: TcpListener, shutdown: CancellationToken) -> Result<(), ServeError> {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = listener.accept() => {
                    let (stream, _peer) = accepted.map_err(ServeError::Accept)?;
                    let service = TowerToHyperService::new(self.clone());
                    connections.spawn(async move {
                        let builder = http1::Builder::new();
                        let connection = builder.serve_connection(TokioIo::new(stream), service);
                        if let Err(error) = connection.await {
                            // A client that goes away in mid-watch is its own business.
                            tracing::debug!(%error, "API connection ended");
                        }
                    });
                }
                // Finished connections are reaped as they end.
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
            }
        }
        // Watches never end by themselves.
        connections.shutdown().await;
        Ok(())
    }

    /// A kubeconfig for a server at `url`.
    pub fn kubeconfig(url: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\nclusters:\n- name: serin-sandbox\n  cluster:\n    server: {url}\n\
             users:\n- name: serin-sandbox\n  user: {{}}\n\
             contexts:\n- name: serin-sandbox\n  context:\n    cluster: serin-sandbox\n    user: serin-sandbox\n\
             \x20   namespace: default\ncurrent-context: serin-sandbox\n"
        )
    }

    /// Counts of the requests so far.
    pub fn requests(&self) -> RequestLog {
        self.server.requests.clone()
    }
}

impl<B> tower::Service<Request<B>> for ApiServer
where
    B: http_body_util::BodyExt<Data = Bytes> + Send + 'static,
    B::Error: std::fmt::Display,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let server = Arc::clone(&self.server);
        Box::pin(async move { Ok(handlers::answer(&server, request).await) })
    }
}
