//! The engine's state on a Rollout, and what it says that is carried out: the annotation `serin.dev/state`. Argo Rollouts' definition prunes what it does not know of
//! the status, so the state stands in the metadata, where one write with the Rollout's resourceVersion has it.

use serde_json::{Value, json};

use crate::release::State;
use crate::release::wire::{self, WireError};

/// Longest strategy that is kept: the annotations of an object have 256 KiB together.
const KEPT_MAX: usize = 16 * 1024;
/// What of a spec is kept. Sizes and templates are always those of now.
const KEPT: [&str; 7] = [
    "strategy",
    "minReadySeconds",
    "progressDeadlineSeconds",
    "progressDeadlineAbort",
    "revisionHistoryLimit",
    "rollbackWindow",
    "workloadRef",
];

/// What the annotation says.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Stored {
    /// The engine's state.
    pub state: Option<State>,
    /// What of the last spec that could be carried out is kept; null if nothing is.
    pub kept: Value,
}

/// What of a spec is kept; null if that is too long.
pub fn kept(spec: &Value) -> Value {
    let fields = KEPT.iter().filter_map(|key| Some(((*key).to_owned(), spec.get(key)?.clone())));
    let kept = Value::Object(fields.collect());
    if kept.to_string().len() > KEPT_MAX { Value::Null } else { kept }
}

/// The live spec with what was kept instead of what it says of that now; `None` if nothing was.
pub fn instead(live: &Value, kept: &Value) -> Option<Value> {
    let mut spec = kept.as_object()?.clone();
    for key in ["replicas", "selector", "template", "paused"] {
        spec.insert(key.to_owned(), live[key].clone());
    }
    Some(Value::Object(spec))
}

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
pub fn read(annotation: Option<&str>) -> Result<Stored, StoredError> {
    let Some(text) = annotation else { return Ok(Stored::default()) };
    let unreadable = |error: serde_json::Error| StoredError::Unreadable(error.to_string());
    let mut stored: Value = serde_json::from_str(text).map_err(unreadable)?;
    let Some(version) = stored["version"].as_i64() else {
        return Err(StoredError::Unreadable("it has no version".to_owned()));
    };
    let state = wire::read(version, stored["state"].take()).map_err(|error| match error {
        WireError::Newer { found } => StoredError::Newer { found },
        WireError::Damaged(reason) => StoredError::Unreadable(reason),
    })?;
    Ok(Stored { state, kept: stored["spec"].take() })
}

/// The annotation.
pub fn write(state: &State, kept: &Value) -> String {
    json!({"version": wire::VERSION, "state": wire::write(state), "spec": kept}).to_string()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn what_is_stored_is_read_again_and_strangers_versions_are_named() {
        let state = State::new(Timestamp::UNIX_EPOCH);
        let spec = json!({"replicas": 3, "template": {"a": 1}, "strategy": {"canary": {"steps": []}}});
        let kept = kept(&spec);
        assert_eq!(kept, json!({"strategy": {"canary": {"steps": []}}}));
        let text = write(&state, &kept);
        assert_eq!(read(Some(&text)), Ok(Stored { state: Some(state), kept: kept.clone() }));
        assert_eq!(read(None), Ok(Stored::default()));
        assert_eq!(read(Some(r#"{"version":9}"#)), Err(StoredError::Newer { found: 9 }));
        assert!(matches!(read(Some("{")), Err(StoredError::Unreadable(_))));

        let live = json!({"replicas": 5, "template": {"a": 2}, "strategy": {"blueGreen": {}}});
        let spec = instead(&live, &kept).unwrap();
        assert_eq!(
            (&spec["replicas"], &spec["template"], &spec["strategy"]),
            (&live["replicas"], &live["template"], &kept["strategy"])
        );
        assert_eq!(instead(&live, &Value::Null), None);
    }
}
