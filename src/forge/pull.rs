//! Pull requests (GitLab: merge requests), as far as we make them.

/// Longest text of a pull request, in characters: Azure DevOps takes 4,000.
pub(super) const BODY_MAX: usize = 4_000;
/// Longest title, in characters: GitLab takes 255.
pub(super) const TITLE_MAX: usize = 250;

/// A pull request that should be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullRequest {
    /// The branch that it brings; short, without `refs/heads/`.
    pub branch: String,
    /// Where to.
    pub base: String,
    /// Its title.
    pub title: String,
    /// Its text, in Markdown.
    pub body: String,
}

impl PullRequest {
    pub(super) fn short_title(&self) -> String {
        crate::model::told_chars(&self.title, TITLE_MAX)
    }

    pub(super) fn short_body(&self) -> String {
        crate::model::told_lines(&self.body, BODY_MAX)
    }
}

/// One that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pull {
    /// Its number.
    pub number: u64,
    /// Its version, where a forge wants to be told which one is meant.
    pub version: Option<u64>,
    /// Where people see it.
    pub url: String,
    /// Neither merged nor closed.
    pub is_open: bool,
}
