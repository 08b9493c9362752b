//! The apex, primary and canary Services (Flagger's Kubernetes router).
//!
//! One that the Canary generates is the Canary's whole; of one that somebody else made only selector and ports are taken
//! (`users`).

mod users;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Map, Value, json};

use crate::api::{CanaryService, CustomMetadata};
use crate::release::Side;
use crate::workload::{Labels, Sides};

use super::diff::{merge_diff, merge_update_with};
use super::metadata::{generated, has_metadata_of, leave_unmanaged};
use super::{RouteKind, RouteRequest};
use users::{add_ports, further_ports, is_in, wanted_in};

/// Longest name of a Service's port.
const PORT_NAME_MAX: usize = 63;
/// Fields of a Service's spec that a generated one has or has not, as the Canary says.
const OPTIONAL: [&str; 1] = ["trafficDistribution"];
/// Fields of a port that the API server does not make up by itself, besides its target.
const PORT_FIELDS: [&str; 3] = ["name", "port", "appProtocol"];

/// Services, for a router that shifts traffic with them.
pub const SERVICE: RouteKind =
    RouteKind { group: "", kind: "Service", versions: &["v1"], comes_with: "Kubernetes", has_status: false };

/// Where the apex Service leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leads {
    /// To primary's pods.
    Stable,
    /// To the target's.
    Candidate,
    /// To neither of them alone.
    Elsewhere,
}

impl Leads {
    /// To the pods of a side.
    pub fn to(side: Side) -> Self {
        match side {
            Side::Stable => Self::Stable,
            Side::Candidate => Self::Candidate,
        }
    }

    /// The side whose pods it leads to.
    pub fn side(self) -> Option<Side> {
        match self {
            Self::Stable => Some(Side::Stable),
            Self::Candidate => Some(Side::Candidate),
            Self::Elsewhere => None,
        }
    }

    /// What the selector of a live Service says.
    pub fn of(live: &Value, pods: Pods<'_>) -> Self {
        let sides = pods.sides;
        match live["spec"]["selector"][sides.key()].as_str() {
            Some(value) if *value == *sides.primary_value() => Self::Stable,
            Some(value) if value == sides.target_value() => Self::Candidate,
            Some(_) | None => Self::Elsewhere,
        }
    }
}

/// The pods behind the Services.
#[derive(Debug, Clone, Copy)]
pub struct Pods<'a> {
    /// What tells the sides apart.
    pub sides: &'a Sides,
    /// Labels of the target's pods.
    pub target: &'a Labels,
    /// Labels of primary's pods, once there is a primary.
    pub primary: Option<&'a Labels>,
    /// The target's container ports, used with `portDiscovery`.
    pub ports: &'a [(String, i32)],
}

impl Pods<'_> {
    fn of_primary(&self) -> Labels {
        self.primary.cloned().unwrap_or_else(|| self.sides.as_primary(self.target))
    }

    fn primary_selector(&self) -> Labels {
        self.sides.primary_among(&self.of_primary())
    }
}

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

/// How a live Service is brought to what it should be.
#[derive(Debug, Clone, PartialEq)]
pub enum Update {
    /// Merge patch of one that the Canary owns.
    Merge(Value),
    /// Forced server-side apply of selector and ports to one that it does not own. Carries the resourceVersion.
    Apply(Value),
}

/// Renders them, beside the live apex Service.
pub fn services(
    request: &RouteRequest<'_>,
    pods: Pods<'_>,
    live_apex: Option<&Value>,
    leads: Leads,
) -> ServiceSet {
    let CanaryService { apex, primary, canary, .. } = request.spec;
    let name = request.service;
    let primary_selector = pods.primary_selector();
    let service = |name: &str, selector: &Labels, custom: &Option<CustomMetadata>| {
        service(request, name, pods, selector, custom.as_ref())
    };
    let apex_selector = match leads {
        Leads::Stable | Leads::Elsewhere => &primary_selector,
        Leads::Candidate => pods.sides.target(),
    };
    let mut set = ServiceSet {
        apex: service(name, apex_selector, apex),
        primary: service(&request.side("primary"), &primary_selector, primary),
        canary: service(&request.side("canary"), pods.sides.target(), canary),
    };
    let users_own = live_apex.filter(|live| !request.has(live));
    if let Some(live) = users_own.filter(|_| !request.is_behind_gateway()) {
        // The route leads a client of a further port to that port of a side. A gateway knows one port only.
        let further = further_ports(&set.apex["spec"]["ports"], &live["spec"]["ports"]);
        for side in [&mut set.primary, &mut set.canary] {
            add_ports(&mut side["spec"]["ports"], &further);
        }
    }
    set
}

impl ServiceSet {
    /// In the order in which they are written: sides before the apex that leads to one of them.
    pub fn in_order(&self) -> [&Value; 3] {
        [&self.canary, &self.primary, &self.apex]
    }

    /// What brings a live Service to `desired`; `None` if it is as wanted.
    pub fn update(request: &RouteRequest<'_>, pods: Pods<'_>, desired: &Value, live: &Value) -> Option<Update> {
        if !request.has(live) {
            let wanted = wanted_in(request, pods, desired, live);
            return (!is_in(&wanted, live)).then_some(Update::Apply(wanted));
        }
        let desired = &leave_unmanaged(desired, live, request.spec.unmanaged_metadata.as_ref());
        let (wanted, found) = (&desired["spec"], &live["spec"]);
        let same_options = OPTIONAL.iter().all(|field| wanted.get(*field) == found.get(*field));
        let spec_current = same_options
            && found["selector"] == wanted["selector"]
            && normal_ports(&found["ports"]) == normal_ports(&wanted["ports"]);
        (!spec_current || !has_metadata_of(live, desired)).then(|| Update::Merge(merged(live, desired)))
    }

    /// What makes a Service that an earlier Canary left this one's whole, its owner too: whoever it was left to may go.
    pub fn take_up(request: &RouteRequest<'_>, desired: &Value, live: &Value) -> Update {
        Update::Merge(merged(live, &leave_unmanaged(desired, live, request.spec.unmanaged_metadata.as_ref())))
    }

    /// What leads a live apex Service to the target's pods; `None` if it does.
    pub fn hand_back(request: &RouteRequest<'_>, pods: Pods<'_>, live: &Value) -> Option<Update> {
        let apex = services(request, pods, Some(live), Leads::Candidate).apex;
        let back = Pods { primary: Some(pods.target), ..pods };
        Self::update(request, back, &apex, live)
    }

    /// What `spec.service` asks for and a live Service can no longer become, in words.
    pub fn fixed(request: &RouteRequest<'_>, live: &Value) -> Option<String> {
        let is_headless = live["spec"]["clusterIP"] == "None";
        let name = live["metadata"]["name"].as_str().unwrap_or_default();
        (request.owner.controls(live) && is_headless != request.spec.headless).then(|| {
            format!(
                "spec.service.headless: Service {name} keeps what it was made with, as its address cannot be changed; \
                 delete it when a moment without it does no harm, and it is made again"
            )
        })
    }
}

/// The merge patch that brings a generated Service to what it should be.
fn merged(live: &Value, desired: &Value) -> Value {
    let (wanted, found) = (&desired["spec"], &live["spec"]);
    let mut spec = json!({
        "selector": merge_diff(&found["selector"], &wanted["selector"]),
        "ports": with_node_ports(&wanted["ports"], &found["ports"]),
    });
    for field in OPTIONAL.iter().filter(|field| wanted.get(**field) != found.get(**field)) {
        spec[*field] = wanted[*field].clone();
    }
    merge_update_with(live, desired, spec)
}

fn service(
    request: &RouteRequest<'_>,
    name: &str,
    pods: Pods<'_>,
    selector: &Labels,
    custom: Option<&CustomMetadata>,
) -> Value {
    let labels = Map::from_iter([(pods.sides.key().to_owned(), Value::from(name))]);
    let mut spec = Map::from_iter([
        ("type".to_owned(), json!("ClusterIP")),
        ("selector".to_owned(), selector.to_json()),
        ("ports".to_owned(), Value::Array(ports(request.spec, pods.ports))),
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
    let ports = ports.as_array();
    ports
        .into_iter()
        .flatten()
        .map(|port| {
            let mut normal: Map<String, Value> =
                PORT_FIELDS.iter().filter_map(|key| Some(((*key).to_owned(), port.get(key)?.clone()))).collect();
            let target = port.get("targetPort").unwrap_or(&port["port"]).clone();
            normal.insert("targetPort".to_owned(), target);
            normal.insert("protocol".to_owned(), json!(port["protocol"].as_str().unwrap_or("TCP")));
            Value::Object(normal)
        })
        .collect()
}

/// Keeps allocated node ports: somebody may have given the Service another type than ClusterIP.
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
mod tests;
