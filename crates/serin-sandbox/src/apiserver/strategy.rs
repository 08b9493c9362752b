//! What each kind adds to the common path of writes: generation, allocation, the split between spec and status.

use std::sync::Arc;

use serde_json::{Value, json};

use super::call::{Call, Part};
use super::defaults::{allocate, default_created_pod, empty_status, keep_allocated};
use super::json::{remove, text};
use super::kinds::{DEFINITIONS, NAMESPACES, Resource, prepare_definition};
use super::status::{ApiError, FieldError};
use super::validate::{finalizers_added_late, validate, validate_change};

/// Before a new object is owned and validated.
pub(super) fn prepare_create(call: &mut Call, object: &mut Value) -> Result<(), ApiError> {
    let resource = &Arc::clone(&call.resource);
    // A new object has no status, whatever was sent; only a node registers itself with one.
    if resource.has_status && resource.storage != "nodes" {
        remove(object, "status");
        if !resource.is_custom() {
            object["status"] = empty_status(resource);
        }
    }
    if has_generation(resource) {
        object["metadata"]["generation"] = json!(1);
    } else {
        remove(&mut object["metadata"], "generation");
    }
    warn_of_hidden_variables(call, object);
    match resource.storage.as_str() {
        NAMESPACES => {
            object["spec"]["finalizers"] = json!(["kubernetes"]);
            let name = object["metadata"]["name"].clone();
            object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
        }
        "pods" => default_created_pod(object),
        "jobs.batch" => label_job(object),
        "services" => allocate_service(call, object)?,
        DEFINITIONS => define(call, object),
        _ => {}
    }
    Ok(())
}

/// Before a changed object is owned and validated.
pub(super) fn prepare_update(call: &mut Call, old: &Value, new: &mut Value) -> Result<(), ApiError> {
    let resource = &Arc::clone(&call.resource);
    match call.part {
        Part::Status => keep_all_but_status(resource, old, new),
        Part::Main | Part::Scale | Part::Binding | Part::Eviction if resource.has_status => {
            keep(old, new, "status")
        }
        Part::Main | Part::Scale | Part::Binding | Part::Eviction | Part::Finalize => {}
    }
    if call.part == Part::Main {
        warn_of_hidden_variables(call, new);
    }
    match resource.storage.as_str() {
        NAMESPACES => {
            if call.part != Part::Finalize {
                keep(old, new, "spec");
            }
            new["metadata"]["labels"]["kubernetes.io/metadata.name"] = old["metadata"]["name"].clone();
        }
        "services" if call.part != Part::Status => {
            keep_allocated(old, new);
            allocate_service(call, new)?;
        }
        DEFINITIONS => define(call, new),
        _ => {}
    }
    if has_generation(resource) && call.part != Part::Status && spec_changed(resource, old, new) {
        let generation = old["metadata"]["generation"].as_i64().unwrap_or(0);
        new["metadata"]["generation"] = json!(generation + 1);
    }
    Ok(())
}

fn keep(old: &Value, new: &mut Value, name: &str) {
    match old.get(name) {
        Some(value) => new[name] = value.clone(),
        None => {
            remove(new, name);
        }
    }
}

/// A write of status changes nothing else; of metadata only what built-in kinds let through.
fn keep_all_but_status(resource: &Resource, old: &Value, new: &mut Value) {
    let keys = |value: &Value| -> Vec<String> {
        value.as_object().map_or_else(Vec::new, |map| map.keys().cloned().collect())
    };
    let names = [keys(old), keys(new)].concat();
    for name in names.iter().filter(|name| !matches!(name.as_str(), "status" | "metadata" | "apiVersion" | "kind"))
    {
        keep(old, new, name);
    }
    let (before, after) = (&old["metadata"], &mut new["metadata"]);
    for name in ["labels", "finalizers", "ownerReferences"] {
        keep(before, after, name);
    }
    if resource.is_custom() {
        keep(before, after, "annotations");
    }
}

/// Whether anything but metadata and status differs.
fn spec_changed(resource: &Resource, old: &Value, new: &Value) -> bool {
    let counts = |name: &str| name != "metadata" && (name != "status" || !resource.has_status);
    let fields = |value: &Value| -> Vec<(String, Value)> {
        let map = value.as_object().into_iter().flatten();
        map.filter(|(name, _)| counts(name)).map(|(name, field)| (name.clone(), field.clone())).collect()
    };
    fields(old) != fields(new)
}

/// Kinds whose spec is counted in `metadata.generation`.
fn has_generation(resource: &Resource) -> bool {
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

/// A job selects its pods by its own uid.
fn label_job(job: &mut Value) {
    if job["spec"]["manualSelector"] == json!(true) {
        return;
    }
    let (uid, name) = (job["metadata"]["uid"].clone(), job["metadata"]["name"].clone());
    let labels = &mut job["spec"]["template"]["metadata"]["labels"];
    for (key, value) in [
        ("batch.kubernetes.io/controller-uid", &uid),
        ("controller-uid", &uid),
        ("batch.kubernetes.io/job-name", &name),
        ("job-name", &name),
    ] {
        labels[key] = value.clone();
    }
    job["spec"]["selector"] = json!({"matchLabels": {"batch.kubernetes.io/controller-uid": uid}});
}

/// A variable that is there twice is taken by the server and hides itself from whoever applies it.
fn warn_of_hidden_variables(call: &mut Call, object: &Value) {
    if call.resource.is_custom() {
        return;
    }
    let spec = match call.resource.storage.as_str() {
        "pods" => "/spec",
        "cronjobs.batch" => "/spec/jobTemplate/spec/template/spec",
        _ => "/spec/template/spec",
    };
    let Some(pod) = object.pointer(spec) else { return };
    let place = spec.trim_start_matches('/').replace('/', ".");
    for list in ["initContainers", "containers"] {
        for (at, container) in pod[list].as_array().into_iter().flatten().enumerate() {
            let names: Vec<&str> = container["env"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|variable| text(&variable["name"]))
                .collect();
            for (index, name) in names.iter().enumerate().filter(|(index, name)| names[..*index].contains(name)) {
                call.warnings.push(format!(
                    "{place}.{list}[{at}].env[{index}]: hides previous definition of \"{name}\", which may be dropped when \
                     using apply"
                ));
            }
        }
    }
}

/// Prepares a definition, and says what of it will not be enforced.
fn define(call: &mut Call, definition: &mut Value) {
    const NOT_ENFORCED: &str =
        "x-kubernetes-validations: the sandbox does not evaluate CEL rules, a real API server will";
    prepare_definition(definition);
    if has_rules(&definition["spec"]["versions"]) && !call.warnings.iter().any(|warning| warning == NOT_ENFORCED) {
        call.warnings.push(NOT_ENFORCED.to_owned());
    }
}

fn has_rules(schema: &Value) -> bool {
    match schema {
        Value::Object(map) => map.contains_key("x-kubernetes-validations") || map.values().any(has_rules),
        Value::Array(items) => items.iter().any(has_rules),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

fn allocate_service(call: &Call, service: &mut Value) -> Result<(), ApiError> {
    let others: Vec<_> =
        call.server.store.list("services", None).objects.into_iter().map(|(_, object)| object).collect();
    let own = text(&service["metadata"]["uid"]).to_owned();
    let errors = allocate(service, &others, &own);
    refuse(call, service, &errors)
}

/// What is wrong with a new object.
pub(super) fn validate_create(call: &Call, object: &Value) -> Result<(), ApiError> {
    refuse(call, object, &validate(&call.resource, object))
}

/// What is wrong with a change.
pub(super) fn validate_update(call: &Call, old: &Value, new: &Value) -> Result<(), ApiError> {
    let mut errors = validate(&call.resource, new);
    errors.extend(finalizers_added_late(old, new));
    // A binding sets the one field of a pod that nobody else can.
    if !matches!(call.part, Part::Status | Part::Binding) {
        errors.extend(validate_change(&call.resource, old, new));
    }
    refuse(call, new, &errors)
}

fn refuse(call: &Call, object: &Value, errors: &[FieldError]) -> Result<(), ApiError> {
    if errors.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid(call.resource.kind_subject(text(&object["metadata"]["name"])), errors))
}
