//! Source: what the daemon knows of its repository, branch and path, for people and tools that may read no more than this.

// `printcolumn` is one attribute per column; the lint takes their arguments for one list.
#![allow(clippy::duplicated_attributes)]

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::inventory::SyncedCommit;
use super::schema::open_objects;

/// Our own kinds' API group.
pub const SOURCE_GROUP: &str = "serin.dev";
/// Its only version.
pub const SOURCE_VERSION: &str = "v1alpha1";

/// A repository, a branch and a path in it, as one daemon follows it. What it is to follow stands in serin.yaml.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "serin.dev",
    version = "v1alpha1",
    kind = "Source",
    namespaced,
    status = "SourceStatus",
    derive = "PartialEq",
    category = "all",
    printcolumn(name = "Branch", type_ = "string", json_path = ".status.branch"),
    printcolumn(name = "Commit", type_ = "string", json_path = ".status.applied.commit"),
    printcolumn(name = "Applied", type_ = "date", json_path = ".status.applied.at"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct SourceSpec {}

/// Where sync is, with the times since when. Times are RFC 3339.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceStatus {
    /// Address of the repository, without credentials.
    #[serde(default)]
    pub repository: String,
    /// Branch or tag.
    #[serde(default)]
    pub branch: String,
    /// Folder of the manifests.
    #[serde(default)]
    pub path: String,
    /// Who syncs.
    #[serde(default)]
    pub daemon: DaemonStatus,
    /// The last look at the repository that was told here: at every change, and now and then without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub polled: Option<String>,
    /// The newest commit that was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<CommitAt>,
    /// The last commit that was worked through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<CommitAt>,
    /// Why repository or cluster cannot be worked with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Note>,
    /// What is wrong with no particular object: files that cannot be read, a removal that is refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Note>,
    /// Objects that are not as Git wants them; at most [`SourceStatus::OBJECTS_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<ObjectNote>,
    /// How many more there are.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more_objects: i64,
    /// Commits that drop more from Git than is deleted without being asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused_removals: Vec<RefusedRemoval>,
    /// What became of the last commits, newest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "open_objects")]
    pub commits: Vec<SyncedCommit>,
    /// The last request to look now (annotation `serin.dev/sync`) that has been answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handled_request: Option<String>,
    /// `Ready`, for `kubectl wait`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<super::CanaryCondition>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(count: &i64) -> bool {
    *count == 0
}

impl SourceStatus {
    /// Objects told one by one: more than a person reads, and far less than an object may hold.
    pub const OBJECTS_MAX: usize = 100;
    /// Commits remembered: enough for a projection that lost its connection for a while.
    pub const COMMITS_MAX: usize = 20;
}

/// A daemon.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DaemonStatus {
    /// Its version.
    #[serde(default)]
    pub version: String,
    /// The Lease by which it can be told whether it runs: `<namespace>/<name>`; none when it uses no lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<String>,
}

/// A commit and since when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CommitAt {
    /// The commit.
    pub commit: String,
    /// When.
    pub at: String,
}

/// Something to tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Note {
    /// What.
    pub message: String,
    /// Since when.
    pub since: String,
}

/// An object that is not as Git wants it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectNote {
    /// API group; empty for the core group.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
    /// What is the matter.
    pub state: ObjectState,
    /// In words.
    pub message: String,
    /// Since when.
    pub since: String,
}

/// What is the matter with an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum ObjectState {
    /// The API server, or we, do not take it.
    Refused,
    /// It is being deleted, and somebody has to let it go.
    Hanging,
    /// It is gone from Git and stays for now.
    Kept,
    /// It is a release's turn.
    Waiting,
}

impl ObjectState {
    /// As people read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Hanging => "hanging",
            Self::Kept => "kept",
            Self::Waiting => "waiting",
        }
    }
}

/// A commit that drops so much from Git that it is taken for a mistake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RefusedRemoval {
    /// The commit.
    pub commit: String,
    /// Objects that it dropped and that are still there.
    pub dropped: i64,
    /// Objects that Git had in the cluster before it.
    pub owned: i64,
}
