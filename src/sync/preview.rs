//! What a commit would change, found out without changing anything: a pass whose writes are dry runs.

use std::sync::Arc;

use super::apply::Trouble;
use super::desired::Link;
use super::ownership::Others;
use super::pass::{Extent, Pass};
use super::refused::Judge;
use super::source::{Content, NoRecord};
use super::status::SyncStatus;
use super::store::InventoryStore;
use crate::api::TargetResult;
use crate::cluster::{Claim, Cluster, Writer};
use crate::model::{NamespacedName, ObjectRef};

/// What is looked at.
pub struct PreviewContext {
    /// The cluster.
    pub cluster: Cluster,
    /// The commit.
    pub content: Arc<Content>,
    /// What the release engine thinks of a Canary.
    pub judge: Judge,
    /// The source: namespace and name.
    pub source: NamespacedName,
    /// Only objects in this namespace.
    pub only_namespace: Option<String>,
    /// Labels by which the pods of two sides may be told apart.
    pub selector_labels: Vec<String>,
    /// The cluster's Canaries: name, target and service of each.
    pub canaries: Vec<(NamespacedName, String, String)>,
}

/// What would be done.
#[derive(Debug, Clone, Default)]
pub struct Preview {
    /// In the order of a pass.
    pub changes: Vec<Planned>,
    /// Everything else that a pass would tell: what is refused, waits or stays.
    pub status: SyncStatus,
}

/// What would be done about one object.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// The object.
    pub id: ObjectRef,
    /// What.
    pub action: Action,
    /// In words.
    pub words: String,
    /// Where Git has it, `file:line`; none for what is deleted.
    pub origin: Option<String>,
    /// The release that it starts.
    pub release: Option<PlannedRelease>,
}

/// What is done about an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// It is made.
    Create,
    /// It is changed.
    Configure,
    /// Its new template is released.
    Release,
    /// It is deleted.
    Prune,
}

impl Action {
    /// As it is printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Configure => "configure",
            Self::Release => "release",
            Self::Prune => "prune",
        }
    }
}

/// A release that a commit starts.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedRelease {
    /// Whose.
    pub canary: NamespacedName,
    /// Whether it is written at once, or waits for a release that is under way.
    pub result: TargetResult,
    /// What of the template is new.
    pub reason: Reason,
}

/// What of a template is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Nothing but images.
    Image,
    /// Nothing but what ConfigMaps and Secrets hold.
    Config,
    /// More.
    Template,
    /// It is what primary runs: nothing is released.
    Restored,
}

impl Reason {
    /// As it is printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Config => "config",
            Self::Template => "template",
            Self::Restored => "restored",
        }
    }
}

/// Finds out what a commit would change.
///
/// # Errors
/// When the cluster cannot be worked with, in words.
pub async fn preview(context: PreviewContext) -> Result<Preview, String> {
    let PreviewContext { cluster, content, judge, source, only_namespace, selector_labels, canaries } = context;
    let store = InventoryStore::new(&cluster, &source.namespace, &source.name);
    let others = Others::new(&cluster, &source, only_namespace.as_deref());
    let link = |(canary, target, service)| Link { canary, target, service, serves: true, invalid: None };
    let pass = Pass {
        cluster: &cluster,
        // Whatever would be written is not: nobody holds the lease.
        writer: &Writer::new(Claim::never()),
        records: &NoRecord,
        store: &store,
        others: &others,
        only_namespace: only_namespace.as_deref(),
        selector_labels: &selector_labels,
        content: &content,
        judge,
        extent: Extent::Everything,
        live_canaries: canaries.into_iter().map(link).collect(),
        drifted: std::collections::BTreeSet::new(),
        allowed: std::collections::BTreeSet::new(),
        told: SyncStatus::default(),
        preview: true,
    };
    let mut inventory = store.load().await.map_err(Trouble::words)?;
    let passed = pass.run(&mut inventory).await.map_err(Trouble::words)?;
    Ok(Preview { changes: passed.planned, status: passed.status })
}
