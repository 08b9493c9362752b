//! Azure DevOps: REST API, version 7.1.

use reqwest::Method;
use serde_json::{Value, json};

use super::{Call, TokenAs, Wire, entries, number, posted, text, web};
use crate::forge::pull::{Pull, PullRequest};
use crate::forge::settings::Place;
use crate::forge::status::{CommitState, CommitStatus, Posted};
use crate::model::CommitId;

/// The API's version: asked for in every call.
const VERSION: &str = "7.1";

#[derive(Debug)]
pub(super) struct Azure(pub(super) Place);

impl Azure {
    fn below<'a>(&'a self, rest: &[&'a str]) -> Vec<&'a str> {
        match &self.0.repository[..] {
            [organization, project, name] => [organization, project, "_apis", "git", "repositories", name]
                .into_iter()
                .chain(rest.iter().copied())
                .collect(),
            // `Place::of` takes three segments only.
            _ => rest.to_vec(),
        }
    }

    fn page(&self) -> Vec<&str> {
        match &self.0.repository[..] {
            [organization, project, name] => vec![organization, project, "_git", name],
            _ => Vec::new(),
        }
    }
}

/// `serin/prod/test/podinfo` is `test/podinfo` of the genre `serin/prod`.
fn split(context: &str) -> (&str, &str) {
    let at = context.match_indices('/').nth(1).map(|(at, _)| at);
    at.map_or(("serin", context), |at| (&context[..at], &context[at + 1..]))
}

impl Wire for Azure {
    fn token_as(&self) -> TokenAs {
        TokenAs::BasicPassword
    }

    fn post_status(&self, status: &CommitStatus) -> Call {
        let context = status.short_context();
        let (genre, name) = split(&context);
        let body = json!({
            "state": self.word(status.state),
            "description": status.short_description(),
            "targetUrl": status.target_url,
            "context": {"genre": genre, "name": name},
        });
        Call::post(self.below(&["commits", status.commit.as_str(), "statuses"]), body).with("api-version", VERSION)
    }

    fn statuses(&self, commit: &CommitId, _context: &str) -> Call {
        Call::get(self.below(&["commits", commit.as_str(), "statuses"]))
            .with("latestOnly", "true")
            .with("top", "100")
            .with("api-version", VERSION)
    }

    fn newest(&self, answer: &Value, context: &str) -> Option<Posted> {
        let (genre, name) = split(context);
        let ours = |it: &&Value| text(it, "/context/genre") == genre && text(it, "/context/name") == name;
        let found = entries(answer, "value").iter().filter(ours).max_by_key(|it| number(it, "/id"))?;
        Some(posted(found, "/state", context))
    }

    fn word(&self, state: CommitState) -> &'static str {
        match state {
            CommitState::Pending | CommitState::Running => "pending",
            CommitState::Success => "succeeded",
            CommitState::Failure => "failed",
            CommitState::Error => "error",
            CommitState::Cancelled => "notApplicable",
        }
    }

    fn pull(&self, value: &Value) -> Option<Pull> {
        let id = number(value, "/pullRequestId")?;
        let url = web(&self.0, &[&self.page()[..], &["pullrequest", &id.to_string()]].concat(), &[]);
        let is_open = text(value, "/status") == "active";
        Some(Pull { number: id, version: None, url: url.unwrap_or_default(), is_open })
    }

    fn find_pull(&self, branch: &str, base: &str, _page: usize) -> Call {
        Call::get(self.below(&["pullrequests"]))
            .with("searchCriteria.status", "all")
            .with("searchCriteria.sourceRefName", format!("refs/heads/{branch}"))
            .with("searchCriteria.targetRefName", format!("refs/heads/{base}"))
            .with("$top", "1")
            .with("api-version", VERSION)
    }

    fn found_pull(&self, answer: &Value, branch: &str) -> (Option<Pull>, bool) {
        let reference = format!("refs/heads/{branch}");
        (self.first_pull(entries(answer, "value"), "/sourceRefName", &reference), false)
    }

    fn open_pull(&self, pull: &PullRequest) -> Call {
        let body = json!({
            "title": pull.short_title(), "description": pull.short_body(),
            "sourceRefName": format!("refs/heads/{}", pull.branch),
            "targetRefName": format!("refs/heads/{}", pull.base),
        });
        Call::post(self.below(&["pullrequests"]), body).with("api-version", VERSION)
    }

    fn close_pull(&self, pull: &Pull) -> Call {
        let number = pull.number.to_string();
        let call = Call::new(Method::PATCH, self.below(&["pullrequests", &number]));
        Call { body: Some(json!({"status": "abandoned"})), ..call }.with("api-version", VERSION)
    }

    fn file_url(&self, branch: &str, path: &str) -> Option<String> {
        let (path, version) = (format!("/{path}"), format!("GB{branch}"));
        web(&self.0, &self.page(), &[("path", &path), ("version", &version)])
    }
}
