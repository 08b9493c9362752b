//! `/openapi/v3`: a document per group version, from the same schemas that the server works with.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::kinds::{Catalog, Resource, api_version};
use super::schema::types;

/// Prefix of references in version 3.
const SCHEMAS: &str = "#/components/schemas/";
/// Names of types that every document needs.
const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";
const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";
const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";
const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";
/// Hexadecimal characters of a document's hash in its URL; it only has to change when the document does.
const HASH_LEN: usize = 32;

/// `/openapi/v3`: where the documents are.
pub(super) fn index(catalog: &Catalog) -> Value {
    catalog.openapi_index(|| make_index(catalog)).clone()
}

fn make_index(catalog: &Catalog) -> Value {
    let mut paths = Map::new();
    for (group, versions) in catalog.groups() {
        for version in versions {
            let Some(document) = document(catalog, group, version) else { continue };
            let path = document_path(group, version);
            let hash: String =
                Sha256::digest(document.to_string()).iter().map(|byte| format!("{byte:02X}")).collect();
            let hash = hash.get(..HASH_LEN).unwrap_or(&hash);
            paths.insert(path.clone(), json!({"serverRelativeURL": format!("/openapi/v3/{path}?hash={hash}")}));
        }
    }
    json!({ "paths": paths })
}

fn document_path(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

/// `/openapi/v3/apis/G/V`.
pub(super) fn document(catalog: &Catalog, group: &str, version: &str) -> Option<Value> {
    let resources = catalog.resources(group, version)?;
    let mut paths = Map::new();
    let mut schemas = Map::new();
    let mut wanted: BTreeSet<String> =
        [PATCH, DELETE_OPTIONS, LIST_META, STATUS].iter().map(|name| (*name).to_owned()).collect();
    for resource in resources {
        let name = schema_name(resource);
        if resource.is_custom() {
            let mut schema = resource.schema.as_ref().clone();
            schema["x-kubernetes-group-version-kind"] = json!([gvk(resource)]);
            collect_references(&schema, &mut wanted);
            schemas.insert(name.clone(), in_version_3(&schema));
        } else {
            wanted.insert(name.clone());
            if resource.scale.is_some() {
                wanted.insert("io.k8s.api.autoscaling.v1.Scale".to_owned());
            }
        }
        schemas.insert(format!("{name}List"), list_schema(resource, &name));
        add_paths(&mut paths, resource, &name);
    }
    add_types(&mut schemas, wanted);
    Some(json!({
        "openapi": "3.0.0", "info": {"title": "Kubernetes", "version": "serin-sandbox"}, "paths": paths,
        "components": {"schemas": schemas},
    }))
}

/// `/openapi/v2` describes nothing. kubectl asks for it, in protobuf and nothing else, where version 3 knows no such kind: a
/// `List`, a version that is gone. With no description it leaves the judgement to the server; without the document it fails.
pub(super) fn version_2() -> Value {
    json!({"swagger": "2.0", "info": {"title": "Kubernetes", "version": "serin-sandbox"}, "paths": {}})
}

fn schema_name(resource: &Resource) -> String {
    match resource.schema.get("$ref").and_then(Value::as_str) {
        Some(name) => name.to_owned(),
        None => {
            let reversed: Vec<&str> = resource.group.rsplit('.').collect();
            format!("{}.{}.{}", reversed.join("."), resource.version, resource.kind)
        }
    }
}

fn gvk(resource: &Resource) -> Value {
    json!({"group": resource.group, "version": resource.version, "kind": resource.kind})
}

fn list_schema(resource: &Resource, name: &str) -> Value {
    let mut kind = gvk(resource);
    kind["kind"] = json!(format!("{}List", resource.kind));
    json!({
        "type": "object", "required": ["items"], "x-kubernetes-group-version-kind": [kind],
        "description": format!("{}List is a list of {}", resource.kind, resource.kind),
        "properties": {
            "apiVersion": {"type": "string"}, "kind": {"type": "string"},
            "metadata": {"allOf": [{"$ref": format!("{SCHEMAS}{LIST_META}")}]},
            "items": {"type": "array", "items": {"allOf": [{"$ref": format!("{SCHEMAS}{name}")}]}},
        }
    })
}

/// Adds types and everything that they refer to.
fn add_types(schemas: &mut Map<String, Value>, mut wanted: BTreeSet<String>) {
    while let Some(name) = wanted.pop_first() {
        let Some(definition) = types().get(&name).filter(|_| !schemas.contains_key(&name)) else { continue };
        collect_references(definition, &mut wanted);
        schemas.insert(name, in_version_3(definition));
    }
}

fn collect_references(node: &Value, wanted: &mut BTreeSet<String>) {
    match node {
        Value::Object(map) => {
            if let Some(Value::String(name)) = map.get("$ref") {
                wanted.insert(name.clone());
            }
            map.values().for_each(|value| collect_references(value, wanted));
        }
        Value::Array(items) => items.iter().for_each(|item| collect_references(item, wanted)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// References become version 3's; one with siblings is wrapped, as nothing may stand beside `$ref`.
fn in_version_3(node: &Value) -> Value {
    match node {
        Value::Object(map) => {
            let mut out: Map<String, Value> = map
                .iter()
                .filter(|(name, value)| *name != "$ref" || !value.is_string())
                .map(|(name, value)| (name.clone(), in_version_3(value)))
                .collect();
            if let Some(Value::String(name)) = map.get("$ref") {
                let reference = json!({"$ref": format!("{SCHEMAS}{name}")});
                if out.is_empty() {
                    return reference;
                }
                out.insert("allOf".to_owned(), json!([reference]));
            }
            Value::Object(out)
        }
        Value::Array(items) => Value::Array(items.iter().map(in_version_3).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => node.clone(),
    }
}

fn add_paths(paths: &mut Map<String, Value>, resource: &Resource, name: &str) {
    let root = if resource.group.is_empty() {
        format!("/api/{}", resource.version)
    } else {
        format!("/apis/{}", api_version(&resource.group, &resource.version))
    };
    let scope = if resource.namespaced { "/namespaces/{namespace}" } else { "" };
    let collection = format!("{root}{scope}/{}", resource.plural);
    let body = json!({"content": {"*/*": {"schema": {"$ref": format!("{SCHEMAS}{name}")}}}, "required": true});
    let mut create = operation(resource, "post", name, &["dryRun", "fieldManager", "fieldValidation"]);
    create["requestBody"] = body.clone();
    if !resource.verbs().contains(&"get") {
        paths.insert(collection, json!({"post": create}));
        return;
    }
    let list = operation(
        resource,
        "list",
        &format!("{name}List"),
        &[
            "allowWatchBookmarks",
            "continue",
            "fieldSelector",
            "labelSelector",
            "limit",
            "resourceVersion",
            "watch",
        ],
    );
    paths.insert(collection.clone(), json!({"get": list, "post": create}));
    let mut replace = operation(resource, "put", name, &["dryRun", "fieldManager", "fieldValidation"]);
    replace["requestBody"] = body;
    let delete = operation(resource, "delete", STATUS, &["dryRun", "gracePeriodSeconds", "propagationPolicy"]);
    let item = json!({
        "get": operation(resource, "get", name, &[]), "put": replace, "patch": patch(resource, name),
        "delete": delete,
    });
    let path = format!("{collection}/{{name}}");
    if resource.has_status {
        let status = json!({
            "get": operation(resource, "get", name, &[]), "put": item["put"], "patch": patch(resource, name)
        });
        paths.insert(format!("{path}/status"), status);
    }
    paths.insert(path, item);
}

fn patch(resource: &Resource, name: &str) -> Value {
    let mut patch = operation(resource, "patch", name, &["dryRun", "fieldManager", "fieldValidation", "force"]);
    let mut media =
        vec!["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"];
    if !resource.is_custom() {
        media.push("application/strategic-merge-patch+json");
    }
    let content: Map<String, Value> = media
        .into_iter()
        .map(|media| (media.to_owned(), json!({"schema": {"$ref": format!("{SCHEMAS}{PATCH}")}})))
        .collect();
    patch["requestBody"] = json!({"content": content, "required": true});
    patch
}

fn operation(resource: &Resource, action: &str, answer: &str, parameters: &[&str]) -> Value {
    let parameters: Vec<Value> = parameters
        .iter()
        .map(|name| {
            let kind = match *name {
                "force" | "watch" | "allowWatchBookmarks" => "boolean",
                "limit" | "gracePeriodSeconds" => "integer",
                _ => "string",
            };
            json!({"name": name, "in": "query", "schema": {"type": kind, "uniqueItems": true}})
        })
        .collect();
    json!({
        "operationId": format!("{action}{}{}", resource.version, resource.kind),
        "parameters": parameters,
        "responses": {"200": {
            "description": "OK", "content": {"application/json": {"schema": {"$ref": format!("{SCHEMAS}{answer}")}}}
        }},
        "x-kubernetes-action": action, "x-kubernetes-group-version-kind": gvk(resource),
    })
}
