//! A namespace or a whole cluster made anew begins with what the record says was promoted last, and knows what failed.

use std::sync::Arc;

use super::world::{QUIET, World, refuses};

#[tokio::test(start_paused = true)]
async fn a_namespace_that_comes_back_never_serves_what_failed() {
    let world = Arc::new(World::new("record").await);
    world.fails("3.1.1-errors-50").await;

    let witness = world.witness();
    world.delete_namespace().await;
    let waits = |canary: &serde_json::Value| canary["status"]["phase"] == "Initialized" && refuses(canary);
    world.canary("the refusal of what failed", waits).await;
    assert_eq!(world.image("podinfo-primary").await.as_deref(), Some("3.1.0"));
    assert_eq!(witness.seen(), ["3.1.0".to_owned()].into(), "what failed served users");

    // Another revision is released as always.
    world.push("3.1.2");
    world.reaches("Succeeded").await;
    assert_eq!(world.image("podinfo-primary").await.as_deref(), Some("3.1.2"));
}

#[tokio::test(start_paused = true)]
async fn what_was_being_analysed_when_its_namespace_went_is_analysed_again() {
    let world = Arc::new(World::new("commit").await);
    tokio::time::sleep(QUIET).await;
    world.push("3.1.1-errors-50");
    world.has_weight(30).await;
    world.failing(true);
    world.delete_namespace().await;
    let witness = world.witness();
    world.reaches("Initialized").await;
    assert_eq!(world.image("podinfo-primary").await.as_deref(), Some("3.1.0"));
    assert_eq!(witness.seen(), ["3.1.0".to_owned()].into(), "what nobody analysed served users");
    drop(witness);
    // It is released, fails and is taken back in Git.
    world.reaches("Failed").await;
    assert_eq!(world.image("podinfo-primary").await.as_deref(), Some("3.1.0"));
    let message = |canary: &serde_json::Value| canary["status"]["serin"]["state"]["outbox"].is_null();
    world.canary("the record", message).await;
    world
        .eventually("the rollback in Git", async || {
            world.repository.read("main", "deployment.yaml").unwrap().contains("podinfo:3.1.0 ")
        })
        .await;
}
