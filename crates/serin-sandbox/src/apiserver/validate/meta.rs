//! ObjectMeta: names, labels, annotations, owners, finalizers.

use serde_json::Value;

use super::super::json::{strings, text};
use super::super::kinds::Resource;
use super::super::status::FieldError;
use super::names;

/// All annotations of an object together, as in Kubernetes.
const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;

/// Finalizers without a domain that built-in kinds may carry.
const STANDARD_FINALIZERS: [&str; 3] = ["foregroundDeletion", "kubernetes", "orphan"];

/// What is wrong with an object's metadata.
pub(super) fn validate(resource: &Resource, object: &Value) -> Vec<FieldError> {
    let metadata = &object["metadata"];
    let mut errors = Vec::new();
    validate_name(resource, metadata, &mut errors);
    validate_labels(&metadata["labels"], "metadata.labels", &mut errors);
    validate_annotations(&metadata["annotations"], "metadata.annotations", &mut errors);
    validate_owners(&metadata["ownerReferences"], &mut errors);
    for (index, finalizer) in strings(&metadata["finalizers"]).enumerate() {
        if let Some(why) = names::qualified_name(finalizer) {
            errors.push(FieldError::invalid("metadata.finalizers", &Value::from(finalizer), why));
        } else if !resource.is_custom() && !finalizer.contains('/') && !STANDARD_FINALIZERS.contains(&finalizer) {
            let why = "name is neither a standard finalizer name nor is it fully qualified";
            errors.push(FieldError::invalid(
                format!("metadata.finalizers[{index}]"),
                &Value::from(finalizer),
                why,
            ));
        }
    }
    errors
}

/// What is wrong with the metadata of any object; its name is judged where the kind is one of a definition.
pub(super) fn of_any(metadata: &Value, is_custom: bool) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let problem = names::dns_subdomain(text(&metadata["name"])).filter(|_| is_custom);
    errors.extend(problem.map(|why| FieldError::invalid("metadata.name", &metadata["name"], why)));
    validate_labels(&metadata["labels"], "metadata.labels", &mut errors);
    validate_annotations(&metadata["annotations"], "metadata.annotations", &mut errors);
    errors
}

fn validate_name(resource: &Resource, metadata: &Value, errors: &mut Vec<FieldError>) {
    let name = text(&metadata["name"]);
    if name.is_empty() {
        errors.push(FieldError::required("metadata.name", "name or generateName is required"));
        return;
    }
    let problem = match resource.storage.as_str() {
        "namespaces" => names::dns_label(name),
        // Since 1.36 a name may begin with a digit.
        "services" => names::dns_label(name),
        storage if storage.ends_with(".rbac.authorization.k8s.io") => names::path_segment(name),
        _ => names::dns_subdomain(name),
    };
    if let Some(why) = problem {
        errors.push(FieldError::invalid("metadata.name", &metadata["name"], why));
    }
}

/// Labels, of an object or of a template.
pub(super) fn validate_labels(labels: &Value, path: &str, errors: &mut Vec<FieldError>) {
    for (key, value) in labels.as_object().into_iter().flatten() {
        if let Some(why) = names::qualified_name(key) {
            errors.push(FieldError::invalid(path, &Value::from(key.as_str()), why));
        }
        if let Some(why) = names::label_value(text(value)) {
            errors.push(FieldError::invalid(path, value, why));
        }
    }
}

fn validate_annotations(annotations: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let mut size = 0;
    for (key, value) in annotations.as_object().into_iter().flatten() {
        if let Some(why) = names::qualified_name(&key.to_lowercase()) {
            errors.push(FieldError::invalid(path, &Value::from(key.as_str()), why));
        }
        size += key.len() + text(value).len();
    }
    if size > ANNOTATIONS_BYTES_MAX {
        let problem =
            super::super::status::Problem::TooLong(format!("may not be more than {ANNOTATIONS_BYTES_MAX} bytes"));
        errors.push(FieldError { path: path.to_owned(), problem });
    }
}

fn validate_owners(owners: &Value, errors: &mut Vec<FieldError>) {
    let list = owners.as_array().map_or(&[][..], Vec::as_slice);
    for (index, owner) in list.iter().enumerate() {
        for name in ["apiVersion", "kind", "name", "uid"] {
            if text(&owner[name]).is_empty() {
                let path = format!("metadata.ownerReferences[{index}].{name}");
                errors.push(FieldError::invalid(path, &owner[name], "must not be empty"));
            }
        }
    }
    if list.iter().filter(|owner| owner["controller"] == Value::Bool(true)).count() > 1 {
        let why = "Only one reference can have Controller set to true";
        errors.push(FieldError::invalid("metadata.ownerReferences", owners, why));
    }
}

/// An object that is being deleted takes no new finalizers.
pub(in super::super) fn finalizers_added_late(old: &Value, new: &Value) -> Option<FieldError> {
    old["metadata"].get("deletionTimestamp")?;
    let had: Vec<&str> = strings(&old["metadata"]["finalizers"]).collect();
    let added: Vec<&str> = strings(&new["metadata"]["finalizers"]).filter(|name| !had.contains(name)).collect();
    (!added.is_empty()).then(|| {
        FieldError::forbidden(
            "metadata.finalizers",
            format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers {added:?}"
            ),
        )
    })
}
