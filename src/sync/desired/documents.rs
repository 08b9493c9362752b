//! Documents as they are wanted, and the kinds that they are of.

use std::collections::{BTreeSet, HashMap};

use serde_json::{Map, Value};

use super::Gvk;
use crate::manifest::encoded_string_data;
use crate::sync::convert;
use crate::sync::source::{Content, Document};

/// Annotations that tools and controllers write into objects, and that files exported from a cluster carry. The Deployment
/// controller writes its own again at once, so wanting an old one would never end.
const EXPORTED_ANNOTATIONS: [&str; 2] =
    ["deployment.kubernetes.io/revision", "kubectl.kubernetes.io/last-applied-configuration"];

/// The objects of all documents: lists flattened, gone API versions converted, server-side fields dropped.
pub(in crate::sync) fn documents(content: &Content) -> Vec<(Document, Vec<String>)> {
    let mut all = Vec::new();
    for document in content.documents.iter().map(|kept| kept.thaw()) {
        match document.object["items"].as_array() {
            Some(items) if document.object["kind"].as_str().is_some_and(|kind| kind.ends_with("List")) => {
                all.extend(items.iter().map(|item| Document { object: item.clone(), ..document.clone() }));
            }
            Some(_) | None => all.push(document),
        }
    }
    all.into_iter()
        .map(|mut document| {
            let warnings = convert::to_served(&mut document.object).into_iter().collect();
            drop_server_fields(&mut document.object);
            encode_string_data(&mut document.object);
            (document, warnings)
        })
        .collect()
}

/// A Secret's `stringData` becomes the `data` that the API server makes of it. Applied as it is, the keys in `data` would be
/// nobody's, and one that leaves Git would stay readable.
fn encode_string_data(object: &mut Value) {
    if object["kind"] != "Secret" || object["apiVersion"] != "v1" {
        return;
    }
    let Some(texts) = object["stringData"].as_object().map(Map::len) else { return };
    let encoded = encoded_string_data(object);
    // What is no text is the API server's to refuse, in its words.
    if encoded.len() != texts {
        return;
    }
    if let Some(secret) = object.as_object_mut() {
        secret.remove("stringData");
        if !secret.get("data").is_some_and(Value::is_object) {
            secret.insert("data".to_owned(), Value::Object(Map::new()));
        }
        if let Some(data) = secret.get_mut("data").and_then(Value::as_object_mut) {
            data.extend(encoded);
        }
    }
}

/// What the server writes is not Git's to want; files exported from a cluster carry it.
fn drop_server_fields(object: &mut Value) {
    if let Some(object) = object.as_object_mut() {
        object.remove("status");
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        for field in ["managedFields", "resourceVersion", "uid", "generation", "creationTimestamp", "selfLink"] {
            metadata.remove(field);
        }
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.retain(|key, _| !EXPORTED_ANNOTATIONS.contains(&key.as_str()));
            if annotations.is_empty() {
                metadata.remove("annotations");
            }
        }
    }
}

/// Group and version of an `apiVersion`.
fn split_api_version(api_version: &str) -> (String, String) {
    match api_version.split_once('/') {
        Some((group, version)) => (group.to_owned(), version.to_owned()),
        None => (String::new(), api_version.to_owned()),
    }
}

/// The kinds to ask discovery for.
pub(in crate::sync) fn kinds(documents: &[(Document, Vec<String>)]) -> BTreeSet<Gvk> {
    documents.iter().filter_map(|(document, _)| gvk(&document.object)).collect()
}

/// Group, version and kind of an object.
pub(in crate::sync) fn gvk(object: &Value) -> Option<Gvk> {
    let (group, version) = split_api_version(object["apiVersion"].as_str()?);
    Some((group, version, object["kind"].as_str()?.to_owned()))
}

/// Kinds that definitions in this very commit will serve, with their scope.
pub(in crate::sync) fn kinds_to_come(documents: &[(Document, Vec<String>)]) -> HashMap<Gvk, bool> {
    let mut kinds = HashMap::new();
    for (document, _) in documents {
        let object = &document.object;
        if object["kind"] != "CustomResourceDefinition" {
            continue;
        }
        let spec = &object["spec"];
        let (Some(group), Some(kind)) = (spec["group"].as_str(), spec["names"]["kind"].as_str()) else {
            continue;
        };
        for version in spec["versions"].as_array().into_iter().flatten() {
            if let Some(name) = version["name"].as_str() {
                let key = (group.to_owned(), name.to_owned(), kind.to_owned());
                kinds.insert(key, spec["scope"] == "Namespaced");
            }
        }
    }
    kinds
}
