//! The engine's state on a Rollout: the annotation `serin.dev/state`. Argo Rollouts' definition prunes what it does not know of
//! the status, so the state stands in the metadata, where one write with the Rollout's resourceVersion has it.

use serde_json::{Value, json};

use crate::release::State;

/// Version of what is stored.
const VERSION: u64 = 1;

/// A state that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoredError {
    /// It was written by a newer version.
    #[error(
        "the annotation serin.dev/state has version {found}, which this version of Serin does not know: upgrade it"
    )]
    Newer {
        /// The version found.
        found: u64,
    },
    /// It is damaged.
    #[error("the annotation serin.dev/state cannot be read: {0}; remove it and the Rollout is taken up as it is")]
    Unreadable(String),
}

/// Reads the annotation.
///
/// # Errors
/// When it is of a newer version, or damaged.
pub fn read(annotation: Option<&str>) -> Result<Option<State>, StoredError> {
    let Some(text) = annotation else { return Ok(None) };
    let unreadable = |error: serde_json::Error| StoredError::Unreadable(error.to_string());
    let mut stored: Value = serde_json::from_str(text).map_err(unreadable)?;
    match stored["version"].as_u64() {
        Some(VERSION) => serde_json::from_value(stored["state"].take()).map(Some).map_err(unreadable),
        Some(found) if found > VERSION => Err(StoredError::Newer { found }),
        Some(_) | None => Err(StoredError::Unreadable("it has no version".to_owned())),
    }
}

/// The annotation of a state.
pub fn write(state: &State) -> String {
    json!({"version": VERSION, "state": state}).to_string()
}
