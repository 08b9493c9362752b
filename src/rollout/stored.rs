//! The engine's state on a Rollout: the annotation `serin.dev/state`. Argo Rollouts' definition prunes what it does not know of
//! the status, so the state stands in the metadata, where one write with the Rollout's resourceVersion has it.

use serde_json::{Value, json};

use crate::release::State;
use crate::release::wire::{self, WireError};

/// A state that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoredError {
    /// It was written by a newer version.
    #[error(
        "the annotation serin.dev/state has version {found}, which this version of Serin does not know: upgrade it"
    )]
    Newer {
        /// The version found.
        found: i64,
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
    let Some(version) = stored["version"].as_i64() else {
        return Err(StoredError::Unreadable("it has no version".to_owned()));
    };
    wire::read(version, stored["state"].take()).map_err(|error| match error {
        WireError::Newer { found } => StoredError::Newer { found },
        WireError::Damaged(reason) => StoredError::Unreadable(reason),
    })
}

/// The annotation of a state.
pub fn write(state: &State) -> String {
    json!({"version": wire::VERSION, "state": wire::write(state)}).to_string()
}
