//! Places in a repository: checked when they are typed, so that none leads out of it.

use std::fmt;
use std::str::FromStr;

/// A file or folder by its path from the repository's root, without a slash at either end; the root itself is empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TreePath(String);

/// Text that names no place in a repository.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path:?} is no path in a repository: {reason}")]
pub struct TreePathError {
    path: String,
    reason: &'static str,
}

impl TreePath {
    /// The path, `/` between its parts.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is the whole repository.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromStr for TreePath {
    type Err = TreePathError;

    /// `./a/b/` and `a/b` are one place.
    fn from_str(path: &str) -> Result<Self, TreePathError> {
        let fail = |reason| Err(TreePathError { path: path.to_owned(), reason });
        if path.starts_with('/') {
            return fail("it is absolute; it must begin at the repository's root, as in `deploy/prod`");
        }
        if path.chars().any(char::is_control) {
            return fail("it holds a control character");
        }
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        if parts.contains(&"..") {
            return fail("`..` could lead out of the repository; name the folder from the root");
        }
        if parts.iter().any(|part| part.eq_ignore_ascii_case(".git")) {
            return fail("`.git` is Git's own");
        }
        Ok(Self(parts.join("/")))
    }
}

impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_root() { "." } else { &self.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_place_has_one_path() {
        for (typed, meant) in
            [("", ""), (".", ""), ("./", ""), ("./a//b/", "a/b"), ("a/./b", "a/b"), ("..a/b..", "..a/b..")]
        {
            assert_eq!(typed.parse::<TreePath>().unwrap().as_str(), meant, "{typed}");
        }
    }

    #[test]
    fn no_path_leads_out() {
        for typed in
            ["..", "../x", "a/../b", "a/..", "./..", "/etc", "//etc", "a\0b", "a\nb", ".git", "a/.GIT/config"]
        {
            let error = typed.parse::<TreePath>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("{typed:?} is no path")), "{error}");
        }
    }
}
