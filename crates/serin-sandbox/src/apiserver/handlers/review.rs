//! Reviews of oneself: the administrator may do everything, whom a request is made for what roles allow.

use http::StatusCode;
use serde_json::json;

use super::super::body;
use super::super::call::{Call, Reply};
use super::super::json::text;
use super::super::status::ApiError;
use super::authorize::Wanted;

/// The one user of the sandbox.
const USER: &str = "serin-sandbox";

/// Answers a SelfSubjectAccessReview or SelfSubjectReview.
pub(super) fn answer(call: &mut Call) -> Result<Reply, ApiError> {
    let mut review = body::parse(&call.content_type, &call.body)?.value;
    if review["kind"] != call.resource.kind.as_str() {
        return Err(ApiError::bad_request(format!("expected a {}", call.resource.kind)));
    }
    review["status"] = match (call.resource.kind.as_str(), &call.user) {
        ("SelfSubjectAccessReview", None) => json!({"allowed": true, "reason": "the sandbox's administrator"}),
        ("SelfSubjectAccessReview", Some(user)) => {
            let asked = &review["spec"]["resourceAttributes"];
            let sub = text(&asked["subresource"]);
            let resource = text(&asked["resource"]);
            let resource = if sub.is_empty() { resource.to_owned() } else { format!("{resource}/{sub}") };
            let wanted = Wanted {
                verb: text(&asked["verb"]),
                group: text(&asked["group"]),
                resource: &resource,
                namespace: text(&asked["namespace"]),
                name: text(&asked["name"]),
            };
            json!({"allowed": user.may(&call.server, &call.resource, wanted)})
        }
        (_, None) => json!({"userInfo": {"username": USER, "groups": ["system:masters", "system:authenticated"]}}),
        (_, Some(user)) => json!({"userInfo": {"username": user.name, "groups": user.groups}}),
    };
    Ok(Reply::Document(StatusCode::CREATED, review))
}
