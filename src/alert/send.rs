//! Delivers a message.

use std::time::Duration;

use futures::future::BoxFuture;
use reqwest::Url;
use serde_json::Value;

use super::{Chat, Chats, Message, Product, payload};
use crate::http::{Address, AddressError, HttpClients, chain};

/// Longest time of one call: chats answer within a second or are down.
const CALL_LIMIT: Duration = Duration::from_secs(10);
/// Bytes of an answer that are read: what is wrong stands at its beginning.
const ANSWER_MAX: usize = 4096;

/// A message that was not delivered.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The proxy cannot be used.
    #[error("the proxy cannot be used: {0}")]
    Proxy(String),
    /// Nobody answered.
    #[error("{0}")]
    Away(String),
    /// The chat does not take it.
    #[error("the chat answers {status}: {answer}")]
    Refused {
        /// Of HTTP.
        status: u16,
        /// What it says.
        answer: String,
    },
}

/// Chats over HTTP.
#[derive(Debug, Clone)]
pub struct HttpChats(HttpClients);

impl HttpChats {
    /// Those that these clients reach.
    pub fn new(http: HttpClients) -> Self {
        Self(http)
    }
}

impl Chats for HttpChats {
    fn address(&self, text: &str) -> Result<Address, AddressError> {
        self.0.address(text)
    }

    fn send<'a>(&'a self, chat: &'a Chat, message: &'a Message) -> BoxFuture<'a, Result<(), SendError>> {
        Box::pin(send(&self.0, chat, message))
    }
}

async fn send(http: &HttpClients, chat: &Chat, message: &Message) -> Result<(), SendError> {
    let own;
    let http = match &chat.proxy {
        None => http,
        Some(proxy) => {
            own = HttpClients::new(Some(proxy)).map_err(|error| SendError::Proxy(error.to_string()))?;
            &own
        }
    };
    let mut request = http.client(false).post(place(chat)).timeout(CALL_LIMIT).json(&payload(chat, message));
    if let Some(token) = &chat.token {
        request = request.bearer_auth(token);
    }
    let mut response = request.send().await.map_err(|error| SendError::Away(chain(error)))?;
    let status = response.status();
    let mut answer = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| SendError::Away(chain(error)))? {
        answer.extend_from_slice(&chunk);
        if answer.len() >= ANSWER_MAX {
            answer.truncate(ANSWER_MAX);
            break;
        }
    }
    // Slack's own API says so in a body, and answers 200.
    let says_no = serde_json::from_slice::<Value>(&answer).is_ok_and(|answer| answer["ok"] == false);
    if status.is_success() && !says_no {
        return Ok(());
    }
    Err(SendError::Refused { status: status.as_u16(), answer: String::from_utf8_lossy(&answer).into_owned() })
}

/// Discord takes Slack's form below its own address.
fn place(chat: &Chat) -> Url {
    let mut url = chat.address.url().clone();
    if chat.product == Product::Discord && !url.path().ends_with("/slack") {
        let path = format!("{}/slack", url.path().trim_end_matches('/'));
        url.set_path(&path);
    }
    url
}

#[cfg(test)]
mod tests {
    use wiremock::matchers::{header, method, path};
    use wiremock::{Mock, MockServer, ResponseTemplate};

    use super::super::Severity;
    use super::*;

    fn http() -> HttpClients {
        rustls::crypto::ring::default_provider().install_default().ok();
        HttpClients::new(None).unwrap()
    }

    fn chat(server: &MockServer, product: Product, token: Option<&str>) -> Chat {
        let address = Address::parse(&format!("{}/hook", server.uri())).unwrap();
        Chat { product, address, channel: None, username: None, token: token.map(str::to_owned), proxy: None }
    }

    fn message() -> Message {
        Message { severity: Severity::Info, about: "a.b".into(), text: "said".into(), fields: Vec::new() }
    }

    #[tokio::test]
    async fn each_goes_where_its_product_listens() {
        let server = MockServer::start().await;
        let ok = || ResponseTemplate::new(200).set_body_string("ok");
        Mock::given(method("POST"))
            .and(path("/hook"))
            .and(header("authorization", "Bearer t"))
            .respond_with(ok())
            .expect(1)
            .mount(&server)
            .await;
        Mock::given(method("POST")).and(path("/hook/slack")).respond_with(ok()).expect(1).mount(&server).await;
        send(&http(), &chat(&server, Product::Slack, Some("t")), &message()).await.unwrap();
        send(&http(), &chat(&server, Product::Discord, None), &message()).await.unwrap();
    }

    #[tokio::test]
    async fn a_refusal_is_told_without_the_address() {
        let server = MockServer::start().await;
        let no = ResponseTemplate::new(200).set_body_string(r#"{"ok":false,"error":"channel_not_found"}"#);
        Mock::given(method("POST")).and(path("/hook")).respond_with(no).mount(&server).await;
        let refused = send(&http(), &chat(&server, Product::Slack, None), &message()).await.unwrap_err();
        assert!(refused.to_string().contains("channel_not_found"), "{refused}");
        let gone = ResponseTemplate::new(404).set_body_string("x".repeat(100_000));
        Mock::given(method("POST")).and(path("/hook/slack")).respond_with(gone).mount(&server).await;
        let refused = send(&http(), &chat(&server, Product::Discord, None), &message()).await.unwrap_err();
        assert!(refused.to_string().len() < 5000);
        drop(server);
        let nowhere = Address::parse("http://127.0.0.1:1/SECRET").unwrap();
        let chat = Chat {
            product: Product::Slack,
            address: nowhere,
            channel: None,
            username: None,
            token: None,
            proxy: None,
        };
        let away = send(&http(), &chat, &message()).await.unwrap_err().to_string();
        assert!(!away.contains("SECRET"), "{away}");
    }
}
