//! Server-side printing: `meta.k8s.io/v1` Tables, as kubectl shows them.

mod age;
mod builtin;
mod path;

use std::borrow::Cow;

use serde_json::{Value, json};

use super::kinds::{Column, Origin, Resource};
use super::represent::{RowObject, partial};

/// A column of a Table.
struct Definition {
    name: String,
    kind: String,
    description: String,
    /// Above 0 only with `-o wide`.
    priority: i64,
}

impl Definition {
    fn new(name: &str, kind: &str, priority: i64) -> Self {
        Self { name: name.to_owned(), kind: kind.to_owned(), description: String::new(), priority }
    }

    fn render(&self) -> Value {
        let format = if self.name == "Name" { "name" } else { "" };
        json!({
            "name": self.name, "type": self.kind, "format": format, "description": self.description,
            "priority": self.priority
        })
    }
}

/// The cells of an object.
type Cells<'a> = Box<dyn Fn(&Value) -> Vec<Value> + 'a>;

/// A Table of the objects.
pub(super) fn render(resource: &Resource, objects: &[Cow<'_, Value>], row: RowObject, version: &Value) -> Value {
    let (definitions, cells): (Vec<Definition>, Cells<'_>) = match &resource.origin {
        Origin::Custom { columns } => {
            let name = Definition::new("Name", "string", 0);
            let definitions = std::iter::once(name).chain(columns.iter().map(definition_of)).collect();
            (definitions, Box::new(|object: &Value| custom_cells(columns, object)))
        }
        Origin::BuiltIn | Origin::Review => {
            let printer = builtin::printer(resource);
            let definitions = printer
                .columns
                .iter()
                .map(|(name, priority)| Definition::new(name, "string", *priority))
                .collect();
            (definitions, Box::new(move |object: &Value| (printer.cells)(object)))
        }
    };
    let rows: Vec<Value> = objects
        .iter()
        .map(|object| {
            let mut rendered = json!({"cells": cells(object)});
            match row {
                RowObject::None => {}
                RowObject::Metadata => rendered["object"] = partial(object),
                RowObject::Object => rendered["object"] = object.as_ref().clone(),
            }
            rendered
        })
        .collect();
    let definitions: Vec<Value> = definitions.iter().map(Definition::render).collect();
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {"resourceVersion": version},
        "columnDefinitions": definitions, "rows": rows,
    })
}

fn definition_of(column: &Column) -> Definition {
    let Column { name, kind, json_path: _, description, priority } = column.clone();
    Definition { name, kind, description, priority }
}

/// Cells of a custom resource: its name, then what the printer columns' paths find.
fn custom_cells(columns: &[Column], object: &Value) -> Vec<Value> {
    let cell = |column: &Column| {
        let found = path::find(object, &column.json_path);
        match (column.kind.as_str(), found) {
            (_, None) => Value::Null,
            ("date", Some(time)) => json!(age::since(time)),
            ("integer" | "number" | "boolean", Some(value)) => value.clone(),
            (_, Some(Value::String(text))) => json!(text),
            (_, Some(value)) => json!(value.to_string()),
        }
    };
    std::iter::once(object["metadata"]["name"].clone()).chain(columns.iter().map(cell)).collect()
}
