//! Sets of field paths, as `managedFields` keeps them (`fieldsV1`).

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value, json};

use super::schema::{Schema, Topology};

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Element {
    /// A field by name.
    Field(String),
    /// A list item by its keys, as canonical JSON.
    Key(String),
    /// A set item by its value, as JSON.
    Value(String),
    /// A list item by position; never written, only read.
    Index(String),
}

/// A set of paths, as a tree.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct FieldSet {
    nodes: BTreeMap<Element, Node>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Node {
    member: bool,
    children: FieldSet,
}

impl FieldSet {
    /// No path at all.
    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Adds a path; the empty one is no member of anything.
    pub(super) fn insert(&mut self, path: &[Element]) {
        match path {
            [] => {}
            [last] => self.nodes.entry(last.clone()).or_default().member = true,
            [first, rest @ ..] => self.nodes.entry(first.clone()).or_default().children.insert(rest),
        }
    }

    /// Removes a subtree of named fields.
    pub(super) fn remove_fields(&mut self, path: &[&str]) {
        let [first, rest @ ..] = path else { return };
        let element = Element::Field((*first).to_owned());
        if rest.is_empty() {
            self.nodes.remove(&element);
        } else if let Some(node) = self.nodes.get_mut(&element) {
            node.children.remove_fields(rest);
            if !node.member && node.children.is_empty() {
                self.nodes.remove(&element);
            }
        }
    }

    /// Keeps one named field at the top.
    pub(super) fn retain_field(&mut self, name: &str) {
        self.nodes.retain(|element, _| *element == Element::Field(name.to_owned()));
    }

    /// Takes back the membership of a named field, not of what is below it.
    pub(super) fn drop_membership(&mut self, name: &str) {
        let element = Element::Field(name.to_owned());
        if let Some(node) = self.nodes.get_mut(&element) {
            node.member = false;
            if node.children.is_empty() {
                self.nodes.remove(&element);
            }
        }
    }

    /// Paths in either.
    pub(super) fn union(mut self, other: &Self) -> Self {
        for (element, node) in &other.nodes {
            let own = self.nodes.entry(element.clone()).or_default();
            own.member |= node.member;
            own.children = std::mem::take(&mut own.children).union(&node.children);
        }
        self
    }

    /// Paths in `self` alone.
    pub(super) fn difference(&self, other: &Self) -> Self {
        self.combine(other, |own, others| own && !others, true)
    }

    /// Paths in both.
    pub(super) fn intersection(&self, other: &Self) -> Self {
        self.combine(other, |own, others| own && others, false)
    }

    fn combine(&self, other: &Self, member: fn(bool, bool) -> bool, keep_alone: bool) -> Self {
        let nodes = self.nodes.iter().filter_map(|(element, node)| {
            let combined = match other.nodes.get(element) {
                Some(others) => Node {
                    member: member(node.member, others.member),
                    children: node.children.combine(&others.children, member, keep_alone),
                },
                None if keep_alone => node.clone(),
                None => return None,
            };
            (combined.member || !combined.children.is_empty()).then(|| (element.clone(), combined))
        });
        Self { nodes: nodes.collect() }
    }

    /// Every path, for messages: `.spec.containers[name="a"].image`.
    pub(super) fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect_paths("", &mut paths);
        paths
    }

    fn collect_paths(&self, prefix: &str, paths: &mut Vec<String>) {
        for (element, node) in &self.nodes {
            let path = format!("{prefix}{element}");
            if node.member {
                paths.push(path.clone());
            }
            node.children.collect_paths(&path, paths);
        }
    }

    /// The `fieldsV1` form.
    pub(super) fn to_fields_v1(&self) -> Value {
        let map: Map<String, Value> = self
            .nodes
            .iter()
            .map(|(element, node)| {
                let mut value = node.children.to_fields_v1();
                if node.member && !node.children.is_empty() {
                    value["."] = json!({});
                }
                let key = match element {
                    Element::Field(name) => format!("f:{name}"),
                    Element::Key(keys) => format!("k:{keys}"),
                    Element::Value(text) => format!("v:{text}"),
                    Element::Index(index) => format!("i:{index}"),
                };
                (key, value)
            })
            .collect();
        Value::Object(map)
    }

    /// Reads the `fieldsV1` form; keys of unknown kinds are skipped.
    pub(super) fn from_fields_v1(fields: &Value) -> Self {
        let mut set = Self::default();
        for (key, value) in fields.as_object().into_iter().flatten() {
            let Some((kind, rest)) = key.split_once(':') else { continue };
            let element = match kind {
                "f" => Element::Field(rest.to_owned()),
                // Through a value, so that both sides have the one canonical order.
                "k" => match serde_json::from_str::<Value>(rest) {
                    Ok(keys) => Element::Key(keys.to_string()),
                    Err(_error) => continue,
                },
                "v" => Element::Value(rest.to_owned()),
                "i" => Element::Index(rest.to_owned()),
                _ => continue,
            };
            let children = Self::from_fields_v1(value);
            let member = children.is_empty() || value.get(".").is_some();
            set.nodes.insert(element, Node { member, children });
        }
        set
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Key(keys) => {
                let parsed: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
                let parts: Vec<String> = parsed.iter().map(|(key, value)| format!("{key}={value}")).collect();
                write!(f, "[{}]", parts.join(","))
            }
            Self::Value(text) => write!(f, "[={text}]"),
            Self::Index(index) => write!(f, "[{index}]"),
        }
    }
}

/// How a value is merged, by its schema if it has one, else by what it is.
pub(super) fn topology<'a>(schema: Option<Schema<'a>>, value: &Value) -> Topology<'a> {
    let declared = schema.map(|schema| schema.topology());
    match (value, declared) {
        (Value::Object(_), Some(Topology::Granular) | None) => Topology::Granular,
        (Value::Array(_), Some(list @ (Topology::Set | Topology::Keyed(_)))) => list,
        _ => Topology::Atomic,
    }
}

/// The items of a list with the elements that name them.
pub(super) fn elements<'v>(
    schema: Option<Schema<'_>>,
    topology: &Topology<'_>,
    list: &'v Value,
) -> Vec<(Element, &'v Value)> {
    let items = list.as_array().map_or(&[][..], Vec::as_slice);
    items.iter().map(|item| (element_of(schema, topology, item), item)).collect()
}

/// What names an item of a list.
pub(super) fn element_of(schema: Option<Schema<'_>>, topology: &Topology<'_>, item: &Value) -> Element {
    let Topology::Keyed(keys) = topology else { return Element::Value(item.to_string()) };
    let item_schema = schema.and_then(|schema| schema.items());
    let key = |name: &&str| {
        let default = || item_schema?.property(name)?.default().cloned();
        let value = item.get(*name).cloned().or_else(default).unwrap_or(Value::Null);
        ((*name).to_owned(), value)
    };
    Element::Key(Value::Object(keys.iter().map(key).collect()).to_string())
}

/// The schema of what an element names.
pub(super) fn schema_of<'a>(schema: Option<Schema<'a>>, element: &Element) -> Option<Schema<'a>> {
    match element {
        Element::Field(name) => schema?.field(name),
        Element::Key(_) | Element::Value(_) | Element::Index(_) => schema?.items(),
    }
}

/// All paths that a value sets.
pub(super) fn set_of(schema: Option<Schema<'_>>, value: &Value) -> FieldSet {
    let mut set = FieldSet::default();
    collect(schema, value, &mut Vec::new(), &mut set);
    set
}

fn collect(schema: Option<Schema<'_>>, value: &Value, path: &mut Vec<Element>, set: &mut FieldSet) {
    let topology = topology(schema, value);
    match (&topology, value) {
        (Topology::Granular, Value::Object(map)) => {
            for (name, field) in map {
                path.push(Element::Field(name.clone()));
                let inner = schema.and_then(|schema| schema.field(name));
                collect(inner, field, path, set);
                let named = schema.is_some_and(|schema| schema.property(name).is_some());
                if !named || field.as_object().is_some_and(Map::is_empty) {
                    set.insert(path);
                }
                path.pop();
            }
        }
        (Topology::Set | Topology::Keyed(_), _) => {
            let inner = schema.and_then(|schema| schema.items());
            for (element, item) in elements(schema, &topology, value) {
                path.push(element);
                collect(inner, item, path, set);
                set.insert(path);
                path.pop();
            }
        }
        (Topology::Atomic | Topology::Granular, _) => set.insert(path),
    }
}

/// What differs between two states of an object.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    pub(super) added: FieldSet,
    pub(super) modified: FieldSet,
    pub(super) removed: FieldSet,
}

/// Compares two states.
pub(super) fn compare(schema: Option<Schema<'_>>, old: &Value, new: &Value) -> Comparison {
    let mut comparison = Comparison::default();
    walk(schema, Some(old), Some(new), &mut Vec::new(), &mut comparison);
    comparison
}

fn walk(
    schema: Option<Schema<'_>>,
    old: Option<&Value>,
    new: Option<&Value>,
    path: &mut Vec<Element>,
    out: &mut Comparison,
) {
    let Some(shape) = new.or(old) else { return };
    if old == new {
        return;
    }
    let topology = match (old, new) {
        // Of different shapes: one replaces the other.
        (Some(old), Some(new)) if self::topology(schema, old) != self::topology(schema, new) => Topology::Atomic,
        _ => self::topology(schema, shape),
    };
    match (old.is_some(), new.is_some()) {
        (false, true) => out.added.insert(path),
        (true, false) => out.removed.insert(path),
        (true, true) if topology == Topology::Atomic => out.modified.insert(path),
        (true, true) | (false, false) => {}
    }
    let pairs = |side: Option<&Value>| -> BTreeMap<Element, Value> {
        let Some(side) = side else { return BTreeMap::new() };
        match &topology {
            Topology::Atomic => BTreeMap::new(),
            Topology::Granular => {
                let fields = side.as_object().into_iter().flatten();
                fields.map(|(name, field)| (Element::Field(name.clone()), field.clone())).collect()
            }
            Topology::Set | Topology::Keyed(_) => {
                let items = elements(schema, &topology, side).into_iter();
                items.map(|(element, item)| (element, item.clone())).collect()
            }
        }
    };
    let (olds, news) = (pairs(old), pairs(new));
    for (element, field) in &olds {
        path.push(element.clone());
        walk(schema_of(schema, element), Some(field), news.get(element), path, out);
        path.pop();
    }
    for (element, field) in news.iter().filter(|(element, _)| !olds.contains_key(*element)) {
        path.push(element.clone());
        walk(schema_of(schema, element), None, Some(field), path, out);
        path.pop();
    }
}

/// Removes what `last` has and nobody owns any more, neither itself nor anything below it.
pub(super) fn remove_unowned(schema: Option<Schema<'_>>, value: &mut Value, last: &FieldSet, owned: &FieldSet) {
    let topology = topology(schema, value);
    match value {
        Value::Object(map) if topology == Topology::Granular => {
            for (element, node) in &last.nodes {
                let Element::Field(name) = element else { continue };
                let inner = schema.and_then(|schema| schema.field(name));
                let named = schema.is_some_and(|schema| schema.property(name).is_some());
                match (owned.nodes.get(element), map.get_mut(name)) {
                    (_, None) => {}
                    (Some(own), Some(field)) => remove_unowned(inner, field, &node.children, &own.children),
                    (None, Some(_)) if node.member || named => {
                        map.remove(name);
                    }
                    (None, Some(field)) => remove_unowned(inner, field, &node.children, &FieldSet::default()),
                }
            }
        }
        Value::Array(items) if topology != Topology::Atomic => {
            let inner = schema.and_then(|schema| schema.items());
            items.retain_mut(|item| {
                let element = element_of(schema, &topology, item);
                match (last.nodes.get(&element), owned.nodes.get(&element)) {
                    (None, _) => true,
                    (Some(node), None) if node.member => false,
                    (Some(node), own) => {
                        let none = FieldSet::default();
                        let own = own.map_or(&none, |own| &own.children);
                        let mut children = node.children.clone();
                        // Keys name the item: they stay as long as it does.
                        if let Topology::Keyed(keys) = &topology {
                            keys.iter().for_each(|key| children.remove_fields(&[key]));
                        }
                        remove_unowned(inner, item, &children, own);
                        true
                    }
                }
            });
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use crate::apiserver::schema::named;

    use super::*;

    fn deployment() -> Option<Schema<'static>> {
        named("io.k8s.api.apps.v1.Deployment")
    }

    fn pod(image: &str) -> Value {
        json!({"spec": {"template": {"spec": {"containers": [
            {"name": "a", "image": image, "ports": [{"containerPort": 80}]}
        ]}}}})
    }

    #[test]
    fn names_items_by_their_keys_with_defaults() {
        let fields = set_of(deployment(), &pod("x:1")).to_fields_v1();
        let container = &fields["f:spec"]["f:template"]["f:spec"]["f:containers"]["k:{\"name\":\"a\"}"];
        assert_eq!(container["f:image"], json!({}));
        let port = &container["f:ports"]["k:{\"containerPort\":80,\"protocol\":\"TCP\"}"];
        assert_eq!(*port, json!({".": {}, "f:containerPort": {}}));
        assert_eq!(FieldSet::from_fields_v1(&fields).to_fields_v1(), fields);
    }

    #[test]
    fn compares_down_to_the_field() {
        let comparison = compare(deployment(), &pod("x:1"), &pod("x:2"));
        assert_eq!(comparison.modified.paths(), [".spec.template.spec.containers[name=\"a\"].image"]);
        assert!(comparison.added.is_empty() && comparison.removed.is_empty());
    }
}
