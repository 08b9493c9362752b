//! The four kinds of patches.

mod apply;
mod strategic;
mod typed;

use serde_json::{Value, json};

pub(super) use apply::{merge_applied, without_nulls};
pub(super) use typed::check_typed;

use super::call::Call;
use super::status::ApiError;
use http::StatusCode;

/// Operations in one JSON patch, as in Kubernetes.
const JSON_PATCH_OPERATIONS_MAX: usize = 10_000;

/// A patch by its content type.
pub(super) enum Patch {
    /// RFC 6902.
    Json(json_patch::Patch),
    /// RFC 7386.
    Merge(Value),
    /// Kubernetes' own, which knows list keys; for built-in kinds only.
    Strategic(Value),
    /// Server-side apply.
    Apply,
}

/// Reads the patch of a request.
pub(super) fn read(call: &Call) -> Result<Patch, ApiError> {
    let media = call.content_type.split(';').next().unwrap_or_default().trim();
    let document = || -> Result<Value, ApiError> {
        let value: Value = serde_json::from_slice(&call.body)
            .map_err(|error| ApiError::bad_request(format!("error decoding patch: {error}")))?;
        if value.is_object() {
            Ok(value)
        } else {
            Err(ApiError::bad_request("error decoding patch: it is not a JSON object"))
        }
    };
    match media {
        "application/json-patch+json" => {
            let operations: Value = serde_json::from_slice(&call.body)
                .map_err(|error| ApiError::bad_request(format!("error decoding patch: {error}")))?;
            if !operations.as_array().is_some_and(|all| all.iter().all(Value::is_object)) {
                return Err(ApiError::bad_request("error decoding patch: it is not a list of operations"));
            }
            // What an operation lacks is found when it is carried out.
            let patch: json_patch::Patch = serde_json::from_value(operations).map_err(rejected)?;
            if patch.0.len() > JSON_PATCH_OPERATIONS_MAX {
                return Err(ApiError::too_large(JSON_PATCH_OPERATIONS_MAX));
            }
            Ok(Patch::Json(patch))
        }
        "application/merge-patch+json" => Ok(Patch::Merge(document()?)),
        "application/strategic-merge-patch+json" if call.resource.is_custom() => {
            Err(ApiError::unsupported_media_type(
                "the body of the request was in an unknown format - accepted media types include: \
                 application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
            ))
        }
        "application/strategic-merge-patch+json" => Ok(Patch::Strategic(document()?)),
        "application/apply-patch+yaml" => Ok(Patch::Apply),
        other => Err(ApiError::unsupported_media_type(format!(
            "the body of the request was in an unknown format ({other}) - accepted media types include: \
             application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml, \
             application/strategic-merge-patch+json"
        ))),
    }
}

/// Applies any patch but a server-side apply, which needs the owners too.
pub(super) fn patch_document(call: &Call, patch: &Patch, current: &Value) -> Result<Value, ApiError> {
    let mut document = current.clone();
    match patch {
        Patch::Json(operations) => json_patch::patch(&mut document, operations).map_err(rejected)?,
        Patch::Merge(patch) => json_patch::merge(&mut document, patch),
        Patch::Strategic(patch) => strategic::merge(Some(call.resource.schema()), &mut document, patch)?,
        Patch::Apply => return Err(ApiError::internal("an apply is no plain patch")),
    }
    Ok(document)
}

/// As a real server puts it: neither the operation nor the reason is named, so nobody can rest on them.
fn rejected(error: impl std::fmt::Display) -> ApiError {
    tracing::debug!(%error, "a JSON Patch does not apply");
    ApiError {
        code: StatusCode::UNPROCESSABLE_ENTITY,
        reason: "Invalid",
        message: "the server rejected our request due to an error in our request".to_owned(),
        details: Some(json!({})),
    }
}
