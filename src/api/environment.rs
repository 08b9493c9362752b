//! Waiting for another environment: what a Canary asks, and what was seen there.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{NamespacedName, Revision};

/// A new revision is released only after another environment, whose record lies in the same repository, has run the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WaitFor {
    /// The environment, as serin.yaml names it under `environments`.
    pub environment: String,
    /// How long it has to have run there, as this daemon saw it: `24h`; not at all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bake: Option<String>,
    /// What has to be the same: `images`, `commit` or `digest`. `images` when absent, as overlays differ in the rest.
    #[serde(default, rename = "match")]
    pub match_: WaitMatch,
    /// The Canary there, as `<namespace>/<name>`; of the same namespace and name when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<String>,
}

/// What has to be the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WaitMatch {
    /// The images of all containers.
    #[default]
    Images,
    /// The commit that brought it.
    Commit,
    /// The whole pod template.
    Digest,
}

impl WaitFor {
    /// The Canary there, of a Canary here.
    pub fn there(&self, here: &NamespacedName) -> NamespacedName {
        let named = self.canary.as_deref().and_then(|canary| canary.split_once('/'));
        named.map_or_else(|| here.clone(), |(namespace, name)| NamespacedName::new(namespace, name))
    }
}

/// What was seen of a Canary in another environment; a list of these is the annotation `serin.dev/environments`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentSeen {
    /// The environment.
    pub environment: String,
    /// The Canary there.
    pub canary: NamespacedName,
    /// Why nothing that it says counts now, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// What ran there, oldest first; at most [`SEEN_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub promoted: Vec<PromotedSeen>,
}

/// Revisions that are remembered of an environment: what was replaced there before it comes here may have baked all the same.
pub const SEEN_MAX: usize = 5;

/// A revision that was seen promoted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PromotedSeen {
    /// Which.
    pub revision: Revision,
    /// The images of its containers.
    pub images: Vec<String>,
    /// When it was first seen.
    pub since: Timestamp,
    /// When something else was seen first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}
