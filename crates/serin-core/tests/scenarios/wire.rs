//! The stored form of a state, field by field: it changes with its version or not at all.
//!
//! `tests/wire/state-<version>.json` has every field and every variant. The file of the present version is written where it is
//! missing (`UPDATE_SCENARIOS=1`) and never again; those of versions before are read for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde_json::{Value, json};
use serin_core::analysis::compare::{Cell, Comparing, Counts, Evidence, Guard, History, Noise, Notes, Share};
use serin_core::analysis::{Judged, Known, Passed, RoundsRun, Trouble, Verdict};
use serin_core::model::{
    Affinity, Cookie, Quarantined, ReleaseId, Remembered, RollbackFate, RollbackNote, Routing, Rule, Split, Sticky,
};
use serin_core::release::{
    Cause, CheckResult, End, Event, EventType, HandBack, HeldMinimum, JournalEntry, Keyed, Outcome, OutcomeKind,
    Phase, PostRollout, Progress, Promoted, Rebuilt, RefusedRoute, Release, Size, Stage, State, StepClock,
    StepProgress, Unheld, WaitingOn, wire,
};

use super::policies::check;
use super::world::{digest, revision};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wire")
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_767_225_600 + second).unwrap()
}

fn id() -> ReleaseId {
    ReleaseId::new(2, &digest("v2"))
}

fn cookie(name: &str) -> Cookie {
    Cookie { name: name.into(), value: "abc".into(), max_age: 60, attributes: "; Path=/".into() }
}

fn routing() -> Routing {
    let rule = Rule {
        name: "insiders".into(),
        when: vec![json!({"headers": {"x-canary": {"exact": "yes"}}})],
        split: Split::candidate_percent(100),
    };
    let affinity = Affinity { candidate: cookie("canary"), stable: Some(cookie("primary")) };
    Routing {
        rules: vec![rule],
        base: Split::candidate_percent(10).with_extra("experiment", 5).mirrored(20),
        sticky: Sticky::Issue(Box::new(affinity)),
    }
}

fn checked() -> CheckResult {
    CheckResult { name: "rate".into(), verdict: Verdict::Fail, value: Some(50.5), limit: "≥ 99".into() }
}

fn outcome() -> Outcome {
    Outcome {
        release: id(),
        kind: OutcomeKind::Failed,
        revision: revision("v2"),
        promoted: Some(revision("v1")),
        cause: Some(Cause { message: "rate 50.5 < 99".into() }),
        started: at(1),
        ended: at(2),
        checks: vec![checked()],
        overrode: Some("on request release/ab/1: frozen".into()),
    }
}

fn watch() -> RoundsRun {
    let keyed: Keyed<_> = [check("rate")].into_iter().collect();
    let judged = Judged {
        name: "rate".into(),
        verdict: Verdict::NoData,
        value: Some(1.5),
        limit: "≥ 99".into(),
        text: Some("empty".into()),
        samples: Some(7),
        at: Some(at(3)),
        window: Some(30_000),
        query: Some(digest("query")),
    };
    RoundsRun {
        round: 4,
        opened: at(4),
        due: at(5),
        since: Some(at(6)),
        reach: 120_000,
        failures: vec![1, 3],
        held: 1,
        passed: Some(Passed { round: 2, at: at(7), asked: keyed.iter().map(|(key, _)| key.clone()).collect() }),
        trouble: Some(Trouble::Data { check: "rate".into(), reason: "empty".into() }),
        checks: keyed.iter().map(|(key, _)| Known { check: key.clone(), judged: judged.clone() }).collect(),
    }
}

/// Evidence of two scrapes, one of which carries it.
fn comparing() -> Comparing {
    let counts = |canary_failed| Counts { canary: 10.0, canary_failed, primary: 90.0, primary_failed: 1.0 };
    let mut evidence = Evidence::since(0);
    evidence.take(vec![Cell::new(0, 15, counts(3.0)), Cell::new(15, 30, counts(0.0))], Guard::Scrape, 1.0);
    let noise = Noise { factor: 3.5, failures: 7.0, covered: 3_600, pods: 2 };
    let notes = Notes {
        saw: "saw".into(),
        sees: "sees".into(),
        noise: "clumps".into(),
        advises: Some("why".into()),
        share: Some("off".into()),
    };
    Comparing {
        history: Some(History { noise, rate: 20.0, failed: 0.001 }),
        look: 4,
        due: Some(at(20)),
        evidence,
        step: 15_000,
        observers: vec!["istio-system/gateway-1".into()],
        left_out: 2,
        share: Share::default(),
        skipped: 90_000,
        begun: Some(at(19)),
        notes,
        told: true,
        trouble: Some("why".into()),
    }
}

fn release(stage: Stage) -> Phase {
    Phase::Releasing(Box::new(Release {
        id: id(),
        revision: revision("v2"),
        started: at(8),
        stage,
        step: 3,
        plan: Some(digest("plan")),
        recheck: true,
        clock: StepClock { number: 5, opened: at(9), due: at(10), asked: Some(at(11)) },
        watch: watch(),
        comparison: Some(Box::new(comparing())),
        awaited: 3,
        routing: routing(),
        shown_since: Some(at(12)),
        first_traffic: Some(at(13)),
        ready_since: Some(at(14)),
        size: Size::Percent(40),
        serving: 7,
        primary_ready_since: Some(at(15)),
        unready_since: Some(at(16)),
        demand: 6,
        floor: 4,
        primary_asked: 5,
        sized: 3,
        short_since: Some(at(17)),
        progress: Some(Progress { available: 2, at: at(18) }),
        paused: true,
        frozen: true,
        skip: true,
        refused: Some(RefusedRoute {
            routing: Routing::candidate_percent(30),
            reason: "why".into(),
            outside: true,
        }),
        overrode: Some("on request release/ab/1: frozen".into()),
    }))
}

/// Everything that a state may hold at once.
fn full(phase: Phase) -> State {
    State {
        phase,
        last_applied: Some(digest("v2")),
        generation: Some(3),
        promoted: Some(Promoted { revision: revision("v1"), at: at(19) }),
        quarantine: vec![Quarantined {
            revision: revision("v3"),
            release: id(),
            rolled_back: revision("v4").commit,
        }],
        releases: 2,
        admitted: Some(revision("v3")),
        replaced: vec![revision("v4")],
        journal: vec![JournalEntry {
            seq: 9,
            at: at(20),
            release: 2,
            event: Event { kind: EventType::Warning, message: "why".into() },
        }],
        next_seq: 10,
        outbox: vec![outcome()],
        outbox_merged: 1,
        last_outcome: Some(Box::new(outcome())),
        post_rollout: Some(PostRollout { release: id(), kind: OutcomeKind::Succeeded, since: at(21) }),
        unheld: Some(Unheld { digest: digest("v2"), why: "on request release/ab/1: frozen".into() }),
        handled_request: Some("abort/2-ab/1".into()),
        obstacle: Some("the CRD is old".into()),
        missing_since: Some(at(22)),
        unrecorded: Some("PushDenied: no".into()),
        recorded: Some(id()),
        rollback: Some(RollbackNote {
            release: id(),
            branch: "main".into(),
            fate: RollbackFate::Proposed { url: "https://forge/1".into() },
        }),
        rebuilt: Some(Rebuilt { revision: revision("v1"), source: "an unsigned record".into() }),
        waiting_on: Some(WaitingOn::Drift),
        held_minimum: Some(HeldMinimum { before: 2, at: 6, from: Some(3) }),
        progress: Some(StepProgress { step: 2, of: 5, iterations: 1 }),
        cookie: Some(cookie("canary")),
    }
}

fn stages() -> Vec<Stage> {
    let cause = || Cause { message: "why".into() };
    let ending = |end| Stage::Ending { end, zero_since: Some(at(23)), scaling_down: true };
    vec![
        Stage::Confirming,
        Stage::ScalingUp { since: at(24) },
        Stage::Preparing,
        Stage::Analysing,
        Stage::ConfirmingPromotion,
        Stage::Promoting { since: at(25), relieved: Some(at(26)) },
        Stage::Restoring { since: at(27), cause: cause() },
        ending(End::Succeeded),
        ending(End::Failed { cause: cause() }),
        ending(End::Superseded),
    ]
}

fn phases() -> Vec<Phase> {
    let remembered = Remembered { promoted: revision("v1"), failed: Vec::new() };
    let last = [
        OutcomeKind::Initialized,
        OutcomeKind::Succeeded,
        OutcomeKind::Failed,
        OutcomeKind::Superseded,
        OutcomeKind::Withdrawn,
    ];
    let mut phases = vec![
        Phase::Initializing {
            since: at(28),
            ready: Some(at(29)),
            routed: Some(at(30)),
            providers: true,
            remembered: Some(remembered),
        },
        Phase::HandingBack(HandBack {
            since: at(31),
            rested: Some(at(32)),
            ready: Some(at(33)),
            led: Some(at(34)),
            left: Some(at(35)),
        }),
    ];
    phases.extend(last.map(|last| Phase::Idle { last, since: at(36) }));
    phases.extend(stages().into_iter().map(release));
    phases
}

fn waits() -> Vec<WaitingOn> {
    let (workload, reason, until) = (|| "podinfo".to_owned(), || "why".to_owned(), at(37));
    vec![
        WaitingOn::Readiness { workload: workload(), reason: reason(), deadline: until },
        WaitingOn::Route { wanted: Routing::candidate_percent(10), reason: Some(reason()) },
        WaitingOn::Window { until },
        WaitingOn::Answers { names: vec!["rate".into()] },
        WaitingOn::Data { check: "rate".into(), reason: reason(), held: 1, limit: 10 },
        WaitingOn::Gate { name: "gate".into(), reason: reason() },
        WaitingOn::Drain { until },
        WaitingOn::Relief { workload: workload(), until },
        WaitingOn::Endpoints { workload: workload(), until },
        WaitingOn::ScalingDown { workload: workload() },
        WaitingOn::Write { revision: revision("v2") },
        WaitingOn::Pause { until: Some(until) },
        WaitingOn::Quarantine { revision: revision("v2"), by_hand: true },
        WaitingOn::Drift,
        WaitingOn::Suspended,
        WaitingOn::Target { name: workload() },
        WaitingOn::Misconfigured { reason: reason() },
        WaitingOn::Parked { name: workload() },
        WaitingOn::HandBack { name: workload(), reason: reason() },
        WaitingOn::Blocked { reason: reason() },
        WaitingOn::ReleaseWindow { revision: revision("v2"), reason: reason(), until: Some(until) },
        WaitingOn::Environment {
            revision: revision("v2"),
            name: workload(),
            reason: reason(),
            until: Some(until),
        },
    ]
}

/// A new variant does not compile until it has a number here, and does not pass until it is in the list above.
fn number(waits: &WaitingOn) -> usize {
    match waits {
        WaitingOn::Readiness { .. } => 0,
        WaitingOn::Route { .. } => 1,
        WaitingOn::Window { .. } => 2,
        WaitingOn::Answers { .. } => 3,
        WaitingOn::Data { .. } => 4,
        WaitingOn::Gate { .. } => 5,
        WaitingOn::Drain { .. } => 6,
        WaitingOn::Relief { .. } => 7,
        WaitingOn::Endpoints { .. } => 8,
        WaitingOn::ScalingDown { .. } => 9,
        WaitingOn::Write { .. } => 10,
        WaitingOn::Pause { .. } => 11,
        WaitingOn::Quarantine { .. } => 12,
        WaitingOn::Drift => 13,
        WaitingOn::Suspended => 14,
        WaitingOn::Target { .. } => 15,
        WaitingOn::Misconfigured { .. } => 16,
        WaitingOn::Parked { .. } => 17,
        WaitingOn::HandBack { .. } => 18,
        WaitingOn::Blocked { .. } => 19,
        WaitingOn::ReleaseWindow { .. } => 20,
        WaitingOn::Environment { .. } => 21,
    }
}

/// Everything that can be stored, by a name for each.
fn everything() -> BTreeMap<String, State> {
    let mut all = BTreeMap::new();
    all.insert("new".to_owned(), State::new(at(0)));
    for (place, phase) in phases().into_iter().enumerate() {
        all.insert(format!("phase {place:02}"), full(phase));
    }
    for waits in waits() {
        let state = State { waiting_on: Some(waits.clone()), ..State::new(at(0)) };
        all.insert(format!("waits {:02}", number(&waits)), state);
    }
    let sticky = Routing { sticky: Sticky::Withdraw(cookie("canary").over()), ..Routing::default() };
    let routed = WaitingOn::Route { wanted: sticky, reason: None };
    all.insert("withdrawn".to_owned(), State { waiting_on: Some(routed), ..State::new(at(0)) });
    let fates = [
        RollbackFate::Made { commit: revision("v1").commit.unwrap() },
        RollbackFate::Missing { reason: "MovedOn".into(), message: "why".into() },
        RollbackFate::Needless { message: "why".into() },
    ];
    for (place, fate) in fates.into_iter().enumerate() {
        let rollback = Some(RollbackNote { release: id(), branch: "main".into(), fate });
        all.insert(format!("rollback {place}"), State { rollback, ..State::new(at(0)) });
    }
    let verdicts = [
        Verdict::Pass,
        Verdict::Fail,
        Verdict::NoData,
        Verdict::Early,
        Verdict::Few,
        Verdict::Several,
        Verdict::Error,
        Verdict::Misconfigured,
        Verdict::Inconclusive,
    ];
    let checks = verdicts.map(|verdict| CheckResult { verdict, ..checked() }).to_vec();
    let outbox = vec![Outcome { checks, ..outcome() }];
    all.insert("verdicts".to_owned(), State { outbox, ..State::new(at(0)) });
    let trouble = Some(Trouble::Policy { check: "rate".into(), reason: "why".into() });
    if let Phase::Releasing(mut release) = release(Stage::Analysing) {
        release.size = Size::Pods(2);
        all.insert("sized".to_owned(), State { phase: Phase::Releasing(release), ..State::new(at(0)) });
    }
    if let Phase::Releasing(mut release) = release(Stage::Analysing) {
        release.watch.trouble = trouble;
        all.insert("trouble".to_owned(), State { phase: Phase::Releasing(release), ..State::new(at(0)) });
    }
    all
}

#[test]
fn the_stored_form_changes_with_its_version_only() {
    let numbers: BTreeSet<usize> = waits().iter().map(number).collect();
    assert_eq!(numbers, (0..22).collect());
    let all = everything();
    let written: BTreeMap<&String, Value> = all.iter().map(|(name, state)| (name, wire::write(state))).collect();
    for (name, state) in &all {
        assert_eq!(wire::read(wire::VERSION, wire::write(state)).as_ref(), Ok(&Some(state.clone())), "{name}");
    }
    let file = folder().join(format!("state-{}.json", wire::VERSION));
    let text = serde_json::to_string_pretty(&written).unwrap() + "\n";
    if !file.exists() && std::env::var_os("UPDATE_SCENARIOS").is_some() {
        fs::create_dir_all(folder()).unwrap();
        fs::write(&file, &text).unwrap();
    }
    let golden = fs::read_to_string(&file).unwrap_or_default();
    pretty_assertions::assert_eq!(
        text,
        golden,
        "the stored form is not the one of version {}: raise release::wire::VERSION and add an upgrade, keep {}",
        wire::VERSION,
        file.display()
    );
}

#[test]
fn what_earlier_versions_wrote_is_read_for_ever() {
    for version in 1..=wire::VERSION {
        let file = folder().join(format!("state-{version}.json"));
        // What version 1 wrote is in the states of a whole release (see `upgrade`).
        let Ok(text) = fs::read_to_string(&file) else {
            assert_eq!(version, 1, "{} is missing", file.display());
            continue;
        };
        let states: BTreeMap<String, Value> = serde_json::from_str(&text).unwrap();
        for (name, stored) in states {
            assert!(matches!(wire::read(version, stored), Ok(Some(_))), "{name} of version {version}");
        }
    }
}
