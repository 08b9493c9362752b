//! Reviews of oneself: there is no RBAC, so everything is allowed, and everyone is the same administrator.

use http::StatusCode;
use serde_json::json;

use super::super::body;
use super::super::call::{Call, Reply};
use super::super::status::ApiError;

/// The one user of the sandbox.
const USER: &str = "serin-sandbox";

/// Answers a SelfSubjectAccessReview or SelfSubjectReview.
pub(super) fn answer(call: &mut Call) -> Result<Reply, ApiError> {
    let mut review = body::parse(&call.content_type, &call.body)?.value;
    if review["kind"] != call.resource.kind.as_str() {
        return Err(ApiError::bad_request(format!("expected a {}", call.resource.kind)));
    }
    review["status"] = match call.resource.kind.as_str() {
        "SelfSubjectAccessReview" => json!({"allowed": true, "reason": "the sandbox has no RBAC"}),
        _ => json!({"userInfo": {"username": USER, "groups": ["system:masters", "system:authenticated"]}}),
    };
    Ok(Reply::Document(StatusCode::CREATED, review))
}
