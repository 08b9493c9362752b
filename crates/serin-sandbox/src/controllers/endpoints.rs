//! EndpointSlices of Services that have a selector: which pods serve, and on which ports.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ObjectReference, Pod, Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::{DeleteParams, PostParams};
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt as _};

use super::deployment::name_suffix;
use super::objects::{controlled_by, has_ended, ready_since, selects};
use super::runner::Shared;
use super::watch::Change;
use super::{ControllerError, MANAGER};

const SERVICE_LABEL: &str = "kubernetes.io/service-name";
const MANAGED_BY: (&str, &str) = ("endpointslice.kubernetes.io/managed-by", "endpointslice-controller.k8s.io");
const HEADLESS: (&str, &str) = ("service.kubernetes.io/headless", "");

/// Most endpoints in one slice, as kube-controller-manager's default.
const SLICE_SIZE: usize = 100;

/// Services that select the pod, before or after the change.
pub(super) fn selecting(shared: &Shared, change: &Change<'_, Pod>) -> Vec<ObjectRef<Service>> {
    let concerns = |service: &Service| {
        change.states().any(|pod| pod.namespace() == service.namespace() && is_selected(service, pod))
    };
    shared.services.state_filter(concerns).iter().map(|service| ObjectRef::from_obj(&**service)).collect()
}

/// The Service that one of our slices belongs to.
pub(super) fn service_of(slice: &EndpointSlice) -> Option<ObjectRef<Service>> {
    is_ours(slice).then_some(())?;
    Some(ObjectRef::new(slice.labels().get(SERVICE_LABEL)?).within(&slice.namespace()?))
}

fn is_selected(service: &Service, pod: &Pod) -> bool {
    let Some(selector) = selector_of(service) else { return false };
    selects(
        &LabelSelector { match_labels: Some(selector.clone()), ..LabelSelector::default() },
        Some(pod.labels()),
    )
}

fn selector_of(service: &Service) -> Option<&BTreeMap<String, String>> {
    let spec = service.spec.as_ref()?;
    spec.selector.as_ref().filter(|selector| !selector.is_empty() && spec.type_.as_deref() != Some("ExternalName"))
}

fn is_ours(slice: &EndpointSlice) -> bool {
    slice.labels().get(MANAGED_BY.0).map(String::as_str) == Some(MANAGED_BY.1)
}

/// One pass over one Service.
pub(super) async fn reconcile(service: Arc<Service>, shared: Arc<Shared>) -> Result<Action, ControllerError> {
    let Some(namespace) = service.namespace() else { return Ok(Action::await_change()) };
    if service.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let of_service = |slice: &EndpointSlice| service_of(slice) == Some(ObjectRef::from_obj(&*service));
    let present = shared.slices.state_filter(of_service);
    let wanted = match selector_of(&service) {
        Some(_) => {
            let selected = |pod: &Pod| pod.namespace() == service.namespace() && is_selected(&service, pod);
            slices(&service, &shared.pods.state_filter(selected))?
        }
        // Without a selector the endpoints are the user's.
        None => Vec::new(),
    };
    let api: Api<EndpointSlice> = Api::namespaced(shared.client.clone(), &namespace);
    for slice in &wanted {
        let before = present.iter().find(|before| before.name_any() == slice.name_any());
        write(&api, before.map(|before| &**before), slice).await?;
    }
    for slice in present.iter().filter(|slice| wanted.iter().all(|wanted| wanted.name_any() != slice.name_any())) {
        match api.delete(&slice.name_any(), &DeleteParams::default()).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Action::await_change())
}

async fn write(
    api: &Api<EndpointSlice>,
    before: Option<&EndpointSlice>,
    slice: &EndpointSlice,
) -> Result<(), ControllerError> {
    let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    let Some(before) = before else {
        api.create(&params, slice).await?;
        return Ok(());
    };
    let EndpointSlice { address_type: _, endpoints, metadata, ports } = slice;
    if before.endpoints == *endpoints && before.ports == *ports && before.labels() == slice.labels() {
        return Ok(());
    }
    let mut next = before.clone();
    next.endpoints.clone_from(endpoints);
    next.ports.clone_from(ports);
    next.metadata.labels.clone_from(&metadata.labels);
    api.replace(&slice.name_any(), &params, &next).await?;
    Ok(())
}

/// The slices a Service should have. Pods whose named ports mean different numbers are in different slices.
fn slices(service: &Service, pods: &[Arc<Pod>]) -> Result<Vec<EndpointSlice>, ControllerError> {
    let spec = service.spec.clone().unwrap_or_default();
    let mut groups: BTreeMap<String, (Vec<EndpointPort>, Vec<Endpoint>)> = BTreeMap::new();
    for pod in pods {
        let Some(endpoint) = endpoint(&spec, pod) else { continue };
        let ports = ports(&spec, pod);
        let (_, endpoints) = groups.entry(serde_json::to_string(&ports)?).or_insert((ports, Vec::new()));
        endpoints.push(endpoint);
    }
    if groups.is_empty() {
        groups.insert(String::new(), (Vec::new(), Vec::new()));
    }
    let mut slices = Vec::new();
    for (key, (ports, mut endpoints)) in groups {
        endpoints.sort_by(|a, b| a.addresses.cmp(&b.addresses));
        let chunks = endpoints.chunks(SLICE_SIZE).map(<[Endpoint]>::to_vec);
        let chunks: Vec<_> = if endpoints.is_empty() { vec![Vec::new()] } else { chunks.collect() };
        for (number, chunk) in chunks.into_iter().enumerate() {
            // The empty slice is the one that later fills, so that watchers see one object change.
            let suffix = if slices.is_empty() { String::new() } else { format!("{key}/{number}") };
            slices.push(slice(service, &suffix, &ports, chunk)?);
        }
    }
    Ok(slices)
}

/// Names derive from the Service's uid and the slice's place, so that a lagging cache cannot create a second one.
fn slice(
    service: &Service,
    place: &str,
    ports: &[EndpointPort],
    endpoints: Vec<Endpoint>,
) -> Result<EndpointSlice, ControllerError> {
    let incomplete =
        || ControllerError::Incomplete { object: format!("service {}", service.name_any()), field: "uid" };
    let uid = service.uid().ok_or_else(incomplete)?;
    let owner = controlled_by(service).ok_or_else(incomplete)?;
    let mut labels = service.labels().clone();
    labels.insert(SERVICE_LABEL.to_owned(), service.name_any());
    labels.insert(MANAGED_BY.0.to_owned(), MANAGED_BY.1.to_owned());
    if service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None") {
        labels.insert(HEADLESS.0.to_owned(), HEADLESS.1.to_owned());
    }
    Ok(EndpointSlice {
        metadata: ObjectMeta {
            name: Some(format!("{}-{}", service.name_any(), name_suffix(&format!("{uid}/{place}")))),
            namespace: service.namespace(),
            labels: Some(labels),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        address_type: "IPv4".to_owned(),
        endpoints,
        ports: (!ports.is_empty()).then(|| ports.to_vec()),
    })
}

fn endpoint(spec: &ServiceSpec, pod: &Pod) -> Option<Endpoint> {
    if has_ended(pod) {
        return None;
    }
    let address = pod.status.as_ref()?.pod_ip.clone().filter(|address| !address.is_empty())?;
    let terminating = pod.metadata.deletion_timestamp.is_some();
    let always = spec.publish_not_ready_addresses == Some(true);
    let serving = always || ready_since(pod).is_some();
    Some(Endpoint {
        addresses: vec![address],
        conditions: Some(EndpointConditions {
            ready: Some(always || (serving && !terminating)),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        node_name: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: pod.namespace(),
            name: Some(pod.name_any()),
            uid: pod.uid(),
            ..ObjectReference::default()
        }),
        ..Endpoint::default()
    })
}

fn ports(spec: &ServiceSpec, pod: &Pod) -> Vec<EndpointPort> {
    spec.ports.iter().flatten().filter_map(|port| resolve(port, pod)).collect()
}

/// A named target port that the pod lacks leaves the port out.
fn resolve(port: &ServicePort, pod: &Pod) -> Option<EndpointPort> {
    let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
    let number = match &port.target_port {
        None => port.port,
        Some(IntOrString::Int(0)) => port.port,
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(name)) => {
            let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
            let mut declared = containers.flat_map(|container| container.ports.iter().flatten());
            let tcp = |declared: &Option<String>| declared.as_deref().unwrap_or("TCP") == protocol;
            declared
                .find(|declared| declared.name.as_ref() == Some(name) && tcp(&declared.protocol))?
                .container_port
        }
    };
    Some(EndpointPort {
        app_protocol: port.app_protocol.clone(),
        name: Some(port.name.clone().unwrap_or_default()),
        port: Some(number),
        protocol: Some(protocol),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service() -> Service {
        serde_json::from_value(json!({
            "metadata": {"name": "podinfo", "namespace": "test", "uid": "1"},
            "spec": {"selector": {"app": "podinfo"}, "ports": [{"name": "http", "port": 80, "targetPort": "web"}]}
        }))
        .unwrap()
    }

    fn pod(ip: &str, port: i32, ready: &str, deleted: Option<&str>) -> Arc<Pod> {
        let value = json!({
            "metadata": {"name": ip, "namespace": "test", "labels": {"app": "podinfo"}, "deletionTimestamp": deleted},
            "spec": {"containers": [{"name": "web", "ports": [{"name": "web", "containerPort": port}]}]},
            "status": {"podIP": ip, "phase": "Running", "conditions": [{"type": "Ready", "status": ready}]}
        });
        Arc::new(serde_json::from_value(value).unwrap())
    }

    fn conditions(slice: &EndpointSlice) -> Vec<(bool, bool, bool)> {
        let flags = |conditions: &EndpointConditions| {
            (
                conditions.ready == Some(true),
                conditions.serving == Some(true),
                conditions.terminating == Some(true),
            )
        };
        slice.endpoints.iter().filter_map(|endpoint| endpoint.conditions.as_ref()).map(flags).collect()
    }

    #[test]
    fn terminating_pods_serve_but_are_not_ready() {
        let pods = [
            pod("10.0.0.1", 9898, "True", None),
            pod("10.0.0.2", 9898, "True", Some("2026-01-01T00:00:00Z")),
            pod("10.0.0.3", 9898, "False", None),
        ];
        let slices = slices(&service(), &pods).unwrap();
        assert_eq!(slices.len(), 1);
        assert_eq!(conditions(&slices[0]), [(true, true, false), (false, true, true), (false, false, false)]);
        assert_eq!(slices[0].ports.as_ref().unwrap()[0].port, Some(9898));
    }

    #[test]
    fn a_named_port_with_two_meanings_makes_two_slices() {
        let pods = [pod("10.0.0.1", 9898, "True", None), pod("10.0.0.2", 8080, "True", None)];
        let slices = slices(&service(), &pods).unwrap();
        let ports: Vec<_> = slices.iter().map(|slice| slice.ports.as_ref().unwrap()[0].port).collect();
        assert_eq!(ports, [Some(8080), Some(9898)]);
        assert_ne!(slices[0].name_any(), slices[1].name_any());
    }
}
