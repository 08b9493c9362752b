//! What can go wrong with Git, by what helps against it.

use std::path::PathBuf;
use std::time::Duration;

use git2::{ErrorClass, ErrorCode};

use super::place::TreePathError;

/// A failed Git operation.
#[derive(Debug, Clone, thiserror::Error)]
pub enum GitError {
    /// A commit that is not signed by one of the keys that are believed.
    #[error(
        "commit {commit} is not applied: {reason}; sign it with an allowed key, or add its key to git.allowedSignersFile"
    )]
    NotVerified {
        /// The commit.
        commit: String,
        /// Why it is not believed.
        #[source]
        reason: super::signature::SignatureError,
    },
    /// The remote's URL or its credentials cannot be used as configured.
    #[error("git remote {url} cannot be used: {reason}")]
    Remote {
        /// The URL without credentials.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Network, name resolution, server errors, deadlines: trying again may help.
    #[error("failed to reach git remote {url}: {reason}")]
    Unreachable {
        /// The URL without credentials.
        url: String,
        /// libgit2's words.
        reason: String,
    },
    /// The remote refuses our credentials, or we its certificate or host key.
    #[error("git remote {url} denied access: {reason}")]
    Denied {
        /// The URL without credentials.
        url: String,
        /// libgit2's words, with what to check.
        reason: String,
    },
    /// Something in the store is missing or damaged; the next fetch makes it again.
    #[error("git cache {dir} is damaged: {reason}; the next fetch makes it again")]
    Corrupt {
        /// The store's folder.
        dir: PathBuf,
        /// libgit2's words.
        reason: String,
    },
    /// The store's folder cannot be used.
    #[error("failed to open git cache {dir}: {reason}")]
    Store {
        /// The folder.
        dir: PathBuf,
        /// Why.
        reason: String,
    },
    /// More than we are ready to take.
    #[error("{path:?} at {commit} holds more than {limit}; set a narrower path")]
    TooMany {
        /// The folder.
        path: String,
        /// The commit, abbreviated.
        commit: String,
        /// The limit, with its unit.
        limit: String,
    },
    /// An object was pushed as it cannot be read, or larger than it is read.
    #[error("the repository's object {id} cannot be read: {reason}; `git fsck` names what holds it")]
    Malformed {
        /// The object.
        id: String,
        /// libgit2's words, or its size.
        reason: String,
    },
    /// What was named is no place in a repository.
    #[error(transparent)]
    Path(#[from] TreePathError),
    /// More than we are ready to take of a whole tree.
    #[error("commit {commit} holds {what}")]
    TooMuch {
        /// The commit, abbreviated.
        commit: String,
        /// Of what.
        what: String,
    },
    /// The folder or file is not in the commit.
    #[error("path {path:?} does not exist at commit {commit}")]
    NoPath {
        /// The folder or file.
        path: String,
        /// The commit, abbreviated.
        commit: String,
    },
    /// What the path names holds nothing that is read.
    #[error("{path:?} at {commit} is a {what}, which is not read; name a folder or a file of this repository")]
    NoFolder {
        /// The path.
        path: String,
        /// The commit, abbreviated.
        commit: String,
        /// What it is.
        what: &'static str,
    },
    /// It took longer than it may.
    #[error("{what} took longer than {} s", .limit.as_secs())]
    Deadline {
        /// What was done.
        what: &'static str,
        /// How long it may take.
        limit: Duration,
    },
    /// A worker thread ended early.
    #[error("{what} was cut off: {reason}")]
    Cancelled {
        /// What was done.
        what: &'static str,
        /// Why.
        reason: String,
    },
}

/// What libgit2 says where our side has to be put right, and how.
const HINTS: [(&str, &str); 3] = [
    (
        "certificate is invalid",
        "to trust a certificate authority of your own, name a PEM file with all that are trusted in SSL_CERT_FILE",
    ),
    (
        "http status code: 404",
        "there is no such repository, or the credentials may not read it: hosts hide private ones like this",
    ),
    ("private key", "the key file must be readable, in OpenSSH's format and without a passphrase"),
];

/// What libgit2 says of repositories that it cannot read, whatever anybody waits for, and what that means.
const UNREADABLE: [(&str, &str); 4] = [
    ("object format", "repositories with SHA-256 objects cannot be read: mirror it into one with SHA-1"),
    ("objectformat", "repositories with SHA-256 objects cannot be read: mirror it into one with SHA-1"),
    (
        "refstorage",
        "repositories with reftable references cannot be read: `git refs migrate --ref-format=files` there",
    ),
    (
        "reftable",
        "repositories with reftable references cannot be read: `git refs migrate --ref-format=files` there",
    ),
];

impl GitError {
    /// Whether trying the same again later may succeed without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Corrupt { .. } | Self::Deadline { .. } | Self::Cancelled { .. } => {
                true
            }
            Self::Remote { .. }
            | Self::NotVerified { .. }
            | Self::Denied { .. }
            | Self::Store { .. }
            | Self::TooMuch { .. }
            | Self::Malformed { .. }
            | Self::Path(_)
            | Self::TooMany { .. }
            | Self::NoPath { .. }
            | Self::NoFolder { .. } => false,
        }
    }

    /// A libgit2 error from talking to a remote.
    pub(super) fn from_remote(url: &str, error: &git2::Error) -> Self {
        let (url, reason) = (url.to_owned(), redact(error.message()));
        let lower = reason.to_ascii_lowercase();
        if let Some((_, hint)) = UNREADABLE.iter().find(|(words, _)| lower.contains(words)) {
            return Self::Remote { url, reason: format!("{reason}; {hint}") };
        }
        for (words, hint) in HINTS {
            if lower.contains(words) {
                return Self::Denied { url, reason: format!("{reason}; {hint}") };
            }
        }
        let refused = ["401", "403", "authentication", "too many redirects or authentication replays"];
        match error.code() {
            ErrorCode::Auth | ErrorCode::Certificate => Self::Denied { url, reason },
            _ if refused.iter().any(|word| lower.contains(word)) => Self::Denied { url, reason },
            _ => Self::Unreachable { url, reason },
        }
    }
}

/// Whether an error is about our own objects rather than about the remote. A pack that broke off on the way (class
/// `Indexer`) is the network's.
pub(super) fn is_local_damage(error: &git2::Error) -> bool {
    matches!(
        error.class(),
        ErrorClass::Odb
            | ErrorClass::Zlib
            | ErrorClass::Object
            | ErrorClass::Tree
            | ErrorClass::Repository
            | ErrorClass::Reference
            | ErrorClass::Config
    )
}

/// Takes what may be secret out of URLs that libgit2 or git put into their messages: user names, passwords, queries.
pub(super) fn redact(message: &str) -> String {
    let ends_url = |c: char| c.is_whitespace() || matches!(c, '\'' | '"');
    let mut out = String::with_capacity(message.len());
    let mut rest = message;
    while let Some(at) = rest.find("://") {
        let (head, tail) = rest.split_at(at + 3);
        out.push_str(head);
        let (url, after) = tail.split_at(tail.find(ends_url).unwrap_or(tail.len()));
        let url = url.split(['?', '#']).next().unwrap_or(url);
        let (authority, path) = url.split_at(url.find('/').unwrap_or(url.len()));
        out.push_str(authority.rsplit_once('@').map_or(authority, |(_, host)| host));
        out.push_str(path);
        rest = after;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use git2::{Error, ErrorClass, ErrorCode};

    use super::{GitError, redact};

    #[test]
    fn what_the_operator_must_put_right_comes_with_a_hint() {
        for (said, hint) in [
            ("the SSL certificate is invalid", "SSL_CERT_FILE"),
            ("unexpected http status code: 404", "may not read it"),
            ("failed to authenticate SSH session: Unable to open private key file", "readable"),
            ("Unable to extract public key from private key: Unsupported private key format", "passphrase"),
        ] {
            let error = GitError::from_remote("u", &Error::new(ErrorCode::GenericError, ErrorClass::Ssh, said));
            assert!(matches!(&error, GitError::Denied { reason, .. } if reason.contains(hint)), "{error}");
            assert!(!error.is_transient());
        }
    }

    #[test]
    fn credentials_leave_no_trace_in_messages() {
        assert_eq!(
            redact(
                "fatal: 'https://bob:s3cret@host:8443/x' and ssh://git@h/y?a=s3cret or https://h?t=s3cret#s3cret"
            ),
            "fatal: 'https://host:8443/x' and ssh://h/y or https://h"
        );
    }
}
