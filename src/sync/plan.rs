//! What has to change, judged from what is there and what the server says would be there. PURE.

use std::collections::BTreeMap;

use serde_json::Value;

use super::desired::DesiredSet;
use super::order::Stage;
use super::removals;
use crate::api::annotations::{MANAGER_SYNC, PENDING, REPLACED, REPLICAS, REVISION, SOURCE};
use crate::api::{Inventory, RemovalVerdict};
use crate::manifest::describe_change;
use crate::model::{CommitId, ObjectRef};

/// Whether writing would change anything: the dry run's result against the live object, without what the server itself
/// counts and what controllers report.
pub(super) fn differs(live: &Value, dry_run: &Value) -> bool {
    let bare = |object: &Value| {
        let mut object = object.clone();
        if let Some(object) = object.as_object_mut() {
            object.remove("status");
        }
        if let Some(metadata) = object["metadata"].as_object_mut() {
            for field in ["managedFields", "resourceVersion", "generation"] {
                metadata.remove(field);
            }
        }
        object
    };
    bare(live) != bare(dry_run)
}

/// Whether the live object is as Git wants it, and ours exactly as far as Git goes: an equal object whose fields are not ours
/// (or no longer Git's) must be applied once, or a field that leaves Git later would stay in the cluster.
pub(super) fn is_settled(live: &Value, dry_run: &Value) -> bool {
    owned_fields(live) == owned_fields(dry_run) && !differs(live, dry_run)
}

/// Whether the object may be deleted as ours. One that nobody owns a field of is as empty as we made it.
pub(super) fn is_owned(live: &Value) -> bool {
    owned_fields(live).is_some() || managers(live).next().is_none()
}

fn owned_fields(object: &Value) -> Option<&Value> {
    managers(object)
        .find(|entry| entry["manager"] == MANAGER_SYNC && entry["operation"] == "Apply")
        .map(|entry| &entry["fieldsV1"])
}

fn managers(live: &Value) -> impl Iterator<Item = &Value> {
    live["metadata"]["managedFields"].as_array().into_iter().flatten()
}

/// What becomes of the objects that commits dropped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Prune {
    /// What may be deleted, in this order.
    pub(super) delete: Vec<ObjectRef>,
    /// What stays for now, and why.
    pub(super) kept: BTreeMap<ObjectRef, String>,
    /// Why nothing of a commit's removals is deleted.
    pub(super) refused: Vec<String>,
}

/// What the inventory owns and Git no longer names, backwards: Canaries before their targets, namespaces last. `unwritten` are
/// objects that Git names and that are not in the cluster yet, with the commits that brought them.
pub(super) fn prune(inventory: &Inventory, set: &DesiredSet, unwritten: &[(ObjectRef, CommitId)]) -> Prune {
    let mut prune = Prune::default();
    let mut dropped = 0_usize;
    for (id, owned) in inventory.objects.iter().filter(|(_, owned)| owned.dropped.is_some()) {
        dropped += 1;
        if !set.complete || removals::verdict(inventory, owned) != RemovalVerdict::Allowed {
            continue;
        }
        let of_its_commit =
            |(new, since): &&(ObjectRef, CommitId)| may_replace(new, id) && owned.dropped.as_ref() == Some(since);
        match unwritten.iter().find(of_its_commit) {
            Some((new, _)) => {
                let words = format!(
                    "it is gone from Git and kept: {new}, which may be its new name, is not in the cluster yet"
                );
                prune.kept.insert(id.clone(), words);
            }
            None => prune.delete.push(id.clone()),
        }
    }
    if dropped > 0 && !set.complete {
        prune.refused.push(format!(
            "{dropped} objects are gone from Git, but some documents cannot be read: nothing is deleted until they can"
        ));
    }
    for (commit, removal) in &inventory.removals {
        match removal.verdict {
            RemovalVerdict::Refused => {
                prune.refused.push(removals::refusal(commit, removal, removals::still_there(inventory, commit)));
            }
            RemovalVerdict::Open | RemovalVerdict::Allowed => {}
        }
    }
    prune.delete.sort_by(|a, b| (Stage::of(b), b).cmp(&(Stage::of(a), a)));
    prune
}

/// Whether one object may be the new name of another: they are of a kind and in one place.
fn may_replace(new: &ObjectRef, old: &ObjectRef) -> bool {
    new.group == old.group && new.kind == old.kind && new.namespace == old.namespace
}

/// What a write changes, in words: the live object against what the dry run says it becomes.
pub(super) fn words(live: Option<&Value>, dry_run: &Value) -> String {
    let Some(live) = live else {
        return "create".to_owned();
    };
    let kind = live["kind"].as_str().unwrap_or_default();
    let changes = describe_change(kind, &without_stamps(live), &without_stamps(dry_run));
    match changes.as_slice() {
        [] => "take over its fields".to_owned(),
        changes => changes.join(", "),
    }
}

/// Without our own annotations, which say nothing about what changed.
fn without_stamps(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(annotations) = object["metadata"]["annotations"].as_object_mut() {
        for key in [REVISION, PENDING, REPLACED, REPLICAS, SOURCE] {
            annotations.remove(key);
        }
        if annotations.is_empty() {
            object["metadata"]["annotations"] = Value::Null;
        }
    }
    object
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::{Owned, Removal};

    fn id(group: &str, kind: &str, name: &str) -> ObjectRef {
        ObjectRef { group: group.into(), kind: kind.into(), namespace: Some("test".into()), name: name.into() }
    }

    /// An inventory in which a commit dropped these.
    fn dropping(ids: &[ObjectRef], verdict: RemovalVerdict) -> Inventory {
        let commit: CommitId = "a".repeat(40).parse().unwrap();
        let dropped = Owned { dropped: Some(commit.clone()), ..Owned::default() };
        let removal = Removal { owned: 12, verdict };
        Inventory {
            objects: ids.iter().map(|id| (id.clone(), dropped.clone())).collect(),
            removals: BTreeMap::from([(commit, removal)]),
        }
    }

    fn complete() -> DesiredSet {
        DesiredSet { complete: true, ..DesiredSet::default() }
    }

    #[test]
    fn only_what_git_wants_counts_as_a_difference() {
        let live = json!({"metadata": {"name": "a", "resourceVersion": "1", "generation": 1, "managedFields": []},
            "spec": {"x": 1}, "status": {"ready": 1}});
        let mut dry_run = live.clone();
        dry_run["metadata"] = json!({"name": "a", "resourceVersion": "1", "generation": 2});
        dry_run["status"] = json!(null);
        assert!(!differs(&live, &dry_run));
        dry_run["spec"]["x"] = json!(2);
        assert!(differs(&live, &dry_run));
    }

    #[test]
    fn prune_goes_backwards_and_takes_only_what_a_commit_dropped() {
        let canary = id("flagger.app", "Canary", "podinfo");
        let target = id("apps", "Deployment", "podinfo");
        let config = id("", "ConfigMap", "a");
        let mut inventory = dropping(&[target.clone(), config.clone(), canary.clone()], RemovalVerdict::Allowed);
        inventory.objects.insert(id("", "ConfigMap", "stays"), Owned::default());
        assert_eq!(prune(&inventory, &complete(), &[]).delete, [canary, target, config]);
    }

    #[test]
    fn nothing_goes_that_is_refused_or_that_an_unreadable_document_may_hold() {
        let ids = [id("", "ConfigMap", "a"), id("", "ConfigMap", "b")];
        let refused = prune(&dropping(&ids, RemovalVerdict::Refused), &complete(), &[]);
        assert_eq!((refused.delete, refused.refused.len()), (vec![], 1));
        assert!(refused.refused[0].contains("2 of 12 objects") && refused.refused[0].contains("--allow aaaaaaa"));
        let unreadable = prune(&dropping(&ids, RemovalVerdict::Allowed), &DesiredSet::default(), &[]);
        assert_eq!((unreadable.delete, unreadable.refused.len()), (vec![], 1));
    }

    #[test]
    fn an_object_stays_while_what_may_be_its_new_name_is_not_there() {
        let old = [id("apps", "Deployment", "old"), id("", "Secret", "old")];
        let new = |commit: &str| [(id("apps", "Deployment", "new"), commit.repeat(40).parse().unwrap())];
        let inventory = dropping(&old, RemovalVerdict::Allowed);
        assert_eq!(prune(&inventory, &complete(), &new("b")).delete.len(), 2, "another commit's");
        let plan = prune(&inventory, &complete(), &new("a"));
        assert_eq!(
            (plan.delete, plan.kept.into_keys().collect::<Vec<_>>()),
            (vec![old[1].clone()], vec![old[0].clone()])
        );
    }
}
