//! Conditions in Istio's words, which Canaries are written in, as matches of an HTTPRoute.

use serde_json::{Map, Value, json};

use crate::router::plan::escaped;

/// A condition that an HTTPRoute cannot express: its field, and why.
pub(super) type Unsaid = (String, &'static str);

/// Methods that Gateway API knows.
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
/// Fields that say nothing of a request.
const NAMES: [&str; 1] = ["name"];

/// The match of all requests.
pub(super) fn every_request() -> Value {
    json!({"path": {"type": "PathPrefix", "value": "/"}})
}

/// One condition.
pub(super) fn of(when: &Value) -> Result<Value, Unsaid> {
    let mut out = every_request();
    for (field, value) in when.as_object().into_iter().flatten() {
        match field.as_str() {
            "uri" => out["path"] = path(value)?,
            "method" => out["method"] = method(value)?,
            "headers" => set(&mut out, field, values(field, value)?),
            "queryParams" => set(&mut out, field, values(field, value)?),
            known if NAMES.contains(&known) => {}
            _ => return Err((field.clone(), "is no condition of an HTTPRoute")),
        }
    }
    Ok(out)
}

fn set(out: &mut Value, field: &str, values: Vec<Value>) {
    if !values.is_empty() {
        out[field] = Value::Array(values);
    }
}

fn path(condition: &Value) -> Result<Value, Unsaid> {
    let unsaid = |why| Err(("uri".to_owned(), why));
    let (kind, value) = match only(condition) {
        Some(("exact", value)) => ("Exact", value),
        Some(("prefix", value)) => ("PathPrefix", value),
        Some(("regex", value)) => return Ok(json!({"type": "RegularExpression", "value": value})),
        Some(_) | None => return unsaid("needs one of exact, prefix and regex"),
    };
    if value.starts_with('/') { Ok(json!({"type": kind, "value": value})) } else { unsaid("must begin with /") }
}

fn method(condition: &Value) -> Result<Value, Unsaid> {
    match only(condition) {
        Some(("exact", method)) if METHODS.contains(&method) => Ok(json!(method)),
        Some(_) | None => Err(("method".to_owned(), "must be exact, and one of HTTP's methods in capitals")),
    }
}

/// Headers or query parameters: in the order of their names.
fn values(field: &str, conditions: &Value) -> Result<Vec<Value>, Unsaid> {
    let conditions = conditions.as_object().into_iter().flatten();
    conditions
        .map(|(name, condition)| {
            let (kind, value) = match only(condition) {
                Some(("exact", value)) => ("Exact", value.to_owned()),
                Some(("regex", value)) => ("RegularExpression", value.to_owned()),
                Some(("prefix", value)) => ("RegularExpression", format!("{}.*", escaped(value))),
                Some(("suffix", value)) => ("RegularExpression", format!(".*{}", escaped(value))),
                None if condition.as_object().is_some_and(Map::is_empty) => ("RegularExpression", ".*".to_owned()),
                Some(_) | None => {
                    return Err((format!("{field}.{name}"), "needs one of exact, prefix, suffix and regex"));
                }
            };
            if value.is_empty() {
                return Err((format!("{field}.{name}"), "must not be empty"));
            }
            Ok(json!({"type": kind, "name": name, "value": value}))
        })
        .collect()
}

/// The only condition on a text.
fn only(condition: &Value) -> Option<(&str, &str)> {
    let mut all = condition.as_object()?.iter();
    let (kind, value) = all.next()?;
    all.next().is_none().then_some((kind.as_str(), value.as_str()?))
}

/// A match in Istio's words, for people and to be compared: nothing that we write is read this way.
pub(super) fn words(found: &Value) -> Value {
    let kind = |kind: &Value| match kind.as_str() {
        Some("PathPrefix") => "prefix",
        Some("RegularExpression") => "regex",
        _ => "exact",
    };
    let mut out = Map::new();
    let path = &found["path"];
    if *path != every_request()["path"] && !path.is_null() {
        out.insert("uri".to_owned(), json!({kind(&path["type"]): path["value"]}));
    }
    if let Some(method) = found["method"].as_str() {
        out.insert("method".to_owned(), json!({"exact": method}));
    }
    for field in ["headers", "queryParams"] {
        let named = found[field].as_array().into_iter().flatten();
        let named: Map<String, Value> = named
            .filter_map(|one| Some((one["name"].as_str()?.to_owned(), json!({kind(&one["type"]): one["value"]}))))
            .collect();
        if !named.is_empty() {
            out.insert(field.to_owned(), Value::Object(named));
        }
    }
    Value::Object(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_said_in_gateway_apis_words() {
        let when = json!({"name": "x", "uri": {"prefix": "/api"}, "method": {"exact": "GET"},
            "headers": {"cookie": {"regex": "a.*"}, "x-a": {"exact": "1"}, "x-b": {"prefix": "1.0"}, "x-c": {"suffix": "+"}, "x-d": {}},
            "queryParams": {"q": {"exact": "2"}}});
        assert_eq!(
            of(&when).unwrap(),
            json!({
                "path": {"type": "PathPrefix", "value": "/api"}, "method": "GET",
                "headers": [
                    {"type": "RegularExpression", "name": "cookie", "value": "a.*"},
                    {"type": "Exact", "name": "x-a", "value": "1"},
                    {"type": "RegularExpression", "name": "x-b", "value": r"1\.0.*"},
                    {"type": "RegularExpression", "name": "x-c", "value": r".*\+"},
                    {"type": "RegularExpression", "name": "x-d", "value": ".*"},
                ],
                "queryParams": [{"type": "Exact", "name": "q", "value": "2"}],
            })
        );
        assert_eq!(of(&json!({})).unwrap(), every_request());
    }

    #[test]
    fn what_cannot_be_said_is_named() {
        let cases = [
            (json!({"sourceLabels": {"a": "b"}}), "sourceLabels"),
            (json!({"withoutHeaders": {"a": {"exact": "b"}}}), "withoutHeaders"),
            (json!({"ignoreUriCase": true}), "ignoreUriCase"),
            (json!({"authority": {"exact": "a"}}), "authority"),
            (json!({"port": 80}), "port"),
            (json!({"gateways": ["mesh"]}), "gateways"),
            (json!({"uri": {"exact": "a"}}), "uri"),
            (json!({"uri": {"suffix": "/a"}}), "uri"),
            (json!({"method": {"prefix": "G"}}), "method"),
            (json!({"headers": {"x": {"exact": ""}}}), "headers.x"),
            (json!({"headers": {"x": {"exact": "1", "prefix": "2"}}}), "headers.x"),
        ];
        for (when, field) in cases {
            assert_eq!(of(&when).unwrap_err().0, field, "{when}");
        }
    }
}
