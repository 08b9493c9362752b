//! The engine dies after effects of a promotion and of an abort, and another one goes on: the end is the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use serin::cluster::{EffectKind, EffectProbe, NoProbe, ProbeFuture};
use tokio::sync::Notify;

use super::world::{World, engine};

/// Longer than the drain and the delays of scaling down together.
const REST: Duration = Duration::from_secs(60);
/// Every so manyth effect is a point at which the engine dies: all of them take minutes.
const EVERY: usize = 4;

/// Stops the engine for ever after so many effects.
struct Deadly {
    left: AtomicUsize,
    died: Notify,
}

impl EffectProbe for Deadly {
    fn before<'a>(&'a self, _kind: EffectKind, _key: &'a str) -> ProbeFuture<'a> {
        Box::pin(std::future::ready(()))
    }

    fn after<'a>(&'a self, _kind: EffectKind, _key: &'a str) -> ProbeFuture<'a> {
        Box::pin(async move {
            if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
                self.died.notify_one();
                std::future::pending::<()>().await;
            }
        })
    }
}

/// The seed's update, promoted, and the next one, aborted; with an engine that dies after so many effects. The end of it, and how
/// many effects there were.
async fn story(dies_after: usize) -> (Value, usize) {
    let world = World::new(json!([{"setWeight": 50}, {"pause": {}}, {"setWeight": 90}]), 2).await;
    let deadly = Arc::new(Deadly { left: AtomicUsize::new(dies_after), died: Notify::new() });
    let first = engine(&world.cluster, world.clock.clone(), deadly.clone(), true);
    let (cluster, clock, probe) = (world.cluster.clone(), world.clock.clone(), deadly.clone());
    let _second = AbortOnDrop(tokio::spawn(async move {
        probe.died.notified().await;
        drop(first);
        let _serin = engine(&cluster, clock, Arc::new(NoProbe), true);
        std::future::pending::<()>().await;
    }));
    world.reaches("Healthy", "").await;
    world.set_image("yellow").await;
    world.reaches("Paused", "CanaryPauseStep").await;
    world.patch_status(json!({"pauseConditions": null})).await;
    world.reaches("Healthy", "").await;
    let yellow = world.status().await["currentPodHash"].clone();
    world.set_image("green").await;
    let on_green = |status: &Value| status["phase"] == "Paused" && status["currentPodHash"] != yellow;
    world.until("paused at green", on_green).await;
    world.patch_status(json!({"abort": true})).await;
    world.reaches("Degraded", "RolloutAborted").await;
    tokio::time::sleep(REST).await;
    let status = world.status().await;
    let end = json!({
        "sets": world.sets().await, "weights": world.weights().await,
        "led": [world.led("stable").await, world.led("canary").await],
        "phase": status["phase"], "message": status["message"], "stable": status["stableRS"], "step": status["currentStepIndex"],
        "weight": status["canary"]["weights"]["canary"]["weight"], "abort": status["abort"],
    });
    (end, dies_after.wrapping_sub(deadly.left.load(Ordering::Relaxed)))
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_dies_on_its_way_is_followed_by_one_that_comes_to_the_same_end() {
    let (whole, effects) = story(usize::MAX).await;
    assert!(effects > 20, "{effects}");
    for dies_after in (1..=effects).step_by(EVERY) {
        let (end, _) = story(dies_after).await;
        assert_eq!(end, whole, "after effect {dies_after} of {effects}");
    }
}
