//! The clients for outgoing calls.
//!
//! A redirect is followed within the origin that was named and nowhere else: headers and bodies carry credentials, and they
//! were given for that origin.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Url, redirect};

use super::address::{Address, AddressError, is_own};

/// Longest time for a TCP and TLS handshake; calls have a deadline of their own on top.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Idle connections kept per host: several checks of one tick go to the same provider at once.
const IDLE_PER_HOST: usize = 8;
/// Redirects followed within an origin: one adds a slash, one a path; more lead round in a circle.
const REDIRECTS_MAX: usize = 3;

/// One client that verifies certificates and one that does not, both through the configured proxy.
#[derive(Debug, Clone)]
pub struct HttpClients {
    verifying: reqwest::Client,
    trusting: reqwest::Client,
    loopback: bool,
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
    /// Certificates to trust.
    #[error("the certificates to trust are no PEM")]
    Roots(#[source] reqwest::Error),
    /// Anything else, e.g. no usable root certificates.
    #[error("failed to set up the http client")]
    Client(#[source] reqwest::Error),
}

impl HttpClients {
    /// Clients that go through `proxy`, or through what the environment (`http_proxy`, `no_proxy`) says without one.
    ///
    /// # Errors
    /// When the proxy is no URL, or there are no root certificates.
    pub fn new(proxy: Option<&str>) -> Result<Self, HttpError> {
        Ok(Self { verifying: build(proxy, false, &[])?, trusting: build(proxy, true, &[])?, loopback: true })
    }

    /// As [`HttpClients::new`], trusting the certificates in `roots` (PEM), too.
    ///
    /// # Errors
    /// When they are none, or as for [`HttpClients::new`].
    pub fn trusting(proxy: Option<&str>, roots: &[u8]) -> Result<Self, HttpError> {
        let roots = reqwest::Certificate::from_pem_bundle(roots).map_err(HttpError::Roots)?;
        Ok(Self { verifying: build(proxy, false, &roots)?, trusting: build(proxy, true, &roots)?, loopback: true })
    }

    /// The same clients, which refuse this machine's own addresses.
    #[must_use]
    pub fn without_loopback(mut self) -> Self {
        self.loopback = false;
        self
    }

    /// The client to use; `insecure` skips certificate verification.
    pub fn client(&self, insecure: bool) -> &reqwest::Client {
        if insecure { &self.trusting } else { &self.verifying }
    }

    /// An address that somebody else wrote and that may be called.
    ///
    /// # Errors
    /// When it is none of HTTP, or leads to this machine or its own network.
    pub fn address(&self, text: &str) -> Result<Address, AddressError> {
        Address::parse(text)?.outside(self.loopback)
    }
}

fn build(
    proxy: Option<&str>,
    insecure: bool,
    roots: &[reqwest::Certificate],
) -> Result<reqwest::Client, HttpError> {
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("serin/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_max_idle_per_host(IDLE_PER_HOST)
        .referer(false)
        .redirect(redirect::Policy::custom(within_the_origin))
        .dns_resolver(Arc::new(Outside))
        .tls_danger_accept_invalid_certs(insecure);
    if !roots.is_empty() {
        builder = builder.tls_certs_merge(roots.iter().cloned());
    }
    if let Some(address) = proxy {
        let proxy = reqwest::Proxy::all(address)
            .map_err(|source| HttpError::Proxy { proxy: address.to_owned(), source })?;
        builder = builder.proxy(proxy);
    }
    builder.build().map_err(HttpError::Client)
}

fn within_the_origin(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let same = |first: &Url| first.origin() == attempt.url().origin();
    match attempt.previous().first().is_some_and(same) && attempt.previous().len() <= REDIRECTS_MAX {
        true => attempt.follow(),
        // The redirect itself is the answer, and no success.
        false => attempt.stop(),
    }
}

/// Resolves names, and leaves out addresses on link-local networks: whoever owns a name chooses where it leads.
#[derive(Debug)]
struct Outside;

impl Resolve for Outside {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            // The port is the caller's.
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let outside: Vec<SocketAddr> = found.filter(|address| !is_own(address.ip(), true)).collect();
            match outside.is_empty() {
                true => Err(Box::<dyn std::error::Error + Send + Sync>::from(AddressError::Own)),
                false => Ok(Box::new(outside.into_iter()) as Addrs),
            }
        })
    }
}

/// An error with its causes and without its URL, for messages that end up in events and status.
pub fn chain(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
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

#[cfg(test)]
mod tests {
    use wiremock::matchers::path;
    use wiremock::{Mock, MockServer, ResponseTemplate};

    use super::*;

    fn clients() -> HttpClients {
        rustls::crypto::ring::default_provider().install_default().ok();
        HttpClients::new(None).unwrap()
    }

    #[tokio::test]
    async fn what_was_given_for_one_origin_goes_to_no_other() {
        let (own, other) = (MockServer::start().await, MockServer::start().await);
        for status in [301, 302, 303, 307, 308] {
            let away = ResponseTemplate::new(status).insert_header("location", format!("{}/steal", other.uri()));
            Mock::given(path(format!("/away/{status}"))).respond_with(away).mount(&own).await;
            let request = clients()
                .client(false)
                .post(format!("{}/away/{status}", own.uri()))
                .header("x-api-key", "SECRET")
                .bearer_auth("SECRET")
                .body("SECRET");
            assert_eq!(request.send().await.unwrap().status().as_u16(), status);
        }
        assert!(other.received_requests().await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_redirect_within_the_origin_is_followed_and_a_circle_is_not() {
        let server = MockServer::start().await;
        let to = |place: &str| ResponseTemplate::new(307).insert_header("location", place);
        Mock::given(path("/a")).respond_with(to("/a/")).mount(&server).await;
        Mock::given(path("/a/")).respond_with(ResponseTemplate::new(200)).mount(&server).await;
        Mock::given(path("/round")).respond_with(to("/round")).mount(&server).await;
        let get = async |place: &str| {
            let request = clients().client(false).get(format!("{}{place}", server.uri()));
            request.send().await.unwrap().status().as_u16()
        };
        assert_eq!(get("/a").await, 200);
        assert_eq!(get("/round").await, 307);
        assert!(server.received_requests().await.unwrap().iter().all(|it| !it.headers.contains_key("referer")));
    }

    #[tokio::test]
    async fn errors_name_no_secret() {
        let url = "http://user:SECRET@127.0.0.1:1/services/SECRET?token=SECRET";
        let error = clients().client(false).get(url).send().await.unwrap_err();
        let text = chain(error);
        assert!(!text.contains("SECRET") && !text.is_empty(), "{text}");
    }
}
