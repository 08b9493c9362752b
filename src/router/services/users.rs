//! A Service that somebody else made, in Git or with kubectl, keeps all that the Canary does not ask for: further ports,
//! further labels in the selector, its type and its metadata. Selector and ports are taken by a forced server-side apply, so
//! that `managedFields` shows what is the engine's and what is not.

use serde_json::{Value, json};

use crate::api::managed_fields::FieldSet;
use crate::router::RouteRequest;
use crate::workload::Labels;

use super::{Leads, PORT_FIELDS, Pods, ServiceSet, normal_ports, services};

impl ServiceSet {
    /// What makes somebody's Service, read whole, the engine's as far as the Canary goes: also one with the right values is
    /// not the engine's before `managedFields` says so, and who owns them may take them away.
    pub fn take(request: &RouteRequest<'_>, pods: Pods<'_>, desired: &Value, live: &Value) -> Option<Value> {
        let wanted = wanted_in(request, pods, desired, live);
        let owned = FieldSet::of_engine(live);
        let is_owned = owned.has(&["spec", "selector"])
            && ports_of(&wanted).all(|port| owned.has_entry(&["spec", "ports"], port));
        (!is_owned || !is_in(&wanted, live)).then_some(wanted)
    }

    /// Why a live Service that is nobody's of us cannot become part of the pair, in words.
    pub fn refuse(request: &RouteRequest<'_>, pods: Pods<'_>, live: &Value) -> Option<String> {
        if request.has(live) {
            return None;
        }
        let name = live["metadata"]["name"].as_str().unwrap_or_default();
        let what = format!("Service {}/{name}", request.namespace);
        if let Some(other) = controlling_canary(live) {
            return Some(format!(
                "{what} is Canary {other}'s: delete that one, then it can be taken over; or give this one another \
                 spec.service.name"
            ));
        }
        let selector = Labels::of(&live["spec"]["selector"]);
        let own = [pods.target, &pods.of_primary()].into_iter().any(|labels| labels.are_selected_by(&selector));
        if !own {
            let selects = if live["spec"]["selector"].as_object().is_some_and(|selector| !selector.is_empty()) {
                format!("the pods with {selector}")
            } else {
                "no pods".to_owned()
            };
            return Some(format!(
                "{what} selects {selects}, not those of Deployment {} ({}): a Canary takes over a Service of its own \
                 target only; give it another spec.service.name",
                request.target, pods.target
            ));
        }
        let unnamed = ports_of(live).find(|port| port["name"].as_str().is_none_or(str::is_empty))?;
        let wanted = services(request, pods, Some(live), Leads::Stable).apex;
        let joins = ports_of(&wanted).any(|port| !is_same_port(port, unnamed));
        joins.then(|| {
            format!(
                "{what} has port {} without a name, and the Canary adds port {}: a Service with several ports needs names; \
                 name it",
                unnamed["port"], request.spec.port
            )
        })
    }
}

/// The Canary that a Service was made by.
fn controlling_canary(live: &Value) -> Option<&str> {
    let owners = live["metadata"]["ownerReferences"].as_array()?;
    owners.iter().find(|owner| owner["controller"] == true && owner["kind"] == "Canary")?["name"].as_str()
}

/// Selector and ports of somebody's Service with what is the Canary's, as they are applied.
pub(super) fn wanted_in(request: &RouteRequest<'_>, pods: Pods<'_>, desired: &Value, live: &Value) -> Value {
    let mut selector = desired["spec"]["selector"].clone();
    let selects_target = selector == pods.sides.target().to_json();
    let selected = if selects_target { pods.target.clone() } else { pods.of_primary() };
    if let Some(selector) = selector.as_object_mut() {
        // What the user asks for besides stays where it still finds the same pods.
        for (key, value) in Labels::of(&live["spec"]["selector"]).iter() {
            if selected.get(key) == Some(value) && !selector.contains_key(key) {
                selector.insert(key.to_owned(), Value::from(value));
            }
        }
    }
    let named = request.spec.port_name.is_some();
    let mut ports: Vec<Value> = Vec::new();
    for wanted in ports_of(desired) {
        let mut port = wanted.clone();
        let found = ports_of(live).find(|found| is_same_port(found, wanted));
        if let (Some(found), Some(port)) = (found.filter(|_| !named), port.as_object_mut()) {
            // Ingresses and monitors may know it by its name.
            match found.get("name") {
                Some(name) => port.insert("name".to_owned(), name.clone()),
                None => port.remove("name"),
            };
        }
        let is_taken = |name: &Value| {
            let others = ports_of(live).filter(|other| !is_same_port(other, wanted));
            others.chain(&ports).any(|other| other["name"] == *name)
        };
        if port.get("name").is_some_and(is_taken) {
            let name = port["name"].as_str().unwrap_or_default();
            port["name"] = json!(format!("{name}-{}", port["port"]));
        }
        ports.push(port);
    }
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": live["metadata"]["name"],
            "namespace": request.namespace,
            "resourceVersion": live["metadata"]["resourceVersion"],
        },
        "spec": {"selector": selector, "ports": ports},
    })
}

/// Whether what is wanted in somebody's Service is there.
pub(super) fn is_in(wanted: &Value, live: &Value) -> bool {
    let found = normal_ports(&live["spec"]["ports"]);
    live["spec"]["selector"] == wanted["spec"]["selector"]
        && normal_ports(&wanted["spec"]["ports"]).iter().all(|port| {
            found.iter().any(|live| {
                is_same_port(live, port)
                    && PORT_FIELDS.iter().all(|field| {
                        // A protocol that the Canary does not name is the user's.
                        (*field == "appProtocol" && port.get(field).is_none())
                            || live.get(field) == port.get(field)
                    })
                    && live["targetPort"] == port["targetPort"]
            })
        })
}

fn ports_of(service: &Value) -> impl Iterator<Item = &Value> {
    service["spec"]["ports"].as_array().into_iter().flatten()
}

/// Number and protocol make a port what it is.
fn is_same_port(one: &Value, other: &Value) -> bool {
    let protocol = |port: &Value| port["protocol"].as_str().unwrap_or("TCP").to_owned();
    one["port"] == other["port"] && protocol(one) == protocol(other)
}

/// Ports that a user's Service has besides ours, without what the API server allocates.
pub(super) fn further_ports(ours: &Value, live: &Value) -> Vec<Value> {
    let ours = ours.as_array().map_or(&[][..], Vec::as_slice);
    let live = live.as_array().into_iter().flatten();
    let further = live.filter(|port| !ours.iter().any(|own| is_same_port(own, port)));
    further
        .map(|port| {
            let mut port = port.clone();
            if let Some(port) = port.as_object_mut() {
                port.remove("nodePort");
            }
            port
        })
        .collect()
}

pub(super) fn add_ports(ports: &mut Value, further: &[Value]) {
    let Some(ports) = ports.as_array_mut() else { return };
    for port in further {
        let mut port = port.clone();
        let number = port["port"].clone();
        let taken = |name: &Value| name.is_null() || ports.iter().any(|other| other["name"] == *name);
        if taken(&port["name"]) {
            port["name"] = json!(format!("tcp-{number}"));
        }
        if !ports.iter().any(|other| is_same_port(other, &port) || other["name"] == port["name"]) {
            ports.push(port);
        }
    }
}
