//! Defaults from a schema.

use serde_json::Value;

use super::schema::Schema;

/// Fills absent fields that have a default, at every depth. A `null` that the schema does not allow counts as absent.
pub(super) fn fill(value: &mut Value, schema: Schema<'_>) {
    match value {
        Value::Object(map) => {
            for (name, _) in schema.properties().into_iter().flatten() {
                let Some(inner) = schema.property(name) else { continue };
                let absent = match map.get(name) {
                    None => true,
                    Some(field) => field.is_null() && !inner.is_nullable(),
                };
                if let (true, Some(default)) = (absent, inner.default()) {
                    map.insert(name.clone(), default.clone());
                }
            }
            for (name, field) in map.iter_mut() {
                if let Some(inner) = schema.field(name) {
                    fill(field, inner);
                }
            }
        }
        Value::Array(items) => {
            if let Some(inner) = schema.items() {
                items.iter_mut().for_each(|item| fill(item, inner));
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
