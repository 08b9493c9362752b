//! The apex, primary and canary Services (Flagger's Kubernetes router).

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Map, Value, json};

use crate::api::{CanaryService, CustomMetadata};
use crate::workload::SelectorLabel;

use super::RouteRequest;
use super::diff::{merge_diff, merge_update_with};
use super::metadata::{generated, has_metadata_of, leave_unmanaged};

/// Longest name of a Service's port.
const PORT_NAME_MAX: usize = 63;

/// The three Services as they should be.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceSet {
    /// `<service>`: selects primary pods.
    pub apex: Value,
    /// `<service>-primary`.
    pub primary: Value,
    /// `<service>-canary`.
    pub canary: Value,
}

/// Renders them; `ports` are the target's container ports, used with `portDiscovery`.
pub fn services(request: &RouteRequest<'_>, label: &SelectorLabel, ports: &[(String, i32)]) -> ServiceSet {
    let CanaryService { apex, primary, canary, .. } = request.spec;
    let name = request.service;
    let service = |name: &str, selects: &str, custom: &Option<CustomMetadata>| {
        service(request, name, &label.key, selects, ports, custom.as_ref())
    };
    ServiceSet {
        apex: service(name, &label.primary_value(), apex),
        primary: service(&format!("{name}-primary"), &label.primary_value(), primary),
        canary: service(&format!("{name}-canary"), &label.value, canary),
    }
}

impl ServiceSet {
    /// In the order in which they are written: sides before the apex that leads to one of them.
    pub fn in_order(&self) -> [&Value; 3] {
        [&self.canary, &self.primary, &self.apex]
    }

    /// The merge patch that brings a live Service to `desired`, or `None` if it is as wanted. Only selector and ports are
    /// ours on a Service that the Canary does not own.
    pub fn update(request: &RouteRequest<'_>, desired: &Value, live: &Value) -> Option<Value> {
        let owned = request.owner.controls(live);
        let desired = &leave_unmanaged(desired, live, request.spec.unmanaged_metadata.as_ref());
        let ports = with_node_ports(&desired["spec"]["ports"], &live["spec"]["ports"]);
        let spec_current = live["spec"]["selector"] == desired["spec"]["selector"]
            && normal_ports(&live["spec"]["ports"]) == normal_ports(&desired["spec"]["ports"]);
        if spec_current && (!owned || has_metadata_of(live, desired)) {
            return None;
        }
        let spec = json!({
            "selector": merge_diff(&live["spec"]["selector"], &desired["spec"]["selector"]),
            "ports": ports,
        });
        let metadata_of = if owned { desired } else { &Value::Null };
        Some(merge_update_with(live, metadata_of, spec))
    }
}

fn service(
    request: &RouteRequest<'_>,
    name: &str,
    label: &str,
    selects: &str,
    discovered: &[(String, i32)],
    custom: Option<&CustomMetadata>,
) -> Value {
    let labels = Map::from_iter([(label.to_owned(), Value::from(name))]);
    let mut spec = Map::from_iter([
        ("type".to_owned(), json!("ClusterIP")),
        ("selector".to_owned(), json!({label: selects})),
        ("ports".to_owned(), Value::Array(ports(request.spec, discovered))),
    ]);
    if request.spec.headless {
        spec.insert("clusterIP".to_owned(), json!("None"));
    }
    if let Some(distribution) = &request.spec.traffic_distribution {
        spec.insert("trafficDistribution".to_owned(), json!(distribution));
    }
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": generated(request, name, labels, custom),
        "spec": spec,
    })
}

fn ports(spec: &CanaryService, discovered: &[(String, i32)]) -> Vec<Value> {
    let CanaryService { port, port_name, target_port, app_protocol, port_discovery, .. } = spec;
    let target = match target_port {
        None => json!(port),
        Some(IntOrString::Int(0)) => json!(port),
        Some(IntOrString::Int(number)) => json!(number),
        Some(IntOrString::String(name)) => json!(name),
    };
    let mut main = json!({
        "name": port_name.as_deref().unwrap_or("http"), "protocol": "TCP", "port": port, "targetPort": target
    });
    if let (Some(protocol), Some(map)) = (app_protocol, main.as_object_mut()) {
        map.insert("appProtocol".to_owned(), json!(protocol));
    }
    let mut ports = vec![main];
    for (name, number) in discovered.iter().filter(|_| *port_discovery) {
        let declared = target == json!(number) || target == json!(name);
        let taken = |field: &str, value: &Value| ports.iter().any(|port: &Value| port[field] == *value);
        if declared || taken("port", &json!(number)) {
            continue;
        }
        // The API server refuses a name twice, and one that is too long.
        let by_number = format!("tcp-{number}");
        let fits = |name: &&String| name.len() <= PORT_NAME_MAX && !taken("name", &json!(name));
        if let Some(name) = [name, &by_number].into_iter().find(fits) {
            ports.push(json!({"name": name, "protocol": "TCP", "port": number, "targetPort": number}));
        }
    }
    ports
}

/// Ports without what the API server fills in.
fn normal_ports(ports: &Value) -> Vec<Value> {
    let fields = ["name", "port", "appProtocol"];
    let ports = ports.as_array();
    ports
        .into_iter()
        .flatten()
        .map(|port| {
            let mut normal: Map<String, Value> =
                fields.iter().filter_map(|key| Some(((*key).to_owned(), port.get(key)?.clone()))).collect();
            let target = port.get("targetPort").unwrap_or(&port["port"]).clone();
            normal.insert("targetPort".to_owned(), target);
            normal.insert("protocol".to_owned(), json!(port["protocol"].as_str().unwrap_or("TCP")));
            Value::Object(normal)
        })
        .collect()
}

/// Keeps allocated node ports: a user's Service may be of another type than ClusterIP.
fn with_node_ports(desired: &Value, live: &Value) -> Value {
    let mut ports = desired.clone();
    for port in ports.as_array_mut().into_iter().flatten() {
        let live_ports = live.as_array();
        let node_port = live_ports
            .into_iter()
            .flatten()
            .find(|live| live["port"] == port["port"])
            .map(|live| &live["nodePort"]);
        if let (Some(Value::Number(number)), Some(map)) = (node_port, port.as_object_mut()) {
            map.insert("nodePort".to_owned(), Value::Number(number.clone()));
        }
    }
    ports
}

#[cfg(test)]
mod tests {
    use crate::workload::Owner;

    use super::*;

    fn set(spec: Value) -> (CanaryService, Owner, SelectorLabel) {
        (
            serde_json::from_value(spec).unwrap(),
            Owner { name: "podinfo".into(), uid: "u".into() },
            SelectorLabel { key: "app".into(), value: "podinfo".into() },
        )
    }

    fn request<'a>(spec: &'a CanaryService, owner: &'a Owner) -> RouteRequest<'a> {
        RouteRequest { namespace: "test", service: "web", spec, owner, target: "podinfo" }
    }

    #[test]
    fn each_service_selects_its_side() {
        let (spec, owner, label) = set(
            json!({"port": 80, "targetPort": "http", "portDiscovery": true, "apex": {"labels": {"team": "a"}}}),
        );
        let ports = [("http".to_owned(), 9898), ("grpc".to_owned(), 9999)];
        let ServiceSet { apex, primary, canary } = services(&request(&spec, &owner), &label, &ports);
        assert_eq!(apex["spec"]["selector"], json!({"app": "podinfo-primary"}));
        assert_eq!(primary["spec"]["selector"], json!({"app": "podinfo-primary"}));
        assert_eq!(canary["spec"]["selector"], json!({"app": "podinfo"}));
        assert_eq!(apex["metadata"]["labels"], json!({"app": "web", "team": "a"}));
        assert_eq!(
            canary["spec"]["ports"],
            json!([
                {"name": "http", "protocol": "TCP", "port": 80, "targetPort": "http"},
                {"name": "grpc", "protocol": "TCP", "port": 9999, "targetPort": 9999},
            ])
        );
    }

    #[test]
    fn discovered_ports_never_clash() {
        let (spec, owner, label) = set(json!({"port": 80, "targetPort": 8080, "portDiscovery": true}));
        let long = format!("tcp-{}-0", "a".repeat(63));
        let ports = [("http", 9898), ("admin", 80), ("web", 8080), ("grpc", 9999), ("again", 9999), (&long, 7777)];
        let ports = ports.map(|(name, number)| (name.to_owned(), number));
        let apex = services(&request(&spec, &owner), &label, &ports).apex;
        let found = apex["spec"]["ports"].as_array().unwrap().iter();
        let found: Vec<_> =
            found.map(|port| (port["name"].as_str().unwrap(), port["port"].as_i64().unwrap())).collect();
        assert_eq!(found, [("http", 80), ("tcp-9898", 9898), ("grpc", 9999), ("tcp-7777", 7777)]);
    }

    #[test]
    fn what_the_api_server_fills_in_is_no_drift() {
        let (spec, owner, label) = set(json!({"port": 9898}));
        let request = request(&spec, &owner);
        let desired = services(&request, &label, &[]).apex;
        let mut live = desired.clone();
        json_patch::merge(
            &mut live,
            &json!({"metadata": {"resourceVersion": "3"}, "spec": {"clusterIP": "10.0.0.1",
            "sessionAffinity": "None", "ports": [{"name": "http", "port": 9898, "targetPort": 9898, "protocol": "TCP", "nodePort": 30001}]}}),
        );
        assert_eq!(ServiceSet::update(&request, &desired, &live), None);
    }

    #[test]
    fn a_users_service_keeps_everything_but_selector_and_ports() {
        let (spec, owner, label) = set(json!({"port": 9898}));
        let request = request(&spec, &owner);
        let desired = services(&request, &label, &[]).apex;
        let live = json!({"metadata": {"resourceVersion": "3", "labels": {"own": "1"}},
            "spec": {"type": "NodePort", "selector": {"app": "podinfo", "tier": "web"},
                "ports": [{"name": "web", "port": 9898, "nodePort": 30001}]}});
        let patch = ServiceSet::update(&request, &desired, &live).unwrap();
        assert_eq!(
            patch,
            json!({"metadata": {"resourceVersion": "3"}, "spec": {
                "selector": {"app": "podinfo-primary", "tier": null},
                "ports": [{"name": "http", "protocol": "TCP", "port": 9898, "targetPort": 9898, "nodePort": 30001}]}})
        );
    }
}
