//! `metadata.managedFields`: who owns which fields of an object, as the API server keeps it (`FieldsV1`). Pure.
//!
//! Leaving a field out of an apply deletes it, unless somebody else owns it too. So whoever leaves something out has to know
//! who else does, and that is said here and nowhere else.

use serde_json::{Map, Value, json};

use super::annotations::MANAGER_ENGINE;

/// One entry: what a manager owns by one way of writing.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a>(&'a Value);

impl<'a> Entry<'a> {
    fn text(self, key: &str) -> &'a str {
        self.0[key].as_str().unwrap_or_default()
    }

    /// The field manager.
    pub fn manager(self) -> &'a str {
        self.text("manager")
    }

    /// Whether it is of a server-side apply.
    pub fn is_apply(self) -> bool {
        self.text("operation") == "Apply"
    }

    /// Whether it was written through a subresource (`status`, `scale`), as controllers do.
    pub fn is_of_subresource(self) -> bool {
        !self.text("subresource").is_empty()
    }

    /// When its fields changed last, in the API server's words, which sort by time.
    pub fn time(self) -> &'a str {
        self.text("time")
    }

    /// What it owns.
    pub fn fields(self) -> FieldSet {
        FieldSet::of(&self.0["fieldsV1"])
    }

    /// As JSON.
    pub fn json(self) -> &'a Value {
        self.0
    }
}

/// All entries of an object.
pub fn entries(object: &Value) -> impl Iterator<Item = Entry<'_>> {
    object["metadata"]["managedFields"].as_array().into_iter().flatten().map(Entry)
}

/// The entry of a manager's server-side applies.
pub fn applied_by<'a>(object: &'a Value, manager: &str) -> Option<Entry<'a>> {
    entries(object).find(|entry| entry.is_apply() && !entry.is_of_subresource() && entry.manager() == manager)
}

/// A set of fields: `f:<name>`, list entries `k:<keys>` and `v:<value>`, and `.` for the thing itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldSet(Map<String, Value>);

impl FieldSet {
    /// Reads `fieldsV1`.
    pub fn of(fields: &Value) -> Self {
        Self(fields.as_object().cloned().unwrap_or_default())
    }

    /// All that a manager owns, however it wrote it.
    pub fn of_manager(object: &Value, manager: &str) -> Self {
        let entries = entries(object).filter(|entry| entry.manager() == manager);
        entries.map(Entry::fields).fold(Self::default(), Self::union)
    }

    /// All that the release engine owns.
    pub fn of_engine(object: &Value) -> Self {
        Self::of_manager(object, MANAGER_ENGINE)
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As `fieldsV1`.
    pub fn json(&self) -> Value {
        Value::Object(self.0.clone())
    }

    /// Whether the field at a path, or something in it, is in the set.
    pub fn has(&self, path: &[&str]) -> bool {
        self.at(path).is_some()
    }

    /// Whether an entry of the list at a path is, known by its keys.
    pub fn has_entry(&self, path: &[&str], entry: &Value) -> bool {
        let entries = self.at(path).and_then(Value::as_object);
        entries.into_iter().flatten().any(|(key, _)| Step::of(key).is_some_and(|step| step.is(entry)))
    }

    fn at(&self, path: &[&str]) -> Option<&Value> {
        let (first, rest) = path.split_first()?;
        let first = self.0.get(&format!("f:{first}"))?;
        rest.iter().try_fold(first, |found, name| found.get(format!("f:{name}")))
    }

    /// What of it is at one of these paths or below.
    pub fn only(&self, paths: &[&[&str]]) -> Self {
        let at = |path: &[&str]| {
            let found = self.at(path)?.clone();
            let nested = path.iter().rev().fold(found, |inner, name| json!({ format!("f:{name}"): inner }));
            Some(Self::of(&nested))
        };
        paths.iter().filter_map(|path| at(path)).fold(Self::default(), Self::union)
    }

    /// Both.
    pub fn union(mut self, other: Self) -> Self {
        merge(&mut self.0, other.0);
        self
    }

    /// The set without the field at a path and what is in it.
    pub fn without(mut self, path: &[&str]) -> Self {
        remove(&mut self.0, path);
        self
    }

    /// The set without the annotations that `is_left` says.
    pub fn without_annotations(self, is_left: impl Fn(&str) -> bool) -> Self {
        let names: Vec<String> = self
            .at(&["metadata", "annotations"])
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .filter_map(|(key, _)| key.strip_prefix("f:").filter(|name| is_left(name)).map(str::to_owned))
            .collect();
        let left = names.iter().fold(self, |set, name| set.without(&["metadata", "annotations", name]));
        // What is left of the map is its own mark, which owns no value.
        let own: Map<String, Value> = [(".".to_owned(), Value::Object(Map::new()))].into_iter().collect();
        match left.at(&["metadata", "annotations"]).and_then(Value::as_object) {
            Some(rest) if *rest == own && !names.is_empty() => left.without(&["metadata", "annotations"]),
            _ => left,
        }
    }

    /// The set without a field of every entry of the list at a path.
    pub fn without_in_entries(mut self, path: &[&str], field: &str) -> Self {
        let pointer: String = path.iter().map(|name| format!("/f:{}", escaped(name))).collect();
        let mut set = Value::Object(std::mem::take(&mut self.0));
        for (_, entry) in set.pointer_mut(&pointer).and_then(Value::as_object_mut).into_iter().flatten() {
            if let Some(entry) = entry.as_object_mut() {
                entry.remove(&format!("f:{field}"));
            }
        }
        Self::of(&set)
    }

    /// The set with the field at `from` as the one at `to`, both at the top.
    pub fn renamed(mut self, from: &str, to: &str) -> Self {
        match self.0.remove(&format!("f:{from}")) {
            Some(moved) => self.union(Self::of(&json!({ format!("f:{to}"): moved }))),
            None => self,
        }
    }

    /// Takes the set's fields out of an object. A list entry goes when nothing but its keys is left of it.
    pub fn leave_out_of(&self, object: &mut Value) {
        leave_out(&self.0, object);
    }

    /// Whether the object has a value of its own in the set: not only a map or list that somebody else's value is in.
    pub fn meets(&self, object: &Value) -> bool {
        meets(&self.0, object)
    }

    /// The set's values that an object does not have, as paths: `.spec.ports[port=80,protocol=TCP]`.
    pub fn missing_in(&self, object: &Value) -> Vec<String> {
        let mut paths = Vec::new();
        missing(&self.0, object, "", &mut paths);
        paths
    }
}

/// One step into an object.
enum Step<'a> {
    Field(&'a str),
    Keyed(Map<String, Value>),
    Value(Value),
}

impl<'a> Step<'a> {
    fn of(key: &'a str) -> Option<Self> {
        let (kind, rest) = key.split_once(':')?;
        match kind {
            "f" => Some(Self::Field(rest)),
            "k" => serde_json::from_str(rest).ok().map(Self::Keyed),
            "v" => serde_json::from_str(rest).ok().map(Self::Value),
            _ => None,
        }
    }

    /// Whether it leads to this list entry.
    fn is(&self, entry: &Value) -> bool {
        match self {
            Self::Field(_) => false,
            Self::Keyed(keys) => keys.iter().all(|(key, value)| match entry.get(key) {
                Some(found) => found == value,
                // The one key that the API server fills in.
                None => key == "protocol" && value == "TCP",
            }),
            Self::Value(value) => value == entry,
        }
    }

    fn child<'v>(&self, object: &'v Value) -> Option<&'v Value> {
        match self {
            Self::Field(name) => object.get(*name),
            Self::Keyed(_) | Self::Value(_) => object.as_array()?.iter().find(|entry| self.is(entry)),
        }
    }

    fn words(&self) -> String {
        let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        match self {
            Self::Field(name) => format!(".{name}"),
            Self::Keyed(keys) => {
                let keys: Vec<String> =
                    keys.iter().map(|(key, value)| format!("{key}={}", plain(value))).collect();
                format!("[{}]", keys.join(","))
            }
            Self::Value(value) => format!("[{}]", plain(value)),
        }
    }
}

fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// The fields below a key; none when the key stands for the whole value.
fn inner(value: &Value) -> Option<&Map<String, Value>> {
    value.as_object().filter(|inner| !inner.is_empty())
}

fn merge(into: &mut Map<String, Value>, from: Map<String, Value>) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Object(known)), Value::Object(more)) => merge(known, more),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

fn remove(fields: &mut Map<String, Value>, path: &[&str]) {
    let Some((first, rest)) = path.split_first() else { return };
    let key = format!("f:{first}");
    if rest.is_empty() {
        fields.remove(&key);
        return;
    }
    let Some(found) = fields.get_mut(&key).and_then(Value::as_object_mut) else { return };
    remove(found, rest);
    if found.is_empty() {
        fields.remove(&key);
    }
}

fn leave_out(fields: &Map<String, Value>, object: &mut Value) {
    for (key, below) in fields {
        match Step::of(key) {
            Some(Step::Field(name)) => {
                let Some(object) = object.as_object_mut() else { continue };
                let Some(child) = object.get_mut(name) else { continue };
                if let Some(below) = inner(below) {
                    leave_out(below, child);
                    if !is_emptied(child) {
                        continue;
                    }
                }
                object.remove(name);
            }
            Some(step @ (Step::Keyed(_) | Step::Value(_))) => {
                let Some(list) = object.as_array_mut() else { continue };
                let Some(index) = list.iter().position(|entry| step.is(entry)) else { continue };
                let Some(entry) = list.get_mut(index) else { continue };
                if let Some(below) = inner(below) {
                    let keys = entry.clone();
                    leave_out(below, entry);
                    if let (Step::Keyed(known), Some(left)) = (&step, entry.as_object_mut())
                        && left.keys().any(|name| !known.contains_key(name))
                    {
                        // What is left is still known by its keys.
                        for name in known.keys() {
                            if let Some(value) = keys.get(name) {
                                left.insert(name.clone(), value.clone());
                            }
                        }
                        continue;
                    }
                }
                list.remove(index);
            }
            None => {}
        }
    }
}

fn is_emptied(value: &Value) -> bool {
    value.as_object().is_some_and(Map::is_empty) || value.as_array().is_some_and(Vec::is_empty)
}

fn meets(fields: &Map<String, Value>, object: &Value) -> bool {
    fields.iter().any(|(key, below)| {
        let Some(step) = Step::of(key) else { return false };
        let Some(child) = step.child(object) else { return false };
        match inner(below) {
            Some(below) => meets(below, child),
            None => true,
        }
    })
}

fn missing(fields: &Map<String, Value>, object: &Value, path: &str, found: &mut Vec<String>) {
    for (key, below) in fields {
        let Some(step) = Step::of(key) else { continue };
        let path = format!("{path}{}", step.words());
        match (step.child(object), inner(below)) {
            (None, _) => found.push(path),
            (Some(child), Some(below)) => missing(below, child, &path, found),
            (Some(_), None) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(fields: Value) -> FieldSet {
        FieldSet::of(&fields)
    }

    /// The engine's part of a Service of somebody's.
    fn engines() -> FieldSet {
        set(json!({"f:spec": {
            "f:ports": {r#"k:{"port":9898,"protocol":"TCP"}"#: {".": {}, "f:name": {}, "f:port": {}, "f:targetPort": {}}},
            "f:selector": {}}}))
    }

    #[test]
    fn what_the_engine_owns_is_left_out_entry_by_entry_and_the_rest_stays() {
        let service = json!({"metadata": {"labels": {"team": "a"}}, "spec": {
            "type": "NodePort", "selector": {"app": "a"},
            "ports": [{"name": "http", "port": 9898, "targetPort": 9898}, {"name": "grpc", "port": 9999},
                {"name": "dns", "port": 9898, "protocol": "UDP"}]}});
        let mut left = service.clone();
        engines().leave_out_of(&mut left);
        assert_eq!(
            left,
            json!({"metadata": {"labels": {"team": "a"}}, "spec": {"type": "NodePort", "ports": [
                {"name": "grpc", "port": 9999}, {"name": "dns", "port": 9898, "protocol": "UDP"}]}})
        );
        let mut named = service.clone();
        engines().without_in_entries(&["spec", "ports"], "name").leave_out_of(&mut named);
        assert_eq!(named["spec"]["ports"][0], json!({"name": "http", "port": 9898}), "its name is the user's");
        let mut only = json!({"spec": {"selector": {"app": "a"}, "ports": [{"port": 9898}]}});
        engines().leave_out_of(&mut only);
        assert_eq!(only, json!({}), "no empty list is applied");
    }

    #[test]
    fn only_and_without_cut_a_set_by_paths() {
        let all = set(
            json!({"f:metadata": {"f:labels": {"f:a/b": {}}}, "f:spec": {"f:replicas": {}, "f:template": {"f:spec": {}}}}),
        );
        assert_eq!(all.only(&[&["spec", "replicas"], &["spec", "x"]]), set(json!({"f:spec": {"f:replicas": {}}})));
        let rest = all.clone().without(&["spec", "replicas"]).without(&["metadata", "labels", "a/b"]);
        assert_eq!(rest, set(json!({"f:spec": {"f:template": {"f:spec": {}}}})));
        assert!(all.has(&["spec", "template"]) && !all.has(&["spec", "paused"]));
        assert!(engines().has_entry(&["spec", "ports"], &json!({"port": 9898})));
        assert!(!engines().has_entry(&["spec", "ports"], &json!({"port": 9898, "protocol": "UDP"})));
    }

    #[test]
    fn all_that_a_manager_owns_is_found_however_it_wrote() {
        let object = json!({"metadata": {"managedFields": [
            {"manager": MANAGER_ENGINE, "operation": "Apply", "fieldsV1": {"f:spec": {"f:selector": {}}}},
            {"manager": MANAGER_ENGINE, "operation": "Update", "subresource": "scale", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
            {"manager": "other", "operation": "Update", "fieldsV1": {"f:spec": {"f:paused": {}}}}]}});
        assert_eq!(FieldSet::of_engine(&object), set(json!({"f:spec": {"f:selector": {}, "f:replicas": {}}})));
        assert_eq!(
            applied_by(&object, MANAGER_ENGINE).unwrap().fields().json(),
            json!({"f:spec": {"f:selector": {}}})
        );
        assert!(applied_by(&object, "other").is_none());
    }

    #[test]
    fn an_author_has_values_of_ours_and_a_decorator_only_its_own() {
        let git = json!({"metadata": {"name": "a", "labels": {"team": "x"}},
            "spec": {"template": {"spec": {"containers": [{"name": "main", "image": "a:1"}]}}}});
        let container = |fields: Value| {
            set(json!({"f:spec": {"f:template": {"f:spec": {"f:containers": {r#"k:{"name":"main"}"#: fields}}}}}))
        };
        assert!(container(json!({".": {}, "f:image": {}})).meets(&git));
        assert!(!container(json!({".": {}, "f:resources": {"f:limits": {}}})).meets(&git));
        assert!(!set(json!({"f:metadata": {"f:labels": {".": {}, "f:injected": {}}}})).meets(&git));
        assert!(set(json!({"f:metadata": {"f:labels": {"f:team": {}}}})).meets(&git));
    }

    #[test]
    fn what_is_missing_is_named_as_a_path() {
        let left = set(json!({"f:spec": {"f:type": {}, "f:ports": {
            r#"k:{"port":80,"protocol":"TCP"}"#: {".": {}, "f:port": {}}, r#"k:{"port":81,"protocol":"TCP"}"#: {}}},
            "f:metadata": {"f:finalizers": {r#"v:"x.io/y""#: {}}}}));
        let git = json!({"spec": {"type": "ClusterIP", "ports": [{"port": 81}]}, "metadata": {"finalizers": ["x.io/z"]}});
        assert_eq!(left.missing_in(&git), [".metadata.finalizers[x.io/y]", ".spec.ports[port=80,protocol=TCP]"]);
    }
}
