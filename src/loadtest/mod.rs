//! Webhook-driven acceptance and load tests: flagger-loadtester's API.
//!
//! `POST /` runs a command: `cmd` in the background, once for each canary and command, `bash` while the caller waits.
//! `hey` lines run in a built-in load generator ([`hey`]), everything else in a shell. Gates answer confirm webhooks.
//! It runs what it is told to, so it asks for a token ([`Callers`]); without one, let only the release controller reach it.

mod command;
mod family;
mod gates;
pub mod hey;
mod http;
mod payload;
#[cfg(feature = "sandbox")]
mod pod;
mod tasks;

#[cfg(feature = "sandbox")]
pub use pod::programs;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use regex::Regex;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

pub use family::adopt;

use crate::http::SecretSource;
use command::Runner;
use gates::Gates;
use tasks::Tasks;

/// Longest run of a command unless told otherwise: flagger-loadtester's default.
pub const TIMEOUT: Duration = Duration::from_secs(60 * 60);

/// Commands that somebody waits for at once: each is a shell with its children.
const WAITING_MAX: usize = 64;

/// Who may call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Callers {
    /// Whoever says this token as `Authorization: Bearer …`.
    WithToken(SecretSource),
    /// Whoever can reach it, as with Flagger's.
    Anybody,
}

/// How the load tester works.
#[derive(Debug, Clone)]
pub struct LoadTestOptions {
    /// Who may have commands run and gates moved; probes and metrics are for everybody.
    pub callers: Callers,
    /// Longest run of one command; then it is killed.
    pub timeout: Duration,
    /// Canaries in other namespaces are refused.
    pub namespaces: Option<Regex>,
    /// HTTP proxy for `hey` and, as `http_proxy`, for commands.
    pub proxy: Option<String>,
    /// Divides the duration of `hey -z`.
    pub speed: NonZeroU32,
}

impl Default for LoadTestOptions {
    fn default() -> Self {
        Self { callers: Callers::Anybody, timeout: TIMEOUT, namespaces: None, proxy: None, speed: NonZeroU32::MIN }
    }
}

/// The load tester: serve its [`router`](LoadTester::router); [`stop`](LoadTester::stop) ends what still runs.
#[derive(Debug, Clone)]
pub struct LoadTester {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    callers: Callers,
    namespaces: Option<Regex>,
    runner: Runner,
    tasks: Tasks,
    /// Places for commands that somebody waits for.
    waiting: Semaphore,
    gates: Gates,
    metrics: http::Metrics,
    stop: CancellationToken,
}

impl LoadTester {
    /// A load tester with all gates closed and nothing running.
    pub fn new(options: LoadTestOptions) -> Self {
        let LoadTestOptions { callers, timeout, namespaces, proxy, speed } = options;
        Self {
            shared: Arc::new(Shared {
                callers,
                namespaces,
                runner: Runner { timeout, proxy, speed },
                tasks: Tasks::default(),
                waiting: Semaphore::new(WAITING_MAX),
                gates: Gates::default(),
                metrics: http::Metrics::new(),
                stop: CancellationToken::new(),
            }),
        }
    }

    /// The HTTP API.
    pub fn router(&self) -> Router {
        http::router(Arc::clone(&self.shared))
    }

    /// Ends every running command.
    pub fn stop(&self) {
        self.shared.stop.cancel();
    }
}
