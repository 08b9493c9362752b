//! What each kind adds to the common path of writes: defaults, generation, the split between spec and status.

use std::sync::Arc;

use serde_json::{Value, json};

use super::call::{Call, Part};
use super::json::{remove, text};
use super::kinds::{DEFINITIONS, Resource, prepare_definition, validate_definition};
use super::status::ApiError;

/// Defaults of the kind.
pub(super) fn fill_defaults(resource: &Resource, object: &mut Value) {
    let _ = (resource, object);
}

/// Before a new object is validated.
pub(super) fn prepare_create(call: &Call, object: &mut Value) -> Result<(), ApiError> {
    let resource = &call.resource;
    if resource.has_status && resource.storage != "nodes" {
        // A new object has no status, whatever was sent; a node registers itself with one.
        remove(object, "status");
    }
    if has_generation(resource) {
        object["metadata"]["generation"] = json!(1);
    } else {
        remove(&mut object["metadata"], "generation");
    }
    match resource.storage.as_str() {
        "namespaces" => {
            object["spec"]["finalizers"] = json!(["kubernetes"]);
            object["status"] = json!({"phase": "Active"});
            let name = object["metadata"]["name"].clone();
            object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
        }
        DEFINITIONS => prepare_definition(object),
        _ => {}
    }
    Ok(())
}

/// Before a changed object is validated.
pub(super) fn prepare_update(call: &Call, old: &Value, new: &mut Value) {
    let resource = &call.resource;
    let keep = |new: &mut Value, name: &str| match old.get(name) {
        Some(value) => new[name] = value.clone(),
        None => {
            remove(new, name);
        }
    };
    match call.part {
        Part::Status => {
            let names: Vec<String> =
                old.as_object().into_iter().chain(new.as_object()).flat_map(|map| map.keys().cloned()).collect();
            for name in names {
                if !matches!(name.as_str(), "status" | "metadata" | "apiVersion" | "kind") {
                    keep(new, &name);
                }
            }
        }
        Part::Main | Part::Scale | Part::Binding if resource.has_status => keep(new, "status"),
        Part::Main | Part::Scale | Part::Binding | Part::Finalize => {}
    }
    if resource.storage == "namespaces" && call.part != Part::Finalize {
        keep(new, "spec");
    }
    if resource.storage == DEFINITIONS {
        prepare_definition(new);
    }
    if has_generation(resource) && call.part != Part::Status && spec_changed(resource, old, new) {
        let generation = old["metadata"]["generation"].as_i64().unwrap_or(0);
        new["metadata"]["generation"] = json!(generation + 1);
    }
}

/// Whether anything but metadata and status differs.
fn spec_changed(resource: &Resource, old: &Value, new: &Value) -> bool {
    let skip = |name: &str| name == "metadata" || (name == "status" && resource.has_status);
    let fields = |value: &Value| -> Vec<(String, Value)> {
        let map = value.as_object().into_iter().flatten();
        map.filter(|(name, _)| !skip(name)).map(|(name, field)| (name.clone(), field.clone())).collect()
    };
    fields(old) != fields(new)
}

/// Kinds whose spec is counted in `metadata.generation`.
pub(super) fn has_generation(resource: &Resource) -> bool {
    resource.is_custom()
        || matches!(
            resource.storage.as_str(),
            "deployments.apps"
                | "replicasets.apps"
                | "daemonsets.apps"
                | "statefulsets.apps"
                | "jobs.batch"
                | "cronjobs.batch"
                | "ingresses.networking.k8s.io"
                | "networkpolicies.networking.k8s.io"
                | "poddisruptionbudgets.policy"
                | "endpointslices.discovery.k8s.io"
                | "pods"
                | DEFINITIONS
        )
}

/// What is wrong with a new object.
pub(super) fn validate_create(call: &Call, object: &Value) -> Result<(), ApiError> {
    let resource = &call.resource;
    let mut errors = Vec::new();
    if resource.storage == DEFINITIONS {
        errors.extend(validate_definition(object));
    }
    refuse(call, object, &errors)
}

/// What is wrong with a change.
pub(super) fn validate_update(call: &Call, old: &Arc<Value>, new: &Value) -> Result<(), ApiError> {
    let _ = old;
    let mut errors = Vec::new();
    if call.resource.storage == DEFINITIONS {
        errors.extend(validate_definition(new));
    }
    refuse(call, new, &errors)
}

fn refuse(call: &Call, object: &Value, errors: &[super::status::FieldError]) -> Result<(), ApiError> {
    if errors.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid(call.resource.kind_subject(text(&object["metadata"]["name"])), errors))
}
