//! What the world's cluster holds before anything is released into it: the kinds of Istio and of Gateway API, a place for metrics and the way in.

use std::fmt::Debug;
use std::net::Ipv4Addr;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::SandboxError;
use crate::crds;

/// How long a definition may take to be served; a busy API server needs a second or two.
const SERVED_MAX: Duration = Duration::from_secs(30);

/// Label of what the sandbox put into the cluster, and its value.
const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
const MANAGER: &str = "serin-sandbox";
/// Namespace of the mesh's own services.
const MESH_NAMESPACE: &str = "istio-system";

const PROMETHEUS: &str = "prometheus";
const PROMETHEUS_PORT: u16 = 9090;
const INGRESS: &str = "istio-ingressgateway";
const INGRESS_PORT: u16 = 80;
/// Address of the ingress gateway in the cluster, for clients that go through the sandbox's proxy.
pub(super) const INGRESS_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 41, 0, 80);
/// Address of the sandbox's own query endpoint in the cluster. Like those of pods it means something to the sandbox's
/// proxy alone; a loopback address would be refused by a real API server.
pub(super) const PROMETHEUS_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 41, 0, 90);
/// Namespace of the daemon's lease and inventory, which `deploy/kustomize` makes in a real cluster.
const DAEMON_NAMESPACE: &str = "serin-system";

/// Creates what is not there yet; what a user has put there stays.
pub(super) async fn install(client: &Client, rollouts: bool) -> Result<(), SandboxError> {
    let of_argo = if rollouts { crds::argo_rollouts()? } else { Vec::new() };
    for definition in crds::istio()?.into_iter().chain(crds::gateway_api()?).chain(of_argo) {
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
    stand_in(client, PROMETHEUS, "ClusterIP", PROMETHEUS_PORT, PROMETHEUS_ADDRESS).await?;
    if !stand_in(client, INGRESS, "LoadBalancer", INGRESS_PORT, INGRESS_ADDRESS).await? {
        return Ok(());
    }
    // Where people's scripts look for the way in.
    let status = json!({"status": {"loadBalancer": {"ingress": [{"ip": INGRESS_ADDRESS}]}}});
    let services = Api::<Service>::namespaced(client.clone(), MESH_NAMESPACE);
    let patched = services.patch_status(INGRESS, &PatchParams::default(), &Patch::Merge(status)).await;
    patched
        .map(|_| ())
        .map_err(|source| SandboxError::Object { object: format!("status of Service {INGRESS}"), source })
}

/// One of the mesh's own services with the sandbox behind it; `false` if the cluster has the real one.
async fn stand_in(
    client: &Client,
    name: &str,
    kind: &str,
    port: u16,
    address: Ipv4Addr,
) -> Result<bool, SandboxError> {
    let services = Api::<Service>::namespaced(client.clone(), MESH_NAMESPACE);
    let ports = json!([{"name": "http", "port": port, "protocol": "TCP"}]);
    // Without a selector: the endpoint is no pod.
    let labels = json!({MANAGED_BY: MANAGER});
    let service = json!({"metadata": {"name": name, "labels": labels}, "spec": {"type": kind, "ports": ports}});
    create(&services, &parse(service, name)?).await?;
    let live = services.get(name).await;
    let live = live.map_err(|source| SandboxError::Object { object: format!("Service {name}"), source })?;
    if live.labels().get(MANAGED_BY).is_none_or(|manager| manager != MANAGER) {
        return Ok(false);
    }
    let slice = json!({
        "metadata": {"name": name, "labels": {
            "kubernetes.io/service-name": name, "endpointslice.kubernetes.io/managed-by": MANAGER,
        }},
        "addressType": "IPv4", "ports": ports,
        "endpoints": [{"addresses": [address], "conditions": {"ready": true}}],
    });
    create(&Api::<EndpointSlice>::namespaced(client.clone(), MESH_NAMESPACE), &parse(slice, name)?).await?;
    Ok(true)
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
