//! What has to change, judged from what is there and what the server says would be there. PURE.

use std::collections::BTreeMap;

use serde_json::Value;

use super::desired::DesiredSet;
use super::order::Stage;
use crate::api::Owned;
use crate::api::annotations::{MANAGER_ENGINE, MANAGER_SYNC, PENDING, REPLACED, REPLICAS, REVISION};
use crate::manifest::describe_change;
use crate::model::ObjectRef;

/// From how many owned objects on the half rule applies; smaller sets change by halves all the time.
const HALF_RULE_FROM: usize = 10;

/// Whether writing would change anything: the dry run's result against the live object, without what the server itself
/// counts and what controllers report.
fn differs(live: &Value, dry_run: &Value) -> bool {
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

/// Whether the release engine has taken the service's selector.
pub(super) fn engine_owns_selector(live: &Value) -> bool {
    managers(live)
        .any(|entry| entry["manager"] == MANAGER_ENGINE && !entry["fieldsV1"]["f:spec"]["f:selector"].is_null())
}

fn managers(live: &Value) -> impl Iterator<Item = &Value> {
    live["metadata"]["managedFields"].as_array().into_iter().flatten()
}

/// What to delete.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Prune {
    /// In this order.
    pub(super) delete: Vec<ObjectRef>,
    /// Why nothing is deleted although something is gone from Git.
    pub(super) refused: Option<String>,
}

/// What the inventory owns and Git no longer names, backwards: Canaries before their targets, namespaces last.
pub(super) fn prune(owned: &BTreeMap<ObjectRef, Owned>, set: &DesiredSet) -> Prune {
    let mut delete: Vec<ObjectRef> = owned.keys().filter(|id| !set.named.contains(id)).cloned().collect();
    if delete.is_empty() {
        return Prune::default();
    }
    let refuse = |reason: String| Prune { delete: Vec::new(), refused: Some(reason) };
    let gone = delete.len();
    if !set.complete {
        return refuse(format!(
            "{gone} objects are gone from Git, but some documents cannot be read: nothing is deleted until they can"
        ));
    }
    if set.named.is_empty() {
        return refuse(format!(
            "the path holds no objects any more: none of {gone} is deleted; is the path right?"
        ));
    }
    if owned.len() >= HALF_RULE_FROM && gone * 2 > owned.len() {
        return refuse(format!(
            "{gone} of {} objects are gone from Git at once: none is deleted; remove them in smaller commits, or with kubectl",
            owned.len()
        ));
    }
    delete.sort_by(|a, b| (Stage::of(b), b).cmp(&(Stage::of(a), a)));
    Prune { delete, refused: None }
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
        for key in [REVISION, PENDING, REPLACED, REPLICAS] {
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

    fn id(group: &str, kind: &str, name: &str) -> ObjectRef {
        ObjectRef { group: group.into(), kind: kind.into(), namespace: Some("test".into()), name: name.into() }
    }

    fn owned(ids: &[ObjectRef]) -> BTreeMap<ObjectRef, Owned> {
        ids.iter().map(|id| (id.clone(), Owned::default())).collect()
    }

    fn naming(ids: &[ObjectRef]) -> DesiredSet {
        DesiredSet { named: ids.iter().cloned().collect(), complete: true, ..DesiredSet::default() }
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
    fn prune_goes_backwards_and_takes_only_what_is_owned_and_unnamed() {
        let canary = id("flagger.app", "Canary", "podinfo");
        let target = id("apps", "Deployment", "podinfo");
        let config = id("", "ConfigMap", "a");
        let stays = id("", "ConfigMap", "stays");
        let plan = prune(
            &owned(&[target.clone(), config.clone(), stays.clone(), canary.clone()]),
            &naming(std::slice::from_ref(&stays)),
        );
        assert_eq!(plan, Prune { delete: vec![canary, target, config], refused: None });
    }

    #[test]
    fn prune_refuses_when_absence_may_be_a_mistake() {
        let ids: Vec<ObjectRef> = (0..10).map(|n| id("", "ConfigMap", &n.to_string())).collect();
        let refused = |ids: &[ObjectRef], set: &DesiredSet| prune(&owned(ids), set).refused.is_some();
        assert!(!refused(&ids, &naming(&ids[..5])), "half is allowed");
        assert!(refused(&ids, &naming(&ids[..4])), "more than half is not");
        assert!(!refused(&ids[..9], &naming(&ids[..1])), "small sets change freely");
        assert!(refused(&ids[..3], &naming(&[])), "an empty path is a mistake");
        let unreadable = DesiredSet { complete: false, ..naming(&ids[..9]) };
        assert!(refused(&ids, &unreadable), "an unreadable document may hold the missing object");
    }
}
