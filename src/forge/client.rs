//! Talks to a forge: one call at a time per question, with limits in time and bytes, and only to the API's own address.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use jiff::Timestamp;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{RequestBuilder, StatusCode, Url};
use serde_json::Value;
use tokio::time::Instant;

use super::Forge;
use super::app::{self, Tokens};
use super::error::ForgeError;
use super::pull::{Pull, PullRequest};
use super::settings::{Access, ForgeSettings, Place};
use super::status::{CommitStatus, Posted};
use super::wire::{self, Call, TokenAs, Wire};
use crate::http::{HttpClients, Secret, SecretSource, chain};
use crate::model::CommitId;
use crate::model::told_within;

/// Longest time of one call, answer included.
const CALL_LIMIT: Duration = Duration::from_secs(15);
/// Largest answer that is read, in bytes: a page of a hundred statuses takes 200 kB.
const ANSWER_MAX: usize = 1 << 20;
/// Most of an answer that is quoted, in characters.
const QUOTE_MAX: usize = 300;
/// Pages looked through for one thing; what is not on them is taken not to be there.
pub const PAGES_MAX: usize = 5;
/// Wait where a forge says that it is too much, and not for how long: GitHub asks for at least a minute.
const WAIT_DEFAULT: Duration = Duration::from_secs(60);
/// Longest wait that is believed: the longest window among the forges.
const WAIT_MAX: Duration = Duration::from_secs(3600);
/// Below this share of an allowance only what is final is told.
const SCARCE: f64 = 0.1;

/// Tells what time it is.
pub type Now = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// One repository at its forge.
pub struct Client {
    place: Place,
    api: Url,
    wire: Box<dyn Wire>,
    access: Access,
    http: HttpClients,
    target_url: Option<String>,
    now: Now,
    /// Of an App.
    tokens: Tokens,
    /// Nothing is asked before that.
    not_before: Mutex<Option<Instant>>,
    /// Little is left of what may be asked.
    scarce: AtomicBool,
}

/// An answer.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Client {
    /// A client for one repository. Nothing is asked yet.
    pub fn new(settings: ForgeSettings, http: HttpClients, now: Now) -> Self {
        let ForgeSettings { place, access, ca_file: _, target_url } = settings;
        let (api, wire) = (place.api(), wire::of(&place));
        let (not_before, scarce) = (Mutex::new(None), AtomicBool::new(false));
        Self { place, api, wire, access, http, target_url, now, tokens: Tokens::default(), not_before, scarce }
    }

    /// Where the repository is.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The answer to a question; `None` if what is asked for is not there.
    async fn value(&self, call: &Call) -> Result<Option<Value>, ForgeError> {
        let answer = self.ask(call).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        if !answer.status.is_success() {
            return Err(self.refusal(&answer));
        }
        serde_json::from_str(&answer.body).map(Some).map_err(|error| ForgeError::Away {
            forge: self.place.kind.name(),
            reason: format!("its answer is no JSON: {error}"),
        })
    }

    async fn ask(&self, call: &Call) -> Result<Answer, ForgeError> {
        let forge = self.place.kind.name();
        if let Some(wait) = self.waits() {
            return Err(ForgeError::Limited { forge, wait });
        }
        let request = self.authorized(self.request(call)?).await?;
        let answer = self.send(request).await?;
        if answer.status == StatusCode::UNAUTHORIZED {
            // The next call makes a new one, where we make them.
            self.tokens.forget().await;
        }
        self.note_allowance(&answer);
        match self.limit(&answer) {
            Some(wait) => {
                *self.not_before.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + wait);
                Err(ForgeError::Limited { forge, wait })
            }
            None => Ok(answer),
        }
    }

    async fn send(&self, request: RequestBuilder) -> Result<Answer, ForgeError> {
        let away = |reason| ForgeError::Away { forge: self.place.kind.name(), reason };
        match tokio::time::timeout(CALL_LIMIT, send(request)).await {
            Ok(answer) => answer.map_err(away),
            Err(_elapsed) => Err(away(format!("no answer within {} s", CALL_LIMIT.as_secs()))),
        }
    }

    /// A token of the App's installation in this repository, for this repository alone.
    async fn installation_token(&self, id: &str, key: &SecretSource) -> Result<Secret, ForgeError> {
        let forge = self.place.kind.name();
        let denied = |reason: String| ForgeError::Denied { forge, reason, hint: "see forge.app in serin.yaml" };
        let proof = app::proof(id, &key.read().map_err(denied)?, (self.now)());
        let proof = proof.map_err(|reason| denied(reason.to_owned()))?;
        let ask = async |call: Call| -> Result<Value, ForgeError> {
            let request = with_token(self.request(&call)?, TokenAs::Bearer, &proof);
            let answer = self.send(request.map_err(|reason| denied(reason.to_owned()))?).await?;
            match answer.status.is_success() {
                true => serde_json::from_str(&answer.body)
                    .map_err(|_| ForgeError::Away { forge, reason: "its answer is no JSON".to_owned() }),
                false => Err(self.refusal(&answer)),
            }
        };
        let (owner, name) = match &self.place.repository[..] {
            [owner, name] => (owner.as_str(), name.as_str()),
            _ => return Err(denied("an App is GitHub's".to_owned())),
        };
        let installation = ask(Call::get(["repos", owner, name, "installation"])).await?;
        let installation = wire::number(&installation, "/id").map(|id| id.to_string());
        let installation = installation.ok_or_else(|| denied("the App is not installed there".to_owned()))?;
        let call = Call::post(
            ["app", "installations", installation.as_str(), "access_tokens"],
            serde_json::json!({"repositories": [name]}),
        );
        let token = Secret::new(&wire::text(&ask(call).await?, "/token"));
        if token.is_empty() { Err(denied("its answer holds no token".to_owned())) } else { Ok(token) }
    }

    /// How long nothing may be asked.
    fn waits(&self) -> Option<Duration> {
        let mut not_before = self.not_before.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = not_before.map(|until| until.saturating_duration_since(Instant::now()));
        let wait = wait.filter(|wait| !wait.is_zero());
        if wait.is_none() {
            *not_before = None;
        }
        wait
    }

    fn request(&self, call: &Call) -> Result<RequestBuilder, ForgeError> {
        let mut url = self.api.clone();
        let unusable = |reason: &str| ForgeError::Refused {
            forge: self.place.kind.name(),
            reason: format!("the address of its API {reason}"),
        };
        url.path_segments_mut().map_err(|()| unusable("takes no path"))?.pop_if_empty().extend(&call.segments);
        if !call.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&call.query);
        }
        // Whatever is in a name, it leads to nobody else.
        if url.origin() != self.api.origin() {
            return Err(unusable("would be another's"));
        }
        let mut request = self.http.client(false).request(call.method.clone(), url);
        for (name, value) in self.wire.headers() {
            request = request.header(*name, *value);
        }
        Ok(match &call.body {
            Some(body) => request.json(body),
            None => request,
        })
    }

    async fn authorized(&self, request: RequestBuilder) -> Result<RequestBuilder, ForgeError> {
        let denied = |reason: String| ForgeError::Denied {
            forge: self.place.kind.name(),
            reason,
            hint: "see forge.tokenFile in serin.yaml",
        };
        match &self.access {
            Access::Token(token) => {
                let token = token.read().map_err(denied)?;
                with_token(request, self.wire.token_as(), &token).map_err(|reason| denied(reason.to_owned()))
            }
            Access::App { id, key } => {
                let token = self.tokens.get(self.installation_token(id, key)).await?;
                with_token(request, TokenAs::Bearer, &token).map_err(|reason| denied(reason.to_owned()))
            }
            Access::Basic { username, password } => {
                let password = password.read().map_err(denied)?;
                Ok(request.basic_auth(username, Some(password.expose())))
            }
        }
    }

    fn note_allowance(&self, answer: &Answer) {
        let number = |names: [&str; 2]| {
            let found = names.iter().find_map(|name| answer.headers.get(*name)?.to_str().ok());
            found.and_then(|text| text.trim().parse::<f64>().ok())
        };
        let left = number(["x-ratelimit-remaining", "ratelimit-remaining"]);
        if let (Some(left), Some(limit)) = (left, number(["x-ratelimit-limit", "ratelimit-limit"])) {
            self.scarce.store(left < limit * SCARCE, Ordering::Relaxed);
        }
    }

    /// How long the forge wants us to wait, if that is what it says.
    fn limit(&self, answer: &Answer) -> Option<Duration> {
        let header = |name: &str| answer.headers.get(name).and_then(|value| value.to_str().ok());
        let none_left = ["x-ratelimit-remaining", "ratelimit-remaining"]
            .iter()
            .any(|name| header(name).is_some_and(|left| left.trim() == "0"));
        let after = header("retry-after");
        let limited = match answer.status {
            StatusCode::TOO_MANY_REQUESTS => true,
            // GitHub says so where others say 429.
            StatusCode::FORBIDDEN => none_left || after.is_some() || answer.body.contains("secondary rate limit"),
            StatusCode::SERVICE_UNAVAILABLE => after.is_some(),
            _ => false,
        };
        let seconds = |text: &str| text.trim().parse::<u64>().ok().map(Duration::from_secs);
        let reset = || {
            let reset = ["x-ratelimit-reset", "ratelimit-reset"].iter().find_map(|name| header(name))?;
            let reset: i64 = reset.trim().parse().ok()?;
            // By the forge's own clock.
            let now = jiff::fmt::rfc2822::parse(header("date")?).ok()?.timestamp().as_second();
            u64::try_from(reset.saturating_sub(now)).ok().map(Duration::from_secs)
        };
        let wait = after.and_then(seconds).or_else(|| reset().filter(|_| none_left)).unwrap_or(WAIT_DEFAULT);
        limited.then(|| wait.clamp(Duration::from_secs(1), WAIT_MAX))
    }

    fn refusal(&self, answer: &Answer) -> ForgeError {
        let forge = self.place.kind.name();
        let reason = quoted(answer);
        let unknown_commit = reason.to_ascii_lowercase().contains("commit");
        match answer.status.as_u16() {
            401 => {
                ForgeError::Denied { forge, reason, hint: "the token is wrong or expired: see forge.tokenFile" }
            }
            403 => ForgeError::Denied {
                forge,
                reason,
                hint: "the token may not do this: let it write commit statuses and pull requests",
            },
            404 if !unknown_commit => {
                ForgeError::Denied { forge, reason, hint: "is forge.repository right, and may the token see it?" }
            }
            code if code >= 500 => ForgeError::Away { forge, reason },
            // What our own HTTP client did not follow.
            300..=399 => ForgeError::Denied {
                forge,
                reason: "it leads elsewhere".to_owned(),
                hint: "name where it is in forge.url: credentials go nowhere else",
            },
            _ => ForgeError::Refused { forge, reason },
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("place", &self.place).field("access", &self.access).finish_non_exhaustive()
    }
}

impl Forge for Client {
    fn shows_progress(&self) -> bool {
        self.wire.shows_progress()
    }

    fn is_scarce(&self) -> bool {
        self.scarce.load(Ordering::Relaxed)
    }

    fn target_url(&self, branch: &str, path: &str) -> Option<String> {
        self.target_url.clone().or_else(|| self.wire.file_url(branch, path))
    }

    fn post_status<'a>(&'a self, status: &'a CommitStatus) -> BoxFuture<'a, Result<(), ForgeError>> {
        Box::pin(async {
            let answer = self.ask(&self.wire.post_status(status)).await?;
            if answer.status.is_success() || self.wire.is_so_already(answer.status.as_u16(), &answer.body) {
                return Ok(());
            }
            Err(self.refusal(&answer))
        })
    }

    fn posted<'a>(
        &'a self,
        commit: &'a CommitId,
        context: &'a str,
    ) -> BoxFuture<'a, Result<Option<Posted>, ForgeError>> {
        Box::pin(async {
            let answer = self.value(&self.wire.statuses(commit, context)).await?;
            Ok(answer.and_then(|answer| self.wire.newest(&answer, context)))
        })
    }

    fn is_same(&self, posted: &Posted, status: &CommitStatus) -> bool {
        posted.state == self.wire.word(status.state)
            && (!self.wire.shows_progress() || posted.description == status.short_description())
    }

    fn find_pull<'a>(&'a self, branch: &'a str, base: &'a str) -> BoxFuture<'a, Result<Option<Pull>, ForgeError>> {
        Box::pin(async move {
            for page in 1..=PAGES_MAX {
                let Some(answer) = self.value(&self.wire.find_pull(branch, base, page)).await? else { break };
                let (found, more) = self.wire.found_pull(&answer, branch);
                if found.is_some() || !more {
                    return Ok(found);
                }
            }
            Ok(None)
        })
    }

    fn open_pull<'a>(&'a self, pull: &'a PullRequest) -> BoxFuture<'a, Result<Pull, ForgeError>> {
        Box::pin(async {
            let answer = self.ask(&self.wire.open_pull(pull)).await?;
            if !answer.status.is_success() {
                return Err(self.refusal(&answer));
            }
            let opened = serde_json::from_str(&answer.body).ok().and_then(|answer| self.wire.pull(&answer));
            opened.ok_or_else(|| ForgeError::Away {
                forge: self.place.kind.name(),
                reason: "its answer names no pull request".to_owned(),
            })
        })
    }

    fn close_pull<'a>(&'a self, pull: &'a Pull) -> BoxFuture<'a, Result<(), ForgeError>> {
        Box::pin(async {
            let answer = self.ask(&self.wire.close_pull(pull)).await?;
            if answer.status.is_success() { Ok(()) } else { Err(self.refusal(&answer)) }
        })
    }
}

/// What an answer says, in one line: most forges have a field for it.
fn quoted(answer: &Answer) -> String {
    let said = serde_json::from_str::<Value>(&answer.body).ok().and_then(|body| {
        let found = ["/message", "/error/message", "/error", "/errors/0/message"];
        found.iter().find_map(|place| body.pointer(place)).map(|said| match said {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        })
    });
    let said = said.unwrap_or_else(|| answer.body.clone());
    let line: Vec<&str> = said.split_whitespace().collect();
    told_within(format!("{} {}", answer.status, line.join(" ")), QUOTE_MAX)
}

pub(super) fn with_token(
    request: RequestBuilder,
    form: TokenAs,
    token: &Secret,
) -> Result<RequestBuilder, &'static str> {
    let header = |name: &'static str, text: String| -> Result<(HeaderName, HeaderValue), &'static str> {
        let mut value = HeaderValue::from_str(&text).map_err(|_| "the token holds what no header takes")?;
        value.set_sensitive(true);
        Ok((HeaderName::from_static(name), value))
    };
    let token = token.expose();
    let (name, value) = match form {
        TokenAs::Bearer => header("authorization", format!("Bearer {token}"))?,
        TokenAs::Token => header("authorization", format!("token {token}"))?,
        TokenAs::PrivateToken => header("private-token", token.to_owned())?,
        TokenAs::BasicPassword => return Ok(request.basic_auth("", Some(token))),
    };
    Ok(request.header(name, value))
}

async fn send(request: RequestBuilder) -> Result<Answer, String> {
    let mut response = request.send().await.map_err(chain)?;
    let (status, headers) = (response.status(), response.headers().clone());
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await.map_err(chain)? {
        if body.len() + part.len() > ANSWER_MAX {
            return Err(format!("its answer has more than {ANSWER_MAX} bytes"));
        }
        body.extend_from_slice(&part);
    }
    Ok(Answer { status, headers, body: String::from_utf8_lossy(&body).into_owned() })
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
