//! How requests are served: with limits for whoever connects and says nothing, or too much.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// Longest wait for a request's whole head, also on a connection that is kept open between two.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest head, in bytes: a browser's with its cookies is a few thousand.
const HEAD_MAX: usize = 16 * 1024;
/// Longest wait for a request's whole body.
const BODY_TIMEOUT: Duration = Duration::from_secs(15);
/// Largest body, in bytes: webhooks carry a Canary's metadata.
const BODY_MAX: usize = 256 * 1024;
/// Connections at once. Whoever comes beyond that is served all the same: the connection that has waited longest, of
/// whoever has the most, makes room. So a flood pushes itself out and leaves the probes alone.
const CONNECTIONS_MAX: usize = 128;
/// Wait after a connection could not be accepted, e.g. for want of file descriptors.
const AFTER_FAILURE: Duration = Duration::from_millis(50);
/// Longest time that answers under way may take once the server is told to stop.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// Serves `router` until `shutdown`, then lets what is under way end.
pub async fn serve(listener: TcpListener, router: Router, shutdown: CancellationToken) {
    serve_streaming(listener, router, None, shutdown).await;
}

/// As [`serve`], but a request whose path begins with `streamed` gets its body as it comes: who answers it bounds it in bytes
/// and time, and holds none of it.
pub async fn serve_streaming(
    listener: TcpListener,
    router: Router,
    streamed: Option<&'static str>,
    shutdown: CancellationToken,
) {
    let open = Arc::new(Open::default());
    let mut tasks = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
            Some(_) = tasks.join_next() => continue,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (id, busy) = open.admit(peer.ip());
                let (router, stop, gone) = (router.clone(), shutdown.clone(), open.clone());
                let task = tasks.spawn(async move {
                    // Given back however the connection ends, also when it makes room for another.
                    let _gone = Gone { open: gone, id };
                    connection(stream, router, streamed, busy, stop).await;
                });
                open.started(id, task);
            }
            Err(error) => {
                tracing::debug!("a connection could not be accepted: {error}");
                tokio::time::sleep(AFTER_FAILURE).await;
            }
        }
    }
    let drained = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN_MAX, drained).await.is_err() {
        tracing::debug!("answers under way were cut off");
    }
}

async fn connection(
    stream: TcpStream,
    router: Router,
    streamed: Option<&'static str>,
    busy: Arc<AtomicBool>,
    stop: CancellationToken,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let (router, busy) = (router.clone(), busy.clone());
        async move {
            let answer = match streamed.filter(|prefix| request.uri().path().starts_with(prefix)) {
                // No work under way until it has proved itself: it makes room first.
                Some(_) => passed_on(router, request).await,
                None => answer(router, request, &busy).await,
            };
            busy.store(false, Ordering::Relaxed);
            Ok::<_, std::convert::Infallible>(answer)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_MAX)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!("a connection ended: {error}");
    }
}

/// The whole body is read before anybody works on it, so that a slow one is no work under way.
async fn answer(router: Router, request: Request<Incoming>, busy: &AtomicBool) -> Response<Body> {
    let (head, body) = request.into_parts();
    let body = match tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, BODY_MAX).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) => return refusal(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large, or broke off"),
        Err(_elapsed) => return refusal(StatusCode::REQUEST_TIMEOUT, "the body did not come in time"),
    };
    busy.store(true, Ordering::Relaxed);
    match router.oneshot(Request::from_parts(head, Body::from(body))).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

async fn passed_on(router: Router, request: Request<Incoming>) -> Response<Body> {
    match router.oneshot(request.map(Body::new)).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

fn refusal(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response
}

/// The connections that are open.
#[derive(Debug, Default)]
struct Open(Mutex<Connections>);

#[derive(Debug, Default)]
struct Connections {
    next: u64,
    open: HashMap<u64, Connection>,
}

#[derive(Debug)]
struct Connection {
    peer: IpAddr,
    /// A request is being answered.
    busy: Arc<AtomicBool>,
    task: Option<AbortHandle>,
}

impl Open {
    /// A new connection's number and flag; if there are too many, another makes room.
    fn admit(&self, peer: IpAddr) -> (u64, Arc<AtomicBool>) {
        let mut connections = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if connections.open.len() >= CONNECTIONS_MAX
            && let Some(surplus) = connections.surplus()
            && let Some(Connection { task: Some(task), .. }) = connections.open.remove(&surplus)
        {
            task.abort();
        }
        let (id, busy) = (connections.next, Arc::new(AtomicBool::new(false)));
        connections.next += 1;
        connections.open.insert(id, Connection { peer, busy: busy.clone(), task: None });
        (id, busy)
    }

    fn started(&self, id: u64, task: AbortHandle) {
        let mut connections = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connection) = connections.open.get_mut(&id) {
            connection.task = Some(task);
        }
    }
}

impl Connections {
    /// Of whoever has the most connections the oldest that waits, else the oldest.
    fn surplus(&self) -> Option<u64> {
        let mut counts: HashMap<IpAddr, usize> = HashMap::new();
        for connection in self.open.values() {
            *counts.entry(connection.peer).or_default() += 1;
        }
        let (peer, _) = counts.into_iter().max_by_key(|(_, count)| *count)?;
        let of_peer = self.open.iter().filter(|(_, connection)| connection.peer == peer);
        of_peer.min_by_key(|(id, connection)| (connection.busy.load(Ordering::Relaxed), **id)).map(|(id, _)| *id)
    }
}

/// Takes a connection off the list.
struct Gone {
    open: Arc<Open>,
    id: u64,
}

impl Drop for Gone {
    fn drop(&mut self) {
        self.open.0.lock().unwrap_or_else(PoisonError::into_inner).open.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::{get, post};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn server() -> (std::net::SocketAddr, tokio_util::sync::DropGuard) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, shutdown) = (listener.local_addr().unwrap(), CancellationToken::new());
        let router = Router::new()
            .route("/healthz", get(async || "ok"))
            .route("/", post(async |body: axum::body::Bytes| body.len().to_string()));
        tokio::spawn(serve(listener, router, shutdown.clone()));
        (address, shutdown.drop_guard())
    }

    async fn ask(address: std::net::SocketAddr, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok();
        answer
    }

    const HEALTHZ: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";

    #[tokio::test]
    async fn a_flood_of_unfinished_heads_leaves_the_probe_alone() {
        let (address, _guard) = server().await;
        let mut flood = Vec::new();
        for _ in 0..CONNECTIONS_MAX * 2 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nx-unfinished: ").await.unwrap();
            flood.push(stream);
        }
        for _ in 0..20 {
            assert!(ask(address, HEALTHZ).await.ends_with("ok"));
        }
        let mut cut = 0;
        for stream in &mut flood {
            let mut buffer = [0; 1];
            let ended = tokio::time::timeout(Duration::from_millis(1), stream.read(&mut buffer)).await;
            cut += usize::from(matches!(ended, Ok(Ok(0) | Err(_))));
        }
        assert!(cut >= CONNECTIONS_MAX, "only {cut} made room");
    }

    #[tokio::test]
    async fn heads_and_bodies_have_a_size() {
        let (address, _guard) = server().await;
        let long = format!("GET /healthz HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "a".repeat(HEAD_MAX * 2));
        assert!(ask(address, long.as_bytes()).await.starts_with("HTTP/1.1 431"));
        let body = "a".repeat(BODY_MAX + 1);
        let large = format!(
            "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = ask(address, large.as_bytes()).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 413"), "{answer}");
        let fits = "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 3\r\n\r\nabc";
        assert!(ask(address, fits.as_bytes()).await.ends_with("\r\n\r\n3"));
    }
}
