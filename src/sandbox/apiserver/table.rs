//! Server-side printing: `meta.k8s.io/v1` Tables.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::kinds::Resource;
use super::represent::{RowObject, partial};

/// A Table of the objects.
pub(super) fn render(_resource: &Resource, objects: &[Cow<'_, Value>], row: RowObject, version: &Value) -> Value {
    let rows: Vec<Value> = objects
        .iter()
        .map(|object| {
            let mut rendered =
                json!({"cells": [object["metadata"]["name"], object["metadata"]["creationTimestamp"]]});
            match row {
                RowObject::None => {}
                RowObject::Metadata => rendered["object"] = partial(object),
                RowObject::Object => rendered["object"] = object.as_ref().clone(),
            }
            rendered
        })
        .collect();
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {"resourceVersion": version},
        "columnDefinitions": [
            {"name": "Name", "type": "string", "format": "name", "description": "", "priority": 0},
            {"name": "Created At", "type": "date", "format": "", "description": "", "priority": 0},
        ],
        "rows": rows,
    })
}
