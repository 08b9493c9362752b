//! Small questions about objects that several controllers ask.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    LabelSelector, LabelSelectorRequirement, ObjectMeta, OwnerReference, Time,
};
use kube::Resource;

/// The owner that manages the object.
pub(super) fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

/// The reference to an owner that manages an object and waits for it when it is deleted in the foreground.
pub(super) fn controlled_by<K: Resource<DynamicType = ()>>(owner: &K) -> Option<OwnerReference> {
    owner
        .controller_owner_ref(&())
        .map(|reference| OwnerReference { block_owner_deletion: Some(true), ..reference })
}

/// Whether the object is managed by the object with that uid.
pub(super) fn is_controlled_by(meta: &ObjectMeta, uid: Option<&str>) -> bool {
    uid.is_some() && controller_of(meta).map(|owner| owner.uid.as_str()) == uid
}

/// Labels against a selector; an empty selector matches everything, an unknown operator nothing.
pub(super) fn selects(selector: &LabelSelector, labels: Option<&BTreeMap<String, String>>) -> bool {
    let value = |key: &str| labels.and_then(|labels| labels.get(key));
    let equal = selector.match_labels.iter().flatten().all(|(key, wanted)| value(key) == Some(wanted));
    let meets = |requirement: &LabelSelectorRequirement| {
        let found = value(&requirement.key);
        let listed = || found.is_some_and(|found| requirement.values.iter().flatten().any(|value| value == found));
        match requirement.operator.as_str() {
            "In" => listed(),
            "NotIn" => !listed(),
            "Exists" => found.is_some(),
            "DoesNotExist" => found.is_none(),
            _ => false,
        }
    };
    equal && selector.match_expressions.iter().flatten().all(meets)
}

/// The pod has not ended and is not being deleted.
pub(super) fn is_active(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none() && !has_ended(pod)
}

/// The pod ran to its end.
pub(super) fn has_ended(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// `status.phase`.
pub(super) fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// The pod's condition of that type.
pub(super) fn pod_condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.iter().flatten().find(|condition| condition.type_ == kind)
}

/// Since when the pod is ready; `None` while it is not.
pub(super) fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let ready = pod_condition(pod, "Ready").filter(|condition| condition.status == "True")?;
    let since = ready.last_transition_time.as_ref().map(|Time(at)| *at);
    Some(since.unwrap_or(Timestamp::UNIX_EPOCH))
}

/// When a ready pod counts as available.
pub(super) fn available_at(pod: &Pod, min_ready_seconds: i32) -> Option<Timestamp> {
    let wait = SignedDuration::from_secs(i64::from(min_ready_seconds.max(0)));
    ready_since(pod)?.checked_add(wait).ok()
}
