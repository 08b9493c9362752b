//! Files become manifests.

use std::ops::Range;

use serde_json::Value;

use crate::model::ObjectRef;

use super::error::{ManifestError, hint_for, snippet};
use super::kustomization;
use super::tree::{self, Document, Fault, Position};

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

/// Like [`parse`], document by document: one that is no object does not hide the others.
pub fn parse_each(path: &str, text: &str) -> Parsed {
    let text_body = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut parsed = Parsed::default();
    let documents = match tree::read(text_body) {
        Ok(documents) => documents,
        Err(fault) => {
            parsed.faults.push(report(path, text_body, fault));
            return parsed;
        }
    };
    for (number, Document { root }) in documents.into_iter().enumerate() {
        let place = Place { path, number };
        if let Err(fault) = document(place, &root, &mut parsed.manifests) {
            parsed.faults.push(report(path, text_body, fault));
        }
    }
    parsed
}

/// One document's objects: none if it is empty or only lists files for kustomize.
fn document(place: Place<'_>, root: &tree::Node, into: &mut Vec<Manifest>) -> Result<(), Fault> {
    let object = root.value()?;
    if object.is_null() {
        return Ok(());
    }
    if kustomization::is_one(place.path, &object) {
        return match kustomization::what_it_changes(&object) {
            None => Ok(()),
            Some(what) => Err(Fault { at: start_of(&root.at), message: what }),
        };
    }
    let found = Found { place, item: None, at: &root.at, object };
    if is_list(&found.object) {
        return expand(found, root, into);
    }
    into.push(found.check()?);
    Ok(())
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
    fn check(self) -> Result<Manifest, Fault> {
        let Self { place: Place { path, number }, item, at, object } = self;
        let fault = |message: String| Err(Fault { at: start_of(at), message });
        if !object.is_object() {
            return fault("a manifest must be a mapping with `apiVersion`, `kind` and `metadata`".to_owned());
        }
        if !text(&object, &["metadata", "generateName"]).is_empty()
            && text(&object, &["metadata", "name"]).is_empty()
        {
            return fault(
                "`metadata.generateName` makes another object at every apply: give it a `metadata.name`"
                    .to_owned(),
            );
        }
        for key in [&["apiVersion"][..], &["kind"], &["metadata", "name"]] {
            let found = key.iter().try_fold(&object, |value, part| value.get(part));
            match found {
                Some(Value::String(text)) if !text.is_empty() => {}
                Some(Value::Null) | None => {
                    return fault(format!("not a Kubernetes object: `{}` is missing", key.join(".")));
                }
                Some(_) => return fault(format!("`{}` must be text that is not empty", key.join("."))),
            }
        }
        for key in [&["metadata", "name"][..], &["metadata", "namespace"]] {
            let value = text(&object, key);
            if value.contains("{{") || value.contains("${") {
                return fault(format!(
                    "`{}` is a placeholder, `{value}`: what fills it in must run first",
                    key.join(".")
                ));
            }
        }
        Ok(Manifest {
            file: path.to_owned(),
            document: number,
            item,
            line: at.line,
            range: at.range.clone(),
            object,
        })
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

fn expand(list: Found<'_>, root: &tree::Node, into: &mut Vec<Manifest>) -> Result<(), Fault> {
    let Found { place, item: _, at, mut object } = list;
    let (version, kind) =
        (object["apiVersion"].clone(), text(&object, &["kind"]).trim_end_matches("List").to_owned());
    let Some(Value::Array(items)) = object.get_mut("items").map(Value::take) else { return Ok(()) };
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
        into.push(Found { place, item: Some(index), at, object }.check()?);
    }
    Ok(())
}

fn report(path: &str, text: &str, fault: Fault) -> ManifestError {
    let Fault { at, message } = fault;
    let width = text.get(at.range.clone()).map_or(1, |source| source.lines().next().unwrap_or("").chars().count());
    ManifestError {
        file: path.to_owned(),
        line: at.line,
        column: at.column,
        message,
        hint: hint_for(path, text, at.line),
        snippet: snippet(text, at.line, at.column, width.max(1)),
    }
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
