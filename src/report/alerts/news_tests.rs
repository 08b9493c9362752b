use serde_json::{Value, json};

use super::*;

const ENDED: &str = "2026-01-02T03:04:05Z";

fn canary(alerts: Value, state: Value) -> Canary {
    let mut canary = json!({
        "apiVersion": "flagger.app/v1beta1", "kind": "Canary", "metadata": {"name": "podinfo", "namespace": "test"},
        "spec": {"targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "podinfo"}, "analysis": {
            "stepWeight": 10, "maxWeight": 50, "alerts": alerts,
            "webhooks": [{"name": "ask", "type": "confirm-promotion", "url": "http://a"},
                {"name": "quiet", "type": "confirm-rollout", "url": "http://a", "muteAlert": true}]}},
        "status": {"phase": "Failed", "serin": {"version": 1, "state": {}}},
    });
    let mut whole = serde_json::to_value(State::new(ENDED.parse().unwrap())).unwrap();
    for (key, value) in state.as_object().unwrap() {
        whole[key] = value.clone();
    }
    canary["status"]["serin"]["state"] = whole;
    serde_json::from_value(canary).unwrap()
}

fn ops() -> Value {
    json!([{"name": "ops", "severity": "error", "providerRef": {"name": "slack"}}])
}

fn end(number: u64, kind: &str) -> Value {
    json!({"release": format!("{number}-4e342c8d"), "kind": kind, "revision": "v1:4e342c8d9d0c5b7e6f1a@0123456789012345678901234567890123456789",
        "started": ENDED, "ended": ENDED, "cause": {"message": "request-success-rate 51.16% < 99%"}})
}

fn watched(canary: &Canary) -> Option<WatchedAlerts> {
    WatchedAlerts::of(&NamespacedName::new("test", "podinfo"), canary)
}

fn texts(watched: &WatchedAlerts) -> Vec<String> {
    watched.untold(Timestamp::MIN).map(|news| format!("{} {}", news.told, news.message.text)).collect()
}

#[test]
fn who_names_no_alert_is_not_looked_at() {
    assert_eq!(watched(&canary(json!([]), json!({"lastOutcome": end(1, "Failed")}))), None);
}

#[test]
fn every_end_is_told_once_and_in_order() {
    let state = json!({"releases": 3, "outbox": [end(2, "Failed"), end(3, "Succeeded")], "lastOutcome": end(3, "Succeeded")});
    let mut canary = canary(ops(), state);
    let all = texts(&watched(&canary).unwrap());
    assert_eq!(
        all,
        [
            "2.ended Canary failed and is rolled back: request-success-rate 51.16% < 99%",
            "3.ended Canary analysis completed successfully, promotion finished."
        ]
    );
    let told = |canary: &mut Canary, told: &str| {
        canary.annotations_mut().insert(ALERTED.to_owned(), told.to_owned());
        texts(&watched(canary).unwrap())
    };
    assert_eq!(told(&mut canary, "2.ended"), all[1..]);
    assert_eq!(told(&mut canary, "3.started"), all[1..]);
    assert!(told(&mut canary, "3.ended").is_empty());
    assert_eq!(told(&mut canary, "9.ended"), all, "another target counts anew");
    assert_eq!(told(&mut canary, "nonsense"), all);
    let watched = watched(&canary).unwrap();
    assert_eq!(
        watched.untold(ENDED.parse::<Timestamp>().unwrap() + jiff::SignedDuration::from_secs(1)).count(),
        0,
        "too old"
    );
    let fields = &watched.news[0].message.fields;
    assert_eq!(fields[0], ("Target".to_owned(), "Deployment/podinfo.test".to_owned()));
    assert_eq!(fields[1].1, "4e342c8d@0123456");
}

#[test]
fn a_closed_gate_is_told_in_flaggers_words_unless_it_is_muted() {
    let waits = |name: &str| {
        let waiting = json!({"kind": "gate", "name": name, "reason": "halted"});
        texts(&watched(&canary(ops(), json!({"releases": 2, "waitingOn": waiting}))).unwrap())
    };
    assert_eq!(waits("ask"), ["2.waiting Canary promotion is waiting for approval."]);
    assert!(waits("quiet").is_empty());
}

#[test]
fn an_alert_hears_what_is_as_bad_as_it_wants() {
    let alert = |severity: Value| -> Alert {
        let mut alert = json!({"name": "a", "providerRef": {"name": "b"}});
        alert["severity"] = severity;
        serde_json::from_value(alert).unwrap()
    };
    let heard = |severity: Value| {
        [Severity::Info, Severity::Warn, Severity::Error].map(|bad| hears(&alert(severity.clone()), bad))
    };
    assert_eq!(heard(json!(null)), [true; 3]);
    assert_eq!(heard(json!("")), [true; 3], "Flagger's defect D4: it heard nothing");
    assert_eq!(heard(json!("info")), [true; 3]);
    assert_eq!(heard(json!("warn")), [false, true, true]);
    assert_eq!(heard(json!("error")), [false, false, true]);
}
