//! The HTTP clients for outgoing calls: metric providers and webhooks.

use std::time::Duration;

/// Longest time for a TCP and TLS handshake; calls have a deadline of their own on top.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Idle connections kept per host: several checks of one tick go to the same provider at once.
const IDLE_PER_HOST: usize = 8;

/// One client that verifies certificates and one that does not, both through the configured proxy.
#[derive(Debug, Clone)]
pub struct HttpClients {
    verifying: reqwest::Client,
    trusting: reqwest::Client,
}

/// The clients could not be built.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The proxy's address.
    #[error("http proxy `{proxy}` is not a URL")]
    Proxy {
        /// As configured.
        proxy: String,
        /// What the parser says.
        #[source]
        source: reqwest::Error,
    },
    /// Anything else, e.g. no usable root certificates.
    #[error("failed to set up the http client")]
    Client(#[source] reqwest::Error),
}

impl HttpClients {
    /// Clients that go through `proxy`, or through what the environment (`http_proxy`, `no_proxy`) says without one.
    pub fn new(proxy: Option<&str>) -> Result<Self, HttpError> {
        Ok(Self { verifying: build(proxy, false)?, trusting: build(proxy, true)? })
    }

    /// The client to use; `insecure` skips certificate verification.
    pub fn client(&self, insecure: bool) -> &reqwest::Client {
        if insecure { &self.trusting } else { &self.verifying }
    }
}

fn build(proxy: Option<&str>, insecure: bool) -> Result<reqwest::Client, HttpError> {
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("serin/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_max_idle_per_host(IDLE_PER_HOST)
        .tls_danger_accept_invalid_certs(insecure);
    if let Some(address) = proxy {
        let proxy = reqwest::Proxy::all(address)
            .map_err(|source| HttpError::Proxy { proxy: address.to_owned(), source })?;
        builder = builder.proxy(proxy);
    }
    builder.build().map_err(HttpError::Client)
}

/// An error with its causes, for messages that end up in events and status.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
