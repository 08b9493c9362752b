//! Probes and metrics over HTTP.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::http::serve;

/// What Prometheus is told the format is.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Says why the daemon cannot do its work now, or nothing.
pub type Readiness = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// What is served.
#[derive(Clone)]
pub struct ServerState {
    /// Every room's metrics.
    pub registry: Arc<Registry>,
    /// What `/readyz` asks.
    pub ready: Readiness,
}

/// Serves `/healthz`, `/readyz` and `/metrics` until `shutdown`.
pub async fn run(listener: TcpListener, state: ServerState, shutdown: CancellationToken) {
    serve(listener, routes(state), shutdown).await;
}

fn routes(state: ServerState) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(state)
}

async fn readyz(State(state): State<ServerState>) -> Response {
    match (state.ready)() {
        Ok(()) => "ok".into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason).into_response(),
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
        let app = routes(ServerState { registry: Arc::new(registry), ready });
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
