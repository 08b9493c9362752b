//! An app gets another name behind the same Service: Git drops Deployment and Canary and brings both under new names in one
//! commit. The old target serves until the new Canary's primary does.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use serin::api::{Canary, CanaryPhase};
use serin::sandbox::repository::FileEdit;

use super::manifests::{blue_green, by_gateway_api, by_services, manifests};
use super::world::{MESH, PATIENT, World};

/// The new name.
const LATER: &str = "later";

/// What the pods are labelled.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Labels {
    New,
    Kept,
}

/// The same manifests under the new name, with the old Service.
fn renamed(files: &[FileEdit], labels: Labels) -> Vec<FileEdit> {
    let edited = |path: &str, edit: &dyn Fn(&mut Value)| {
        let file = files.iter().find(|file| file.path == path).unwrap();
        let mut object: Value = serde_yaml::from_str(&file.content).unwrap();
        object["metadata"]["name"] = json!(LATER);
        edit(&mut object);
        FileEdit { path: path.to_owned(), content: serde_yaml::to_string(&object).unwrap() }
    };
    vec![
        edited("deployment.yaml", &|deployment| {
            if labels == Labels::New {
                deployment["spec"]["selector"]["matchLabels"] = json!({"app": LATER});
                deployment["spec"]["template"]["metadata"]["labels"] = json!({"app": LATER});
            }
        }),
        edited("hpa.yaml", &|scaler| scaler["spec"]["scaleTargetRef"]["name"] = json!(LATER)),
        edited("canary.yaml", &|canary| {
            canary["spec"]["targetRef"]["name"] = json!(LATER);
            canary["spec"]["autoscalerRef"]["name"] = json!(LATER);
            canary["spec"]["service"]["name"] = json!("podinfo");
        }),
    ]
}

async fn fails_no_request(files: Vec<FileEdit>, labels: Labels) {
    let later = renamed(&files, labels);
    let world = World::start_with(MESH, Duration::from_secs(2), PATIENT, files).await;
    let services: Api<Service> = Api::namespaced(world.sandbox.client(), "test");
    let before = services.get("podinfo").await.unwrap();
    world.sandbox.repository().commit("Give podinfo another name", |_| Ok(later.clone())).unwrap();

    let canaries: Api<Canary> = Api::namespaced(world.sandbox.client(), "test");
    world
        .eventually("the new Canary to be initialized", async || {
            let found = canaries.get_opt(LATER).await.unwrap().and_then(|canary| canary.status);
            found.is_some_and(|status| status.phase == CanaryPhase::Initialized)
        })
        .await;
    let deployments: Api<Deployment> = Api::namespaced(world.sandbox.client(), "test");
    world
        .eventually("the old target to be gone", async || deployments.get_opt("podinfo").await.unwrap().is_none())
        .await;
    world.assert_no_failures("another name").await;
    let after = services.get("podinfo").await.unwrap();
    assert_eq!(after.metadata.uid, before.metadata.uid, "the same Service, so the same address");
    let owner = after.metadata.owner_references.into_iter().flatten().next().map(|owner| (owner.kind, owner.name));
    let of_somebody = before.metadata.owner_references.is_none();
    assert_eq!(owner, (!of_somebody).then(|| ("Canary".to_owned(), LATER.to_owned())));
    world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_name_fails_no_request() {
    fails_no_request(manifests(), Labels::New).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_name_with_the_same_labels_fails_no_request() {
    fails_no_request(manifests(), Labels::Kept).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_name_behind_gateway_api_fails_no_request() {
    fails_no_request(by_gateway_api(&json!({})), Labels::New).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_name_behind_plain_services_fails_no_request() {
    fails_no_request(by_services(&blue_green()), Labels::New).await;
}

/// A Service in Git whose selector follows in the same commit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_name_behind_a_service_in_git_fails_no_request() {
    let service = |app: &str| {
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "podinfo", "namespace": "test"},
            "spec": {"selector": {"app": app}, "ports": [{"name": "http", "port": 9898, "targetPort": 9898}]}});
        FileEdit { path: "service.yaml".to_owned(), content: serde_yaml::to_string(&service).unwrap() }
    };
    let mut files = manifests();
    files.push(service("podinfo"));
    fails_no_request(files, Labels::New).await;
}
