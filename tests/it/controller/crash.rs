//! The process dies at every effect of a release and another one goes on: the end is the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use serin::cluster::{EffectKind, EffectProbe, NoProbe, ProbeFuture};
use tokio_util::sync::CancellationToken;

use super::world::{World, canary};

/// Stops the process (never returns) before or after its k-th effect.
struct Crash {
    left: AtomicU64,
    after: bool,
    crashed: CancellationToken,
}

impl Crash {
    fn hit<'a>(&'a self, counts: bool) -> ProbeFuture<'a> {
        let crash = counts && self.left.fetch_sub(1, Ordering::Relaxed) == 1;
        if crash {
            self.crashed.cancel();
            return Box::pin(std::future::pending());
        }
        Box::pin(std::future::ready(()))
    }
}

impl EffectProbe for Crash {
    fn before<'a>(&'a self, _kind: EffectKind, _key: &'a str) -> ProbeFuture<'a> {
        self.hit(!self.after)
    }
    fn after<'a>(&'a self, _kind: EffectKind, _key: &'a str) -> ProbeFuture<'a> {
        self.hit(self.after)
    }
}

/// What must be the same however often the process died.
async fn end_of(world: &World) -> Value {
    let mut canary = world.get("flagger.app", "v1beta1", "Canary", "podinfo").await["status"].take();
    canary["lastTransitionTime"].take();
    let state = &canary["serin"]["state"];
    let mut messages = world.messages().await;
    // How often somebody was seen waiting depends on who looked when.
    messages.retain(|message| !message.contains("not ready"));
    let mut hooks: Vec<String> =
        world.outside.hooks.lock().unwrap().iter().map(|(_, _, key)| key.clone()).collect();
    hooks.sort();
    hooks.dedup();
    json!({
        "events": messages,
        "hooks": hooks,
        "phase": canary["phase"],
        "promoted": canary["lastPromotedSpec"],
        "releases": state["releases"],
        "primary": world.image_of("podinfo-primary").await,
        "generation": world.deployment("podinfo-primary").await["metadata"]["generation"],
        "replicas": world.deployment("podinfo").await["spec"]["replicas"],
        "weights": world.weights().await,
    })
}

/// Runs a release and dies once at the given effect; `None` if the release was over before.
async fn release_with_crash(phase: &'static str, failing: bool, at: u64, after: bool) -> (Value, bool) {
    let mut canary = canary();
    canary["spec"]["analysis"]["stepWeight"] = json!(25);
    let world = World::with(canary).await;
    {
        let _serin = world.serin(Arc::new(NoProbe));
        world.reaches("Initialized").await;
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    world.outside.failing.store(failing, Ordering::Relaxed);
    world.set_image("3.1.1").await;
    let crashed = CancellationToken::new();
    let first = world.serin(Arc::new(Crash { left: AtomicU64::new(at), after, crashed: crashed.clone() }));
    let died = tokio::select! {
        () = crashed.cancelled() => true,
        () = world.reaches(phase) => false,
    };
    drop(first);
    let _second = world.serin(Arc::new(NoProbe));
    world.reaches(phase).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    (end_of(&world).await, died)
}

async fn survives_a_crash_everywhere(phase: &'static str, failing: bool, after: bool) {
    let (expected, died) = release_with_crash(phase, failing, u64::MAX, after).await;
    assert!(!died);
    for at in 1.. {
        let (end, died) = release_with_crash(phase, failing, at, after).await;
        assert_eq!(end, expected, "crash at effect {at}");
        if !died {
            assert!(at > 20, "a release has more effects than {at}");
            break;
        }
    }
}

// One test each: they run side by side.

#[tokio::test(start_paused = true)]
async fn a_promotion_survives_a_crash_before_every_effect() {
    survives_a_crash_everywhere("Succeeded", false, false).await;
}

#[tokio::test(start_paused = true)]
async fn a_promotion_survives_a_crash_after_every_effect() {
    survives_a_crash_everywhere("Succeeded", false, true).await;
}

#[tokio::test(start_paused = true)]
async fn a_rollback_survives_a_crash_before_every_effect() {
    survives_a_crash_everywhere("Failed", true, false).await;
}

#[tokio::test(start_paused = true)]
async fn a_rollback_survives_a_crash_after_every_effect() {
    survives_a_crash_everywhere("Failed", true, true).await;
}
