//! Strategic merge patch: a merge patch that knows the merge keys of Kubernetes' own types.

use serde_json::{Map, Value};

use super::super::json::text;
use super::super::schema::Schema;
use super::super::status::ApiError;

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const ORDER: &str = "$setElementOrder/";
const DELETE_PRIMITIVES: &str = "$deleteFromPrimitiveList/";

/// How a list field is patched.
struct ListStrategy<'a> {
    merges: bool,
    key: Option<&'a str>,
}

/// Merges `patch` into `document`.
pub(super) fn merge(schema: Option<Schema<'_>>, document: &mut Value, patch: &Value) -> Result<(), ApiError> {
    let Value::Object(fields) = patch else {
        *document = patch.clone();
        return Ok(());
    };
    match fields.get(DIRECTIVE).map(text) {
        None | Some("merge") => {}
        Some("replace") => {
            let rest = fields.iter().filter(|(name, _)| *name != DIRECTIVE);
            *document = Value::Object(rest.map(|(name, field)| (name.clone(), field.clone())).collect());
            return Ok(());
        }
        Some("delete") => {
            *document = Value::Object(Map::new());
            return Ok(());
        }
        Some(other) => return Err(ApiError::bad_request(format!("unknown patch type found: \"{other}\""))),
    }
    let mut merged = document.as_object().cloned().unwrap_or_default();
    if let Some(Value::Array(keys)) = fields.get(RETAIN_KEYS) {
        merged.retain(|name, _| keys.iter().any(|key| key == name.as_str()));
    }
    for (name, field) in fields {
        if name == DIRECTIVE || name == RETAIN_KEYS || name.starts_with(ORDER) {
            continue;
        }
        if let Some(list) = name.strip_prefix(DELETE_PRIMITIVES) {
            if let (Some(Value::Array(items)), Some(gone)) = (merged.get_mut(list), field.as_array()) {
                items.retain(|item| !gone.contains(item));
            }
            continue;
        }
        merge_field(schema, &mut merged, name, field)?;
    }
    for (name, order) in fields {
        let Some(list) = name.strip_prefix(ORDER) else { continue };
        let strategy = list_strategy(schema, list);
        if let (Some(Value::Array(items)), Some(order)) = (merged.get_mut(list), order.as_array()) {
            sort(items, order, strategy.key);
        }
    }
    *document = Value::Object(merged);
    Ok(())
}

fn merge_field(
    schema: Option<Schema<'_>>,
    merged: &mut Map<String, Value>,
    name: &str,
    field: &Value,
) -> Result<(), ApiError> {
    let inner = schema.and_then(|schema| schema.field(name));
    match field {
        Value::Null => {
            merged.remove(name);
        }
        Value::Object(_) => {
            let slot = merged.entry(name).or_insert_with(|| Value::Object(Map::new()));
            merge(inner, slot, field)?;
        }
        Value::Array(items) => {
            let strategy = list_strategy(schema, name);
            if strategy.merges {
                let existing = match merged.remove(name) {
                    Some(Value::Array(existing)) => existing,
                    Some(_) | None => Vec::new(),
                };
                let item_schema = inner.and_then(|inner| inner.items());
                let list = merge_list(item_schema, existing, items, strategy.key)?;
                merged.insert(name.to_owned(), Value::Array(list));
            } else {
                merged.insert(name.to_owned(), field.clone());
            }
        }
        Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            merged.insert(name.to_owned(), field.clone());
        }
    }
    Ok(())
}

fn list_strategy<'a>(schema: Option<Schema<'a>>, name: &str) -> ListStrategy<'a> {
    let node = schema.and_then(|schema| schema.property_node(name));
    let keyword = |keyword: &str| node.and_then(|node| node.get(keyword)).and_then(Value::as_str);
    let merges =
        keyword("x-kubernetes-patch-strategy").is_some_and(|all| all.split(',').any(|one| one == "merge"));
    ListStrategy { merges, key: keyword("x-kubernetes-patch-merge-key") }
}

fn merge_list(
    schema: Option<Schema<'_>>,
    mut existing: Vec<Value>,
    patch: &[Value],
    key: Option<&str>,
) -> Result<Vec<Value>, ApiError> {
    let replaces = patch.iter().any(|item| item[DIRECTIVE] == "replace");
    if replaces {
        existing.clear();
    }
    for item in patch {
        let Some(key) = key.filter(|_| item.is_object()) else {
            if !existing.contains(item) {
                existing.push(item.clone());
            }
            continue;
        };
        let directive = text(&item[DIRECTIVE]);
        let Some(value) = item.get(key) else {
            if directive == "replace" {
                continue;
            }
            return Err(ApiError::unexplained(format!("map: {item} does not contain declared merge key: {key}")));
        };
        let found = existing.iter().position(|other| other.get(key) == Some(value));
        match (directive, found) {
            ("delete", _) => existing.retain(|other| other.get(key) != Some(value)),
            (_, Some(position)) => {
                if let Some(slot) = existing.get_mut(position) {
                    merge(schema, slot, item)?;
                }
            }
            (_, None) => {
                let mut fresh = Value::Object(Map::new());
                merge(schema, &mut fresh, item)?;
                existing.push(fresh);
            }
        }
    }
    Ok(existing)
}

/// Sorts the items that `order` names as it names them; items it does not know keep their place.
fn sort(items: &mut [Value], order: &[Value], key: Option<&str>) {
    let rank = |item: &Value| {
        order.iter().position(|entry| match key {
            Some(key) if entry.is_object() => entry.get(key) == item.get(key),
            Some(_) | None => entry == item,
        })
    };
    let mut ranked: Vec<(usize, Value)> = Vec::new();
    let mut places = Vec::new();
    for (place, item) in items.iter().enumerate() {
        if let Some(rank) = rank(item) {
            ranked.push((rank, item.clone()));
            places.push(place);
        }
    }
    ranked.sort_by_key(|(rank, _)| *rank);
    for (place, (_, item)) in places.into_iter().zip(ranked) {
        if let Some(slot) = items.get_mut(place) {
            *slot = item;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::apiserver::schema::named;

    use super::*;

    fn patched(document: Value, patch: &Value) -> Value {
        let mut document = document;
        merge(named("io.k8s.api.core.v1.PodSpec"), &mut document, patch).unwrap();
        document
    }

    fn pod() -> Value {
        json!({"containers": [
            {"name": "a", "image": "a:1", "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}]},
            {"name": "b", "image": "b:1", "args": ["one", "two"]},
        ]})
    }

    #[test]
    fn merges_lists_by_key_and_deletes_by_directive() {
        let result = patched(
            pod(),
            &json!({"containers": [
                {"name": "a", "env": [{"name": "X", "$patch": "delete"}, {"name": "Z", "value": "3"}]},
                {"name": "b", "args": ["three"]},
            ]}),
        );
        let env = json!([{"name": "Y", "value": "2"}, {"name": "Z", "value": "3"}]);
        assert_eq!(result["containers"][0]["env"], env);
        assert_eq!(result["containers"][1]["args"], json!(["three"]), "lists without a key are replaced");
    }

    #[test]
    fn orders_as_told() {
        let order = json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]});
        let result = patched(pod(), &order);
        assert_eq!(result["containers"][0]["name"], "b");
    }

    #[test]
    fn retains_only_named_keys() {
        let volume = json!({"volumes": [{"name": "v", "emptyDir": {}}]});
        let change = json!({"volumes": [
            {"name": "v", "$retainKeys": ["name", "configMap"], "configMap": {"name": "c"}}
        ]});
        let result = patched(volume, &change);
        assert_eq!(result["volumes"], json!([{"name": "v", "configMap": {"name": "c"}}]));
    }
}
