//! The merge of server-side apply: the applied configuration wins, lists with keys are merged by them.

use serde_json::{Map, Value};

use super::super::fields::{Element, elements, topology};
use super::super::schema::{Schema, Topology};

/// Merges `config` into `live`.
pub(in super::super) fn merge_applied(schema: Option<Schema<'_>>, live: Option<&Value>, config: &Value) -> Value {
    let shape = topology(schema, config);
    let live = live.filter(|live| topology(schema, live) == shape);
    match (&shape, config) {
        (Topology::Granular, Value::Object(fields)) => {
            let mut merged = live.and_then(Value::as_object).cloned().unwrap_or_default();
            for (name, field) in fields {
                let inner = schema.and_then(|schema| schema.field(name));
                let value = merge_applied(inner, merged.get(name), field);
                merged.insert(name.clone(), value);
            }
            Value::Object(merged)
        }
        (Topology::Set | Topology::Keyed(_), _) => merge_list(schema, &shape, live, config),
        (Topology::Atomic | Topology::Granular, _) => config.clone(),
    }
}

/// Applied items keep the order they are applied in; items of others keep their place before the applied item that
/// followed them.
fn merge_list(schema: Option<Schema<'_>>, shape: &Topology<'_>, live: Option<&Value>, config: &Value) -> Value {
    let inner = schema.and_then(|schema| schema.items());
    let lives = live.map_or_else(Vec::new, |live| elements(schema, shape, live));
    let configs = elements(schema, shape, config);
    let mut merged: Vec<Value> = Vec::new();
    let mut next = 0;
    let emit = |merged: &mut Vec<Value>, (element, item): &(Element, &Value)| {
        let old = lives.iter().find(|(other, _)| other == element).map(|(_, item)| *item);
        merged.push(merge_applied(inner, old, item));
    };
    for (element, item) in &lives {
        match configs.iter().position(|(other, _)| other == element) {
            None => merged.push((*item).clone()),
            Some(position) => {
                while next <= position {
                    if let Some(pair) = configs.get(next) {
                        emit(&mut merged, pair);
                    }
                    next += 1;
                }
            }
        }
    }
    for pair in configs.iter().skip(next) {
        emit(&mut merged, pair);
    }
    Value::Array(merged)
}

/// Removes `null` fields of an applied configuration: they name nothing.
pub(in super::super) fn without_nulls(config: &Value) -> Value {
    match config {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(_, field)| !field.is_null());
            Value::Object(kept.map(|(name, field)| (name.clone(), without_nulls(field))).collect::<Map<_, _>>())
        }
        Value::Array(items) => Value::Array(items.iter().map(without_nulls).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => config.clone(),
    }
}
