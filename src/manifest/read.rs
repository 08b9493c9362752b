//! Files become manifests.

use std::ops::Range;

use serde_json::Value;

use crate::model::ObjectRef;

use super::error::{ManifestError, hint_for, snippet};
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

/// The objects of one YAML or JSON file, in order. Empty documents are skipped, `kind: List` is taken apart.
///
/// # Errors
/// The first thing that is not YAML, not an object, or without `apiVersion`, `kind` or `metadata.name`.
pub fn parse(path: &str, text: &str) -> Result<Vec<Manifest>, ManifestError> {
    let text_body = text.strip_prefix('\u{feff}').unwrap_or(text);
    let fail = |fault: Fault| report(path, text_body, fault);
    let mut manifests = Vec::new();
    for (number, Document { root }) in tree::read(text_body).map_err(fail)?.into_iter().enumerate() {
        let value = root.value().map_err(fail)?;
        if value.is_null() {
            continue;
        }
        let whole = Found { path, number, item: None, at: &root.at, object: value };
        if is_list(&whole.object) {
            expand(whole, &root, &mut manifests).map_err(fail)?;
        } else {
            manifests.push(whole.check().map_err(fail)?);
        }
    }
    Ok(manifests)
}

struct Found<'a> {
    path: &'a str,
    number: usize,
    item: Option<usize>,
    at: &'a Position,
    object: Value,
}

impl Found<'_> {
    fn check(self) -> Result<Manifest, Fault> {
        let Self { path, number, item, at, object } = self;
        let fault = |message: &str| {
            Err(Fault {
                at: Position { range: at.range.start..at.range.start, ..at.clone() },
                message: message.into(),
            })
        };
        if !object.is_object() {
            return fault("a manifest must be a mapping with `apiVersion`, `kind` and `metadata`");
        }
        for key in [&["apiVersion"][..], &["kind"], &["metadata", "name"]] {
            let found = key.iter().try_fold(&object, |value, part| value.get(part));
            match found {
                Some(Value::String(text)) if !text.is_empty() => {}
                Some(Value::Null) | None => {
                    return fault(&format!("not a Kubernetes object: `{}` is missing", key.join(".")));
                }
                Some(_) => return fault(&format!("`{}` must be text that is not empty", key.join("."))),
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

fn is_list(object: &Value) -> bool {
    text(object, &["kind"]).ends_with("List") && object.get("items").is_some_and(Value::is_array)
}

fn expand(list: Found<'_>, root: &tree::Node, into: &mut Vec<Manifest>) -> Result<(), Fault> {
    let Found { path, number, item: _, at, mut object } = list;
    let (version, kind) =
        (object["apiVersion"].clone(), text(&object, &["kind"]).trim_end_matches("List").to_owned());
    let Some(Value::Array(items)) = object.get_mut("items").map(Value::take) else { return Ok(()) };
    let nodes = root.target().entry("items").map(|(_, value)| value.target());
    for (index, mut object) in items.into_iter().enumerate() {
        let place = match nodes.map(|node| &node.kind) {
            Some(tree::Kind::Sequence { items, .. }) => items.get(index).map_or(at, |node| &node.at),
            _ => at,
        };
        // The items of a DeploymentList may leave out what the list says already.
        if let (false, Some(map)) = (kind.is_empty(), object.as_object_mut()) {
            map.entry("apiVersion").or_insert_with(|| version.clone());
            map.entry("kind").or_insert_with(|| Value::String(kind.clone()));
        }
        into.push(Found { path, number, item: Some(index), at: place, object }.check()?);
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
        hint: hint_for(text, at.line),
        snippet: snippet(text, at.line, at.column, width.max(1)),
    }
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
