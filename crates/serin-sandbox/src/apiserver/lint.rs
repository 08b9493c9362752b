//! What a server would say to a new object of a built-in kind, without one: everything at once, each with the field's path.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use serde_json::{Value, json};
use serin_core::model::closest;

use super::fields::{element_of, topology};
use super::kinds::{Catalog, DEFINITIONS, Resource, prepare_definition};
use super::prune::join;
use super::quantity::{Quantity, canonicalize, is_quantity};
use super::schema::{OBJECT_META, Schema, Topology, named};
use super::status::FieldError;
use super::validate::Format;
use super::{convert, defaults, validate};

static CATALOG: LazyLock<Catalog> = LazyLock::new(|| Catalog::new([]));

/// Something that a server would refuse, or drop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Names and numbers on the way to the field.
    pub path: Vec<String>,
    /// What is wrong, in words that name the field.
    pub message: String,
}

/// How a value is written, by the way to its field; `None` where that is not known.
pub type Written<'a> = &'a dyn Fn(&[String]) -> Option<String>;

/// Everything that is wrong with an object; of a kind that is not built in, in this version, with its metadata.
pub fn lint(object: &Value, written: Written<'_>) -> Vec<Fault> {
    let api_version = object["apiVersion"].as_str().unwrap_or_default();
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let mut kinds = CATALOG.resources(group, version).into_iter().flatten();
    let mut linter = Linter { faults: Vec::new(), typed: true, written };
    match (kinds.find(|resource| object["kind"] == resource.kind), named(OBJECT_META)) {
        (Some(resource), _) => {
            linter.walk(object, resource.schema(), &mut Vec::new(), "");
            if linter.typed {
                linter.judge(object, resource);
            }
        }
        (None, Some(schema)) => {
            linter.walk(&object["metadata"], schema, &mut vec!["metadata".to_owned()], "metadata");
            if linter.typed {
                linter.add_all(validate::of_any(object, is_custom(group)));
            }
        }
        (None, None) => {}
    }
    linter.faults
}

/// Whether a group can only be that of a definition, by its name.
fn is_custom(group: &str) -> bool {
    group.contains('.') && !group.ends_with(".k8s.io")
}

struct Linter<'a> {
    faults: Vec<Fault>,
    /// Whether every value has the type of its field: only then it can be judged.
    typed: bool,
    written: Written<'a>,
}

impl Linter<'_> {
    fn add(&mut self, path: &[String], message: String) {
        self.faults.push(Fault { path: path.to_vec(), message });
    }

    /// Types, unknown fields and doubled entries of a value.
    fn walk(&mut self, value: &Value, schema: Schema<'_>, path: &mut Vec<String>, shown: &str) {
        if let Some(wrong) = wrong_type(value, schema, &|| (self.written)(path)) {
            self.typed = false;
            return self.add(path, format!("`{shown}` {wrong}"));
        }
        match value {
            Value::Object(map) => {
                for (name, field) in map.iter().filter(|(_, field)| !field.is_null()) {
                    let here = join(shown, name);
                    path.push(name.clone());
                    self.field(name, field, schema, path, &here);
                    path.pop();
                }
            }
            Value::Array(items) => {
                let Some(inner) = schema.items() else { return };
                self.doubled(items, schema, path, shown);
                for (index, item) in items.iter().enumerate() {
                    path.push(index.to_string());
                    self.walk(item, inner, path, &format!("{shown}[{index}]"));
                    path.pop();
                }
            }
            Value::String(text) => {
                if let Some(wrong) = wrong_text(text, schema) {
                    self.typed = false;
                    self.add(path, format!("`{shown}` {wrong}"));
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn field(&mut self, name: &str, value: &Value, schema: Schema<'_>, path: &mut Vec<String>, shown: &str) {
        let node = schema.property_node(name).or_else(|| schema.keyword("additionalProperties"));
        if node.is_some_and(is_quantity) {
            if Quantity::parse(value).is_none() {
                self.typed = false;
                self.add(path, format!("`{shown}` is {value}, no quantity: write it as `500m`, `2`, `1.5Gi`"));
            }
            return;
        }
        match schema.field(name) {
            Some(inner) => self.walk(value, inner, path, shown),
            None if schema.preserves_unknown() || schema.properties().is_none() => {}
            None => {
                let known = schema.properties().into_iter().flat_map(|all| all.keys()).map(String::as_str);
                let hint =
                    closest(name, known).map(|close| format!(", did you mean `{close}`?")).unwrap_or_default();
                self.add(path, format!("unknown field `{shown}`{hint}"));
            }
        }
    }

    /// Entries that server-side apply cannot tell apart.
    fn doubled(&mut self, items: &[Value], schema: Schema<'_>, path: &mut Vec<String>, shown: &str) {
        let kind = topology(Some(schema), &Value::Array(Vec::new()));
        let Topology::Keyed(keys) = &kind else { return };
        let keys = keys.join(", ");
        let mut seen = BTreeSet::new();
        for (index, item) in items.iter().enumerate().filter(|(_, item)| item.is_object()) {
            let element = format!("{:?}", element_of(Some(schema), &kind, item));
            if !seen.insert(element) {
                path.push(index.to_string());
                self.add(
                    path,
                    format!("`{shown}[{index}]` is there twice (by {keys}): server-side apply refuses it"),
                );
                path.pop();
            }
        }
    }

    /// What the server's own validation says of it once defaults are filled in.
    fn judge(&mut self, object: &Value, resource: &Resource) {
        let mut value = object.clone();
        super::json::drop_nulls(&mut value);
        super::prune::prune(&mut value, resource.schema());
        canonicalize(&mut value, resource.schema());
        let mut value = convert::to_storage(resource, value);
        if resource.namespaced && value["metadata"]["namespace"].is_null() {
            value["metadata"]["namespace"] = json!("default");
        }
        defaults::fill(resource, &mut value);
        if resource.storage == DEFINITIONS {
            prepare_definition(&mut value);
        }
        self.add_all(validate::validate(resource, &value));
    }

    fn add_all(&mut self, errors: Vec<FieldError>) {
        for error in errors {
            let path: Vec<String> =
                error.path.split(['.', '[', ']']).filter(|part| !part.is_empty()).map(str::to_owned).collect();
            self.add(&path, format!("`{}`: {}", error.path, error.problem));
        }
    }
}

/// What is wrong with a text that has a format.
fn wrong_text(text: &str, schema: Schema<'_>) -> Option<String> {
    validate::malformed(text, schema).map(|format| match format {
        Format::Bytes => "is no base64: encode it, or a Secret's as it is under `stringData`".to_owned(),
        Format::Time(why) => format!("is no time as 2026-01-31T12:00:00Z: {why}"),
    })
}

/// What a value should be that has another type than its field. `written`: as it stands in the file, which its type may have
/// changed (`1.10` is the number 1.1).
fn wrong_type(value: &Value, schema: Schema<'_>, written: &dyn Fn() -> Option<String>) -> Option<String> {
    let wanted = schema.kind()?;
    let fits = match (value, wanted) {
        (Value::Null, _)
        | (Value::Bool(_), "boolean")
        | (Value::Object(_), "object")
        | (Value::Array(_), "array")
        | (Value::String(_), "string")
        | (Value::Number(_), "number") => true,
        (Value::Number(number), "integer") => number.is_i64() || number.is_u64(),
        (Value::Number(_), "string") => schema.is_int_or_string(),
        _ => false,
    };
    if fits {
        return None;
    }
    Some(match (wanted, value) {
        ("string", Value::Number(_) | Value::Bool(_)) => {
            let text = written().unwrap_or_else(|| value.to_string());
            format!("must be text: write \"{text}\", in quotes")
        }
        ("string", _) => "must be text".to_owned(),
        ("integer" | "number", Value::String(text)) if text.parse::<i64>().is_ok() => {
            format!("must be a number: write {text}, without quotes")
        }
        ("integer", _) => "must be a whole number".to_owned(),
        ("number", _) => "must be a number".to_owned(),
        ("boolean", _) => "must be true or false".to_owned(),
        ("array", _) => "must be a list".to_owned(),
        _ => "must be a mapping".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(object: Value) -> Vec<String> {
        lint(&object, &|_| None).into_iter().map(|fault| fault.message).collect()
    }

    fn deployment() -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {
            "selector": {"matchLabels": {"app": "web"}}, "template": {"metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "web", "image": "a:1", "ports": [{"containerPort": 80}]}]}}}})
    }

    fn with(pointer: &str, value: Value) -> Value {
        let mut object = deployment();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        object.pointer_mut(parent).unwrap()[key] = value;
        object
    }

    #[test]
    fn what_a_server_would_take_has_no_fault() {
        assert_eq!(said(deployment()), Vec::<String>::new());
        assert_eq!(said(with("/spec/strategy", json!(null))), Vec::<String>::new());
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}, {"name": "b", "port": 81, "targetPort": 81}]}});
        // Ports without names are refused by the server, which is what is told.
        assert!(said(service).iter().all(|words| words.contains("name")), "the schema has no fault");
        let other = |version: &str, name: &str| {
            said(json!({"apiVersion": version, "kind": "Other", "metadata": {"name": name}, "any": "thing"}))
        };
        for (version, name) in
            [("example.com/v1", "a.b"), ("apps/v1beta1", "web"), ("other.k8s.io/v1", "system:a")]
        {
            assert_eq!(other(version, name), Vec::<String>::new());
        }
    }

    #[test]
    fn what_is_filled_in_need_not_be_written() {
        let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "foos.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"kind": "Foo", "plural": "foos"}, "versions": [{"name": "v1", "served": true, "storage": true,
            "schema": {"openAPIV3Schema": {"type": "object"}}}]}});
        assert_eq!(said(definition), Vec::<String>::new());
    }

    #[test]
    fn every_fault_names_its_field_and_what_to_write() {
        let container = "/spec/template/spec/containers/0";
        let field = |name: &str| format!("{container}/{name}");
        for (object, words) in [
            (with("/metadata/annotations", json!({"prometheus.io/port": 9797})), "must be text: write \"9797\""),
            (with("/metadata/labels", json!({"a": true})), "must be text: write \"true\""),
            (with("/spec/replicas", json!("2")), "must be a number: write 2, without quotes"),
            (with("/spec/replicas", json!(1.5)), "must be a whole number"),
            (with("/spec/replica", json!(2)), "unknown field `spec.replica`, did you mean `replicas`?"),
            (with(&field("imagee"), json!("a")), "did you mean `image`?"),
            (with(&field("env"), json!([{"name": "A", "value": 8080}])), "must be text: write \"8080\""),
            (with(&field("env"), json!([{"name": "A"}, {"name": "A"}])), "is there twice (by name)"),
            (with(&field("env"), json!({"A": "1"})), "must be a list"),
            (with(&field("resources"), json!({"limits": {"memory": "512Mb"}})), "no quantity"),
            (with(&field("ports"), json!([{"containerPort": 80}, {"containerPort": 80}])), "is there twice"),
            (with(&field("ports"), json!([{"containerPort": 80_000}])), "between 1 and 65535"),
            (with("/metadata/name", json!("Web_1")), "metadata.name"),
            (with("/spec/selector", json!({"matchLabels": {"app": "other"}})), "spec.template.metadata.labels"),
            (
                json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "data": {"a": "no!"}}),
                "`data.a` is no base64",
            ),
            (json!({"apiVersion": "x.io/v1", "kind": "Other", "metadata": {"name": "App_X"}}), "metadata.name"),
            (
                json!({"apiVersion": "x.io/v1", "kind": "Other", "metadata": {"name": "a", "labels": {"a": 1}}}),
                "must be text",
            ),
        ] {
            let said = said(object);
            assert!(said.iter().any(|it| it.contains(words)), "{words}: {said:?}");
            assert_eq!(said.len(), 1, "{words}: {said:?}");
        }
        let data = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"a.b": 1, "c": "x"}});
        let faults = lint(&data, &|path| (path == ["data", "a.b"]).then(|| "1.00".to_owned()));
        assert!(faults[0].message.ends_with("write \"1.00\", in quotes"), "as it is written: {faults:?}");
        assert_eq!(faults[0].path, ["data", "a.b"], "a key with dots is one step");
    }
}
