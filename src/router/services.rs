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
    let users_own = live_apex.filter(|live| !request.owner.controls(live));
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
        if !request.owner.controls(live) {
            let wanted = wanted_in(request, pods, desired, live);
            return (!is_in(&wanted, live)).then_some(Update::Apply(wanted));
        }
        let desired = &leave_unmanaged(desired, live, request.spec.unmanaged_metadata.as_ref());
        let (wanted, found) = (&desired["spec"], &live["spec"]);
        let same_options = OPTIONAL.iter().all(|field| wanted.get(*field) == found.get(*field));
        let spec_current = same_options
            && found["selector"] == wanted["selector"]
            && normal_ports(&found["ports"]) == normal_ports(&wanted["ports"]);
        if spec_current && has_metadata_of(live, desired) {
            return None;
        }
        let mut spec = json!({
            "selector": merge_diff(&found["selector"], &wanted["selector"]),
            "ports": with_node_ports(&wanted["ports"], &found["ports"]),
        });
        for field in OPTIONAL.iter().filter(|field| wanted.get(**field) != found.get(**field)) {
            spec[*field] = wanted[*field].clone();
        }
        Some(Update::Merge(merge_update_with(live, desired, spec)))
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
mod tests {
    use super::*;
    use crate::workload::Owner;

    /// What a set is made from.
    struct Made {
        spec: CanaryService,
        owner: Owner,
        sides: Sides,
        target: Labels,
        ports: Vec<(String, i32)>,
    }

    impl Made {
        fn request(&self) -> RouteRequest<'_> {
            let Self { spec, owner, .. } = self;
            RouteRequest {
                namespace: "test",
                service: "web",
                spec,
                owner,
                target: "podinfo",
                pods: Some(self.pods()),
            }
        }

        fn pods(&self) -> Pods<'_> {
            let Self { sides, target, ports, .. } = self;
            Pods { sides, target, primary: None, ports }
        }

        fn set(&self, live_apex: Option<&Value>) -> ServiceSet {
            services(&self.request(), self.pods(), live_apex, Leads::Stable)
        }

        fn update(&self, desired: &Value, live: &Value) -> Option<Update> {
            ServiceSet::update(&self.request(), self.pods(), desired, live)
        }
    }

    fn made(spec: Value) -> Made {
        made_of(spec, json!({"app": "podinfo"}), json!({"app": "podinfo", "tier": "web", "team": "a"}))
    }

    fn made_of(spec: Value, selector: Value, pods: Value) -> Made {
        let target = json!({"metadata": {"name": "podinfo"}, "spec": {"selector": {"matchLabels": selector}}});
        Made {
            spec: serde_json::from_value(spec).unwrap(),
            owner: Owner { name: "podinfo".into(), uid: "u".into() },
            sides: Sides::of(&target, &["app".to_owned()]).unwrap(),
            target: Labels::of(&pods),
            ports: Vec::new(),
        }
    }

    #[test]
    fn each_service_selects_its_side_by_the_whole_selector() {
        let mut made = made(
            json!({"port": 80, "targetPort": "http", "portDiscovery": true, "apex": {"labels": {"team": "a"}}}),
        );
        made.ports = vec![("http".to_owned(), 9898), ("grpc".to_owned(), 9999)];
        let ServiceSet { apex, primary, canary } = made.set(None);
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

        let both = json!({"app": "store", "part": "web"});
        let made = made_of(json!({"port": 80}), both.clone(), both);
        let ServiceSet { apex, canary, .. } = made.set(None);
        assert_eq!(apex["spec"]["selector"], json!({"app": "store-primary", "part": "web"}));
        assert_eq!(canary["spec"]["selector"], json!({"app": "store", "part": "web"}));
        // A primary that was made by its first label alone.
        let old = Labels::of(&json!({"app": "store-primary"}));
        let pods = Pods { primary: Some(&old), ..made.pods() };
        let apex = services(&made.request(), pods, None, Leads::Stable).apex;
        assert_eq!(apex["spec"]["selector"], json!({"app": "store-primary"}));
    }

    #[test]
    fn discovered_ports_never_clash() {
        let mut made = made(json!({"port": 80, "targetPort": 8080, "portDiscovery": true}));
        let long = format!("tcp-{}-0", "a".repeat(63));
        let ports = [("http", 9898), ("admin", 80), ("web", 8080), ("grpc", 9999), ("again", 9999), (&long, 7777)];
        made.ports = ports.map(|(name, number)| (name.to_owned(), number)).to_vec();
        let apex = made.set(None).apex;
        let found = apex["spec"]["ports"].as_array().unwrap().iter();
        let found: Vec<_> =
            found.map(|port| (port["name"].as_str().unwrap(), port["port"].as_i64().unwrap())).collect();
        assert_eq!(found, [("http", 80), ("tcp-9898", 9898), ("grpc", 9999), ("tcp-7777", 7777)]);
    }

    #[test]
    fn what_the_api_server_fills_in_is_no_drift() {
        let made = made(json!({"port": 9898}));
        let desired = made.set(None).apex;
        let mut live = desired.clone();
        json_patch::merge(
            &mut live,
            &json!({"metadata": {"resourceVersion": "3"}, "spec": {"clusterIP": "10.0.0.1",
            "sessionAffinity": "None", "ports": [{"name": "http", "port": 9898, "targetPort": 9898, "protocol": "TCP", "nodePort": 30001}]}}),
        );
        assert_eq!(made.update(&desired, &live), None);
    }

    #[test]
    fn fields_that_come_and_go_later_reach_a_generated_service() {
        let plain = made(json!({"port": 9898}));
        let near = made(json!({"port": 9898, "trafficDistribution": "PreferClose"}));
        let mut live = plain.set(None).apex;
        live["metadata"]["resourceVersion"] = json!("3");
        for (wanted, becomes) in [(&near, json!("PreferClose")), (&plain, Value::Null)] {
            let desired = wanted.set(None).apex;
            let Some(Update::Merge(patch)) = wanted.update(&desired, &live) else { panic!("no patch") };
            json_patch::merge(&mut live, &patch);
            assert_eq!(live["spec"]["trafficDistribution"], becomes);
            assert_eq!(wanted.update(&desired, &live), None);
        }
        let headless = made(json!({"port": 9898, "headless": true}));
        assert!(ServiceSet::fixed(&headless.request(), &live).unwrap().contains("headless"));
        assert_eq!(ServiceSet::fixed(&plain.request(), &live), None);
    }

    #[test]
    fn a_users_service_keeps_everything_but_selector_and_ports() {
        let made = made(json!({"port": 9898}));
        let live = json!({"metadata": {"name": "web", "resourceVersion": "3", "labels": {"own": "1"}},
            "spec": {"type": "NodePort", "selector": {"app": "podinfo", "tier": "web", "pod": "other"},
                "ports": [{"name": "web", "port": 9898, "nodePort": 30001}, {"name": "grpc", "port": 9999}]}});
        let set = made.set(Some(&live));
        let Some(Update::Apply(applied)) = made.update(&set.apex, &live) else { panic!("no apply") };
        assert_eq!(
            applied["spec"],
            json!({"selector": {"app": "podinfo-primary", "tier": "web"},
                "ports": [{"name": "web", "protocol": "TCP", "port": 9898, "targetPort": 9898}]}),
            "what primary's pods carry stays, the port keeps its name"
        );
        assert_eq!(applied["metadata"], json!({"name": "web", "namespace": "test", "resourceVersion": "3"}));
        // A client of the further port reaches both sides of a route.
        let further = json!({"name": "grpc", "port": 9999});
        for side in [&set.primary, &set.canary] {
            assert!(side["spec"]["ports"].as_array().unwrap().contains(&further), "{side}");
        }
        assert!(!set.apex["spec"]["ports"].as_array().unwrap().contains(&further), "it stays the user's");
    }

    #[test]
    fn equal_values_are_taken_too_and_once() {
        let made = made(json!({"port": 9898}));
        let (request, pods) = (made.request(), made.pods());
        let desired = made.set(None).apex;
        let mut live = desired.clone();
        live["metadata"] = json!({"name": "web", "resourceVersion": "3"});
        assert_eq!(made.update(&desired, &live), None);
        assert!(ServiceSet::take(&request, pods, &desired, &live).is_some(), "nobody's");
        live["metadata"]["managedFields"] = json!([{"manager": "serin-engine", "operation": "Apply", "fieldsV1":
            {"f:spec": {"f:selector": {}, "f:ports": {r#"k:{"port":9898,"protocol":"TCP"}"#: {}}}}}]);
        assert_eq!(ServiceSet::take(&request, pods, &desired, &live), None);
    }

    #[test]
    fn names_of_ports_never_clash_with_a_users() {
        let live = json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "podinfo"},
            "ports": [{"name": "http", "port": 80}, {"name": "dns", "port": 9898, "protocol": "UDP"}]}});
        for (spec, name) in [
            (json!({"port": 9898}), "http-9898"),
            (json!({"port": 9898, "portName": "dns"}), "dns-9898"),
            (json!({"port": 80, "portName": "web"}), "web"),
            (json!({"port": 80}), "http"),
        ] {
            let made = made(spec);
            let Some(Update::Apply(applied)) = made.update(&made.set(Some(&live)).apex, &live) else {
                panic!("no apply")
            };
            assert_eq!(applied["spec"]["ports"][0]["name"], name);
        }
    }

    #[test]
    fn only_a_service_of_the_target_is_taken() {
        let made = made(json!({"port": 9898}));
        let refusal = |spec: Value| {
            let live = json!({"metadata": {"name": "web"}, "spec": spec});
            ServiceSet::refuse(&made.request(), made.pods(), &live)
        };
        let named = json!([{"name": "x", "port": 80}]);
        assert_eq!(refusal(json!({"selector": {"app": "podinfo"}, "ports": named})), None);
        assert_eq!(refusal(json!({"selector": {"tier": "web", "team": "a"}, "ports": named})), None);
        assert_eq!(
            refusal(json!({"selector": {"app": "podinfo-primary"}, "ports": named})),
            None,
            "as Flagger left it"
        );
        let others = refusal(json!({"selector": {"app": "payments"}, "ports": named})).unwrap();
        assert!(
            others.starts_with("Service test/web selects the pods with app=payments, not those of"),
            "{others}"
        );
        assert!(refusal(json!({"selector": {"app": "podinfo", "tier": "db"}})).is_some());
        for none in [json!({"type": "ExternalName", "externalName": "x"}), json!({"selector": {}, "ports": named})]
        {
            assert!(refusal(none).unwrap().contains("selects no pods"));
        }
        let unnamed = json!({"selector": {"app": "podinfo"}, "ports": [{"port": 80}]});
        assert!(refusal(unnamed).unwrap().contains("port 80 without a name"));
        assert_eq!(
            refusal(json!({"selector": {"app": "podinfo"}, "ports": [{"port": 9898}]})),
            None,
            "the same port"
        );
    }

    #[test]
    fn handed_back_it_selects_the_targets_pods_by_the_whole_selector() {
        let both = json!({"app": "store", "part": "web"});
        let made = made_of(json!({"port": 80}), both.clone(), both.clone());
        let (request, pods) = (made.request(), made.pods());
        let mut live = made.set(None).apex;
        live["metadata"]["resourceVersion"] = json!("3");
        let Some(Update::Merge(patch)) = ServiceSet::hand_back(&request, pods, &live) else { panic!("no patch") };
        json_patch::merge(&mut live, &patch);
        assert_eq!(live["spec"]["selector"], both);
        assert_eq!(ServiceSet::hand_back(&request, pods, &live), None);

        live["metadata"] = json!({"name": "web"});
        live["spec"]["selector"] = json!({"app": "store-primary", "part": "web"});
        let Some(Update::Apply(applied)) = ServiceSet::hand_back(&request, pods, &live) else {
            panic!("no apply")
        };
        assert_eq!(applied["spec"]["selector"], both);
    }
}
