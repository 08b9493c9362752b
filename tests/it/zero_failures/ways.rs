//! The other ways to shift users: routers, all at once, copies, some of them, and those who stay.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use serin::api::CanaryPhase;
use serin::sandbox::repository::FileEdit;
use serin::sandbox::traffic::{Failure, Part};

use super::manifests::{ab, blue_green, by_gateway_api, by_services, mirrored, sticky, variant};
use super::world::{MESH, NO_TIME, PATIENT, PROMPT_MESH, Waits, World};

/// A release and the rollback of the next one; nobody notices either.
async fn fails_no_request(manifests: Vec<FileEdit>) {
    let world = World::start_with(MESH, Duration::from_secs(2), PATIENT, manifests).await;
    *world.users.pinned.lock().unwrap() = Some("3.1.1-slow-200".to_owned());
    world.push("3.1.1-slow-200");
    world.phase(CanaryPhase::Succeeded).await;
    world.assert_no_failures("promotion").await;
    *world.users.pinned.lock().unwrap() = None;
    world.push("3.1.2-slow-200");
    world.is_answered_by("3.1.2-slow-200").await;
    world.abort().await;
    world.phase(CanaryPhase::Failed).await;
    world.assert_no_failures("rollback").await;
    world.shutdown().await;
}

/// That the one above is not blind: the mesh learns nothing of the way back, and nothing drains.
async fn fails_without_a_drain(manifests: Vec<FileEdit>, held: Part) {
    let waits = Waits { drain: NO_TIME, ..PATIENT };
    let world = World::start_with(PROMPT_MESH, Duration::ZERO, waits, manifests).await;
    world.push("3.1.1");
    world.is_answered_by("3.1.1").await;
    assert_eq!(world.failures(), BTreeMap::new());
    let _hold = world.sandbox.traffic().hold(held);
    world.abort().await;
    world.phase(CanaryPhase::Failed).await;
    world.canary_is_gone().await;
    world.assert_fails(&[Failure::ConnectionRefused, Failure::ConnectionReset, Failure::NoHealthyUpstream]).await;
    world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateway_api_fails_no_request() {
    fails_no_request(by_gateway_api(&json!({}))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateway_api_without_a_drain_fails_requests() {
    fails_without_a_drain(by_gateway_api(&json!({})), Part::Routes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blue_green_with_plain_services_fails_no_request() {
    fails_no_request(by_services(&blue_green())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blue_green_with_plain_services_without_a_drain_fails_requests() {
    fails_without_a_drain(by_services(&blue_green()), Part::Endpoints).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mirrored_blue_green_fails_no_request() {
    fails_no_request(variant(&[&mirrored()])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mirrored_blue_green_without_a_drain_fails_requests() {
    fails_without_a_drain(variant(&[&mirrored()]), Part::Routes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ab_testing_fails_no_request() {
    fails_no_request(by_gateway_api(&ab())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ab_testing_without_a_drain_fails_requests() {
    fails_without_a_drain(by_gateway_api(&ab()), Part::Routes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sticky_users_fail_no_request() {
    fails_no_request(variant(&[&sticky()])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sticky_users_without_a_drain_fail_requests() {
    fails_without_a_drain(variant(&[&sticky()]), Part::Routes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sticky_users_of_gateway_api_fail_no_request() {
    fails_no_request(by_gateway_api(&sticky())).await;
}
