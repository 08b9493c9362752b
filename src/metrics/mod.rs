//! Metric providers: one file each behind one trait.
//!
//! [`QueryContext`] renders a query (built-in or a user's template), [`MetricProvider`] asks for its value. What a
//! provider returns is a [`Reading`]: no sample, NaN and an unreachable provider are answers of their own.

mod builtin;
mod prometheus;
mod promql;
mod template;

use std::collections::BTreeMap;

use futures::future::BoxFuture;

use crate::analysis::Reading;

pub use builtin::{BuiltIn, HTTP, ISTIO};
pub use prometheus::{PROMETHEUS, Prometheus};
pub use template::{QueryContext, prometheus_duration};

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

/// Asks a metric system for one number.
pub trait MetricProvider: Send + Sync {
    /// The value of `query` now. Never fails: what goes wrong is a [`Reading::Error`] in words.
    fn query<'a>(&'a self, endpoint: &'a Endpoint, query: &'a str) -> BoxFuture<'a, Reading>;
}
