//! Services: defaults, cluster IPs and node ports.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::{Value, json};

use super::super::json::{default, remove, text};
use super::super::status::FieldError;
use super::each;

/// Node ports, as Kubernetes reserves them.
const NODE_PORTS: std::ops::Range<u16> = 30_000..32_768;
/// Service addresses are 10.96.0.0/16.
const SERVICE_NETWORK: [u8; 2] = [10, 96];
/// Addresses tried before giving up; with fewer than half of 65,000 in use, 64 misses in a row do not happen.
const ATTEMPTS_MAX: u32 = 64;

/// Fills what needs no allocation.
pub(super) fn fill(service: &mut Value) {
    let spec = &mut service["spec"];
    default(spec, "type", "ClusterIP");
    default(spec, "sessionAffinity", "None");
    if spec["sessionAffinity"] == "ClientIP" && spec["sessionAffinityConfig"].is_null() {
        spec["sessionAffinityConfig"] = json!({"clientIP": {"timeoutSeconds": 10_800}});
    }
    let kind = text(&spec["type"]).to_owned();
    if kind != "ExternalName" {
        default(spec, "internalTrafficPolicy", "Cluster");
    }
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer") {
        default(spec, "externalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        default(spec, "allocateLoadBalancerNodePorts", true);
    }
    each(spec.get_mut("ports"), |port| {
        default(port, "protocol", "TCP");
        let own = port["port"].clone();
        if port["targetPort"].is_null() || port["targetPort"] == json!(0) || port["targetPort"] == "" {
            port["targetPort"] = own;
        }
    });
}

/// Takes over what the stored service was given and an update leaves out.
pub(in super::super) fn keep_allocated(old: &Value, new: &mut Value) {
    let (old, new) = (&old["spec"], &mut new["spec"]);
    if new["type"] == "ExternalName" {
        for name in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            remove(new, name);
        }
        return;
    }
    for name in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        if let Some(value) = old.get(name) {
            default(new, name, value.clone());
        }
    }
    if !needs_node_ports(new) {
        return;
    }
    let ports = old["ports"].as_array().cloned().unwrap_or_default();
    each(new.get_mut("ports"), |port| {
        let same = ports.iter().find(|other| {
            other["port"] == port["port"] && other["protocol"] == port["protocol"] && other["name"] == port["name"]
        });
        if let Some(node_port) = same.and_then(|same| same.get("nodePort")) {
            default(port, "nodePort", node_port.clone());
        }
    });
}

fn needs_node_ports(spec: &Value) -> bool {
    match text(&spec["type"]) {
        "NodePort" => true,
        "LoadBalancer" => spec["allocateLoadBalancerNodePorts"] != json!(false),
        _ => false,
    }
}

/// Gives a service its addresses. `own` is the service's uid, so that it does not conflict with itself.
pub(in super::super) fn allocate(service: &mut Value, others: &[Arc<Value>], own: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let others: Vec<&Value> =
        others.iter().map(AsRef::as_ref).filter(|other| other["metadata"]["uid"] != own).collect();
    let spec = &mut service["spec"];
    if spec["type"] != "ExternalName" {
        allocate_ip(spec, &others, &mut errors);
    }
    if needs_node_ports(spec) {
        allocate_node_ports(spec, &others, &mut errors);
    }
    errors
}

fn allocate_ip(spec: &mut Value, others: &[&Value], errors: &mut Vec<FieldError>) {
    let used: HashSet<&str> = others.iter().map(|other| text(&other["spec"]["clusterIP"])).collect();
    let asked = text(&spec["clusterIP"]).to_owned();
    if asked.is_empty() {
        let free = (0..ATTEMPTS_MAX).map(|_| random_ip()).find(|ip| !used.contains(ip.as_str()));
        match free {
            Some(ip) => spec["clusterIP"] = json!(ip),
            None => errors.push(FieldError::invalid("spec.clusterIP", &json!(""), "range is full")),
        }
    } else if asked != "None" && used.contains(asked.as_str()) {
        let why = "failed to allocate IP: provided IP is already allocated";
        errors.push(FieldError::invalid("spec.clusterIPs", &json!([asked]), why));
    }
    let ip = spec["clusterIP"].clone();
    let headless_without_selector =
        ip == "None" && spec["selector"].as_object().is_none_or(serde_json::Map::is_empty);
    spec["clusterIPs"] = json!([ip]);
    if headless_without_selector {
        default(spec, "ipFamilyPolicy", "RequireDualStack");
        default(spec, "ipFamilies", json!(["IPv4", "IPv6"]));
    } else {
        default(spec, "ipFamilyPolicy", "SingleStack");
        default(spec, "ipFamilies", json!(["IPv4"]));
    }
}

fn random_ip() -> String {
    let [a, b] = SERVICE_NETWORK;
    format!("{a}.{b}.{}.{}", fastrand::u8(..), fastrand::u8(1..255))
}

fn allocate_node_ports(spec: &mut Value, others: &[&Value], errors: &mut Vec<FieldError>) {
    let ports_of = |spec: &Value| -> Vec<u64> {
        let ports = spec["ports"].as_array().into_iter().flatten();
        ports.filter_map(|port| port["nodePort"].as_u64()).collect()
    };
    let mut used: HashSet<u64> = others.iter().flat_map(|other| ports_of(&other["spec"])).collect();
    let mut index = 0;
    each(spec.get_mut("ports"), |port| {
        let path = format!("spec.ports[{index}].nodePort");
        index += 1;
        if let Some(asked) = port["nodePort"].as_u64().filter(|asked| *asked != 0) {
            if !NODE_PORTS.contains(&u16::try_from(asked).unwrap_or(0)) {
                let why = "provided port is not in the valid range. The range of valid ports is 30000-32767";
                errors.push(FieldError::invalid(path, &json!(asked), why));
            } else if !used.insert(asked) {
                errors.push(FieldError::invalid(path, &json!(asked), "provided port is already allocated"));
            }
            return;
        }
        let free = (0..ATTEMPTS_MAX).map(|_| u64::from(fastrand::u16(NODE_PORTS))).find(|port| used.insert(*port));
        match free {
            Some(free) => port["nodePort"] = json!(free),
            None => errors.push(FieldError::invalid(path, &json!(0), "range is full")),
        }
    });
}
