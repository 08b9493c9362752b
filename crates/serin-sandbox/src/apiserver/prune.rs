//! Dropping fields that the schema does not know, and saying which.

use serde_json::Value;

use super::schema::Schema;

/// Removes unknown fields; returns their paths, as `spec.template.foo`.
pub(super) fn prune(object: &mut Value, schema: Schema<'_>) -> Vec<String> {
    let mut dropped = Vec::new();
    walk(object, schema, "", &mut dropped);
    dropped
}

fn walk(value: &mut Value, schema: Schema<'_>, path: &str, dropped: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            let keeps = schema.preserves_unknown();
            let embedded = schema.is_embedded_resource();
            map.retain(|name, field| {
                let here = join(path, name);
                let own = embedded && matches!(name.as_str(), "apiVersion" | "kind" | "metadata");
                match schema.field(name) {
                    Some(inner) => walk(field, inner, &here, dropped),
                    None if keeps || own => {}
                    None => {
                        dropped.push(here);
                        return false;
                    }
                }
                true
            });
        }
        Value::Array(items) => {
            if let Some(inner) = schema.items() {
                for (index, item) in items.iter_mut().enumerate() {
                    walk(item, inner, &format!("{path}[{index}]"), dropped);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// A field's path.
pub(super) fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
