//! Between served versions and the stored form.
//!
//! Custom resources convert with strategy None: only `apiVersion` changes, then the version's schema prunes and
//! defaults. Events of `events.k8s.io` are core Events under other field names.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::json::remove;
use super::kinds::Resource;
use super::{default, prune};

/// Field names of `events.k8s.io/v1` and of core `v1`.
const EVENT_FIELDS: &[(&str, &str)] = &[
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
    ("reportingController", "reportingComponent"),
];

fn is_new_event(resource: &Resource) -> bool {
    resource.group == "events.k8s.io"
}

/// A stored object in the resource's version.
pub(super) fn from_storage<'a>(resource: &Resource, object: &'a Value) -> Cow<'a, Value> {
    if object["apiVersion"] == resource.api_version().as_str() {
        return Cow::Borrowed(object);
    }
    let mut object = object.clone();
    object["apiVersion"] = json!(resource.api_version());
    if is_new_event(resource) {
        for (new, core) in EVENT_FIELDS {
            rename(&mut object, core, new);
        }
    } else if resource.is_custom() {
        prune::prune(&mut object, resource.schema());
        default::fill(&mut object, resource.schema());
    }
    Cow::Owned(object)
}

/// An object in the resource's version as it is stored.
pub(super) fn to_storage(resource: &Resource, mut object: Value) -> Value {
    if is_new_event(resource) {
        for (new, core) in EVENT_FIELDS {
            rename(&mut object, new, core);
        }
    }
    object["apiVersion"] = json!(resource.storage_api_version);
    object
}

fn rename(object: &mut Value, from: &str, to: &str) {
    if let Some(value) = object.get(from).cloned() {
        remove(object, from);
        object[to] = value;
    }
}
