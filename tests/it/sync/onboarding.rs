//! A live app gets its first Canary by a push: sync, the engine and the cluster's controllers together. No pod that serves is
//! lost, whatever becomes of the Canary.

use kube::api::ListParams;
use pretty_assertions::assert_eq;
use serin::api::annotations::MANAGER_SYNC;
use serin::api::managed_fields::{FieldSet, applied_by};
use serin::cluster::{Clock, NoProbe};
use serin::sandbox::controllers::{self, ControllerOptions};
use serin::sandbox::crds;
use tokio_util::sync::DropGuard;

use super::*;
use crate::controller::world::{Outside, engine};

const START: &str = "2026-01-01T00:00:00Z";
/// Longest virtual time that anything here may take.
const PATIENT: Duration = Duration::from_secs(300);
/// Between two counts of the pods that serve, in virtual time.
const LOOK: Duration = Duration::from_millis(100);

/// Sync, engine and controllers on one cluster.
struct Whole {
    world: World,
    _running: [DropGuard; 2],
}

impl Whole {
    async fn new() -> Self {
        let mut world = World::new().await;
        let definitions = Api::all(world.cluster.client());
        for definition in crds::istio().unwrap() {
            definitions.create(&PostParams::default(), &definition).await.unwrap();
        }
        let shutdown = CancellationToken::new();
        tokio::spawn(controllers::run(world.server.client(), ControllerOptions::default(), shutdown.clone()));
        let clock = Clock::following(START.parse().unwrap());
        let engine = engine(&world.cluster, clock, &Arc::<Outside>::default(), Arc::new(NoProbe));
        world.repository.push(&[("namespace.yaml", NAMESPACE)]);
        world.start();
        world.until("the first sync", |status| status.synced).await;
        Self { world, _running: [shutdown.drop_guard(), engine] }
    }

    async fn push(&mut self, file: &str, text: &str) -> SyncStatus {
        self.world.push(&[(file, text)]).await
    }

    async fn deployment(&self, name: &str) -> Value {
        self.world.get("Deployment", name).await.unwrap_or_default()
    }

    /// Ready pods behind a Service.
    async fn serving(&self, service: &str) -> usize {
        let slices = self.world.resource("discovery.k8s.io", "v1", "EndpointSlice", "test").await;
        let of_service = ListParams::default().labels(&format!("kubernetes.io/service-name={service}"));
        let slices = slices.list(&of_service).await.unwrap();
        let endpoints = slices.iter().flat_map(|slice| slice.data["endpoints"].as_array().into_iter().flatten());
        endpoints.filter(|endpoint| endpoint["conditions"]["ready"] == true).count()
    }

    /// Waits until `done`; the fewest pods that served on the way.
    async fn fewest(&self, service: &str, what: &str, done: impl AsyncFn(&Self) -> bool) -> usize {
        let watched = async {
            let mut fewest = usize::MAX;
            loop {
                fewest = fewest.min(self.serving(service).await);
                if done(self).await {
                    return fewest;
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(PATIENT, watched).await.unwrap_or_else(|_| panic!("never: {what}"))
    }

    async fn serves(&self, service: &str, count: usize) {
        self.fewest(service, "all pods to serve", async |whole: &Self| whole.serving(service).await == count)
            .await;
    }

    async fn canary_status(&self, name: &str) -> Value {
        let canary = self.world.get("Canary", name).await.unwrap_or_default();
        canary["status"].clone()
    }
}

fn app(name: &str, labels: &str, replicas: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}, namespace: test}}\nspec:\n{replicas}  selector: \
         {{matchLabels: {{{labels}}}}}\n  template:\n    metadata: {{labels: {{{labels}}}}}\n    spec: {{containers: \
         [{{name: a, image: \"podinfo:1\", ports: [{{name: http, containerPort: 9898}}]}}]}}\n"
    )
}

fn service(name: &str, labels: &str, ports: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: test, labels: {{team: one}}}}\nspec: \
         {{selector: {{{labels}}}, ports: [{ports}]}}\n"
    )
}

fn canary(name: &str) -> String {
    CANARY.replace("name: podinfo", &format!("name: {name}")).replace("interval: 1m", "interval: 30s")
}

const WEB: &str = "{name: web, port: 9898, targetPort: 9898}";

#[tokio::test(start_paused = true)]
async fn a_live_app_gets_a_canary_and_keeps_its_pods() {
    let mut whole = Whole::new().await;
    let text = app("plain", "app: plain", "  replicas: 6\n") + &service("plain", "app: plain", WEB);
    whole.push("app.yaml", &text).await;
    whole.serves("plain", 6).await;
    whole.push("canary.yaml", &canary("plain")).await;
    let initialized = async |whole: &Whole| whole.canary_status("plain").await["phase"] == "Initialized";
    assert_eq!(whole.fewest("plain", "it is initialized", initialized).await, 6);
    assert_eq!(whole.deployment("plain-primary").await["spec"]["replicas"], 6);
    let scaled = async |whole: &Whole| whole.deployment("plain").await["spec"]["replicas"] == 0;
    assert_eq!(whole.fewest("plain", "the target is scaled down", scaled).await, 6);

    // The engine's size is left to it from now on, also when sync compares everything.
    whole.world.resync.ring();
    whole.push("app.yaml", &text.replace("team: one", "team: two")).await;
    let target = whole.deployment("plain").await;
    assert_eq!(target["spec"]["replicas"], 0);
    assert!(FieldSet::of_engine(&target).has(&["spec", "replicas"]));
    assert!(!applied_by(&target, MANAGER_SYNC).unwrap().fields().has(&["spec", "replicas"]));
    // Git's size is primary's.
    whole.push("app.yaml", &text.replace("replicas: 6", "replicas: 7")).await;
    whole.serves("plain", 7).await;
}

#[tokio::test(start_paused = true)]
async fn an_app_that_is_scaled_from_elsewhere_keeps_its_count_until_primary_has_it() {
    let mut whole = Whole::new().await;
    for (name, replicas) in [("auto", "")] {
        let labels = format!("app: {name}");
        let text = app(name, &labels, replicas) + &service(name, &labels, WEB);
        whole.push(&format!("{name}.yaml"), &text).await;
        // What an autoscaler does.
        let api = whole.world.resource("apps", "v1", "Deployment", "test").await;
        let params =
            PatchParams { field_manager: Some("kube-controller-manager".into()), ..PatchParams::default() };
        api.patch_scale(name, &params, &Patch::Merge(json!({"spec": {"replicas": 5}}))).await.unwrap();
        whole.serves(name, 5).await;
        whole.push(&format!("{name}-canary.yaml"), &canary(name)).await;
        let initialized = async |whole: &Whole| whole.canary_status(name).await["phase"] == "Initialized";
        assert_eq!(whole.fewest(name, "it is initialized", initialized).await, 5, "{name}");
    }
    assert_eq!(whole.deployment("auto-primary").await["spec"]["replicas"], 5);
}

#[tokio::test(start_paused = true)]
async fn a_canary_that_cannot_work_or_does_not_yet_changes_no_pod_count() {
    let mut whole = Whole::new().await;
    let unlabelled = app("kube", "k8s-app: kube", "  replicas: 6\n") + &service("kube", "k8s-app: kube", WEB);
    let suspended = app("susp", "app: susp", "  replicas: 2\n") + &service("susp", "app: susp", WEB);
    whole.push("kube.yaml", &unlabelled).await;
    whole.serves("kube", 6).await;
    whole.push("canary.yaml", &canary("kube")).await;
    let suspend = canary("susp") + "  suspend: true\n";
    whole.push("susp.yaml", &format!("{suspended}---\n{suspend}")).await;
    let blocked = async |whole: &Whole| {
        let conditions = whole.canary_status("kube").await["conditions"].clone();
        conditions.as_array().into_iter().flatten().any(|condition| condition["type"] == "Blocked")
    };
    assert_eq!(whole.fewest("kube", "it is blocked", blocked).await, 6);
    whole.serves("susp", 2).await;

    // Git's size and template hold all the same.
    whole
        .push("kube.yaml", &unlabelled.replace("replicas: 6", "replicas: 8").replace("podinfo:1", "podinfo:2"))
        .await;
    whole.serves("kube", 8).await;
    let target = whole.deployment("kube").await;
    assert_eq!(target["spec"]["template"]["spec"]["containers"][0]["image"], "podinfo:2");
    assert_eq!(whole.deployment("susp").await["spec"]["replicas"], 2);
}

#[tokio::test(start_paused = true)]
async fn a_service_in_git_follows_git_and_keeps_its_further_ports() {
    let same = "{name: http, port: 9898, targetPort: 9898}";
    let further = "{name: grpc, port: 9999, targetPort: 9898}";
    let mut whole = Whole::new().await;
    for (name, ports) in [("inbox", same.to_owned()), ("auth", format!("{same}, {further}"))] {
        let labels = format!("app: {name}");
        let text = app(name, &labels, "  replicas: 2\n") + &service(name, &labels, &ports);
        whole.push(&format!("{name}.yaml"), &text).await;
        whole.serves(name, 2).await;
        whole.push(&format!("{name}-canary.yaml"), &canary(name)).await;
        let initialized = async |whole: &Whole| whole.canary_status(name).await["phase"] == "Initialized";
        assert_eq!(whole.fewest(name, "it is initialized", initialized).await, 2, "{name}");

        let status = whole.push(&format!("{name}.yaml"), &text.replace("team: one", "team: two")).await;
        assert_eq!(status.conditions, BTreeMap::new());
        let live = whole.world.get("Service", name).await.unwrap();
        assert_eq!(live["metadata"]["labels"]["team"], "two");
        assert_eq!(live["spec"]["selector"], json!({"app": format!("{name}-primary")}));
        let ports: Vec<_> = live["spec"]["ports"].as_array().unwrap().iter().map(|port| &port["port"]).collect();
        assert_eq!(ports.len(), if name == "auth" { 2 } else { 1 }, "{name}: {ports:?}");
    }
    // A port that Git drops goes, one that the engine owns stays.
    let labels = "app: auth";
    let text = app("auth", labels, "  replicas: 2\n") + &service("auth", labels, same);
    whole.push("auth.yaml", &text).await;
    let live = whole.world.get("Service", "auth").await.unwrap();
    assert_eq!(live["spec"]["ports"].as_array().unwrap().len(), 1);
    assert_eq!(live["spec"]["ports"][0]["port"], 9898);
}

#[tokio::test]
async fn a_new_template_waits_until_its_guard_is_in_the_cluster() {
    let mut world = World::new().await;
    world.repository.push(&[("app.yaml", &[NAMESPACE, &deployment("1")].join("---\n"))]);
    world.start();
    world.until("the first sync", |status| status.synced).await;
    world.effects.take();
    world.push(&[("app.yaml", &[NAMESPACE, CANARY, &deployment("2")].join("---\n"))]).await;
    world.until("the target to be written", |status| status.waiting.is_empty()).await;
    let effects = world.effects.take();
    let at = |key: &str| effects.iter().position(|effect| effect == key).unwrap_or_else(|| panic!("{effects:?}"));
    assert!(at("Apply Canary test/podinfo") < at("Apply Deployment test/podinfo"), "{effects:?}");
    assert_eq!(world.image().await, "podinfo:2");
}
