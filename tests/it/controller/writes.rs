//! What is written, how often, and what a write means that does not come out as it was meant.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams};
use pretty_assertions::assert_eq;
use serde_json::json;
use serin::cluster::{EffectKind, EffectProbe, NoProbe, ProbeFuture};

use super::world::World;

const STATE: &str = "Status status of Canary test/podinfo";
const SIZE: &str = "Scale Deployment test/podinfo";
const ROUTE: &str = "Patch VirtualService test/podinfo";
/// All that is written in a release of five steps. What pods lack is told every ten seconds at most, and here they lack nothing for
/// so long.
const RELEASE: [&str; 20] = [
    // A revision is seen, and its candidate sized. Readiness and the pre-rollout hook are told with what follows.
    STATE,
    SIZE,
    // Five steps: the verdict on the one before with the next intent, and the route.
    STATE,
    ROUTE,
    STATE,
    ROUTE,
    STATE,
    ROUTE,
    STATE,
    ROUTE,
    STATE,
    ROUTE,
    // The last verdict. Primary runs the last good template, which is stored already.
    STATE,
    "Patch Deployment test/podinfo-primary",
    // Primary is ready: all goes back.
    STATE,
    ROUTE,
    // Drained. The new last good template replaces the old one, and the candidate ends.
    "Create ControllerRevision test/podinfo-primary-",
    "Delete ControllerRevision test/podinfo-primary-",
    SIZE,
    STATE,
];

#[tokio::test(start_paused = true)]
async fn what_admission_turns_into_something_else_is_not_written_again_and_again() {
    let world = World::new().await;
    // A server that keeps no retries of a route, as an admission webhook or an older definition would have it.
    let definitions = Api::<CustomResourceDefinition>::all(world.cluster.client());
    let name = "virtualservices.networking.istio.io";
    let routes = serde_json::to_value(definitions.get(name).await.unwrap()).unwrap();
    let mut routes = routes;
    for version in routes["spec"]["versions"].as_array_mut().unwrap() {
        let rule = "/schema/openAPIV3Schema/properties/spec/properties/http/items/properties";
        let rule = version.pointer_mut(rule).and_then(|rule| rule.as_object_mut()).expect("a schema of rules");
        assert!(rule.remove("retries").is_some());
    }
    definitions.replace(name, &Default::default(), &serde_json::from_value(routes).unwrap()).await.unwrap();

    let _serin = world.serin(Arc::new(NoProbe));
    world.reaches("Initialized").await;
    let before = world.server.requests().snapshot();
    world.set_image("3.1.1").await;
    world.reaches("Succeeded").await;
    let writes = world.server.requests().snapshot().since(&before);
    let patches = writes.total(|key| key.verb == "patch" && key.resource.starts_with("virtualservices"));
    assert_eq!(patches, 6, "five raises and the way back: {writes:#?}");
}

/// What is written, by object, beside Events.
#[derive(Default)]
pub(super) struct Written(Mutex<Vec<String>>);

impl EffectProbe for Written {
    fn before<'a>(&'a self, kind: EffectKind, key: &'a str) -> ProbeFuture<'a> {
        if kind != EffectKind::Hook && !key.starts_with("Event ") {
            self.0.lock().unwrap().push(format!("{kind:?} {key}"));
        }
        Box::pin(std::future::ready(()))
    }

    fn after<'a>(&'a self, _kind: EffectKind, _key: &'a str) -> ProbeFuture<'a> {
        Box::pin(std::future::ready(()))
    }
}

impl Written {
    pub(super) fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// What came after the first so many.
    pub(super) fn since(&self, count: usize) -> Vec<String> {
        self.0.lock().unwrap()[count..].to_vec()
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_costs_two_writes_and_a_release_of_five_twenty() {
    let world = World::new().await;
    let written = Arc::new(Written::default());
    let _serin = world.serin(written.clone());
    world.reaches("Initialized").await;
    // In the middle of an interval one step is over and the next has not begun.
    let half = Duration::from_secs(30);
    tokio::time::sleep(half).await;
    let before = written.count();
    world.set_image("3.1.1").await;
    world.has_weight(10).await;
    tokio::time::sleep(half).await;
    let mut at = written.count();
    for weight in [20, 30, 40, 50] {
        world.has_weight(weight).await;
        tokio::time::sleep(half).await;
        let now = written.count();
        let step = written.0.lock().unwrap()[at..now].to_vec();
        assert_eq!(step.len(), 2, "the step to {weight} %: {step:#?}");
        at = now;
    }
    world.reaches("Succeeded").await;
    tokio::time::sleep(half).await;
    let mut release = written.since(before);
    // The Deployment's controller writes its status in the moment in which the candidate is sized: the first try loses.
    let lost = release.windows(2).filter(|two| two[0] == SIZE && two[1] == SIZE).count();
    assert!(lost <= 1, "{release:#?}");
    release.dedup();
    assert_eq!(release.len(), RELEASE.len(), "{release:#?}");
    for (write, expected) in release.iter().zip(RELEASE) {
        assert!(write.starts_with(expected), "{write}, not {expected}: {release:#?}");
    }
}

/// Somebody else writes the route in the very moment in which it is to be shifted, the first few times.
struct Rival {
    routes: Api<DynamicObject>,
    left: AtomicUsize,
}

impl EffectProbe for Rival {
    fn before<'a>(&'a self, kind: EffectKind, key: &'a str) -> ProbeFuture<'a> {
        let is_shift = kind == EffectKind::Patch && key == "VirtualService test/podinfo";
        Box::pin(async move {
            let left = self.left.load(Ordering::Relaxed);
            if is_shift && left > 0 {
                self.left.store(left - 1, Ordering::Relaxed);
                let note = Patch::Merge(json!({"metadata": {"annotations": {"note": left.to_string()}}}));
                self.routes.patch("podinfo", &PatchParams::default(), &note).await.unwrap();
            }
        })
    }

    fn after<'a>(&'a self, _kind: EffectKind, _key: &'a str) -> ProbeFuture<'a> {
        Box::pin(std::future::ready(()))
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_race_on_a_route_is_no_news() {
    let world = World::new().await;
    let rival = Arc::new(Rival {
        routes: world.api("networking.istio.io", "v1beta1", "VirtualService").await,
        left: AtomicUsize::new(3),
    });
    let _serin = world.serin(rival.clone());
    world.reaches("Initialized").await;
    world.set_image("3.1.1").await;
    let canaries = world.api("flagger.app", "v1beta1", "Canary").await;
    let watched = tokio::spawn(async move {
        let blocked = |object: Option<&DynamicObject>| {
            let conditions = object.and_then(|object| object.data["status"]["conditions"].as_array());
            conditions.is_some_and(|all| all.iter().any(|condition| condition["type"] == "Blocked"))
        };
        kube::runtime::wait::await_condition(canaries, "podinfo", blocked).await
    });
    world.reaches("Succeeded").await;
    assert_eq!(rival.left.load(Ordering::Relaxed), 0, "races were lost");
    assert!(!watched.is_finished(), "a lost race is told as a failure");
    assert_eq!(world.image_of("podinfo-primary").await, "stefanprodan/podinfo:3.1.1");
}
