//! `POST`.

use http::StatusCode;
use serde_json::{Value, json};

use super::super::body;
use super::super::call::{Call, Reply};
use super::super::json::text;
use super::super::status::ApiError;
use super::super::write::{Ownership, decode_body, insert, replace, retry};

/// Creates an object.
pub(super) fn create(call: &mut Call) -> Result<Reply, ApiError> {
    let object = decode_body(call)?;
    // A generated name that is taken is generated anew.
    let created = retry(call, |call| insert(call, object.clone(), Ownership::Changes))?;
    Ok(Reply::Object(StatusCode::CREATED, created))
}

/// Binds a pod to a node, as schedulers do.
pub(super) fn bind(call: &mut Call) -> Result<Reply, ApiError> {
    let binding: Value = body::parse(&call.content_type, &call.body)?.value;
    let node = text(&binding["target"]["name"]).to_owned();
    if node.is_empty() {
        return Err(ApiError::bad_request("a Binding needs target.name, the node"));
    }
    retry(call, |call| {
        let old = call.stored()?;
        let assigned = text(&old["spec"]["nodeName"]);
        if !assigned.is_empty() {
            let why = format!("pod {} is already assigned to node \"{assigned}\"", call.name());
            return Err(ApiError::conflict(call.subject(), &why).into());
        }
        let mut new = Value::clone(&old);
        new["spec"]["nodeName"] = json!(node);
        replace(call, &old, new, Ownership::Changes)
    })?;
    Ok(Reply::Document(
        StatusCode::CREATED,
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}),
    ))
}
