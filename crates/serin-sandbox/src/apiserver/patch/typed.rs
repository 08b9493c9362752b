//! What server-side apply refuses before it merges: a configuration that does not fit its schema. It is stricter than any
//! other write: an unknown field is no warning, and a list key twice is no choice.

use std::collections::HashSet;

use serde_json::Value;

use super::super::call::Call;
use super::super::fields::{elements, topology};
use super::super::json::text;
use super::super::schema::{Schema, Topology};
use super::super::status::ApiError;

/// Refuses what cannot be turned into a typed object, in the words of a real server.
pub(in super::super) fn check_typed(call: &Call, config: &Value) -> Result<(), ApiError> {
    let mut errors = Vec::new();
    walk(call.resource.schema(), config, "", &mut errors);
    let found = match errors.as_slice() {
        [] => return Ok(()),
        [one] => one.clone(),
        several => format!("errors:\n  {}", several.join("\n  ")),
    };
    let version = text(&config["apiVersion"]);
    let version = if version.contains('/') { version.to_owned() } else { format!("/{version}") };
    Err(ApiError::unexplained(format!(
        "failed to create typed patch object ({}/{}; {version}, Kind={}): {found}",
        call.namespace(),
        call.name(),
        call.resource.kind
    )))
}

fn walk(schema: Schema<'_>, value: &Value, path: &str, errors: &mut Vec<String>) {
    if let Some(expected) = misfit(schema, value) {
        errors.push(format!("{path}: {expected}"));
        return;
    }
    match value {
        Value::Object(fields) => {
            let declares =
                schema.properties().is_some_and(|known| !known.is_empty()) || schema.additional().is_some();
            let open = schema.preserves_unknown() || !declares;
            let mut told = false;
            for (name, field) in fields {
                let here = format!("{path}.{name}");
                let own =
                    schema.is_embedded_resource() && matches!(name.as_str(), "apiVersion" | "kind" | "metadata");
                match schema.field(name) {
                    Some(inner) => walk(inner, field, &here, errors),
                    None if open || own => {}
                    // A real server names one of an object.
                    None if std::mem::replace(&mut told, true) => {}
                    None => errors.push(format!("{here}: field not declared in schema")),
                }
            }
        }
        Value::Array(_) => walk_list(schema, value, path, errors),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn walk_list(schema: Schema<'_>, list: &Value, path: &str, errors: &mut Vec<String>) {
    let Some(inner) = schema.items() else { return };
    let shape = topology(Some(schema), list);
    if shape == Topology::Atomic {
        for (index, item) in list.as_array().into_iter().flatten().enumerate() {
            walk(inner, item, &format!("{path}[{index}]"), errors);
        }
        return;
    }
    let items = elements(Some(schema), &shape, list);
    let (mut seen, mut told) = (HashSet::new(), HashSet::new());
    for (element, item) in &items {
        if !seen.insert(element.to_string()) && told.insert(element.to_string()) {
            errors.push(format!("{path}: duplicate entries for key {element}"));
        }
        walk(inner, item, &format!("{path}{element}"), errors);
    }
}

/// Why the value is none of its type.
fn misfit(schema: Schema<'_>, value: &Value) -> Option<String> {
    if schema.is_int_or_string() {
        return None;
    }
    match (schema.kind()?, value) {
        (_, Value::Null) => None,
        ("object", Value::Object(_)) | ("array", Value::Array(_)) | ("string", Value::String(_)) => None,
        ("boolean", Value::Bool(_)) | ("integer" | "number", Value::Number(_)) => None,
        ("integer" | "number", other) => Some(format!("expected numeric (int or float), got {}", type_of(other))),
        ("object", other) => Some(format!("expected map, got &{{{other}}}")),
        ("array", other) => Some(format!("expected list, got &{{{other}}}")),
        ("string", other) => Some(format!("expected string, got &value.valueUnstructured{{Value:{other}}}")),
        ("boolean", other) => Some(format!("expected boolean, got &{{{other}}}")),
        (_, _) => None,
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "list",
        Value::Object(_) => "map",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::super::schema::named;
    use super::*;

    fn errors(config: Value) -> Vec<String> {
        let mut errors = Vec::new();
        walk(named("io.k8s.api.apps.v1.Deployment").unwrap(), &config, "", &mut errors);
        errors
    }

    #[test]
    fn what_does_not_fit_is_named_as_a_real_server_names_it() {
        let container = json!({"name": "a", "imagePullPolcy": "Always", "tyt": true, "tty": "yes", "command": 5,
            "env": [{"name": "X", "value": "1"}, {"name": "X", "value": 2}],
            "ports": [{"containerPort": 80}, {"containerPort": 80, "protocol": "TCP"}]});
        let spec = json!({"replicas": "3", "template": {"spec": {"containers": [container]}}});
        let mut found = errors(json!({"metadata": {"finalizers": ["a/b", "a/b"]}, "spec": spec}));
        found.sort();
        let inside = ".spec.template.spec.containers[name=\"a\"]";
        assert_eq!(
            found,
            [
                ".metadata.finalizers: duplicate entries for key [=\"a/b\"]".to_owned(),
                ".spec.replicas: expected numeric (int or float), got string".to_owned(),
                format!("{inside}.command: expected list, got &{{5}}"),
                format!("{inside}.env: duplicate entries for key [name=\"X\"]"),
                format!(
                    "{inside}.env[name=\"X\"].value: expected string, got &value.valueUnstructured{{Value:2}}"
                ),
                format!("{inside}.imagePullPolcy: field not declared in schema"),
                format!("{inside}.ports: duplicate entries for key [containerPort=80,protocol=\"TCP\"]"),
                format!("{inside}.tty: expected boolean, got &{{\"yes\"}}"),
            ]
        );
    }

    #[test]
    fn quantities_ports_and_free_maps_fit() {
        let container = json!({"name": "a", "resources": {"limits": {"cpu": 1, "memory": "1Gi"}},
            "livenessProbe": {"httpGet": {"port": "http", "path": "/"}}});
        let template = json!({"metadata": {"labels": {"a": "b"}, "creationTimestamp": null},
            "spec": {"containers": [container]}});
        assert_eq!(
            errors(json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"template": template}})),
            [""; 0]
        );
    }
}
