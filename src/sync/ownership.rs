//! Whose an object is where several sources share a cluster.
//!
//! Every object carries the identity of the source that wrote it, and only that one deletes it. Who still *wants* it stands in
//! the sources' inventories: what moves from one to another is let go by the one that no longer names it and claimed by the
//! one that does, in whatever order they look; what both name stays with its owner.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::apply::Trouble;
use super::desired::{Desired, DesiredSet};
use super::store::InventoryStore;
use crate::api::annotations::SOURCE;
use crate::api::{Inventory, Source, SourceStatus};
use crate::cluster::{Cluster, call};
use crate::model::{CommitId, Digest, NamespacedName, ObjectRef};

/// How long after its last renewal of the lease another daemon is waited for before what it may want is deleted: a node that
/// fails is replaced within minutes. One that was shut down on purpose is not waited for.
const ALIVE: SignedDuration = SignedDuration::from_mins(10);

/// Puts the source's identity on every wanted object.
pub(super) fn stamp(set: &mut DesiredSet, source: &NamespacedName) {
    for object in &mut set.objects {
        stamped(&mut object.body, source);
        // What an earlier version wrote gets its mark, too.
        object.digest = Digest::of_canonical(format!("{}\n{source}", object.digest).as_bytes());
    }
}

/// Puts the source's identity on an object.
pub(super) fn stamped(body: &mut Value, source: &NamespacedName) {
    let metadata = &mut body["metadata"];
    if !metadata["annotations"].is_object() {
        metadata["annotations"] = json!({});
    }
    metadata["annotations"][SOURCE] = json!(source.to_string());
}

/// The source that wrote a live object, if it is another one.
pub(super) fn other_source(live: &Value, own: &NamespacedName) -> Option<NamespacedName> {
    let (namespace, name) = live["metadata"]["annotations"][SOURCE].as_str()?.split_once('/')?;
    Some(NamespacedName::new(namespace, name)).filter(|source| source != own)
}

/// The object as it would be written by its present owner.
pub(super) fn body_of(object: &Desired, owner: &NamespacedName) -> Value {
    let mut body = object.body.clone();
    stamped(&mut body, owner);
    body
}

/// Why an object of another source is not taken.
pub(super) fn refusal(owner: &NamespacedName, named: &Named) -> String {
    match named {
        Named::Unknown(words) => {
            format!("it belongs to source {owner}, and nobody can tell whether that still names it: {words}")
        }
        Named::Yes | Named::No => format!(
            "it belongs to source {owner}, which names it too: remove it from one of the two (if that source is no more, \
             delete ConfigMap {}/{})",
            owner.namespace,
            Inventory::config_map_name(&owner.name)
        ),
    }
}

/// Whether a source names an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Named {
    Yes,
    No,
    /// Its inventory cannot be read, in words.
    Unknown(String),
}

/// Who else may want an object that Git dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Claim {
    /// Nobody.
    None,
    /// Another source names it: it is left there.
    By(NamespacedName),
    /// Another source of the same branch has not come to this commit yet.
    Perhaps(NamespacedName),
    /// The other sources cannot be looked at, in words.
    Unknown(String),
}

/// The other sources of the cluster, as one pass sees them; each is read when it is first asked for.
pub(super) struct Others<'a> {
    cluster: &'a Cluster,
    own: &'a NamespacedName,
    only_namespace: Option<&'a str>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    inventories: BTreeMap<NamespacedName, Result<Arc<Inventory>, String>>,
    siblings: Option<Result<Vec<Sibling>, String>>,
}

/// Another source.
#[derive(Debug, Clone)]
struct Sibling {
    id: NamespacedName,
    status: SourceStatus,
    /// Whether somebody renews its lease.
    alive: bool,
}

impl<'a> Others<'a> {
    pub(super) fn new(cluster: &'a Cluster, own: &'a NamespacedName, only_namespace: Option<&'a str>) -> Self {
        Self { cluster, own, only_namespace, known: Mutex::default() }
    }

    /// Who we are.
    pub(super) fn own(&self) -> &NamespacedName {
        self.own
    }

    /// Whether a source names an object: wants it, written or not.
    pub(super) async fn named(&self, source: &NamespacedName, id: &ObjectRef) -> Named {
        let mut known = self.known.lock().await;
        named_in(&self.inventory(&mut known, source).await, id)
    }

    /// Who else may want an object that `commit` does not have any more.
    pub(super) async fn claim(&self, id: &ObjectRef, commit: &CommitId) -> Claim {
        let mut known = self.known.lock().await;
        let siblings = match &known.siblings {
            Some(siblings) => siblings.clone(),
            None => {
                let found = self.siblings().await;
                known.siblings.insert(found).clone()
            }
        };
        let siblings = match siblings {
            Ok(siblings) => siblings,
            Err(words) => return Claim::Unknown(words),
        };
        let own = siblings.iter().find(|sibling| sibling.id == *self.own).map(|own| own.status.clone());
        let mut perhaps = Claim::None;
        for sibling in siblings.iter().filter(|sibling| sibling.id != *self.own) {
            match named_in(&self.inventory(&mut known, &sibling.id).await, id) {
                Named::Yes => return Claim::By(sibling.id.clone()),
                Named::Unknown(words) => perhaps = Claim::Unknown(words),
                Named::No if own.as_ref().is_some_and(|own| sibling.is_behind(own, commit)) => {
                    perhaps = Claim::Perhaps(sibling.id.clone());
                }
                Named::No => {}
            }
        }
        perhaps
    }

    /// A source's inventory. Whatever is the matter with it is that source's matter, and stops nothing here.
    async fn inventory(&self, known: &mut Known, source: &NamespacedName) -> Result<Arc<Inventory>, String> {
        if let Some(inventory) = known.inventories.get(source) {
            return inventory.clone();
        }
        let store = InventoryStore::new(self.cluster, &source.namespace, &source.name);
        let read = store.load().await.map(Arc::new).map_err(Trouble::words);
        known.inventories.insert(source.clone(), read.clone());
        read
    }

    /// All sources, ours among them.
    async fn siblings(&self) -> Result<Vec<Sibling>, String> {
        let api: Api<Source> = match self.only_namespace {
            Some(namespace) => Api::namespaced(self.cluster.client(), namespace),
            None => Api::all(self.cluster.client()),
        };
        let list = match call("list sources", api.list(&ListParams::default())).await {
            Ok(list) => list,
            // Without the definition there is no other source.
            Err(error) if error.is_not_found() => return Ok(Vec::new()),
            Err(error) => return Err(Trouble::from(error).words()),
        };
        let mut siblings = Vec::new();
        for source in list.items {
            let id = NamespacedName::new(source.namespace().unwrap_or_default(), source.name_any());
            let status = source.status.unwrap_or_default();
            let alive = id != *self.own && self.is_alive(status.daemon.lease.as_deref()).await;
            siblings.push(Sibling { id, status, alive });
        }
        Ok(siblings)
    }

    /// Whether somebody renews a lease; one that cannot be read is nobody's.
    async fn is_alive(&self, lease: Option<&str>) -> bool {
        let Some((namespace, name)) = lease.and_then(|lease| lease.split_once('/')) else { return false };
        let api: Api<Lease> = Api::namespaced(self.cluster.client(), namespace);
        match call("read the lease of another source", api.get_opt(name)).await {
            Ok(lease) => is_fresh(lease.as_ref(), self.cluster.clock().now()),
            Err(_) => false,
        }
    }
}

impl Sibling {
    /// Whether it follows what we follow, will come to `commit`, and has not yet.
    fn is_behind(&self, own: &SourceStatus, commit: &CommitId) -> bool {
        let same = self.status.repository == own.repository && self.status.branch == own.branch;
        let there = self.status.applied.as_ref().is_some_and(|applied| applied.commit == commit.to_string());
        self.alive && same && !there
    }
}

fn named_in(inventory: &Result<Arc<Inventory>, String>, id: &ObjectRef) -> Named {
    match inventory {
        Ok(inventory) if inventory.objects.get(id).is_some_and(|owned| owned.dropped.is_none()) => Named::Yes,
        Ok(_) => Named::No,
        Err(words) => Named::Unknown(words.clone()),
    }
}

fn is_fresh(lease: Option<&Lease>, now: Timestamp) -> bool {
    let spec = lease.and_then(|lease| lease.spec.as_ref());
    let held = spec.filter(|spec| spec.holder_identity.as_ref().is_some_and(|holder| !holder.is_empty()));
    let renewed = held.and_then(|spec| spec.renew_time.as_ref());
    renewed.is_some_and(|renewed| now.duration_since(renewed.0) < ALIVE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{CommitAt, Owned};

    fn source(name: &str) -> NamespacedName {
        NamespacedName::new("serin-system", name)
    }

    #[test]
    fn a_mark_names_another_source_or_nobody() {
        let live = |annotations: Value| json!({"metadata": {"annotations": annotations}});
        for (annotations, other) in [
            (json!(null), None),
            (json!({"x": "y"}), None),
            (json!({SOURCE: "nonsense"}), None),
            (json!({SOURCE: "serin-system/a"}), None),
            (json!({SOURCE: "serin-system/b"}), Some(source("b"))),
            (json!({SOURCE: "elsewhere/a"}), Some(NamespacedName::new("elsewhere", "a"))),
        ] {
            assert_eq!(other_source(&live(annotations), &source("a")), other);
        }
        let mut body = json!({"metadata": {"annotations": null}});
        stamped(&mut body, &source("a"));
        assert_eq!(body["metadata"]["annotations"], json!({SOURCE: "serin-system/a"}));
    }

    #[test]
    fn only_a_living_source_of_the_same_branch_is_waited_for() {
        let commit = |digit: &str| -> CommitId { digit.repeat(40).parse().unwrap() };
        let at = |digit: &str| {
            let applied = Some(CommitAt { commit: digit.repeat(40), at: String::new() });
            SourceStatus { branch: "main".into(), repository: "r".into(), applied, ..SourceStatus::default() }
        };
        let own = at("2");
        let behind = |status: SourceStatus, alive: bool| {
            Sibling { id: source("b"), status, alive }.is_behind(&own, &commit("2"))
        };
        assert!(behind(at("1"), true));
        assert!(behind(SourceStatus { applied: None, ..at("1") }, true), "it has just started");
        assert!(!behind(at("2"), true));
        assert!(!behind(at("1"), false));
        assert!(!behind(SourceStatus { branch: "other".into(), ..at("1") }, true));
        assert!(!behind(SourceStatus { repository: "other".into(), ..at("1") }, true));
    }

    #[test]
    fn what_a_source_dropped_it_does_not_name() {
        let id = ObjectRef { group: String::new(), kind: "Secret".into(), namespace: None, name: "a".into() };
        let mut inventory = Inventory::default();
        assert_eq!(named_in(&Ok(Arc::new(inventory.clone())), &id), Named::No);
        inventory.objects.insert(id.clone(), Owned::default());
        assert_eq!(named_in(&Ok(Arc::new(inventory.clone())), &id), Named::Yes);
        inventory.objects.insert(id.clone(), Owned { dropped: "1".repeat(40).parse().ok(), ..Owned::default() });
        assert_eq!(named_in(&Ok(Arc::new(inventory)), &id), Named::No);
        assert_eq!(named_in(&Err("forbidden".into()), &id), Named::Unknown("forbidden".into()));
    }
}
