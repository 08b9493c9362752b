//! Built-in kinds against their types: what Go's decoder refuses (400), and required fields (422).

use serde_json::Value;

use super::super::kinds::Resource;
use super::super::prune::join;
use super::super::schema::{OBJECT_META, Schema, named};
use super::super::status::{ApiError, FieldError};

/// Fields that the documents call required although an empty value is fine.
const MAY_BE_EMPTY: &[&str] =
    &["value", "revision", "eventTime", "lastTransitionTime", "message", "reason", "served", "storage"];

/// Refuses values of the wrong type, as decoding does.
pub(in super::super) fn check(object: &Value, resource: &Resource) -> Result<(), ApiError> {
    let found = if resource.is_custom() {
        // The rest of a custom resource is checked against its own schema, with other words.
        named(OBJECT_META).and_then(|schema| mismatch(&object["metadata"], schema, "metadata"))
    } else {
        mismatch(object, resource.schema(), "")
    };
    let Some(mismatch) = found else { return Ok(()) };
    Err(ApiError::bad_request(format!(
        "{kind} in version \"{version}\" cannot be handled as a {kind}: json: {mismatch}",
        kind = resource.kind,
        version = resource.version
    )))
}

fn mismatch(value: &Value, schema: Schema<'_>, path: &str) -> Option<String> {
    let expected = schema.kind();
    let fits = match (value, expected) {
        (Value::Null, _) => true,
        (Value::Number(_) | Value::String(_), None) => true,
        (_, None) => schema.preserves_unknown() || schema.properties().is_some(),
        (Value::Bool(_), Some("boolean")) | (Value::Object(_), Some("object")) => true,
        (Value::Array(_), Some("array")) => true,
        (Value::String(text), Some("string")) => return text_mismatch(text, schema, path),
        (Value::Number(number), Some("integer")) => number.is_i64() || number.is_u64(),
        (Value::Number(_), Some("number")) => true,
        _ => false,
    };
    if !fits {
        let got = match value {
            Value::Null => "null",
            Value::Bool(_) => "bool",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        let format = schema.keyword("format").and_then(Value::as_str);
        let wanted = format.or(expected).unwrap_or("value");
        return Some(format!("cannot unmarshal {got} into field {path} of type {wanted}"));
    }
    match value {
        Value::Object(map) => map
            .iter()
            .filter_map(|(name, field)| Some((name, field, schema.field(name)?)))
            .find_map(|(name, field, inner)| mismatch(field, inner, &join(path, name))),
        Value::Array(items) => {
            let inner = schema.items()?;
            let mut numbered = items.iter().enumerate();
            numbered.find_map(|(index, item)| mismatch(item, inner, &format!("{path}[{index}]")))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

fn text_mismatch(text: &str, schema: Schema<'_>, path: &str) -> Option<String> {
    malformed(text, schema).map(|format| match format {
        Format::Time(error) => format!("parsing time \"{text}\" in field {path}: {error}"),
        Format::Bytes => format!("illegal base64 data in field {path}"),
    })
}

/// A format that a text does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Format {
    /// A date with a time, and why it is none.
    Time(String),
    /// Base64.
    Bytes,
}

/// The format that a text should have and does not.
pub(in super::super) fn malformed(text: &str, schema: Schema<'_>) -> Option<Format> {
    match schema.keyword("format").and_then(Value::as_str) {
        Some("date-time") => Some(Format::Time(text.parse::<jiff::Timestamp>().err()?.to_string())),
        Some("byte") => {
            // Go's decoder skips the ends of lines.
            let text: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
            let body = text.trim_end_matches('=');
            let well_formed = text.len().is_multiple_of(4)
                && text.len() - body.len() <= 2
                && body.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'+' | b'/'));
            (!well_formed).then_some(Format::Bytes)
        }
        Some(_) | None => None,
    }
}

/// Required fields that are absent. Status is written by controllers, where absent means zero.
pub(super) fn missing(object: &Value, resource: &Resource) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let fields = object.as_object().into_iter().flatten();
    for (name, field) in fields.filter(|(name, _)| !matches!(name.as_str(), "metadata" | "status")) {
        // Event's own fields are named in the stored form; they have checks of their own.
        if let Some(inner) = resource.schema().property(name) {
            walk(field, inner, name, &mut errors);
        }
    }
    for name in resource.schema().required().filter(|name| matches!(*name, "spec" | "roleRef")) {
        if object.get(name).is_none() {
            errors.push(FieldError::required(name, ""));
        }
    }
    errors
}

fn walk(value: &Value, schema: Schema<'_>, path: &str, errors: &mut Vec<FieldError>) {
    match value {
        Value::Object(map) => {
            for name in schema.required() {
                let empty = match map.get(name) {
                    None => true,
                    Some(Value::String(text)) => text.is_empty(),
                    Some(Value::Array(items)) => items.is_empty() && name == "containers",
                    Some(_) => false,
                };
                if empty && !MAY_BE_EMPTY.contains(&name) {
                    errors.push(FieldError::required(join(path, name), ""));
                }
            }
            for (name, field) in map {
                if let Some(inner) = schema.field(name) {
                    walk(field, inner, &join(path, name), errors);
                }
            }
        }
        Value::Array(items) => {
            if let Some(inner) = schema.items() {
                for (index, item) in items.iter().enumerate() {
                    walk(item, inner, &format!("{path}[{index}]"), errors);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
