//! Probes, metrics, push webhooks and what became of a revision over HTTP.

mod hooks;

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use hooks::{Hooks, Pushed};

use crate::http::serve_streaming;
use crate::report::statuses::Revision;

/// What Prometheus is told the format is.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Says why the daemon cannot do its work now, or nothing.
pub type Readiness = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// What became of a commit or a digest, or the beginning of one; `None` where nothing is known of it.
pub type Revisions = Arc<dyn Fn(&str) -> Option<Revision> + Send + Sync>;

/// What is served.
#[derive(Clone)]
pub struct ServerState {
    /// Every room's metrics.
    pub registry: Arc<Registry>,
    /// What `/healthz` asks.
    pub alive: Readiness,
    /// What `/readyz` asks.
    pub ready: Readiness,
    /// What became of a commit or a digest.
    pub revisions: Revisions,
    /// What push webhooks meet; `None`: no secret is configured.
    pub hooks: Option<Arc<Hooks>>,
}

/// Serves `/healthz`, `/readyz`, `/metrics` and `/hooks/…` until `shutdown`.
pub async fn run(listener: TcpListener, state: ServerState, shutdown: CancellationToken) {
    serve_streaming(listener, routes(state), Some(hooks::PATH), shutdown).await;
}

fn routes(state: ServerState) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/api/v1/revisions/{revision}", get(revision))
        .route("/hooks/{sender}", post(hooks::receive))
        .with_state(state)
}

/// Whether only a new process would help.
async fn healthz(State(state): State<ServerState>) -> Response {
    said((state.alive)())
}

/// Whether it works, or could take over.
async fn readyz(State(state): State<ServerState>) -> Response {
    said((state.ready)())
}

fn said(answer: Result<(), String>) -> Response {
    match answer {
        Ok(()) => "ok".into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason).into_response(),
    }
}

/// 200 with what became of it, 404 where nothing is known of it: gates of other tools and CI ask here.
async fn revision(State(state): State<ServerState>, Path(revision): Path<String>) -> Response {
    match (state.revisions)(&revision) {
        Some(answer) => Json(answer).into_response(),
        None => {
            let message = "nothing is known of this revision: a commit or digest of 7 characters or more";
            (StatusCode::NOT_FOUND, Json(serde_json::json!({"error": message}))).into_response()
        }
    }
}

async fn metrics(State(state): State<ServerState>) -> Response {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &state.registry) {
        Ok(()) => ([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use axum::body::Body;
    use axum::http::Request;
    use http_body_util::BodyExt as _;
    use prometheus_client::metrics::counter::Counter;
    use tower::ServiceExt as _;

    use super::*;

    async fn ask(app: Router, path: &str) -> (StatusCode, String) {
        let response = app.oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn answers_probes_and_metrics() {
        let mut registry = Registry::default();
        registry.register("serin_looks", "Looks", Counter::<u64>::default());
        let able = Arc::new(AtomicBool::new(false));
        let asked = able.clone();
        let ready: Readiness =
            Arc::new(
                move || if asked.load(Ordering::Relaxed) { Ok(()) } else { Err("no first fetch yet".into()) },
            );
        let app = routes(ServerState {
            registry: Arc::new(registry),
            alive: Arc::new(|| Ok(())),
            ready,
            revisions: Arc::new(|_| None),
            hooks: None,
        });
        assert_eq!(ask(app.clone(), "/healthz").await, (StatusCode::OK, "ok".into()));
        assert_eq!(
            ask(app.clone(), "/readyz").await,
            (StatusCode::SERVICE_UNAVAILABLE, "no first fetch yet".into())
        );
        able.store(true, Ordering::Relaxed);
        assert_eq!(ask(app.clone(), "/readyz").await.0, StatusCode::OK);
        let (_, text) = ask(app, "/metrics").await;
        assert!(text.contains("serin_looks_total 0"), "{text}");
    }
}
