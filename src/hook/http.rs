//! Webhooks over HTTP.

use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use reqwest::StatusCode;

use crate::metrics::{HttpClients, error_chain};
use crate::release::HookReply;

use super::{HookCall, HookCaller};

/// Bytes of a reply that are kept for events and status.
const BODY_MAX: usize = 1024;
/// Wait before the first repetition; doubled each time (Flagger's retryable client).
const BACKOFF_FIRST: Duration = Duration::from_secs(1);
/// Longest wait between two attempts.
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// Most repetitions of one call, whatever the Canary says: the release's own threshold is the outer bound.
const RETRIES_MAX: u32 = 10;

/// The caller that the daemon uses.
#[derive(Debug, Clone)]
pub struct HttpHooks {
    clients: HttpClients,
}

/// What one attempt came to.
enum Attempt {
    Done(HookReply),
    /// Worth repeating; the reply if there are no attempts left.
    Again(HookReply),
}

impl HttpHooks {
    /// A caller that goes through `clients`.
    pub fn new(clients: HttpClients) -> Self {
        Self { clients }
    }

    async fn attempt(&self, call: &HookCall, number: u32) -> Attempt {
        let HookCall { url, timeout, retries: _, insecure, key, payload } = call;
        let request = self
            .clients
            .client(*insecure)
            .post(url)
            .header("Serin-Release", key.release.as_str())
            .header("Serin-Step", key.tick.to_string())
            .header("Serin-Attempt", number.to_string())
            .timeout(*timeout)
            .json(payload);
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) if error.is_builder() => return Attempt::Done(refused(error_chain(&error))),
            Err(error) if error.is_timeout() => {
                return Attempt::Again(refused(format!("no answer within {} ms", timeout.as_millis())));
            }
            Err(error) => return Attempt::Again(refused(error_chain(&error))),
        };
        let status = response.status();
        let body = read_start(response).await;
        if status.is_success() {
            return Attempt::Done(HookReply { accepted: true, body });
        }
        let reply = refused(if body.is_empty() { status.to_string() } else { body });
        if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
            Attempt::Again(reply)
        } else {
            Attempt::Done(reply)
        }
    }
}

impl HookCaller for HttpHooks {
    fn call<'a>(&'a self, call: &'a HookCall) -> BoxFuture<'a, HookReply> {
        Box::pin(async move {
            let last = call.retries.min(RETRIES_MAX) + 1;
            let mut backoff = BACKOFF_FIRST;
            let mut number = 1;
            loop {
                match self.attempt(call, number).await {
                    Attempt::Done(reply) => return reply,
                    Attempt::Again(reply) if number == last => return reply,
                    Attempt::Again(reply) => {
                        tracing::debug!(
                            url = call.url,
                            attempt = number,
                            reply = reply.body,
                            "webhook failed, will repeat"
                        );
                    }
                }
                tokio::time::sleep(backoff).await;
                backoff = (backoff * 2).min(BACKOFF_MAX);
                number += 1;
            }
        })
    }
}

fn refused(body: String) -> HookReply {
    HookReply { accepted: false, body: truncate(body) }
}

/// Reads at most [`BODY_MAX`] bytes; the rest of a long reply is not fetched.
async fn read_start(response: reqwest::Response) -> String {
    let mut body = Vec::with_capacity(BODY_MAX);
    let mut chunks = response.bytes_stream();
    while let Some(Ok(chunk)) = chunks.next().await {
        body.extend_from_slice(&chunk);
        if body.len() >= BODY_MAX {
            break;
        }
    }
    truncate(String::from_utf8_lossy(&body).trim().to_owned())
}

fn truncate(mut text: String) -> String {
    if text.len() > BODY_MAX {
        let end = (0..=BODY_MAX).rev().find(|index| text.is_char_boundary(*index)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use wiremock::matchers::{body_json, header};
    use wiremock::{Mock, MockServer, ResponseTemplate};

    use crate::hook::HookPayload;
    use crate::model::{Digest, ReleaseId};
    use crate::release::QuestionKey;

    use super::*;

    fn call(url: String, retries: u32) -> HookCall {
        HookCall {
            url,
            timeout: Duration::from_secs(10),
            retries,
            insecure: false,
            key: QuestionKey {
                release: ReleaseId::new(2, &Digest::of_canonical(b"x")),
                tick: 3,
                check: "hook/rollout/load".into(),
            },
            payload: HookPayload {
                name: "podinfo".into(),
                namespace: "test".into(),
                phase: "Progressing".into(),
                checksum: "abc".into(),
                metadata: [("cmd".to_owned(), "hey".to_owned())].into(),
            },
        }
    }

    fn hooks() -> HttpHooks {
        rustls::crypto::ring::default_provider().install_default().ok();
        HttpHooks::new(HttpClients::new(None).unwrap())
    }

    #[tokio::test]
    async fn speaks_flaggers_contract_and_accepts_any_2xx() {
        let server = MockServer::start().await;
        Mock::given(header("serin-step", "3"))
            .and(header("serin-attempt", "1"))
            .and(body_json(json!({
                "name": "podinfo", "namespace": "test", "phase": "Progressing", "checksum": "abc",
                "metadata": {"cmd": "hey"}
            })))
            .respond_with(ResponseTemplate::new(204))
            .mount(&server)
            .await;
        assert_eq!(hooks().call(&call(server.uri(), 0)).await, HookReply { accepted: true, body: String::new() });
    }

    #[tokio::test]
    async fn keeps_the_body_of_a_refusal_within_bounds() {
        let server = MockServer::start().await;
        Mock::given(wiremock::matchers::any())
            .respond_with(ResponseTemplate::new(500).set_body_string("ü".repeat(BODY_MAX)))
            .mount(&server)
            .await;
        let reply = hooks().call(&call(server.uri(), 0)).await;
        assert!(!reply.accepted);
        assert_eq!(reply.body, "ü".repeat(BODY_MAX / 2));
    }

    #[tokio::test]
    async fn repeats_server_errors_but_not_refusals() {
        let server = MockServer::start().await;
        Mock::given(header("serin-attempt", "1")).respond_with(ResponseTemplate::new(503)).mount(&server).await;
        Mock::given(header("serin-attempt", "2")).respond_with(ResponseTemplate::new(403)).mount(&server).await;
        let reply = hooks().call(&call(server.uri(), 5)).await;
        assert_eq!(reply, HookReply { accepted: false, body: "403 Forbidden".into() });
        assert_eq!(server.received_requests().await.unwrap().len(), 2);
    }
}
