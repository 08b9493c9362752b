//! What is said of commits, when it is told, and what survives a restart.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::json;

use super::board::Board;
use super::judge::Said;
use super::ledger::{ENTRIES_MAX, Entry, Ledger, POSTS_MAX, PROGRESS_MAX, Told};
use super::target::{End, Running, WatchedTarget};
use super::touched::{Touch, What};
use crate::api::SourceStatus;
use crate::forge::CommitState;
use crate::model::{CommitId, Digest, NamespacedName, ObjectRef, ReleaseId};
use crate::release::OutcomeKind;

fn canary() -> NamespacedName {
    NamespacedName::new("test", "podinfo")
}

fn commit(number: u64) -> CommitId {
    format!("{number:040x}").parse().unwrap()
}

fn digest(name: &str) -> Digest {
    Digest::of_canonical(name.as_bytes())
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn new(number: u64, name: &str) -> Touch {
    Touch { commit: commit(number), canary: canary(), what: What::New { digest: digest(name) } }
}

fn target() -> WatchedTarget {
    WatchedTarget {
        target: ObjectRef {
            group: "apps".into(),
            kind: "Deployment".into(),
            namespace: Some("test".into()),
            name: "podinfo".into(),
        },
        running: None,
        ends: Vec::new(),
        newest: None,
        acknowledged: None,
        promoted: Some((digest("old"), None)),
        quarantined: Vec::new(),
        held: None,
        suspended: false,
        obstacle: None,
    }
}

fn running(name: &str) -> Running {
    Running { digest: digest(name), commit: None, words: "step 1/2 · 30%".into(), failing: false }
}

fn end(number: u64, name: &str, kind: OutcomeKind, second: i64) -> End {
    let digest = digest(name);
    let release = ReleaseId::new(number, &digest);
    End { release, digest, commit: None, kind, ended: at(second), cause: Some("errors".into()) }
}

/// A branch and what is said of its commits.
struct Story {
    ledger: Ledger,
    target: WatchedTarget,
    source: SourceStatus,
}

impl Story {
    fn new() -> Self {
        Self { ledger: Ledger::default(), target: target(), source: SourceStatus::default() }
    }

    /// These are pushed together.
    fn push(&mut self, touches: &[Touch], second: i64) {
        let tip = touches.last().unwrap().commit.clone();
        self.ledger.fold(tip, touches.to_vec(), at(second));
    }

    fn apply(&mut self) {
        self.ledger.applied();
        let commit = self.ledger.tip.as_ref().unwrap().to_string();
        self.source.applied = Some(crate::api::CommitAt { commit, at: String::new() });
    }

    fn said(&mut self) -> Vec<(CommitState, String)> {
        let Self { ledger, target, source } = self;
        ledger.judge(|_| Some(&*target), source, at(1_000));
        ledger.entries.iter().map(|entry| (entry.said.state, entry.said.words.clone())).collect()
    }

    fn states(&mut self) -> Vec<CommitState> {
        self.said().into_iter().map(|(state, _)| state).collect()
    }
}

use CommitState::{Cancelled, Error, Failure, Pending, Running as Releasing, Success};

#[test]
fn a_commit_is_pending_then_released_then_a_success() {
    let mut story = Story::new();
    story.push(&[new(1, "a")], 0);
    assert_eq!(story.said(), [(Pending, "seen; its turn comes".to_owned())]);
    story.apply();
    assert_eq!(story.states(), [Pending]);
    story.target.running = Some(running("a"));
    assert_eq!(story.said(), [(Releasing, "step 1/2 · 30%".to_owned())]);
    story.target.running = None;
    story.target.ends = vec![end(2, "a", OutcomeKind::Succeeded, 50)];
    assert_eq!(story.states(), [Success]);
    assert!(story.ledger.entries[0].said.is_final);
}

#[test]
fn every_commit_of_one_push_has_an_end_of_its_own() {
    let mut story = Story::new();
    let same = Touch { what: What::Same, ..new(3, "x") };
    let broken = Touch { what: What::Unreadable { fault: "d.yaml: no".into() }, ..new(4, "x") };
    story.push(&[new(1, "a"), new(2, "b"), same, broken, new(5, "old"), new(6, "c")], 0);
    assert_eq!(story.states(), [Pending, Pending, Pending, Error, Success, Pending]);
    story.apply();
    story.target.running = Some(running("c"));
    let said = story.said();
    let states: Vec<CommitState> = said.iter().map(|(state, _)| *state).collect();
    assert_eq!(states, [Cancelled, Cancelled, Success, Error, Success, Releasing]);
    assert_eq!(said[0].1, format!("superseded by {}", commit(6).short()));
    // The release of the last one ends; nothing of the others changes.
    story.target.running = None;
    story.target.ends = vec![end(2, "c", OutcomeKind::Failed, 50)];
    assert_eq!(story.states(), [Cancelled, Cancelled, Success, Error, Success, Failure]);
}

#[test]
fn a_release_that_another_commit_replaces_says_which() {
    let mut story = Story::new();
    story.push(&[new(1, "a")], 0);
    story.apply();
    story.target.running = Some(running("a"));
    story.push(&[new(2, "b")], 10);
    story.apply();
    assert_eq!(story.states(), [Releasing, Pending], "its traffic is still going back");
    story.target.running = Some(running("b"));
    story.target.ends = vec![end(2, "a", OutcomeKind::Superseded, 20)];
    assert_eq!(story.states(), [Cancelled, Releasing]);
}

#[test]
fn a_version_that_failed_is_a_failure_again_until_it_is_retried() {
    let mut story = Story::new();
    story.target.quarantined = vec![(digest("a"), ReleaseId::new(2, &digest("a")))];
    // Its end was long before this commit.
    story.target.ends = vec![end(2, "a", OutcomeKind::Failed, -500)];
    story.push(&[new(3, "a")], 0);
    story.apply();
    let said = story.said();
    assert_eq!(said[0].0, Failure);
    assert!(said[0].1.contains("serin retry"), "{said:?}");
    story.target.running = Some(running("a"));
    assert_eq!(story.states(), [Releasing]);
    story.target.running = None;
    story.target.quarantined.clear();
    story.target.ends.push(end(3, "a", OutcomeKind::Succeeded, 100));
    assert_eq!(story.states(), [Success]);
}

#[test]
fn what_keeps_a_commit_from_its_release_is_an_error_that_may_go() {
    let source = |value| serde_json::from_value::<SourceStatus>(value).unwrap();
    let applied = json!({"commit": commit(1), "at": ""});
    let invalid = json!({"applied": applied, "commits": [
        {"commit": commit(1), "result": "partly", "targets": {"test/podinfo": {"state": "invalid", "message": "no limit"}}},
    ]});
    let note = |state: &str, kind: &str| {
        json!({"applied": applied, "objects": [
            {"kind": kind, "namespace": "test", "name": "podinfo", "state": state, "message": "why", "since": ""},
        ]})
    };
    let cases = [
        (source(invalid), false, None, Error, "invalid: no limit"),
        (source(note("Refused", "Canary")), false, None, Error, "held: why"),
        (source(note("Refused", "Deployment")), false, None, Error, "held: why"),
        (source(note("Refused", "Job")), false, None, Pending, "seen"),
        (source(note("Waiting", "Deployment")), false, None, Pending, "waits: why"),
        (source(json!({"applied": applied})), true, None, Error, "suspended"),
        (source(json!({"applied": applied})), false, Some("no route"), Error, "blocked: no route"),
    ];
    for (source, suspended, obstacle, state, words) in cases {
        let mut story = Story::new();
        story.push(&[new(1, "a")], 0);
        story.apply();
        story.source = source;
        (story.target.suspended, story.target.obstacle) = (suspended, obstacle.map(str::to_owned));
        let said = story.said();
        assert!(said[0].0 == state && said[0].1.starts_with(words), "{said:?}, not {words}");
        // Put right, it goes on.
        story.source = SourceStatus::default();
        (story.target.suspended, story.target.obstacle) = (false, None);
        story.target.running = Some(running("a"));
        assert_eq!(story.states(), [Releasing]);
    }
}

#[test]
fn a_removed_target_and_one_without_a_canary_have_an_end() {
    let mut story = Story::new();
    story.push(&[Touch { what: What::Removed, ..new(1, "x") }], 0);
    assert_eq!(story.states(), [Pending]);
    story.apply();
    assert_eq!(story.states(), [Success]);

    let mut ledger = Ledger::default();
    ledger.fold(commit(1), vec![new(1, "a")], at(0));
    ledger.applied();
    for (second, state) in [(10, Pending), (500, Error)] {
        ledger.judge(|_| None, &SourceStatus::default(), at(second));
        assert_eq!(ledger.entries[0].said.state, state);
    }
}

#[test]
fn a_branch_that_is_forced_back_supersedes_what_is_gone() {
    let mut story = Story::new();
    story.push(&[new(1, "a")], 0);
    story.apply();
    story.target.running = Some(running("a"));
    story.push(&[new(2, "b")], 10);
    story.push(&[new(1, "a")], 20);
    story.apply();
    assert_eq!(story.states(), [Cancelled, Releasing]);
}

fn told(state: CommitState, words: &str, second: i64) -> Option<Told> {
    Some(Told { state, words: words.into(), at: at(second) })
}

#[test]
fn progress_is_coalesced_and_capped_and_the_end_comes_at_once() {
    let mut story = Story::new();
    story.push(&[new(1, "a")], 0);
    let said = |entry: &mut Entry, state, words: &str| {
        entry.said = Said { state, words: words.into(), is_final: !state.is_open() };
    };
    let entry = &mut story.ledger.entries[0];
    assert_eq!(entry.due(true, true), Some(Timestamp::MIN), "the first word is never kept back");
    entry.told = told(Releasing, "10%", 100);
    said(entry, Releasing, "20%");
    assert_eq!(entry.due(true, false), Some(at(115)));
    assert_eq!(entry.due(false, false), None, "a forge that would refuse it");
    assert_eq!(entry.due(true, true), None, "an allowance that is nearly used up");
    entry.posts = PROGRESS_MAX;
    assert_eq!(entry.due(true, false), None);
    for state in [Success, Failure, Error, Cancelled] {
        said(entry, state, "over");
        for (progress, scarce) in [(true, false), (false, true)] {
            assert_eq!(entry.due(progress, scarce), Some(Timestamp::MIN), "{state}");
        }
    }
    entry.posts = POSTS_MAX;
    assert_eq!(entry.due(true, false), None, "a forge that takes no more of them");
}

#[test]
fn final_words_are_told_before_progress() {
    let mut story = Story::new();
    story.push(&[new(1, "a"), new(2, "b"), new(3, "c")], 0);
    story.apply();
    story.target.running = Some(running("c"));
    story.said();
    let (due, next) = story.ledger.due(at(0), true, false);
    assert_eq!((due, next), (vec![0, 1, 2], None));
    story.ledger.entries[2].told = told(Pending, "seen", 0);
    let (due, next) = story.ledger.due(at(1), true, false);
    assert_eq!((due, next), (vec![0, 1], Some(at(15))));
}

#[test]
fn what_is_told_for_good_is_forgotten_and_the_newest_is_kept() {
    let mut story = Story::new();
    story.push(&[new(1, "a"), new(2, "b")], 0);
    story.apply();
    story.target.promoted = Some((digest("b"), None));
    story.said();
    for entry in &mut story.ledger.entries {
        entry.told = told(entry.said.state, &entry.said.words, 1);
    }
    story.ledger.trim(true);
    let kept: Vec<&CommitId> = story.ledger.entries.iter().map(|entry| &entry.commit).collect();
    assert_eq!(kept, [&commit(2)]);
}

#[test]
fn a_restart_knows_what_was_final_and_progress_costs_no_write() {
    let mut story = Story::new();
    story.push(&[new(1, "a"), new(2, "b")], 0);
    story.apply();
    story.target.running = Some(running("b"));
    story.said();
    story.ledger.entries[0].told = told(Cancelled, &story.ledger.entries[0].said.words.clone(), 1);
    let text = story.ledger.text().unwrap();
    story.ledger.entries[1].told = told(Releasing, "step 1/2", 30);
    story.target.running = Some(Running { words: "step 2/2".into(), ..running("b") });
    story.said();
    assert_eq!(story.ledger.text().unwrap(), text, "nothing that has to survive");

    let mut read = Ledger::parse(&text).unwrap();
    assert_eq!(read.entries[0].due(true, false), None, "it is not told twice");
    assert_eq!(read.entries[1].told, None, "it is asked");
    read.judge(|_| Some(&story.target), &story.source, at(1_000));
    assert_eq!(read.entries[1].said.words, "step 2/2");
    let newer = text.replacen("\"version\":1", "\"version\":2", 1);
    assert!(Ledger::parse(&newer).unwrap_err().to_string().contains("newer serin"));
}

#[test]
fn a_ledger_fits_into_its_object() {
    let mut ledger = Ledger::default();
    for number in 0..3_000 {
        let canary = NamespacedName::new("production", format!("a-service-with-a-long-name-{number}"));
        let touch = Touch { canary, ..new(number, "a") };
        ledger.fold(commit(number), vec![touch], at(0));
    }
    for entry in &mut ledger.entries {
        entry.said = Said { state: Failure, words: "x".repeat(120), is_final: false };
    }
    ledger.trim(true);
    assert_eq!(ledger.entries.len(), ENTRIES_MAX);
    assert!(ledger.text().unwrap().len() < 1_000_000);
    assert_eq!(ledger.entries[0].commit, commit(1_000), "the oldest go");
}

#[test]
fn whoever_asks_gets_the_worst_and_open_while_one_is() {
    let mut story = Story::new();
    story.push(&[new(0xabc_def0, "a"), new(0x123_4567, "b")], 0);
    story.apply();
    story.target.running = Some(running("b"));
    story.said();
    let targets = BTreeMap::from([(canary(), story.target.clone())]);
    let board = Board::new(&story.ledger, &targets, &story.source, None);
    let found = board.find(commit(0x123_4567).as_str()).unwrap();
    assert_eq!((found.state, found.is_final, found.targets.len()), ("running", false, 1));
    let found = board.find(commit(0xabc_def0).as_str()).unwrap();
    assert_eq!((found.state, found.is_final), ("cancelled", true));
    let found = board.find(digest("b").as_str()).unwrap();
    assert_eq!(found.targets[0].canary, "test/podinfo");
    let serving = board.find(digest("old").as_str()).unwrap();
    assert_eq!(
        (serving.state, serving.targets[0].description.as_str()),
        ("success", "this revision is what serves")
    );
    for unknown in ["", "00", "zzzzzzzzzz", "ffffffffff", "../../etc/passwd", "v1:"] {
        assert_eq!(board.find(unknown), None, "{unknown}");
    }
    let answer = serde_json::to_value(board.find(digest("b").as_str())).unwrap();
    assert_eq!(answer["final"], false);
    assert_eq!(answer["targets"][0]["state"], "running");
}

#[test]
fn a_commit_without_a_target_of_which_something_was_refused_is_no_success() {
    let sha = commit(7);
    let source = |result: &str| -> SourceStatus {
        let refused = serde_json::json!({"kind": "ConfigMap", "name": "a", "state": "Refused", "message": "no namespace x", "since": ""});
        let source = serde_json::json!({"applied": {"commit": sha, "at": ""}, "objects": [refused],
            "commits": [{"commit": sha, "result": result}]});
        serde_json::from_value(source).unwrap()
    };
    let found = |result: &str| {
        let board = Board::new(&Story::new().ledger, &BTreeMap::new(), &source(result), None);
        let found = board.find(sha.as_str()).unwrap();
        (found.state, found.is_final, found.description)
    };
    assert_eq!(found("applied"), ("success", true, None));
    assert_eq!(found("partly"), ("error", false, Some("applied in part: no namespace x".to_owned())));
}
