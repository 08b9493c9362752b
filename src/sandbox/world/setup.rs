//! What the world's cluster holds before anything is released into it: Istio's kinds and a place for metrics.

use std::fmt::Debug;
use std::net::Ipv4Addr;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::PostParams;
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::SandboxError;
use crate::sandbox::crds;

/// How long a definition may take to be served; a busy API server needs a second or two.
const SERVED_MAX: Duration = Duration::from_secs(30);

/// Namespace of the mesh's own services.
const MESH_NAMESPACE: &str = "istio-system";

const PROMETHEUS: &str = "prometheus";
const PROMETHEUS_PORT: u16 = 9090;
/// Address of the sandbox's own query endpoint in the cluster. Like those of pods it means something to the sandbox's
/// proxy alone; a loopback address would be refused by a real API server.
pub(super) const PROMETHEUS_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 41, 0, 90);
/// Namespace of the daemon's lease and inventory, which `deploy/kustomize` makes in a real cluster.
const DAEMON_NAMESPACE: &str = "serin-system";

/// Creates what is not there yet; what a user has put there stays.
pub(super) async fn install(client: &Client) -> Result<(), SandboxError> {
    for definition in crds::istio()? {
        let name = definition.name_any();
        let api: Api<CustomResourceDefinition> = Api::all(client.clone());
        create(&api, &definition).await?;
        let served = await_condition(api, &name, conditions::is_crd_established());
        match tokio::time::timeout(SERVED_MAX, served).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) | Err(_) => return Err(SandboxError::NotServed { object: name, after: SERVED_MAX }),
        }
    }
    for name in [MESH_NAMESPACE, DAEMON_NAMESPACE] {
        let namespace = parse(json!({"metadata": {"name": name}}), name)?;
        create(&Api::<Namespace>::all(client.clone()), &namespace).await?;
    }
    let ports = json!([{"name": "http", "port": PROMETHEUS_PORT, "protocol": "TCP"}]);
    // Without a selector: the endpoint is no pod.
    let service = json!({"metadata": {"name": PROMETHEUS}, "spec": {"ports": ports}});
    create(&Api::<Service>::namespaced(client.clone(), MESH_NAMESPACE), &parse(service, PROMETHEUS)?).await?;
    let slice = json!({
        "metadata": {"name": PROMETHEUS, "labels": {
            "kubernetes.io/service-name": PROMETHEUS, "endpointslice.kubernetes.io/managed-by": "serin-sandbox",
        }},
        "addressType": "IPv4", "ports": ports,
        "endpoints": [{"addresses": [PROMETHEUS_ADDRESS], "conditions": {"ready": true}}],
    });
    create(&Api::<EndpointSlice>::namespaced(client.clone(), MESH_NAMESPACE), &parse(slice, PROMETHEUS)?).await
}

async fn create<K>(api: &Api<K>, object: &K) -> Result<(), SandboxError>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned,
{
    match api.create(&PostParams::default(), object).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        Err(source) => {
            Err(SandboxError::Object { object: format!("{} {}", K::kind(&()), object.name_any()), source })
        }
    }
}

fn parse<K: DeserializeOwned>(value: Value, name: &str) -> Result<K, SandboxError> {
    serde_json::from_value(value).map_err(|source| SandboxError::Object {
        object: name.to_owned(),
        source: kube::Error::SerdeError(source),
    })
}
