//! What the engine tells the other rooms about a target: `status.serin.handover`.
//!
//! Written with every status, read by `sync`. The engine's own state is nobody else's business.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{Digest, Revision};

/// The contract, versioned: fields may be added, none changes its meaning.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Handover {
    /// Version of this contract.
    #[serde(default)]
    pub version: i64,
    /// The revision that may be written to the target now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub admitted: Option<Revision>,
    /// What primary runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub promoted: Option<Revision>,
    /// The digest that was taken up last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub taken_up: Option<Digest>,
    /// Replaced revisions that have had their end and need not be named on the target any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub ended: Vec<Revision>,
    /// What the engine waits for, if what Git says may put it right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub awaits: Option<AwaitsGit>,
}

/// Something that Git's objects may put right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AwaitsGit {
    /// What kind of thing.
    pub kind: AwaitsKind,
    /// In words; other words are another wait.
    pub what: String,
}

/// See [`AwaitsGit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum AwaitsKind {
    /// The target was changed in the cluster and is to be as Git says.
    Correction,
    /// Something is missing, or blocks.
    Objects,
}

impl Handover {
    /// The version that this build writes.
    pub const VERSION: i64 = 1;
}
