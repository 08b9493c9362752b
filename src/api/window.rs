//! Release windows, as a Canary has them. The same fields stand in serin.yaml.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When releases of new revisions may begin, or must not. Rollbacks and what is put right never wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseWindow {
    /// `allow`: releases begin in the window, and in others that allow; `freeze`: none begins in it. `allow` when absent.
    #[serde(default)]
    pub kind: ReleaseWindowKind,
    /// When it begins: a cron line of five fields, minute, hour, day of month, month, weekday.
    pub schedule: String,
    /// The time zone of the schedule, by its IANA name: `Europe/Berlin`; UTC when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// How long it lasts: `8h`, `90m`; from a minute to a year.
    pub duration: String,
}

/// Whether a window allows or forbids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReleaseWindowKind {
    /// Releases begin in it.
    #[default]
    Allow,
    /// No release begins in it.
    Freeze,
}
