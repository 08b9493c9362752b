//! The mesh: takes a request along its route to a pod, with timeouts and retries, as Envoy does.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use axum::body::{Body, to_bytes};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;

use serin_core::model::NamespacedName;

use super::exchange::{ExchangeError, drop_hop_by_hop, exchange};
use super::pods::{Pods, Target};
use super::routes::{Change, Endpoint, Entry, Head, Headers, NoRoute, Retries, Route, Routes};
use super::telemetry::{Attempt, Failure, Telemetry, Workload};

/// Largest request body: it is kept for retries, as Envoy keeps one mebibyte.
const REQUEST_BYTES_MAX: usize = 1 << 20;
/// Largest answer; podinfo's are small, a metric provider's are not huge.
const RESPONSE_BYTES_MAX: usize = 16 << 20;
/// Pause before a retry: Envoy's base interval.
const RETRY_PAUSE: Duration = Duration::from_millis(25);
/// Longest wait for an answer without a timeout in the route, so that nothing hangs for ever.
const ANSWER_MAX: Duration = Duration::from_secs(15 * 60);
/// Most retries, whatever a route says.
const RETRIES_MAX: u32 = 10;

/// Whether the routes' retries are obeyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RetryMode {
    /// As the routes say.
    #[default]
    Obeyed,
    /// Never, so that every failed attempt is a failed request.
    Off,
}

/// The mesh.
#[derive(Debug)]
pub(super) struct Mesh {
    pub(super) routes: RwLock<Routes>,
    pub(super) pods: Pods,
    pub(super) telemetry: Telemetry,
    pub(super) random: Mutex<fastrand::Rng>,
    pub(super) retries: RetryMode,
}

/// What a client sent, kept for every attempt.
struct Kept {
    method: Method,
    headers: http::HeaderMap,
    body: Bytes,
}

/// The outcome of an attempt.
enum Outcome {
    Answered(Response<Bytes>),
    Failed(Failure),
}

impl Mesh {
    pub(super) fn apply(&self, change: Change) {
        self.routes.write().unwrap_or_else(PoisonError::into_inner).apply(change);
    }

    fn random(&self, below: usize) -> usize {
        self.random.lock().unwrap_or_else(PoisonError::into_inner).usize(0..below)
    }

    fn route(&self, entry: Entry<'_>, head: Head<'_>) -> Result<Route, NoRoute> {
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        self.routes.read().unwrap_or_else(PoisonError::into_inner).route(entry, head, &mut random)
    }

    /// Answers a request that came in at `entry` for `authority`.
    pub(super) async fn forward(
        self: &Arc<Self>,
        entry: Entry<'_>,
        authority: &str,
        request: Request<Body>,
    ) -> Response<Body> {
        let (mut parts, body) = request.into_parts();
        let body = match to_bytes(body, REQUEST_BYTES_MAX).await {
            Ok(body) => body,
            Err(error) => {
                return local(StatusCode::PAYLOAD_TOO_LARGE, &format!("cannot keep the request's body: {error}"));
            }
        };
        let head = Head { authority, method: &parts.method, uri: &parts.uri, headers: &parts.headers };
        let route = match self.route(entry, head) {
            Ok(route) => route,
            Err(error) => {
                self.telemetry.unrouted();
                return no_route(entry, &error);
            }
        };
        drop_hop_by_hop(&mut parts.headers);
        let host = HeaderValue::from_str(route.authority.as_deref().unwrap_or(authority));
        if let Ok(host) = host {
            parts.headers.insert(header::HOST, host);
        }
        route.headers.request.apply(&mut parts.headers);
        let kept = Kept { method: parts.method, headers: parts.headers, body };
        for (service, port) in &route.mirrors {
            self.mirror(entry, service.clone(), *port, &route.path, &kept);
        }
        let mut response = self.deliver(entry, &route, &kept).await;
        route.headers.response.apply(response.headers_mut());
        response
    }

    /// Sends a copy whose answer nobody waits for.
    fn mirror(self: &Arc<Self>, entry: Entry<'_>, service: NamespacedName, port: u16, path: &str, kept: &Kept) {
        let mesh = Arc::clone(self);
        let namespace = match entry {
            Entry::Ingress => None,
            Entry::Mesh { namespace, .. } => Some(namespace.to_owned()),
        };
        let copy = Kept { method: kept.method.clone(), headers: kept.headers.clone(), body: kept.body.clone() };
        let retries = Retries { attempts: 0, ..Retries::default() };
        let path = path.to_owned();
        tokio::spawn(async move {
            let entry =
                namespace.as_deref().map_or(Entry::Ingress, |namespace| Entry::Mesh { namespace, labels: None });
            let (mirrors, headers) = (Vec::new(), Headers::default());
            let route = Route { service, port, path, authority: None, timeout: None, retries, mirrors, headers };
            drop(mesh.deliver(entry, &route, &copy).await);
        });
    }

    async fn deliver(&self, entry: Entry<'_>, route: &Route, kept: &Kept) -> Response<Body> {
        let Route { service, port, path, timeout, retries, .. } = route;
        let deadline = Instant::now() + timeout.unwrap_or(ANSWER_MAX);
        let tries = match self.retries {
            RetryMode::Obeyed => retries.attempts.min(RETRIES_MAX) + 1,
            RetryMode::Off => 1,
        };
        let mut tried: Vec<Endpoint> = Vec::new();
        let mut attempt = 1;
        loop {
            let Some(endpoint) = self.endpoint(service, *port, &tried) else {
                self.count(
                    entry,
                    service,
                    None,
                    (None, None),
                    Some(Failure::NoHealthyUpstream),
                    503,
                    Duration::ZERO,
                );
                return local(StatusCode::SERVICE_UNAVAILABLE, "no healthy upstream");
            };
            let left = deadline.saturating_duration_since(Instant::now());
            let limit = retries.per_try_timeout.map_or(left, |limit| limit.min(left));
            let outcome = self.attempt(entry, service, &endpoint, path, kept, limit).await;
            let is_last = attempt >= tries || deadline.saturating_duration_since(Instant::now()) <= RETRY_PAUSE;
            if is_last || !is_retriable(&outcome, &retries.on) {
                return match outcome {
                    Outcome::Answered(response) => response.map(Body::from),
                    Outcome::Failed(failure) => failed(failure),
                };
            }
            tried.push(endpoint);
            attempt += 1;
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    /// A ready endpoint, if possible one that was not tried yet.
    fn endpoint(&self, service: &NamespacedName, port: u16, tried: &[Endpoint]) -> Option<Endpoint> {
        let ready = self.routes.read().unwrap_or_else(PoisonError::into_inner).endpoints(service, port);
        let fresh: Vec<&Endpoint> = ready.iter().filter(|endpoint| !tried.contains(endpoint)).collect();
        let candidates: Vec<&Endpoint> = if fresh.is_empty() { ready.iter().collect() } else { fresh };
        if candidates.is_empty() {
            return None;
        }
        candidates.get(self.random(candidates.len())).map(|endpoint| (*endpoint).clone())
    }

    /// Sends a request straight to an address, if a pod or something registered has it.
    pub(super) async fn direct(
        &self,
        endpoint: &Endpoint,
        request: Request<Body>,
    ) -> Result<Response<Body>, String> {
        let (socket, _under_way) = match self.pods.target(endpoint) {
            Target::Pod { socket, under_way, .. } => (socket, Some(under_way)),
            Target::Registered(socket) => (socket, None),
            Target::Closed(workload) => {
                return Err(format!("{} of {} refuses connections", endpoint.port, workload.name));
            }
            Target::Nothing => return Err(format!("nothing has the address {}", endpoint.ip)),
        };
        exchange(socket, request).await.map(|response| response.map(Body::new)).map_err(|error| error.to_string())
    }

    async fn attempt(
        &self,
        entry: Entry<'_>,
        service: &NamespacedName,
        endpoint: &Endpoint,
        path: &str,
        kept: &Kept,
        limit: Duration,
    ) -> Outcome {
        let started = Instant::now();
        let (socket, workload, _under_way) = match self.pods.target(endpoint) {
            Target::Pod { socket, workload, name, under_way } => {
                (Some(socket), Some((workload, name)), Some(under_way))
            }
            Target::Registered(socket) => (Some(socket), None, None),
            Target::Closed(workload) => (None, Some((workload, String::new())), None),
            Target::Nothing => (None, None, None),
        };
        let outcome = match socket {
            Some(socket) => match tokio::time::timeout(limit, send(socket, path, kept)).await {
                Ok(Ok(response)) => Outcome::Answered(response),
                Ok(Err(failure)) => Outcome::Failed(failure),
                Err(_) => Outcome::Failed(Failure::Timeout),
            },
            None => Outcome::Failed(Failure::ConnectionRefused),
        };
        let (failure, code) = match &outcome {
            Outcome::Answered(response) if response.status().is_server_error() => {
                (Some(Failure::ServerError), response.status().as_u16())
            }
            Outcome::Answered(response) => (None, response.status().as_u16()),
            Outcome::Failed(failure) => (Some(*failure), status(*failure).as_u16()),
        };
        let took = started.elapsed();
        if let (Some((workload, pod)), Outcome::Answered(_)) = (&workload, &outcome) {
            self.telemetry.answered(workload, pod, code, took);
        }
        let (name, workload) = workload.as_ref().map(|(workload, name)| (name.as_str(), workload)).unzip();
        self.count(entry, service, workload, (Some(&endpoint.ip), name), failure, code, took);
        outcome
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the facts of one attempt, named at the one place that counts them"
    )]
    fn count(
        &self,
        entry: Entry<'_>,
        service: &NamespacedName,
        workload: Option<&Workload>,
        (pod, name): (Option<&str>, Option<&str>),
        failure: Option<Failure>,
        code: u16,
        took: Duration,
    ) {
        self.telemetry.attempt(&Attempt { entry, service, workload, pod, name, code, failure, took });
    }
}

/// One exchange with a pod, its answer read to the end.
async fn send(socket: SocketAddr, path: &str, kept: &Kept) -> Result<Response<Bytes>, Failure> {
    let Kept { method, headers, body } = kept;
    let mut request = Request::new(Body::from(body.clone()));
    *request.method_mut() = method.clone();
    *request.uri_mut() = path.parse().map_err(|_| Failure::NoRoute)?;
    *request.headers_mut() = headers.clone();
    let response: Response<Incoming> = exchange(socket, request).await.map_err(|error| match error {
        ExchangeError::Connect(_) => Failure::ConnectionRefused,
        ExchangeError::Broken(_) => Failure::ConnectionReset,
    })?;
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, RESPONSE_BYTES_MAX).collect().await.map_err(|_| Failure::ConnectionReset)?;
    Ok(Response::from_parts(parts, body.to_bytes()))
}

/// Whether one of the route's conditions, in Envoy's words, holds.
fn is_retriable(outcome: &Outcome, conditions: &[String]) -> bool {
    conditions.iter().any(|condition| match (condition.as_str(), outcome) {
        ("5xx", Outcome::Answered(response)) => response.status().is_server_error(),
        ("gateway-error", Outcome::Answered(response)) => matches!(response.status().as_u16(), 502..=504),
        ("retriable-4xx", Outcome::Answered(response)) => response.status() == StatusCode::CONFLICT,
        (code, Outcome::Answered(response)) => code.parse() == Ok(response.status().as_u16()),
        ("5xx" | "gateway-error", Outcome::Failed(_)) => true,
        ("connect-failure", Outcome::Failed(failure)) => *failure == Failure::ConnectionRefused,
        ("reset", Outcome::Failed(failure)) => matches!(failure, Failure::ConnectionReset | Failure::Timeout),
        (_, Outcome::Failed(_)) => false,
    })
}

/// What the client is told.
fn status(failure: Failure) -> StatusCode {
    match failure {
        Failure::Timeout => StatusCode::GATEWAY_TIMEOUT,
        Failure::NoRoute => StatusCode::NOT_FOUND,
        Failure::NoHealthyUpstream
        | Failure::ConnectionRefused
        | Failure::ConnectionReset
        | Failure::ServerError => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// Envoy's words for an attempt without an answer.
fn failed(failure: Failure) -> Response<Body> {
    let text = match failure {
        Failure::Timeout => "upstream request timeout",
        Failure::ConnectionRefused => {
            "upstream connect error or disconnect/reset before headers. reset reason: connection failure"
        }
        Failure::ConnectionReset => {
            "upstream connect error or disconnect/reset before headers. reset reason: connection termination"
        }
        Failure::NoHealthyUpstream => "no healthy upstream",
        Failure::NoRoute => "no route",
        Failure::ServerError => "upstream error",
    };
    local(status(failure), text)
}

fn no_route(entry: Entry<'_>, error: &NoRoute) -> Response<Body> {
    let code = match (error, entry) {
        (NoRoute::Ingress { .. } | NoRoute::Unmatched { .. }, _) => StatusCode::NOT_FOUND,
        (NoRoute::Unsupported { .. }, _) => StatusCode::NOT_IMPLEMENTED,
        // Where a route leads to is the mesh's fault; what a client names, its own.
        (_, Entry::Ingress) => StatusCode::SERVICE_UNAVAILABLE,
        (_, Entry::Mesh { .. }) => StatusCode::BAD_GATEWAY,
    };
    local(code, &error.to_string())
}

/// An answer of the proxy itself.
pub(super) fn local(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(Body::from(format!("{text}\n")));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
