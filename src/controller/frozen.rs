//! JSON at rest.

use serde_json::Value;

/// A JSON value kept as text: a tenth of the memory of a tree. Looks are rare, idle targets are many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frozen(Box<str>);

impl Frozen {
    /// Keeps a value.
    pub(super) fn of(value: &Value) -> Self {
        Self(value.to_string().into_boxed_str())
    }

    /// The value.
    pub(super) fn thaw(&self) -> Value {
        // What was printed by serde_json is read by it.
        serde_json::from_str(&self.0).unwrap_or_default()
    }
}

/// A watched object: its version at hand, the rest at rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FrozenObject {
    pub(super) resource_version: Option<String>,
    object: Frozen,
}

impl FrozenObject {
    /// Keeps an object.
    pub(super) fn of(object: &Value) -> Self {
        let resource_version = object["metadata"]["resourceVersion"].as_str().map(str::to_owned);
        Self { resource_version, object: Frozen::of(object) }
    }

    /// The object.
    pub(super) fn thaw(&self) -> Value {
        self.object.thaw()
    }
}
