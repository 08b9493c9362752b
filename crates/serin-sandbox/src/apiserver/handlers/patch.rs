//! `PATCH`.

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};

use super::super::body::{self, Document};
use super::super::call::{Call, Part, Reply};
use super::super::convert::from_storage;
use super::super::json::{remove, text};
use super::super::managed::{self, Applied};
use super::super::patch::{self, Patch, check_typed, patch_document, without_nulls};
use super::super::quantity::canonicalize;
use super::super::status::{ApiError, FieldError, Subject};
use super::super::validate::check_types;
use super::super::write::{
    Ownership, Refused, check_type, decode, drop_unknown, insert, manager_of, prepare_decoded, replace, retry,
};
use super::update::write_scale;

/// Patches an object, its status or its scale.
pub(super) fn patch(call: &mut Call) -> Result<Reply, ApiError> {
    let patch = patch::read(call)?;
    check_options(call, &patch)?;
    match (&patch, call.part) {
        (Patch::Apply, Part::Scale) => Err(ApiError::unsupported_media_type(
            "server-side apply of the scale subresource is not supported: use a merge patch",
        )),
        (_, Part::Scale) => {
            let base = call.content_type.clone();
            write_scale(call, |call, current| match &patch {
                // A Scale has no lists: strategic and plain merge are the same.
                Patch::Strategic(change) => patch_document(call, &Patch::Merge(change.clone()), current),
                Patch::Json(_) | Patch::Merge(_) => patch_document(call, &patch, current),
                Patch::Apply => Err(ApiError::unsupported_media_type(base.clone())),
            })
        }
        (Patch::Apply, _) => apply(call),
        (_, _) => {
            let patched = retry(call, |call| patch_once(call, &patch))?;
            Ok(Reply::Object(StatusCode::OK, patched))
        }
    }
}

fn check_options(call: &Call, patch: &Patch) -> Result<(), ApiError> {
    let applies = matches!(patch, Patch::Apply);
    let error = if applies && call.options.field_manager.is_empty() {
        FieldError::required("fieldManager", "is required for apply patch")
    } else if !applies && call.options.force {
        FieldError::forbidden("force", "may not be specified for non-apply patch")
    } else {
        return Ok(());
    };
    Err(ApiError::invalid(Subject { group: "meta.k8s.io", resource: "PatchOptions", name: "" }, &[error]))
}

fn patch_once(call: &mut Call, patch: &Patch) -> Result<Arc<Value>, Refused> {
    let old = call.stored()?;
    let current = from_storage(&call.resource, &old).into_owned();
    let value = patch_document(call, patch, &current)?;
    let object = decode(call, Document { value, duplicates: Vec::new() })?;
    replace(call, &old, object, Ownership::Changes)
}

/// Server-side apply: creates what is missing, else merges by owners.
fn apply(call: &mut Call) -> Result<Reply, ApiError> {
    let Document { value, duplicates } = body::parse(&call.content_type, &call.body)?;
    check_type(call, &value)?;
    let mut config = without_nulls(&value);
    if config["metadata"].get("managedFields").is_some() {
        return Err(ApiError::bad_request("metadata.managedFields must be nil"));
    }
    check_typed(call, &config)?;
    drop_unknown(call, &mut config, &duplicates)?;
    check_types(&config, &call.resource)?;
    if !call.resource.is_custom() {
        // Equal amounts are no conflict, however they are written.
        canonicalize(&mut config, call.resource.schema());
    }
    restrict(call, &mut config)?;
    let (code, object) = retry(call, |call| apply_once(call, &config))?;
    Ok(Reply::Object(code, object))
}

/// Only the part that the path names can be applied.
fn restrict(call: &Call, config: &mut Value) -> Result<(), ApiError> {
    let name = text(&config["metadata"]["name"]);
    if !name.is_empty() && name != call.name() {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            call.name()
        )));
    }
    match call.part {
        Part::Status => {
            if let Some(map) = config.as_object_mut() {
                map.retain(|name, _| matches!(name.as_str(), "apiVersion" | "kind" | "metadata" | "status"));
            }
        }
        Part::Main if call.resource.has_status => {
            remove(config, "status");
        }
        Part::Main | Part::Scale | Part::Finalize | Part::Binding | Part::Eviction => {}
    }
    Ok(())
}

fn apply_once(call: &mut Call, config: &Value) -> Result<(StatusCode, Arc<Value>), Refused> {
    let resource = Arc::clone(&call.resource);
    let manager = manager_of(call);
    let old = call.server.store.get(&resource.storage, &call.key());
    let live = match &old {
        Some(old) => from_storage(&resource, old).into_owned(),
        None if call.part != Part::Main => return Err(ApiError::not_found(call.subject()).into()),
        None if !text(&config["metadata"]["uid"]).is_empty() => {
            let why = "uid mismatch: the provided object specified uid, and no existing object was found";
            return Err(ApiError::conflict(call.subject(), why).into());
        }
        None => {
            json!({"apiVersion": config["apiVersion"], "kind": config["kind"], "metadata": {"name": call.name()}})
        }
    };
    let Applied { mut object, managed_fields } =
        managed::apply(Some(resource.schema()), &live, config, &manager, call.options.force)
            .map_err(|conflicts| ApiError::apply_conflict(&conflicts))?;
    object["metadata"]["name"] = json!(call.name());
    let object = prepare_decoded(call, object)?;
    match old {
        Some(old) => {
            let written = replace(call, &old, object, Ownership::Applied(managed_fields))?;
            Ok((StatusCode::OK, written))
        }
        None => match insert(call, object, Ownership::Applied(managed_fields)) {
            // Somebody else created it in the meantime.
            Err(Refused::Api(error)) if error.reason == "AlreadyExists" => Err(Refused::Lost),
            other => Ok((StatusCode::CREATED, other?)),
        },
    }
}
