//! Gitea, and Forgejo, which speaks the same: REST API, version 1.

use reqwest::Method;
use serde_json::{Value, json};

use super::{Call, TokenAs, Wire, entries, github, newest_by_id, number, parts, text, web};
use crate::forge::pull::{Pull, PullRequest};
use crate::forge::settings::Place;
use crate::forge::status::{CommitState, CommitStatus, Posted};
use crate::model::CommitId;

/// Entries of one page: the server's own limit, as it is shipped.
const PAGE: usize = 50;

#[derive(Debug)]
pub(super) struct Gitea(pub(super) Place);

impl Gitea {
    fn below<'a>(&'a self, rest: &[&'a str]) -> Vec<&'a str> {
        [&["repos"][..], &self.0.name(), rest].concat()
    }
}

impl Wire for Gitea {
    fn token_as(&self) -> TokenAs {
        TokenAs::Token
    }

    fn post_status(&self, status: &CommitStatus) -> Call {
        let body = json!({
            "state": self.word(status.state),
            "context": status.short_context(),
            "description": status.short_description(),
            "target_url": status.target_url.as_deref().unwrap_or_default(),
        });
        Call::post(self.below(&["statuses", status.commit.as_str()]), body)
    }

    fn statuses(&self, commit: &CommitId, _context: &str) -> Call {
        Call::get(self.below(&["commits", commit.as_str(), "statuses"]))
            .with("sort", "recentupdate")
            .with("limit", PAGE.to_string())
    }

    fn newest(&self, answer: &Value, context: &str) -> Option<Posted> {
        newest_by_id(answer, "/context", context)
    }

    fn word(&self, state: CommitState) -> &'static str {
        github::word(state)
    }

    fn pull(&self, value: &Value) -> Option<Pull> {
        let is_open = text(value, "/state") == "open";
        Some(Pull { number: number(value, "/number")?, version: None, url: text(value, "/html_url"), is_open })
    }

    fn find_pull(&self, _branch: &str, _base: &str, page: usize) -> Call {
        // There is no question for one branch that takes a name with slashes.
        Call::get(self.below(&["pulls"]))
            .with("state", "all")
            .with("sort", "recentupdate")
            .with("limit", PAGE.to_string())
            .with("page", page.to_string())
    }

    fn found_pull(&self, answer: &Value, branch: &str) -> (Option<Pull>, bool) {
        let all = entries(answer, "");
        let own = self.0.repository.join("/");
        let ours = |it: &&Value| {
            text(it, "/head/ref") == branch && text(it, "/head/repo/full_name").eq_ignore_ascii_case(&own)
        };
        let newest = all.iter().filter(ours).max_by_key(|it| number(it, "/number"));
        (newest.and_then(|it| self.pull(it)), all.len() >= PAGE)
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
        web(&self.0, &[&name[..], &["src", "branch"], &parts(branch), &parts(path)].concat(), &[])
    }
}
