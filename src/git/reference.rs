//! Names of refs: checked when they are typed, fully qualified from then on.

use std::fmt;
use std::str::FromStr;

/// Where branches are.
const BRANCHES: &str = "refs/heads/";
/// Where tags are.
const TAGS: &str = "refs/tags/";

/// A ref by its full name, so that no tag is taken for a branch of the same name.
///
/// Parsed from a branch's name (`main`) or from a full name (`refs/heads/main`, `refs/tags/v1`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference(String);

/// Text that names no ref.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is not the name of a branch: {reason}")]
pub struct ReferenceError {
    name: String,
    reason: &'static str,
}

impl Reference {
    /// The full name: `refs/heads/main`.
    pub fn qualified(&self) -> &str {
        &self.0
    }

    /// A branch's name, or the full name of what is none.
    pub fn short(&self) -> &str {
        self.0.strip_prefix(BRANCHES).unwrap_or(&self.0)
    }

    /// Whether it is a branch. Everything else is followed and never moved.
    pub fn is_branch(&self) -> bool {
        self.0.starts_with(BRANCHES)
    }

    /// Whether it is a tag.
    pub fn is_tag(&self) -> bool {
        self.0.starts_with(TAGS)
    }

    /// Whether Git cannot have both: a ref is a file, and one of them needs a folder in its place.
    pub fn excludes(&self, other: &Self) -> bool {
        let holds =
            |outer: &Self, inner: &Self| inner.0.strip_prefix(&outer.0).is_some_and(|rest| rest.starts_with('/'));
        holds(self, other) || holds(other, self)
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(name: &str) -> Result<Self, ReferenceError> {
        let fail = |reason| Err(ReferenceError { name: name.to_owned(), reason });
        let full = if name.starts_with("refs/") { name.to_owned() } else { format!("{BRANCHES}{name}") };
        let branch = full.strip_prefix(BRANCHES);
        match wrong_with(&full) {
            Some(reason) => fail(reason),
            None if name == "HEAD" => fail("it is whatever is checked out; name the branch itself"),
            None if branch.is_some_and(|branch| branch.starts_with('-')) => fail("it begins with a dash"),
            None if full.matches('/').count() < 2 => {
                fail("after `refs/` it needs two names, as in refs/heads/main")
            }
            None => Ok(Self(full)),
        }
    }
}

/// The rules of `git check-ref-format`.
fn wrong_with(full: &str) -> Option<&'static str> {
    let has = |bad: fn(char) -> bool| full.contains(bad);
    if has(char::is_control) {
        return Some("it holds a control character");
    }
    if has(char::is_whitespace) {
        return Some("it holds a blank");
    }
    if has(|c| matches!(c, '~' | '^' | ':' | '?' | '*' | '[' | '\\')) {
        return Some("none of ~ ^ : ? * [ \\ may be in it");
    }
    if full.contains("..") || full.contains("@{") {
        return Some("neither `..` nor `@{` may be in it");
    }
    let mut parts = full.split('/');
    if parts.clone().any(str::is_empty) {
        return Some("it has an empty part before, between or after its slashes");
    }
    if parts.any(|part| part.starts_with('.') || part.ends_with(".lock")) {
        return Some("no part of it may begin with a dot or end with `.lock`");
    }
    full.ends_with('.').then_some("it ends with a dot")
}

impl fmt::Display for Reference {
    /// As people say it: `branch main`, `tag v1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.strip_prefix(BRANCHES), self.0.strip_prefix(TAGS)) {
            (Some(branch), _) => write!(f, "branch `{branch}`"),
            (None, Some(tag)) => write!(f, "tag `{tag}`"),
            (None, None) => write!(f, "ref `{}`", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(name: &str) -> Reference {
        name.parse().unwrap()
    }

    #[test]
    fn short_and_full_names_are_one_ref() {
        for name in ["main", "refs/heads/main"] {
            let reference = parsed(name);
            assert_eq!((reference.qualified(), reference.short()), ("refs/heads/main", "main"));
            assert!(reference.is_branch() && !reference.is_tag());
        }
        for name in ["release/1.2", "a.b", "@", "ünïcode", "serin/status/prod-1", "heads/main"] {
            assert!(parsed(name).is_branch(), "{name}");
        }
        let tag = parsed("refs/tags/v1");
        assert!(tag.is_tag() && !tag.is_branch());
        assert_eq!((tag.short(), tag.to_string().as_str()), ("refs/tags/v1", "tag `v1`"));
        assert!(!parsed("refs/pull/1/head").is_branch());
    }

    #[test]
    fn what_git_refuses_is_refused_as_git_does() {
        let names = [
            "",
            "/",
            "a//b",
            "a/",
            "/a",
            ".a",
            "a/.b",
            "a.lock",
            "a.lock/b",
            "a..b",
            "a.",
            "a b",
            "main ",
            "a\tb",
            "a\nb",
            "a~1",
            "a^",
            "a:refs/heads/b",
            "a?",
            "a*",
            "a[",
            "a\\b",
            "a@{1}",
            "refs/",
            "refs/heads",
            "refs/heads/",
            "HEAD",
            "-d",
            "--upload-pack=x",
        ];
        for name in names {
            let error = name.parse::<Reference>().unwrap_err().to_string();
            assert!(error.contains(&format!("`{name}`")), "{error}");
            let full = if name.starts_with("refs/") { name.to_owned() } else { format!("refs/heads/{name}") };
            let ours_alone = ["HEAD", "-d", "--upload-pack=x", "refs/heads"].contains(&name);
            assert!(ours_alone || !git2::Reference::is_valid_name(&full), "git takes `{name}`");
        }
    }

    #[test]
    fn a_ref_is_a_file_or_a_folder() {
        assert!(parsed("serin").excludes(&parsed("serin/status/a")));
        assert!(parsed("serin/status/a").excludes(&parsed("serin/status")));
        assert!(!parsed("serin").excludes(&parsed("serin-status/a")));
        assert!(!parsed("a").excludes(&parsed("a")));
    }
}
