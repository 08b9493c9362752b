//! Watched objects at rest.

use serde_json::Value;

use crate::model::Frozen;

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
