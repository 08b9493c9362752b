//! One view on both kinds of schema: Kubernetes' own types (with references) and a CRD's structural schema.

use std::sync::LazyLock;

use serde_json::{Map, Value};

/// Kubernetes' types, cut from its OpenAPI document by `kinds/trim_openapi.py`.
static TYPES: LazyLock<Map<String, Value>> = LazyLock::new(|| {
    let parsed = serde_json::from_str(include_str!("kinds/types.json"));
    parsed.unwrap_or_else(|error| {
        // A test proves that the embedded file parses; without types every write would be refused.
        tracing::error!(%error, "embedded types.json does not parse");
        Map::new()
    })
});

/// Name of `ObjectMeta` among the types.
pub(super) const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// All types by name.
pub(super) fn types() -> &'static Map<String, Value> {
    &TYPES
}

/// The type called `name`.
pub(super) fn named(name: &str) -> Option<Schema<'static>> {
    TYPES.get(name).map(|node| Schema { node })
}

/// A schema node.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schema<'a> {
    node: &'a Value,
}

/// How a value is merged by server-side apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Topology<'a> {
    /// Replaced whole.
    Atomic,
    /// An object whose fields have owners of their own.
    Granular,
    /// A list of distinct scalars.
    Set,
    /// A list of objects told apart by these keys.
    Keyed(Vec<&'a str>),
}

impl<'a> Schema<'a> {
    /// Wraps a node; a reference is followed, so constraints are always those of the definition.
    pub(super) fn new(node: &'a Value) -> Self {
        match node.get("$ref").and_then(Value::as_str).and_then(|name| TYPES.get(name)) {
            Some(definition) => Self { node: definition },
            None => Self { node },
        }
    }

    /// A keyword's value.
    pub(super) fn keyword(&self, name: &str) -> Option<&'a Value> {
        self.node.get(name)
    }

    fn text(&self, name: &str) -> Option<&'a str> {
        self.node.get(name)?.as_str()
    }

    fn flag(&self, name: &str) -> bool {
        self.node.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    /// `type`.
    pub(super) fn kind(&self) -> Option<&'a str> {
        self.text("type")
    }

    /// Named properties.
    pub(super) fn properties(&self) -> Option<&'a Map<String, Value>> {
        self.node.get("properties")?.as_object()
    }

    /// The schema of a named property.
    pub(super) fn property(&self, name: &str) -> Option<Self> {
        self.properties()?.get(name).map(Self::new)
    }

    /// The property's own node, where patch strategy and list type of a reference stand beside `$ref`.
    pub(super) fn property_node(&self, name: &str) -> Option<&'a Value> {
        self.properties()?.get(name)
    }

    /// The schema of a map's values.
    pub(super) fn additional(&self) -> Option<Self> {
        let node = self.node.get("additionalProperties")?;
        node.is_object().then(|| Self::new(node))
    }

    /// The schema of a field, named or of a map.
    pub(super) fn field(&self, name: &str) -> Option<Self> {
        self.property(name).or_else(|| self.additional())
    }

    /// The schema of a list's items.
    pub(super) fn items(&self) -> Option<Self> {
        self.node.get("items").map(Self::new)
    }

    /// `required`.
    pub(super) fn required(&self) -> impl Iterator<Item = &'a str> {
        self.node.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
    }

    /// `default`.
    pub(super) fn default(&self) -> Option<&'a Value> {
        self.node.get("default")
    }

    /// Fields without a schema are kept.
    pub(super) fn preserves_unknown(&self) -> bool {
        self.flag("x-kubernetes-preserve-unknown-fields")
            || self.node.get("additionalProperties").is_some_and(|node| node == &Value::Bool(true))
    }

    /// A whole Kubernetes object inside another.
    pub(super) fn is_embedded_resource(&self) -> bool {
        self.flag("x-kubernetes-embedded-resource")
    }

    /// A number or a string.
    pub(super) fn is_int_or_string(&self) -> bool {
        self.flag("x-kubernetes-int-or-string") || self.text("format") == Some("int-or-string")
    }

    /// `null` is a value.
    pub(super) fn is_nullable(&self) -> bool {
        self.flag("nullable")
    }

    /// How the value is merged.
    pub(super) fn topology(&self) -> Topology<'a> {
        match self.kind() {
            Some("array") => match self.text("x-kubernetes-list-type") {
                Some("set") => Topology::Set,
                Some("map") => Topology::Keyed(self.map_keys()),
                Some(_) | None => Topology::Atomic,
            },
            Some("object") | None if self.text("x-kubernetes-map-type") == Some("atomic") => Topology::Atomic,
            Some("object") => Topology::Granular,
            None if self.is_int_or_string() || self.node.get("oneOf").is_some() => Topology::Atomic,
            // Without a type the value decides: objects are granular, the rest is atomic.
            None => Topology::Granular,
            Some(_) => Topology::Atomic,
        }
    }

    fn map_keys(&self) -> Vec<&'a str> {
        let keys = self.node.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
        keys.into_iter().flatten().filter_map(Value::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embedded_types_parse_and_know_their_list_keys() {
        let containers = named("io.k8s.api.core.v1.PodSpec").and_then(|spec| spec.property("containers")).unwrap();
        assert_eq!(containers.topology(), Topology::Keyed(vec!["name"]));
        let ports = containers.items().and_then(|item| item.property("ports")).unwrap();
        assert_eq!(ports.topology(), Topology::Keyed(vec!["containerPort", "protocol"]));
        let selector = named("io.k8s.api.apps.v1.DeploymentSpec").and_then(|spec| spec.property("selector"));
        assert_eq!(selector.unwrap().topology(), Topology::Atomic);
    }
}
