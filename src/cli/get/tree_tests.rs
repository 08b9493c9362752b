use serde_json::json;

use super::*;
use crate::api::Canary;
use crate::cli::screen::Size;

fn canary() -> Canary {
    let started = "2026-01-01T00:00:00Z";
    let revision = format!("v1:{}@{}", "a6fb26d2000000000000", "f4ae59b".to_owned() + &"0".repeat(33));
    let checks = json!([
        {"check": "a", "name": "request-success-rate", "verdict": "pass", "value": 99.5, "limit": "≥ 99"},
        {"check": "b", "name": "request-duration", "verdict": "fail", "value": 612.0, "limit": "≤ 500"}]);
    let phase = json!({"name": "releasing", "id": "r2", "revision": revision, "started": started,
        "stage": {"name": "analysing"}, "step": 5, "steps": 10, "tick": 4, "opened": started, "due": started,
        "failedChecks": 1, "held": 0, "routing": {"base": {"candidate": 30}}, "paused": true,
        "watch": {"round": 4, "opened": started, "due": started, "checks": checks}});
    let journal = json!([
        {"seq": 1, "at": started, "type": "Normal", "message": "New revision detected! Scaling up podinfo.test"},
        {"seq": 2, "at": started, "type": "Warning", "message": "Halt podinfo.test advancement request duration \
            612ms > 500ms, which is a sentence that is long enough to be wrapped at eighty columns"}]);
    let state = json!({"phase": phase, "progress": {"step": 3, "of": 5}, "journal": journal,
        "waitingOn": {"kind": "window", "until": "2026-01-01T00:05:00Z"}});
    serde_json::from_value(json!({
        "apiVersion": "flagger.app/v1beta1", "kind": "Canary", "metadata": {"name": "podinfo", "namespace": "test"},
        "spec": {"targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "podinfo"},
            "service": {"port": 80}, "analysis": {"interval": "1m", "threshold": 5, "maxWeight": 50, "stepWeight": 10}},
        "status": {"phase": "Progressing", "canaryWeight": 30, "failedChecks": 1, "serin": {"version": 1,
            "release": "r2", "revision": revision, "state": state,
            "waitingOn": "the analysis window to close at 2026-01-01T00:05:00Z"}}
    }))
    .unwrap()
}

fn screen(size: Option<Size>) -> String {
    let now = "2026-01-01T00:04:48Z".parse().unwrap();
    let mut view = View::of(&canary(), now);
    view.left = Some(jiff::SignedDuration::from_mins(3));
    let pod = super::super::around::Trouble {
        name: "podinfo-6d4c9b7f5-x2x7k".into(),
        reason: "app ImagePullBackOff: Back-off pulling image \"registry.example.com/team/podinfo:3.1.2\"".into(),
    };
    let around = Around { target: None, primary: None, troubles: vec![pod], hidden: None };
    let seen = History::from([("request-duration".to_owned(), vec![420.0, 580.5, 612.0])]);
    frame(&view, &around, &seen, now, false).render(size, false)
}

#[test]
fn a_release_fits_every_terminal() {
    for columns in [60, 80, 120, 200] {
        let text = screen(Some(Size { columns, lines: 50 }));
        assert!(text.lines().all(|line| line.chars().count() <= columns), "{columns}:\n{text}");
        insta::assert_snapshot!(format!("release-at-{columns}"), text);
    }
}

#[test]
fn steps_of_becoming_ready_are_told_once() {
    let mut canary = canary();
    let journal = |messages: &[&str]| -> serde_json::Value {
        let entry = |(seq, message): (usize, &&str)| json!({"seq": seq, "at": "2026-01-01T00:00:00Z", "type": "Warning", "message": message});
        messages.iter().enumerate().map(entry).collect()
    };
    let messages =
        ["a not ready: 0 of 2", "a not ready: 1 of 2", "b not ready: 0 of 1", "gone", "b not ready: 1 of 1"];
    if let Some(serin) = canary.status.as_mut().and_then(|status| status.serin.as_mut()) {
        serin.state["journal"] = journal(&messages);
    }
    let view = View::of(&canary, Timestamp::UNIX_EPOCH);
    let told: Vec<&str> = view.told_events().iter().map(|entry| entry.event.message.as_str()).collect();
    assert_eq!(told, ["a not ready: 1 of 2", "b not ready: 0 of 1", "gone", "b not ready: 1 of 1"]);
}

#[test]
fn on_a_low_terminal_old_events_give_way_and_the_phase_stays() {
    let whole = screen(None).lines().count();
    let low = screen(Some(Size { columns: 200, lines: whole - 1 }));
    assert!(low.contains("Progressing") && low.contains("Halt podinfo") && !low.contains("New revision"), "{low}");
}
