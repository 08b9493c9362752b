//! Metric providers: one file each behind one trait.
//!
//! [`QueryContext`] renders a query (built-in or a user's template), [`MetricProvider`] asks for its value. What a
//! provider returns is a [`Reading`]: no sample, NaN and an unreachable provider are answers of their own. [`Providers`] has them
//! all.

mod builtin;
mod counters;
mod empty;
mod prometheus;
mod promql;
mod sample;
mod template;
mod web;

use std::collections::BTreeMap;

use futures::future::BoxFuture;

use crate::analysis::Reading;
use crate::http::HttpClients;

pub use builtin::{BuiltIn, Counters, HTTP, ISTIO};
pub use counters::{history, series};
pub use prometheus::{PROMETHEUS, Prometheus};
pub use sample::{Moments, Sampled, Sampling};
pub use template::{QueryContext, prometheus_duration};
pub use web::{WebMethod, WebRequest};

/// Why a provider of this type cannot be asked; `None` if it can.
pub fn unsupported(kind: &str) -> Option<String> {
    let reason = || format!("provider type {kind} is not supported yet: this version asks {PROMETHEUS} only");
    (kind != PROMETHEUS).then(reason)
}

/// Where to ask, and how to identify oneself there.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// `spec.provider.type` of a MetricTemplate; built-in queries go to `prometheus`.
    pub kind: String,
    /// Base URL; a path in it is kept.
    pub address: String,
    /// Further request headers.
    pub headers: BTreeMap<String, Vec<String>>,
    /// Basic authentication or a bearer token.
    pub credentials: Option<Credentials>,
    /// Skip certificate verification.
    pub insecure: bool,
}

impl std::fmt::Debug for Endpoint {
    /// Headers may carry secrets, so only their names are shown.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { kind, address, headers, credentials, insecure } = self;
        f.debug_struct("Endpoint")
            .field("kind", kind)
            .field("address", address)
            .field("headers", &headers.keys().collect::<Vec<_>>())
            .field("credentials", credentials)
            .field("insecure", insecure)
            .finish()
    }
}

/// How to identify oneself to a provider; the Secret keys are Flagger's.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// Secret keys `username` and `password`.
    Basic {
        /// The user.
        username: String,
        /// The password.
        password: String,
    },
    /// Secret key `token`.
    Bearer(String),
}

impl Credentials {
    /// Reads a Secret's decoded data; a token wins over a user name. `None` if neither is there.
    pub fn from_secret(mut data: BTreeMap<String, String>) -> Option<Self> {
        if let Some(token) = data.remove("token") {
            return Some(Self::Bearer(token));
        }
        let username = data.remove("username")?;
        Some(Self::Basic { username, password: data.remove("password").unwrap_or_default() })
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Basic { .. } => "Basic(…)",
            Self::Bearer(_) => "Bearer(…)",
        })
    }
}

/// Samples to ask for.
#[derive(Debug, Clone, PartialEq)]
pub enum Samples {
    /// As they are stored, of a range selector.
    Raw {
        /// The selector with its range, up to now.
        query: String,
    },
    /// What an expression gives at regular times.
    Every {
        /// The expression.
        query: String,
        /// The first time.
        from: jiff::Timestamp,
        /// The last time.
        to: jiff::Timestamp,
        /// From one to the next.
        step: std::time::Duration,
    },
}

/// A series with its samples.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Samples, oldest first: milliseconds since the epoch, and the value.
    pub points: Vec<(i64, f64)>,
}

/// Asks a metric system.
pub trait MetricProvider: Send + Sync {
    /// The value of `query` now: one number. Never fails: what goes wrong is a [`Reading::Error`] in words.
    fn query<'a>(&'a self, endpoint: &'a Endpoint, query: &'a str) -> BoxFuture<'a, Reading>;

    /// Series with their samples.
    ///
    /// # Errors
    /// In words, where it cannot be asked, has no samples to give, or not all of them.
    fn samples<'a>(
        &'a self,
        endpoint: &'a Endpoint,
        _asked: &'a Samples,
    ) -> BoxFuture<'a, Result<Vec<Stored>, String>> {
        let why = format!("provider type {} gives no samples", endpoint.kind);
        Box::pin(std::future::ready(Err(why)))
    }

    /// A sample of any form, whatever it holds. Never fails either.
    fn sample<'a>(&'a self, _asked: &'a Sampling) -> BoxFuture<'a, Sampled> {
        Box::pin(std::future::ready(Sampled::error("it answers with single numbers only".to_owned())))
    }
}

/// All providers, each asked for what is its own.
#[derive(Debug, Clone)]
pub struct Providers {
    prometheus: Prometheus,
    clients: HttpClients,
}

impl Providers {
    /// Providers that are asked through `clients`.
    pub fn new(clients: HttpClients) -> Self {
        Self { prometheus: Prometheus::new(clients.clone()), clients }
    }
}

impl MetricProvider for Providers {
    fn query<'a>(&'a self, endpoint: &'a Endpoint, query: &'a str) -> BoxFuture<'a, Reading> {
        self.prometheus.query(endpoint, query)
    }

    fn samples<'a>(
        &'a self,
        endpoint: &'a Endpoint,
        asked: &'a Samples,
    ) -> BoxFuture<'a, Result<Vec<Stored>, String>> {
        Box::pin(self.prometheus.samples(endpoint, asked))
    }

    fn sample<'a>(&'a self, asked: &'a Sampling) -> BoxFuture<'a, Sampled> {
        Box::pin(async move {
            let (timeout, asking): (_, BoxFuture<'_, Result<Sampled, String>>) = match asked {
                Sampling::Prometheus { endpoint, query, moments, timeout } => {
                    (*timeout, Box::pin(self.prometheus.sample(endpoint, query, *moments, *timeout)))
                }
                Sampling::Web(request) => (request.timeout, Box::pin(web::sample(&self.clients, request))),
            };
            let sampled = match tokio::time::timeout(timeout, asking).await {
                Ok(Ok(sampled)) => sampled,
                Ok(Err(reason)) => Sampled::error(reason),
                Err(_) => Sampled::error(format!("no answer within {} s", timeout.as_secs())),
            };
            match asked {
                Sampling::Prometheus { endpoint, query, .. } if sampled.is_empty() => {
                    let note = self.prometheus.why_empty(endpoint, query).await;
                    Sampled { note, ..sampled }
                }
                Sampling::Prometheus { .. } | Sampling::Web(_) => sampled,
            }
        })
    }
}
