//! Input of kustomize, told apart from objects.
//!
//! Serin applies files as they are. A kustomization that only lists files of its own folder asks for nothing else, so it is
//! passed over; one that would change or add something is refused, or the cluster would get what its author never meant.

use serde_json::{Map, Value};

/// Names that kustomize looks for; the file may leave out `apiVersion` and `kind`.
const FILE_NAMES: [&str; 2] = ["kustomization.yaml", "kustomization.yml"];
/// Its API group; others (Flux's) have ordinary objects of the same kind.
const GROUP: &str = "kustomize.config.k8s.io/";
/// Fields that change nothing of what they list.
const HARMLESS: [&str; 5] = ["apiVersion", "kind", "metadata", "resources", "sortOptions"];

/// What is named of it, at most.
const ASKED_SHOWN: usize = 4;

/// Whether this document is for kustomize.
pub(super) fn is_one(path: &str, object: &Value) -> bool {
    let field = |name: &str| object.get(name).and_then(Value::as_str);
    match field("apiVersion") {
        Some(version) => {
            version.starts_with(GROUP) && matches!(field("kind"), Some("Kustomization" | "Component") | None)
        }
        None => {
            let name = path.rsplit('/').next().unwrap_or(path);
            FILE_NAMES.contains(&name)
                && object.is_object()
                && field("kind").is_none_or(|kind| kind == "Kustomization")
        }
    }
}

/// What it asks for beside the plain files of its folder, in words; `None` when that is nothing.
pub(super) fn what_it_changes(object: &Value) -> Option<String> {
    let empty = Map::new();
    let fields = object.as_object().unwrap_or(&empty);
    let mut asked: Vec<String> = fields
        .iter()
        .filter(|(name, value)| !HARMLESS.contains(&name.as_str()) && !is_empty(value))
        .map(|(name, _)| format!("`{name}`"))
        .collect();
    let listed = fields.get("resources").and_then(Value::as_array).into_iter().flatten();
    asked.extend(
        listed.filter_map(Value::as_str).filter(|entry| !is_inside(entry)).map(|entry| format!("`{entry}`")),
    );
    if text(object, "kind") == "Component" {
        asked.push("being a component".to_owned());
    }
    let more = asked.len().saturating_sub(ASKED_SHOWN);
    asked.truncate(ASKED_SHOWN);
    match (asked.join(", "), more) {
        (asked, 0) if asked.is_empty() => None,
        (asked, 0) => Some(format!("kustomize is asked for {asked}, and files are applied as they are")),
        (asked, more) => {
            Some(format!("kustomize is asked for {asked} and {more} more, and files are applied as they are"))
        }
    }
}

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object.get(field).and_then(Value::as_str).unwrap_or("")
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// Whether a resource is a file or folder below the kustomization: not above it, and not on some server.
fn is_inside(entry: &str) -> bool {
    let first = entry.split('/').next().unwrap_or(entry);
    let is_host = entry.contains('/') && first.contains('.') && first != ".";
    !entry.starts_with('/') && !entry.split('/').any(|part| part == "..") && !entry.contains("://") && !is_host
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_kustomizes_own_files_are_meant() {
        let named = |path: &str, object: Value| is_one(path, &object);
        assert!(named(
            "a/b.yaml",
            json!({"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"})
        ));
        assert!(named("a/kustomization.yml", json!({"resources": ["a.yaml"]})));
        assert!(!named(
            "a/kustomization.yaml",
            json!({"apiVersion": "kustomize.toolkit.fluxcd.io/v1",
            "kind": "Kustomization", "metadata": {"name": "apps"}})
        ));
        assert!(!named("a/b.yaml", json!({"resources": ["a.yaml"]})));
        assert!(!named("kustomization.yaml", json!([1])));
    }

    #[test]
    fn a_list_of_own_files_changes_nothing() {
        let asked = |fields: Value| what_it_changes(&fields);
        assert_eq!(asked(json!({"resources": ["a.yaml", "./b/c.yaml", "base"], "images": []})), None);
        let all = asked(
            json!({"resources": ["../base", "github.com/a/b?ref=v1", "https://a.b/c.yaml"], "namespace": "x",
            "images": [{"name": "a"}]}),
        );
        assert_eq!(
            all.as_deref(),
            Some(
                "kustomize is asked for `images`, `namespace`, `../base`, `github.com/a/b?ref=v1` and 1 more, and files are \
                 applied as they are"
            )
        );
    }
}
