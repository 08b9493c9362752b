//! Commits, revisions and release ids.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::digest::{Digest, DigestError};

/// A Git commit, as 40 lower-case hexadecimal characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CommitId(String);

/// A string that is not a full commit id.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a commit id: expected 40 hexadecimal characters")]
pub struct CommitIdError(String);

impl CommitId {
    /// All 40 characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first seven characters, as Git abbreviates.
    pub fn short(&self) -> &str {
        self.0.get(..7).unwrap_or(&self.0)
    }
}

impl fmt::Display for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for CommitId {
    type Err = CommitIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let well_formed =
            text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        if well_formed { Ok(Self(text.to_owned())) } else { Err(CommitIdError(text.to_owned())) }
    }
}

impl TryFrom<String> for CommitId {
    type Error = CommitIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<CommitId> for String {
    fn from(commit: CommitId) -> Self {
        commit.0
    }
}

/// What a target should run, and the commit that said so.
///
/// Written `<digest>@<commit>` (annotations `serin.dev/revision` and `serin.dev/pending`), or `<digest>` alone when the
/// cause is not in Git.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Revision {
    /// Digest of the user-set pod template.
    pub digest: Digest,
    /// The commit that brought it, if it came from Git.
    pub commit: Option<CommitId>,
}

/// A string that is not `<digest>` or `<digest>@<commit>`.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RevisionError {
    /// The part before `@`.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// The part after `@`.
    #[error(transparent)]
    Commit(#[from] CommitIdError),
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.commit {
            Some(commit) => write!(f, "{}@{commit}", self.digest),
            None => write!(f, "{}", self.digest),
        }
    }
}

impl FromStr for Revision {
    type Err = RevisionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('@') {
            Some((digest, commit)) => Ok(Self { digest: digest.parse()?, commit: Some(commit.parse()?) }),
            None => Ok(Self { digest: text.parse()?, commit: None }),
        }
    }
}

impl Revision {
    /// Reads revisions that are separated by blanks; what is none is left out.
    pub fn list(text: &str) -> Vec<Self> {
        text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
    }
}

impl TryFrom<String> for Revision {
    type Error = RevisionError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Revision> for String {
    fn from(revision: Revision) -> Self {
        revision.to_string()
    }
}

/// Names one attempt: `<n>-<digest, 8 hex>`, where n counts this target's releases from 1.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReleaseId(String);

impl ReleaseId {
    /// The id of the `number`-th release of a target, towards `digest`.
    pub fn new(number: u64, digest: &Digest) -> Self {
        Self(format!("{number}-{}", digest.short()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Which of the target's releases it is; `None` if it was not made here.
    pub fn number(&self) -> Option<u64> {
        self.0.split_once('-')?.0.parse().ok()
    }
}

/// A string that no release of ours is called.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a release: expected <number>-<digest>")]
pub struct ReleaseIdError(String);

impl FromStr for ReleaseId {
    type Err = ReleaseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let id = Self(text.to_owned());
        let named = text
            .split_once('-')
            .is_some_and(|(_, digest)| !digest.is_empty() && digest.bytes().all(|byte| byte.is_ascii_hexdigit()));
        if named && id.number().is_some() { Ok(id) } else { Err(ReleaseIdError(text.to_owned())) }
    }
}

impl fmt::Display for ReleaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A revision that failed, and in which release. Written `<release>=<digest>@<commit>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Quarantined {
    /// Which, with the last commit that brought it.
    pub revision: Revision,
    /// In which release.
    pub release: ReleaseId,
    /// The commit that rolled it back on the watched branch: there is one for each at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolled_back: Option<CommitId>,
}

impl Quarantined {
    /// One that somebody refused by hand, whether it was ever released or not. Releases count from 1.
    pub fn by_hand(digest: Digest) -> Self {
        let release = ReleaseId::new(0, &digest);
        Self { revision: Revision { digest, commit: None }, release, rolled_back: None }
    }

    /// Whether somebody refused it by hand.
    pub fn is_by_hand(&self) -> bool {
        self.release.number() == Some(0)
    }

    /// Why it is not released, in words.
    pub fn why(&self) -> String {
        let short = self.revision.digest.short();
        if self.is_by_hand() {
            return format!(
                "revision {short} was quarantined by hand; `serin quarantine --lift` lets it be released"
            );
        }
        format!("revision {short} failed before, in release {}; `serin retry` releases it again", self.release)
    }

    /// Reads those that are separated by blanks; what is none is left out.
    pub fn list(text: &str) -> Vec<Self> {
        let one = |word: &str| {
            let (release, revision) = word.split_once('=')?;
            Some(Self {
                revision: revision.parse().ok()?,
                release: ReleaseId(release.to_owned()),
                rolled_back: None,
            })
        };
        text.split_whitespace().filter_map(one).collect()
    }
}

impl fmt::Display for Quarantined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.release, self.revision)
    }
}

/// What the record in Git says of a target whose cluster knows nothing of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Remembered {
    /// What was promoted last: the first to serve again.
    pub promoted: Revision,
    /// What failed and has not succeeded since.
    pub failed: Vec<Quarantined>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_is_read_as_it_is_written() {
        let digest = Digest::of_canonical(b"x");
        let revision = Revision { digest: digest.clone(), commit: Some("a".repeat(40).parse().unwrap()) };
        let all = [
            Quarantined { release: ReleaseId::new(3, &digest), revision, rolled_back: None },
            Quarantined {
                release: ReleaseId::new(7, &digest),
                revision: Revision { digest, commit: None },
                rolled_back: None,
            },
        ];
        let text = all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        assert_eq!(Quarantined::list(&text), all);
        assert_eq!(Quarantined::list("nothing 3=v1:no"), []);
    }
}
