//! Metadata of generated objects.

use serde_json::{Map, Value, json};

/// On everything generated: Flux leaves it alone (Flagger's annotations).
pub const GENERATED_ANNOTATIONS: [(&str, &str); 2] =
    [("kustomize.toolkit.fluxcd.io/reconcile", "disabled"), ("helm.toolkit.fluxcd.io/driftDetection", "disabled")];

/// The Canary as owner of generated objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
}

impl Owner {
    /// The ownerReference.
    pub fn reference(&self) -> Value {
        json!({
            "apiVersion": "flagger.app/v1beta1",
            "kind": "Canary",
            "name": self.name,
            "uid": self.uid,
            "controller": true,
            "blockOwnerDeletion": true,
        })
    }

    /// Whether `object` is controlled by this Canary.
    pub fn controls(&self, object: &Value) -> bool {
        let references = object["metadata"]["ownerReferences"].as_array();
        references.into_iter().flatten().any(|reference| reference["uid"] == self.uid.as_str())
    }
}

/// The ownerReference to a target: what a deleted Canary leaves behind goes with the target, and not before.
pub fn left_to(target: &Value) -> Value {
    let metadata = &target["metadata"];
    json!({"apiVersion": "apps/v1", "kind": TARGET_KIND, "name": metadata["name"], "uid": metadata["uid"]})
}

/// Whether an object was generated for a Canary and left to the target of this name.
pub fn is_left_to(object: &Value, target: &str) -> bool {
    let metadata = &object["metadata"];
    let (key, value) = GENERATED_ANNOTATIONS[0];
    let is_heir = |reference: &Value| {
        reference["kind"] == TARGET_KIND && reference["name"] == target && reference["controller"] != true
    };
    metadata["annotations"][key] == value
        && metadata["ownerReferences"].as_array().is_some_and(|references| references.iter().any(is_heir))
}

/// Kind of the targets.
const TARGET_KIND: &str = "Deployment";

/// Uid of the controlling owner.
pub(super) fn controller_of(object: &Value) -> Option<String> {
    let owners = object["metadata"]["ownerReferences"].as_array()?;
    let owner = owners.iter().find(|owner| owner["controller"] == true)?;
    Some(owner["uid"].as_str()?.to_owned())
}

/// The fixed annotations and `extra`.
pub(super) fn annotations<'a>(extra: impl IntoIterator<Item = (&'a str, String)>) -> Map<String, Value> {
    GENERATED_ANNOTATIONS
        .into_iter()
        .map(|(key, value)| (key.to_owned(), Value::from(value)))
        .chain(extra.into_iter().map(|(key, value)| (key.to_owned(), Value::from(value))))
        .collect()
}

/// Sets `object[key]`, if `object` is a JSON object: what is not one has no such field to set.
pub(super) fn set(object: &mut Value, key: &str, value: Value) {
    if let Some(map) = object.as_object_mut() {
        map.insert(key.to_owned(), value);
    }
}
