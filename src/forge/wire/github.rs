//! GitHub: REST API, version 2022-11-28.

use reqwest::Method;
use serde_json::{Value, json};

use super::{Call, TokenAs, Wire, entries, number, parts, posted, text, web};
use crate::forge::pull::{Pull, PullRequest};
use crate::forge::settings::Place;
use crate::forge::status::{CommitState, CommitStatus, Posted};
use crate::model::CommitId;

/// Statuses in one page: the most that are given.
const PAGE: &str = "100";

#[derive(Debug)]
pub(super) struct GitHub(pub(super) Place);

impl GitHub {
    fn below<'a>(&'a self, rest: &[&'a str]) -> Vec<&'a str> {
        [&["repos"][..], &self.0.name(), rest].concat()
    }
}

/// A status's state. A check that is `neutral` satisfies branch rules; a superseded commit must not.
pub(super) fn word(state: CommitState) -> &'static str {
    match state {
        CommitState::Pending | CommitState::Running => "pending",
        CommitState::Success => "success",
        CommitState::Failure => "failure",
        CommitState::Error | CommitState::Cancelled => "error",
    }
}

impl Wire for GitHub {
    fn token_as(&self) -> TokenAs {
        TokenAs::Bearer
    }

    fn headers(&self) -> &'static [(&'static str, &'static str)] {
        &[("accept", "application/vnd.github+json"), ("x-github-api-version", "2022-11-28")]
    }

    fn post_status(&self, status: &CommitStatus) -> Call {
        let body = json!({
            "state": self.word(status.state),
            "context": status.short_context(),
            "description": status.short_description(),
            "target_url": status.target_url,
        });
        Call::post(self.below(&["statuses", status.commit.as_str()]), body)
    }

    fn statuses(&self, commit: &CommitId, _context: &str) -> Call {
        Call::get(self.below(&["commits", commit.as_str(), "statuses"])).with("per_page", PAGE)
    }

    fn newest(&self, answer: &Value, context: &str) -> Option<Posted> {
        // Newest first; contexts differ by more than case.
        let mut all = entries(answer, "").iter();
        let found = all.find(|it| text(it, "/context").eq_ignore_ascii_case(context))?;
        Some(posted(found, "/state", context))
    }

    fn word(&self, state: CommitState) -> &'static str {
        word(state)
    }

    fn pull(&self, value: &Value) -> Option<Pull> {
        let is_open = text(value, "/state") == "open";
        Some(Pull { number: number(value, "/number")?, version: None, url: text(value, "/html_url"), is_open })
    }

    fn find_pull(&self, branch: &str, base: &str, _page: usize) -> Call {
        let owner = self.0.repository.first().map(String::as_str).unwrap_or_default();
        Call::get(self.below(&["pulls"]))
            .with("state", "all")
            .with("sort", "created")
            .with("direction", "desc")
            .with("head", format!("{owner}:{branch}"))
            .with("base", base)
            .with("per_page", "1")
    }

    fn found_pull(&self, answer: &Value, branch: &str) -> (Option<Pull>, bool) {
        (self.first_pull(entries(answer, ""), "/head/ref", branch), false)
    }

    fn open_pull(&self, pull: &PullRequest) -> Call {
        let body = json!({
            "title": pull.short_title(), "body": pull.short_body(), "head": pull.branch, "base": pull.base,
        });
        Call::post(self.below(&["pulls"]), body)
    }

    fn close_pull(&self, pull: &Pull) -> Call {
        let number = pull.number.to_string();
        let call = Call::new(Method::PATCH, self.below(&["pulls", &number]));
        Call { body: Some(json!({"state": "closed"})), ..call }
    }

    fn file_url(&self, branch: &str, path: &str) -> Option<String> {
        let name = self.0.name();
        web(&self.0, &[&name[..], &["blob"], &parts(branch), &parts(path)].concat(), &[])
    }
}
