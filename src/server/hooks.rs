//! Push webhooks: `/hooks/<forge>`.
//!
//! A webhook only says that it is time to look; nothing else in it is believed, so its body is read through the signature and
//! dropped. What it costs is bounded: bytes, time, and how many are read at once.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use tokio::sync::Semaphore;

use super::ServerState;
use crate::forge::webhook::{Fingerprint, Secrets, Sender};
use crate::http::SecretSource;

/// Paths that begin so get their body as it comes.
pub(super) const PATH: &str = "/hooks/";
/// Largest body, in bytes: GitHub's limit is 25 MB.
const BODY_MAX: usize = 32 << 20;
/// Longest time for a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Bodies read at once: hashing them takes the time of the threads that answer.
const AT_ONCE: usize = 8;
/// Webhooks that are known again: a day of 20 pushes a minute is more, and a repetition after that costs one look.
const RECENT_MAX: usize = 10_000;

/// What came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// A push that has not been told before.
    First,
    /// The same bytes came before.
    Again,
}

/// Tells what time it is.
type Now = Arc<dyn Fn() -> Timestamp + Send + Sync>;
/// Is told of what has proved itself.
type Told = Arc<dyn Fn(Pushed) + Send + Sync>;

/// What push webhooks meet.
pub struct Hooks {
    secrets: SecretSource,
    now: Now,
    told: Told,
    places: Semaphore,
    recent: Mutex<VecDeque<Fingerprint>>,
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks").field("secrets", &self.secrets).finish_non_exhaustive()
    }
}

/// Why a webhook is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Refusal {
    #[error("no webhook is expected here: set webhooks.secretFile in serin.yaml")]
    NotExpected,
    #[error("there is no such forge: /hooks/github, gitlab, gitea, bitbucket, azure or generic")]
    Unknown,
    #[error("it does not prove who sends it: is its secret one in webhooks.secretFile?")]
    NotProved,
    #[error("webhooks cannot be proved at the moment; the daemon's log says why")]
    NoSecrets,
    #[error("its body is larger than {} MiB", BODY_MAX >> 20)]
    TooLarge,
    #[error("its body did not come in time, or broke off")]
    TooLate,
    #[error("too many at once; it is polled all the same")]
    Busy,
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::NotExpected | Self::Unknown => StatusCode::NOT_FOUND,
            Self::NotProved => StatusCode::UNAUTHORIZED,
            Self::NoSecrets | Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooLate => StatusCode::REQUEST_TIMEOUT,
        }
    }
}

impl Hooks {
    /// Proves with these secrets, read anew each time so that they can be exchanged, and tells of what has proved itself.
    pub fn new(secrets: SecretSource, now: Now, told: Told) -> Self {
        Self { secrets, now, told, places: Semaphore::new(AT_ONCE), recent: Mutex::default() }
    }

    async fn take(&self, sender: Sender, headers: &HeaderMap, body: Body) -> Result<Pushed, Refusal> {
        let Ok(_place) = self.places.try_acquire() else { return Err(Refusal::Busy) };
        let secrets = Secrets::read(&self.secrets).map_err(|reason| {
            tracing::warn!("a webhook is not taken: {reason}");
            Refusal::NoSecrets
        })?;
        // What has nothing to prove itself with is not read at all.
        let proving = sender.begin(headers, &secrets, (self.now)()).ok_or(Refusal::NotProved)?;
        let read = async {
            let (mut proving, mut body, mut bytes) = (proving, body, 0);
            while let Some(frame) = body.frame().await {
                let Ok(part) = frame.map_err(|_| Refusal::TooLate)?.into_data() else { continue };
                bytes += part.len();
                if bytes > BODY_MAX {
                    return Err(Refusal::TooLarge);
                }
                proving.update(&part);
            }
            proving.finish().ok_or(Refusal::NotProved)
        };
        let proved = tokio::time::timeout(BODY_TIMEOUT, read).await.unwrap_or(Err(Refusal::TooLate))?;
        Ok(self.remember(proved))
    }

    fn remember(&self, fingerprint: Fingerprint) -> Pushed {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.contains(&fingerprint) {
            return Pushed::Again;
        }
        recent.push_back(fingerprint);
        if recent.len() > RECENT_MAX {
            recent.pop_front();
        }
        Pushed::First
    }
}

/// Answers one webhook. Git is not asked here: it is only said that it is time to.
pub(super) async fn receive(
    State(state): State<ServerState>,
    Path(sender): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    match received(&state, &sender, &headers, body).await {
        Ok((StatusCode::OK, _)) => (StatusCode::OK, "serin is here\n").into_response(),
        Ok((status, Pushed::First)) => (status, "looking\n").into_response(),
        Ok((status, Pushed::Again)) => (status, "looking again\n").into_response(),
        Err(refusal) => {
            tracing::debug!(sender, "a webhook is not taken: {refusal}");
            (refusal.status(), format!("{refusal}\n")).into_response()
        }
    }
}

async fn received(
    state: &ServerState,
    sender: &str,
    headers: &HeaderMap,
    body: Body,
) -> Result<(StatusCode, Pushed), Refusal> {
    let hooks = state.hooks.as_ref().ok_or(Refusal::NotExpected)?;
    let sender: Sender = sender.parse().map_err(|()| Refusal::Unknown)?;
    let pushed = hooks.take(sender, headers, body).await?;
    if sender.is_ping(headers) {
        return Ok((StatusCode::OK, pushed));
    }
    (hooks.told)(pushed);
    Ok((StatusCode::ACCEPTED, pushed))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use prometheus_client::registry::Registry;
    use ring::hmac;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio_util::sync::{CancellationToken, DropGuard};

    use super::*;

    const SECRET: &str = "PLANTED-secret-of-many";

    struct Served {
        address: SocketAddr,
        told: Arc<Mutex<Vec<Pushed>>>,
        folder: tempfile::TempDir,
        _guard: DropGuard,
    }

    async fn served() -> Served {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, SECRET).unwrap();
        let told = Arc::new(Mutex::new(Vec::new()));
        let heard = told.clone();
        let hooks = Hooks::new(
            SecretSource::File(path),
            Arc::new(|| Timestamp::UNIX_EPOCH),
            Arc::new(move |pushed| heard.lock().unwrap().push(pushed)),
        );
        let state = ServerState {
            alive: Arc::new(|| Ok(())),
            registry: Arc::new(Registry::default()),
            ready: Arc::new(|| Ok(())),
            revisions: Arc::new(|_| None),
            hooks: Some(Arc::new(hooks)),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, shutdown) = (listener.local_addr().unwrap(), CancellationToken::new());
        tokio::spawn(super::super::run(listener, state, shutdown.clone()));
        Served { address, told, folder, _guard: shutdown.drop_guard() }
    }

    fn signature(secret: &str, parts: &[&[u8]]) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let mut context = hmac::Context::with_key(&key);
        parts.iter().for_each(|part| context.update(part));
        context.sign().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn head(path: &str, length: usize, header: &str) -> String {
        format!(
            "POST {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {length}\r\n{header}\r\n\r\n"
        )
    }

    impl Served {
        async fn send(&self, head: &str, parts: &[&[u8]]) -> String {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            stream.write_all(head.as_bytes()).await.unwrap();
            for part in parts {
                // A server that has said no already hangs up.
                if stream.write_all(part).await.is_err() {
                    break;
                }
            }
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.ok();
            String::from_utf8_lossy(&answer).into_owned()
        }

        async fn push(&self, secret: &str, body: &[u8]) -> String {
            let header = format!("x-hub-signature-256: sha256={}", signature(secret, &[body]));
            self.send(&head("/hooks/github", body.len(), &header), &[body]).await
        }

        fn told(&self) -> Vec<Pushed> {
            self.told.lock().unwrap().clone()
        }
    }

    #[tokio::test]
    async fn what_proves_itself_wakes_and_nothing_else_does() {
        let served = served().await;
        assert!(served.push(SECRET, b"{}").await.starts_with("HTTP/1.1 202"));
        assert!(served.push(SECRET, b"not even json \xff").await.starts_with("HTTP/1.1 202"), "nothing is parsed");
        assert!(served.push(SECRET, b"{}").await.starts_with("HTTP/1.1 202"));
        assert_eq!(served.told(), [Pushed::First, Pushed::First, Pushed::Again]);
        for secret in ["somebody-elses-secret", ""] {
            let answer = served.push(secret, b"{}").await;
            assert!(answer.starts_with("HTTP/1.1 401") && !answer.contains("PLANTED"), "{answer}");
        }
        let unsigned = served.send(&head("/hooks/github", 2, "x: y"), &[b"{}"]).await;
        assert!(unsigned.starts_with("HTTP/1.1 401"), "{unsigned}");
        let unknown = served.send(&head("/hooks/svn", 2, "x: y"), &[b"{}"]).await;
        assert!(unknown.starts_with("HTTP/1.1 404"), "{unknown}");
        assert_eq!(served.told().len(), 3);
    }

    #[tokio::test]
    async fn a_ping_is_answered_and_wakes_nobody() {
        let served = served().await;
        let header =
            format!("x-github-event: ping\r\nx-hub-signature-256: sha256={}", signature(SECRET, &[b"{}"]));
        let answer = served.send(&head("/hooks/github", 2, &header), &[b"{}"]).await;
        assert!(answer.starts_with("HTTP/1.1 200") && served.told().is_empty(), "{answer}");
    }

    #[tokio::test]
    async fn a_secret_can_be_exchanged_and_one_that_is_lost_is_no_way_in() {
        let served = served().await;
        let path = served.folder.path().join("secret");
        std::fs::write(&path, format!("another-secret-of-many\n{SECRET}\n")).unwrap();
        assert!(served.push(SECRET, b"1").await.starts_with("HTTP/1.1 202"));
        assert!(served.push("another-secret-of-many", b"2").await.starts_with("HTTP/1.1 202"));
        std::fs::write(&path, "").unwrap();
        for secret in [SECRET, ""] {
            assert!(served.push(secret, b"3").await.starts_with("HTTP/1.1 503"));
        }
        assert_eq!(served.told().len(), 2);
    }

    #[tokio::test]
    async fn a_large_body_is_proved_without_being_held_and_a_huge_one_is_not_read() {
        let served = served().await;
        // As large as GitHub's largest.
        let part = vec![b'x'; 1 << 20];
        let parts: Vec<&[u8]> = (0..25).map(|_| part.as_slice()).collect();
        let header = format!("x-hub-signature-256: sha256={}", signature(SECRET, &parts));
        let answer = served.send(&head("/hooks/github", 25 << 20, &header), &parts).await;
        assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
        let parts: Vec<&[u8]> = (0..33).map(|_| part.as_slice()).collect();
        let header = format!("x-hub-signature-256: sha256={}", signature(SECRET, &parts));
        let answer = served.send(&head("/hooks/github", 33 << 20, &header), &parts).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 413"), "{answer}");
        assert_eq!(served.told(), [Pushed::First]);
    }

    #[tokio::test]
    async fn bodies_that_never_end_leave_the_others_alone() {
        let served = served().await;
        let mut slow = Vec::new();
        let header = format!("x-hub-signature-256: sha256={}", signature(SECRET, &[b"never"]));
        for _ in 0..AT_ONCE {
            let mut stream = TcpStream::connect(served.address).await.unwrap();
            stream.write_all(head("/hooks/github", 100, &header).as_bytes()).await.unwrap();
            slow.push(stream);
        }
        // Their places are taken once they are read; then nobody waits for one.
        let full = async { while !served.push(SECRET, b"x").await.starts_with("HTTP/1.1 503") {} };
        tokio::time::timeout(Duration::from_secs(20), full).await.unwrap();
        let probe = served.send("GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", &[]).await;
        assert!(probe.starts_with("HTTP/1.1 200"), "{probe}");
        drop(slow);
        let free = async { while !served.push(SECRET, b"y").await.starts_with("HTTP/1.1 202") {} };
        tokio::time::timeout(Duration::from_secs(20), free).await.unwrap();
    }

    #[tokio::test]
    async fn without_a_secret_nobody_is_expected() {
        let state = ServerState {
            alive: Arc::new(|| Ok(())),
            registry: Arc::new(Registry::default()),
            ready: Arc::new(|| Ok(())),
            revisions: Arc::new(|_| None),
            hooks: None,
        };
        let headers = HeaderMap::new();
        let answer = received(&state, "github", &headers, Body::empty()).await;
        assert_eq!(answer, Err(Refusal::NotExpected));
    }
}
