//! Shares of the users through a mesh that learns late; and what happens without the waits that are made for it.

use std::collections::BTreeMap;
use std::time::Duration;

use serin::api::CanaryPhase;
use serin::sandbox::traffic::{Failure, Hold, Part};

use super::world::{FOR_EVER, MESH, NO_TIME, PATIENT, PROMPT_MESH, SLOW_MESH, Waits, World};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promotion_fails_no_request() {
    // Replaced pods of primary serve on for longer than the mesh is late; how long is the application's affair.
    let world = World::start(MESH, Duration::from_secs(2), PATIENT).await;
    world.push("3.1.1-slow-200");
    world.weight(25).await;
    world.phase(CanaryPhase::Succeeded).await;
    world.assert_no_failures("promotion").await;
    // From a slow revision back to a quick one: answers of the replaced pods are under way at every switch.
    world.push("3.1.2");
    world.weight(50).await;
    world.phase(CanaryPhase::Succeeded).await;
    world.assert_no_failures("promotion of the next revision").await;
    assert_eq!(world.own_failures(), 0, "none of the revisions answers 5xx");
    world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn supersede_and_rollback_fail_no_request_but_the_applications_own() {
    let world = World::start(SLOW_MESH, Duration::ZERO, PATIENT).await;
    world.push("3.1.1-slow-200");
    world.weight(50).await;
    world.push("3.1.2-errors-50-slow-200");
    world.weight(0).await;
    world.weight(25).await;
    world.assert_no_failures("supersede").await;
    world.phase(CanaryPhase::Failed).await;
    world.assert_no_failures("rollback").await;
    assert!(world.own_failures() > 0, "the bad revision served users");
    world.shutdown().await;
}

/// A rollback of which the mesh learns nothing: it goes on sending a quarter of the users to the canary.
async fn rollback_behind_the_meshs_back(drain: &'static str) -> (World, Hold) {
    let world = World::start(PROMPT_MESH, Duration::ZERO, Waits { drain, ..PATIENT }).await;
    world.push("3.1.1-errors-50");
    world.weight(25).await;
    world.eventually("users on the canary", async || world.own_failures() > 0).await;
    assert_eq!(world.failures(), BTreeMap::new());
    let hold = world.sandbox.traffic().hold(Part::Routes);
    world.abort().await;
    (world, hold)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_drain_a_rollback_fails_requests() {
    let (world, _hold) = rollback_behind_the_meshs_back(NO_TIME).await;
    world.phase(CanaryPhase::Failed).await;
    world.canary_is_gone().await;
    world.assert_fails(&[Failure::ConnectionRefused, Failure::ConnectionReset, Failure::NoHealthyUpstream]).await;
    world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_canary_drains_a_mesh_that_knows_nothing_fails_no_request() {
    let (world, _hold) = rollback_behind_the_meshs_back(FOR_EVER).await;
    world.waits_for("the canary to drain").await;
    let before = world.own_failures();
    world.assert_no_failures("weight 0, of which the mesh knows nothing").await;
    assert!(world.own_failures() > before, "users still reach the canary");
    world.shutdown().await;
}

/// A canary that becomes ready, and a mesh that knows none of its pods.
async fn canary_behind_the_meshs_back(settle: &'static str) -> (World, Hold) {
    let world = World::start(PROMPT_MESH, Duration::ZERO, Waits { settle, ..PATIENT }).await;
    let hold = world.sandbox.traffic().hold(Part::Endpoints);
    world.push("3.1.1");
    (world, hold)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weight_before_endpoints_fails_requests() {
    let (world, _hold) = canary_behind_the_meshs_back(NO_TIME).await;
    world.weight(25).await;
    world.assert_fails(&[Failure::NoHealthyUpstream]).await;
    world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_weight_before_endpoints_have_had_their_time() {
    let (world, _hold) = canary_behind_the_meshs_back(FOR_EVER).await;
    world.waits_for("proxies to learn of podinfo's pods").await;
    world.assert_no_failures("the canary became ready, of which the mesh knows nothing").await;
    world.shutdown().await;
}
