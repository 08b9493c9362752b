//! What runs in a pod: the routes of podinfo that tests use, with the behaviour that the pod's image or environment asks
//! for.
//!
//! Simulated errors, missing pages and slowness apply to what users ask for, not to the probes nor to `/token`, so that a
//! bad version passes its acceptance test and fails its analysis.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::behaviour::Behaviour;
use crate::load::Loads;

/// Longest `/delay`.
const DELAY_MAX: Duration = Duration::from_secs(60);
/// Paths that simulated faults leave alone.
const UNAFFECTED: [&str; 3] = ["/healthz", "/readyz", "/token"];

/// One pod's application.
#[derive(Debug)]
struct App {
    behaviour: Behaviour,
    hostname: String,
    environment: Vec<String>,
    served: AtomicU64,
    /// The pod's address, by which its load is known.
    address: String,
    loads: Loads,
}

/// The application of a pod.
pub(super) fn router(pod: &Value, loads: Loads) -> Router {
    let environment = pod["spec"]["containers"][0]["env"].as_array().map_or(&[][..], Vec::as_slice);
    let app = Arc::new(App {
        behaviour: Behaviour::of(pod),
        hostname: pod["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
        environment: environment
            .iter()
            .filter_map(|variable| Some(format!("{}={}", variable["name"].as_str()?, variable["value"].as_str()?)))
            .collect(),
        served: AtomicU64::new(0),
        address: pod["status"]["podIP"].as_str().unwrap_or_default().to_owned(),
        loads,
    });
    Router::new()
        .route("/", get(home))
        .route("/version", get(version))
        .route("/healthz", get(|| async { Json(json!({"status": "OK"})) }))
        .route("/readyz", get(ready))
        .route("/status/{code}", any(status))
        .route("/delay/{seconds}", get(delay))
        .route("/env", any(environment_of))
        .route("/headers", any(headers))
        .route("/echo", post(echo))
        .route("/token", post(token))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), misbehave))
        .with_state(app)
}

/// Answers with the simulated fault, if this request is due for one.
async fn misbehave(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if UNAFFECTED.contains(&path) {
        return next.run(request).await;
    }
    let number = app.served.fetch_add(1, Ordering::Relaxed) + 1;
    let Behaviour { errors, not_found, slow, capacity, .. } = &app.behaviour;
    if *capacity > 0 && !app.loads.take(&app.address, *capacity, Instant::now()) {
        return failure(StatusCode::SERVICE_UNAVAILABLE, "simulated overload");
    }
    if !slow.is_zero() {
        tokio::time::sleep(*slow).await;
    }
    if is_due(number, *errors) {
        return failure(StatusCode::INTERNAL_SERVER_ERROR, "simulated error");
    }
    if is_due(number, *not_found) {
        return failure(StatusCode::NOT_FOUND, "simulated missing page");
    }
    next.run(request).await
}

/// Spreads a percentage evenly: of any hundred requests in a row exactly that many are due.
fn is_due(number: u64, percent: u8) -> bool {
    let due = |count: u64| count * u64::from(percent) / 100;
    due(number) > due(number - 1)
}

fn failure(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({"code": status.as_u16(), "message": message}))).into_response()
}

async fn home(State(app): State<Arc<App>>) -> Json<Value> {
    Json(json!({
        "hostname": app.hostname,
        "version": app.behaviour.version,
        "message": format!("greetings from podinfo v{}", app.behaviour.version),
    }))
}

async fn version(State(app): State<Arc<App>>) -> Json<Value> {
    Json(json!({"version": app.behaviour.version, "commit": "unknown"}))
}

async fn ready(State(app): State<Arc<App>>) -> Response {
    if app.behaviour.unready {
        return failure(StatusCode::SERVICE_UNAVAILABLE, "simulated unready pod");
    }
    Json(json!({"status": "OK"})).into_response()
}

async fn status(Path(code): Path<u16>) -> Response {
    match StatusCode::from_u16(code) {
        Ok(status) => (status, Json(json!({"status": code}))).into_response(),
        Err(_) => failure(StatusCode::BAD_REQUEST, "not a status code"),
    }
}

async fn delay(Path(seconds): Path<u64>) -> Json<Value> {
    tokio::time::sleep(Duration::from_secs(seconds).min(DELAY_MAX)).await;
    Json(json!({"delay": seconds}))
}

async fn environment_of(State(app): State<Arc<App>>) -> Json<Value> {
    Json(json!(app.environment))
}

async fn headers(headers: HeaderMap) -> Json<Value> {
    let pairs =
        headers.iter().map(|(name, value)| (name.to_string(), json!(String::from_utf8_lossy(value.as_bytes()))));
    Json(pairs.collect::<serde_json::Map<_, _>>().into())
}

async fn echo(body: Bytes) -> Response {
    (StatusCode::ACCEPTED, body).into_response()
}

/// An opaque token for whatever was posted.
async fn token(State(app): State<Arc<App>>, body: Bytes) -> Response {
    if app.behaviour.bad_token {
        return failure(StatusCode::INTERNAL_SERVER_ERROR, "simulated signing failure");
    }
    let digest = Sha256::new().chain_update(app.hostname.as_bytes()).chain_update(&body).finalize();
    Json(json!({"token": format!("{digest:x}")})).into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use tower::ServiceExt;

    use super::*;

    fn pod(tag: &str) -> Value {
        json!({"metadata": {"name": "podinfo-1"}, "spec": {"containers": [{"image": format!("podinfo:{tag}")}]}})
    }

    async fn ask(router: &Router, method: &str, path: &str) -> (u16, String) {
        let request = Request::builder().method(method).uri(path).body(Body::from("test")).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        (status, String::from_utf8(to_bytes(response.into_body(), 1 << 16).await.unwrap().to_vec()).unwrap())
    }

    #[tokio::test]
    async fn answers_like_podinfo() {
        let router = router(&pod("3.1.0"), Loads::default());
        assert!(ask(&router, "GET", "/version").await.1.contains("\"3.1.0\""));
        assert!(ask(&router, "POST", "/token").await.1.contains("\"token\""));
        assert_eq!(ask(&router, "GET", "/status/418").await.0, 418);
        assert_eq!(ask(&router, "POST", "/echo").await, (202, "test".to_owned()));
        assert_eq!(ask(&router, "GET", "/nowhere").await.0, 404);
    }

    #[tokio::test]
    async fn answers_no_more_than_its_capacity() {
        let router = router(&pod("1-capacity-1"), Loads::default());
        let answers = [
            ask(&router, "GET", "/").await.0,
            ask(&router, "GET", "/").await.0,
            ask(&router, "GET", "/healthz").await.0,
        ];
        assert_eq!(answers, [200, 503, 200]);
    }

    #[tokio::test]
    async fn misbehaves_in_exact_shares() {
        let router = router(&pod("3.1.2-errors-30"), Loads::default());
        let mut failed = 0;
        for _ in 0..100 {
            failed += u32::from(ask(&router, "GET", "/").await.0 == 500);
        }
        assert_eq!(failed, 30);
        let bad = super::router(&pod("3.1.2-errors-100-badtoken"), Loads::default());
        assert_eq!(ask(&bad, "GET", "/healthz").await.0, 200);
        let (status, body) = ask(&bad, "POST", "/token").await;
        assert_eq!(status, 500);
        assert!(!body.contains("token"), "what greps for a token must not find one: {body}");
    }
}
