//! The objects of a pair beside those of others: whose pods answer, and whose Service is taken.

use std::sync::Arc;

use kube::api::{DynamicObject, ListParams, Patch, PatchParams};
use kube::runtime::wait::await_condition;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use serin::cluster::NoProbe;

use super::world::{self, CAP, World};

/// A Deployment with two ready pods.
fn workload(name: &str, labels: &Value) -> Value {
    json!({"metadata": {"name": name, "namespace": "test"}, "spec": {
        "replicas": 2, "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "a", "image": "a:1"}]}}}})
}

fn canary(name: &str) -> Value {
    let mut canary = world::canary();
    canary["metadata"]["name"] = json!(name);
    canary["spec"]["targetRef"]["name"] = json!(name);
    canary["spec"]["autoscalerRef"] = Value::Null;
    canary
}

impl World {
    /// Names of the Deployments whose pods answer for a Service.
    async fn answering(&self, service: &str) -> Vec<String> {
        let slices = self.api("discovery.k8s.io", "v1", "EndpointSlice").await;
        let of_service = ListParams::default().labels(&format!("kubernetes.io/service-name={service}"));
        let mut names: Vec<String> = Vec::new();
        for slice in slices.list(&of_service).await.unwrap() {
            for endpoint in slice.data["endpoints"].as_array().into_iter().flatten() {
                let pod = endpoint["targetRef"]["name"].as_str().unwrap();
                let (set, _) = pod.rsplit_once('-').unwrap();
                names.push(set.rsplit_once('-').unwrap().0.to_owned());
            }
        }
        names.sort();
        names
    }

    async fn canary_is(&self, name: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let api = self.api("flagger.app", "v1beta1", "Canary").await;
        let reached = |object: Option<&DynamicObject>| object.is_some_and(|object| is(&object.data["status"]));
        let waited = tokio::time::timeout(CAP, await_condition(api.clone(), name, reached)).await;
        if waited.is_err() {
            panic!("{name} is never {what}: {:#}", api.get(name).await.unwrap().data["status"]);
        }
        api.get(name).await.unwrap().data["status"].clone()
    }

    async fn initialized(&self, name: &str) {
        self.canary_is(name, "initialized", |status| status["phase"] == "Initialized").await;
    }

    async fn blocked(&self, name: &str) -> String {
        let of = |status: &Value| {
            let conditions = status["conditions"].as_array().into_iter().flatten();
            conditions.clone().find(|found| found["type"] == "Blocked").map(|found| found["message"].clone())
        };
        let status = self.canary_is(name, "blocked", |status| of(status).is_some()).await;
        of(&status).unwrap().as_str().unwrap().to_owned()
    }

    async fn patched(&self, group: &str, version: &str, kind: &str, name: &str, patch: Value) {
        let api = self.api(group, version, kind).await;
        api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn two_parts_of_one_app_answer_only_their_own_users() {
    let world = World::new().await;
    for part in ["web", "api"] {
        let name = format!("store-{part}");
        world.create("apps", "v1", "Deployment", workload(&name, &json!({"app": "store", "part": part}))).await;
        world.create("flagger.app", "v1beta1", "Canary", canary(&name)).await;
    }
    let _serin = world.serin(Arc::new(NoProbe));
    for name in ["store-web", "store-api"] {
        world.initialized(name).await;
        let primary = format!("{name}-primary");
        assert_eq!(world.answering(name).await, [primary.as_str(), &primary]);
        assert_eq!(world.answering(&primary).await, [primary.as_str(), &primary]);
        let selector = &world.deployment(&primary).await["spec"]["selector"]["matchLabels"];
        assert_eq!(selector, &json!({"app": "store-primary", "part": name.trim_start_matches("store-")}));
    }

    // The canary of one, while the other has none.
    let next = json!({"spec": {"template": {"metadata": {"annotations": {"release": "2"}}}}});
    world.patched("apps", "v1", "Deployment", "store-web", next).await;
    world.canary_is("store-web", "at 20 %", |status| status["canaryWeight"] == 20).await;
    assert_eq!(world.answering("store-web-canary").await, ["store-web", "store-web"]);
    assert_eq!(world.answering("store-api-canary").await, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_told_apart_starts_nothing_until_it_can() {
    let world = World::new().await;
    let others = json!({"app": "store", "role": "worker"});
    world.create("apps", "v1", "Deployment", workload("worker", &others)).await;
    world.create("apps", "v1", "Deployment", workload("store", &json!({"app": "store"}))).await;
    world.create("flagger.app", "v1beta1", "Canary", canary("store")).await;
    let _serin = world.serin(Arc::new(NoProbe));
    let words = world.blocked("store").await;
    assert!(words.contains("the pods of Deployment worker carry app=store too"), "{words}");
    let deployments = world.api("apps", "v1", "Deployment").await;
    assert!(deployments.get_opt("store-primary").await.unwrap().is_none());

    deployments.delete("worker", &Default::default()).await.unwrap();
    world.initialized("store").await;
}

#[tokio::test(start_paused = true)]
async fn a_primary_of_an_older_kind_is_taken_up_as_it_is() {
    let world = World::new().await;
    let labels = json!({"app": "store", "part": "web"});
    world.create("apps", "v1", "Deployment", workload("store", &labels)).await;
    world.create("flagger.app", "v1beta1", "Canary", canary("store")).await;
    // As Flagger makes it: one label in the selector, the others on the pods.
    let uid = world.get("flagger.app", "v1beta1", "Canary", "store").await["metadata"]["uid"].clone();
    let mut primary = workload("store-primary", &json!({"app": "store-primary"}));
    primary["metadata"]["ownerReferences"] = json!([{"apiVersion": "flagger.app/v1beta1", "kind": "Canary",
        "name": "store", "uid": uid, "controller": true, "blockOwnerDeletion": true}]);
    primary["spec"]["template"]["metadata"]["labels"] = json!({"app": "store-primary", "part": "web"});
    world.create("apps", "v1", "Deployment", primary).await;
    let _serin = world.serin(Arc::new(NoProbe));
    world.initialized("store").await;
    let primary = world.deployment("store-primary").await;
    assert_eq!(
        primary["spec"]["selector"]["matchLabels"],
        json!({"app": "store-primary"}),
        "it cannot be changed"
    );
    let apex = world.get("", "v1", "Service", "store").await;
    assert_eq!(apex["spec"]["selector"], json!({"app": "store-primary", "part": "web"}));
    assert_eq!(world.answering("store").await, ["store-primary", "store-primary"]);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_leads_elsewhere_is_nobodys_to_take() {
    let world = World::new().await;
    let service = |selector: Value| {
        json!({"metadata": {"name": "payments", "namespace": "test"}, "spec": {"selector": selector,
            "ports": [{"name": "web", "port": 9898, "targetPort": 9898}, {"name": "admin", "port": 9999}]}})
    };
    world.create("", "v1", "Service", service(json!({"app": "payments"}))).await;
    world.patch_canary(json!({"spec": {"service": {"name": "payments"}}})).await;
    let _serin = world.serin(Arc::new(NoProbe));
    let words = world.blocked("podinfo").await;
    assert!(
        words.starts_with("Service test/payments selects the pods with app=payments, not those of"),
        "{words}"
    );
    let untouched = world.get("", "v1", "Service", "payments").await;
    assert_eq!(untouched["spec"]["selector"], json!({"app": "payments"}));

    // The same name, but of this target: taken, and all that the Canary does not ask for stays.
    world.patched("", "v1", "Service", "payments", json!({"spec": {"selector": {"app": "podinfo"}}})).await;
    world.initialized("podinfo").await;
    let taken = world.get("", "v1", "Service", "payments").await;
    assert_eq!(taken["spec"]["selector"], json!({"app": "podinfo-primary"}));
    let ports = taken["spec"]["ports"].as_array().unwrap();
    assert_eq!((ports.len(), &ports[0]["name"], &ports[1]["port"]), (2, &json!("web"), &json!(9999)));
}

#[tokio::test(start_paused = true)]
async fn fields_of_the_service_that_come_later_reach_it_or_are_said() {
    let world = World::new().await;
    let _serin = world.serin(Arc::new(NoProbe));
    world.reaches("Initialized").await;
    world.patch_canary(json!({"spec": {"service": {"trafficDistribution": "PreferClose"}}})).await;
    let api = world.api("", "v1", "Service").await;
    for (name, wanted) in
        [("podinfo", "PreferClose"), ("podinfo-primary", "PreferClose"), ("podinfo-canary", "PreferClose")]
    {
        let near = move |object: Option<&DynamicObject>| {
            object.is_some_and(|object| object.data["spec"]["trafficDistribution"] == wanted)
        };
        tokio::time::timeout(CAP, await_condition(api.clone(), name, near)).await.expect(name).unwrap();
    }
    world.patch_canary(json!({"spec": {"service": {"headless": true}}})).await;
    let said = world.condition("Ignored").await;
    assert!(
        said["message"].as_str().unwrap().starts_with("spec.service.headless: Service podinfo keeps"),
        "{said}"
    );
    api.delete("podinfo", &Default::default()).await.unwrap();
    let again =
        |object: Option<&DynamicObject>| object.is_some_and(|object| object.data["spec"]["clusterIP"] == "None");
    tokio::time::timeout(CAP, await_condition(api, "podinfo", again)).await.unwrap().unwrap();
}
