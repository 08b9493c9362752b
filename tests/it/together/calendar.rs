//! Release windows in the whole daemon: a new revision waits, what has begun goes on, and what puts right waits for nobody.

use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::world::{Setup, World};

fn waits(canary: &Value, words: &str) -> bool {
    canary["status"]["serin"]["waitingOn"].as_str().unwrap_or_default().contains(words)
}

fn at(value: &Value) -> Timestamp {
    value.as_str().expect("a time").parse().unwrap()
}

async fn ask(world: &World, request: &str) {
    let patch = json!({"metadata": {"annotations": {"serin.dev/request": request}}});
    let api = world.api("flagger.app", "v1beta1", "Canary").await;
    api.patch("podinfo", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_revision_waits_for_its_window_and_a_release_outlives_it() {
    // Five minutes from half past one in Berlin: half past midnight where clocks begin.
    let window = json!({"schedule": "30 1 * * *", "timeZone": "Europe/Berlin", "duration": "1m"});
    let more = json!({"releaseWindows": [window]});
    let world = World::set_up(Setup { rollback: "commit", more, ..Setup::default() }).await;
    world.push("3.1.1");
    let until = "a release window to open at 2026-01-01T00:30:00Z: outside \"30 1 * * *\" for 1m (Europe/Berlin)";
    let held = world.canary("the wait", |canary| waits(canary, until)).await;
    let condition =
        held["status"]["conditions"].as_array().unwrap().iter().find(|it| it["type"] == "Held").unwrap();
    assert_eq!(condition["reason"], "ReleaseWindow");
    world.quiet().await;
    let record = world.repository.read("serin/status/test", "test/podinfo.yaml").unwrap();
    assert!(record.contains("a release window to open"), "{record}");
    assert_eq!(world.image("podinfo-primary").await.as_deref(), Some("3.1.0"));

    let done = world.reaches("Succeeded").await;
    let outcome = &done["status"]["serin"]["state"]["lastOutcome"];
    assert_eq!(at(&outcome["started"]), at(&json!("2026-01-01T00:30:00Z")));
    assert!(at(&outcome["ended"]) > at(&json!("2026-01-01T00:31:00Z")), "it went on beyond its window: {outcome}");

    // Outside again: asked for by hand, it fails, and is taken back in the cluster and in Git, whatever the calendar says.
    world.failing(true);
    world.push("3.1.2-errors-50");
    let held = world.canary("the wait", |canary| waits(canary, "2026-01-02T00:30:00Z")).await;
    let digest = held["status"]["serin"]["state"]["waitingOn"]["revision"].as_str().unwrap();
    let short = digest.trim_start_matches("v1:").get(..8).unwrap().to_owned();
    ask(&world, &format!("release/{short}/1")).await;
    let failed = world.reaches("Failed").await;
    let outcome = &failed["status"]["serin"]["state"]["lastOutcome"];
    let overrode = outcome["overrode"].as_str().unwrap_or_default();
    assert!(overrode.starts_with(&format!("on request release/{short}/1: outside")), "{outcome}");
    world
        .eventually("the rollback in Git", async || {
            world.repository.read("main", "deployment.yaml").unwrap().contains("podinfo:3.1.1 ")
        })
        .await;
    world.quiet().await;
    let ledger = world.repository.read("serin/status/test", "ledger/test/podinfo.tsv").unwrap();
    let ends: Vec<&str> = ledger.lines().skip(1).map(|line| line.split('\t').nth(1).unwrap()).collect();
    assert_eq!(ends, ["Initialized", "Succeeded", "Failed"], "{ledger}");
    assert!(ledger.lines().skip(1).all(|line| !line.ends_with('-')), "every commit has its time: {ledger}");
}
