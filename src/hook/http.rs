//! Webhooks over HTTP.

use futures::StreamExt as _;
use futures::future::BoxFuture;
use reqwest::StatusCode;

use crate::http::{HttpClients, OriginToken, chain};
use crate::release::{Hook, HookReply};

use super::{HookCall, HookCaller};

/// Bytes of a reply that are kept for events and status.
const BODY_MAX: usize = 1024;

/// The caller that the daemon uses.
#[derive(Debug, Clone)]
pub struct HttpHooks {
    clients: HttpClients,
    token: Option<OriginToken>,
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
        Self { clients, token: None }
    }

    /// The same, which proves itself to the load testers that have this token.
    pub fn with_token(self, token: Option<OriginToken>) -> Self {
        Self { token, ..self }
    }

    async fn attempt(&self, call: &HookCall, number: u32) -> Attempt {
        let HookCall { hook: Hook { url, timeout, disable_tls, .. }, key, payload } = call;
        let address = match self.clients.address(url) {
            Ok(address) => address,
            Err(error) => return Attempt::Done(refused(error.to_string())),
        };
        let token = self.token.as_ref().map_or(Ok(None), |token| token.for_call(address.url()));
        let token = match token {
            Ok(token) => token,
            // A file that is being replaced is there again at the next attempt.
            Err(reason) => return Attempt::Again(refused(format!("the load tester's token {reason}"))),
        };
        let mut request = self
            .clients
            .client(*disable_tls)
            .post(address.url().clone())
            .header("Serin-Release", key.tick.release.as_str())
            .header("Serin-Step", key.tick.number.to_string())
            .header("Serin-Attempt", number.to_string())
            .timeout(*timeout)
            .json(payload);
        if let Some(token) = token {
            request = request.bearer_auth(token.expose());
        }
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) if error.is_builder() => return Attempt::Done(refused(chain(error))),
            Err(error) if error.is_timeout() => {
                return Attempt::Again(refused(format!("no answer within {} ms", timeout.as_millis())));
            }
            Err(error) => return Attempt::Again(refused(chain(error))),
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
            let mut pauses = call.hook.pauses();
            let mut number = 1;
            loop {
                let reply = match self.attempt(call, number).await {
                    Attempt::Done(reply) => return reply,
                    Attempt::Again(reply) => reply,
                };
                let Some(pause) = pauses.next() else { return reply };
                tracing::debug!(
                    hook = call.hook.name,
                    attempt = number,
                    reply = reply.body,
                    "webhook failed, will repeat"
                );
                tokio::time::sleep(pause).await;
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
    use std::collections::BTreeMap;
    use std::time::Duration;

    use serde_json::json;
    use wiremock::matchers::{body_json, header};
    use wiremock::{Mock, MockServer, ResponseTemplate};

    use crate::hook::HookPayload;
    use crate::model::{Digest, ReleaseId};
    use crate::release::{Counter, HookKey, HookKind, Keyed, Tick};

    use super::*;

    fn call(url: String, retries: u32) -> HookCall {
        let metadata: BTreeMap<_, _> = [("cmd".to_owned(), "hey".to_owned())].into();
        let hook = Hook {
            name: "load".into(),
            kind: HookKind::Rollout,
            url,
            timeout: Duration::from_secs(10),
            retries,
            disable_tls: false,
            metadata: metadata.clone(),
        };
        let release = ReleaseId::new(2, &Digest::of_canonical(b"x"));
        let tick = Tick { release, of: Counter::Steps, number: 3 };
        let hooks: Keyed<Hook> = [hook.clone()].into_iter().collect();
        HookCall {
            key: HookKey { tick, hook: hooks.iter().next().unwrap().0.clone() },
            hook,
            payload: HookPayload {
                name: "podinfo".into(),
                namespace: "test".into(),
                phase: "Progressing".into(),
                checksum: "abc".into(),
                metadata,
            },
        }
    }

    fn hooks() -> HttpHooks {
        rustls::crypto::ring::default_provider().install_default().ok();
        HttpHooks::new(HttpClients::new(None).unwrap())
    }

    #[tokio::test]
    async fn d16_speaks_flaggers_contract_and_accepts_any_2xx() {
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
