//! What the Sources say of a commit: whether all of it is as Git wants it, and what keeps a target from being released.

use crate::api::{CommitResult, ObjectNote, ObjectState, SourceStatus, SyncedCommit, TargetResult};
use crate::model::{CommitId, NamespacedName};

/// Reasons that are told one by one.
const TOLD: usize = 3;

/// Why a commit is only partly applied; `None` if all of it is, or nobody knows.
pub(super) fn partly(status: &SourceStatus, commit: &str) -> Option<String> {
    let record = record(status, commit)?;
    if record.result == CommitResult::Applied {
        return None;
    }
    let refused: Vec<&ObjectNote> =
        status.objects.iter().filter(|object| object.state == ObjectState::Refused).collect();
    let (objects, problems) = (refused.len(), status.problems.len());
    let counted = [(objects, "object", "refused"), (problems, "problem", "found")].into_iter();
    let counted = counted.filter(|(count, ..)| *count > 0).map(|(count, noun, what)| {
        let ending = if count == 1 { " is" } else { "s are" };
        format!("{count} {noun}{ending} {what}")
    });
    let counted: Vec<String> = counted.collect();
    let words = refused.iter().map(|object| &object.message);
    let words: Vec<&str> =
        words.chain(status.problems.iter().map(|note| &note.message)).take(TOLD).map(String::as_str).collect();
    Some(match counted.is_empty() {
        true => "not all of it was applied".to_owned(),
        false => format!("{}: {}", counted.join(", "), words.join("; ")),
    })
}

/// Why nothing of a commit will be released to a target, as far as a Source has worked it through.
pub(super) fn kept_away(status: &SourceStatus, commit: &CommitId, canary: &NamespacedName) -> Option<String> {
    let record = record(status, commit.as_str())?;
    match record.targets.get(&canary.to_string()) {
        Some(TargetResult::Invalid { message }) => Some(format!("{} is refused: {message}", commit.short())),
        Some(TargetResult::Written { .. } | TargetResult::Announced { .. }) => None,
        None => {
            let problem = status.problems.first()?;
            let short = commit.short();
            Some(format!("{short} brings no revision of {canary} that can be read: {}", problem.message))
        }
    }
}

fn record<'a>(status: &'a SourceStatus, commit: &str) -> Option<&'a SyncedCommit> {
    status.commits.iter().rev().find(|record| record.commit.as_str() == commit)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(value: serde_json::Value) -> SourceStatus {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_commit_of_which_objects_were_refused_is_not_applied() {
        let sha = "a".repeat(40);
        let object = |name: &str, state: &str| json!({"kind": "ConfigMap", "name": name, "state": state, "message": format!("{name}: no"), "since": ""});
        let of = |result: &str| {
            status(json!({
                "commits": [{"commit": sha, "result": result}],
                "objects": [object("a", "Refused"), object("b", "Kept"), object("c", "Refused")],
                "problems": [{"message": "x.yaml:1:1: no", "since": ""}],
            }))
        };
        assert_eq!(partly(&of("applied"), &sha), None);
        assert_eq!(partly(&of("partly"), &"b".repeat(40)), None);
        let words = partly(&of("partly"), &sha).unwrap();
        assert_eq!(words, "2 objects are refused, 1 problem is found: a: no; c: no; x.yaml:1:1: no");
    }

    #[test]
    fn what_no_release_comes_of_is_told() {
        let (sha, canary) = ("a".repeat(40), NamespacedName::new("test", "podinfo"));
        let commit: CommitId = sha.parse().unwrap();
        let of = |targets: serde_json::Value, problems: serde_json::Value| {
            let commits = json!([{"commit": sha, "result": "partly", "targets": targets}]);
            kept_away(&status(json!({"commits": commits, "problems": problems})), &commit, &canary)
        };
        let invalid = json!({"test/podinfo": {"state": "invalid", "message": "app.yaml:3: no field imagee"}});
        assert_eq!(of(invalid, json!([])).unwrap(), "aaaaaaa is refused: app.yaml:3: no field imagee");
        let unreadable = json!([{"message": "app.yaml:3:1: no YAML", "since": ""}]);
        assert!(of(json!({}), unreadable.clone()).unwrap().ends_with("that can be read: app.yaml:3:1: no YAML"));
        assert_eq!(of(json!({}), json!([])), None);
        let revision = format!("v1:{}@{sha}", "a".repeat(20));
        let written = json!({"test/podinfo": {"state": "written", "revision": revision}});
        assert_eq!(of(written, unreadable), None);
    }
}
