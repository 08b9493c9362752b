//! JSON at rest.

use serde_json::Value;

/// A JSON value kept as text: a tenth of the memory of a tree. Looks are rare, idle targets are many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frozen(Box<str>);

impl Frozen {
    /// Keeps a value.
    pub fn of(value: &Value) -> Self {
        Self(value.to_string().into_boxed_str())
    }

    /// The value.
    pub fn thaw(&self) -> Value {
        // What was printed by serde_json is read by it.
        serde_json::from_str(&self.0).unwrap_or_default()
    }
}
