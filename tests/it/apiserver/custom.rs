//! CustomResourceDefinitions and what they define.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use serin::sandbox::apiserver::ApiServer;

use super::{refusal, typed};

fn definition() -> Value {
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {
        "spec": {"type": "object", "required": ["size"], "properties": {
            "size": {"type": "integer", "minimum": 1},
            "mode": {"type": "string", "default": "auto", "enum": ["auto", "manual"]},
            "extra": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "routes": {
                "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                "items": {"type": "object", "required": ["name"], "properties": {
                    "name": {"type": "string"}, "weight": {"type": "integer"}
                }}
            }
        }},
        "status": {"type": "object", "properties": {"phase": {"type": "string"}}}
    }}});
    let version = |name: &str, storage: bool| {
        json!({
            "name": name, "served": true, "storage": storage, "schema": schema, "subresources": {"status": {}},
            "additionalPrinterColumns": [{"name": "Phase", "type": "string", "jsonPath": ".status.phase"}]
        })
    };
    json!({
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [version("v1beta1", false), version("v1", true)]
        }
    })
}

async fn widgets(version: &str) -> (Client, Api<DynamicObject>) {
    let client = ApiServer::new().client();
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let created = definitions.create(&PostParams::default(), &typed(definition())).await.unwrap();
    let conditions = created.status.unwrap().conditions.unwrap();
    assert!(conditions.iter().any(|condition| condition.type_ == "Established" && condition.status == "True"));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("example.com", version, "Widget"));
    let api = Api::namespaced_with(client.clone(), "default", &resource);
    (client, api)
}

fn widget(spec: &Value) -> DynamicObject {
    typed(json!({
        "apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": spec
    }))
}

#[tokio::test]
async fn schemas_default_prune_and_preserve() {
    let (_client, api) = widgets("v1").await;
    let spec = json!({"size": 2, "unknown": true, "extra": {"anything": [1]}});
    let created = api.create(&PostParams::default(), &widget(&spec)).await.unwrap();
    assert_eq!(created.data["spec"], json!({"size": 2, "mode": "auto", "extra": {"anything": [1]}}));
    assert_eq!(created.metadata.generation, Some(1));
    let status = Patch::Merge(json!({"status": {"phase": "Ready"}, "spec": {"size": 9}}));
    let patched = api.patch_status("w", &PatchParams::default(), &status).await.unwrap();
    assert_eq!((&patched.data["spec"]["size"], &patched.data["status"]["phase"]), (&json!(2), &json!("Ready")));
    assert_eq!(patched.metadata.generation, Some(1));
}

#[tokio::test]
async fn invalid_custom_resources_name_their_fields() {
    let (_client, api) = widgets("v1").await;
    for (spec, expected) in [
        (json!({}), "spec.size: Required value"),
        (
            json!({"size": 0}),
            "spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1",
        ),
        (json!({"size": "x"}), "spec.size in body must be of type integer: \"string\""),
        (json!({"size": 1, "mode": "x"}), "supported values: \"auto\", \"manual\""),
        (
            json!({"size": 1, "routes": [{"name": "a"}, {"name": "a"}]}),
            "spec.routes[1]: Duplicate value: {\"name\":\"a\"}",
        ),
    ] {
        let refused = refusal(api.create(&PostParams::default(), &widget(&spec)).await);
        assert_eq!(refused.code, 422);
        assert!(refused.message.contains(expected), "{}", refused.message);
    }
}

#[tokio::test]
async fn versions_show_one_object() {
    let (client, api) = widgets("v1").await;
    api.create(&PostParams::default(), &widget(&json!({"size": 1}))).await.unwrap();
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("example.com", "v1beta1", "Widget"));
    let older: Api<DynamicObject> = Api::namespaced_with(client, "default", &resource);
    assert_eq!(older.get("w").await.unwrap().types.unwrap().api_version, "example.com/v1beta1");
}

#[tokio::test]
async fn lists_with_keys_are_merged_and_others_replaced_whole() {
    let (_client, api) = widgets("v1").await;
    let apply = |routes: Value| Patch::Apply(widget(&json!({"size": 1, "routes": routes})));
    api.patch("w", &PatchParams::apply("a"), &apply(json!([{"name": "x", "weight": 1}]))).await.unwrap();
    let both =
        api.patch("w", &PatchParams::apply("b"), &apply(json!([{"name": "y", "weight": 2}]))).await.unwrap();
    let expected = json!([{"name": "x", "weight": 1}, {"name": "y", "weight": 2}]);
    assert_eq!(both.data["spec"]["routes"], expected);
    let strategic = Patch::Strategic(json!({"spec": {"size": 3}}));
    assert_eq!(refusal(api.patch("w", &PatchParams::default(), &strategic).await).code, 415);
}
