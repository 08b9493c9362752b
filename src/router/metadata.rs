//! Metadata of generated Services and routes, and how live metadata is brought to it.
//!
//! Others may put labels and annotations on what we generate, and keep them. What `spec.service` asked for once and no
//! longer does must go, though: a forgotten DNS annotation keeps its record alive. So the keys that were asked for are
//! remembered in an annotation.

use serde_json::{Map, Value, json};

use crate::api::annotations::CUSTOM_METADATA;
use crate::api::{CustomMetadata, UnmanagedMetadata};
use crate::workload::GENERATED_ANNOTATIONS;

use super::RouteRequest;

/// The two maps of an object's metadata.
const MAPS: [&str; 2] = ["labels", "annotations"];

/// Metadata of an object that the Canary owns, with `labels` and what the user wants besides.
pub(super) fn generated(
    request: &RouteRequest<'_>,
    name: &str,
    mut labels: Map<String, Value>,
    custom: Option<&CustomMetadata>,
) -> Value {
    let mut annotations =
        Map::from_iter(GENERATED_ANNOTATIONS.map(|(key, value)| (key.to_owned(), Value::from(value))));
    if let Some(CustomMetadata { labels: more_labels, annotations: more_annotations }) = custom {
        let value = |(key, value): (&String, &String)| (key.clone(), Value::from(value.as_str()));
        labels.extend(more_labels.iter().map(value));
        annotations.extend(more_annotations.iter().map(value));
        let keys = more_labels.keys().map(|key| format!("labels:{key}"));
        let keys: Vec<String> =
            keys.chain(more_annotations.keys().map(|key| format!("annotations:{key}"))).collect();
        if !keys.is_empty() {
            annotations.insert(CUSTOM_METADATA.to_owned(), Value::from(keys.join(",")));
        }
    }
    let mut metadata = Map::from_iter([
        ("name".to_owned(), Value::from(name)),
        ("namespace".to_owned(), Value::from(request.namespace)),
        ("annotations".to_owned(), Value::Object(annotations)),
        ("ownerReferences".to_owned(), json!([request.owner.reference()])),
    ]);
    if !labels.is_empty() {
        metadata.insert("labels".to_owned(), Value::Object(labels));
    }
    Value::Object(metadata)
}

/// `desired` with the live values of what others manage (`spec.service.unmanagedMetadata`).
pub(super) fn leave_unmanaged(desired: &Value, live: &Value, unmanaged: Option<&UnmanagedMetadata>) -> Value {
    let mut desired = desired.clone();
    let Some(UnmanagedMetadata { labels, annotations }) = unmanaged else { return desired };
    for (map, keys) in MAPS.into_iter().zip([labels, annotations]) {
        let wanted = desired.pointer_mut(&format!("/metadata/{map}"));
        let Some(wanted) = wanted.and_then(Value::as_object_mut) else { continue };
        for key in keys {
            if let Some(value) = live["metadata"][map].get(key) {
                wanted.insert(key.clone(), value.clone());
            }
        }
    }
    desired
}

/// Whether every label and annotation of `desired` is on `live`, and nothing that was asked for before is left.
pub fn has_metadata_of(live: &Value, desired: &Value) -> bool {
    let has_all = MAPS.iter().all(|map| {
        let wanted = desired["metadata"][*map].as_object();
        wanted.into_iter().flatten().all(|(key, value)| live["metadata"][*map].get(key) == Some(value))
    });
    has_all && left_over(live, desired).is_empty()
}

/// The merge patch of `live`'s metadata: labels, annotations and owner of `desired`; what is left over goes. It carries the
/// resourceVersion.
pub(super) fn merge(live: &Value, desired: &Value) -> Value {
    let mut metadata = json!({"resourceVersion": live["metadata"]["resourceVersion"]});
    for key in MAPS.into_iter().chain(["ownerReferences"]) {
        if let Some(value) = desired["metadata"].get(key) {
            metadata[key] = value.clone();
        }
    }
    if !desired["metadata"].is_null() {
        for (map, key) in left_over(live, desired) {
            metadata[map][key] = Value::Null;
        }
    }
    metadata
}

/// What was asked for before and is not any more: `("labels", "team")`.
fn left_over<'a>(live: &'a Value, desired: &Value) -> Vec<(&'a str, &'a str)> {
    let Some(before) = live["metadata"]["annotations"][CUSTOM_METADATA].as_str() else { return Vec::new() };
    let keys = before.split(',').filter_map(|key| key.split_once(':')).filter(|(map, _)| MAPS.contains(map));
    let keys = keys.chain([("annotations", CUSTOM_METADATA)]);
    keys.filter(|(map, key)| desired["metadata"][*map].get(key).is_none()).collect()
}

#[cfg(test)]
mod tests {
    use crate::api::CanaryService;
    use crate::workload::Owner;

    use super::*;

    fn rendered(custom: Value) -> Value {
        let owner = Owner { name: "podinfo".into(), uid: "u".into() };
        let spec: CanaryService = serde_json::from_value(json!({"port": 80})).unwrap();
        let request = RouteRequest {
            namespace: "test",
            service: "web",
            spec: &spec,
            owner: &owner,
            target: "podinfo",
            predecessor: None,
            pods: None,
        };
        let custom: CustomMetadata = serde_json::from_value(custom).unwrap();
        let labels = Map::from_iter([("app".to_owned(), json!("web"))]);
        json!({"metadata": generated(&request, "web", labels, Some(&custom))})
    }

    #[test]
    fn what_was_asked_for_before_goes_and_what_others_put_there_stays() {
        let before = rendered(json!({"labels": {"team": "a", "tier": "1"}, "annotations": {"dns/name": "x"}}));
        let mut live = before.clone();
        json_patch::merge(
            &mut live,
            &json!({"metadata": {"resourceVersion": "3", "labels": {"theirs": "1"}, "annotations": {"theirs": "2"}}}),
        );
        assert!(has_metadata_of(&live, &before));

        let after = rendered(json!({"labels": {"team": "b"}}));
        assert!(!has_metadata_of(&live, &after));
        let patch = json!({"metadata": merge(&live, &after)});
        assert_eq!(patch["metadata"]["labels"], json!({"app": "web", "team": "b", "tier": null}));
        json_patch::merge(&mut live, &patch);
        assert!(has_metadata_of(&live, &after));
        assert_eq!(live["metadata"]["labels"], json!({"app": "web", "team": "b", "theirs": "1"}));
        assert!(live["metadata"]["annotations"].get("dns/name").is_none());
        assert_eq!(live["metadata"]["annotations"]["theirs"], "2");

        let none = rendered(json!({}));
        assert!(!has_metadata_of(&live, &none));
        let patch = json!({"metadata": merge(&live, &none)});
        json_patch::merge(&mut live, &patch);
        assert_eq!(live["metadata"]["labels"], json!({"app": "web", "theirs": "1"}));
        assert!(live["metadata"]["annotations"].get(CUSTOM_METADATA).is_none());
        assert!(has_metadata_of(&live, &none));
    }

    #[test]
    fn what_is_unmanaged_keeps_its_live_value() {
        let desired = rendered(json!({"labels": {"team": "a"}}));
        let mut live = desired.clone();
        live["metadata"]["labels"]["team"] = json!("b");
        let unmanaged = UnmanagedMetadata { labels: vec!["team".into(), "other".into()], annotations: vec![] };
        assert!(!has_metadata_of(&live, &desired));
        assert!(has_metadata_of(&live, &leave_unmanaged(&desired, &live, Some(&unmanaged))));
    }
}
