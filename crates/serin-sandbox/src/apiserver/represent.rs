//! From stored objects to what a client asked to see: version, Table, PartialObjectMetadata.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::{Value, json};

use super::convert;
use super::kinds::Resource;
use super::request::{Form, Options};
use super::table;

/// How much of an object a Table row carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RowObject {
    None,
    Metadata,
    Object,
}

/// How objects are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Representation {
    Whole,
    Metadata,
    Table(RowObject),
}

impl Representation {
    /// From the negotiated form.
    pub(super) fn new(form: Form, options: &Options) -> Self {
        match form {
            Form::Json | Form::Yaml => Self::Whole,
            Form::Metadata => Self::Metadata,
            Form::Table => Self::Table(match options.include_object.as_str() {
                "None" => RowObject::None,
                "Object" => RowObject::Object,
                _ => RowObject::Metadata,
            }),
        }
    }

    /// Bookmarks have the type of the other events.
    pub(super) fn wrap_bookmark(self, mut object: Value) -> Value {
        match self {
            Self::Whole => object,
            Self::Metadata => {
                object["kind"] = json!("PartialObjectMetadata");
                object["apiVersion"] = json!("meta.k8s.io/v1");
                object
            }
            Self::Table(_) => json!({
                "kind": "Table", "apiVersion": "meta.k8s.io/v1",
                "metadata": {"resourceVersion": object["metadata"]["resourceVersion"]},
                "columnDefinitions": [],
                "rows": [{"cells": [], "object": partial(&object)}],
            }),
        }
    }
}

/// Metadata alone.
pub(super) fn partial(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
}

/// One object.
pub(super) fn represent_one<'a>(
    resource: &Resource,
    object: &'a Arc<Value>,
    representation: Representation,
) -> Cow<'a, Value> {
    match representation {
        Representation::Whole => convert::from_storage(resource, object),
        Representation::Metadata => Cow::Owned(partial(object)),
        Representation::Table(row) => {
            let objects = [convert::from_storage(resource, object)];
            Cow::Owned(table::render(resource, &objects, row, &object["metadata"]["resourceVersion"]))
        }
    }
}

/// A list; `metadata` is its ListMeta.
pub(super) fn represent_list(
    resource: &Resource,
    objects: &[Arc<Value>],
    representation: Representation,
    metadata: &Value,
) -> Value {
    match representation {
        Representation::Whole => {
            let items: Vec<Value> = objects
                .iter()
                .map(|object| {
                    let mut item = convert::from_storage(resource, object).into_owned();
                    // A real server leaves both out of a typed list's items; custom resources keep them.
                    if !resource.is_custom() {
                        super::json::remove(&mut item, "kind");
                        super::json::remove(&mut item, "apiVersion");
                    }
                    item
                })
                .collect();
            json!({
                "kind": format!("{}List", resource.kind), "apiVersion": resource.api_version(),
                "metadata": metadata, "items": items
            })
        }
        Representation::Metadata => {
            let items: Vec<Value> = objects.iter().map(|object| partial(object)).collect();
            json!({
                "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
                "items": items
            })
        }
        Representation::Table(row) => {
            let shown: Vec<_> = objects.iter().map(|object| convert::from_storage(resource, object)).collect();
            let mut table = table::render(resource, &shown, row, &metadata["resourceVersion"]);
            table["metadata"] = metadata.clone();
            table
        }
    }
}
