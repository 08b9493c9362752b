//! One HTTP exchange with a socket, on a connection of its own, so that what went wrong is known exactly.

use std::net::SocketAddr;

use axum::body::Body;
use http::header::{self, HeaderName};
use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Headers that belong to one connection.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExchangeError {
    #[error("cannot connect: {0}")]
    Connect(#[source] std::io::Error),
    #[error("the connection broke: {0}")]
    Broken(#[from] hyper::Error),
}

/// Sends a request, whose URI is a path, and returns the answer with its body still to come.
pub(super) async fn exchange(
    socket: SocketAddr,
    request: Request<Body>,
) -> Result<Response<Incoming>, ExchangeError> {
    let stream = TcpStream::connect(socket).await.map_err(ExchangeError::Connect)?;
    // Without this small answers wait for acknowledgements, which would show up in the latencies.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        // A failure here is also one of the request or of its body.
        if let Err(error) = connection.await {
            tracing::trace!(%error, "a connection to a pod ended early");
        }
    });
    let mut response = sender.send_request(request).await?;
    drop_hop_by_hop(response.headers_mut());
    Ok(response)
}

/// Removes what must not be passed on.
pub(super) fn drop_hop_by_hop(headers: &mut HeaderMap) {
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}
