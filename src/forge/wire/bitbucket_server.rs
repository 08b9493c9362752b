//! Bitbucket Data Center: REST API, `latest`; builds by repository since 7.14.

use serde_json::{Value, json};

use super::{Call, TokenAs, Wire, build, entries, key, number, parts, text, the_one, web};
use crate::forge::pull::{Pull, PullRequest};
use crate::forge::settings::Place;
use crate::forge::status::{CommitState, CommitStatus, Posted};
use crate::model::CommitId;

/// Longest key of a build.
const KEY_MAX: usize = 255;

#[derive(Debug)]
pub(super) struct BitbucketServer(pub(super) Place);

impl BitbucketServer {
    fn named<'a>(&'a self, rest: &[&'a str]) -> Vec<&'a str> {
        match &self.0.repository[..] {
            [project, name] => {
                ["projects", project, "repos", name].into_iter().chain(rest.iter().copied()).collect()
            }
            // `Place::of` takes two segments only.
            _ => rest.to_vec(),
        }
    }
}

impl Wire for BitbucketServer {
    fn token_as(&self) -> TokenAs {
        TokenAs::Bearer
    }

    fn post_status(&self, status: &CommitStatus) -> Call {
        let own = || web(&self.0, &self.named(&["commits", status.commit.as_str()]), &[]);
        let mut body = build(status, KEY_MAX, self.word(status.state), own);
        body["ref"] = json!(format!("refs/heads/{}", status.branch));
        Call::post(self.named(&["commits", status.commit.as_str(), "builds"]), body)
    }

    fn statuses(&self, commit: &CommitId, context: &str) -> Call {
        Call::get(self.named(&["commits", commit.as_str(), "builds"])).with("key", key(context, KEY_MAX))
    }

    fn newest(&self, answer: &Value, context: &str) -> Option<Posted> {
        the_one(answer, context)
    }

    fn word(&self, state: CommitState) -> &'static str {
        match state {
            CommitState::Pending | CommitState::Running => "INPROGRESS",
            CommitState::Success => "SUCCESSFUL",
            CommitState::Failure | CommitState::Error => "FAILED",
            CommitState::Cancelled => "CANCELLED",
        }
    }

    fn pull(&self, value: &Value) -> Option<Pull> {
        let url = text(value, "/links/self/0/href");
        let is_open = text(value, "/state") == "OPEN";
        Some(Pull { number: number(value, "/id")?, version: number(value, "/version"), url, is_open })
    }

    fn find_pull(&self, branch: &str, _base: &str, _page: usize) -> Call {
        Call::get(self.named(&["pull-requests"]))
            .with("at", format!("refs/heads/{branch}"))
            .with("direction", "OUTGOING")
            .with("state", "ALL")
            .with("order", "NEWEST")
            .with("limit", "1")
    }

    fn found_pull(&self, answer: &Value, branch: &str) -> (Option<Pull>, bool) {
        (self.first_pull(entries(answer, "values"), "/fromRef/displayId", branch), false)
    }

    fn open_pull(&self, pull: &PullRequest) -> Call {
        let body = json!({
            "title": pull.short_title(), "description": pull.short_body(),
            "fromRef": {"id": format!("refs/heads/{}", pull.branch)},
            "toRef": {"id": format!("refs/heads/{}", pull.base)},
        });
        Call::post(self.named(&["pull-requests"]), body)
    }

    fn close_pull(&self, pull: &Pull) -> Call {
        let number = pull.number.to_string();
        Call::post(self.named(&["pull-requests", &number, "decline"]), json!({}))
            .with("version", pull.version.unwrap_or_default().to_string())
    }

    fn file_url(&self, branch: &str, path: &str) -> Option<String> {
        let at = format!("refs/heads/{branch}");
        web(&self.0, &[&self.named(&["browse"])[..], &parts(path)].concat(), &[("at", &at)])
    }
}
