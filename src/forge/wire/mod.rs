//! What is said to each forge, and how its answers read. Pure: no I/O, no clock.

mod azure;
mod bitbucket;
mod bitbucket_server;
mod gitea;
mod github;
mod gitlab;

use reqwest::Method;
use serde_json::{Value, json};

use super::pull::{Pull, PullRequest};
use super::settings::{Kind, Place};
use super::status::{CommitState, CommitStatus, Posted};
use crate::model::CommitId;

/// One call: below the API's address.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Call {
    pub(super) method: Method,
    /// Each is escaped by itself, so that no name leads to another place.
    pub(super) segments: Vec<String>,
    pub(super) query: Vec<(&'static str, String)>,
    pub(super) body: Option<Value>,
}

impl Call {
    pub(super) fn new<'a>(method: Method, segments: impl IntoIterator<Item = &'a str>) -> Self {
        let segments = segments.into_iter().map(str::to_owned).collect();
        Self { method, segments, query: Vec::new(), body: None }
    }

    pub(super) fn get<'a>(segments: impl IntoIterator<Item = &'a str>) -> Self {
        Self::new(Method::GET, segments)
    }

    pub(super) fn post<'a>(segments: impl IntoIterator<Item = &'a str>, body: Value) -> Self {
        Self { body: Some(body), ..Self::new(Method::POST, segments) }
    }

    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }
}

/// How a token is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenAs {
    /// `Authorization: Bearer …`
    Bearer,
    /// `Authorization: token …`
    Token,
    /// `PRIVATE-TOKEN: …`
    PrivateToken,
    /// `Authorization: Basic base64(:…)`
    BasicPassword,
}

/// A forge's own words.
pub(super) trait Wire: Send + Sync + std::fmt::Debug {
    /// How a token is sent.
    fn token_as(&self) -> TokenAs;

    /// Headers of every call.
    fn headers(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }

    /// Whether a new description without a new state is shown.
    fn shows_progress(&self) -> bool {
        true
    }

    /// Sets a status.
    fn post_status(&self, status: &CommitStatus) -> Call;

    /// Whether a refusal only means that the status says that already.
    fn is_so_already(&self, _code: u16, _body: &str) -> bool {
        false
    }

    /// Asks for the statuses of a commit that are there, newest first or last by their number; one page.
    fn statuses(&self, commit: &CommitId, context: &str) -> Call;

    /// The newest of them with that context.
    fn newest(&self, answer: &Value, context: &str) -> Option<Posted>;

    /// The word for a state, as [`Posted::state`] has it.
    fn word(&self, state: CommitState) -> &'static str;

    /// Reads a pull request, found or just opened.
    fn pull(&self, value: &Value) -> Option<Pull>;

    /// The first pull request whose branch, at this place, is that one.
    fn first_pull(&self, found: &[Value], at: &str, branch: &str) -> Option<Pull> {
        found.iter().find(|it| text(it, at) == branch).and_then(|it| self.pull(it))
    }

    /// Asks for pull requests from a branch, newest first, whatever their state; pages count from 1.
    fn find_pull(&self, branch: &str, base: &str, page: usize) -> Call;

    /// The newest from that branch, and whether there may be more pages.
    fn found_pull(&self, answer: &Value, branch: &str) -> (Option<Pull>, bool);

    /// Opens one.
    fn open_pull(&self, pull: &PullRequest) -> Call;

    /// Closes one without merging it.
    fn close_pull(&self, pull: &Pull) -> Call;

    /// Where people see a file of a branch.
    fn file_url(&self, branch: &str, path: &str) -> Option<String>;
}

/// The words of a forge.
pub(super) fn of(place: &Place) -> Box<dyn Wire> {
    let place = place.clone();
    match place.kind {
        Kind::GitHub => Box::new(github::GitHub(place)),
        Kind::GitLab => Box::new(gitlab::GitLab(place)),
        Kind::Gitea => Box::new(gitea::Gitea(place)),
        Kind::Bitbucket => Box::new(bitbucket::Bitbucket(place)),
        Kind::BitbucketServer => Box::new(bitbucket_server::BitbucketServer(place)),
        Kind::Azure => Box::new(azure::Azure(place)),
    }
}

/// A page below the place where people see the forge.
pub(super) fn web(place: &Place, segments: &[&str], query: &[(&str, &str)]) -> Option<String> {
    let mut url = place.web.clone();
    url.path_segments_mut().ok()?.pop_if_empty().extend(segments);
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    Some(url.to_string())
}

/// The parts of a path or a branch's name.
pub(super) fn parts(path: &str) -> Vec<&str> {
    path.split('/').filter(|part| !part.is_empty()).collect()
}

pub(super) fn text(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

pub(super) fn number(value: &Value, pointer: &str) -> Option<u64> {
    value.pointer(pointer).and_then(Value::as_u64)
}

/// A status that is there, whose state's word is at this place.
pub(super) fn posted(found: &Value, state: &str, context: &str) -> Posted {
    Posted { context: context.to_owned(), state: text(found, state), description: text(found, "/description") }
}

/// The newest status of a list, by its number, of those that have the context at this place.
pub(super) fn newest_by_id(answer: &Value, at: &str, context: &str) -> Option<Posted> {
    let ours = entries(answer, "").iter().filter(|it| text(it, at) == context);
    ours.max_by_key(|it| number(it, "/id")).map(|found| posted(found, "/status", context))
}

/// The status that was asked for by its key, if it is there.
pub(super) fn the_one(answer: &Value, context: &str) -> Option<Posted> {
    answer.get("state").and_then(Value::as_str)?;
    Some(posted(answer, "/state", context))
}

/// A build's status, as both Bitbuckets take it. An address is required: `own`, the commit itself, if there is nothing better.
pub(super) fn build(
    status: &CommitStatus,
    key_max: usize,
    state: &str,
    own: impl FnOnce() -> Option<String>,
) -> Value {
    json!({
        "key": key(&status.context, key_max),
        "state": state,
        "name": status.short_context(),
        "description": status.short_description(),
        "url": status.target_url.clone().or_else(own),
    })
}

/// Entries of a list that may be the whole answer or stand in one of its fields.
pub(super) fn entries<'v>(answer: &'v Value, field: &str) -> &'v [Value] {
    let list = answer.as_array().or_else(|| answer.get(field).and_then(Value::as_array));
    list.map(Vec::as_slice).unwrap_or_default()
}

/// A key of at most `max` characters: a long one ends in a digest of all of it.
pub(super) fn key(context: &str, max: usize) -> String {
    /// Characters of the digest: two contexts of one commit with the same are no accident.
    const DIGEST: usize = 12;
    if context.chars().count() <= max {
        return context.to_owned();
    }
    let digest = crate::model::Digest::of_canonical(context.as_bytes());
    let digest: String = digest.to_string().trim_start_matches("v1:").chars().take(DIGEST).collect();
    let head: String = context.chars().take(max.saturating_sub(DIGEST + 1)).collect();
    format!("{head}-{digest}")
}
