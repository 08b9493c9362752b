//! Bitbucket Cloud: REST API, version 2.0.

use serde_json::{Value, json};

use super::{Call, TokenAs, Wire, entries, key, number, parts, text, web};
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
        let name = self.0.repository.iter().map(String::as_str);
        ["repositories"].into_iter().chain(name).chain(rest.iter().copied()).collect()
    }

    fn name(&self) -> Vec<&str> {
        self.0.repository.iter().map(String::as_str).collect()
    }

    fn pull(value: &Value) -> Option<Pull> {
        let is_open = text(value, "/state") == "OPEN";
        Some(Pull { number: number(value, "/id")?, version: None, url: text(value, "/links/html/href"), is_open })
    }
}

fn word(state: CommitState) -> &'static str {
    match state {
        CommitState::Pending | CommitState::Running => "INPROGRESS",
        CommitState::Success => "SUCCESSFUL",
        CommitState::Failure | CommitState::Error => "FAILED",
        CommitState::Cancelled => "STOPPED",
    }
}

impl Wire for Bitbucket {
    fn token_as(&self) -> TokenAs {
        TokenAs::Bearer
    }

    fn post_status(&self, status: &CommitStatus) -> Call {
        // An address is required: the commit itself, if there is nothing better.
        let own = || web(&self.0, &[&self.name()[..], &["commits", status.commit.as_str()]].concat(), &[]);
        let body = json!({
            "key": key(&status.context, KEY_MAX),
            "state": word(status.state),
            "name": status.short_context(),
            "description": status.short_description(),
            "url": status.target_url.clone().or_else(own),
        });
        Call::post(self.below(&["commit", status.commit.as_str(), "statuses", "build"]), body)
    }

    fn statuses(&self, commit: &CommitId, context: &str) -> Call {
        let key = key(context, KEY_MAX);
        Call::get(self.below(&["commit", commit.as_str(), "statuses", "build", &key]))
    }

    fn newest(&self, answer: &Value, context: &str) -> Option<Posted> {
        // One by its key.
        let state = answer.get("state").and_then(Value::as_str)?.to_owned();
        Some(Posted { context: context.to_owned(), state, description: text(answer, "/description") })
    }

    fn state_word(&self, status: &CommitStatus) -> &'static str {
        word(status.state)
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
        let ours = |it: &&Value| text(it, "/source/branch/name") == branch;
        (entries(answer, "values").iter().find(ours).and_then(Self::pull), false)
    }

    fn open_pull(&self, pull: &PullRequest) -> Call {
        let body = json!({
            "title": pull.short_title(), "description": pull.short_body(),
            "source": {"branch": {"name": pull.branch}}, "destination": {"branch": {"name": pull.base}},
            "close_source_branch": true,
        });
        Call::post(self.below(&["pullrequests"]), body)
    }

    fn opened(&self, answer: &Value) -> Option<Pull> {
        Self::pull(answer)
    }

    fn close_pull(&self, pull: &Pull) -> Call {
        let number = pull.number.to_string();
        Call::post(self.below(&["pullrequests", &number, "decline"]), json!({}))
    }

    fn file_url(&self, branch: &str, path: &str) -> Option<String> {
        // A branch with slashes is one segment here.
        web(&self.0, &[&self.name()[..], &["src", branch], &parts(path)].concat(), &[])
    }
}
