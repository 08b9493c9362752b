//! The Canary's status: Flagger's fields, and ours under `serin`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::handover::Handover;
use super::schema::{number, open_object};

/// What is seen of a target. Flagger's fields are projections; `serin` is what counts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CanaryStatus {
    /// Where the target is.
    #[serde(default)]
    pub phase: CanaryPhase,
    /// Failed checks of the current release.
    #[serde(default)]
    #[schemars(schema_with = "number")]
    pub failed_checks: i64,
    /// Percent of traffic that goes to the canary.
    #[serde(default)]
    #[schemars(schema_with = "number")]
    pub canary_weight: i64,
    /// Iterations of the current release.
    #[serde(default)]
    #[schemars(schema_with = "number")]
    pub iterations: i64,
    /// Digest of the target that was last taken up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_applied_spec: Option<String>,
    /// Digest of what primary runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_promoted_spec: Option<String>,
    /// `configmap/<name>` or `secret/<name>` to its digest.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tracked_configs: BTreeMap<String, String>,
    /// When this status last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub last_transition_time: Option<String>,
    /// The canary's session cookie of this release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_affinity_cookie: Option<String>,
    /// The primary's session cookie of this release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary_session_affinity_cookie: Option<String>,
    /// The canary's session cookie of the previous release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_session_affinity_cookie: Option<String>,
    /// Conditions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<CanaryCondition>,
    /// The state that survives restarts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serin: Option<SerinStatus>,
}

/// Flagger's phases.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CanaryPhase {
    /// Not seen yet.
    #[default]
    #[serde(rename = "")]
    Unset,
    /// Primary is being made.
    Initializing,
    /// Primary serves; nothing has been released yet.
    Initialized,
    /// A gate before the release is closed.
    Waiting,
    /// Steps and checks.
    Progressing,
    /// A gate before promotion is closed.
    WaitingPromotion,
    /// The analysed revision is copied to primary.
    Promoting,
    /// Traffic is back on primary; the canary scales down.
    Finalising,
    /// Promoted.
    Succeeded,
    /// Rolled back.
    Failed,
    /// The Canary is being deleted.
    Terminating,
    /// The Canary is deleted.
    Terminated,
}

impl CanaryPhase {
    /// Flagger's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unset => "",
            Self::Initializing => "Initializing",
            Self::Initialized => "Initialized",
            Self::Waiting => "Waiting",
            Self::Progressing => "Progressing",
            Self::WaitingPromotion => "WaitingPromotion",
            Self::Promoting => "Promoting",
            Self::Finalising => "Finalising",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
            Self::Terminating => "Terminating",
            Self::Terminated => "Terminated",
        }
    }
}

/// A condition in Flagger's shape.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CanaryCondition {
    /// `Promoted`, or one of ours.
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False`, `Unknown`.
    pub status: String,
    /// In CamelCase.
    pub reason: String,
    /// One sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When the status last flipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub last_transition_time: Option<String>,
    /// When it was last written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub last_update_time: Option<String>,
}

/// Condition type: something outside must be mended before anything goes on.
pub const BLOCKED: &str = "Blocked";

/// Condition type: the release of a new revision has not begun, and is not to begin yet. There only then.
pub const HELD: &str = "Held";

/// Condition type: parts of the spec are accepted and not carried out.
pub const IGNORED: &str = "Ignored";

/// Condition type: objects around the target leave primary's pods out. There only then.
pub const AT_RISK: &str = "AtRisk";
/// Condition: the canary's share of the requests is not the one that the route says.
pub const MISROUTED: &str = "Misrouted";

/// Condition type: `False` while something of the target's releases is not in Git as it should be. There only then.
pub const RECORDED: &str = "Recorded";

/// Condition type: the cluster knew nothing, and primary started with what the record in Git names.
pub const REBUILT: &str = "Rebuilt";

/// What survives a restart.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SerinStatus {
    /// Version of `state`'s shape.
    #[serde(default)]
    pub version: i64,
    /// The release engine's state.
    #[serde(default)]
    #[schemars(schema_with = "open_object")]
    pub state: Value,
    /// What the other rooms may know of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handover: Option<Handover>,
    /// The last spec that could be carried out: what is under way goes on by it when a later one cannot.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    #[schemars(schema_with = "open_object")]
    pub spec: Value,
    /// What the target waits for, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_on: Option<String>,
    /// The revision being released, or the promoted one: `<digest>@<commit>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The release under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// The last answered `serin.dev/request`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handled_request: Option<String>,
}
