//! The listeners: the ingress, and a forward HTTP proxy for each namespace that has clients.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::body::Body;
use http::{Method, Request, Response, StatusCode, Uri, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use k8s_openapi::ByteString;
use tokio::net::{TcpListener, TcpStream, lookup_host};
use tokio_util::sync::CancellationToken;

use super::exchange::{drop_hop_by_hop, exchange};
use super::mesh::{Mesh, local};
use super::pods::Target;
use super::routes::{Endpoint, Entry, split_authority};

/// What a listener is for.
#[derive(Debug, Clone)]
pub(super) enum Listener {
    /// Requests from outside, by Gateways.
    Ingress,
    /// Requests of clients in a namespace, by name.
    Forward { namespace: Arc<str> },
}

/// Takes connections until shutdown.
pub(super) async fn serve(listener: TcpListener, kind: Listener, mesh: Arc<Mesh>, shutdown: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = connection(stream, kind.clone(), Arc::clone(&mesh), shutdown.clone());
                tokio::spawn(connection);
            }
            // Only this connection is lost, except when descriptors run out; then others have to end first.
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::task::yield_now().await;
            }
        }
    }
}

async fn connection(stream: TcpStream, kind: Listener, mesh: Arc<Mesh>, shutdown: CancellationToken) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let service = service_fn(|request| answer(&kind, &mesh, request));
    let serving = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::pin!(serving);
    let result = tokio::select! {
        result = &mut serving => result,
        () = shutdown.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a client's connection ended early");
    }
}

async fn answer(
    kind: &Listener,
    mesh: &Arc<Mesh>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let request = request.map(Body::new);
    Ok(match kind {
        Listener::Ingress => ingress(mesh, request).await,
        Listener::Forward { namespace } => forward(mesh, namespace, request).await,
    })
}

async fn ingress(mesh: &Arc<Mesh>, request: Request<Body>) -> Response<Body> {
    let named = request.uri().authority().map(|authority| authority.as_str().to_owned());
    let host = || request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).map(str::to_owned);
    match named.or_else(host) {
        Some(authority) => mesh.forward(Entry::Ingress, &authority, request).await,
        None => local(StatusCode::BAD_REQUEST, "the request names no host"),
    }
}

async fn forward(mesh: &Arc<Mesh>, namespace: &str, request: Request<Body>) -> Response<Body> {
    if request.method() == Method::CONNECT {
        return local(
            StatusCode::NOT_IMPLEMENTED,
            "the sandbox's proxy does not tunnel (CONNECT): use http://, or no_proxy for other hosts",
        );
    }
    let Some(authority) = request.uri().authority().map(|authority| authority.as_str().to_owned()) else {
        return local(
            StatusCode::BAD_REQUEST,
            "this is a forward proxy: set it as http_proxy and ask for http://<service>.<namespace>:<port>/",
        );
    };
    let (host, port) = split_authority(&authority);
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    match address {
        Ok(ip) => by_address(mesh, ip, port, request).await,
        Err(_) if host == "localhost" => loopback(port, request).await,
        Err(_) => {
            let labels = asking(&request).and_then(|ip| mesh.pods.labels(&ip));
            let entry = Entry::Mesh { namespace, labels: labels.as_deref() };
            mesh.forward(entry, &authority, request).await
        }
    }
}

/// The address of the pod that asks: pods are given the proxy with their address as the user's name.
fn asking(request: &Request<Body>) -> Option<String> {
    let credentials = request.headers().get(header::PROXY_AUTHORIZATION)?.to_str().ok()?;
    // Kubernetes' own type for bytes in JSON, which is Base64.
    let pair: ByteString = serde_json::from_value(credentials.strip_prefix("Basic ")?.into()).ok()?;
    let pair = String::from_utf8(pair.0).ok()?;
    Some(pair.split(':').next().unwrap_or_default().to_owned())
}

/// An address: a pod's, a registered one, or one of the machine's network.
async fn by_address(mesh: &Mesh, ip: IpAddr, port: u16, request: Request<Body>) -> Response<Body> {
    let endpoint = Endpoint { ip: ip.to_string(), port };
    match mesh.pods.target(&endpoint) {
        Target::Nothing => pass(SocketAddr::new(ip, port), request).await,
        Target::Pod { .. } | Target::Registered(_) | Target::Closed(_) => {
            match mesh.direct(&endpoint, origin_form(request)).await {
                Ok(response) => response,
                Err(reason) => local(StatusCode::BAD_GATEWAY, &format!("cannot reach {ip}:{port}: {reason}")),
            }
        }
    }
}

async fn loopback(port: u16, request: Request<Body>) -> Response<Body> {
    match lookup_host(("localhost", port)).await.map(|mut found| found.next()) {
        Ok(Some(socket)) => pass(socket, request).await,
        Ok(None) => pass(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), request).await,
        Err(error) => local(StatusCode::BAD_GATEWAY, &format!("cannot resolve localhost: {error}")),
    }
}

/// Passes a request on as it is, its answer as it comes.
async fn pass(socket: SocketAddr, request: Request<Body>) -> Response<Body> {
    match exchange(socket, origin_form(request)).await {
        Ok(response) => response.map(Body::new),
        Err(error) => local(StatusCode::BAD_GATEWAY, &format!("cannot reach {socket}: {error}")),
    }
}

/// The request as a server expects it: the path in the URI, the host in a header.
fn origin_form(mut request: Request<Body>) -> Request<Body> {
    drop_hop_by_hop(request.headers_mut());
    let uri = std::mem::take(request.uri_mut());
    let parts = uri.into_parts();
    if let Some(host) = parts.authority.as_ref().and_then(|host| host.as_str().parse().ok()) {
        request.headers_mut().insert(header::HOST, host);
    }
    *request.uri_mut() = parts.path_and_query.map(Uri::from).unwrap_or_default();
    request
}

/// The forward proxies by namespace; each has a listener, because a client's address does not tell its namespace.
#[derive(Debug)]
pub(super) struct Proxies {
    mesh: Arc<Mesh>,
    urls: HashMap<String, String>,
    shutdown: CancellationToken,
}

impl Proxies {
    pub(super) fn new(mesh: Arc<Mesh>, shutdown: CancellationToken) -> Self {
        Self { mesh, urls: HashMap::new(), shutdown }
    }

    /// Listens for the clients of a namespace, unless that is already done; the proxy's URL.
    pub(super) async fn open(&mut self, namespace: &str, address: SocketAddr) -> std::io::Result<String> {
        if let Some(url) = self.urls.get(namespace) {
            return Ok(url.clone());
        }
        let listener = TcpListener::bind(address).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let kind = Listener::Forward { namespace: namespace.into() };
        tokio::spawn(serve(listener, kind, Arc::clone(&self.mesh), self.shutdown.clone()));
        self.urls.insert(namespace.to_owned(), url.clone());
        Ok(url)
    }
}
