//! `PUT`, and the scale subresource.

use http::StatusCode;
use serde_json::{Value, json};

use super::super::body;
use super::super::call::{Call, Reply};
use super::super::json::{at, set_at, text};
use super::super::kinds::ScalePaths;
use super::super::status::{ApiError, FieldError};
use super::super::write::{Ownership, check_preconditions, decode_body, replace, retry};

/// Replaces an object, its status, or a namespace's finalizers.
pub(super) fn replace_object(call: &mut Call) -> Result<Reply, ApiError> {
    let object = decode_body(call)?;
    if call.resource.is_custom() && text(&object["metadata"]["resourceVersion"]).is_empty() {
        let error = FieldError::invalid("metadata.resourceVersion", &json!(0), "must be specified for an update");
        return Err(ApiError::invalid(call.resource.kind_subject(call.name()), &[error]));
    }
    let replaced = retry(call, |call| {
        let old = call.stored()?;
        replace(call, &old, object.clone(), Ownership::Changes)
    })?;
    Ok(Reply::Object(StatusCode::OK, replaced))
}

/// `GET …/scale`.
pub(super) fn get_scale(call: &Call) -> Result<Reply, ApiError> {
    let object = call.stored()?;
    Ok(Reply::Document(StatusCode::OK, scale_of(&object, paths(call)?)))
}

/// `PUT …/scale`.
pub(super) fn replace_scale(call: &mut Call) -> Result<Reply, ApiError> {
    let scale = body::parse(&call.content_type, &call.body)?.value;
    write_scale(call, |_call, _current| Ok(scale.clone()))
}

/// Writes the replicas of a changed Scale into the object.
pub(super) fn write_scale(
    call: &mut Call,
    change: impl Fn(&Call, &Value) -> Result<Value, ApiError>,
) -> Result<Reply, ApiError> {
    let paths = paths(call)?.clone();
    let written = retry(call, |call| {
        let old = call.stored()?;
        let scale = change(call, &scale_of(&old, &paths))?;
        check_preconditions(call, &old, &scale["metadata"])?;
        let replicas = scale["spec"]["replicas"].as_i64().unwrap_or(0);
        if replicas < 0 {
            let error =
                FieldError::invalid("spec.replicas", &json!(replicas), "must be greater than or equal to 0");
            let subject =
                super::super::status::Subject { group: "autoscaling", resource: "Scale", name: call.name() };
            return Err(ApiError::invalid(subject, &[error]).into());
        }
        let mut new = Value::clone(&old);
        set_at(&mut new, &paths.spec_replicas, json!(replicas));
        replace(call, &old, new, Ownership::Changes)
    })?;
    Ok(Reply::Document(StatusCode::OK, scale_of(&written, &paths)))
}

fn paths(call: &Call) -> Result<&ScalePaths, ApiError> {
    call.resource.scale.as_ref().ok_or_else(|| ApiError::no_such_path(""))
}

/// The Scale of an object.
fn scale_of(object: &Value, paths: &ScalePaths) -> Value {
    let number = |path: &[String]| at(object, path).and_then(Value::as_i64).unwrap_or(0);
    let selector = match &paths.selector {
        Some(path) => at(object, path).and_then(Value::as_str).unwrap_or_default().to_owned(),
        None => selector_text(&object["spec"]["selector"]),
    };
    let mut metadata = json!({});
    for name in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object["metadata"].get(name) {
            metadata[name] = value.clone();
        }
    }
    let mut status = json!({"replicas": number(&paths.status_replicas)});
    if !selector.is_empty() {
        status["selector"] = json!(selector);
    }
    json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata,
        "spec": {"replicas": number(&paths.spec_replicas)}, "status": status,
    })
}

/// A LabelSelector in the notation of query parameters.
pub(super) fn selector_text(selector: &Value) -> String {
    let labels = selector["matchLabels"].as_object().into_iter().flatten();
    let mut parts: Vec<String> = labels.map(|(key, value)| format!("{key}={}", text(value))).collect();
    for expression in selector["matchExpressions"].as_array().into_iter().flatten() {
        let key = text(&expression["key"]);
        let values: Vec<&str> =
            expression["values"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        match text(&expression["operator"]) {
            "In" => parts.push(format!("{key} in ({})", values.join(","))),
            "NotIn" => parts.push(format!("{key} notin ({})", values.join(","))),
            "Exists" => parts.push(key.to_owned()),
            "DoesNotExist" => parts.push(format!("!{key}")),
            _ => {}
        }
    }
    parts.join(",")
}
