//! CustomResourceDefinitions: what they define, their conditions, and what is wrong with them.

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::json::{now, text};
use super::super::schema::OBJECT_META;
use super::super::status::FieldError;
use super::{Origin, Resource, ScalePaths, api_version, storage_name};

/// A printer column.
#[derive(Debug, Clone)]
pub(in super::super) struct Column {
    pub(in super::super) name: String,
    pub(in super::super) kind: String,
    pub(in super::super) json_path: String,
    pub(in super::super) description: String,
    /// Above 0 only with `-o wide`.
    pub(in super::super) priority: i64,
}

/// The resources that a definition serves, one per served version.
pub(in super::super) fn resources_of(definition: &Value) -> Vec<Resource> {
    let spec = &definition["spec"];
    let versions = spec["versions"].as_array().map_or(&[][..], Vec::as_slice);
    let storage = versions.iter().find(|version| version["storage"] == json!(true));
    let storage_version = storage.map_or("", |version| text(&version["name"]));
    let served = versions.iter().filter(|version| version["served"] == json!(true));
    served.map(|version| resource_of(spec, version, storage_version)).collect()
}

fn resource_of(spec: &Value, version: &Value, storage_version: &str) -> Resource {
    let group = text(&spec["group"]);
    let names = &spec["names"];
    let strings = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(Value::as_str).map(ToOwned::to_owned).collect()
    };
    let plural = text(&names["plural"]);
    let kind = text(&names["kind"]);
    let singular = names["singular"].as_str().map_or_else(|| kind.to_lowercase(), ToOwned::to_owned);
    let scale = &version["subresources"]["scale"];
    Resource {
        group: group.to_owned(),
        version: text(&version["name"]).to_owned(),
        plural: plural.to_owned(),
        singular,
        kind: kind.to_owned(),
        short_names: strings(&names["shortNames"]),
        categories: strings(&names["categories"]),
        namespaced: spec["scope"] == "Namespaced",
        has_status: version["subresources"].get("status").is_some(),
        scale: scale.is_object().then(|| ScalePaths {
            spec_replicas: field_path(text(&scale["specReplicasPath"])),
            status_replicas: field_path(text(&scale["statusReplicasPath"])),
            selector: scale["labelSelectorPath"].as_str().map(field_path),
        }),
        schema: Arc::new(object_schema(&version["schema"]["openAPIV3Schema"])),
        storage: storage_name(group, plural),
        storage_api_version: api_version(group, storage_version),
        origin: Origin::Custom { columns: columns(&version["additionalPrinterColumns"]) },
    }
}

/// The version's schema, with the fields that every object has.
fn object_schema(schema: &Value) -> Value {
    let mut schema = if schema.is_object() { schema.clone() } else { json!({"type": "object"}) };
    schema["properties"]["metadata"] = json!({"$ref": OBJECT_META});
    for name in ["apiVersion", "kind"] {
        schema["properties"][name] = json!({"type": "string"});
    }
    schema
}

fn field_path(path: &str) -> Vec<String> {
    path.split('.').filter(|part| !part.is_empty()).map(ToOwned::to_owned).collect()
}

fn columns(list: &Value) -> Vec<Column> {
    let Some(list) = list.as_array().filter(|list| !list.is_empty()) else {
        return vec![Column {
            name: "Age".into(),
            kind: "date".into(),
            json_path: ".metadata.creationTimestamp".into(),
            description: "Creation time of the object.".into(),
            priority: 0,
        }];
    };
    list.iter()
        .map(|column| Column {
            name: text(&column["name"]).to_owned(),
            kind: text(&column["type"]).to_owned(),
            json_path: text(&column["jsonPath"]).to_owned(),
            description: text(&column["description"]).to_owned(),
            priority: column["priority"].as_i64().unwrap_or(0),
        })
        .collect()
}

/// Orders versions as Kubernetes does: GA, beta, alpha, each newest first; other names last, alphabetically.
pub(in super::super) fn version_priority(name: &str) -> (u8, u64, u64, std::cmp::Reverse<String>) {
    let other = || (0, 0, 0, std::cmp::Reverse(name.to_owned()));
    let Some(rest) = name.strip_prefix('v') else { return other() };
    let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (major, stage) = rest.split_at(digits);
    let Ok(major) = major.parse::<u64>() else { return other() };
    let staged = |prefix: &str| stage.strip_prefix(prefix).and_then(|minor| minor.parse::<u64>().ok());
    let none = std::cmp::Reverse(String::new());
    match (stage, staged("beta"), staged("alpha")) {
        ("", _, _) => (3, major, 0, none),
        (_, Some(minor), _) => (2, major, minor, none),
        (_, None, Some(minor)) => (1, major, minor, none),
        (_, None, None) => other(),
    }
}

/// Fills what the API server fills: singular, list kind, conversion, and the status with its conditions.
pub(in super::super) fn prepare_definition(definition: &mut Value) {
    let names = &mut definition["spec"]["names"];
    let kind = text(&names["kind"]).to_owned();
    if text(&names["singular"]).is_empty() {
        names["singular"] = json!(kind.to_lowercase());
    }
    if text(&names["listKind"]).is_empty() {
        names["listKind"] = json!(format!("{kind}List"));
    }
    if definition["spec"]["conversion"].is_null() {
        definition["spec"]["conversion"] = json!({"strategy": "None"});
    }
    let storage = definition["spec"]["versions"]
        .as_array()
        .into_iter()
        .flatten()
        .find_map(|version| (version["storage"] == json!(true)).then(|| version["name"].clone()));
    let mut stored = definition["status"]["storedVersions"].as_array().cloned().unwrap_or_default();
    if let Some(storage) = storage
        && !stored.contains(&storage)
    {
        stored.push(storage);
    }
    let names = definition["spec"]["names"].clone();
    if !definition["status"]["conditions"].is_array() {
        let time = now();
        let condition = |kind: &str, reason: &str, message: &str| {
            json!({
                "type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": time
            })
        };
        definition["status"]["conditions"] = json!([
            condition("NamesAccepted", "NoConflicts", "no conflicts found"),
            condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
        ]);
    }
    definition["status"]["acceptedNames"] = names;
    definition["status"]["storedVersions"] = Value::Array(stored);
}

/// What is wrong with a definition.
pub(in super::super) fn validate_definition(definition: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = &definition["spec"];
    let (group, plural) = (text(&spec["group"]), text(&spec["names"]["plural"]));
    for (path, value) in
        [("spec.group", group), ("spec.names.plural", plural), ("spec.names.kind", text(&spec["names"]["kind"]))]
    {
        if value.is_empty() {
            errors.push(FieldError::required(path, ""));
        }
    }
    let name = &definition["metadata"]["name"];
    if text(name) != format!("{plural}.{group}") {
        let why = format!("must be spec.names.plural+\".\"+spec.group: expected \"{plural}.{group}\"");
        errors.push(FieldError::invalid("metadata.name", name, why));
    }
    if !matches!(text(&spec["scope"]), "Namespaced" | "Cluster") {
        errors.push(FieldError::unsupported("spec.scope", &spec["scope"], &["Cluster", "Namespaced"]));
    }
    if spec["conversion"]["strategy"] != "None" {
        errors.push(FieldError::unsupported(
            "spec.conversion.strategy",
            &spec["conversion"]["strategy"],
            &["None"],
        ));
    }
    validate_versions(&spec["versions"], &mut errors);
    errors
}

fn validate_versions(versions: &Value, errors: &mut Vec<FieldError>) {
    let list = versions.as_array().map_or(&[][..], Vec::as_slice);
    let storage = list.iter().filter(|version| version["storage"] == json!(true)).count();
    if storage != 1 {
        errors.push(FieldError::invalid(
            "spec.versions",
            versions,
            "must have exactly one version marked as storage version",
        ));
    }
    for (index, version) in list.iter().enumerate() {
        let schema = &version["schema"]["openAPIV3Schema"];
        let path = format!("spec.versions[{index}].schema.openAPIV3Schema");
        if schema.is_null() {
            errors.push(FieldError::required(path.as_str(), "schemas are required"));
        } else if schema["type"] != "object" {
            let why = "must be object at the root";
            errors.push(FieldError::invalid(format!("{path}.type"), &schema["type"], why));
        }
        validate_patterns(schema, &path, errors);
    }
}

/// Patterns must compile, or they would check nothing.
fn validate_patterns(schema: &Value, path: &str, errors: &mut Vec<FieldError>) {
    match schema {
        Value::Object(map) => {
            for (name, node) in map {
                let path = format!("{path}.{name}");
                match node.as_str().filter(|_| name == "pattern").map(regex::Regex::new) {
                    Some(Err(error)) => errors.push(FieldError::invalid(path, node, error.to_string())),
                    Some(Ok(_)) => {}
                    None => validate_patterns(node, &path, errors),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| validate_patterns(item, path, errors)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_versions_as_kubernetes_does() {
        let mut names = vec!["v1alpha1", "foo", "v2", "v1beta2", "v10", "v1"];
        names.sort_by_key(|name| std::cmp::Reverse(version_priority(name)));
        assert_eq!(names, ["v10", "v2", "v1", "v1beta2", "v1alpha1", "foo"]);
    }
}
