use pretty_assertions::assert_eq;

use super::*;
use crate::model::CommitId;
use crate::release::{Cause, OutcomeKind};
use crate::report::samples::{canary, target};

fn revision(hex: char) -> Revision {
    let digest = hex.to_string().repeat(20);
    let commit = hex.to_string().repeat(40);
    format!("v1:{digest}@{commit}").parse().unwrap()
}

fn time(second: u32) -> Timestamp {
    format!("2026-01-02T03:04:{second:02}Z").parse().unwrap()
}

fn outcome(number: u64, hex: char, kind: OutcomeKind, second: u32) -> Outcome {
    let revision = revision(hex);
    Outcome {
        release: ReleaseId::new(number, &revision.digest),
        kind,
        revision,
        promoted: None,
        cause: (kind == OutcomeKind::Failed).then(|| Cause { message: "success rate 69.17% < 99%: yes".into() }),
        started: time(0),
        ended: time(second),
        checks: Vec::new(),
        overrode: None,
    }
}

fn report() -> TargetReport {
    TargetReport {
        canary: canary(),
        target: target(),
        phase: "Succeeded".into(),
        since: time(1),
        release: None,
        revision: None,
        weight: 0,
        step: None,
        waiting_on: None,
        promoted: Some(revision('a')),
        policy: None,
        checks: Vec::new(),
        cause: None,
        approved_by: None,
        recorded: None,
        rolled_back: Vec::new(),
        quarantined: Vec::new(),
        outbox: Vec::new(),
        outbox_merged: 0,
    }
}

fn built(old: &Files, reports: &[TargetReport], gone: &[NamespacedName]) -> Files {
    let file = ManifestFile { path: "deploy/podinfo.yaml".into(), text: "# good\n".into(), configs: Vec::new() };
    let manifests = [(canary(), file)].into();
    let known = reports.iter().any(|report| report.promoted.is_some());
    let nothing = BTreeMap::new();
    let manifests = if known { &manifests } else { &nothing };
    let input = Input {
        cluster: "c|1",
        writer: "uid",
        reports,
        gone,
        manifests,
        rollbacks: &BTreeMap::new(),
        committed: &BTreeMap::new(),
    };
    build(old, &input)
}

fn text(files: &Files, path: &str) -> String {
    String::from_utf8(files[path].clone()).unwrap()
}

#[test]
fn holds_what_a_rebuild_needs() {
    let mut report = report();
    report.outbox = vec![outcome(2, 'b', OutcomeKind::Failed, 30)];
    let files = built(&Files::new(), std::slice::from_ref(&report), &[]);
    let paths: Vec<_> = files.keys().map(String::as_str).collect();
    assert_eq!(
        paths,
        [
            "README.md",
            "history/test/podinfo/20260102T030430Z-2-bbbbbbbb.yaml",
            "ledger/test/podinfo.tsv",
            "manifests/test/podinfo/podinfo.yaml",
            "record.yaml",
            "test/podinfo.yaml"
        ]
    );
    assert_eq!(text(&files, "record.yaml"), "version: 1\ncluster: c|1\nwriter: uid\n");
    assert!(text(&files, "README.md").contains("# Releases on c\\|1\n"));
    assert!(text(&files, "README.md").contains("| [test/podinfo](test/podinfo.yaml) | Succeeded | 0 % |"));
    assert!(holds(&files, &canary(), &report.outbox[0]));
    let record = Record::read("b", "c".repeat(40).parse().unwrap(), files.clone()).unwrap();
    let read = record.targets[&canary()].as_ref().unwrap();
    assert_eq!(read.promoted.as_ref().unwrap().revision, revision('a'));
    assert_eq!(record.history(&canary())[0].cause.as_deref(), Some("success rate 69.17% < 99%: yes"));
    // The copy is no template with that digest: damage, not absence.
    assert!(matches!(record.promoted(&canary()), Err(RecordError::Target { .. })));
    // Nothing new, nothing changed.
    assert_eq!(built(&files, &[report], &[]), files);
}

#[test]
fn what_nobody_knows_yet_is_kept_and_what_is_deleted_goes() {
    let files = built(&Files::new(), &[report()], &[]);
    // After a rebuild: first no Canary, then one that has promoted nothing.
    assert_eq!(built(&files, &[], &[]), files);
    let fresh = TargetReport { phase: "Initializing".into(), promoted: None, ..report() };
    let after = built(&files, &[fresh], &[]);
    let read: TargetRecord = wire::read(&after["test/podinfo.yaml"]).unwrap();
    assert_eq!((read.phase.as_str(), read.promoted.unwrap().revision), ("Initializing", revision('a')));
    assert!(after.contains_key("manifests/test/podinfo/podinfo.yaml"));
    let left: Vec<_> = built(&files, &[], &[canary()]).into_keys().collect();
    assert_eq!(left, ["README.md", "record.yaml"]);
}

#[test]
fn another_promotion_replaces_the_manifest() {
    let files = built(&Files::new(), &[report()], &[]);
    let input = Input {
        cluster: "c",
        writer: "uid",
        reports: &[TargetReport { promoted: Some(revision('b')), ..report() }],
        gone: &[],
        manifests: &BTreeMap::new(),
        rollbacks: &BTreeMap::new(),
        committed: &BTreeMap::new(),
    };
    // Its manifest is unknown: better none than another revision's.
    let after = build(&files, &input);
    assert!(!after.contains_key("manifests/test/podinfo/podinfo.yaml"), "{:?}", after.keys());
    let read: TargetRecord = wire::read(&after["test/podinfo.yaml"]).unwrap();
    assert_eq!(read.promoted.unwrap().manifest, None);
}

#[test]
fn history_is_bounded_and_survives_a_restarted_count() {
    let mut files = Files::new();
    for number in 1..=30 {
        let outbox = vec![outcome(number, 'a', OutcomeKind::Succeeded, u32::try_from(number).unwrap())];
        files = built(&files, &[TargetReport { outbox, ..report() }], &[]);
    }
    let kept: Vec<_> = files.keys().filter(|path| path.starts_with("history/")).collect();
    assert_eq!(kept.len(), HISTORY_MAX);
    assert!(kept[0].contains("-11-"), "{}", kept[0]);
    // An old outcome that is no longer kept was told once; one with an old number but a new time is news.
    assert!(holds(&files, &canary(), &outcome(3, 'a', OutcomeKind::Succeeded, 3)));
    assert!(!holds(&files, &canary(), &outcome(1, 'a', OutcomeKind::Succeeded, 59)));
}

#[test]
fn other_peoples_branches_are_refused() {
    let commit: CommitId = "c".repeat(40).parse().unwrap();
    let read = |text: &str| Record::read("b", commit.clone(), [("record.yaml".to_owned(), text.into())].into());
    assert!(matches!(Record::read("b", commit.clone(), Files::new()), Err(RecordError::Foreign { .. })));
    assert!(matches!(read("version: 2\ncluster: c\nwriter: u\n"), Err(RecordError::Newer { found: 2, .. })));
    assert!(matches!(read("{{"), Err(RecordError::Foreign { .. })));
}
