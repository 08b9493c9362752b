//! Get, list and the start of watches.

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};

use super::super::call::{Call, Reply};
use super::super::represent::{Representation, represent_list};
use super::super::selector::Selector;
use super::super::status::ApiError;
use super::super::store::{Compacted, Key, Snapshot};
use super::super::watch::{Start, WatchSpec};

/// `GET` of one object.
pub(super) fn get(call: &Call) -> Result<Reply, ApiError> {
    let asked = version_of(&call.options.resource_version)?;
    not_from_the_future(call, asked)?;
    Ok(Reply::Object(StatusCode::OK, call.stored()?))
}

/// `GET` of a collection, also with `watch`.
pub(super) fn list(call: &Call) -> Result<Reply, ApiError> {
    let selector = Selector::parse(&call.resource, &call.options.label_selector, &call.options.field_selector)?;
    if call.options.watch {
        return watch(call, selector);
    }
    let namespace = call.target.namespace.as_deref();
    let (snapshot, after) = snapshot(call, namespace)?;
    let Page { objects, next, remaining } = page(call, snapshot.objects, after.as_ref(), &selector);
    let mut metadata = json!({"resourceVersion": snapshot.version.to_string()});
    if let Some(key) = next {
        metadata["continue"] = json!(continue_token(snapshot.version, &key));
        // With a selector the real server does not count what it has not looked at.
        if selector.is_empty() {
            metadata["remainingItemCount"] = json!(remaining);
        }
    }
    let representation = Representation::new(call.form, &call.options);
    let document = represent_list(&call.resource, &objects, representation, &metadata);
    Ok(Reply::Document(StatusCode::OK, document))
}

/// `GET` of one object with `watch`, which is a watch of its name.
pub(super) fn watch_one(call: &Call) -> Result<Reply, ApiError> {
    let fields = format!("metadata.name={}", call.name());
    let selector = Selector::parse(&call.resource, &call.options.label_selector, &fields)?;
    watch(call, selector)
}

fn watch(call: &Call, selector: Selector) -> Result<Reply, ApiError> {
    let start = watch_start(call)?;
    let spec = WatchSpec {
        server: Arc::clone(&call.server),
        resource: Arc::clone(&call.resource),
        namespace: call.target.namespace.clone(),
        selector,
        representation: Representation::new(call.form, &call.options),
        bookmarks: call.options.allow_bookmarks,
        timeout_seconds: call.options.timeout_seconds,
    };
    Ok(Reply::Watch(Box::new(spec), start))
}

fn watch_start(call: &Call) -> Result<Start, ApiError> {
    let version = version_of(&call.options.resource_version)?;
    let matching = call.options.resource_version_match.as_str();
    match call.options.send_initial_events {
        None if !matching.is_empty() => Err(ApiError::bad_request(
            "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        )),
        Some(_) if matching != "NotOlderThan" => {
            Err(ApiError::bad_request("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"))
        }
        Some(true) => {
            not_from_the_future(call, version)?;
            Ok(Start::InitialEvents)
        }
        Some(false) => Ok(Start::After(version.unwrap_or_else(|| call.server.store.version()))),
        None => match version {
            None | Some(0) => Ok(Start::Current),
            Some(version) => {
                // Told at once rather than as the first event: clients handle both, and this one is cheaper.
                match call.server.store.changes_since(&call.resource.storage, version) {
                    Ok(_) => Ok(Start::After(version)),
                    Err(Compacted { oldest }) => {
                        Err(ApiError::expired(format!("too old resource version: {version} ({oldest})")))
                    }
                }
            }
        },
    }
}

/// A resourceVersion parameter; `None` if it is not set.
fn version_of(text: &str) -> Result<Option<u64>, ApiError> {
    if text.is_empty() {
        return Ok(None);
    }
    let parsed = text.parse().map(Some);
    parsed.map_err(|_error| ApiError::bad_request(format!("invalid resource version: \"{text}\"")))
}

fn not_from_the_future(call: &Call, version: Option<u64>) -> Result<(), ApiError> {
    let current = call.server.store.version();
    match version {
        Some(asked) if asked > current => Err(ApiError::too_large_resource_version(asked, current)),
        Some(_) | None => Ok(()),
    }
}

/// The objects to list, and the key after which to go on.
fn snapshot(call: &Call, namespace: Option<&str>) -> Result<(Snapshot, Option<Key>), ApiError> {
    let store = &call.server.store;
    let storage = &call.resource.storage;
    if !call.options.continue_token.is_empty() {
        let (version, key) = parse_continue(&call.options.continue_token)
            .ok_or_else(|| ApiError::bad_request("continue key is not valid"))?;
        let snapshot = store.list_at(storage, namespace, version).map_err(|Compacted { .. }| {
            ApiError::expired(
                "The provided continue parameter is too old to display a consistent list result. You must start a \
                 new list without the continue parameter.",
            )
        })?;
        return Ok((snapshot, Some(key)));
    }
    let version = version_of(&call.options.resource_version)?;
    not_from_the_future(call, version)?;
    match (call.options.resource_version_match.as_str(), version) {
        ("Exact", None | Some(0)) => Err(ApiError::bad_request(
            "resourceVersionMatch \"Exact\" is forbidden for an unset resourceVersion or \"0\"",
        )),
        ("Exact", Some(version)) => {
            let snapshot = store.list_at(storage, namespace, version).map_err(|Compacted { oldest }| {
                ApiError::expired(format!(
                    "The resourceVersion for the provided list is too old: {version} ({oldest})"
                ))
            })?;
            Ok((snapshot, None))
        }
        ("NotOlderThan", None) => {
            Err(ApiError::bad_request("resourceVersionMatch is forbidden unless resourceVersion is provided"))
        }
        ("" | "NotOlderThan", _) => Ok((store.list(storage, namespace), None)),
        (other, _) => Err(ApiError::bad_request(format!("resourceVersionMatch: unsupported value \"{other}\""))),
    }
}

struct Page {
    objects: Vec<Arc<Value>>,
    /// The last key shown, if there is more.
    next: Option<Key>,
    remaining: usize,
}

fn page(call: &Call, objects: Vec<(Key, Arc<Value>)>, after: Option<&Key>, selector: &Selector) -> Page {
    let mut selected: Vec<(Key, Arc<Value>)> = objects
        .into_iter()
        .filter(|(key, object)| after.is_none_or(|after| key > after) && selector.matches(object))
        .collect();
    let total = selected.len();
    let shown = call.options.limit.unwrap_or(total).min(total);
    selected.truncate(shown);
    let next = if shown < total { selected.last().map(|(key, _)| key.clone()) } else { None };
    let objects = selected.into_iter().map(|(_, object)| object).collect();
    Page { objects, next, remaining: total - shown }
}

fn continue_token(version: u64, key: &Key) -> String {
    format!("v1:{version}:{}/{}", key.namespace, key.name)
}

fn parse_continue(token: &str) -> Option<(u64, Key)> {
    let (version, key) = token.strip_prefix("v1:")?.split_once(':')?;
    let (namespace, name) = key.split_once('/')?;
    Some((version.parse().ok()?, Key { namespace: namespace.to_owned(), name: name.to_owned() }))
}
