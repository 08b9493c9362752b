//! Strict reading: every unknown field, wrong type, missing field and unknown word in an object of ours, with its path.
//!
//! The daemon accepts unknown fields with a Warning, `validate` refuses them; both ask here. Judged against the schema that
//! the API server gets, so the two cannot disagree.

use std::fmt;

use serde_json::{Map, Value};

use super::{argo_crds, crds};
use crate::model::closest;

/// One thing wrong with an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where: `spec.analysis.metrics[0].thresholdRange`.
    pub path: String,
    /// What.
    pub kind: ProblemKind,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProblemKind {
    /// The field is in no schema; the closest known name, if one is close.
    Unknown(Option<String>),
    /// The value has another type.
    WrongType {
        /// What the schema wants.
        expected: String,
    },
    /// A required field is absent.
    Missing,
    /// The word is not one of these.
    NotOneOf(Vec<String>),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = &self.path;
        match &self.kind {
            ProblemKind::Unknown(None) => write!(f, "unknown field `{path}`"),
            ProblemKind::Unknown(Some(close)) => write!(f, "unknown field `{path}`, did you mean `{close}`?"),
            ProblemKind::WrongType { expected } => write!(f, "`{path}` must be a {expected}"),
            ProblemKind::Missing => write!(f, "`{path}` is required"),
            ProblemKind::NotOneOf(words) => write!(f, "`{path}` must be one of {}", words.join(", ")),
        }
    }
}

impl Problem {
    /// Whether it is only an unknown field, which the daemon tolerates.
    pub fn is_unknown_field(&self) -> bool {
        matches!(self.kind, ProblemKind::Unknown(_))
    }
}

/// Everything wrong with an object of one of our kinds; empty for other kinds, which the API server judges.
pub fn check(object: &Value) -> Vec<Problem> {
    let Some(schema) = schema_of(object) else { return Vec::new() };
    let mut problems = Vec::new();
    let mut body = object.clone();
    if let Some(body) = body.as_object_mut() {
        body.retain(|field, _| !SERVERS_OWN.contains(&field.as_str()));
    }
    walk(&body, &schema, "", &mut problems);
    problems
}

/// Removes the fields of an object of ours that are in no schema. Server-side apply refuses the whole object for one.
pub fn drop_unknown(object: &mut Value) {
    if let Some(schema) = schema_of(object) {
        prune(object, &schema, &SERVERS_OWN);
    }
}

/// Fields that the API server itself knows.
const SERVERS_OWN: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// The schema of an object of one of our kinds.
fn schema_of(object: &Value) -> Option<Value> {
    let is_of = |group: &str, version: &str| object["apiVersion"] == format!("{group}/{version}");
    let known = if is_of(super::GROUP, super::VERSION) {
        crds()
    } else if is_of(super::ARGO_GROUP, super::ARGO_VERSION) {
        argo_crds()
    } else {
        return None;
    };
    let crd = known.into_iter().find(|crd| object["kind"] == crd.spec.names.kind)?;
    let schema = crd.spec.versions.into_iter().next()?.schema?;
    serde_json::to_value(schema.open_api_v3_schema).ok()
}

fn prune(value: &mut Value, schema: &Value, keep: &[&str]) {
    match value {
        Value::Object(fields) => {
            let open = schema["x-kubernetes-preserve-unknown-fields"] == true;
            fields.retain(|field, value| {
                let inner = match (&schema["properties"][field], &schema["additionalProperties"]) {
                    _ if keep.contains(&field.as_str()) => return true,
                    (Value::Null, Value::Object(_)) => &schema["additionalProperties"],
                    (Value::Null, _) => return open,
                    (property, _) => property,
                };
                prune(value, inner, &[]);
                true
            });
        }
        Value::Array(items) => items.iter_mut().for_each(|item| prune(item, &schema["items"], &[])),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn walk(value: &Value, schema: &Value, path: &str, problems: &mut Vec<Problem>) {
    if value.is_null() {
        return;
    }
    if !type_fits(value, schema) {
        let expected = schema["type"].as_str().unwrap_or("port number or name").to_owned();
        problems.push(Problem { path: path.to_owned(), kind: ProblemKind::WrongType { expected } });
        return;
    }
    if let Some(words) = schema["enum"].as_array()
        && !words.contains(value)
    {
        let words = words.iter().filter_map(Value::as_str).filter(|word| !word.is_empty());
        let kind = ProblemKind::NotOneOf(words.map(str::to_owned).collect());
        problems.push(Problem { path: path.to_owned(), kind });
    }
    match value {
        Value::Object(fields) => walk_object(fields, schema, path, problems),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                walk(item, &schema["items"], &format!("{path}[{index}]"), problems);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn walk_object(fields: &Map<String, Value>, schema: &Value, path: &str, problems: &mut Vec<Problem>) {
    let open = schema["x-kubernetes-preserve-unknown-fields"] == true;
    let empty = Map::new();
    let known = schema["properties"].as_object().unwrap_or(&empty);
    for (field, value) in fields {
        let below = if path.is_empty() { field.clone() } else { format!("{path}.{field}") };
        match (known.get(field), schema["additionalProperties"].as_object()) {
            (Some(property), _) => walk(value, property, &below, problems),
            (None, Some(_)) => walk(value, &schema["additionalProperties"], &below, problems),
            (None, None) if open => {}
            (None, None) => {
                let close = closest(field, known.keys().map(String::as_str)).map(str::to_owned);
                problems.push(Problem { path: below, kind: ProblemKind::Unknown(close) });
            }
        }
    }
    for field in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if fields.get(field).is_none_or(Value::is_null) {
            let path = if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") };
            problems.push(Problem { path, kind: ProblemKind::Missing });
        }
    }
}

fn type_fits(value: &Value, schema: &Value) -> bool {
    if schema["x-kubernetes-int-or-string"] == true {
        return value.is_i64() || value.is_string();
    }
    match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        Some(_) | None => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_every_problem_with_its_path() {
        let canary = json!({
            "apiVersion": "flagger.app/v1beta1", "kind": "Canary",
            "metadata": {"name": "podinfo", "anything": true},
            "spec": {
                "provider": "isto",
                "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment"},
                "service": {"port": "http", "trafficPolicy": {"tls": {"mode": "DISABLE"}}, "targetPort": "http"},
                "analysis": {"stepWieght": 10, "metrics": [{"name": "a", "thresholdRange": {"mn": 1}}]},
            }
        });
        let mut problems: Vec<String> = check(&canary).iter().map(Problem::to_string).collect();
        problems.sort();
        assert_eq!(problems.len(), 5, "{problems:#?}");
        assert!(problems[0].starts_with("`spec.provider` must be one of apisix, "), "{problems:#?}");
        assert_eq!(
            problems[1..],
            [
                "`spec.service.port` must be a number",
                "`spec.targetRef.name` is required",
                "unknown field `spec.analysis.metrics[0].thresholdRange.mn`, did you mean `min`?",
                "unknown field `spec.analysis.stepWieght`, did you mean `stepWeight`?",
            ]
        );
    }

    #[test]
    fn drops_what_no_schema_knows_and_nothing_else() {
        let mut canary = json!({
            "apiVersion": "flagger.app/v1beta1", "kind": "Canary",
            "metadata": {"name": "podinfo", "annotations": {"a": "b"}},
            "spec": {
                "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "podinfo", "nmae": 1},
                "service": {"port": 80, "trafficPolicy": {"tls": {"mode": "DISABLE"}},
                    "apex": {"labels": {"any.key/x": "1"}}},
                "analysis": {"stepWieght": 10, "metrics": [{"name": "a", "thresholdRange": {"mn": 1}}]},
            }
        });
        let mut wanted = canary.clone();
        for (path, name) in [
            ("/spec/targetRef", "nmae"),
            ("/spec/analysis", "stepWieght"),
            ("/spec/analysis/metrics/0/thresholdRange", "mn"),
        ] {
            wanted.pointer_mut(path).unwrap().as_object_mut().unwrap().remove(name).unwrap();
        }
        drop_unknown(&mut canary);
        assert_eq!(canary, wanted);
        assert!(check(&canary).is_empty(), "{:?}", check(&canary));
    }

    #[test]
    fn leaves_other_kinds_to_the_server() {
        assert!(check(&json!({"apiVersion": "v1", "kind": "Pod", "spec": {"x": 1}})).is_empty());
    }
}
