//! `DELETE`: preconditions, propagation as finalizers, grace periods.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::body;
use super::super::call::{Call, Reply};
use super::super::definitions;
use super::super::json::{self, seconds, strings, text};
use super::super::kinds::{DEFINITIONS, NAMESPACES};
use super::super::request::dry_run_of;
use super::super::selector::Selector;
use super::super::status::{ApiError, FieldError, Subject};
use super::super::store::{Key, Write};
use super::super::write::{Refused, check_preconditions, commit, retry};

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";
/// Kinds whose deletion is answered with the object, as in Kubernetes; other kinds' with a Status.
const RETURNED: &[&str] = &["persistentvolumeclaims", "pods", "serviceaccounts", "services"];
/// Namespaces that no cluster can be without.
const IMMORTAL: &[&str] = &["default", "kube-system", "kube-public"];

/// `metav1.DeleteOptions`, from the body or the query.
#[derive(Debug, Clone)]
struct DeleteOptions {
    grace_seconds: Option<i64>,
    preconditions: Value,
    propagation: Option<Propagation>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Propagation {
    Orphan,
    Background,
    Foreground,
}

/// Deletes one object.
pub(super) fn delete(call: &mut Call) -> Result<Reply, ApiError> {
    let options = read_options(call)?;
    warn_of_orphans(call, &options);
    let outcome = retry(call, |call| {
        let key = call.key();
        attempt(call, &key, &options)
    })?;
    Ok(match outcome {
        Outcome::Marked(object) => Reply::Object(StatusCode::OK, object),
        Outcome::Removed(object) if RETURNED.contains(&call.resource.storage.as_str()) => {
            Reply::Object(StatusCode::OK, object)
        }
        Outcome::Removed(object) => Reply::Document(StatusCode::OK, success(call, &object)),
    })
}

/// Deletes all selected objects; answers with what they were.
pub(super) fn delete_collection(call: &mut Call) -> Result<Reply, ApiError> {
    if call.resource.storage == NAMESPACES {
        return Err(ApiError::method_not_allowed());
    }
    let options = read_options(call)?;
    warn_of_orphans(call, &options);
    let selector = Selector::parse(&call.resource, &call.options.label_selector, &call.options.field_selector)?;
    let namespace = call.target.namespace.clone();
    let snapshot = call.server.store.list(&call.resource.storage, namespace.as_deref());
    let mut deleted = Vec::new();
    for (key, object) in snapshot.objects {
        if !selector.matches(&object) {
            continue;
        }
        call.target.name = Some(key.name.clone());
        match retry(call, |call| attempt(call, &key, &options)) {
            Ok(Outcome::Marked(object) | Outcome::Removed(object)) => deleted.push(object),
            Err(error) if error.code == StatusCode::NOT_FOUND => {}
            Err(error) => return Err(error),
        }
    }
    call.target.name = None;
    let items: Vec<&Value> = deleted.iter().map(AsRef::as_ref).collect();
    Ok(Reply::Document(
        StatusCode::OK,
        json!({
            "kind": format!("{}List", call.resource.kind), "apiVersion": call.resource.api_version(),
            "metadata": {"resourceVersion": call.server.store.version().to_string()}, "items": items
        }),
    ))
}

enum Outcome {
    /// Finalizers or a grace period hold it.
    Marked(Arc<Value>),
    Removed(Arc<Value>),
}

fn read_options(call: &mut Call) -> Result<DeleteOptions, ApiError> {
    let body = if call.body.is_empty() { json!({}) } else { body::parse(&call.content_type, &call.body)?.value };
    call.options.dry_run |= dry_run_of(strings(&body["dryRun"]), "DeleteOptions")?;
    let policy = body["propagationPolicy"].as_str().or(call.options.propagation_policy.as_deref());
    let orphan = body["orphanDependents"].as_bool().or(call.options.orphan_dependents);
    let propagation = match (policy, orphan) {
        (Some(_), Some(_)) => {
            return Err(ApiError::bad_request("orphanDependents and deletionPropagation cannot be both set"));
        }
        (None, None) => None,
        (None, Some(true)) => Some(Propagation::Orphan),
        (None, Some(false)) => Some(Propagation::Background),
        (Some("Orphan"), None) => Some(Propagation::Orphan),
        (Some("Background"), None) => Some(Propagation::Background),
        (Some("Foreground"), None) => Some(Propagation::Foreground),
        (Some(other), None) => {
            let error = FieldError::unsupported(
                "propagationPolicy",
                &json!(other),
                &["Foreground", "Background", "Orphan", "nil"],
            );
            let subject = Subject { group: "meta.k8s.io", resource: "DeleteOptions", name: "" };
            return Err(ApiError::invalid(subject, &[error]));
        }
    };
    Ok(DeleteOptions {
        grace_seconds: body["gracePeriodSeconds"].as_i64().or(call.options.grace_period_seconds),
        preconditions: body["preconditions"].clone(),
        propagation,
    })
}

fn warn_of_orphans(call: &mut Call, options: &DeleteOptions) {
    if call.resource.storage == "jobs.batch" && options.propagation.is_none() {
        call.warnings.push(
            "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove \
             them or set propagationPolicy=Orphan to suppress this warning"
                .to_owned(),
        );
    }
}

fn attempt(call: &mut Call, key: &Key, options: &DeleteOptions) -> Result<Outcome, Refused> {
    let storage = call.resource.storage.clone();
    let found = call.server.store.get(&storage, key);
    let old = found.ok_or_else(|| ApiError::not_found(call.resource.subject(&key.name)))?;
    check_preconditions(call, &old, &options.preconditions)?;
    if storage == NAMESPACES && IMMORTAL.contains(&key.name.as_str()) {
        return Err(ApiError::forbidden(call.subject(), "this namespace may not be deleted").into());
    }
    let finalizers = finalizers_after(call, &old, options.propagation);
    let grace = grace_of(call, &old, options.grace_seconds);
    let held = !finalizers.is_empty()
        || grace > 0
        || (storage == NAMESPACES && old["spec"]["finalizers"].as_array().is_some_and(|list| !list.is_empty()));
    let mut new = Value::clone(&old);
    if finalizers.is_empty() {
        json::remove(&mut new["metadata"], "finalizers");
    } else {
        new["metadata"]["finalizers"] = json!(finalizers);
    }
    if held {
        mark(call, &mut new, grace);
        if new == *old {
            return Ok(Outcome::Marked(old));
        }
        let marked = commit(call, key, Some(&old), Write::Put(new))?;
        if storage == DEFINITIONS && !call.options.dry_run {
            definitions::delete_instances(&call.server, &key.name)?;
        }
        return Ok(Outcome::Marked(marked));
    }
    let removed = commit(call, key, Some(&old), Write::Remove(new))?;
    Ok(Outcome::Removed(removed))
}

/// Notes the deletion on an object that lives on for a while.
fn mark(call: &Call, object: &mut Value, grace: i64) {
    let metadata = &mut object["metadata"];
    if metadata.get("deletionTimestamp").is_none() {
        let wait = Duration::from_secs(u64::try_from(grace).unwrap_or(0));
        metadata["deletionTimestamp"] = json!(seconds(Timestamp::now() + wait));
        metadata["deletionGracePeriodSeconds"] = json!(grace);
        if let Some(generation) = metadata["generation"].as_i64() {
            metadata["generation"] = json!(generation + 1);
        }
    } else if grace < metadata["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) {
        metadata["deletionGracePeriodSeconds"] = json!(grace);
    }
    if call.resource.storage == NAMESPACES {
        object["status"]["phase"] = json!("Terminating");
    }
}

/// Propagation is recorded as finalizers, on which the garbage collector acts.
fn finalizers_after(call: &Call, old: &Value, asked: Option<Propagation>) -> Vec<String> {
    let existing: Vec<&str> = strings(&old["metadata"]["finalizers"]).collect();
    let by_default = match call.resource.storage.as_str() {
        "jobs.batch" => Propagation::Orphan,
        _ => Propagation::Background,
    };
    let effective = asked.unwrap_or(if existing.contains(&ORPHAN) {
        Propagation::Orphan
    } else if existing.contains(&FOREGROUND) {
        Propagation::Foreground
    } else {
        by_default
    });
    let rest = existing.iter().filter(|name| !matches!(**name, ORPHAN | FOREGROUND));
    let mut finalizers: Vec<String> = rest.map(|name| (*name).to_owned()).collect();
    match effective {
        Propagation::Orphan => finalizers.push(ORPHAN.to_owned()),
        Propagation::Foreground => finalizers.push(FOREGROUND.to_owned()),
        Propagation::Background => {}
    }
    let key_name = text(&old["metadata"]["name"]).to_owned();
    if call.resource.storage == DEFINITIONS
        && definitions::has_instances(&call.server, &key_name)
        && !finalizers.iter().any(|name| name == definitions::CLEANUP)
    {
        finalizers.push(definitions::CLEANUP.to_owned());
    }
    finalizers
}

/// Seconds that the object is given. Only pods on a node need any: their kubelet confirms the end with grace 0.
fn grace_of(call: &Call, old: &Value, asked: Option<i64>) -> i64 {
    let on_node = !text(&old["spec"]["nodeName"]).is_empty();
    let finished = matches!(text(&old["status"]["phase"]), "Succeeded" | "Failed");
    if call.resource.storage != "pods" || !on_node || finished {
        return 0;
    }
    let pending = old["metadata"]["deletionGracePeriodSeconds"].as_i64();
    let own = old["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or(30);
    let grace = asked.or(pending).unwrap_or(own).max(0);
    // A deletion under way can be hastened, never delayed.
    pending.map_or(grace, |pending| grace.min(pending))
}

fn success(call: &Call, object: &Value) -> Value {
    let mut details = json!({
        "name": call.name(), "kind": call.resource.plural, "uid": object["metadata"]["uid"]
    });
    if !call.resource.group.is_empty() {
        details["group"] = json!(call.resource.group);
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}
