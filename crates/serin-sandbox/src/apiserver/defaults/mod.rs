//! Defaults of the built-in kinds, as a real API server writes them.

mod pod;
mod service;
mod workload;

use serde_json::{Value, json};

use super::json::{base64, default, remove, text};
use super::kinds::Resource;
use super::schema::Schema;

pub(super) use pod::default_created_pod;
pub(super) use service::{allocate, keep_allocated};

/// Fills what the kind defaults. `object` is in stored form.
pub(super) fn fill(resource: &Resource, object: &mut Value) {
    match resource.storage.as_str() {
        "pods" => pod::fill(&mut object["spec"]),
        "services" => service::fill(object),
        "deployments.apps" => workload::deployment(object),
        "replicasets.apps" => workload::replica_set(object),
        "daemonsets.apps" => workload::daemon_set(object),
        "statefulsets.apps" => workload::stateful_set(object),
        "jobs.batch" => workload::job(&mut object["spec"]),
        "cronjobs.batch" => workload::cron_job(object),
        "horizontalpodautoscalers.autoscaling" => workload::autoscaler(object),
        "secrets" => secret(object),
        "events" => event(object),
        "persistentvolumeclaims" => default(&mut object["spec"], "volumeMode", "Filesystem"),
        "networkpolicies.networking.k8s.io" => network_policy(object),
        "endpoints" => endpoints(object),
        "endpointslices.discovery.k8s.io" => endpoint_slice(object),
        "rolebindings.rbac.authorization.k8s.io" | "clusterrolebindings.rbac.authorization.k8s.io" => {
            role_binding(object);
        }
        _ => {}
    }
    if resource.has_status
        && !resource.is_custom()
        && let (Some(status), Some(schema)) = (object.get_mut("status"), resource.schema().property("status"))
    {
        fill_zeros(status, schema);
    }
}

/// The status of a new object: what Go writes for an empty one.
pub(super) fn empty_status(resource: &Resource) -> Value {
    let mut status = match resource.storage.as_str() {
        "services" | "ingresses.networking.k8s.io" => json!({"loadBalancer": {}}),
        "persistentvolumeclaims" => json!({"phase": "Pending"}),
        "namespaces" => json!({"phase": "Active"}),
        _ => json!({}),
    };
    if let Some(schema) = resource.schema().property("status") {
        fill_zeros(&mut status, schema);
    }
    status
}

/// Required numbers, texts and flags that are absent are zero in Go, and written so.
fn fill_zeros(value: &mut Value, schema: Schema<'_>) {
    match value {
        Value::Object(map) => {
            for name in schema.required() {
                let zero = match schema.property(name).and_then(|inner| inner.kind()) {
                    Some("integer" | "number") => json!(0),
                    Some("boolean") => json!(false),
                    Some("string")
                        if schema.property(name).is_some_and(|inner| inner.keyword("format").is_none()) =>
                    {
                        json!("")
                    }
                    Some(_) | None => continue,
                };
                map.entry(name).or_insert(zero);
            }
            for (name, field) in map.iter_mut() {
                if let Some(inner) = schema.field(name) {
                    fill_zeros(field, inner);
                }
            }
        }
        Value::Array(items) => {
            if let Some(inner) = schema.items() {
                items.iter_mut().for_each(|item| fill_zeros(item, inner));
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Calls `change` on each item of a list.
fn each(list: Option<&mut Value>, change: impl FnMut(&mut Value)) {
    if let Some(items) = list.and_then(Value::as_array_mut) {
        items.iter_mut().for_each(change);
    }
}

fn secret(object: &mut Value) {
    default(object, "type", "Opaque");
    // Write-only: it is kept encoded, under `data`.
    if let Some(texts) = object["stringData"].as_object().cloned() {
        for (key, value) in texts {
            object["data"][key] = json!(base64(text(&value).as_bytes()));
        }
    }
    remove(object, "stringData");
}

fn event(object: &mut Value) {
    default(object, "source", json!({}));
    default(object, "reportingComponent", "");
    default(object, "reportingInstance", "");
}

fn network_policy(object: &mut Value) {
    let spec = &mut object["spec"];
    default(spec, "podSelector", json!({}));
    let types = if spec["egress"].is_array() { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) };
    default(spec, "policyTypes", types);
    for direction in ["ingress", "egress"] {
        each(spec.get_mut(direction), |rule| {
            each(rule.get_mut("ports"), |port| default(port, "protocol", "TCP"));
        });
    }
}

fn endpoints(object: &mut Value) {
    each(object.get_mut("subsets"), |subset| {
        each(subset.get_mut("ports"), |port| default(port, "protocol", "TCP"));
    });
}

fn endpoint_slice(object: &mut Value) {
    default(object, "endpoints", json!([]));
    each(object.get_mut("ports"), |port| {
        default(port, "name", "");
        default(port, "protocol", "TCP");
    });
}

fn role_binding(object: &mut Value) {
    const GROUP: &str = "rbac.authorization.k8s.io";
    default(&mut object["roleRef"], "apiGroup", GROUP);
    each(object.get_mut("subjects"), |subject| {
        if matches!(text(&subject["kind"]), "User" | "Group") {
            default(subject, "apiGroup", GROUP);
        }
    });
}
