//! What is wrong with an object, field by field.

mod meta;
mod names;
mod pod;
mod service;
mod structural;
mod types;
mod workload;

use serde_json::Value;

use super::json::text;
use super::kinds::{DEFINITIONS, Resource, validate_definition};
use super::status::FieldError;

pub(super) use meta::finalizers_added_late;
pub(super) use types::{Format, check as check_types, malformed};

/// What is wrong with a new object, or with the new state of one.
pub(super) fn validate(resource: &Resource, object: &Value) -> Vec<FieldError> {
    let mut errors = meta::validate(resource, object);
    if resource.is_custom() {
        errors.extend(structural::validate(object, resource.schema()));
        return errors;
    }
    errors.extend(types::missing(object, resource));
    match resource.storage.as_str() {
        DEFINITIONS => errors.extend(validate_definition(object)),
        "pods" => pod::validate(&object["spec"], "spec", &mut errors),
        "services" => service::validate(&object["spec"], &mut errors),
        "deployments.apps" | "replicasets.apps" | "daemonsets.apps" | "statefulsets.apps" => {
            workload::validate_workload(&resource.kind, &object["spec"], &mut errors);
        }
        "jobs.batch" => workload::validate_job(&object["spec"], "spec", &mut errors),
        "cronjobs.batch" => workload::validate_cron_job(&object["spec"], &mut errors),
        "horizontalpodautoscalers.autoscaling" => workload::validate_autoscaler(&object["spec"], &mut errors),
        "ingresses.networking.k8s.io" => service::validate_ingress(&object["spec"], &mut errors),
        "poddisruptionbudgets.policy" => workload::validate_budget(&object["spec"], &mut errors),
        "configmaps" | "secrets" => service::validate_data(object, &mut errors),
        "events" => validate_event(object, &mut errors),
        "rolebindings.rbac.authorization.k8s.io" | "clusterrolebindings.rbac.authorization.k8s.io" => {
            validate_subjects(&object["subjects"], &mut errors);
        }
        _ => {}
    }
    errors
}

/// What is wrong with an object of a kind that nobody here knows.
pub(super) fn of_any(object: &Value, is_custom: bool) -> Vec<FieldError> {
    meta::of_any(&object["metadata"], is_custom)
}

/// Who a binding is for: a ServiceAccount has a namespace, and a binding does not lend it its own.
fn validate_subjects(subjects: &Value, errors: &mut Vec<FieldError>) {
    for (index, subject) in subjects.as_array().into_iter().flatten().enumerate() {
        if subject["kind"] == "ServiceAccount" && text(&subject["namespace"]).is_empty() {
            errors.push(FieldError::required(format!("subjects[{index}].namespace"), ""));
        }
    }
}

/// What may not change.
pub(super) fn validate_change(resource: &Resource, old: &Value, new: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    match resource.storage.as_str() {
        "deployments.apps" | "replicasets.apps" | "daemonsets.apps" => {
            immutable(old, new, "/spec/selector", &mut errors);
        }
        "statefulsets.apps" => workload::validate_stateful_set_change(old, new, &mut errors),
        "jobs.batch" => {
            immutable(old, new, "/spec/selector", &mut errors);
            immutable(old, new, "/spec/template", &mut errors);
            immutable(old, new, "/spec/completionMode", &mut errors);
        }
        "pods" => pod::validate_change(old, new, &mut errors),
        "services" => service::validate_change(old, new, &mut errors),
        "configmaps" | "secrets" => service::validate_data_change(old, new, &mut errors),
        "rolebindings.rbac.authorization.k8s.io" | "clusterrolebindings.rbac.authorization.k8s.io"
            if old["roleRef"] != new["roleRef"] =>
        {
            errors.push(FieldError::invalid("roleRef", &new["roleRef"], "cannot change roleRef"));
        }
        "controllerrevisions.apps" => immutable(old, new, "/data", &mut errors),
        DEFINITIONS => {
            immutable(old, new, "/spec/group", &mut errors);
            immutable(old, new, "/spec/names/plural", &mut errors);
            immutable(old, new, "/spec/names/kind", &mut errors);
            immutable(old, new, "/spec/scope", &mut errors);
        }
        _ => {}
    }
    errors
}

/// The field at a pointer may not change.
fn immutable(old: &Value, new: &Value, pointer: &str, errors: &mut Vec<FieldError>) {
    let (before, after) = (old.pointer(pointer), new.pointer(pointer));
    if before != after {
        let path = pointer.trim_start_matches('/').replace('/', ".");
        errors.push(FieldError::invalid(path, after.unwrap_or(&Value::Null), "field is immutable"));
    }
}

fn validate_event(event: &Value, errors: &mut Vec<FieldError>) {
    let (own, about) = (text(&event["metadata"]["namespace"]), text(&event["involvedObject"]["namespace"]));
    // Events about cluster-scoped objects live in `default` (core) or `kube-system`.
    let matches = own == about || (about.is_empty() && matches!(own, "default" | "kube-system"));
    if !matches {
        errors.push(FieldError::invalid(
            "involvedObject.namespace",
            &event["involvedObject"]["namespace"],
            "does not match event.namespace",
        ));
    }
}

/// A text that must be one of a few.
fn one_of(value: &Value, path: &str, allowed: &[&str], errors: &mut Vec<FieldError>) {
    if value.as_str().is_some_and(|value| !allowed.contains(&value)) {
        errors.push(FieldError::unsupported(path, value, allowed));
    }
}

/// A number that may not be negative.
fn not_negative(value: &Value, path: &str, errors: &mut Vec<FieldError>) {
    if value.as_i64().is_some_and(|number| number < 0) {
        errors.push(FieldError::invalid(path, value, "must be greater than or equal to 0"));
    }
}

/// A port number.
fn port(value: &Value, path: &str, errors: &mut Vec<FieldError>) {
    if value.as_i64().is_some_and(|number| !(1..=65_535).contains(&number)) {
        errors.push(FieldError::invalid(path, value, "must be between 1 and 65535, inclusive"));
    }
}
