//! What the projections tell the engine: how far each of them is, and what became of the watched branch.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::revision::{CommitId, ReleaseId};

/// A projection that must have an outcome before it may leave the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Projection {
    /// The record on the status branch.
    Record,
    /// The rollback commit on the watched branch.
    Rollback,
    /// The statuses of commits at the forge, where there is one.
    Forge,
}

impl Projection {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Record, Self::Rollback, Self::Forge];

    /// Those that run with every daemon.
    pub const GIT: [Self; 2] = [Self::Record, Self::Rollback];

    /// Its name in the annotation `serin.dev/projected`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Record => "record",
            Self::Rollback => "rollback",
            Self::Forge => "forge",
        }
    }
}

/// How far each projection is: the newest release that it has seen to, with all before it.
///
/// Written `record=12-ab34cd56,rollback=11-ef56ab78` (annotation `serin.dev/projected` on the Canary; `forge` has one of its own). Names that this version
/// does not know are kept out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Projected(BTreeMap<Projection, ReleaseId>);

impl Projected {
    /// How far one projection is.
    pub fn up_to(&self, projection: Projection) -> Option<&ReleaseId> {
        self.0.get(&projection)
    }

    /// Notes that a projection has seen to this release and all before it.
    pub fn note(&mut self, projection: Projection, release: ReleaseId) {
        self.0.insert(projection, release);
    }

    /// Whether no projection has said anything.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Projected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (projection, release)) in self.0.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(f, "{comma}{}={release}", projection.as_str())?;
        }
        Ok(())
    }
}

/// Somebody else's words count as nothing said.
impl From<&str> for Projected {
    fn from(text: &str) -> Self {
        let known = |name: &str| Projection::ALL.into_iter().find(|projection| projection.as_str() == name);
        let entry = |part: &str| {
            let (name, release) = part.split_once('=')?;
            Some((known(name.trim())?, ReleaseId::from_str(release.trim()).ok()?))
        };
        Self(text.split(',').filter_map(entry).collect())
    }
}

/// What became of the watched branch after a failed release. `report` writes it on the Canary (annotation
/// `serin.dev/rollback`, JSON), the engine keeps it and tells people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RollbackNote {
    /// The failed release.
    pub release: ReleaseId,
    /// The watched branch.
    pub branch: String,
    /// What became of it.
    #[serde(flatten)]
    pub fate: RollbackFate,
}

/// See [`RollbackNote`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fate", rename_all = "camelCase")]
pub enum RollbackFate {
    /// A commit put back what was promoted.
    Made {
        /// The commit.
        commit: CommitId,
    },
    /// A pull request would put back what was promoted; until it is merged the branch goes on naming what failed.
    Proposed {
        /// Where it is.
        url: String,
    },
    /// There is no such commit, and the branch goes on naming what failed.
    Missing {
        /// Why, in CamelCase.
        reason: String,
        /// Why, in words, with what helps.
        message: String,
    },
    /// There is no such commit, and none is needed: the branch names something else.
    Needless {
        /// Why, in words.
        message: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> ReleaseId {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_written_is_read_and_strangers_say_nothing() {
        let mut projected = Projected::default();
        projected.note(Projection::Rollback, id("11-ef56ab78"));
        projected.note(Projection::Record, id("12-ab34cd56"));
        assert_eq!(projected.to_string(), "record=12-ab34cd56,rollback=11-ef56ab78");
        assert_eq!(Projected::from(projected.to_string().as_str()), projected);
        for text in ["", "record", "record=", "alerts=12-ab34cd56", "record=x,rollback=-1", "=12-ab34cd56"] {
            assert!(Projected::from(text).is_empty(), "{text}");
        }
        let some = Projected::from("email=9-cd, record = 12-ab34cd56 ,rollback=?");
        assert_eq!(some.to_string(), "record=12-ab34cd56");
    }

    #[test]
    fn a_note_survives_the_annotation() {
        let fate = RollbackFate::Missing { reason: "MovedOn".into(), message: "it did".into() };
        let note = RollbackNote { release: id("2-ab34cd56"), branch: "main".into(), fate };
        let text = serde_json::to_string(&note).unwrap();
        assert_eq!(
            text,
            r#"{"release":"2-ab34cd56","branch":"main","fate":"missing","reason":"MovedOn","message":"it did"}"#
        );
        assert_eq!(serde_json::from_str::<RollbackNote>(&text).unwrap(), note);
    }
}
