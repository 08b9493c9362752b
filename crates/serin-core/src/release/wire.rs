//! The stored form of a state: `status.serin.version` and `status.serin.state`.
//!
//! What is stored outlasts the build that wrote it. The form of the present [`VERSION`] is what serde makes of [`State`]; a
//! golden file with every field (`tests/wire/`) fails when that changes. Whoever changes it raises [`VERSION`], writes how a
//! state of the version before becomes one of the new ([`UPGRADES`]), and keeps the golden file of the version before, which
//! goes on being read. A newer version is never taken for an old one and never for none.

use serde_json::{Map, Value, json};

use super::state::State;

/// The version that this build writes.
pub const VERSION: i64 = 3;
/// What states without a version are: none was ever written without.
const FIRST: i64 = 1;

/// How a state of one version becomes one of the next; the first is of version [`FIRST`].
const UPGRADES: [fn(&mut Value); 2] = [weights_become_routings, withdrawn_is_not_superseded];
const _: () = assert!(UPGRADES.len() as i64 == VERSION - FIRST, "each version before has its upgrade");

/// Why a stored state cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A later Serin wrote it.
    #[error(
        "status.serin has version {found}, this build reads {VERSION}: a newer Serin wrote it, run that again. Nothing of it is \
         touched until then"
    )]
    Newer {
        /// Its version.
        found: i64,
    },
    /// It is damaged.
    #[error("status.serin.state cannot be read ({0}): repair or remove it")]
    Damaged(String),
}

/// A state as it is stored with [`VERSION`] beside it.
pub fn write(state: &State) -> Value {
    // States are plain data: there is no way in which this could fail.
    serde_json::to_value(state).unwrap_or_default()
}

/// Reads what is stored, whatever version wrote it; `None` where nothing is.
///
/// # Errors
/// If a later Serin wrote it, or it is no state.
pub fn read(version: i64, stored: Value) -> Result<Option<State>, WireError> {
    if version > VERSION {
        return Err(WireError::Newer { found: version });
    }
    if stored.is_null() {
        return Ok(None);
    }
    let mut state = stored;
    let done = usize::try_from(version - FIRST).unwrap_or(0);
    for upgrade in UPGRADES.iter().skip(done) {
        upgrade(&mut state);
    }
    serde_json::from_value(state).map(Some).map_err(|error| WireError::Damaged(error.to_string()))
}

/// Version 1 knew the candidate's percent and nothing else of traffic.
fn weights_become_routings(state: &mut Value) {
    if let Some(phase) = state.get_mut("phase").and_then(Value::as_object_mut) {
        rename(phase, "weights", "routing");
        rename(phase, "weightsSince", "shownSince");
        route(phase.get_mut("routing"));
    }
    if let Some(waits) = state.get_mut("waitingOn").and_then(Value::as_object_mut)
        && waits.get("kind").and_then(Value::as_str) == Some("weights")
    {
        waits.insert("kind".to_owned(), Value::from("route"));
        route(waits.get_mut("wanted"));
    }
}

/// Version 2 called a release superseded that nothing came after: what primary runs was wanted again. It knew no verdicts of too
/// few samples, no stretched windows and no comparison, held no revision back and refused none by hand, all of which version 3 may be without.
fn withdrawn_is_not_superseded(state: &mut Value) {
    let rests = state["phase"]["name"] == "idle" && state["phase"]["last"] == "Superseded";
    let is_promoted = state["lastApplied"].is_string()
        && state["promoted"]["revision"].as_str().and_then(|revision| revision.split('@').next())
            == state["lastApplied"].as_str();
    if rests && is_promoted && state.get("admitted").is_none() {
        state["phase"]["last"] = Value::from("Withdrawn");
        if state["lastOutcome"]["kind"] == "Superseded" {
            state["lastOutcome"]["kind"] = Value::from("Withdrawn");
        }
    }
}

fn rename(map: &mut Map<String, Value>, from: &str, to: &str) {
    if let Some(value) = map.remove(from) {
        map.insert(to.to_owned(), value);
    }
}

fn route(weight: Option<&mut Value>) {
    if let Some(weight) = weight.filter(|weight| weight.is_number()) {
        *weight = json!({"base": {"candidate": weight.take()}});
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::model::Routing;
    use crate::release::outcome::OutcomeKind;
    use crate::release::report::WaitingOn;
    use crate::release::state::Phase;

    #[test]
    fn a_state_that_knew_weights_only_is_read() {
        let at = "2026-01-01T00:00:00Z";
        let stored = json!({
            "phase": {"name": "releasing", "id": "2-a6fb26d2", "revision": format!("v1:{}", "a".repeat(20)),
                "started": at, "stage": {"name": "analysing"}, "step": 5, "steps": 10, "tick": 4, "opened": at, "due": at,
                "failedChecks": 1, "held": 0, "weights": 30, "weightsSince": at, "firstTraffic": at},
            "waitingOn": {"kind": "weights", "wanted": 30}
        });
        assert!(matches!(read(VERSION, stored.clone()), Err(WireError::Damaged(_))), "it is not of this version");
        let state = read(FIRST, stored).unwrap().unwrap();
        let release = state.release().unwrap();
        assert_eq!(release.routing, Routing::candidate_percent(30));
        assert!(release.shown_since.is_some());
        let wanted = Routing::candidate_percent(30);
        assert_eq!(state.waiting_on, Some(WaitingOn::Route { wanted, reason: None }));
    }

    #[test]
    fn what_nothing_came_after_was_withdrawn() {
        let at = "2026-01-01T00:00:00Z";
        let (promoted, other) = (format!("v1:{}", "a".repeat(20)), format!("v1:{}", "b".repeat(20)));
        let stored = |applied: &str| {
            json!({
                "phase": {"name": "idle", "last": "Superseded", "since": at},
                "lastApplied": applied,
                "promoted": {"revision": format!("{promoted}@{}", "c".repeat(40)), "at": at},
                "lastOutcome": {"release": "2-bbbbbbbb", "kind": "Superseded", "revision": other, "started": at, "ended": at},
            })
        };
        for (applied, expected) in [(&promoted, OutcomeKind::Withdrawn), (&other, OutcomeKind::Superseded)] {
            let state = read(2, stored(applied)).unwrap().unwrap();
            assert!(matches!(state.phase, Phase::Idle { last, .. } if last == expected), "{state:?}");
            assert_eq!(state.last_outcome.unwrap().kind, expected);
        }
    }

    #[test]
    fn a_newer_version_is_neither_read_nor_taken_for_none() {
        let newer = Err(WireError::Newer { found: VERSION + 1 });
        assert_eq!(read(VERSION + 1, write(&State::new(Timestamp::UNIX_EPOCH))), newer);
        assert_eq!(read(VERSION + 1, Value::Null), newer);
        assert_eq!(read(0, Value::Null), Ok(None));
        assert!(matches!(read(VERSION, json!({"phase": 7})), Err(WireError::Damaged(_))));
    }
}
