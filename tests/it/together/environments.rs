//! Two clusters in one repository: a version reaches production after it has baked in staging, and whoever waits sees why.

use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::world::{Setup, World};

async fn staging() -> World {
    World::set_up(Setup { name: "staging", path: "staging/", ..Setup::default() }).await
}

async fn production(repository: PathBuf, environment: Value, bake: &str) -> World {
    let more = json!({"environments": [environment], "waitFor": [{"environment": "staging", "bake": bake}]});
    let (name, path, repository) = ("production", "production/", Some(repository));
    World::set_up(Setup { name, path, repository, more, ..Setup::default() }).await
}

fn waits(canary: &Value, words: &str) -> bool {
    canary["status"]["serin"]["waitingOn"].as_str().unwrap_or_default().contains(words)
}

fn at(value: &Value) -> Timestamp {
    value.as_str().expect("a time").parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_version_reaches_production_only_after_its_bake_time_in_staging() {
    let staging = staging().await;
    let protected = json!({"name": "staging", "protected": true});
    let production = production(staging.repository.path().to_owned(), protected, "20m").await;

    // Too early: staging has never run it.
    production.push("3.1.1");
    let missing = "environment staging: test/podinfo runs stefanprodan/podinfo:3.1.0, not";
    let held = production.canary("the wait", |canary| waits(canary, missing)).await;
    let condition =
        held["status"]["conditions"].as_array().unwrap().iter().find(|it| it["type"] == "Held").unwrap();
    assert_eq!((&condition["status"], &condition["reason"]), (&json!("True"), &json!("Environment")));
    assert!(condition["message"].as_str().unwrap().contains("not stefanprodan/podinfo:3.1.1"));
    production.quiet().await;
    let record = production.repository.read("serin/status/production", "test/podinfo.yaml").unwrap();
    assert!(record.contains("environment staging"), "{record}");

    // Staging runs it: its bake time begins when it is seen here.
    staging.push("3.1.1");
    let there = staging.reaches("Succeeded").await;
    let good = at(&there["status"]["serin"]["state"]["lastOutcome"]["ended"]);
    let baking = production.canary("the bake", |canary| waits(canary, "to have run it long enough at")).await;
    assert!(waits(&baking, "bakes for 20m"), "{}", baking["status"]["serin"]["waitingOn"]);
    assert_eq!(production.image("podinfo-primary").await.as_deref(), Some("3.1.0"));

    let here = production.reaches("Succeeded").await;
    let started = at(&here["status"]["serin"]["state"]["lastOutcome"]["started"]);
    // Each world has a clock of its own.
    let baked = started.duration_since(good) - production.ahead_of(&staging);
    assert!(baked >= SignedDuration::from_mins(20), "{baked:?}");
    assert!(baked < SignedDuration::from_mins(23), "it began when it could: {baked:?}");
    assert_eq!(production.image("podinfo-primary").await.as_deref(), Some("3.1.1"));
    let conditions = here["status"]["conditions"].as_array().unwrap();
    assert!(conditions.iter().all(|condition| condition["type"] != "Held"), "{conditions:?}");
}

#[tokio::test(start_paused = true)]
async fn what_fails_in_staging_never_reaches_production() {
    let staging = staging().await;
    let protected = json!({"name": "staging", "protected": true});
    let production = production(staging.repository.path().to_owned(), protected, "5m").await;
    staging.failing(true);
    staging.push("3.1.1-errors-50");
    staging.reaches("Failed").await;
    production.push("3.1.1-errors-50");
    production.canary("the wait", |canary| waits(canary, "environment staging")).await;
    for _ in 0..30 {
        production.quiet().await;
    }
    assert_eq!(production.image("podinfo-primary").await.as_deref(), Some("3.1.0"));
    // What went back to what runs waits for nobody.
    production.push("3.1.0");
    production.canary("nothing to wait for", |canary| canary["status"]["serin"]["waitingOn"].is_null()).await;
}

#[tokio::test(start_paused = true)]
async fn a_record_that_nobody_has_signed_is_not_believed() {
    let staging = staging().await;
    let folder = tempfile::tempdir().unwrap();
    let signers = folder.path().join("signers");
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f";
    std::fs::write(&signers, format!("serin@staging {key}\n")).unwrap();
    let signed = json!({"name": "staging", "allowedSignersFile": signers});
    let production = production(staging.repository.path().to_owned(), signed, "0s").await;
    staging.push("3.1.1");
    staging.reaches("Succeeded").await;
    production.push("3.1.1");
    let doubt = "environment staging: its record is not believed";
    production.canary("the doubt", |canary| waits(canary, doubt)).await;
    for _ in 0..10 {
        production.quiet().await;
    }
    assert_eq!(production.image("podinfo-primary").await.as_deref(), Some("3.1.0"));
}
