//! Routers' kinds come and go.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use kube::runtime::conditions::is_deleted;
use kube::runtime::wait::await_condition;
use serin::cluster::NoProbe;
use serin::sandbox::crds;

use super::world::{CAP, World};

#[tokio::test(start_paused = true)]
async fn a_missing_mesh_is_said_on_each_canary_that_needs_it_and_found_once_it_is_there() {
    let world = World::new().await;
    let definitions = Api::<CustomResourceDefinition>::all(world.cluster.client());
    for definition in crds::istio().unwrap() {
        let name = definition.metadata.name.unwrap();
        let uid = definitions.get(&name).await.unwrap().metadata.uid.unwrap();
        definitions.delete(&name, &DeleteParams::default()).await.unwrap();
        let gone = await_condition(definitions.clone(), &name, is_deleted(&uid));
        tokio::time::timeout(CAP, gone).await.unwrap().unwrap();
    }
    let _serin = world.serin(Arc::new(NoProbe));
    let blocked = world.condition("Blocked").await;
    let said = blocked["message"].as_str().unwrap();
    assert!(said.starts_with("DestinationRule cannot be written: the API server knows no kind"), "{said}");
    assert!(said.ends_with("install the definitions of Istio or set another spec.provider"), "{said}");
    // Nothing was begun meanwhile, however long that is.
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(world.deployment("podinfo").await["spec"]["replicas"], 2);

    for definition in crds::istio().unwrap() {
        definitions.create(&PostParams::default(), &definition).await.unwrap();
    }
    world.reaches("Initialized").await;
    assert_eq!(world.weights().await, (100, 0));
}
