//! Bitbucket Cloud: REST API, version 2.0.

use serde_json::{Value, json};

use super::{Call, TokenAs, Wire, build, entries, key, number, parts, text, the_one, web};
use crate::forge::pull::{Pull, PullRequest};
use crate::forge::settings::Place;
use crate::forge::status::{CommitState, CommitStatus, Posted};
use crate::model::CommitId;

/// Longest key of a build status.
const KEY_MAX: usize = 40;

#[derive(Debug)]
pub(super) struct Bitbucket(pub(super) Place);

impl Bitbucket {
    fn below<'a>(&'a self, rest: &[&'a str]) -> Vec<&'a str> {
        [&["repositories"][..], &self.0.name(), rest].concat()
    }
}

impl Wire for Bitbucket {
    fn token_as(&self) -> TokenAs {
        TokenAs::Bearer
    }

    fn post_status(&self, status: &CommitStatus) -> Call {
        let own = || web(&self.0, &[&self.0.name()[..], &["commits", status.commit.as_str()]].concat(), &[]);
        let body = build(status, KEY_MAX, self.word(status.state), own);
        Call::post(self.below(&["commit", status.commit.as_str(), "statuses", "build"]), body)
    }

    fn statuses(&self, commit: &CommitId, context: &str) -> Call {
        let key = key(context, KEY_MAX);
        Call::get(self.below(&["commit", commit.as_str(), "statuses", "build", &key]))
    }

    fn newest(&self, answer: &Value, context: &str) -> Option<Posted> {
        the_one(answer, context)
    }

    fn word(&self, state: CommitState) -> &'static str {
        match state {
            CommitState::Pending | CommitState::Running => "INPROGRESS",
            CommitState::Success => "SUCCESSFUL",
            CommitState::Failure | CommitState::Error => "FAILED",
            CommitState::Cancelled => "STOPPED",
        }
    }

    fn pull(&self, value: &Value) -> Option<Pull> {
        let is_open = text(value, "/state") == "OPEN";
        Some(Pull { number: number(value, "/id")?, version: None, url: text(value, "/links/html/href"), is_open })
    }

    fn find_pull(&self, branch: &str, base: &str, _page: usize) -> Call {
        let quoted = |text: &str| text.replace(['\\', '"'], "");
        let query = format!(
            "source.branch.name=\"{}\" AND destination.branch.name=\"{}\" AND (state=\"OPEN\" OR state=\"MERGED\" OR state=\"DECLINED\")",
            quoted(branch),
            quoted(base)
        );
        Call::get(self.below(&["pullrequests"])).with("q", query).with("sort", "-id").with("pagelen", "1")
    }

    fn found_pull(&self, answer: &Value, branch: &str) -> (Option<Pull>, bool) {
        (self.first_pull(entries(answer, "values"), "/source/branch/name", branch), false)
    }

    fn open_pull(&self, pull: &PullRequest) -> Call {
        let body = json!({
            "title": pull.short_title(), "description": pull.short_body(),
            "source": {"branch": {"name": pull.branch}}, "destination": {"branch": {"name": pull.base}},
            "close_source_branch": true,
        });
        Call::post(self.below(&["pullrequests"]), body)
    }

    fn close_pull(&self, pull: &Pull) -> Call {
        let number = pull.number.to_string();
        Call::post(self.below(&["pullrequests", &number, "decline"]), json!({}))
    }

    fn file_url(&self, branch: &str, path: &str) -> Option<String> {
        // A branch with slashes is one segment here.
        web(&self.0, &[&self.0.name()[..], &["src", branch], &parts(path)].concat(), &[])
    }
}
