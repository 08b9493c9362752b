//! The HTTP API.

use std::num::NonZeroU32;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{self, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::command::Shell;
use super::gates::Gate;
use super::hey;
use super::payload::{Payload, Request};
use super::tasks::Start;
use super::{Callers, Shared};

/// What is counted.
#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
    commands: Family<CommandLabels, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CommandLabels {
    kind: &'static str,
    result: &'static str,
}

impl Metrics {
    pub(super) fn new() -> Self {
        let mut registry = Registry::default();
        let commands = Family::<CommandLabels, Counter>::default();
        registry.register(
            "serin_loadtest_commands",
            "Commands by how they were run and how they ended",
            commands.clone(),
        );
        Self { registry, commands }
    }

    fn count(&self, kind: &'static str, result: &'static str) {
        self.commands.get_or_create(&CommandLabels { kind, result }).inc();
    }
}

/// An answer that is not a success.
#[derive(Debug)]
struct Refusal(StatusCode, String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self(status, message) = self;
        (status, message).into_response()
    }
}

pub(super) fn router(shared: Arc<Shared>) -> Router {
    let asked = Router::new()
        .route("/", post(run))
        .route("/gate/approve", any(|| async { (StatusCode::OK, "OK") }))
        .route("/gate/halt", any(|| async { (StatusCode::FORBIDDEN, "Forbidden") }))
        .route("/gate/check", post(|state, body| check(Gate::Confirm, state, body)))
        .route("/gate/open", post(|state, body| open(Gate::Confirm, state, body)))
        .route("/gate/close", post(|state, body| close(Gate::Confirm, state, body)))
        .route("/rollback/check", post(|state, body| check(Gate::Rollback, state, body)))
        .route("/rollback/open", post(|state, body| open(Gate::Rollback, state, body)))
        .route("/rollback/close", post(|state, body| close(Gate::Rollback, state, body)))
        // Before the body is read: who may not call has none taken in.
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), known));
    Router::new()
        .route("/healthz", get(|| async { "OK" }))
        .route("/metrics", get(metrics))
        .merge(asked)
        .with_state(shared)
}

/// Lets those pass who may call.
async fn known(State(shared): App, request: extract::Request, next: Next) -> Result<Response, Refusal> {
    match &shared.callers {
        Callers::Anybody => {}
        Callers::WithToken(source) => {
            let token = source.read().map_err(|reason| {
                tracing::warn!("nobody can call: the token {reason}");
                Refusal(StatusCode::SERVICE_UNAVAILABLE, "the load tester cannot read its own token".to_owned())
            })?;
            let said = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
            let said = said
                .and_then(|value| value.split_once(' '))
                .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
            if !said.is_some_and(|(_, said)| token.is(said.trim())) {
                let message = "this load tester asks for a token: name its URL and tokenFile in serin.yaml's `loadTester`, \
                               or send it as `Authorization: Bearer`";
                return Err(Refusal(StatusCode::UNAUTHORIZED, message.to_owned()));
            }
        }
    }
    Ok(next.run(request).await)
}

type App = State<Arc<Shared>>;

/// Reads the body; curl sends no JSON content type, so none is asked for.
fn payload(shared: &Shared, body: &Bytes) -> Result<Payload, Refusal> {
    let payload: Payload = serde_json::from_slice(body).map_err(|error| {
        Refusal(
            StatusCode::BAD_REQUEST,
            format!("cannot read the webhook's JSON: {error}: send name, namespace and metadata"),
        )
    })?;
    match &shared.namespaces {
        Some(allowed) if !allowed.is_match(&payload.namespace) => Err(Refusal(
            StatusCode::FORBIDDEN,
            format!("namespace {:?} is not allowed: it does not match {allowed}", payload.namespace),
        )),
        Some(_) | None => Ok(payload),
    }
}

/// The canary whose gate is meant.
fn gated(shared: &Shared, body: &Bytes) -> Result<String, Refusal> {
    let payload = payload(shared, body)?;
    if payload.name.is_empty() || payload.namespace.is_empty() {
        return Err(Refusal(StatusCode::BAD_REQUEST, "whose gate is it? send name and namespace".to_owned()));
    }
    Ok(payload.canary())
}

async fn run(State(shared): App, body: Bytes) -> Result<Response, Refusal> {
    let payload = payload(&shared, &body)?;
    let request = payload.request().map_err(|error| Refusal(StatusCode::BAD_REQUEST, error.to_string()))?;
    match request {
        Request::Background { command, log_output } => background(shared, &payload, command, log_output),
        Request::Wait { command, return_output } => wait(&shared, &payload, &command, return_output).await,
    }
}

fn background(
    shared: Arc<Shared>,
    payload: &Payload,
    command: String,
    log_output: bool,
) -> Result<Response, Refusal> {
    let canary = payload.canary();
    // Nobody reads the end of a background command: what can never run is said now, where it becomes an Event.
    let lasts = match hey::arguments(&command).map(|arguments| hey::Flags::parse(&arguments)) {
        Some(Err(error)) => {
            return Err(Refusal(StatusCode::BAD_REQUEST, format!("the command cannot run: {error}")));
        }
        Some(Ok(flags)) => flags.lasts().map(|lasts| lasts / NonZeroU32::get(shared.runner.speed)),
        None => None,
    };
    let permit = match shared.tasks.start(canary.clone(), command.clone(), lasts) {
        Start::Go(permit) => permit,
        Start::Running => {
            tracing::debug!(canary, "the command already runs for this canary");
            return Ok(StatusCode::ACCEPTED.into_response());
        }
        Start::Full => {
            return Err(Refusal(
                StatusCode::TOO_MANY_REQUESTS,
                "too many commands are running: try again".to_owned(),
            ));
        }
    };
    tokio::spawn(async move {
        let load = async {
            loop {
                in_background(&shared, &canary, &command, log_output).await;
                if !permit.again() {
                    return;
                }
            }
        };
        tokio::select! {
            () = load => {}
            () = shared.stop.cancelled() => {}
        }
    });
    Ok(StatusCode::ACCEPTED.into_response())
}

/// Runs a command of which nobody reads the end.
async fn in_background(shared: &Shared, canary: &str, command: &str, log_output: bool) {
    tracing::info!(canary, "command started");
    match shared.runner.run(Shell::Sh, command).await {
        Ok(output) => {
            shared.metrics.count("cmd", "success");
            let output = if log_output { output } else { String::new() };
            tracing::info!(canary, output, "command finished");
        }
        Err(error) => {
            shared.metrics.count("cmd", "failure");
            tracing::error!(canary, "{error}");
        }
    }
}

async fn wait(
    shared: &Shared,
    payload: &Payload,
    command: &str,
    return_output: bool,
) -> Result<Response, Refusal> {
    let Ok(_place) = shared.waiting.try_acquire() else {
        return Err(Refusal(StatusCode::TOO_MANY_REQUESTS, "too many commands are running: try again".to_owned()));
    };
    let result = tokio::select! {
        result = shared.runner.run(Shell::Bash, command) => result,
        () = shared.stop.cancelled() => {
            return Err(Refusal(StatusCode::SERVICE_UNAVAILABLE, "the load tester is stopping".to_owned()));
        }
    };
    match result {
        Ok(output) => {
            shared.metrics.count("bash", "success");
            Ok((StatusCode::OK, if return_output { output } else { String::new() }).into_response())
        }
        Err(error) => {
            shared.metrics.count("bash", "failure");
            tracing::warn!(canary = payload.canary(), "{error}");
            Err(Refusal(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
        }
    }
}

async fn check(gate: Gate, State(shared): App, body: Bytes) -> Result<Response, Refusal> {
    let canary = gated(&shared, &body)?;
    if shared.gates.is_open(gate, &canary) {
        return Ok((StatusCode::OK, "Approved").into_response());
    }
    Err(Refusal(StatusCode::FORBIDDEN, "Forbidden".to_owned()))
}

async fn open(gate: Gate, State(shared): App, body: Bytes) -> Result<Response, Refusal> {
    let canary = gated(&shared, &body)?;
    if !shared.gates.open(gate, &canary) {
        return Err(Refusal(StatusCode::TOO_MANY_REQUESTS, "too many gates are open: close some".to_owned()));
    }
    tracing::info!(canary, ?gate, "gate opened");
    Ok(StatusCode::ACCEPTED.into_response())
}

async fn close(gate: Gate, State(shared): App, body: Bytes) -> Result<Response, Refusal> {
    let canary = gated(&shared, &body)?;
    shared.gates.close(gate, &canary);
    tracing::info!(canary, ?gate, "gate closed");
    Ok(StatusCode::ACCEPTED.into_response())
}

async fn metrics(State(shared): App) -> Response {
    let mut text = String::new();
    match encode(&mut text, &shared.metrics.registry) {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => Refusal(StatusCode::INTERNAL_SERVER_ERROR, format!("cannot write the metrics: {error}"))
            .into_response(),
    }
}
