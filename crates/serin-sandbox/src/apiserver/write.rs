//! The one path of every write: decode, prepare, own, validate, commit.

use std::sync::Arc;

use serde_json::{Value, json};

use super::body::{self, Document};
use super::call::Call;
use super::json::{drop_nulls, now, remove, text};
use super::kinds::{DEFINITIONS, NAMESPACES};
use super::managed::{self, Manager};
use super::prune::prune;
use super::quantity::canonicalize;
use super::schema::{self, Schema};
use super::status::ApiError;
use super::store::{Key, Write};
use super::validate::check_types;
use super::{convert, default, defaults, definitions, strategy};

/// Attempts of a write that names no resourceVersion and keeps losing to others, as in a real server's patch handler.
const ATTEMPTS_MAX: u32 = 16;
/// Longest request that etcd takes (its default `--max-request-bytes`, 1.5 MiB). Stored here is JSON, there protobuf for
/// built-in kinds, which is a little shorter.
const STORED_BYTES_MAX: usize = 1_572_864;
/// Random characters after `generateName`.
const SUFFIX_LEN: usize = 5;
/// Without vowels and look-alikes, as Kubernetes chooses them.
const SUFFIX_ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Why a write did not happen.
#[derive(Debug)]
pub(super) enum Refused {
    /// Somebody else wrote first; worth another attempt on what is stored now.
    Lost,
    /// For good.
    Api(ApiError),
}

impl From<ApiError> for Refused {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

/// Who owns the written fields.
pub(super) enum Ownership {
    /// The caller owns what it changes.
    Changes,
    /// A server-side apply has computed these `managedFields`.
    Applied(Value),
}

/// Attempts a write until it is not lost to others.
pub(super) fn retry<T>(
    call: &mut Call,
    mut attempt: impl FnMut(&mut Call) -> Result<T, Refused>,
) -> Result<T, ApiError> {
    for _ in 0..ATTEMPTS_MAX {
        match attempt(call) {
            Ok(done) => return Ok(done),
            Err(Refused::Lost) => {}
            Err(Refused::Api(error)) => return Err(error),
        }
    }
    Err(ApiError::stale(call.subject()))
}

/// Reads the object in a request's body; see [`decode`].
pub(super) fn decode_body(call: &mut Call) -> Result<Value, ApiError> {
    let document = body::parse(&call.content_type, &call.body)?;
    decode(call, document)
}

/// Turns a submitted document into an object in stored form: unknown fields dropped, defaults filled.
pub(super) fn decode(call: &mut Call, document: Document) -> Result<Value, ApiError> {
    let Document { mut value, duplicates } = document;
    check_type(call, &value)?;
    drop_unknown(call, &mut value, &duplicates)?;
    prepare_decoded(call, value)
}

/// Drops fields that the schema does not know, and reports them as `fieldValidation` says.
pub(super) fn drop_unknown(call: &mut Call, value: &mut Value, duplicates: &[String]) -> Result<(), ApiError> {
    let unknown = prune(value, call.resource.schema());
    let mut problems: Vec<String> = unknown.iter().map(|path| format!("unknown field \"{path}\"")).collect();
    problems.extend(duplicates.iter().map(|path| format!("duplicate field \"{path}\"")));
    body::report(call, problems)
}

/// Types checked, defaults filled, in stored form.
pub(super) fn prepare_decoded(call: &Call, mut value: Value) -> Result<Value, ApiError> {
    let resource = &call.resource;
    if resource.is_custom() {
        if let Some(metadata) = value.get_mut("metadata") {
            drop_nulls(metadata);
        }
        check_types(&value, resource)?;
        default::fill(&mut value, resource.schema());
    } else {
        drop_nulls(&mut value);
        check_types(&value, resource)?;
        canonicalize(&mut value, resource.schema());
    }
    let mut value = convert::to_storage(resource, value);
    if !value["metadata"].is_object() {
        value["metadata"] = json!({});
    }
    defaults::fill(resource, &mut value);
    Ok(value)
}

/// Who writes, for `managedFields`.
pub(super) fn manager_of(call: &Call) -> Manager {
    Manager {
        name: call.manager(),
        api_version: call.resource.api_version(),
        subresource: call.subresource().to_owned(),
        has_status: call.resource.has_status,
    }
}

/// The schema of stored objects.
fn storage_schema(call: &Call) -> Schema<'_> {
    let core_event = || schema::named("io.k8s.api.core.v1.Event");
    let renamed = call.resource.group == "events.k8s.io";
    renamed.then(core_event).flatten().unwrap_or_else(|| call.resource.schema())
}

/// The body must be of the kind that the path names.
pub(super) fn check_type(call: &Call, value: &Value) -> Result<(), ApiError> {
    let resource = &call.resource;
    if !value.is_object() {
        return Err(ApiError::bad_request("the object provided is unrecognized: it is not a JSON object"));
    }
    let (api_version, kind) = (text(&value["apiVersion"]), text(&value["kind"]));
    if kind.is_empty() {
        return Err(ApiError::bad_request("Object 'Kind' is missing in the body of the request"));
    }
    if kind != resource.kind || api_version != resource.api_version() {
        return Err(ApiError::bad_request(format!(
            "{kind} in version \"{api_version}\" cannot be handled as a {}: no kind \"{kind}\" is registered for \
             version \"{api_version}\" at this path, which serves {}",
            resource.kind,
            resource.api_version()
        )));
    }
    Ok(())
}

/// Stores a new object.
pub(super) fn insert(call: &mut Call, mut object: Value, ownership: Ownership) -> Result<Arc<Value>, Refused> {
    let resource = Arc::clone(&call.resource);
    name_new(call, &mut object)?;
    let name = text(&object["metadata"]["name"]).to_owned();
    let key = Key { namespace: call.namespace().to_owned(), name };
    // Read again below: losing the race against the namespace's deletion leaves an object that its controller collects.
    namespace_takes_content(call, &key)?;
    let metadata = &mut object["metadata"];
    for name in ["resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
        remove(metadata, name);
    }
    metadata["uid"] = json!(new_uid());
    metadata["creationTimestamp"] = json!(now());
    strategy::prepare_create(call, &mut object)?;
    own(call, None, &mut object, ownership);
    strategy::validate_create(call, &object).map_err(Refused::Api)?;
    if call.server.store.get(&resource.storage, &key).is_some() {
        return Err(ApiError::already_exists(resource.subject(&key.name)).into());
    }
    commit(call, &key, None, Write::Put(object))
}

fn name_new(call: &Call, object: &mut Value) -> Result<(), ApiError> {
    let metadata = &mut object["metadata"];
    if !text(&metadata["resourceVersion"]).is_empty() {
        return Err(ApiError::bad_request("resourceVersion should not be set on objects to be created"));
    }
    if call.resource.namespaced && call.target.namespace.is_none() {
        return Err(ApiError::bad_request("an empty namespace may not be set during creation"));
    }
    match (text(&metadata["namespace"]), call.resource.namespaced) {
        ("", true) => metadata["namespace"] = json!(call.namespace()),
        ("", false) => {}
        (own, true) if own == call.namespace() => {}
        (own, _) => {
            tracing::debug!(own, asked = call.namespace(), "an object of another namespace");
            return Err(ApiError::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
    }
    let prefix = text(&metadata["generateName"]).to_owned();
    if text(&metadata["name"]).is_empty() && !prefix.is_empty() {
        metadata["name"] = json!(format!("{prefix}{}", random_suffix()));
    }
    Ok(())
}

fn random_suffix() -> String {
    let pick = || SUFFIX_ALPHABET.get(fastrand::usize(..SUFFIX_ALPHABET.len())).copied().unwrap_or(b'x');
    (0..SUFFIX_LEN).map(|_| char::from(pick())).collect()
}

/// A random (version 4) UUID.
pub(super) fn new_uid() -> String {
    let bits = (fastrand::u128(..) & !(0xf << 76) & !(0b11 << 62)) | (0x4 << 76) | (0b10 << 62);
    let hex = format!("{bits:032x}");
    [0..8, 8..12, 12..16, 16..20, 20..32].map(|range| hex.get(range).unwrap_or_default().to_owned()).join("-")
}

fn namespace_takes_content(call: &Call, key: &Key) -> Result<(), ApiError> {
    if !call.resource.namespaced {
        return Ok(());
    }
    let space = Key { namespace: String::new(), name: key.namespace.clone() };
    match call.server.store.get(NAMESPACES, &space) {
        None => Err(ApiError::not_found(super::status::Subject {
            group: "",
            resource: NAMESPACES,
            name: &key.namespace,
        })),
        Some(found) if found["metadata"].get("deletionTimestamp").is_some() => {
            Err(ApiError::namespace_terminating(call.resource.subject(&key.name), &key.namespace))
        }
        Some(_) => Ok(()),
    }
}

/// Stores a new state of an object, or removes it when nothing holds it any more.
pub(super) fn replace(
    call: &mut Call,
    old: &Arc<Value>,
    mut new: Value,
    ownership: Ownership,
) -> Result<Arc<Value>, Refused> {
    check_preconditions(call, old, &new["metadata"])?;
    keep_metadata(call, old, &mut new)?;
    strategy::prepare_update(call, old, &mut new)?;
    own(call, Some(old), &mut new, ownership);
    strategy::validate_update(call, old, &new)?;
    let key = Key { namespace: text(&old["metadata"]["namespace"]).to_owned(), name: call.name().to_owned() };
    if is_released(call, &new) {
        return commit(call, &key, Some(old), Write::Remove(new));
    }
    if new == **old {
        return Ok(Arc::clone(old));
    }
    commit(call, &key, Some(old), Write::Put(new))
}

/// A given resourceVersion or uid must be the stored one.
pub(super) fn check_preconditions(call: &Call, old: &Value, given: &Value) -> Result<(), ApiError> {
    let (uid, version) = (text(&given["uid"]), text(&given["resourceVersion"]));
    let stored = text(&old["metadata"]["uid"]);
    if !uid.is_empty() && uid != stored {
        let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {stored}");
        return Err(ApiError::conflict(call.subject(), &why));
    }
    if !version.is_empty() && version != "0" && version != text(&old["metadata"]["resourceVersion"]) {
        return Err(ApiError::stale(call.subject()));
    }
    Ok(())
}

/// What a client cannot change is taken from the stored object.
fn keep_metadata(call: &Call, old: &Value, new: &mut Value) -> Result<(), ApiError> {
    let metadata = &mut new["metadata"];
    for (name, own) in [("name", call.name()), ("namespace", call.namespace())] {
        let given = text(&metadata[name]);
        if !given.is_empty() && given != own {
            return Err(ApiError::bad_request(format!(
                "the {name} of the object ({given}) does not match the {name} on the URL ({own})"
            )));
        }
    }
    for name in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "generation",
        "resourceVersion",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generateName",
    ] {
        match old["metadata"].get(name) {
            Some(value) => metadata[name] = value.clone(),
            None => {
                remove(metadata, name);
            }
        }
    }
    Ok(())
}

/// Deleted, and no finalizer is left.
fn is_released(call: &Call, object: &Value) -> bool {
    let metadata = &object["metadata"];
    let none = |list: &Value| list.as_array().is_none_or(Vec::is_empty);
    metadata.get("deletionTimestamp").is_some()
        && none(&metadata["finalizers"])
        && metadata["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) == 0
        && (call.resource.storage != NAMESPACES || none(&object["spec"]["finalizers"]))
}

fn own(call: &Call, old: Option<&Value>, new: &mut Value, ownership: Ownership) {
    let list = match ownership {
        Ownership::Applied(list) => list,
        Ownership::Changes => {
            let none = json!({});
            managed::after_update(Some(storage_schema(call)), old.unwrap_or(&none), new, &manager_of(call))
        }
    };
    if list.as_array().is_some_and(Vec::is_empty) {
        remove(&mut new["metadata"], "managedFields");
    } else {
        new["metadata"]["managedFields"] = list;
    }
}

/// Stores or removes, unless the request is a dry run.
pub(super) fn commit(
    call: &Call,
    key: &Key,
    old: Option<&Arc<Value>>,
    write: Write,
) -> Result<Arc<Value>, Refused> {
    if call.options.dry_run {
        return Ok(Arc::new(match write {
            Write::Put(object) | Write::Remove(object) => object,
        }));
    }
    if let Write::Put(object) = &write
        && object.to_string().len() > STORED_BYTES_MAX
    {
        return Err(ApiError::unexplained("etcdserver: request is too large").into());
    }
    let storage = &call.resource.storage;
    let removes = matches!(write, Write::Remove(_));
    let stored = call.server.store.commit(storage, key, old, write).map_err(|_lost| Refused::Lost)?;
    if removes && call.resource.is_custom() {
        // Definitions are named like the storage of their objects.
        definitions::release(&call.server, storage);
    }
    if storage == DEFINITIONS {
        call.server.refresh_catalog();
    }
    Ok(stored)
}
