//! Comparing and mending live objects.

use serde_json::{Map, Value, json};

use super::metadata;

/// Metadata that is kept of a live object; everything else only costs memory.
const METADATA_KEPT: [&str; 7] =
    ["name", "namespace", "uid", "resourceVersion", "labels", "annotations", "ownerReferences"];
/// What tells whether a status is about the object as it is.
const GENERATION: &str = "generation";
/// Annotation that doubles the object's size.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Keeps `apiVersion`, `kind`, the metadata that matters and `spec`.
pub fn strip(object: &Value) -> Value {
    let mut metadata: Map<String, Value> = METADATA_KEPT
        .iter()
        .filter_map(|key| Some(((*key).to_owned(), object["metadata"].get(key)?.clone())))
        .collect();
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.remove(LAST_APPLIED);
    }
    json!({
        "apiVersion": object["apiVersion"],
        "kind": object["kind"],
        "metadata": metadata,
        "spec": object["spec"],
    })
}

/// The same with what says whether the object is followed: its status, and the generation that this is about.
pub fn strip_but_status(object: &Value) -> Value {
    let mut stripped = strip(object);
    stripped["status"] = object["status"].clone();
    stripped["metadata"][GENERATION] = object["metadata"][GENERATION].clone();
    stripped
}

/// A merge patch that makes `live.spec` equal to `desired.spec` and adds its labels, annotations and owner. It carries the
/// resourceVersion, so it is refused if somebody else was faster.
pub fn merge_update(live: &Value, desired: &Value) -> Value {
    merge_update_with(live, desired, merge_diff(&live["spec"], &desired["spec"]))
}

/// The same with a given patch of `spec`.
pub(super) fn merge_update_with(live: &Value, desired: &Value, spec: Value) -> Value {
    json!({"metadata": metadata::merge(live, desired), "spec": spec})
}

/// The merge patch from one value to another: what is gone is `null`, arrays are replaced whole.
pub fn merge_diff(from: &Value, to: &Value) -> Value {
    let (Value::Object(from), Value::Object(to)) = (from, to) else { return to.clone() };
    let gone = from.keys().filter(|key| !to.contains_key(*key)).map(|key| (key.clone(), Value::Null));
    let changed = to.iter().filter(|(key, value)| from.get(*key) != Some(value)).map(|(key, value)| {
        let old = from.get(key).unwrap_or(&Value::Null);
        (key.clone(), merge_diff(old, value))
    });
    Value::Object(gone.chain(changed).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_patch_leads_from_one_to_the_other() {
        let from = json!({"hosts": ["a"], "gone": 1, "same": {"x": 1}, "deep": {"old": 1, "kept": 2}});
        let to = json!({"hosts": ["b"], "same": {"x": 1}, "deep": {"kept": 2, "new": 3}});
        let patch = merge_diff(&from, &to);
        assert_eq!(patch, json!({"hosts": ["b"], "gone": null, "deep": {"old": null, "new": 3}}));
        let mut merged = from;
        json_patch::merge(&mut merged, &patch);
        assert_eq!(merged, to);
    }

    #[test]
    fn stripping_keeps_what_is_compared() {
        let stripped = strip(&json!({"metadata": {"name": "a", "managedFields": [1],
            "annotations": {LAST_APPLIED: "…", "b": "c"}}, "spec": {"x": 1}, "status": {}}));
        assert_eq!(stripped["metadata"], json!({"name": "a", "annotations": {"b": "c"}}));
        assert!(stripped.get("status").is_none());
    }
}
