//! Files become manifests.

use std::ops::Range;

use serde_json::Value;

use crate::model::ObjectRef;

use super::error::{Faults, ManifestError};
use super::kustomization;
use super::tree::{self, Document, Fault, Position};

/// Most text of one object, in bytes: etcd's limit for a request. More is refused by every cluster, in words that name no
/// file.
const OBJECT_BYTES_MAX: usize = 3 << 19;

/// One Kubernetes object as a file has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// The file's path, as given to [`parse`].
    pub file: String,
    /// Number of the YAML document in the file, from 0; empty ones count.
    pub document: usize,
    /// Index in a `kind: List`, if it came from one.
    pub item: Option<usize>,
    /// Line where the object starts, from 1.
    pub line: u32,
    /// Bytes of the document (of the item, in a List).
    pub range: Range<usize>,
    /// The object.
    pub object: Value,
}

impl Manifest {
    /// `apiVersion`, e.g. `apps/v1`.
    pub fn api_version(&self) -> &str {
        text(&self.object, &["apiVersion"])
    }

    /// `kind`.
    pub fn kind(&self) -> &str {
        text(&self.object, &["kind"])
    }

    /// The way to one of its fields from the document's root: that of an item of a List begins there.
    pub fn path_in_document<'a>(&self, path: impl IntoIterator<Item = &'a str>) -> Vec<String> {
        let list = self.item.map(|item| ["items".to_owned(), item.to_string()]);
        list.into_iter().flatten().chain(path.into_iter().map(str::to_owned)).collect()
    }

    /// `metadata.name`.
    pub fn name(&self) -> &str {
        text(&self.object, &["metadata", "name"])
    }

    /// `metadata.namespace`, if it is set.
    pub fn namespace(&self) -> Option<&str> {
        Some(text(&self.object, &["metadata", "namespace"])).filter(|namespace| !namespace.is_empty())
    }

    /// What object this is. The namespace is as written: whether the kind has one is the cluster's to say.
    pub fn object_ref(&self) -> ObjectRef {
        let group = self.api_version().split_once('/').map_or("", |(group, _)| group);
        ObjectRef {
            group: group.to_owned(),
            kind: self.kind().to_owned(),
            namespace: self.namespace().map(str::to_owned),
            name: self.name().to_owned(),
        }
    }
}

fn text<'a>(object: &'a Value, path: &[&str]) -> &'a str {
    path.iter().try_fold(object, |value, key| value.get(key)).and_then(Value::as_str).unwrap_or("")
}

/// What one file holds: its objects, and what in it is none.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Parsed {
    /// In the file's order.
    pub manifests: Vec<Manifest>,
    /// Documents that are no objects. A text that is no YAML is one fault, and there are no objects: where its documents
    /// begin and end is not known.
    pub faults: Vec<ManifestError>,
}

impl Parsed {
    /// The objects, if everything in the file is one.
    ///
    /// # Errors
    /// The first thing that is not.
    pub fn whole(self) -> Result<Vec<Manifest>, ManifestError> {
        let Self { manifests, faults } = self;
        faults.into_iter().next().map_or(Ok(manifests), Err)
    }
}

/// The objects of one YAML or JSON file, in order. Empty documents are skipped, `kind: List` is taken apart.
///
/// # Errors
/// The first thing that is not YAML, not an object, or without `apiVersion`, `kind` or `metadata.name`.
pub fn parse(path: &str, text: &str) -> Result<Vec<Manifest>, ManifestError> {
    parse_each(path, text).whole()
}

/// Like [`parse`], document by document and item by item: one that is no object does not hide the others.
pub fn parse_each(path: &str, text: &str) -> Parsed {
    let mut faults = Faults::new(path, text);
    let mut manifests = Vec::new();
    match tree::read(text) {
        Ok(documents) => {
            for (number, Document { root }) in documents.into_iter().enumerate() {
                document(Place { path, number }, &root, &mut manifests, &mut faults);
            }
        }
        Err(fault) => faults.add(fault, None),
    }
    Parsed { manifests, faults: faults.into_errors() }
}

/// One document's objects: none if it is empty or only lists files for kustomize.
fn document(place: Place<'_>, root: &tree::Node, into: &mut Vec<Manifest>, faults: &mut Faults<'_>) {
    let object = match root.value() {
        Ok(object) => object,
        Err(fault) => return faults.add(fault, None),
    };
    if object.is_null() {
        return;
    }
    if kustomization::is_one(place.path, &object) {
        if let Some(what) = kustomization::what_it_changes(&object) {
            let message = format!("{what}, and this file is applied as it is");
            faults.add(Fault { at: start_of(&root.at), message }, None);
        }
        return;
    }
    let found = Found { place, item: None, at: &root.at, object };
    if is_list(&found.object) { expand(found, root, into, faults) } else { found.take(into, faults) }
}

/// Which document of which file.
#[derive(Debug, Clone, Copy)]
struct Place<'a> {
    path: &'a str,
    number: usize,
}

/// The place where something starts, of no width.
fn start_of(at: &Position) -> Position {
    Position { range: at.range.start..at.range.start, ..at.clone() }
}

struct Found<'a> {
    place: Place<'a>,
    item: Option<usize>,
    at: &'a Position,
    object: Value,
}

impl Found<'_> {
    fn take(self, into: &mut Vec<Manifest>, faults: &mut Faults<'_>) {
        let Self { place: Place { path, number }, item, at, object } = self;
        let (file, line, range) = (path.to_owned(), at.line, at.range.clone());
        let fault = |message: String| Fault { at: start_of(at), message };
        if let Some(message) = no_object(&object) {
            return faults.add(fault(message), None);
        }
        let manifest = Manifest { file, document: number, item, line, range, object };
        match unusable(&manifest.object) {
            Some(message) => faults.add(fault(message), Some(manifest.object_ref())),
            None => into.push(manifest),
        }
    }
}

/// Why something is no object that could be named.
fn no_object(object: &Value) -> Option<String> {
    if !object.is_object() {
        return Some("a manifest must be a mapping with `apiVersion`, `kind` and `metadata`".to_owned());
    }
    if !text(object, &["metadata", "generateName"]).is_empty() && text(object, &["metadata", "name"]).is_empty() {
        let message = "`metadata.generateName` makes another object at every apply: give it a `metadata.name`";
        return Some(message.to_owned());
    }
    for key in [&["apiVersion"][..], &["kind"], &["metadata", "name"]] {
        let found = key.iter().try_fold(object, |value, part| value.get(part));
        match found {
            Some(Value::String(text)) if !text.is_empty() => {}
            Some(Value::Null) | None => {
                return Some(format!("not a Kubernetes object: `{}` is missing", key.join(".")));
            }
            Some(_) => return Some(format!("`{}` must be text that is not empty", key.join("."))),
        }
    }
    if !matches!(object["metadata"].get("namespace"), Some(Value::String(_) | Value::Null) | None) {
        return Some("`metadata.namespace` must be text: put it in quotes".to_owned());
    }
    for key in [&["metadata", "name"][..], &["metadata", "namespace"]] {
        let value = text(object, key);
        if value.contains("{{") || value.contains("${") {
            return Some(format!(
                "`{}` is a placeholder, `{value}`: what fills it in must run first",
                key.join(".")
            ));
        }
    }
    None
}

/// Why an object is not for a cluster as it is.
fn unusable(object: &Value) -> Option<String> {
    if object["sops"].get("mac").is_some() || object["sops"].get("lastmodified").is_some() {
        return Some(
            "it is encrypted with SOPS, and nothing here decrypts it: the cluster would get the cipher text; keep it out \
             of this path, and let what holds the key create it"
                .to_owned(),
        );
    }
    let bytes = bytes_of(object);
    (bytes > OBJECT_BYTES_MAX).then(|| {
        let tenths = bytes * 10 / (1 << 20);
        format!("it holds {}.{} MiB of text, and etcd takes 1.5 MiB for an object", tenths / 10, tenths % 10)
    })
}

/// The text of keys and values: what an object takes at least, however it is stored.
fn bytes_of(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 1,
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(bytes_of).sum(),
        Value::Object(fields) => fields.iter().map(|(key, value)| key.len() + bytes_of(value)).sum(),
    }
}

/// As in Kubernetes' own code, `items` makes a list. A `kind: List` without any is an empty one.
fn is_list(object: &Value) -> bool {
    let kind = text(object, &["kind"]);
    match object.get("items") {
        Some(Value::Array(_)) => kind.ends_with("List"),
        Some(Value::Null) | None => kind == "List",
        Some(_) => false,
    }
}

fn expand(list: Found<'_>, root: &tree::Node, into: &mut Vec<Manifest>, faults: &mut Faults<'_>) {
    let Found { place, item: _, at, mut object } = list;
    let (version, kind) =
        (object["apiVersion"].clone(), text(&object, &["kind"]).trim_end_matches("List").to_owned());
    let Some(Value::Array(items)) = object.get_mut("items").map(Value::take) else { return };
    let nodes = root.target().entry("items").map(|(_, value)| value.target());
    for (index, mut object) in items.into_iter().enumerate() {
        let at = match nodes.map(|node| &node.kind) {
            Some(tree::Kind::Sequence { items, .. }) => items.get(index).map_or(at, |node| &node.at),
            _ => at,
        };
        // The items of a DeploymentList may leave out what the list says already.
        if let (false, Some(map)) = (kind.is_empty(), object.as_object_mut()) {
            map.entry("apiVersion").or_insert_with(|| version.clone());
            map.entry("kind").or_insert_with(|| Value::String(kind.clone()));
        }
        Found { place, item: Some(index), at, object }.take(into, faults);
    }
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
