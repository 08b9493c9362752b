//! Patches and `managedFields`.

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use serin::sandbox::apiserver::ApiServer;

use super::{deployment, deployments, refusal, typed};

fn managers(object: &Deployment) -> Vec<(String, String)> {
    let entries = object.metadata.managed_fields.iter().flatten();
    entries.map(|entry| (entry.manager.clone().unwrap(), entry.operation.clone().unwrap())).collect()
}

#[tokio::test]
async fn applies_create_own_and_remove() {
    let api = deployments(&ApiServer::new().client());
    let params = PatchParams::apply("serin");
    let mut manifest = deployment("web", "nginx:1");
    manifest["metadata"]["labels"] = json!({"team": "a"});
    let created = api.patch("web", &params, &Patch::Apply(&manifest)).await.unwrap();
    assert_eq!(managers(&created), [("serin".to_owned(), "Apply".to_owned())]);
    let same = api.patch("web", &params, &Patch::Apply(&manifest)).await.unwrap();
    assert_eq!(same.metadata.resource_version, created.metadata.resource_version, "no change, no write");
    manifest["metadata"]["labels"] = json!({});
    let without = api.patch("web", &params, &Patch::Apply(&manifest)).await.unwrap();
    assert_eq!(without.metadata.labels.unwrap_or_default().len(), 0);
    assert_eq!(without.metadata.generation, Some(1), "labels are no spec");
}

#[tokio::test]
async fn conflicts_name_the_manager_and_the_field() {
    let api = deployments(&ApiServer::new().client());
    let manifest = deployment("web", "nginx:1");
    api.patch("web", &PatchParams::apply("serin"), &Patch::Apply(&manifest)).await.unwrap();
    let edit = json!({"spec": {"template": {"spec": {"containers": [{"name": "app", "image": "nginx:2"}]}}}});
    let params = PatchParams { field_manager: Some("kubectl-edit".into()), ..PatchParams::default() };
    let edited = api.patch("web", &params, &Patch::Strategic(edit)).await.unwrap();
    assert!(managers(&edited).contains(&("kubectl-edit".to_owned(), "Update".to_owned())));

    let refused = refusal(api.patch("web", &PatchParams::apply("serin"), &Patch::Apply(&manifest)).await);
    assert!(refused.is_conflict());
    let causes = refused.details.unwrap().causes;
    assert_eq!(causes[0].field, ".spec.template.spec.containers[name=\"app\"].image");
    assert_eq!(causes[0].message, "conflict with \"kubectl-edit\" using apps/v1");
    let forced = api.patch("web", &PatchParams::apply("serin").force(), &Patch::Apply(&manifest)).await.unwrap();
    assert_eq!(managers(&forced), [("serin".to_owned(), "Apply".to_owned())]);
}

#[tokio::test]
async fn strategic_patches_merge_containers_by_name() {
    let api = deployments(&ApiServer::new().client());
    api.create(&PostParams::default(), &typed(deployment("web", "nginx:1"))).await.unwrap();
    let sidecar = json!({"spec": {"template": {"spec": {"containers": [{"name": "side", "image": "x:1"}]}}}});
    let patched = api.patch("web", &PatchParams::default(), &Patch::Strategic(sidecar)).await.unwrap();
    let spec = patched.spec.unwrap().template.spec.unwrap();
    let names: Vec<&str> = spec.containers.iter().map(|container| container.name.as_str()).collect();
    assert_eq!(names, ["app", "side"]);
}

#[tokio::test]
async fn json_patches_test_before_they_write() {
    let api = deployments(&ApiServer::new().client());
    api.create(&PostParams::default(), &typed(deployment("web", "nginx:1"))).await.unwrap();
    let patch = |expected: i32| -> Patch<Value> {
        Patch::Json(typed(json!([
            {"op": "test", "path": "/spec/replicas", "value": expected},
            {"op": "replace", "path": "/spec/replicas", "value": 4},
        ])))
    };
    assert_eq!(refusal(api.patch("web", &PatchParams::default(), &patch(7)).await).code, 422);
    let patched = api.patch("web", &PatchParams::default(), &patch(1)).await.unwrap();
    assert_eq!(patched.spec.unwrap().replicas, Some(4));
}

#[tokio::test]
async fn unknown_fields_are_refused_strictly_only() {
    let api = deployments(&ApiServer::new().client());
    api.create(&PostParams::default(), &typed(deployment("web", "nginx:1"))).await.unwrap();
    let patch = Patch::Merge(json!({"spec": {"replica": 3}}));
    api.patch("web", &PatchParams::default(), &patch).await.unwrap();
    let refused = refusal(api.patch("web", &PatchParams::default().validation_strict(), &patch).await);
    assert!(
        refused.message.contains("strict decoding error: unknown field \"spec.replica\""),
        "{}",
        refused.message
    );
}
