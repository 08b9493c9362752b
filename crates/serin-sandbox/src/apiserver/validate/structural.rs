//! Custom resources against their structural schema.

use std::collections::HashSet;

use regex::Regex;
use serde_json::{Value, json};

use super::super::fields::element_of;
use super::super::prune::join;
use super::super::schema::{Schema, Topology};
use super::super::status::{FieldError, Problem};

/// What is wrong with an object.
pub(super) fn validate(object: &Value, schema: Schema<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    walk(object, schema, "", &mut errors);
    errors
}

fn walk(value: &Value, schema: Schema<'_>, path: &str, errors: &mut Vec<FieldError>) {
    // Metadata is checked by its own rules.
    if path == "metadata" {
        return;
    }
    if value.is_null() && schema.is_nullable() {
        return;
    }
    if let Some(error) = type_error(value, schema, path) {
        errors.push(error);
        return;
    }
    check_enum(value, schema, path, errors);
    match value {
        Value::Object(map) => check_object(map, schema, path, errors),
        Value::Array(items) => check_array(items, schema, path, errors),
        Value::String(text) => check_text(text, schema, path, errors),
        Value::Number(_) => check_number(value, schema, path, errors),
        Value::Null | Value::Bool(_) => {}
    }
    check_combinations(value, schema, path, errors);
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn type_error(value: &Value, schema: Schema<'_>, path: &str) -> Option<FieldError> {
    let got = kind_of(value);
    let fits = match schema.kind() {
        _ if schema.is_int_or_string() => matches!(got, "integer" | "string"),
        None => true,
        Some("number") => matches!(got, "integer" | "number"),
        Some("integer") => {
            got == "integer" || value.as_f64().is_some_and(|number| number.fract() == 0.0 && number.is_finite())
        }
        Some(expected) => expected == got,
    };
    let expected = if schema.is_int_or_string() { "integer,string" } else { schema.kind().unwrap_or_default() };
    (!fits).then(|| FieldError {
        path: path.to_owned(),
        problem: Problem::Type(json!(got), format!("{path} in body must be of type {expected}: \"{got}\"")),
    })
}

fn check_enum(value: &Value, schema: Schema<'_>, path: &str, errors: &mut Vec<FieldError>) {
    let Some(allowed) = schema.keyword("enum").and_then(Value::as_array) else { return };
    if !allowed.contains(value) {
        let texts = allowed.iter().map(|item| item.as_str().map_or_else(|| item.to_string(), ToOwned::to_owned));
        let problem = Problem::NotSupported(value.clone(), texts.collect());
        errors.push(FieldError { path: path.to_owned(), problem });
    }
}

fn limit(schema: Schema<'_>, name: &str) -> Option<usize> {
    schema.keyword(name)?.as_u64().and_then(|number| usize::try_from(number).ok())
}

fn check_object(
    map: &serde_json::Map<String, Value>,
    schema: Schema<'_>,
    path: &str,
    errors: &mut Vec<FieldError>,
) {
    for name in schema.required().filter(|name| !map.contains_key(*name)) {
        errors.push(FieldError::required(join(path, name), ""));
    }
    if let Some(most) = limit(schema, "maxProperties").filter(|most| map.len() > *most) {
        let why = format!("must have at most {most} items");
        errors.push(FieldError { path: path.to_owned(), problem: Problem::TooLong(why) });
    }
    if let Some(least) = limit(schema, "minProperties").filter(|least| map.len() < *least) {
        let why = format!("{path} in body should have at least {least} properties");
        errors.push(FieldError::invalid(path, &json!(map.len()), why));
    }
    for (name, field) in map {
        if let Some(inner) = schema.field(name) {
            walk(field, inner, &join(path, name), errors);
        }
    }
}

fn check_array(items: &[Value], schema: Schema<'_>, path: &str, errors: &mut Vec<FieldError>) {
    if let Some(most) = limit(schema, "maxItems").filter(|most| items.len() > *most) {
        let why = format!("must have at most {most} items");
        errors.push(FieldError { path: path.to_owned(), problem: Problem::TooLong(why) });
    }
    if let Some(least) = limit(schema, "minItems").filter(|least| items.len() < *least) {
        let why = format!("{path} in body should have at least {least} items");
        errors.push(FieldError::invalid(path, &json!(items.len()), why));
    }
    let topology = schema.topology();
    if topology != Topology::Atomic {
        let mut seen = HashSet::new();
        for (index, item) in items.iter().enumerate() {
            if !seen.insert(element_of(Some(schema), &topology, item).to_string()) {
                let shown = match &topology {
                    Topology::Keyed(keys) => {
                        keys.iter().map(|key| ((*key).to_owned(), item[*key].clone())).collect()
                    }
                    Topology::Set | Topology::Atomic | Topology::Granular => item.clone(),
                };
                errors.push(FieldError { path: format!("{path}[{index}]"), problem: Problem::Duplicate(shown) });
            }
        }
    }
    if let Some(inner) = schema.items() {
        for (index, item) in items.iter().enumerate() {
            walk(item, inner, &format!("{path}[{index}]"), errors);
        }
    }
}

fn check_text(text: &str, schema: Schema<'_>, path: &str, errors: &mut Vec<FieldError>) {
    let length = text.chars().count();
    if let Some(most) = limit(schema, "maxLength").filter(|most| length > *most) {
        let why = format!("may not be more than {most} bytes");
        errors.push(FieldError { path: path.to_owned(), problem: Problem::TooLong(why) });
    }
    if let Some(least) = limit(schema, "minLength").filter(|least| length < *least) {
        let why = format!("{path} in body should be at least {least} chars long");
        errors.push(FieldError::invalid(path, &json!(text), why));
    }
    if let Some(pattern) = schema.keyword("pattern").and_then(Value::as_str) {
        // A pattern that does not compile is refused with the definition.
        if Regex::new(pattern).is_ok_and(|regex| !regex.is_match(text)) {
            let why = format!("{path} in body should match '{pattern}'");
            errors.push(FieldError::invalid(path, &json!(text), why));
        }
    }
    let format = schema.keyword("format").and_then(Value::as_str).unwrap_or_default();
    let well_formed = match format {
        "date-time" => text.parse::<jiff::Timestamp>().is_ok(),
        "date" => text.parse::<jiff::civil::Date>().is_ok(),
        "ipv4" => text.parse::<std::net::Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<std::net::Ipv6Addr>().is_ok(),
        _ => true,
    };
    if !well_formed {
        let why = format!("{path} in body must be of type {format}: \"{text}\"");
        errors.push(FieldError::invalid(path, &json!(text), why));
    }
}

fn check_number(value: &Value, schema: Schema<'_>, path: &str, errors: &mut Vec<FieldError>) {
    let Some(number) = value.as_f64() else { return };
    let bound = |name: &str| schema.keyword(name).and_then(Value::as_f64);
    let exclusive = |name: &str| schema.keyword(name).and_then(Value::as_bool).unwrap_or(false);
    if let Some(least) = bound("minimum") {
        let strict = exclusive("exclusiveMinimum");
        if number < least || (strict && number <= least) {
            let words = if strict { "greater than" } else { "greater than or equal to" };
            errors.push(FieldError::invalid(path, value, format!("{path} in body should be {words} {least}")));
        }
    }
    if let Some(most) = bound("maximum") {
        let strict = exclusive("exclusiveMaximum");
        if number > most || (strict && number >= most) {
            let words = if strict { "less than" } else { "less than or equal to" };
            errors.push(FieldError::invalid(path, value, format!("{path} in body should be {words} {most}")));
        }
    }
    let step = bound("multipleOf").filter(|step| *step != 0.0 && (number / step).fract() != 0.0);
    if let Some(step) = step {
        errors.push(FieldError::invalid(path, value, format!("{path} in body should be a multiple of {step}")));
    }
    let range = match schema.keyword("format").and_then(Value::as_str) {
        Some("int32") => Some((f64::from(i32::MIN), f64::from(i32::MAX))),
        Some(_) | None => None,
    };
    if range.is_some_and(|(least, most)| number < least || number > most) {
        errors.push(FieldError::invalid(
            path,
            value,
            format!("{path} in body must be of type int32: \"{value}\""),
        ));
    }
}

fn check_combinations(value: &Value, schema: Schema<'_>, path: &str, errors: &mut Vec<FieldError>) {
    let branches = |name: &str| schema.keyword(name).and_then(Value::as_array);
    let problems = |branch: &Value| {
        let mut found = Vec::new();
        walk(value, Schema::new(branch), path, &mut found);
        found
    };
    let fitting = |list: &[Value]| list.iter().filter(|branch| problems(branch).is_empty()).count();
    for branch in branches("allOf").into_iter().flatten() {
        errors.extend(problems(branch));
    }
    let shown = json!(kind_of(value));
    if branches("anyOf").is_some_and(|list| fitting(list) == 0) {
        let why = format!("{path} in body must validate at least one schema (anyOf)");
        errors.push(FieldError::invalid(path, &shown, why));
    }
    if branches("oneOf").is_some_and(|list| fitting(list) != 1) {
        let why = format!("{path} in body must validate one and only one schema (oneOf)");
        errors.push(FieldError::invalid(path, &shown, why));
    }
    if schema.keyword("not").is_some_and(|branch| problems(branch).is_empty()) {
        let why = format!("{path} in body must not validate the schema (not)");
        errors.push(FieldError::invalid(path, &shown, why));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_field_and_reason() {
        let schema = json!({"type": "object", "properties": {"spec": {
            "type": "object", "required": ["image"], "properties": {
                "image": {"type": "string", "pattern": "^[a-z]+$"},
                "replicas": {"type": "integer", "minimum": 1},
                "mode": {"type": "string", "enum": ["a", "b"]},
                "either": {"type": "object", "oneOf": [{"required": ["x"]}, {"required": ["y"]}]},
            }
        }}});
        let object = json!({"spec": {"replicas": 0, "mode": "c", "either": {"x": 1, "y": 2}}});
        let texts: Vec<String> = validate(&object, Schema::new(&schema)).iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "spec.image: Required value",
                "spec.either: Invalid value: \"object\": spec.either in body must validate one and only one schema (oneOf)",
                "spec.mode: Unsupported value: \"c\": supported values: \"a\", \"b\"",
                "spec.replicas: Invalid value: 0: spec.replicas in body should be greater than or equal to 1",
            ]
        );
    }
}
