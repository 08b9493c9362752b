//! GitLab: REST API, version 4.

use reqwest::Method;
use serde_json::{Value, json};

use super::{Call, TokenAs, Wire, entries, newest_by_id, number, parts, text, web};
use crate::forge::pull::{Pull, PullRequest};
use crate::forge::settings::Place;
use crate::forge::status::{CommitState, CommitStatus, Posted};
use crate::model::CommitId;

/// Longest address that a status may lead to; more refuses the status.
const TARGET_MAX: usize = 255;

#[derive(Debug)]
pub(super) struct GitLab(pub(super) Place);

impl GitLab {
    /// A project is named by its whole path, as one segment.
    fn below(&self, rest: &[&str]) -> Vec<String> {
        let project = self.0.repository.join("/");
        ["projects".to_owned(), project].into_iter().chain(rest.iter().map(|&it| it.to_owned())).collect()
    }
}

fn borrowed(segments: &[String]) -> impl Iterator<Item = &str> {
    segments.iter().map(String::as_str)
}

impl Wire for GitLab {
    fn token_as(&self) -> TokenAs {
        TokenAs::PrivateToken
    }

    fn shows_progress(&self) -> bool {
        // A description without another state is refused.
        false
    }

    fn post_status(&self, status: &CommitStatus) -> Call {
        let target = status.target_url.as_ref().filter(|url| url.len() <= TARGET_MAX);
        let body = json!({
            "state": self.word(status.state),
            "name": status.short_context(),
            "description": status.short_description(),
            "target_url": target,
            // Without it the status is attached to whatever pipeline the commit has.
            "ref": status.branch,
        });
        Call::post(borrowed(&self.below(&["statuses", status.commit.as_str()])), body)
    }

    fn is_so_already(&self, code: u16, body: &str) -> bool {
        code == 400 && body.contains("Cannot transition status")
    }

    fn statuses(&self, commit: &CommitId, context: &str) -> Call {
        let path = self.below(&["repository", "commits", commit.as_str(), "statuses"]);
        Call::get(borrowed(&path)).with("name", context).with("all", "true").with("per_page", "100")
    }

    fn newest(&self, answer: &Value, context: &str) -> Option<Posted> {
        newest_by_id(answer, "/name", context)
    }

    fn word(&self, state: CommitState) -> &'static str {
        match state {
            CommitState::Pending => "pending",
            CommitState::Running => "running",
            CommitState::Success => "success",
            CommitState::Failure | CommitState::Error => "failed",
            CommitState::Cancelled => "canceled",
        }
    }

    fn pull(&self, value: &Value) -> Option<Pull> {
        let is_open = text(value, "/state") == "opened";
        Some(Pull { number: number(value, "/iid")?, version: None, url: text(value, "/web_url"), is_open })
    }

    fn find_pull(&self, branch: &str, base: &str, _page: usize) -> Call {
        Call::get(borrowed(&self.below(&["merge_requests"])))
            .with("source_branch", branch)
            .with("target_branch", base)
            .with("order_by", "created_at")
            .with("sort", "desc")
            .with("per_page", "1")
    }

    fn found_pull(&self, answer: &Value, branch: &str) -> (Option<Pull>, bool) {
        (self.first_pull(entries(answer, ""), "/source_branch", branch), false)
    }

    fn open_pull(&self, pull: &PullRequest) -> Call {
        let body = json!({
            "title": pull.short_title(), "description": pull.short_body(),
            "source_branch": pull.branch, "target_branch": pull.base, "remove_source_branch": true,
        });
        Call::post(borrowed(&self.below(&["merge_requests"])), body)
    }

    fn close_pull(&self, pull: &Pull) -> Call {
        let path = self.below(&["merge_requests", &pull.number.to_string()]);
        Call { body: Some(json!({"state_event": "close"})), ..Call::new(Method::PUT, borrowed(&path)) }
    }

    fn file_url(&self, branch: &str, path: &str) -> Option<String> {
        let name = self.0.name();
        web(&self.0, &[&name[..], &["-", "blob"], &parts(branch), &parts(path)].concat(), &[])
    }
}
