//! The digest that says whether a pod template is another one: `v1`.
//!
//! It is over canonical JSON of the raw template (never a typed struct, which would drop unknown fields) less what the API
//! server adds by itself. So the template in Git and the one read back from the cluster have one digest, and neither an
//! upgrade of Serin nor of Kubernetes changes it.

use serde_json::{Map, Value};

use crate::model::Digest;

use super::defaults::{FREE_MAPS, MEANINGFUL_EMPTY, QUANTITY_FIELDS, QUANTITY_MAPS, is_default, segment};
use super::quantity;

/// The digest of a pod template (`spec.template`), whether from a manifest or from a cluster.
pub fn template_digest(template: &Value) -> Digest {
    Digest::of_canonical(canonical_json(&canonical_template(template)).as_bytes())
}

/// JSON with sorted keys and no blanks.
pub(super) fn canonical_json(value: &Value) -> String {
    let mut text = String::new();
    write_canonical(value, &mut text);
    text
}

/// A pod template without what the API server adds or rewrites by itself: what [`template_digest`] is over.
pub fn canonical_template(template: &Value) -> Value {
    let mut template = template.clone();
    if let Some(spec) = template.get_mut("spec").and_then(Value::as_object_mut) {
        name_service_account_once(spec);
        drop_host_ports_of_host_network(spec);
    }
    prune(&[], template).unwrap_or_else(|| Value::Object(Map::new()))
}

/// `serviceAccount` is an old name that the API server keeps equal to the new one.
fn name_service_account_once(spec: &mut Map<String, Value>) {
    if let Some(old) = spec.remove("serviceAccount") {
        let missing = spec.get("serviceAccountName").is_none_or(|name| name.is_null() || name == "");
        if missing {
            spec.insert("serviceAccountName".to_owned(), old);
        }
    }
}

/// With `hostNetwork` older API servers write every port as its own host port.
fn drop_host_ports_of_host_network(spec: &mut Map<String, Value>) {
    if spec.get("hostNetwork") != Some(&Value::Bool(true)) {
        return;
    }
    for list in ["containers", "initContainers"] {
        let containers = spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
        for port in containers.filter_map(|container| container.get_mut("ports")?.as_array_mut()).flatten() {
            if let Some(port) = port.as_object_mut()
                && port.get("hostPort") == port.get("containerPort")
            {
                port.remove("hostPort");
            }
        }
    }
}

/// `None` when nothing is left that says anything.
fn prune(path: &[&str], value: Value) -> Option<Value> {
    let last = path.last().copied().unwrap_or("");
    match value {
        Value::Null => None,
        Value::Object(map) if FREE_MAPS.contains(&last) => free_map(last, map),
        Value::Object(map) => {
            let parent = Value::Object(map.clone());
            let mut kept = Map::new();
            for (key, value) in map {
                let mut below = path.to_vec();
                below.push(segment(&key));
                if is_default(&below, &value, &parent) {
                    continue;
                }
                if let Some(value) = prune(&below, value) {
                    kept.insert(key, value);
                }
            }
            (!kept.is_empty() || MEANINGFUL_EMPTY.contains(&last)).then_some(Value::Object(kept))
        }
        Value::Array(items) => {
            // An item that is all defaults still is an item.
            let items: Vec<Value> =
                items.into_iter().map(|item| prune(path, item).unwrap_or(Value::Object(Map::new()))).collect();
            (!items.is_empty()).then_some(Value::Array(items))
        }
        other if QUANTITY_FIELDS.contains(&last) => Some(quantity_value(other)),
        other => Some(other),
    }
}

fn free_map(name: &str, map: Map<String, Value>) -> Option<Value> {
    let quantities = QUANTITY_MAPS.contains(&name);
    let kept: Map<String, Value> = map
        .into_iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(key, value)| (key, if quantities { quantity_value(value) } else { value }))
        .collect();
    (!kept.is_empty()).then_some(Value::Object(kept))
}

fn quantity_value(value: Value) -> Value {
    let text = match &value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return value,
    };
    quantity::canonical(&text).map_or(value, Value::String)
}

/// JSON with sorted keys and no blanks, independent of how the map type orders.
fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort_unstable();
            out.push('{');
            for (index, key) in keys.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                out.push_str(&Value::String(key.clone()).to_string());
                out.push(':');
                write_canonical(map.get(key).unwrap_or(&Value::Null), out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_canonical(item, out);
            }
            out.push(']');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => out.push_str(&value.to_string()),
    }
}

#[cfg(test)]
#[path = "digest_tests.rs"]
mod tests;
