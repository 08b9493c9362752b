use super::*;
use crate::api::{AwaitsGit, CanaryStatus, SerinStatus};

fn digest(text: &str) -> Digest {
    Digest::of_canonical(text.as_bytes())
}

fn commit(digit: char) -> CommitId {
    digit.to_string().repeat(40).parse().unwrap()
}

fn revision(text: &str, digit: char) -> Revision {
    Revision { digest: digest(text), commit: Some(commit(digit)) }
}

fn canary(phase: CanaryPhase, weight: i64, admitted: Option<Revision>) -> CanaryFacts {
    CanaryFacts { has_status: true, phase, weight, admitted, ..CanaryFacts::default() }
}

#[test]
fn a_status_that_only_says_what_blocks_is_none() {
    let facts = |status: Value| {
        let canary = json!({"apiVersion": "flagger.app/v1beta1", "kind": "Canary", "metadata": {"name": "a"}, "spec": {
            "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "a"}, "analysis": {}},
            "status": status});
        CanaryFacts::of(&serde_json::from_value(canary).unwrap())
    };
    let blocked = json!([{"type": "Blocked", "status": "True", "reason": "Blocked"}]);
    assert!(!facts(json!({"conditions": blocked, "serin": {"version": 1, "waitingOn": "a friend"}})).has_status);
    assert!(facts(json!({"phase": "Succeeded"})).has_status, "somebody else's");
    assert!(facts(json!({"serin": {"version": 1, "handover": {"version": 1}}})).has_status);
}

#[test]
fn what_the_engine_tells_is_read_as_it_is_written() {
    let wrote = Handover {
        version: Handover::VERSION,
        admitted: Some(revision("new", '2')),
        promoted: Some(revision("old", '1')),
        taken_up: Some(digest("old")),
        ended: vec![revision("between", '3')],
        awaits: Some(AwaitsGit { kind: AwaitsKind::Correction, what: "Git".into() }),
    };
    let status = CanaryStatus {
        phase: CanaryPhase::Progressing,
        serin: Some(SerinStatus { handover: Some(wrote), ..SerinStatus::default() }),
        ..CanaryStatus::default()
    };
    let canary = json!({"apiVersion": "flagger.app/v1beta1", "kind": "Canary", "metadata": {"name": "a"}, "spec": {
        "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "a"}, "analysis": {}}, "status": status});
    let read = CanaryFacts::of(&serde_json::from_value(canary).unwrap());
    let expected = CanaryFacts {
        uid: None,
        deleting: false,
        has_status: true,
        phase: CanaryPhase::Progressing,
        weight: 0,
        admitted: Some(revision("new", '2')),
        promoted: Some(revision("old", '1')),
        taken_up: Some(digest("old")),
        ended: vec![revision("between", '3')],
        stands_still: false,
        awaits_correction: true,
        awaits_git: Some("Git".into()),
    };
    assert_eq!(read, expected);
}

#[test]
fn a_template_is_written_only_when_nothing_is_released_or_the_engine_admits_it() {
    let live = LiveTarget { stamped: Some(revision("old", '1')), pending: None, ..LiveTarget::default() };
    let decide = |canary: &CanaryFacts| admission(&digest("new"), &commit('2'), Some(&live), canary);
    let write = Admission::Write { stamp: revision("new", '2'), drop_pending: false };
    let announce = Admission::Announce { revision: revision("new", '2'), already: false };

    for phase in [CanaryPhase::Unset, CanaryPhase::Initialized, CanaryPhase::Succeeded, CanaryPhase::Failed] {
        assert_eq!(decide(&canary(phase, 0, None)), write, "{phase:?}");
        assert_eq!(decide(&canary(phase, 10, None)), announce, "{phase:?} with traffic");
        assert_eq!(decide(&canary(phase, 0, Some(revision("other", '3')))), announce, "{phase:?}, other admitted");
    }
    for phase in [
        CanaryPhase::Initializing,
        CanaryPhase::Waiting,
        CanaryPhase::Progressing,
        CanaryPhase::WaitingPromotion,
        CanaryPhase::Promoting,
        CanaryPhase::Finalising,
    ] {
        assert_eq!(decide(&canary(phase, 0, None)), announce, "{phase:?}");
        assert_eq!(decide(&canary(phase, 0, Some(revision("new", '2')))), write, "{phase:?}, admitted");
    }
}

#[test]
fn an_announcement_keeps_its_commit_and_ends_with_the_write() {
    let live = LiveTarget {
        stamped: Some(revision("old", '1')),
        pending: Some(revision("new", '2')),
        ..LiveTarget::default()
    };
    let releasing = canary(CanaryPhase::Progressing, 30, None);
    assert_eq!(
        admission(&digest("new"), &commit('3'), Some(&live), &releasing),
        Admission::Announce { revision: revision("new", '2'), already: true }
    );
    let admitted = canary(CanaryPhase::Progressing, 0, Some(revision("new", '2')));
    assert_eq!(
        admission(&digest("new"), &commit('3'), Some(&live), &admitted),
        Admission::Write { stamp: revision("new", '2'), drop_pending: true }
    );
    // Git went back to what runs: nothing to admit any more.
    assert_eq!(
        admission(&digest("old"), &commit('4'), Some(&live), &releasing),
        Admission::Same { stamp: revision("old", '1'), drop_pending: true, template_may_change: false }
    );
}

#[test]
fn a_changed_template_is_put_right_when_the_engine_waits_for_it_without_traffic() {
    let live = LiveTarget { stamped: Some(revision("old", '1')), pending: None, ..LiveTarget::default() };
    let may_change = |canary: &CanaryFacts| match admission(&digest("old"), &commit('2'), Some(&live), canary) {
        Admission::Same { template_may_change, .. } => template_may_change,
        other => panic!("{other:?}"),
    };
    let drifted =
        |weight| CanaryFacts { awaits_correction: true, ..canary(CanaryPhase::Progressing, weight, None) };
    assert!(may_change(&drifted(0)) && !may_change(&drifted(30)));
    assert!(!may_change(&canary(CanaryPhase::Progressing, 0, None)), "the engine has not seen it yet");
}

#[test]
fn what_is_replaced_before_it_is_taken_up_is_named_until_the_engine_has_seen_it() {
    let running = CanaryFacts {
        taken_up: Some(digest("old")),
        ..canary(CanaryPhase::Progressing, 30, Some(revision("old", '1')))
    };
    let mut live =
        LiveTarget { stamped: Some(revision("old", '1')), pending: Some(revision("new", '2')), replaced: vec![] };
    assert_eq!(live.replaced_by(&digest("new"), &running), [], "it is wanted");
    assert_eq!(live.replaced_by(&digest("newer"), &running), [revision("new", '2')]);
    // Written and overwritten before the engine looked.
    live = LiveTarget { stamped: Some(revision("new", '2')), pending: None, replaced: vec![revision("x", '9')] };
    assert_eq!(live.replaced_by(&digest("newer"), &running), [revision("x", '9'), revision("new", '2')]);
    let seen = CanaryFacts { ended: vec![revision("x", '9'), revision("new", '2')], ..running };
    assert_eq!(live.replaced_by(&digest("newer"), &seen), []);
}

#[test]
fn a_canary_that_is_going_lets_nothing_in() {
    let idle = CanaryFacts { deleting: true, ..canary(CanaryPhase::Failed, 0, None) };
    assert!(!idle.admits(&digest("new")) && !idle.allows_correction());
}

#[test]
fn replicas_are_left_out_only_where_somebody_else_owns_them() {
    let entry = |manager: &str, operation: &str, subresource: &str| {
        json!({"manager": manager, "operation": operation, "subresource": subresource,
            "fieldsV1": {"f:spec": {"f:replicas": {}}}})
    };
    let (sync, engine) = (entry("serin", "Apply", ""), entry("serin-engine", "Apply", ""));
    let (autoscaler, kubectl) =
        (entry("kube-controller-manager", "Update", "scale"), entry("kubectl-client-side-apply", "Update", ""));
    let before = canary(CanaryPhase::Initializing, 0, None);
    let after = canary(CanaryPhase::Initialized, 0, None);
    let none = CanaryFacts::default();
    let applied = |git: Option<i64>, owners: Vec<Value>, canary: &CanaryFacts| {
        let live = json!({"metadata": {"managedFields": owners}, "spec": {"replicas": 6}});
        let desired = json!({"metadata": {"name": "a"}, "spec": {"replicas": git, "template": {}}});
        let body = body(&desired, &revision("new", '2'), Some(&live), canary);
        assert_eq!(body["metadata"]["annotations"][REPLICAS].as_str(), git.map(|git| git.to_string()).as_deref());
        body["spec"]["replicas"].as_i64()
    };
    for canary in [&none, &before] {
        assert_eq!(applied(Some(3), vec![sync.clone()], canary), Some(3), "until there is a primary Git's holds");
        assert_eq!(applied(None, vec![sync.clone()], canary), Some(6), "Git drops it: the pods stay");
        assert_eq!(applied(Some(3), vec![kubectl.clone()], canary), Some(3));
        assert_eq!(applied(Some(3), vec![autoscaler.clone()], canary), None, "an autoscaler sizes it");
        assert_eq!(applied(None, vec![kubectl.clone()], canary), None);
    }
    for canary in [&none, &before, &after] {
        assert_eq!(applied(Some(3), vec![sync.clone(), engine.clone()], canary), None, "the engine's");
    }
    assert_eq!(applied(Some(3), vec![sync], &after), Some(6), "the engine's, who has not taken it yet");
    assert_eq!(applied(Some(3), vec![kubectl], &after), None);
    let new = |canary: &CanaryFacts| {
        let desired = json!({"metadata": {"name": "a"}, "spec": {"replicas": 3}});
        body(&desired, &revision("new", '2'), None, canary)["spec"]["replicas"].as_i64()
    };
    assert_eq!((new(&none), new(&before), new(&after)), (Some(3), Some(3), None));
}
